"""The gateway on raw trio: small, fast, and strict about what it takes for a request."""

from gwproto_trio.server import Server, serve

__all__ = ["Server", "serve"]

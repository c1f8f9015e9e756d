"""The gateway as a Quart application on Hypercorn."""

from gwproto_quart.app import create_app
from gwproto_quart.server import serve

__all__ = ["create_app", "serve"]

"""Where a server listens, for people and for logs."""

import socket


def base_url(sock: socket.socket) -> str:
    """The base URL of a bound TCP socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

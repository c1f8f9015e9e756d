"""Where a server listens, for people and for logs."""

import socket


def base_url(sock: socket.socket) -> str:
    """The base URL of a bound TCP socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def shared_socket(host: str, port: int) -> socket.socket:
    """A TCP socket bound to what other processes of the same user may bind as well. It does not listen yet.

    Among those that listen the system chooses by a hash of the addresses, so that each gets its part however busy it
    is; one that is gone gets none from that instant on. Raises ``OSError``.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def reserved(host: str, port: int) -> socket.socket:
    """A shared socket for a port that nobody listens at (0: any free one). Raises ``OSError``."""
    if port:
        # A stranger of the same user that shares, too, would go unnoticed otherwise, and get a part of the clients.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    return shared_socket(host, port)

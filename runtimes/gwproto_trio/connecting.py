"""Transports for connections: a client's that was accepted, a provider's that is dialled."""

import socket
import ssl

import trio

from gwproto import Origin
from gwproto_io import dialling
from gwproto_raw.loops import Receiver
from gwproto_trio import poller
from gwproto_trio.loops import Loop
from gwproto_trio.sockets import SocketTransport
from gwproto_trio.streams import StreamTransport


def start(stream: trio.abc.Stream, receiver: Receiver, loop: Loop, peer: str = "") -> None:
    """Give ``receiver`` the connection ``stream``, which its maker must not use any more. ``peer``: its address."""
    if isinstance(stream, trio.SocketStream) and poller.AVAILABLE:
        start_socket(socket.socket(fileno=stream.socket.detach()), receiver, loop, peer)
    else:
        StreamTransport(stream, receiver, peer).start()


def start_socket(sock: socket.socket, receiver: Receiver, loop: Loop, peer: str = "") -> None:
    """The same with a socket. Raises :class:`OSError` when there is no connection any more, or no room for it."""
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if poller.AVAILABLE:
            SocketTransport(sock, receiver, loop, peer).start()
            return
    except OSError:
        sock.close()
        raise
    start(trio.SocketStream(trio.socket.from_stdlib_socket(sock)), receiver, loop, peer)


async def dial_tcp(origin: Origin, receiver: Receiver, loop: Loop) -> None:
    """Connect, over TLS for ``https``."""
    stream = await trio.open_tcp_stream(origin.host, origin.port)
    start(await _secured(stream, origin.host) if origin.scheme == "https" else stream, receiver, loop)


async def _secured(stream: trio.SocketStream, host: str) -> trio.SSLStream[trio.SocketStream]:
    """TLS over ``stream``, which is closed when the handshake fails."""
    # Hardly any HTTP server sends close_notify; bodies have a framing of their own.
    secured = trio.SSLStream(stream, dialling.tls_context(), server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError):
            raise ssl.SSLError("the handshake failed") from error
        raise
    return secured

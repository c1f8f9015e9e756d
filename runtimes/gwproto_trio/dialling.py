"""How the trio server connects to providers."""

import ssl

import trio

from gwproto import Origin
from gwproto_io import upstream
from gwproto_trio.loops import spawn
from gwproto_trio.sockets import SocketStream
from gwproto_trio.transport import Receiver, Transport


async def dial_tcp(origin: Origin, receiver: Receiver) -> None:
    """Connect, over TLS for ``https``."""
    stream = SocketStream.taken_from(await trio.open_tcp_stream(origin.host, origin.port))
    spawn(
        Transport(await _secured(stream, origin.host) if origin.scheme == "https" else stream, receiver).run
    )


async def _secured(stream: SocketStream, host: str) -> trio.SSLStream[SocketStream]:
    """TLS over ``stream``, which is closed when the handshake fails."""
    # Hardly any HTTP server sends close_notify; bodies have a framing of their own.
    secured = trio.SSLStream(stream, upstream.tls_context(), server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError):
            raise ssl.SSLError("the handshake failed") from error
        raise
    return secured

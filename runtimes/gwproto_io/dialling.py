"""What all dials have in common, whatever loop they wait in."""

import functools
import socket
import ssl

from gwproto import LossReason


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The system's trust store, verification always on. Made once: it takes 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def loss_reason(error: BaseException) -> LossReason:
    """Why a dial failed, looking through the errors that anyio wraps others in."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BaseExceptionGroup):
            seen = seen.exceptions[-1]
        if isinstance(seen, socket.gaierror | UnicodeError):
            return LossReason.DNS
        if isinstance(seen, ssl.SSLError | ssl.CertificateError):
            return LossReason.TLS
        if isinstance(seen, ConnectionRefusedError):
            return LossReason.REFUSED
        seen = seen.__cause__
    return LossReason.UNREACHABLE

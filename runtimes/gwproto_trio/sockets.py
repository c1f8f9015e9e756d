"""TCP streams that do no more than they must.

trio's and anyio's own try every operation first and pass through the scheduler when it succeeds at once. A request
has four of them; what is left out here is a tenth of what it costs. Reading waits first, since there is rarely
anything to read yet, and is the one place where a task lets others run; writing only waits when it has to.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from gwproto import Origin
from gwproto_io.upstream import READ_SIZE, secured


class ClientStream(trio.abc.HalfCloseableStream):
    """A client's connection, owned."""

    __slots__ = ("_fd", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._fd = sock.fileno()

    def send_now(self, data: bytes) -> int:
        """How many bytes the system took without waiting."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await _send(self._sock, data)
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await wait_writable(self._fd)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await wait_readable(self._fd)
            try:
                return self._sock.recv(max_bytes or READ_SIZE)
            except BlockingIOError:  # select(2), BUGS: readiness is a hint
                pass
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_eof(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError from error
        await checkpoint()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self._sock.setsockopt(level, option, value)

    async def aclose(self) -> None:
        await _close(self._sock)


class ProviderStream(ByteStream):
    """A provider's connection, owned."""

    __slots__ = ("_fd", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._fd = sock.fileno()

    async def send(self, item: bytes) -> None:
        try:
            await _send(self._sock, item)
        except OSError as error:
            raise anyio.BrokenResourceError from error

    async def receive(self, max_bytes: int = READ_SIZE) -> bytes:
        while True:
            await wait_readable(self._fd)
            try:
                data = self._sock.recv(max_bytes)
            except BlockingIOError:  # select(2), BUGS: readiness is a hint
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def send_eof(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)
        await checkpoint()

    async def aclose(self) -> None:
        await _close(self._sock)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {SocketAttribute.raw_socket: lambda: self._sock}


async def dial(origin: Origin) -> ByteStream:
    """Connect to a provider; see ``gwproto_io.upstream.dial_tcp``."""
    connecting = await trio.open_tcp_stream(origin.host, origin.port)
    stream = ProviderStream(socket.socket(fileno=connecting.socket.detach()))
    return await secured(stream, origin.host) if origin.scheme == "https" else stream


async def _send(sock: socket.socket, data: bytes | bytearray | memoryview) -> None:
    sent = 0
    while sent < len(data):
        try:
            sent += sock.send(memoryview(data)[sent:] if sent else data)
        except BlockingIOError:
            await wait_writable(sock)


async def _close(sock: socket.socket) -> None:
    if sock.fileno() >= 0:
        notify_closing(sock)
        sock.close()
    await checkpoint()

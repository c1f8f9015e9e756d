"""TCP streams that do no more than they must.

trio's own try every operation first and pass through the scheduler when it succeeds at once. Here, reading waits
first, since there is rarely anything to read yet, and is the one place where a task lets others run; writing only waits
when it has to.
"""

import socket

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from gwproto_raw.loops import READ_SIZE


class SocketStream(trio.abc.HalfCloseableStream):
    """A connection, owned."""

    __slots__ = ("_fd", "socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._fd = sock.fileno()

    @classmethod
    def taken_from(cls, stream: trio.SocketStream) -> "SocketStream":
        """The connection of ``stream``, which has it no more."""
        return cls(socket.socket(fileno=stream.socket.detach()))

    def send_now(self, data: bytes) -> int:
        """How many bytes the system took without waiting."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        sent = 0
        try:
            while sent < len(data):
                try:
                    sent += self.socket.send(memoryview(data)[sent:] if sent else data)
                except BlockingIOError:
                    await wait_writable(self._fd)
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await wait_writable(self._fd)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await wait_readable(self._fd)
            try:
                return self.socket.recv(max_bytes or READ_SIZE)
            except BlockingIOError:  # select(2), BUGS: readiness is a hint
                pass
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_eof(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError from error
        await checkpoint()

    async def aclose(self) -> None:
        if self.socket.fileno() >= 0:
            notify_closing(self.socket)
            self.socket.close()
        await checkpoint()

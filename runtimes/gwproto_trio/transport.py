"""A connection of trio's for a protocol as asyncio's are (PEP 3156): one task reads, and nothing else waits."""

from collections import deque
from typing import Any, Protocol

import trio

from gwproto_raw.loops import READ_SIZE
from gwproto_trio.loops import spawn
from gwproto_trio.sockets import SocketStream

PIECE = (
    16384  # bytes handed to a stream that may take them one by one; that some were taken is seen between two
)

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Receiver(Protocol):
    """A protocol of asyncio's."""

    def connection_made(self, transport: Any) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Transport:
    """Calls ``receiver`` with what ``stream`` brings, and takes what it writes (see ``gwproto_raw.loops.Transport``).

    ``peer`` is the other's address. A task runs :meth:`run`. Only what a socket does not take at once, or what is
    written to any other stream, needs another, which pauses the receiver's writing as long as there is one.
    """

    __slots__ = (
        "_closing",
        "_eof",
        "_error",
        "_full",
        "_peer",
        "_reading",
        "_receiver",
        "_resumed",
        "_size",
        "_stream",
        "_unsent",
        "_writing",
    )

    def __init__(self, stream: trio.abc.Stream, receiver: Receiver, peer: str = "") -> None:
        self._stream = stream
        self._receiver = receiver
        self._peer = peer
        self._reading = trio.CancelScope()  # around the reader
        self._writing: trio.CancelScope | None = None  # around the writer, if there is one
        self._resumed: trio.Event | None = None  # for which the reader waits
        self._unsent: deque[memoryview] = deque()
        self._size = 0  # bytes of it
        self._full = False  # the receiver's writing is paused
        self._eof = False  # it will write no more
        self._closing = False  # it is told no more, but that this is the end
        self._error: Exception | None = None

    async def run(self) -> None:
        """Serve the receiver until the connection has ended."""
        try:
            await self.read()
        finally:
            await self.finish()

    async def read(self) -> None:
        """The first part of it: until nothing more is to be read."""
        receiver, receive = self._receiver, self._stream.receive_some
        receiver.connection_made(self)
        with self._reading:
            try:
                while not self._closing:
                    if self._resumed is not None:
                        await self._resumed.wait()
                    data = await receive(READ_SIZE)
                    if self._resumed is not None:  # paused while it waited
                        await self._resumed.wait()
                    if self._closing:
                        break
                    if not data:
                        if not receiver.eof_received():
                            return
                        break
                    receiver.data_received(bytes(data))  # streams in memory bring bytearrays
                await trio.sleep_forever()  # there is something to be written still
            except _BROKEN as error:
                self._error = error

    async def finish(self) -> None:
        """The rest: close, and tell the receiver."""
        self.abort()
        try:
            await trio.aclose_forcefully(self._stream)
        finally:
            self._receiver.connection_lost(self._error)

    # What the receiver calls

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        rest = memoryview(data)
        if not self._size and isinstance(self._stream, SocketStream):
            try:
                sent = self._stream.send_now(data)
            except trio.BrokenResourceError as error:
                self._break(error)
                return
            if sent == len(data):
                return
            rest = rest[sent:]
        self._unsent.append(rest)
        self._size += len(rest)
        self._write_on()
        if not self._full:
            self._full = True
            self._receiver.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._size

    def pause_reading(self) -> None:
        if self._resumed is None:
            self._resumed = trio.Event()

    def resume_reading(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def can_write_eof(self) -> bool:
        return isinstance(self._stream, trio.abc.HalfCloseableStream)

    def write_eof(self) -> None:
        self._eof = True
        self._write_on()

    def close(self) -> None:
        self._closing = True
        if self._writing is None:
            self._reading.cancel()

    def abort(self) -> None:
        self._closing = True
        self._unsent.clear()
        self._size = 0
        if self._writing is not None:
            self._writing.cancel()
        self._reading.cancel()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``peername``, whose port is not known, and ``socket``, where there is one."""
        if name == "peername" and self._peer:
            return self._peer, 0
        if name == "socket" and isinstance(self._stream, SocketStream):
            return self._stream.socket
        return default

    # The writer

    def _write_on(self) -> None:
        if self._writing is None:
            self._writing = trio.CancelScope()
            spawn(self._write, self._writing)

    async def _write(self, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._drain()
                if self._eof and isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
            except _BROKEN as error:
                self._break(error)
        self._writing = None
        if self._closing:
            self._reading.cancel()

    async def _drain(self) -> None:
        """Send until there is nothing, also of what the receiver writes as soon as it may."""
        unsent = self._unsent
        while unsent:
            while unsent:
                piece = unsent[0][:PIECE]
                await self._stream.send_all(piece)
                self._size -= len(piece)
                if len(piece) == len(unsent[0]):
                    unsent.popleft()
                else:
                    unsent[0] = unsent[0][len(piece) :]
            self._full = False
            self._receiver.resume_writing()

    def _break(self, error: Exception) -> None:
        self._error = error
        self.abort()

"""Any stream of trio's for protocols as asyncio's are (PEP 3156): one task reads, and another writes now and then."""

from collections import deque
from typing import Any

import trio

from gwproto_raw.loops import READ_SIZE, Receiver
from gwproto_trio.tasks import spawn

PIECE = 16384  # bytes handed to a stream at a time; that some were taken is seen between two

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class StreamTransport:
    """Calls ``receiver`` with what comes, and takes what it writes (see ``gwproto_raw.loops.Transport``)."""

    __slots__ = (
        "_closing",
        "_eof",
        "_error",
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
        """``stream`` becomes its own. ``peer``: the other's address."""
        self._stream = stream
        self._receiver = receiver
        self._peer = peer
        self._reading = trio.CancelScope()  # around the reader
        self._writing: trio.CancelScope | None = None  # around the writer, while there is one
        self._resumed: trio.Event | None = None  # for which the reader waits
        # While there is something, the receiver's writing is paused.
        self._unsent: deque[memoryview] = deque()
        self._size = 0  # bytes of it
        self._eof = False  # the receiver will write no more
        self._closing = False  # it is told no more, but that this is the end
        self._error: Exception | None = None

    def start(self) -> None:
        self._receiver.connection_made(self)
        spawn(self._run)

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        first = not self._unsent
        self._unsent.append(memoryview(data))
        self._size += len(data)
        self._write_on()
        if first:
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
        if name == "socket" and isinstance(self._stream, trio.SocketStream):
            return self._stream.socket
        return default

    # The reader

    async def _run(self) -> None:
        try:
            with self._reading:
                try:
                    await self._read()
                except _BROKEN as error:
                    self._error = error
        finally:
            self.abort()
            try:
                await trio.aclose_forcefully(self._stream)
            finally:
                self._receiver.connection_lost(self._error)

    async def _read(self) -> None:
        receiver = self._receiver
        while not self._closing:
            while self._resumed is not None:
                await self._resumed.wait()
            data = await self._stream.receive_some(READ_SIZE)
            while self._resumed is not None:  # paused while it waited
                await self._resumed.wait()
            if self._closing:
                break
            if not data:
                if not receiver.eof_received():
                    return
                break
            receiver.data_received(bytes(data))  # streams in memory bring bytearrays
        await trio.sleep_forever()  # there is something to be written still

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
                self._error = error
                self.abort()
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
                rest = unsent[0][len(piece) :]
                if rest:
                    unsent[0] = rest
                else:
                    unsent.popleft()
            self._receiver.resume_writing()

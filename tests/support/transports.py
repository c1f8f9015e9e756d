"""asyncio transports over the byte streams in memory: what a raw protocol is driven with, on virtual time."""

import asyncio
from collections.abc import Iterable

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

from support.memory import MemoryStream


class MemoryTransport(asyncio.Transport):
    """One end of a connection for ``protocol``. Writing never waits, unless ``room`` is given.

    ``room``: bytes that the peer's system takes, all in all; what is beyond them is held until :meth:`take`.
    """

    def __init__(
        self, protocol: asyncio.Protocol, stream: MemoryStream, *, room: float = float("inf")
    ) -> None:
        super().__init__({"peername": ("192.0.2.1", 40000)})
        self.protocol = protocol
        self.stream = stream
        self.room = room
        self.written: list[bytes] = []  # one for each write
        self._unsent = bytearray()
        self._full = False
        self._reading = asyncio.Event()
        self._reading.set()
        self._closing = False
        self._eof = False
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self._reader = self._loop.create_task(self._read())
        protocol.connection_made(self)

    @property
    def reading(self) -> bool:
        return self._reading.is_set()

    async def _read(self) -> None:
        error: Exception | None = None
        try:
            while True:
                await self._reading.wait()
                try:
                    data = await self.stream.receive()
                except EndOfStream:
                    if not self.protocol.eof_received():
                        break
                    return
                await self._reading.wait()
                if not self._closing:
                    self.protocol.data_received(data)
        except ClosedResourceError:
            pass
        except BrokenResourceError:
            error = ConnectionResetError()
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._call_lost, error)

    def _call_lost(self, error: Exception | None) -> None:
        self._reader.cancel()
        self._loop.create_task(self.stream.aclose())
        self.protocol.connection_lost(error)

    def take(self, size: float) -> None:
        """The peer reads so much."""
        self.room += size
        self._flush()

    def _flush(self) -> None:
        count = int(min(self.room, len(self._unsent)))
        self.room -= count
        data = bytes(self._unsent[:count])
        del self._unsent[:count]
        if data and not self.stream.give(data):
            self._lose(BrokenPipeError())
            return
        if self._unsent and not self._full:
            self._full = True
            self.protocol.pause_writing()
        elif not self._unsent:
            if self._full:
                self._full = False
                self._loop.call_soon(self.protocol.resume_writing)
            if self._eof:
                self.stream.give_eof()
            if self._closing:
                self._lose(None)

    # What a protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._eof
        assert data, "an empty write is a wasted one"
        if not self._lost:
            self.written.append(bytes(data))
            self._unsent += data
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        self._flush()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, None)

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def pause_reading(self) -> None:
        assert not self._lost
        self._reading.clear()

    def resume_reading(self) -> None:
        assert not self._lost
        self._reading.set()

    def is_reading(self) -> bool:
        return self._reading.is_set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        if not self._unsent:
            self._lose(None)

    def abort(self) -> None:
        self._unsent.clear()
        self._lose(None)

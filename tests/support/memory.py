"""Byte streams in memory that behave like TCP: unread writes run together, ends are orderly or a reset."""

import socket
from collections.abc import Callable, Mapping
from typing import Any

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint


class _Pipe:
    """One direction."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = False
        self.broken = False  # by a reset
        self._arrival = Event()

    def changed(self) -> None:
        self._arrival.set()
        self._arrival = Event()

    async def wait(self) -> None:
        await self._arrival.wait()


class MemoryStream(ByteStream):
    """One end. Writing never waits. The end of a provider can be reset as ``SO_LINGER`` does it for sockets."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, *, resettable: bool) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._resettable = resettable
        self._abrupt = False
        self.closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await checkpoint()
        pipe = self._incoming
        while not pipe.buffer:
            if self.closed:
                raise ClosedResourceError
            if pipe.broken:
                raise BrokenResourceError
            if pipe.ended:
                raise EndOfStream
            await pipe.wait()
        data = bytes(pipe.buffer[:max_bytes])
        del pipe.buffer[:max_bytes]
        return data

    async def send(self, item: bytes) -> None:
        await checkpoint()
        if self.closed:
            raise ClosedResourceError
        if not self.give(item):
            raise BrokenResourceError

    def give(self, item: bytes) -> bool:
        """Send at once; False: there is nobody any more."""
        if self._outgoing.ended or self._outgoing.broken:
            return False
        self._outgoing.buffer += item
        self._outgoing.changed()
        return True

    async def send_eof(self) -> None:
        self.give_eof()
        await checkpoint()

    def give_eof(self) -> None:
        self._outgoing.ended = True
        self._outgoing.changed()

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            for pipe in (self._incoming, self._outgoing):
                pipe.ended = True
                pipe.broken |= self._abrupt
                pipe.changed()
        await checkpoint()

    def setsockopt(self, *option: object) -> None:
        """Of the "socket" below: the host of simulated providers asks for a reset by ``SO_LINGER``."""
        assert option[:2] == (socket.SOL_SOCKET, socket.SO_LINGER)
        self._abrupt = True

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {SocketAttribute.raw_socket: lambda: self} if self._resettable else {}


def connected() -> tuple[MemoryStream, MemoryStream]:
    """A client's end and a server's."""
    up, down = _Pipe(), _Pipe()
    return MemoryStream(down, up, resettable=False), MemoryStream(up, down, resettable=True)

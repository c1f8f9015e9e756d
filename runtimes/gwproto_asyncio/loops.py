"""What the runtime needs of an event loop: the loop itself, its clock, and one timer for a connection."""

import asyncio
import math
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")

Clock = Callable[[], float]

READ_SIZE = 65536  # bytes


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on a loop of uvloop's, where that is installed, else on asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """The loop's monotonic clock, without detour.

    asyncio's asks ``time.monotonic``. uvloop's does once a turn, in whole milliseconds.
    """
    own = isinstance(loop, asyncio.BaseEventLoop) and type(loop).time is not asyncio.BaseEventLoop.time
    return loop.time if own else time.monotonic


def protocol_of(connection: object) -> asyncio.Protocol:
    """``connection`` for the loop. Loops ask for a protocol's methods, not for its base, and compiled classes
    (``docs/compiled.md``) can have no base that is not."""
    return cast("asyncio.Protocol", connection)


def prepare(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """Set the bounds of a new connection's transport.

    Whatever the system does not take at once stops the reading of what would make more of it, so that one read is all
    that is ever held.
    """
    stream = cast("asyncio.Transport", transport)  # uvloop's only look like one
    stream.set_write_buffer_limits(1, 0)  # with 0, asyncio's TLS takes an empty buffer for a full one
    if hasattr(stream, "max_size"):  # asyncio's own reads 256 KiB; uvloop's 250, and it cannot be told
        stream.max_size = READ_SIZE
    return stream


def address_of(transport: asyncio.BaseTransport) -> str:
    """The peer's address without its port; empty where there is none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def reset(transport: asyncio.Transport) -> None:
    """Close so that the peer sees RST, not FIN (RFC 9293, 3.10.7: abort)."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Alarm:
    """Calls ``ring`` once the clock has passed ``due``; never while that is ``math.inf``.

    To put it off costs nothing: the loop's timer is only made anew for an earlier instant, and by itself when it has
    fired too early.
    """

    __slots__ = ("_armed", "_handle", "_loop", "_ring", "clock", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, ring: Callable[[], None]) -> None:
        self._loop = loop
        self.clock = clock
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._armed = math.inf
        self.due = math.inf

    def set(self, due: float) -> None:
        self.due = due
        if due < self._armed:
            self._arm(due - self.clock())

    def stop(self) -> None:
        """For good: a timer that is left would keep alive what it would call."""
        self.due = self._armed = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, delay: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = self.due
        self._handle = self._loop.call_later(delay, self._fired)

    def _fired(self) -> None:
        self._handle = None
        self._armed = math.inf
        left = self.due - self.clock()
        if left <= 0:
            self.due = math.inf
            self._ring()
        elif self.due < math.inf:
            self._arm(max(left, 0.001))  # uvloop counts milliseconds: less would be now, again and again

"""What is needed of an event loop: itself, its transports, and one timer for a connection.

Transports call, and are called, as asyncio's are (PEP 3156).
"""

import math
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Clock = Callable[[], float]

READ_SIZE = 65536  # bytes


class Cancellable(Protocol):
    """A timer, or what goes on beside the callbacks."""

    def cancel(self) -> object: ...


class Transport(Protocol):
    """One connection, for one protocol. Nothing here waits, or raises for what a network does."""

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Receiver(Protocol):
    """What is told of a connection: asyncio's ``Protocol``."""

    def connection_made(self, transport: Any) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Loop(Protocol):
    """An event loop. Everything is called, and calls back, where it runs."""

    @property
    def clock(self) -> Clock:
        """Monotonic, in seconds."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> object:
        """After what waits for its turn already."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Cancellable: ...

    def start(
        self, work: Coroutine[Any, Any, None], done: Callable[[BaseException | None], None]
    ) -> Cancellable:
        """Let ``work`` go on by itself. ``done`` hears how it ended, unless it was cancelled."""
        ...

    def run_in_thread(self, work: Callable[[], T], done: Callable[[Callable[[], T]], None]) -> None:
        """``done`` is given what returns the result, or raises the error."""
        ...

    def prepare(self, transport: Any) -> Transport:
        """Set the bounds of a new connection's transport.

        Whatever the system does not take at once pauses the protocol's writing, and with it the reading of what would
        make more of it, so that one read is all that is ever held.
        """
        ...


def address_of(transport: Transport) -> str:
    """The peer's address without its port; empty where there is none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def reset(transport: Transport) -> None:
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

    def __init__(self, loop: Loop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self.clock = loop.clock
        self._ring = ring
        self._handle: Cancellable | None = None
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

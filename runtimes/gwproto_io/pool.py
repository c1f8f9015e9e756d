"""Which connection serves a request: bookkeeping without I/O.

Every method is synchronous. State that changes across an ``await`` is how a cancelled request leaks its connection.
"""

import math
from collections import deque
from typing import Generic, TypeVar

from gwproto import Origin

IDLE_TIMEOUT = 30.0  # seconds; under the 60 and 75 after which servers usually close
MAX_IDLE = 100  # per origin

C = TypeVar("C")


class Leases(Generic[C]):
    """Connections by origin: leased ones are counted, idle ones kept, the one used last taken first.

    Whatever is returned by a method other than :meth:`acquire` is the caller's to close.
    """

    __slots__ = ("_expires_at", "_idle", "_idle_timeout", "_leased", "_max_idle")

    def __init__(self, *, idle_timeout: float = IDLE_TIMEOUT, max_idle: int = MAX_IDLE) -> None:
        self._idle_timeout = idle_timeout
        self._max_idle = max_idle
        self._idle: dict[Origin, deque[tuple[float, C]]] = {}  # with the instant it expires; the oldest first
        self._leased = 0
        self._expires_at = math.inf  # nothing idle does before

    @property
    def leased(self) -> int:
        return self._leased

    @property
    def idle(self) -> int:
        return sum(map(len, self._idle.values()))

    def acquire(self, origin: Origin, now: float, *, fresh: bool = False) -> C | None:
        """Lease an idle connection; None leases one that the caller has to make (``fresh`` asks for that)."""
        self._leased += 1
        idle = self._idle.get(origin)
        if fresh or not idle or idle[-1][0] <= now:
            return None
        return idle.pop()[1]

    def discard(self) -> None:
        """End the lease of a connection that is not to be used again, or was never made."""
        assert self._leased > 0
        self._leased -= 1

    def release(self, origin: Origin, connection: C, now: float) -> list[C]:
        """End a lease and keep the connection for the next one. What has expired is dropped, whatever its origin:
        nobody may come back for those of another provider."""
        assert self._leased > 0
        self._leased -= 1
        out = self.expire(now) if self._expires_at <= now else []
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        expires_at = now + self._idle_timeout
        idle.append((expires_at, connection))
        if expires_at < self._expires_at:
            self._expires_at = expires_at
        if len(idle) > self._max_idle:
            out.append(idle.popleft()[1])
        return out

    def expire(self, now: float) -> list[C]:
        """Drop what was idle for too long."""
        out: list[C] = []
        for origin, idle in list(self._idle.items()):
            while idle and idle[0][0] <= now:
                out.append(idle.popleft()[1])
            if not idle:
                del self._idle[origin]
        self._expires_at = min([idle[0][0] for idle in self._idle.values()], default=math.inf)
        return out

    def clear(self) -> list[C]:
        """Drop every idle connection."""
        out = [connection for idle in self._idle.values() for _, connection in idle]
        self._idle.clear()
        return out

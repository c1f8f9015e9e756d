"""One upstream call for several equal requests: who leads it, who follows, and what has been sent of the answer."""

from collections import deque
from itertools import islice
from typing import Protocol

from gwproto.commands import SendEnd
from gwproto.exchange.attempt import Attempt
from gwproto.exchange.values import Piece
from gwproto.routing.demand import Demand
from gwproto.values import Ending
from gwproto.wire.neutral import ChatRequest

#: Bytes of an answer that are kept: for who joins late, and for who reads slowly.
MAX_KEPT = 1024 * 1024

Key = tuple[object, ...]


class Party(Protocol):
    """An exchange in a flight. Neither method does more than note it and wake the exchange's driver."""

    def notify(self, now: float) -> None:
        """There is news: pieces for a follower, for a leader that its last follower has left."""
        ...

    def cut_off(self, now: float) -> None:
        """A follower will get no more pieces of this flight."""
        ...


class Flight:
    """``followers`` has the number of the next piece for each.

    An answer that has become longer than 1 MiB can no longer be joined: from then on only what somebody still waits for
    is kept, and who is that far behind when more comes is cut off.
    """

    __slots__ = (
        "_first",
        "_kept",
        "_key",
        "_open",
        "_pieces",
        "ending",
        "error",
        "followers",
        "leader",
        "served",
    )

    def __init__(self, key: Key, leader: Party, open: "dict[Key, Flight]") -> None:
        """``open`` has the flights that may be joined; this one adds and removes itself."""
        self._key = key
        self._open = open
        self._pieces: deque[Piece] = deque()
        self._first = 0  # the number of the first piece that is kept
        self._kept = 0  # bytes
        self.leader = leader
        self.followers: dict[Party, int] = {}
        self.ending = Ending.COMPLETED
        self.error = ""
        self.served: Attempt | None = None
        open[key] = self

    @property
    def joinable(self) -> bool:
        return self._open.get(self._key) is self

    def publish(self, pieces: list[Piece], now: float) -> None:
        """The leader sends these."""
        while self._kept > MAX_KEPT:
            for follower in [one for one, at in self.followers.items() if at == self._first]:
                del self.followers[follower]
                follower.cut_off(now)
            self._trim()
        self._pieces += pieces
        self._kept += sum(piece.size for piece in pieces)
        if self._kept > MAX_KEPT or isinstance(pieces[-1].command, SendEnd):
            self._close()
        self._trim()
        for follower in self.followers:
            follower.notify(now)

    def take(self, follower: Party) -> list[Piece]:
        """What ``follower`` has not had yet."""
        start = self.followers[follower] - self._first
        pieces = list(islice(self._pieces, start, None))
        self.followers[follower] += len(pieces)
        self._trim()
        return pieces

    def leave(self, follower: Party, now: float) -> None:
        """``follower`` wants no more."""
        self.followers.pop(follower, None)
        self._trim()
        if not self.followers:
            self.leader.notify(now)

    def break_off(self, now: float) -> None:
        """The leader is gone before its answer's end."""
        self._close()
        for follower in self.followers:
            follower.cut_off(now)
        self.followers.clear()

    def _close(self) -> None:
        if self.joinable:
            del self._open[self._key]

    def _trim(self) -> None:
        """Forget what everybody has had, unless somebody may still join."""
        if self.joinable:
            return
        end = self._first + len(self._pieces)
        for _ in range(min(self.followers.values(), default=end) - self._first):
            self._kept -= self._pieces.popleft().size
            self._first += 1


def key_of(request: ChatRequest, demand: Demand, label: str, apart: str = "") -> Key | None:
    """What requests must have in common to share an answer; None: this one does not share.

    Only answers that are meant to be always the same: at temperature 0, without tools. Fields are compared as they were
    sent. ``label``: the client key's; nobody learns what others ask. ``apart`` tells requests apart whose texts are not
    there any more, in a replay.
    """
    if request.temperature != 0 or request.n != 1 or "tools" in request.fields or request.legacy_functions:
        return None
    return (
        label,
        apart,
        demand.provider,
        demand.forced_model,
        demand.affinity,
        demand.require_params,
        demand.effort,
        demand.allowed,
        *sorted((name, bytes(value)) for name, value in request.fields.items()),
    )

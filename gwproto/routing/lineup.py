"""A plan's candidates as they stand at the moment: who is best inside each provider, and which providers take turns.

Computed when something has changed that may change it, and once a second, since scores age; a pick in between is a few
comparisons.
"""

import math
import statistics
from collections.abc import Collection, Container

from gwproto.routing.catalog import AUTO, Target
from gwproto.routing.rotation import Band, Rotation
from gwproto.routing.seats import Front, Lineup, Seat
from gwproto.routing.state import SCORE_AGE, Changes
from gwproto.values import Candidate

#: A provider whose time to first content is over so many times the median of the others is a slow outlier ...
SLOW_FACTOR = 3.0
#: ... if so many times are known, of it and of each that it is compared with (each counting less as it ages).
SLOW_VOLUME = 10.0
#: Seconds between the requests by which a slow outlier can show that it is not slow any more: the longest, and the
#: shortest while it does show it.
SLOW_INTERVAL = 30.0
SHORT_INTERVAL = 1.0

#: Classes of providers: the next one only when none is left of those before.
MEETS, OTHER, FALLBACK = range(3)


class Group:
    """One provider's targets in a plan, in order of preference."""

    __slots__ = (
        "_band",
        "_effort",
        "_front",
        "_version",
        "backends",
        "fallback",
        "name",
        "provider",
        "seats",
        "turns",
        "until",
    )

    def __init__(self, name: str, seats: list[Seat], effort: str, turns: Rotation) -> None:
        self.name = name
        self.fallback = seats[0].target.provider.fallback
        self.provider = seats[0].state.provider
        self.seats = sorted(seats, key=lambda seat: seat.preference)
        self.backends: frozenset[object] = frozenset([seat.target.backend for seat in seats])
        self.turns = turns
        self.until = -math.inf  # when the front must be computed anew at the latest
        self._effort = effort
        self._band = Band()
        self._front: Front | None = None
        self._version = -1

    def front(self, now: float) -> Front | None:
        """The best available targets; None when there are none. Computed anew only after a change."""
        if self._version != self.provider.version or now >= self.until:
            self.until = now + SCORE_AGE
            self._front = self._rank(now, (), None, True)
            self._version = self.provider.version
        return self._front

    def front_without(self, tried: Collection[object], request: object, now: float) -> Front | None:
        """The same without some backends, and with those that cool down because of ``request`` alone."""
        if request is None and self.backends.isdisjoint(tried):
            return self.front(now)
        return self._rank(now, tried, request, False)

    def _rank(self, now: float, tried: Container[object], request: object, remember: bool) -> Front | None:
        found: list[Seat] = []
        for seat in self.seats:
            if found and seat.preference != found[0].preference:
                break
            if seat.target.backend in tried:
                continue
            if not seat.state.passable(now):
                obstacle = seat.state.obstacle(now, request)
                if obstacle is not None:
                    if remember:
                        self.until = min(self.until, obstacle.until)
                    continue
            found.append(seat)
        if not found:
            return None
        scored = [(seat.target.id, seat.score(now)) for seat in found]
        keys = self._band.members(scored, remember=remember)
        seats = {seat.target.id: seat for seat in found}
        weights = [seats[key].state.weight for key in keys]
        rank = FALLBACK if self.fallback else OTHER
        if not self.fallback and (self._effort == AUTO or found[0].preference == 0):
            rank = MEETS
        best = max([score for _, score in scored])
        known, delay = _measured([seats[key] for key in keys], now)
        return Front(self, seats, keys, weights, best, max(weights), rank, known, delay)


def _measured(seats: list[Seat], now: float) -> tuple[float, float]:
    volume = total = 0.0
    for seat in seats:
        known, mean = seat.state.own.evidence.measured(now)
        volume += known
        total += known * mean
    return volume, total / volume if volume else 0.0


def kept_seat(lineup: Lineup, target: str) -> tuple[Front, Seat] | None:
    """Where ``target`` (an id) sits, if it takes turns at all; ``""`` never does."""
    for name in lineup.names:
        front = lineup.fronts[name]
        if target in front.keys:
            return front, front.seats[target]
    return None


class Trial:
    """How a slow outlier is tried: when it was last, and after how many seconds it is again."""

    __slots__ = ("at", "interval")

    def __init__(self, at: float) -> None:
        self.at = at
        self.interval = SLOW_INTERVAL


class Shape:
    """What all demands of one kind share: the candidates by provider, those removed and why, and their turns.

    ``explained``: what was last said of them all; ``changed``: more than scores has, since then.
    """

    __slots__ = (
        "_band",
        "_changes",
        "_lineup",
        "_until",
        "_version",
        "changed",
        "explained",
        "explained_at",
        "groups",
        "removed",
        "trials",
        "turns",
    )

    def __init__(
        self,
        groups: tuple[Group, ...],
        removed: tuple[tuple[Target, str], ...],
        turns: Rotation,
        changes: Changes,
    ) -> None:
        self.groups = groups
        self.removed = removed
        self.turns = turns
        self.explained: tuple[Candidate, ...] = ()
        self.explained_at = -math.inf
        self.changed = True
        self._band = Band()
        self._changes = changes
        self._lineup: Lineup | None = None
        self.trials: dict[str, Trial] = {}  # of slow outliers, by provider
        self._version = -1
        self._until = -math.inf

    def lineup(self, now: float) -> Lineup | None:
        """Who takes turns; None: nobody is available. Computed anew only after a change."""
        if self._version != self._changes.count or now >= self._until:
            fronts = [front for group in self.groups if (front := group.front(now)) is not None]
            self._lineup = self._line_up(fronts, now) if fronts else None
            self._until = min((group.until for group in self.groups), default=math.inf)
            if self._version != self._changes.count:
                self._version = self._changes.count
                self.changed = True
        return self._lineup

    def whose_turn(self, lineup: Lineup, now: float) -> Front:
        """Take the next turn."""
        names = lineup.names
        if lineup.slow and (slow := self.due(lineup, now)):
            self.trials[slow].at = now
            return lineup.fronts[slow]
        return lineup.fronts[names[0] if len(names) == 1 else self.turns.turn(names, lineup.weights)]

    def due(self, lineup: Lineup, now: float) -> str:
        """The slow outlier that gets the next request; ``""``: none does."""
        for name in lineup.slow:
            trial = self.trials[name]
            if now - trial.at >= trial.interval:
                return name
        return ""

    def content(self, provider: str, delay: float) -> None:
        """First content came from ``provider`` after ``delay`` seconds; of interest while anybody is tried."""
        trial = self.trials.get(provider)
        if trial is not None and self._lineup is not None:
            quick = delay <= self._lineup.slow[provider]
            trial.interval = max(SHORT_INTERVAL, trial.interval / 2.0) if quick else SLOW_INTERVAL

    def _line_up(self, fronts: list[Front], now: float) -> Lineup:
        rank = min(front.rank for front in fronts)
        by_name = {front.group.name: front for front in fronts if front.rank == rank}
        names = self._band.members([(name, front.score) for name, front in by_name.items()])
        slow = self._slow([by_name[name] for name in names])
        self.trials = {name: self.trials.get(name) or Trial(now) for name in slow}
        if slow:
            names = [name for name in names if name not in slow]
        return Lineup(rank, by_name, names, [by_name[name].weight for name in names], slow)

    def _slow(self, fronts: list[Front]) -> dict[str, float]:
        """The outliers among the providers of the band, each with what would not be slow."""
        delays = {front.group.name: front.delay for front in fronts if front.known >= SLOW_VOLUME}
        # Nobody is slow who is not much slower than the fastest, so mostly there is no median to look for.
        bound = SLOW_FACTOR * min(delays.values(), default=0.0)
        slow: dict[str, float] = {}
        for name, delay in delays.items():
            if delay > bound:
                others = [other for one, other in delays.items() if one != name]
                limit = SLOW_FACTOR * statistics.median(others)
                if delay > limit:
                    slow[name] = limit
        return slow

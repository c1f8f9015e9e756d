"""Taking turns: who is good enough, and whose turn it is."""

import math
from collections.abc import Container, Iterable, Sequence

#: How far below the best score one may be to enter the band, and to stay in it.
ENTER = 0.15
STAY = 0.20


class Band:
    """Those whose score is near the best one's, with hysteresis, so that noise does not change the set."""

    __slots__ = ("_inside",)

    def __init__(self) -> None:
        self._inside: set[str] = set()

    def members(self, scores: Iterable[tuple[str, float]], *, remember: bool = True) -> list[str]:
        """The keys in the band, in the order given."""
        scored = list(scores)
        best = max(score for _, score in scored)
        inside = self._inside
        keys = [key for key, score in scored if score >= best - (STAY if key in inside else ENTER)]
        if remember:
            inside.clear()
            inside.update(keys)
        return keys


class Rotation:
    """Smooth weighted round robin (nginx's), whose memory survives changes of the set.

    While set and weights stay as they are, and the weights are equal, the numbers of turns differ by at most one: also
    when some turns could not go to everybody (``allowed``: a failover must not return to who failed), as long as
    requests do not overlap. Who comes back after an absence gets no burst of turns to catch up.

    Equals take turns in a circle, so that a turn among them costs the same however many they are.
    """

    __slots__ = ("_at", "_circle", "_credit", "_keys", "_open", "_weights")

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}
        self._keys: Sequence[str] = ()
        self._weights: Sequence[float] = ()
        self._circle: Sequence[str] = ()  # who comes after whom, while nothing else happens; empty: not known
        self._open = False  # the last turn could go to anybody
        self._at = 0  # how many of it have had their turns since the credits were counted

    def turn(
        self, keys: Sequence[str], weights: Sequence[float], allowed: Container[str] | None = None
    ) -> str:
        """Whose turn it is among ``keys``; at least one of them is in ``allowed``.

        Lists that are given again must not have been changed.
        """
        if keys is not self._keys or weights is not self._weights:  # mostly they are the same objects
            self._meet(keys, weights)
        # Made at the second turn in a row that may go to anybody: it costs more than one turn.
        if allowed is None and (self._circle or (self._open and self._close())):
            chosen = self._circle[self._at]
            self._at = (self._at + 1) % len(keys)
            return chosen
        self._count()
        self._open = allowed is None
        credit = self._credit
        total = sum(weights)
        chosen = keys[0]
        most = -math.inf
        for key, weight in zip(keys, weights, strict=True):
            # Bounded, or being passed over often (by overlapping failovers) would be made good by a burst.
            mine = credit[key] = min(credit[key] + weight, 2.0 * total)
            if mine > most and (allowed is None or key in allowed):
                chosen = key
                most = mine
        credit[chosen] = max(most - total, -2.0 * total)
        return chosen

    def _close(self) -> bool:
        """Make the circle; False: not everybody would have a turn before the first has another."""
        weights = self._weights
        if min(weights) < max(weights):
            return False
        circle = sorted(self._keys, key=self._credit.__getitem__, reverse=True)
        if self._credit[circle[0]] - self._credit[circle[-1]] > sum(weights):
            return False
        self._circle = circle
        return True

    def _count(self) -> None:
        """Leave the circle: what the turns in it come to. Whole rounds come to nothing."""
        if self._at:
            total = sum(self._weights)
            for place, (key, weight) in enumerate(zip(self._circle, self._weights, strict=True)):
                self._credit[key] += self._at * weight - (total if place < self._at else 0.0)
        self._circle, self._at = (), 0

    def _meet(self, keys: Sequence[str], weights: Sequence[float]) -> None:
        """Begin with another set. Nobody may be ahead by a whole turn, or it would get two before others get one."""
        if keys == self._keys and weights == self._weights:
            self._keys, self._weights = keys, weights
            return
        self._count()
        credit = self._credit
        total = sum(weights)
        floor = max(credit.get(key, 0.0) for key in keys) - (total - min(weights) / 2.0)
        levelled = [max(credit.get(key, 0.0), floor) for key in keys]
        mean = sum(levelled) / len(levelled)
        credit.update((key, mine - mean) for key, mine in zip(keys, levelled, strict=True))
        self._keys = keys
        self._weights = weights

    def preview(self, keys: Sequence[str], weights: Sequence[float]) -> str:
        """Whose turn :meth:`turn` would say it is, without taking it."""
        self._count()
        copy = Rotation()
        copy._credit.update(self._credit)
        copy._keys, copy._weights = self._keys, self._weights
        return copy.turn(keys, weights)

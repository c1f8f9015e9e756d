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
    """

    __slots__ = ("_credit", "_keys", "_weights")

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}
        self._keys: Sequence[str] = ()
        self._weights: Sequence[float] = ()

    def turn(
        self, keys: Sequence[str], weights: Sequence[float], allowed: Container[str] | None = None
    ) -> str:
        """Whose turn it is among ``keys``; at least one of them is in ``allowed``."""
        credit = self._credit
        total = sum(weights)
        if keys != self._keys or weights != self._weights:
            self._level(keys, weights, total)
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

    def _level(self, keys: Sequence[str], weights: Sequence[float], total: float) -> None:
        """Begin with another set. Nobody may be ahead by a whole turn, or it would get two before others get one."""
        credit = self._credit
        floor = max(credit.get(key, 0.0) for key in keys) - (total - min(weights) / 2.0)
        levelled = [max(credit.get(key, 0.0), floor) for key in keys]
        mean = sum(levelled) / len(levelled)
        credit.update((key, mine - mean) for key, mine in zip(keys, levelled, strict=True))
        self._keys = keys
        self._weights = weights

    def preview(self, keys: Sequence[str], weights: Sequence[float]) -> str:
        """Whose turn :meth:`turn` would say it is, without taking it."""
        copy = Rotation()
        copy._credit.update(self._credit)
        copy._keys, copy._weights = self._keys, self._weights
        return copy.turn(keys, weights)

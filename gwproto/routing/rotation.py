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

    With equal weights and an unchanged set the numbers of turns differ by at most one, also when some turns could not
    go to everybody (``allowed``: a failover must not return to who failed), as long as requests do not overlap. Who
    comes back after an absence gets no burst of turns to catch up.
    """

    __slots__ = ("_credit",)

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}

    def turn(
        self, keys: Sequence[str], weights: Sequence[float], allowed: Container[str] | None = None
    ) -> str:
        """Whose turn it is among ``keys``; at least one of them is in ``allowed``."""
        credit = self._credit
        total = sum(weights)
        chosen = keys[0]
        most = -math.inf
        for key, weight in zip(keys, weights, strict=True):
            # Bounded, or being passed over often (by overlapping failovers) would be made good by a burst.
            mine = credit[key] = min(credit.get(key, 0.0) + weight, total)
            if mine > most and (allowed is None or key in allowed):
                chosen = key
                most = mine
        credit[chosen] = max(most - total, -total)
        return chosen

    def preview(self, keys: Sequence[str], weights: Sequence[float]) -> str:
        """Whose turn :meth:`turn` would say it is, without taking it."""
        copy = Rotation()
        copy._credit.update(self._credit)
        return copy.turn(keys, weights)

"""When a request's first target counts as slow, and how often a second one may be asked because of that."""

import math
from collections.abc import Collection

from gwproto.config import HedgeSettings

#: Hedges that a gateway may have saved up: how many may come at once, after any time without.
MAX_SAVED = 10.0
#: Seconds until a target's delay is computed anew.
DELAY_AGE = 1.0
#: Twenty twentieths are one.
_ROUNDING = 1e-9


class Hedging:
    """The hedges of all requests.

    Each request earns ``settings.budget`` of a hedge, each hedge spends a whole one: over any time they are at most
    that part of the requests, plus 10.
    """

    __slots__ = ("_delays", "_saved", "_settings")

    def __init__(self, settings: HedgeSettings) -> None:
        self._saved = 0.0
        self.reconfigure(settings)

    def reconfigure(self, settings: HedgeSettings) -> None:
        """Change the limits; what has been earned stays."""
        self._settings = settings
        self._delays: dict[str, tuple[float, float]] = {}  # by target: computed when, and what came of it

    def request(self) -> None:
        """A request came in."""
        self._saved = min(MAX_SAVED, self._saved + self._settings.budget)

    @property
    def affordable(self) -> bool:
        """May one more hedge be made?"""
        return self._saved >= 1.0 - _ROUNDING

    def spend(self) -> None:
        """A hedge was made."""
        self._saved = max(0.0, self._saved - 1.0)

    def delay(self, target: str, samples: Collection[float], now: float) -> float:
        """Seconds after which ``target`` counts as slow; ``math.inf``: too little is known of it.

        ``samples``: its latest times to first content.
        """
        settings = self._settings
        if len(samples) < settings.min_samples:
            return math.inf
        at, delay = self._delays.get(target, (-math.inf, 0.0))
        if now - at >= DELAY_AGE:
            rank = math.ceil(settings.percentile * len(samples) - _ROUNDING)
            delay = max(settings.min_delay, sorted(samples)[max(0, rank - 1)])
            self._delays[target] = (now, delay)
        return delay

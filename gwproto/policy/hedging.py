"""When a request's first target counts as slow, and how often a second one may be asked because of that."""

import math
from collections import deque

from gwproto.config import HedgeSettings

#: Hedges that a gateway may have saved up: how many may come at once, after any time without.
MAX_SAVED = 10.0
#: Seconds until a delay is computed anew.
DELAY_AGE = 1.0
#: Times to first content remembered of each kind of request, and how many kinds.
SAMPLES = 200
MAX_KINDS = 256
#: Twenty twentieths are one.
_ROUNDING = 1e-9


#: What has one distribution of times to first content: the model asked for, and whether the answer is streamed.
Kind = tuple[str, bool]


class _Times:
    __slots__ = ("computed_at", "delay", "samples")

    def __init__(self) -> None:
        self.samples: deque[float] = deque(maxlen=SAMPLES)
        self.computed_at = -math.inf
        self.delay = math.inf


class Hedging:
    """The hedges of all requests.

    Each request earns ``settings.budget`` of a hedge, each hedge spends a whole one: over any time they are at most
    that part of the requests, plus 10. Slow is whoever takes longer than nearly all requests of the same kind, whoever
    served them: measured against itself a slow target would never be slow.
    """

    __slots__ = ("_saved", "_settings", "_times")

    def __init__(self, settings: HedgeSettings) -> None:
        self._saved = 0.0
        self._times: dict[Kind, _Times] = {}
        self._settings = settings

    def reconfigure(self, settings: HedgeSettings) -> None:
        """Change the limits; what has been earned and measured stays."""
        self._settings = settings
        for times in self._times.values():
            times.computed_at = -math.inf

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

    def content(self, kind: Kind, delay: float) -> None:
        """A request of this kind had its first content after so many seconds, or would have had it no sooner."""
        times = self._times.get(kind)
        if times is None:
            if len(self._times) >= MAX_KINDS:
                del self._times[next(iter(self._times))]
            times = self._times[kind] = _Times()
        times.samples.append(delay)

    def delay(self, kind: Kind, now: float) -> float:
        """Seconds after which the target of such a request counts as slow; ``math.inf``: too little is known."""
        settings = self._settings
        times = self._times.get(kind)
        if times is None or len(times.samples) < settings.min_samples:
            return math.inf
        if now - times.computed_at >= DELAY_AGE:
            rank = math.ceil(settings.percentile * len(times.samples) - _ROUNDING)
            times.delay = max(settings.min_delay, sorted(times.samples)[max(0, rank - 1)])
            times.computed_at = now
        return times.delay

"""Evidence about a target, and what it is worth.

Evidence ages with a half-life, so that a target which fell behind comes back for another look, and it weighs in
against a prior, so that an untried target gets a fair chance.
"""

import math

#: Seconds until an outcome counts half.
HALF_LIFE = 300.0
#: Outcomes remembered: older ones are crowded out by newer ones.
MEMORY = 100.0

SUCCESS_PRIOR = 0.9
SUCCESS_PRIOR_WEIGHT = 10.0
DELAY_PRIOR = 1.0  # seconds to first content
DELAY_PRIOR_WEIGHT = 3.0
#: A first content that takes this long (seconds) is worth nothing.
DELAY_WORST = 8.0

#: What the terms weigh in a score; they add up to 1.
SUCCESS_WEIGHT = 0.60
HEADROOM_WEIGHT = 0.20
DELAY_WEIGHT = 0.15
FIT_WEIGHT = 0.05


class Evidence:
    """Aged counts of successes and failures, and the aged mean time to first content."""

    __slots__ = ("_at", "_delay", "_delays", "_failures", "_successes")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Back to nothing but the priors."""
        self._successes = self._failures = 0.0
        self._delay = self._delays = 0.0
        self._at = 0.0

    def outdate(self, before: float) -> bool:
        """Forget everything if nothing has come since ``before``. True: there was something."""
        if self._at >= before or not (self._successes or self._failures):
            return False
        self.forget()
        return True

    def _age(self, now: float) -> None:
        factor = math.exp2((self._at - now) / HALF_LIFE)
        volume = (self._successes + self._failures) * factor
        if volume > MEMORY - 1.0:
            factor *= (MEMORY - 1.0) / volume
        self._successes *= factor
        self._failures *= factor
        self._delay *= factor
        self._delays *= factor
        self._at = now

    def add(self, success: bool, now: float) -> None:
        self._age(now)
        if success:
            self._successes += 1.0
        else:
            self._failures += 1.0

    def add_delay(self, seconds: float, now: float) -> None:
        """Time to first content."""
        self._age(now)
        self._delay += seconds
        self._delays += 1.0

    def snapshot(self, now: float) -> tuple[float, float, float, float]:
        """Successes, failures, and the sum and number of delays, as old as they are."""
        factor = math.exp2((self._at - now) / HALF_LIFE)
        return self._successes * factor, self._failures * factor, self._delay * factor, self._delays * factor

    def restore(self, value: tuple[float, float, float, float], elapsed: float, now: float) -> None:
        """Be what was ``value`` so many seconds ago."""
        self._successes, self._failures, self._delay, self._delays = value
        self._at = now - elapsed

    def volume(self, now: float) -> float:
        """How many outcomes there are, the aged ones counting less."""
        return (self._successes + self._failures) * math.exp2((self._at - now) / HALF_LIFE)

    @property
    def failure_share(self) -> float:
        """Of all outcomes, in 0..1; undefined without any."""
        return self._failures / (self._successes + self._failures)

    def measured(self, now: float) -> tuple[float, float]:
        """How many times to first content are known, the aged ones counting less, and their mean (seconds)."""
        factor = math.exp2((self._at - now) / HALF_LIFE)
        return self._delays * factor, self._delay / self._delays if self._delays else 0.0

    def estimates(self, now: float) -> tuple[float, float]:
        """The chance of success, in 0..1, and the time to first content in seconds."""
        factor = math.exp2((self._at - now) / HALF_LIFE)
        successes = self._successes * factor
        return (
            (successes + SUCCESS_PRIOR * SUCCESS_PRIOR_WEIGHT)
            / (successes + self._failures * factor + SUCCESS_PRIOR_WEIGHT),
            (self._delay * factor + DELAY_PRIOR * DELAY_PRIOR_WEIGHT)
            / (self._delays * factor + DELAY_PRIOR_WEIGHT),
        )


def base_score(evidence: Evidence, headroom: float, now: float) -> float:
    """A target's score without its tier fit (which depends on the request); ``headroom`` in 0..1."""
    success, delay = evidence.estimates(now)
    return SUCCESS_WEIGHT * success + HEADROOM_WEIGHT * headroom + DELAY_WEIGHT * latency_term(delay)


def latency_term(delay: float) -> float:
    """What a time to first content (seconds) is worth, in 0..1."""
    return max(0.0, 1.0 - delay / DELAY_WORST)

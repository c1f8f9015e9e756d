"""When and how often to try again: back-off and the gateway's retry budget, as plain arithmetic."""

import random
from collections import deque

#: Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): base and cap in seconds.
BACKOFF_BASE = 0.5
BACKOFF_CAP = 8.0
BUDGET_WINDOW = 10.0  # seconds


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds to pause before the same target is tried again, ``attempt`` counted from 0."""
    # Past the cap the power only grows into an overflow.
    return rng.uniform(0.0, min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(attempt, 16)))


class RetryBudget:
    """At most ``ratio`` retries per request of the last 10 seconds, plus ``floor``.

    What keeps retries from multiplying an outage: beyond the budget a failure is final. Holds in every window that
    ends now, not only in aligned ones.
    """

    __slots__ = ("_floor", "_ratio", "_requests", "_retries")

    def __init__(self, ratio: float, floor: int) -> None:
        self._ratio = ratio
        self._floor = floor
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()

    def reconfigure(self, ratio: float, floor: int) -> None:
        """Change the limits; what the window holds stays."""
        self._ratio = ratio
        self._floor = floor

    def request(self, now: float) -> None:
        """A request came in."""
        requests = self._requests
        requests.append(now)
        while requests[0] <= now - BUDGET_WINDOW:
            requests.popleft()

    def allows(self, now: float) -> bool:
        """Might one more retry be made?"""
        for instants in (self._requests, self._retries):
            while instants and instants[0] <= now - BUDGET_WINDOW:
                instants.popleft()
        return len(self._retries) + 1 <= self._ratio * len(self._requests) + self._floor

    def take(self, now: float) -> bool:
        """May one more retry be made? If so it is counted."""
        if not self.allows(now):
            return False
        self._retries.append(now)
        return True

"""What is counted while a scenario runs, and the figures it comes to."""

import math
from array import array
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from gwproto.policy.retry import BUDGET_WINDOW
from gwproto.values import AttemptRecord, Ending, Outcome

#: A share has come back when of so many successes for each healthy provider it got this part of its fair share.
FAIR_PART = 0.8
FAIR_TURNS = 10
#: Points of a course over time.
BUCKETS = 96
_EPSILON = 1e-6  # seconds: instants went through wall time


class Percentiles(Struct, frozen=True):
    """Seconds; None where there was nothing to measure."""

    p50: float | None
    p95: float | None
    p99: float | None


class Recovery(Struct, frozen=True):
    """How a provider's share came back. ``seconds`` None: it did not before the next trouble, or the end.

    ``successes``: how many it had from the end of its trouble until its share was back.
    """

    provider: str
    at: float  # seconds from the start: the end of its trouble
    seconds: float | None
    successes: int


class Course(Struct, frozen=True):
    """The run over time, in buckets of ``seconds``. None: nothing ended in that bucket."""

    seconds: float
    success: tuple[float | None, ...]
    ttft_p95: tuple[float | None, ...]
    shares: dict[str, tuple[float, ...]]  # of each bucket's successes, by provider


class Figures(Struct, frozen=True, kw_only=True):
    """One policy in one scenario. ``docs/simulation.md`` says what each figure means."""

    policy: str
    requests: int
    left: int
    success_rate: float
    failed: int
    cut: int
    errors: dict[str, int]
    failed_while_healthy: int
    ttft: Percentiles
    total: Percentiles
    attempts_mean: float
    attempts_max: int
    throttled_per_hour: float
    waits: int
    panics: int
    hedges: int
    probes_at_once: int
    retry_budget_used: float
    attempt_bound_used: float
    shares: dict[str, float]
    recoveries: tuple[Recovery, ...]
    course: Course


class _Return:
    """A provider's way back to its share, success by success.

    Its share is back at the first instant from which on it gets :data:`FAIR_PART` of what is fair over
    :data:`FAIR_TURNS` rounds.
    """

    __slots__ = ("_own", "_recent", "_size", "at", "provider", "seconds", "successes")

    def __init__(self, provider: str, at: float, healthy: int) -> None:
        self.provider = provider
        self.at = at
        self.seconds: float | None = None
        self.successes = 0
        self.among(healthy)
        self._recent: deque[tuple[float, bool]] = deque()
        self._own = 0

    def among(self, healthy: int) -> None:
        """So many providers share the load from now on."""
        self._size = FAIR_TURNS * max(1, healthy)

    def success(self, provider: str, now: float) -> bool:
        """A request ended well. True: the share is back."""
        recent = self._recent
        recent.append((now, provider == self.provider))
        self._own += provider == self.provider
        while len(recent) >= self._size:
            if len(recent) == self._size and self._own >= FAIR_PART * FAIR_TURNS:
                self.seconds = recent[0][0] - self.at
                return True
            gone = recent.popleft()[1]
            self._own -= gone
            self.successes += gone
        return False


class Measures:
    """Counts requests as they end. Keeps numbers, never a request."""

    def __init__(
        self, providers: Sequence[str], *, start: float, seconds: float, ratio: float, floor: int
    ) -> None:
        """``start``: the clock's at the beginning; ``seconds``: about how long the run takes; ``ratio``, ``floor``: the
        retry budget it is judged by. All instants below but those in records are seconds from the start."""
        self._start = start
        self._bucket = max(seconds, 1e-9) / BUCKETS
        self._ratio = ratio
        self._floor = floor
        self._requests = self._left = self._failed = self._cut = self._while_healthy = 0
        self._attempts = self._attempts_max = self._waits = self._panics = self._hedges = 0
        self._errors: dict[str, int] = {}
        self._served = dict.fromkeys(providers, 0)
        self._ttft = array("f")
        self._total = array("f")
        self.arrivals = array("d")
        self._starts = array("d")
        self._retries = array("d")
        self._probes: dict[str, list[tuple[float, int]]] = {}  # by target: beginnings +1 and ends -1
        self._open: list[_Return] = []
        self._returns: list[_Return] = []
        self._ended = [0] * BUCKETS
        self._good = [0] * BUCKETS
        self._delays = [array("f") for _ in range(BUCKETS)]
        self._by_provider = {name: [0] * BUCKETS for name in providers}

    def arrived(self, at: float) -> None:
        """A request came."""
        self.arrivals.append(at)

    def ended(self, outcome: Outcome, arrived: float, now: float) -> bool:
        """A request that came at ``arrived`` is over. True: it failed, and its client did not leave."""
        self._requests += 1
        attempts = outcome.attempts
        if attempts:
            self._count(attempts, arrived)
        elif outcome.duration > _EPSILON:
            self._waits += 1
        ending = outcome.ending
        if ending is Ending.CLIENT_CLOSED:
            self._left += 1
            return False
        bucket = min(int(now / self._bucket), BUCKETS - 1)
        self._ended[bucket] += 1
        if ending is Ending.COMPLETED:
            self._succeeded(outcome, bucket, now)
            return False
        self._errors[outcome.error] = self._errors.get(outcome.error, 0) + 1
        if ending is Ending.TRUNCATED:
            self._cut += 1
            return False
        self._failed += 1
        return True

    def avoidable(self) -> None:
        """The request that has just failed would have been answered by another provider."""
        self._while_healthy += 1

    def healed(self, provider: str, at: float, healthy: int) -> None:
        """A provider's trouble is over; ``healthy`` providers share the load from now on."""
        self.hurt(provider, healthy)
        back = _Return(provider, at, healthy)
        self._open.append(back)
        self._returns.append(back)

    def hurt(self, provider: str, healthy: int) -> None:
        """A provider's next trouble begins: its way back is not measured any further."""
        self._open = [back for back in self._open if back.provider != provider]
        for back in self._open:
            back.among(healthy)

    def _succeeded(self, outcome: Outcome, bucket: int, now: float) -> None:
        provider = outcome.provider
        self._good[bucket] += 1
        self._served[provider] += 1
        self._by_provider[provider][bucket] += 1
        self._total.append(outcome.duration)
        if outcome.stream and outcome.first_content_after is not None:
            self._ttft.append(outcome.first_content_after)
            self._delays[bucket].append(outcome.first_content_after)
        if self._open:
            self._open = [back for back in self._open if not back.success(provider, now)]

    def _count(self, attempts: Sequence[AttemptRecord], arrived: float) -> None:
        free = arrived  # since when nothing has been under way
        waited = False
        if len(attempts) > 1:  # they are recorded as they end; a hedge may end first
            attempts = sorted(attempts, key=lambda attempt: attempt.started_at)
        for number, attempt in enumerate(attempts):
            since = attempt.started_at - self._start
            self._starts.append(since)
            if attempt.hedge:
                self._hedges += 1
            elif number:
                self._retries.append(since)
            waited = waited or since - free > _EPSILON
            free = max(free, since + attempt.duration)
            if attempt.probe:
                first = attempt.first_content_after
                end = since + (attempt.duration if first is None else first)
                target = f"{attempt.provider}/{attempt.model}/{attempt.key}"
                self._probes.setdefault(target, []).extend(((since, 1), (end, -1)))
            self._panics += attempt.panic
        self._waits += waited
        self._attempts += len(attempts)
        self._attempts_max = max(self._attempts_max, len(attempts))

    def figures(self, policy: str, throttled: int, seconds: float) -> Figures:
        """The result, once every request is over. ``throttled``: how often providers answered 429."""
        counted = self._requests - self._left
        served = sum(self._served.values())
        used, worst = self._windows()
        return Figures(
            policy=policy,
            requests=self._requests,
            left=self._left,
            success_rate=_round(served / counted) if counted else 1.0,
            failed=self._failed,
            cut=self._cut,
            errors=dict(sorted(self._errors.items())),
            failed_while_healthy=self._while_healthy,
            ttft=_percentiles(self._ttft),
            total=_percentiles(self._total),
            attempts_mean=_round(self._attempts / self._requests) if self._requests else 0.0,
            attempts_max=self._attempts_max,
            throttled_per_hour=_round(throttled * 3600.0 / seconds) if seconds else 0.0,
            waits=self._waits,
            panics=self._panics,
            hedges=self._hedges,
            probes_at_once=max(map(_at_once, self._probes.values()), default=0),
            retry_budget_used=_round(used),
            attempt_bound_used=_round(worst),
            shares={name: _round(count / served) if served else 0.0 for name, count in self._served.items()},
            recoveries=tuple(
                [
                    Recovery(
                        back.provider,
                        _round(back.at),
                        None if back.seconds is None else _round(back.seconds),
                        back.successes,
                    )
                    for back in self._returns
                ]
            ),
            course=self._course(),
        )

    def _windows(self) -> tuple[float, float]:
        """The worst of all windows of ten seconds: retries, and attempts, as parts of what the budget allows."""
        retries = self._worst(self._retries, 0.0)
        return retries, self._worst(self._starts, 1.0)

    def _worst(self, instants: Sequence[float], each: float) -> float:
        """``each``: how many are free for every request, beside what the budget allows."""
        worst = 0.0
        arrivals = self.arrivals
        ordered = sorted(instants)
        first = begin = end = 0  # where the window begins: of the instants, and of the arrivals
        for index, now in enumerate(ordered):
            since = now - BUDGET_WINDOW
            while ordered[first] <= since:
                first += 1
            while end < len(arrivals) and arrivals[end] <= now + _EPSILON:
                end += 1
            while begin < end and arrivals[begin] <= since:
                begin += 1
            allowed = (each + self._ratio) * (end - begin) + self._floor
            worst = max(worst, (index + 1 - first) / allowed if allowed else math.inf)
        return worst

    def _course(self) -> Course:
        good, ended = self._good, self._ended
        return Course(
            seconds=_round(self._bucket),
            success=tuple([_round(g / e) if e else None for g, e in zip(good, ended, strict=True)]),
            ttft_p95=tuple([_percentiles(delays).p95 for delays in self._delays]),
            shares={
                name: tuple(
                    [_round(own / all_) if all_ else 0.0 for own, all_ in zip(mine, good, strict=True)]
                )
                for name, mine in self._by_provider.items()
            },
        )


def _round(value: float) -> float:
    return round(value, 4)


def _percentiles(values: Sequence[float]) -> Percentiles:
    """Nearest rank."""
    if not values:
        return Percentiles(None, None, None)
    ordered = sorted(values)
    ranks = [math.ceil(share * len(ordered)) - 1 for share in (0.50, 0.95, 0.99)]
    return Percentiles(*[_round(ordered[rank]) for rank in ranks])


def _at_once(changes: list[tuple[float, int]]) -> int:
    """The most that were under way at the same time. An end at a beginning's instant comes first."""
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most

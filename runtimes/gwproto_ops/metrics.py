"""What ``/metrics`` shows, added up from outcomes: see ``docs/observability.md`` for the names.

Nothing that a client may choose is a label: requests are told apart by the endpoints there are, providers and models
by those of the catalog.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from gwproto import AttemptRecord, Ending, Gateway, Outcome
from gwproto.routing.status import TargetStatus

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

# Upper bounds in seconds. From a small model's first token to a reasoning model's, which may take minutes.
FIRST_CONTENT = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
DURATION = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)


_COMPLETED = Ending.COMPLETED  # an attribute of an enumeration takes as long to find as a call


class Records(Protocol):
    """What is asked of the queue of records. ``failed``: why the database is not written just now, or ``""``."""

    @property
    def waiting(self) -> int: ...
    @property
    def written(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def failed(self) -> str: ...


class Value(NamedTuple):
    """A metric without labels, as it is just now. ``over``: what it is of several processes."""

    name: str
    help: str
    value: float
    counter: bool = False
    over: Literal["sum", "max", "min"] = "sum"


class Snapshot(NamedTuple):
    """What a page is made of."""

    metrics: "Metrics"
    targets: Sequence[TargetStatus]
    values: Sequence[Value]


class Histogram:
    """Observations by a label. ``counts`` has one number per bucket, the last of them without bound, and their sum."""

    __slots__ = ("bounds", "counts")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts: dict[str, list[float]] = {}

    def observe(self, label: str, value: float) -> None:
        counts = self.counts.get(label)
        if counts is None:
            counts = self.counts[label] = [0.0] * (len(self.bounds) + 2)
        counts[bisect_left(self.bounds, value)] += 1.0  # a bound belongs to its bucket
        counts[-1] += value


class Metrics:
    """Counts since the process started.

    One thread counts, any other may read: what is read may lack a part of the outcome that is just being counted.
    """

    __slots__ = (
        "attempts",
        "costs",
        "durations",
        "first_content",
        "hedges",
        "rejected",
        "requests",
        "shared",
        "tokens",
    )

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, int, str], int] = defaultdict(int)  # endpoint, status, ending
        self.attempts: defaultdict[tuple[str, str, str], int] = defaultdict(int)  # provider, model, result
        self.hedges: defaultdict[str, int] = defaultdict(int)  # result
        self.rejected: defaultdict[str, int] = defaultdict(int)  # reason
        # Provider and model: prompt, completion, cached, reasoning tokens.
        self.tokens: dict[tuple[str, str], list[int]] = {}
        self.costs: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.durations = Histogram(DURATION)
        self.first_content = Histogram(FIRST_CONTENT)
        self.shared = 0

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Add up; always called by the same thread."""
        requests = Counter([(one.endpoint, one.status, one.ending._value_) for one in outcomes])
        for request, n in requests.items():
            self.requests[request] += n
        durations, first_content = self.durations.observe, self.first_content.observe
        attempts: list[tuple[str, str, str]] = []
        for one in outcomes:
            if one.rejected:
                self.rejected[one.rejected] += 1
            provider = one.provider
            if not provider:
                continue
            # It was asked for this, or another request's answer from it was shared.
            ending = one.ending
            for attempt in one.attempts:
                result = result_of(attempt, ending)
                attempts.append((attempt.provider, attempt.model, result))
                if attempt.hedge:
                    self.hedges[result] += 1
            if one.shared:
                self.shared += 1
            durations(provider, one.duration)
            first = one.first_content_after
            if first is not None:
                first_content(provider, first)
            usage = one.usage
            if usage is not None:
                target = provider, one.model
                tokens = self.tokens.get(target)
                if tokens is None:
                    tokens = self.tokens[target] = [0, 0, 0, 0]
                tokens[0] += usage.prompt_tokens
                tokens[1] += usage.completion_tokens
                if usage.cached_tokens:
                    tokens[2] += usage.cached_tokens
                if usage.reasoning_tokens:
                    tokens[3] += usage.reasoning_tokens
                if one.cost is not None:
                    self.costs[target] += one.cost
        for tried, n in Counter(attempts).items():
            self.attempts[tried] += n

    def snapshot(
        self,
        gateway: Gateway,
        now: float,
        *,
        connections: int,
        recorder: Records | None,
        log_dropped: int,
        gauges: Mapping[str, tuple[str, float]] = {},
    ) -> Snapshot:
        """What :func:`written` makes a page of, in any thread. Called itself on the event loop's, whose the gateway is.

        ``gauges``: more of them, with their helps, by name without the prefix.
        """
        targets = gateway.shared.router.statuses(now)
        values = _values(gateway, now, connections, recorder, log_dropped)
        values += [Value(name, help, value, over=_over(name)) for name, (help, value) in gauges.items()]
        return Snapshot(self, targets, values)


def written(snapshot: Snapshot) -> bytes:
    """The page."""
    # prometheus_client takes 70 ms to import, most of it a web server: only who is scraped pays for it.
    from gwproto_ops.exposition import exposition

    return exposition(*snapshot)


def _over(gauge: str) -> Literal["max", "min"]:
    """Processes read one configuration: the one that is furthest behind, or had the most trouble, tells of all."""
    return "min" if gauge.endswith("_timestamp_seconds") else "max"


def result_of(attempt: AttemptRecord, ending: Ending) -> str:
    """How an attempt went: its class of failure, or

    ``ok`` (it served), ``lost`` (another one was faster), ``dropped`` (the client left, or the gateway was stopped).
    """
    if attempt.failure is not None:
        return attempt.failure
    if attempt.lost:
        return "lost"
    return "ok" if ending is _COMPLETED else "dropped"


def _values(
    gateway: Gateway, now: float, connections: int, recorder: Records | None, log_dropped: int
) -> list[Value]:
    statistics = gateway.statistics(now)
    values = [
        Value("requests_in_flight", "Chat completions begun and not finished.", statistics.in_flight),
        Value(
            "draining", "1 while the process is stopping.", statistics.draining_for is not None, over="max"
        ),
        Value("open_connections", "Connections of clients.", connections),
        Value(
            "access_log_lines_dropped_total",
            "Lines that the access log's output was too slow for.",
            log_dropped,
            counter=True,
        ),
    ]
    if recorder is not None:
        values += [
            Value("record_queue_length", "Records that wait to be written.", recorder.waiting),
            Value(
                "records_written_total", "Records written to the database.", recorder.written, counter=True
            ),
            Value(
                "records_dropped_total", "Records lost: the queue was full.", recorder.dropped, counter=True
            ),
            Value(
                "store_failing", "1 while the database cannot be written.", bool(recorder.failed), over="max"
            ),
        ]
    return values

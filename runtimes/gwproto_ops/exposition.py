"""Prometheus' text format 0.0.4, which ``prometheus_client`` writes. Loaded by the first scrape."""

import platform
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Literal

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gwproto.routing.status import TargetStatus
from gwproto_ops.metrics import Histogram, Metrics, Value

_KINDS = ("prompt", "completion", "cached", "reasoning")  # in the order of Metrics.tokens
_STATUSES = ("available", "degraded", "cooldown", "half_open", "exhausted")
_USABLE = ("available", "degraded")
_OVER: dict[str, Literal["min"]] = {"process_start_time_seconds": "min", "process_max_fds": "min"}
_process = ProcessCollector(registry=None)  # reads /proc; nothing where there is none


def exposition(
    metrics: Metrics,
    targets: Sequence[TargetStatus],
    values: Sequence[Value],
    process: Sequence[Value] | None = None,
) -> bytes:
    """The whole page. ``process``: what :func:`of_process` gives, or several of them together."""
    plain = [_plain(f"gwproto_{value.name}", value) for value in values]
    own = [_plain(value.name, value) for value in (of_process() if process is None else process)]
    return generate_latest(_Page([*_counted(metrics), *_of_targets(targets), *plain, _build(), *own]))


def of_process() -> list[Value]:
    """Memory, CPU and open files, by their whole names."""
    return [
        Value(one.name, family.documentation, one.value, family.type == "counter", _OVER.get(one.name, "sum"))
        for family in _process.collect()
        for one in family.samples
    ]


class _Page(Collector):
    """One scrape: not registered anywhere, so that nothing of another library's is on the page."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counted(metrics: Metrics) -> Iterator[Metric]:
    # Copies: the thread that counts may add a label meanwhile.
    requests = metrics.requests.copy()
    yield _counter(
        "requests",
        "Requests by endpoint (empty: an unknown one), status sent and how they ended.",
        ("endpoint", "status", "ending"),
        [((endpoint, str(status), ending), n) for (endpoint, status, ending), n in requests.items()],
    )
    yield _counter(
        "attempts",
        "Tries of providers by their result: ok, lost, dropped, or the class of failure.",
        ("provider", "model", "result"),
        metrics.attempts.copy().items(),
    )
    yield _counter(
        "hedges",
        "Second attempts beside a slow one, by their result.",
        ("result",),
        [((result,), n) for result, n in metrics.hedges.copy().items()],
    )
    yield _counter(
        "shared_answers",
        "Requests that got another one's answer (single flight).",
        (),
        [((), metrics.shared)],
    )
    yield _counter(
        "rejected_keys",
        "Requests whose client key was not accepted.",
        ("reason",),
        [((reason,), n) for reason, n in metrics.rejected.copy().items()],
    )
    yield _counter(
        "tokens",
        "Tokens that providers reported. Cached ones are among prompt's, reasoning's among completion's.",
        ("provider", "model", "kind"),
        [
            ((*target, kind), n)
            for target, tokens in metrics.tokens.copy().items()
            for kind, n in zip(_KINDS, tokens, strict=True)
        ],
    )
    yield _counter(
        "cost_dollars",
        "What the tokens cost by the catalog's prices, in US dollars.",
        ("provider", "model"),
        metrics.costs.copy().items(),
    )
    yield _histogram(
        "request_duration_seconds", "From a chat completion's head to its end.", metrics.durations
    )
    yield _histogram(
        "first_content_seconds",
        "From a chat completion's head to the first content sent, failed attempts included.",
        metrics.first_content,
    )


def _of_targets(targets: Sequence[TargetStatus]) -> Iterator[Metric]:
    labels = ("target", "provider", "model")
    usable = GaugeMetricFamily("gwproto_target_available", "1 if the target takes turns.", labels=labels)
    cooldown = GaugeMetricFamily(
        "gwproto_target_cooldown_seconds", "For how long the target is out of rotation yet.", labels=labels
    )
    busy = GaugeMetricFamily("gwproto_target_in_flight", "Attempts under way at the target.", labels=labels)
    headroom = GaugeMetricFamily(
        "gwproto_target_headroom_ratio", "Part of the target's known limits that is left.", labels=labels
    )
    standing = {(one.provider, status): 0 for one in targets for status in _STATUSES}
    for one in targets:
        where = (one.target, one.provider, one.upstream)
        usable.add_metric(where, one.status in _USABLE)
        cooldown.add_metric(where, one.cooldown_left)
        busy.add_metric(where, one.in_flight)
        headroom.add_metric(where, one.headroom)
        standing[one.provider, one.status] += 1
    of_providers = GaugeMetricFamily(
        "gwproto_targets", "Targets of a provider by their status.", labels=("provider", "status")
    )
    for (provider, status), n in standing.items():
        of_providers.add_metric((provider, status), n)
    yield from (usable, cooldown, busy, headroom, of_providers)


def _build() -> Metric:
    build = GaugeMetricFamily(
        "gwproto_build_info", "Which version this is; always 1.", labels=("version", "python")
    )
    build.add_metric((_version(), platform.python_version()), 1)
    return build


@cache
def _version() -> str:
    try:
        return version("gwproto")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


def _counter(
    name: str, help: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = CounterMetricFamily(f"gwproto_{name}", help, labels=labels)
    for values, n in samples:
        family.add_metric(values, n)
    return family


def _histogram(name: str, help: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(f"gwproto_{name}", help, labels=("provider",))
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    for provider, counts in histogram.counts.copy().items():
        *buckets, total = counts.copy()
        family.add_metric((provider,), list(zip(bounds, accumulate(buckets), strict=True)), total)
    return family


def _plain(name: str, value: Value) -> Metric:
    family = CounterMetricFamily if value.counter else GaugeMetricFamily
    return family(name, value.help, value=value.value)

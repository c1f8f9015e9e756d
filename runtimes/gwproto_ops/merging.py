"""The figures of several workers on one page: counters added up, everything else as it is where it is worst.

A report is a :class:`~gwproto_ops.metrics.Snapshot` on its way to another process.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gwproto.routing.status import Status, TargetStatus
from gwproto_ops.metrics import Histogram, Metrics, Snapshot, Value
from gwproto_ops.workers.messages import Gathered

#: From good to bad.
_ORDER: tuple[Status, ...] = ("available", "degraded", "half_open", "exhausted", "cooldown")
_SEVERITY = {status: rank for rank, status in enumerate(_ORDER)}


class Report(Struct):
    """See :class:`~gwproto_ops.metrics.Metrics` for the first nine."""

    requests: dict[tuple[str, int, str], int]
    attempts: dict[tuple[str, str, str], int]
    hedges: dict[str, int]
    rejected: dict[str, int]
    tokens: dict[tuple[str, str], list[int]]
    costs: dict[tuple[str, str], float]
    durations: dict[str, list[float]]
    first_content: dict[str, list[float]]
    shared: int
    targets: list[TargetStatus]
    values: list[Value]
    process: list[Value]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Report).decode


def encoded(snapshot: Snapshot) -> bytes:
    """A report, in this process, whose memory and CPU are part of it."""
    from gwproto_ops.exposition import of_process  # see gwproto_ops.metrics.written

    metrics, targets, values = snapshot
    plain = [value._replace(value=float(value.value)) for value in values]  # some are bool
    return _encode(_report(metrics, list(targets), plain, of_process()))


def page_of_all(own: bytes, gathered: Gathered) -> bytes:
    """The page that a worker shows."""
    from gwproto_ops.exposition import exposition

    reports = [_decode(one) for one in (gathered.past, own, *gathered.reports) if one]
    values = [
        *_merged_values(value for report in reports for value in report.values),
        Value("workers", "Worker processes that serve.", gathered.workers),
        Value("workers_silent", "Of these, those whose figures are not up to date.", gathered.silent),
        Value("worker_restarts_total", "Worker processes that have ended.", gathered.restarts, counter=True),
    ]
    process = _merged_values(value for report in reports for value in report.process)
    targets = _merged_targets(target for report in reports for target in report.targets)
    return exposition(_merged_metrics(reports), targets, values, process)


def past(reports: Sequence[bytes]) -> bytes:
    """What is to be remembered of processes that report no more: their counters, together. Empty ones are none."""
    known = [_decode(one) for one in reports if one]
    counters = [value for report in known for value in report.values if value.counter]
    process = [value for report in known for value in report.process if value.counter]
    merged = _report(_merged_metrics(known), [], _merged_values(counters), _merged_values(process))
    return _encode(merged)


def _report(
    metrics: Metrics, targets: list[TargetStatus], values: list[Value], process: list[Value]
) -> Report:
    # Copies: the thread that counts may add a label meanwhile.
    return Report(
        requests=metrics.requests.copy(),
        attempts=metrics.attempts.copy(),
        hedges=metrics.hedges.copy(),
        rejected=metrics.rejected.copy(),
        tokens=metrics.tokens.copy(),
        costs=metrics.costs.copy(),
        durations=metrics.durations.counts.copy(),
        first_content=metrics.first_content.counts.copy(),
        shared=metrics.shared,
        targets=targets,
        values=values,
        process=process,
    )


def _merged_metrics(reports: Iterable[Report]) -> Metrics:
    merged = Metrics()
    for one in reports:
        for requests, n in one.requests.items():
            merged.requests[requests] += n
        for attempts, n in one.attempts.items():
            merged.attempts[attempts] += n
        for result, n in one.hedges.items():
            merged.hedges[result] += n
        for reason, n in one.rejected.items():
            merged.rejected[reason] += n
        for target, tokens in one.tokens.items():
            before = merged.tokens.get(target, [0] * len(tokens))
            merged.tokens[target] = [a + b for a, b in zip(before, tokens, strict=True)]
        for target, cost in one.costs.items():
            merged.costs[target] += cost
        _add(merged.durations, one.durations)
        _add(merged.first_content, one.first_content)
        merged.shared += one.shared
    return merged


def _add(histogram: Histogram, counts: dict[str, list[float]]) -> None:
    for label, more in counts.items():
        before = histogram.counts.get(label, [0.0] * len(more))
        histogram.counts[label] = [a + b for a, b in zip(before, more, strict=True)]


def _merged_values(values: Iterable[Value]) -> list[Value]:
    merged: dict[str, Value] = {}
    for value in values:
        before = merged.get(value.name)
        if before is None:
            merged[value.name] = value
        elif value.over == "sum":
            merged[value.name] = value._replace(value=before.value + value.value)
        else:
            pick = max if value.over == "max" else min
            merged[value.name] = value._replace(value=pick(before.value, value.value))
    return list(merged.values())


def _merged_targets(targets: Iterable[TargetStatus]) -> list[TargetStatus]:
    """Each as it is in the worker where it stands worst, with what is under way in all of them."""
    merged: dict[str, TargetStatus] = {}
    for one in targets:
        before = merged.get(one.target)
        if before is not None:
            one = replace(
                one,
                status=max(one.status, before.status, key=_SEVERITY.__getitem__),
                cooldown_left=max(one.cooldown_left, before.cooldown_left),
                headroom=min(one.headroom, before.headroom),
                in_flight=one.in_flight + before.in_flight,
            )
        merged[one.target] = one
    return list(merged.values())

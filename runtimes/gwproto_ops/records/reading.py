"""What the pages ask of the tables. Each question has a connection and a snapshot of its own."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeVar

import msgspec

from gwproto.queries import AnalyticsQuery, RequestsQuery, StatsQuery
from gwproto.routing.status import TargetStatus
from gwproto.values import Candidate
from gwproto_ops.records.answers import (
    Analytics,
    Day,
    Figures,
    Percentiles,
    Point,
    ProviderStats,
    Requests,
    Series,
    Stats,
)
from gwproto_ops.records.database import Database, Row
from gwproto_ops.records.figures import DAY, HOUR, Sums, add, decode, failures, judged, percentiles
from gwproto_ops.records.lines import Record
from gwproto_ops.records.record import read
from gwproto_ops.records.writing import Entry, read_pending, sliced

#: Days up to which a page has a point for each hour.
HOURLY = 2
#: Series in one page: those with most requests.
SERIES = 12
#: Worst first: a provider with several targets shows its best one's status.
_RANK = ("exhausted", "cooldown", "half_open", "degraded", "available")

_CURSOR = re.compile(r"r1-([0-9a-f]{1,15})")
_LINES = "SELECT id, line, decision, failed FROM gwproto_records"
_considered = msgspec.json.Decoder(tuple[Candidate, ...]).decode


class BadCursor(Exception):
    """A ``before`` that no page has given out."""


def requests(database: Database, query: RequestsQuery) -> Requests:
    """The latest records. Raises :class:`BadCursor`."""
    conditions: list[str] = []
    parameters: list[object] = []
    if query.before:
        cursor = _CURSOR.fullmatch(query.before)
        if cursor is None:
            raise BadCursor
        conditions.append("id < ?")
        parameters.append(int(cursor[1], 16))
    for name in ("project_id", "provider", "model", "label", "ending", "request_id", "status"):
        if value := getattr(query, name):
            conditions.append(f"{'key' if name == 'label' else name} = ?")
            parameters.append(value)
    if query.ending not in ("", "completed"):
        conditions.append("ending <> 'completed'")  # says that the index may be used
    if query.status not in (None, 200):
        conditions.append("status <> 200")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    wanted = 1 if query.request_id else query.limit + 1  # there is no second one, and no need to look for it
    with database.snapshot():
        rows = database.run(f"{_LINES}{where} ORDER BY id DESC LIMIT ?", (*parameters, wanted))
        page = rows[: query.limit]
        data = tuple(_records(database, page))
    more = len(rows) > query.limit
    return Requests(data=data, has_more=more, next=f"r1-{page[-1][0]:x}" if more else None)


def records(database: Database, since: float, projects: Sequence[str] = ()) -> Iterator[Sequence[Record]]:
    """Every record that began at ``since`` (wall) or later, oldest first, in pages: none is held for long."""
    after = 0
    while True:
        with database.snapshot():
            rows = database.run(
                f"{_LINES} WHERE id > ?{_since(projects)} LIMIT 1000", (after, since, *projects)
            )
            found = list(_records(database, rows))
        if not rows:
            return
        yield found
        after = rows[-1][0]


def count(database: Database, since: float, projects: Sequence[str] = ()) -> int:
    """How many :func:`records` there are."""
    where = _since(projects).partition(" ORDER")[0]
    ((number,),) = database.run(
        f"SELECT count(*) FROM gwproto_records WHERE id > ?{where}", (0, since, *projects)
    )
    return int(number)


def _since(projects: Sequence[str]) -> str:
    among = f" AND project_id IN ({', '.join('?' * len(projects))})" if projects else ""
    return f" AND at >= ?{among} ORDER BY id"


def _records(database: Database, rows: Iterable[Row]) -> Iterator[Record]:
    known: dict[int, tuple[Candidate, ...]] = {}
    for _, line, decision, failed in rows:
        considered: tuple[Candidate, ...] = ()
        if decision is not None:
            if decision not in known:
                found = database.run("SELECT considered FROM gwproto_decisions WHERE id = ?", (decision,))
                known[decision] = _considered(zlib.decompress(found[0][0])) if found else ()
            considered = known[decision]
        yield read(line, considered, msgspec.json.decode(failed) if failed else ())


def stats(
    database: Database, query: StatsQuery, live: Sequence[TargetStatus], now: float, epoch: float
) -> Stats:
    """``live``: how the targets stand at ``now`` (the gateway's clock, which ``epoch`` makes wall time)."""
    providers: dict[str, Sums] = {status.provider: {} for status in live}
    span, start, _ = _window(query.days, now + epoch)
    with database.snapshot():
        for _, _, provider, _, _, sums in _entries(database, span, ("attempt",), start):
            add(providers.setdefault(provider, {}), sums)
    return Stats(
        days=query.days,
        providers={
            name: _provider(sums, [status for status in live if status.provider == name], now + epoch)
            for name, sums in sorted(providers.items())
        },
    )


def _provider(sums: Sums, targets: Sequence[TargetStatus], wall: float) -> ProviderStats:
    best = max(targets, key=lambda target: (_RANK.index(target.status), target.score), default=None)
    found = failures(sums)
    failed, throttles = judged(found)
    successes = int(sums.get("successes", 0))
    left = 0.0 if best is None else best.cooldown_left
    return ProviderStats(
        status="removed" if best is None else best.status,
        reason=best.reason or None if best is not None else None,
        targets=len(targets),
        in_flight=sum([target.in_flight for target in targets]),
        cooldown_until=round(wall + left, 3) if left else 0,
        attempts=int(sums.get("attempts", 0)),
        successes=successes,
        throttles=throttles,
        failures=found,
        success_rate=successes / (successes + failed) if successes + failed else None,
        first_content_ms=_percentiles(sums, "f"),
        duration_ms=_percentiles(sums, "d"),
    )


def analytics(database: Database, query: AnalyticsQuery, wall: float) -> Analytics:
    span, start, width = _window(query.days, wall)
    end = int(wall) + 1
    wanted = {"provider": query.provider, "model": query.model, "project": query.project_id}
    buckets: dict[int, Sums] = {}
    names: dict[str, dict[str, Sums]] = {which: {} for which in wanted}
    points: dict[tuple[str, int], Sums] = {}
    with database.snapshot():
        for slice, at, *named, sums in _wanted(database, span, start, wanted):
            if at >= end:
                continue  # somebody's clock was wrong
            if slice in ("all", "cell"):
                _into(buckets, at, sums)
            for which, name in zip(wanted, named, strict=True):
                if slice == which or (slice == "cell" and not wanted[which]):
                    _into(names[which], name, sums)
                    if which == query.by:
                        _into(points, (name, at), sums)
    total: Sums = {}
    daily: dict[int, Sums] = {}
    for at, sums in buckets.items():
        add(total, sums)
        _into(daily, at - at % DAY, sums)
    for which, name in wanted.items():
        if name and total:
            names[which][name] = total
    if not query.by or wanted[query.by]:
        points = {(wanted.get(query.by, ""), at): sums for at, sums in buckets.items()}
    totals = figures(total)
    figured = {which: _figured(sums) for which, sums in names.items()}
    shown = list(figured[query.by])[:SERIES] if query.by else [""]
    return Analytics(
        days=query.days,
        project_id=query.project_id or None,
        provider=query.provider or None,
        model=query.model or None,
        from_=start,
        to=int(wall),
        bucket=span,
        total_requests=totals.requests,
        successful_requests=totals.successful,
        failed_requests=totals.failed,
        success_rate=totals.success_rate,
        totals=totals,
        providers=figured["provider"],
        models=figured["model"],
        projects=figured["project"],
        daily=tuple(
            [Day(*_numbers(daily.get(at, {})), date=_date(at)) for at in range(start - start % DAY, end, DAY)]
        ),
        series=tuple([Series(name, _points(points, name, range(start, end, width))) for name in shown]),
    )


def _points(known: Mapping[tuple[str, int], Sums], name: str, starts: range) -> tuple[Point, ...]:
    return tuple([Point(*_numbers(known.get((name, at), {})), at=at) for at in starts])


def _wanted(database: Database, span: str, start: int, wanted: Mapping[str, str]) -> Iterator[Entry]:
    """Without a filter, sums over all, by provider, by model and by project; with one, the cells that match."""
    if not any(wanted.values()):
        yield from _entries(database, span, ("all", *wanted), start)
        return
    columns = {"provider": "provider", "model": "model", "project": "project_id"}
    filters = [(columns[which], name) for which, name in wanted.items() if name]
    for entry in _entries(database, span, ("cell",), start, filters):
        # Those that wait are not filtered yet.
        if all(not name or name == found for name, found in zip(wanted.values(), entry[2:5], strict=True)):
            yield entry


K = TypeVar("K")


def _into(table: dict[K, Sums], key: K, sums: Sums) -> None:
    known = table.get(key)
    if known is None:
        table[key] = dict(sums)
    else:
        add(known, sums)


def _window(days: int, wall: float) -> tuple[Literal["hour", "day"], int, int]:
    """Which roll-ups to read, from when on, and their width: whole hours or days (UTC), the current one included."""
    now = int(wall)
    if days <= HOURLY:
        return "hour", now - now % HOUR - (days * 24 - 1) * HOUR, HOUR
    return "day", now - now % DAY - (days - 1) * DAY, DAY


def _entries(
    database: Database,
    span: str,
    slices: Sequence[str],
    start: int,
    filters: Sequence[tuple[str, str]] = (),
) -> Iterator[Entry]:
    """Roll-ups from ``start`` on, and what waits to be added to them."""
    where = "".join([f" AND {column} = ?" for column, _ in filters])
    for slice in slices:
        rows = database.run(
            "SELECT at, provider, model, project_id, figures FROM gwproto_rollups"
            f" WHERE span = ? AND slice = ? AND at >= ?{where}",
            (span, slice, start, *[value for _, value in filters]),
        )
        for at, provider, model, project, text in rows:
            yield slice, at, provider, model, project, decode(text)
    waiting = [
        entry for (text,) in database.run("SELECT sums FROM gwproto_pending") for entry in read_pending(text)
    ]
    for (slice, hour, provider, model, project), sums in sliced(waiting).items():
        at = hour if span == "hour" else hour - hour % DAY
        if slice in slices and at >= start:
            yield slice, at, provider, model, project, sums


def figures(sums: Sums) -> Figures:
    return Figures(*_numbers(sums))


def _figured(names: Mapping[str, Sums]) -> dict[str, Figures]:
    """By name, those with most requests first."""
    found = {name: figures(sums) for name, sums in names.items()}
    return dict(sorted(found.items(), key=lambda item: (-item[1].requests, item[0])))


def _date(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


_Numbers = tuple[
    int, int, int, int, int, float | None, int, int, int, int, float, Percentiles | None, Percentiles | None
]


def _numbers(sums: Sums) -> _Numbers:
    """The fields of :class:`Figures`, in its order."""
    if not sums:
        return _NOTHING
    get = sums.get
    successful, refused, closed = [int(get(name, 0)) for name in ("completed", "refused", "client_closed")]
    failed = int(get("failed", 0) + get("truncated", 0) + get("abandoned", 0))
    tried = successful + failed
    return (
        tried + refused + closed,
        successful,
        failed,
        refused,
        closed,
        successful / tried if tried else None,
        int(get("prompt", 0)),
        int(get("completion", 0)),
        int(get("cached", 0)),
        int(get("reasoning", 0)),
        round(get("cost", 0.0), 9),
        _percentiles(sums, "f"),
        _percentiles(sums, "d"),
    )


_NOTHING: _Numbers = (0, 0, 0, 0, 0, None, 0, 0, 0, 0, 0.0, None, None)


def _percentiles(sums: Sums, which: str) -> Percentiles | None:
    found = percentiles(sums, which, (0.50, 0.95, 0.99))
    return None if found is None else Percentiles(*found)

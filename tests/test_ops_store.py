"""The store, on SQLite and on a real PostgreSQL server: the same tests for both."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import asdict, replace

from gwproto import ConfigurationError, Ending, Outcome
from gwproto.queries import AnalyticsQuery, RequestsQuery, StatsQuery
from gwproto.routing.status import Status, TargetStatus
from gwproto.values import Candidate, Decision
from gwproto_ops.records import reading, schema, writing
from gwproto_ops.records.answers import Analytics, Figures
from gwproto_ops.records.database import Database, Source, Unavailable
from gwproto_ops.records.lines import Record
from gwproto_ops.records.locating import locate
from gwproto_ops.records.record import line
from gwproto_ops.records.schema import migrate
from gwproto_ops.records.writing import OTHERS, Writer
from support.outcomes import CONSIDERED, NOON, PLAIN, finished, ids, random_outcomes
from support.postgres import Server, postgres

__all__ = ["postgres"]

NOW = NOON + 1800.0
HOUR, DAY = 3600, 86400


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.sockets)])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "sqlite":
        found = locate(f"sqlite:///{tmp_path}/records.db")
    else:
        server: Server = request.getfixturevalue("postgres")
        found = locate(server.url())
    assert found is not None
    return found


@pytest.fixture
def writer(source: Source) -> Iterator[Writer]:
    database = source.connect()
    migrate(database)
    yield Writer(database, 30)
    database.close()


@pytest.fixture
def reader(writer: Writer, source: Source) -> Iterator[Database]:
    database = source.connect(readonly=True)
    yield database
    database.close()


def write(writer: Writer, outcomes: Sequence[Outcome], size: int = 100) -> None:
    for start in range(0, len(outcomes), size):
        writer.write(finished(outcomes[start : start + size]))


def found_ids(page: Iterable[Record]) -> list[str]:
    return [record.request_id for record in page]


# Requests


def test_what_was_written_is_read_with_its_decision(writer: Writer, reader: Database) -> None:
    writer.write(finished([PLAIN]))
    page = reading.requests(reader, RequestsQuery())
    (record,) = page.data
    about = asdict(record)
    assert about.pop("candidates") == PLAIN.candidates
    assert about == asdict(line(PLAIN))
    assert (page.has_more, page.next) == (False, None)


def test_the_latest_come_first_and_pages_hold_each_once(writer: Writer, reader: Database) -> None:
    outcomes = random_outcomes(130)
    write(writer, outcomes)
    seen: list[str] = []
    before = ""
    sizes = []
    while True:
        page = reading.requests(reader, RequestsQuery(limit=50, before=before))
        sizes.append(len(page.data))
        seen += found_ids(page.data)
        write(writer, [replace(PLAIN, request_id="f" * 32)])  # what comes meanwhile moves nothing
        if not page.has_more:
            break
        assert page.next is not None
        before = page.next
    assert seen == ids(outcomes)[::-1]
    assert sizes == [50, 50, 30]
    assert page.next is None


@pytest.mark.parametrize("cursor", ["5", "r1-", "r1-xyz", "r2-5", "r1-5;--", "r1-" + "f" * 16, "r1-\uff15"])
def test_a_cursor_that_no_page_gave_is_refused(reader: Database, cursor: str) -> None:
    with pytest.raises(reading.BadCursor):
        reading.requests(reader, RequestsQuery(before=cursor))


def test_filters(writer: Writer, reader: Database) -> None:
    outcomes = random_outcomes(300)
    write(writer, outcomes)
    checks: list[tuple[RequestsQuery, Callable[[Outcome], bool]]] = [
        (RequestsQuery(project_id="p1"), lambda o: o.project_id == "p1"),
        (RequestsQuery(provider="beta"), lambda o: o.provider == "beta"),
        (RequestsQuery(model="gamma-big"), lambda o: o.model == "gamma-big"),
        (RequestsQuery(label="ci"), lambda o: o.key == "ci"),
        *[(RequestsQuery(ending=e.value), lambda o, e=e: o.ending is e) for e in Ending],
        (RequestsQuery(status=200), lambda o: o.status == 200),
        (RequestsQuery(status=502), lambda o: o.status == 502),
        (RequestsQuery(request_id=outcomes[7].request_id), lambda o: o is outcomes[7]),
        (
            RequestsQuery(provider="beta", label="ci", ending="completed"),
            lambda o: o.provider == "beta" and o.key == "ci" and o.ending is Ending.COMPLETED,
        ),
    ]
    for query, wanted in checks:
        expected = ids([outcome for outcome in outcomes if wanted(outcome)])[::-1]
        assert expected
        assert found_ids(reading.requests(reader, replace(query, limit=500)).data) == expected, query


@pytest.mark.parametrize(
    "text", ["%", "_", "' OR 1=1 --", '"; DROP TABLE gwproto_records; --', "?", "%s", "bet%"]
)
def test_wildcards_and_sql_are_only_text(writer: Writer, reader: Database, text: str) -> None:
    strange = replace(PLAIN, provider=text, model=text, key=text, request_id="a" * 32)
    writer.write(finished([PLAIN, strange]))
    for query in (RequestsQuery(provider=text), RequestsQuery(model=text), RequestsQuery(label=text)):
        (record,) = reading.requests(reader, query).data
        assert (record.request_id, record.provider, record.model, record.key) == ("a" * 32, text, text, text)
    assert reading.analytics(reader, AnalyticsQuery(provider=text), NOW).total_requests == 1
    assert reading.analytics(reader, AnalyticsQuery(model=text), NOW).total_requests == 1


def test_what_no_database_could_hold_is_held(writer: Writer, reader: Database) -> None:
    hostile = "\0\ud800" + "x" * 1_000_000
    writer.write(
        finished(
            [
                replace(
                    PLAIN, model_asked=hostile, method=hostile, error=hostile, key=hostile, project_id=hostile
                )
            ]
        )
    )
    (record,) = reading.requests(reader, RequestsQuery()).data
    shown = "\ufffd\ufffd" + "x" * 198
    assert {record.model_asked, record.method, record.error, record.key, record.project_id} == {shown}
    assert list(reading.analytics(reader, AnalyticsQuery(), NOW).projects) == [shown]


def test_a_decision_is_kept_once(writer: Writer, reader: Database, source: Source) -> None:
    other = (*CONSIDERED, Candidate("delta/new", "not its turn"))
    outcomes = [
        PLAIN,
        replace(PLAIN, decision=Decision(CONSIDERED, "gamma/tiny")),
        replace(
            PLAIN, decision=Decision(CONSIDERED[:1] + CONSIDERED[1:], "beta/small")
        ),  # equal, another object
        replace(PLAIN, decision=Decision(other)),
        replace(PLAIN, decision=None),
    ]
    writer.write(finished(outcomes))
    writer.write(finished(outcomes))
    again = Writer(writer.database, 30)  # of another process
    again.write(finished(outcomes))
    assert reader.run("SELECT count(*) FROM gwproto_decisions") == [(2,)]
    page = reading.requests(reader, RequestsQuery())
    assert [record.candidates for record in page.data] == [o.candidates for o in outcomes[::-1]] * 3


def test_records_in_pages_for_the_export(
    writer: Writer, reader: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = random_outcomes(2300)
    write(writer, outcomes, 500)
    pages = list(reading.records(reader, 0.0))
    assert [len(page) for page in pages] == [1000, 1000, 300]
    assert found_ids(record for page in pages for record in page) == ids(outcomes)
    since = outcomes[2000].at
    wanted = [o for o in outcomes[2000:] if o.project_id in ("p1", "p2")]
    found = [record for page in reading.records(reader, since, ("p1", "p2")) for record in page]
    assert found_ids(found) == ids(wanted)
    assert reading.count(reader, since, ("p1", "p2")) == len(wanted)
    assert reading.count(reader, 0.0) == 2300


# Analytics


def tally(outcomes: Iterable[Outcome]) -> dict[str, object]:
    """The figures of outcomes, but for percentiles, counted in the plainest way."""
    of: dict[Ending, int] = defaultdict(int)
    tokens = [0, 0, 0]
    cost = 0.0
    for outcome in outcomes:
        of[outcome.ending] += 1
        cost += outcome.cost or 0
        if outcome.usage is not None:
            tokens[0] += outcome.usage.prompt_tokens
            tokens[1] += outcome.usage.completion_tokens
            tokens[2] += outcome.usage.cached_tokens or 0
    good = of[Ending.COMPLETED]
    bad = of[Ending.FAILED] + of[Ending.TRUNCATED] + of[Ending.ABANDONED]
    return {
        "requests": sum(of.values()),
        "successful": good,
        "failed": bad,
        "refused": of[Ending.REFUSED],
        "client_closed": of[Ending.CLIENT_CLOSED],
        "success_rate": good / (good + bad) if good + bad else None,
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "cached_tokens": tokens[2],
        "reasoning_tokens": 0,
        "cost": pytest.approx(cost),
    }


def counted(figures: Figures) -> dict[str, object]:
    return {name: getattr(figures, name) for name in Figures.__struct_fields__[:-2]}


GROUPS: dict[str, Callable[[Outcome], str]] = {
    "provider": lambda o: o.provider,
    "model": lambda o: o.model,
    "project": lambda o: o.project_id,
    "": lambda _: "",
}


def tallies(outcomes: Iterable[Outcome], key: Callable[[Outcome], object]) -> dict[object, dict[str, object]]:
    groups: dict[object, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[key(outcome)].append(outcome)
    return {name: tally(group) for name, group in groups.items()}


def check(answer: Analytics, outcomes: Sequence[Outcome], width: int, by: str) -> None:
    """``answer`` is what ``outcomes``, which are all that it should tell of, come to."""
    assert counted(answer.totals) == tally(outcomes)
    assert answer.total_requests == len(outcomes)
    told = {"provider": answer.providers, "model": answer.models, "project": answer.projects}
    for name, group in told.items():
        assert {key: counted(figures) for key, figures in group.items()} == tallies(outcomes, GROUPS[name])
        counts = [figures.requests for figures in group.values()]
        assert counts == sorted(counts, reverse=True)
    nothing = tally(())
    start, end = answer.from_, int(NOW) + 1
    days = tallies(outcomes, lambda o: o.at // DAY * DAY)
    assert [counted(day) for day in answer.daily] == [
        days.get(at, nothing) for at in range(start - start % DAY, end, DAY)
    ]
    assert answer.daily[-1].date == "2027-01-15"
    assert [series.name for series in answer.series] == (list(told[by]) if by else [""])
    buckets = tallies(outcomes, lambda o: (GROUPS[by](o), o.at // width * width))
    for series in answer.series:
        assert [point.at for point in series.points] == list(range(start, end, width))
        assert [counted(point) for point in series.points] == [
            buckets.get((series.name, at), nothing) for at in range(start, end, width)
        ]


@pytest.mark.parametrize("rolled", ["all", "half", "nothing"])
def test_analytics_are_what_the_requests_come_to(writer: Writer, reader: Database, rolled: str) -> None:
    outcomes = random_outcomes(400, start=NOW - 5 * DAY, end=NOW)
    write(writer, outcomes[:200])
    if rolled != "nothing":
        writer.roll_up()
    write(writer, outcomes[200:])
    if rolled == "all":
        writer.roll_up()
    for query in (
        AnalyticsQuery(days=1),
        AnalyticsQuery(days=2, by="provider"),
        AnalyticsQuery(days=3, by="model"),
        AnalyticsQuery(days=7, by="project"),
        AnalyticsQuery(days=366),
        AnalyticsQuery(days=4, project_id="p1", by="model"),
        AnalyticsQuery(days=2, provider="beta"),
        AnalyticsQuery(days=5, model="gamma-big", project_id="p2", by="provider"),
        AnalyticsQuery(days=5, project_id="nobody"),
    ):
        answer = reading.analytics(reader, query, NOW)
        width = HOUR if query.days <= 2 else DAY
        last = int(NOW) - int(NOW) % width
        count = query.days * 24 if query.days <= 2 else query.days
        assert answer.from_ == last - (count - 1) * width
        assert (answer.to, answer.bucket) == (int(NOW), "hour" if query.days <= 2 else "day")
        mine = [
            o
            for o in outcomes
            if o.at >= answer.from_
            and (not query.project_id or o.project_id == query.project_id)
            and (not query.provider or o.provider == query.provider)
            and (not query.model or o.model == query.model)
        ]
        assert bool(mine) is (query.project_id != "nobody")
        check(answer, mine, width, query.by)
        assert (answer.project_id, answer.provider, answer.model) == (
            query.project_id or None,
            query.provider or None,
            query.model or None,
        )


def test_percentiles_of_all_of_it(writer: Writer, reader: Database) -> None:
    outcomes = random_outcomes(1000, start=NOW - DAY / 2, end=NOW)
    write(writer, outcomes)
    writer.roll_up()
    totals = reading.analytics(reader, AnalyticsQuery(days=7), NOW).totals
    durations = sorted(o.duration * 1e3 for o in outcomes if o.ending is Ending.COMPLETED)
    firsts = sorted(o.first_content_after * 1e3 for o in outcomes if o.first_content_after is not None)
    for found, exact in ((totals.duration_ms, durations), (totals.first_content_ms, firsts)):
        assert found is not None
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            assert getattr(found, name) == pytest.approx(exact[math.ceil(share * len(exact)) - 1], rel=0.1)
    assert reading.analytics(reader, AnalyticsQuery(project_id="nobody"), NOW).totals.duration_ms is None


def test_series_are_of_those_with_most_requests(writer: Writer, reader: Database) -> None:
    write(writer, [replace(PLAIN, project_id=f"p{n}") for n in range(15) for _ in range(n + 1)])
    answer = reading.analytics(reader, AnalyticsQuery(by="project"), NOW)
    assert [series.name for series in answer.series] == [f"p{n}" for n in range(14, 2, -1)]
    assert len(answer.projects) == 15


def test_other_pages_are_kept_only_where_a_key_was_rejected_and_are_no_chat(
    writer: Writer, reader: Database
) -> None:
    writer.write(finished([replace(PLAIN, endpoint="/v1/analytics", rejected="unknown", client="::1")]))
    assert reading.analytics(reader, AnalyticsQuery(), NOW).total_requests == 0
    assert reading.requests(reader, RequestsQuery()).data[0].client == "::1"


def test_a_new_project_for_every_request_ends_in_one_row(writer: Writer, reader: Database) -> None:
    write(writer, [replace(PLAIN, project_id=f"p{n}") for n in range(writing.PROJECTS + 40)])
    writer.roll_up()
    again = Writer(writer.database, 30)  # after a restart
    again.write(
        finished(
            [replace(PLAIN, project_id="p1"), replace(PLAIN, project_id="new"), replace(PLAIN, project_id="")]
        )
    )
    again.roll_up()
    projects = reading.analytics(reader, AnalyticsQuery(days=1), NOW).projects
    assert len(projects) == writing.PROJECTS + 2
    assert {name: projects[name].requests for name in (OTHERS, "p1", "")} == {OTHERS: 41, "p1": 2, "": 1}
    again.write(finished([replace(PLAIN, at=NOON + DAY, project_id="new")]))  # another day
    assert "new" in reading.analytics(reader, AnalyticsQuery(days=1), NOON + DAY).projects


def test_two_processes_add_to_the_same_rows(writer: Writer, reader: Database, source: Source) -> None:
    database = source.connect()
    migrate(database)
    other = Writer(database, 30)
    outcomes = random_outcomes(200, start=NOW - DAY, end=NOW)
    for start in range(0, 200, 20):
        (writer if start % 40 else other).write(finished(outcomes[start : start + 20]))
        (writer if start % 60 else other).roll_up()
    other.roll_up()
    database.close()
    assert reader.run("SELECT count(*) FROM gwproto_pending") == [(0,)]
    check(reading.analytics(reader, AnalyticsQuery(days=3), NOW), outcomes, DAY, "")


# Stats


def target(name: str, status: Status, score: float, **more: float) -> TargetStatus:
    provider, _, model = name.partition("/")
    return TargetStatus(
        target=name,
        provider=provider,
        model=model,
        upstream=model,
        key=provider,
        status=status,
        reason="" if status == "available" else f"{status} for a reason",
        cooldown_left=more.get("left", 0.0),
        score=score,
        attempts=0,
        successes=0,
        failures=0,
        throttles=0,
        success_rate=None,
        avg_latency_ms=None,
        p90_latency_ms=None,
        p99_latency_ms=None,
        ttft_ms=None,
        headroom=1.0,
        in_flight=int(more.get("in_flight", 0)),
        consecutive_failures=0,
        daily_used=0,
        daily_limit=0,
    )


@pytest.mark.parametrize("rolled", [True, False])
def test_stats(writer: Writer, reader: Database, rolled: bool) -> None:
    throttled = replace(PLAIN.attempts[0], failure="rate_minute")
    writer.write(finished([PLAIN, PLAIN, replace(PLAIN, attempts=(throttled, PLAIN.attempts[1]))]))
    writer.write(finished([replace(PLAIN, at=NOON - 2 * DAY)]))
    if rolled:
        writer.roll_up()
    live = [
        target("alpha/a", "cooldown", 0.1, left=30.5, in_flight=1),
        target("alpha/b", "exhausted", 0.9, in_flight=2),
        target("gamma/c", "available", 0.9),
    ]
    answer = reading.stats(reader, StatsQuery(days=1), live, 100.0, NOW - 100.0)
    assert list(answer.providers) == ["alpha", "beta", "gamma"]
    alpha, beta, gamma = answer.providers.values()
    assert (alpha.status, alpha.reason, alpha.targets, alpha.in_flight, alpha.cooldown_until) == (
        "cooldown",
        "cooldown for a reason",
        2,
        3,
        NOW + 30.5,
    )
    assert (alpha.attempts, alpha.successes, alpha.throttles, alpha.failures, alpha.success_rate) == (
        3,
        0,
        1,
        {"rate_minute": 1, "server": 2},
        0.0,
    )
    assert alpha.duration_ms is None
    assert (beta.status, beta.reason, beta.targets, beta.attempts, beta.success_rate) == (
        "removed",
        None,
        0,
        3,
        1.0,
    )
    assert beta.first_content_ms is not None
    assert beta.first_content_ms.p50 == pytest.approx(250, rel=0.1)
    assert (gamma.status, gamma.reason, gamma.attempts, gamma.success_rate) == ("available", None, 0, None)
    assert reading.stats(reader, StatsQuery(days=3), live, 100.0, NOW - 100.0).providers["beta"].attempts == 4


# Tidying up, and versions


def test_what_is_too_old_goes(writer: Writer, reader: Database) -> None:
    outdated = random_outcomes(50, start=NOW - 31.5 * DAY, end=NOW - 30.5 * DAY)
    old = [replace(one, decision=Decision((Candidate(one.request_id, ""),))) for one in outdated]
    ancient = replace(PLAIN, at=NOW - 402 * DAY, request_id="e" * 32)
    write(writer, [ancient, *old, PLAIN])
    writer.roll_up()
    assert writer.tidy(NOW)
    assert not writer.tidy(NOW)
    assert found_ids(reading.requests(reader, RequestsQuery()).data) == [PLAIN.request_id]
    assert reader.run("SELECT count(*) FROM gwproto_decisions") == [(1,)]
    assert reading.analytics(reader, AnalyticsQuery(days=366), NOW).total_requests == 51
    spans = reader.run("SELECT span, min(at) FROM gwproto_rollups GROUP BY span ORDER BY span")
    assert spans == [("day", int(old[0].at // DAY) * DAY), ("hour", int(NOON))]


def test_records_go_in_small_steps(writer: Writer, reader: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "STEP", 20)
    write(writer, random_outcomes(50, start=NOW - 40 * DAY, end=NOW - 35 * DAY))
    left = []
    while writer.tidy(NOW):
        left += reader.run("SELECT count(*) FROM gwproto_records")
    assert left == [(30,), (10,), (0,)]
    assert not writer.tidy(NOW)


def test_an_explanation_that_is_still_in_use_stays(writer: Writer, reader: Database) -> None:
    writer.write(finished([replace(PLAIN, at=NOW - 4 * DAY)]))
    writer.write(finished([replace(PLAIN, at=NOW - 0.5 * DAY)]))
    writer.tidy(NOW)
    assert reading.requests(reader, RequestsQuery()).data[0].candidates == PLAIN.candidates


def test_tables_are_brought_to_the_present(
    writer: Writer, reader: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(finished([PLAIN]))
    migrate(writer.database)  # nothing to do
    assert reader.run("SELECT version FROM gwproto_schema") == [(len(schema.STEPS),)]
    more = (
        "ALTER TABLE gwproto_records ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",
        "CREATE TABLE gwproto_x (id {id})",
    )
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, more))
    migrate(writer.database)
    assert writer.database.run("SELECT request_id, colour FROM gwproto_records") == [
        (PLAIN.request_id, "red")
    ]
    assert writer.database.run("SELECT version FROM gwproto_schema") == [(len(schema.STEPS),)]


def test_a_step_that_fails_changes_nothing(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    version = len(schema.STEPS)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE gwproto_x (id {id})", "no SQL")))
    with pytest.raises(Unavailable):
        migrate(writer.database)
    monkeypatch.undo()
    migrate(writer.database)
    assert writer.database.run("SELECT version FROM gwproto_schema") == [(version,)]
    writer.database.run("CREATE TABLE gwproto_x (id INTEGER)")


def test_a_newer_version_is_left_alone(writer: Writer) -> None:
    writer.database.run("UPDATE gwproto_schema SET version = 99")
    with pytest.raises(Unavailable, match="made by a newer gwproto: its schema has version 99"):
        migrate(writer.database)


def test_a_reader_cannot_write(writer: Writer, reader: Database) -> None:
    with pytest.raises(Unavailable):
        reader.run("DELETE FROM gwproto_records")


# Where it is


def test_urls(tmp_path: Path) -> None:
    assert locate("") is None
    wrong = ("mysql://root:canary@db/x", "records.db", "SQLITE:///x", "sqlite://", "sqlite:///")
    for url in (*wrong, "sqlite:///:memory:", "sqlite:///a/"):
        with pytest.raises(ConfigurationError) as caught:
            locate(url)
        ((path, problem),) = caught.value.problems
        assert path == "analytics.database"
        assert "canary" not in problem
        assert "sqlite:///" in problem


def test_a_relative_path_is_in_the_state_directory(tmp_path: Path) -> None:
    relative = locate("sqlite:///deep/er/records.db", str(tmp_path / "state"))
    by_variable = locate("sqlite:///other.db", "", {"XDG_STATE_HOME": str(tmp_path)})
    assert relative is not None
    assert by_variable is not None
    for source, path in (
        (relative, tmp_path / "state" / "deep" / "er" / "records.db"),
        (by_variable, tmp_path / "gwproto" / "other.db"),
    ):
        source.connect().close()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:canary@db.example/records",
        "postgresql://me@db.example/records?password=canary",
        "postgres://db.example/records?user=canary&password=canary",
    ],
)
def test_a_password_is_shown_nowhere(url: str) -> None:
    source = locate(url)
    assert str(source) == "postgresql://db.example/records"
    assert "canary" not in repr(source)


def test_a_url_that_cannot_be_understood_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        locate("postgresql://me:can@ry@[db/x?nonsense")
    assert str(caught.value) == "analytics.database: is no URL that PostgreSQL's client understands"


def test_psycopg_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "gwproto_ops.records.postgres", raising=False)
    with pytest.raises(ConfigurationError, match=r"needs psycopg: pip install 'gwproto\[postgres\]'"):
        locate("postgresql://db/x")


def test_answers_have_the_shape_that_their_types_describe(writer: Writer, reader: Database) -> None:
    writer.write(finished([PLAIN]))
    answers = (
        reading.analytics(reader, AnalyticsQuery(by="model"), NOW),
        reading.requests(reader, RequestsQuery()),
        reading.stats(reader, StatsQuery(), [target("beta/x", "degraded", 0.5)], 0.0, NOW),
    )
    for answer in answers:
        text = msgspec.json.encode(answer)
        assert msgspec.json.decode(text, type=type(answer)) == answer
    schemas, components = msgspec.json.schema_components([type(answer) for answer in answers])
    assert [schema["$ref"] for schema in schemas] == [
        "#/$defs/Analytics",
        "#/$defs/Requests",
        "#/$defs/Stats",
    ]
    assert {"from", "to", "bucket", "daily", "series", "totals"} < set(components["Analytics"]["properties"])
    assert set(components["Day"]["required"]) == {*Figures.__struct_fields__, "date"}
    assert set(components["Point"]["required"]) == {*Figures.__struct_fields__, "at"}

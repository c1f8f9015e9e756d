"""Records, metrics and pages behind one object."""

import contextlib
import io
import json
import logging
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from gwproto import ConfigurationError, Delegate, Outcome
from gwproto.config import AnalyticsSettings, ServerSettings, Settings
from gwproto.queries import AnalyticsQuery, NoQuery, Query, RequestsQuery, StatsQuery
from gwproto_ops import access
from gwproto_ops.reloading import Reloads
from gwproto_ops.responses import Response
from gwproto_ops.telemetry import Telemetry
from support.conversation import START, answer, begin, body, completion, feed, gateway, head

NOTHING = NoQuery()


def settings(directory: Path | None = None, **changes: Any) -> Settings:
    database = "sqlite:///records.db" if directory else ""
    return Settings(
        server=ServerSettings(state_dir=str(directory or "")),
        analytics=structs.replace(AnalyticsSettings(database=database), **changes),
    )


def finished() -> Outcome:
    exchange, _ = begin(gateway(), body(project_id="shop"))
    feed(exchange, START, *answer(1, completion()))
    assert exchange.outcome is not None
    return structs.replace(exchange.outcome, at=time.time())  # what is older than a month is not kept


def attached(telemetry: Telemetry) -> Telemetry:
    telemetry.attach(gateway(), lambda: START, lambda: 3)
    return telemetry


def page(telemetry: Telemetry, name: str, query: Query = NOTHING) -> tuple[int, Any]:
    text = msgspec.json.encode(query).decode()
    made = telemetry.answer(name, text)
    status, headers, content = made() if callable(made) else made
    assert dict(headers)[b"content-length"] == b"%d" % len(content)
    return status, json.loads(content) if dict(headers)[b"content-type"] == b"application/json" else content


def test_what_is_recorded_is_in_the_store_when_it_is_closed(tmp_path: Path) -> None:
    telemetry = attached(Telemetry(settings(tmp_path)))
    outcome = finished()
    telemetry.record(outcome)
    assert telemetry.open
    telemetry.close()
    assert not telemetry.open

    later = attached(Telemetry(settings(tmp_path)))
    status, found = page(later, "requests", RequestsQuery())
    assert status == 200
    assert [one["request_id"] for one in found["data"]] == [outcome.request_id]
    assert [one["reason"] for one in found["data"][0]["candidates"]] == [""]
    assert page(later, "analytics", AnalyticsQuery(days=366))[0] == 200
    status, stats = page(later, "stats", StatsQuery())
    assert stats["providers"]["a"]["status"] == "available"
    later.close()


def test_without_a_store_there_are_metrics_and_no_records() -> None:
    telemetry = attached(Telemetry())
    assert not telemetry.open
    for query, name in (
        (RequestsQuery(), "requests"),
        (AnalyticsQuery(), "analytics"),
        (StatsQuery(), "stats"),
    ):
        status, refusal = page(telemetry, name, query)
        assert (status, refusal["error"]["code"]) == (503, "not_available")
    telemetry.record(finished())
    telemetry.close()
    status, text = page(telemetry, "metrics")
    assert status == 200
    assert (
        b'gwproto_requests_total{ending="completed",endpoint="/v1/chat/completions",status="200"} 1.0' in text
    )
    assert b"gwproto_open_connections 3.0" in text
    assert b"gwproto_records_written" not in text


@pytest.mark.parametrize("later", [False, True])
def test_a_request_has_one_line_in_the_log(tmp_path: Path, later: bool) -> None:
    stream, outcome = io.StringIO(), finished()
    with contextlib.ExitStack() as stack:
        if later:  # than the recorder has begun
            telemetry = attached(Telemetry(settings(tmp_path)))
            stack.enter_context(access.enabled(stream))
        else:
            stack.enter_context(access.enabled(stream))
            telemetry = attached(Telemetry(settings(tmp_path)))
        telemetry.record(outcome)
        telemetry.close()
        telemetry.record(outcome)  # the log does not depend on what else is kept
        telemetry.close()
    assert stream.getvalue() == 2 * f"{access.json_line(outcome)}\n"


def test_metrics_can_be_off(tmp_path: Path) -> None:
    telemetry = attached(Telemetry(settings(metrics=False)))
    telemetry.record(finished())
    assert not telemetry.open  # there is nothing to do
    status, refusal = page(telemetry, "metrics")
    assert (status, refusal["error"]["code"]) == (503, "not_available")


def test_metrics_tell_of_the_store_and_of_reloads(tmp_path: Path) -> None:
    reloads = Reloads(2, 1, "wrong", 1_800_000_000.0)
    telemetry = attached(Telemetry(settings(tmp_path), reloads=lambda: reloads))
    _, text = page(telemetry, "metrics")
    telemetry.close()
    assert b"gwproto_store_failing 0.0" in text
    assert b"gwproto_configuration_reloads 2.0" in text
    assert b"gwproto_configuration_reload_failures 1.0" in text
    assert b"gwproto_configuration_stale 1.0" in text
    assert b"gwproto_configuration_loaded_timestamp_seconds 1.8e+09" in text


def test_a_page_that_fails_is_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = attached(Telemetry())

    def fail(query: str) -> Response:
        raise RuntimeError("secret")

    telemetry._page = lambda name, query: lambda: fail(query)  # type: ignore[method-assign]  # what cannot happen
    with caplog.at_level(logging.CRITICAL, "gwproto"):
        status, refusal = page(telemetry, "metrics")
    assert (status, refusal["error"]["code"]) == (500, "internal_error")
    assert "secret" not in refusal["error"]["message"]


def test_the_core_and_its_runtime_know_the_same_pages() -> None:
    telemetry = attached(Telemetry())
    for target in ("/", "/metrics", "/openapi.json", "/v1/analytics", "/v1/requests", "/v1/stats/providers"):
        (command,) = gateway().begin(head("GET", target), START).start(START)
        assert isinstance(command, Delegate)
        made = telemetry.answer(command.name, command.query)
        status, _, _ = made() if callable(made) else made
        assert status in (200, 503)
    telemetry.close()


def test_a_database_that_can_never_be_used_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"analytics\.database"):
        Telemetry(Settings(analytics=AnalyticsSettings(database="mysql://x")))

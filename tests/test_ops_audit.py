"""The audit of rejected keys, and that lines reach an application's own logging."""

import hashlib
import json
import logging
from typing import Any

import pytest

from gwproto import Ending, Gateway, Outcome
from gwproto_ops import access
from gwproto_ops.audit import LIMIT, audit
from support.conversation import KEY, START, gateway, head

SECRET = "canary-sk-0123456789abcdef"


def rejected(
    made: Gateway, key: str | None = SECRET, target: str = "/v1/chat/completions", **fields: str
) -> Outcome:
    exchange = made.begin(head("POST", target, key=key, headers=fields), START)
    exchange.start(START)
    assert exchange.outcome is not None
    return exchange.outcome


def lines(caplog: pytest.LogCaptureFixture, *outcomes: Outcome) -> list[dict[str, Any]]:
    with caplog.at_level(logging.INFO):
        audit(outcomes)
    assert {(record.name, record.levelname) for record in caplog.records} <= {("gwproto.audit", "WARNING")}
    return [json.loads(record.getMessage()) for record in caplog.records]


def test_a_line_says_who_and_why_but_not_the_key(caplog: pytest.LogCaptureFixture) -> None:
    outcome = rejected(gateway())
    assert lines(caplog, outcome) == [
        {
            "event": "key_rejected",
            "at": "2023-11-14T22:13:20.000+00:00",
            "request_id": outcome.request_id,
            "client": outcome.client,
            "endpoint": "/v1/chat/completions",
            "reason": "unknown",
        }
    ]
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    parts = {SECRET[at : at + 6] for at in range(len(SECRET) - 5)} | {digest[:8], KEY}
    assert not [part for part in parts if part in caplog.text]


@pytest.mark.parametrize(
    ("key", "fields", "reason"),
    [
        (None, {}, "missing"),
        (SECRET, {}, "unknown"),
        (None, {"x-api-key": SECRET}, "unknown"),
        (SECRET, {"authorization": "Bearer other"}, "ambiguous"),
    ],
)
def test_reasons(
    caplog: pytest.LogCaptureFixture, key: str | None, fields: dict[str, str], reason: str
) -> None:
    (line,) = lines(caplog, rejected(gateway(), key, **fields))
    assert line["reason"] == reason
    assert SECRET not in caplog.text


@pytest.mark.parametrize("target", ["/v1/routing/reset", "/v1/routing/explain"])
def test_every_endpoint_that_needs_a_key_is_audited(caplog: pytest.LogCaptureFixture, target: str) -> None:
    (line,) = lines(caplog, rejected(gateway(), target=target))
    assert line["endpoint"] == target


def test_good_keys_leave_no_line(caplog: pytest.LogCaptureFixture) -> None:
    good = rejected(gateway(), KEY, "/v1/nowhere")
    assert lines(caplog, good, Outcome("r", 0.0, Ending.COMPLETED, 200, "GET", "/livez", 0.001)) == []


def test_a_flood_leaves_some_lines_and_a_number(caplog: pytest.LogCaptureFixture) -> None:
    made = gateway()
    found = lines(caplog, *[rejected(made) for _ in range(LIMIT + 30)])
    assert len(found) == LIMIT + 1
    assert found[-1] == {"event": "keys_rejected", "at": "2023-11-14T22:13:20.000+00:00", "left_out": 30}


def test_as_many_as_fit_leave_no_number(caplog: pytest.LogCaptureFixture) -> None:
    made = gateway()
    assert len(lines(caplog, *[rejected(made) for _ in range(LIMIT)])) == LIMIT


def test_what_an_address_says_stays_one_line(caplog: pytest.LogCaptureFixture) -> None:
    odd = Outcome(
        "r", 0.0, Ending.REFUSED, 401, "POST", "/", 0.0, rejected="unknown", client='a"\r\n\x1b[31m'
    )
    (line,) = lines(caplog, odd)
    assert line["client"] == odd.client
    assert caplog.records[0].getMessage().isprintable()


def test_embedded_the_access_log_is_the_applications(caplog: pytest.LogCaptureFixture) -> None:
    outcome = rejected(gateway())
    with caplog.at_level(logging.INFO, "gwproto.access"):
        access.log_outcome(outcome)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("gwproto.access", "INFO")
    line = json.loads(record.getMessage())
    assert (line["request_id"], line["status"]) == (outcome.request_id, 401)
    assert SECRET not in record.getMessage()


def test_embedded_without_logging_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    access.log_outcome(rejected(gateway()))
    assert capfd.readouterr() == ("", "")

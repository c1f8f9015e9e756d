"""The access log and the console page."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from gwproto import AttemptRecord, Ending, Outcome, Usage
from gwproto_ops import access, console

PLAIN = Outcome("req-1", 1_800_000_000.25, Ending.REFUSED, 404, "GET", "/", 0.0015, error="unknown_url")
FULL = Outcome(
    request_id="req-2",
    at=1_800_000_000.0,
    ending=Ending.COMPLETED,
    status=200,
    method="POST",
    endpoint="/v1/chat/completions",
    duration=1.5,
    key="me",
    project_id="p",
    model_asked="auto",
    provider="b",
    model="m",
    stream=True,
    attempts=(
        AttemptRecord("a", "n", "a", 0.0, 0.5, status=500, failure="server", code="boom"),
        AttemptRecord("b", "m", "b", 0.5, 1.0, first_content_after=0.25, status=200),
    ),
    first_content_after=0.75,
    usage=Usage(1, 2, 3),
    partial_usage=True,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    logger = access.logger
    before = logger.level, logger.propagate, logger.handlers[:]
    yield
    logger.level, logger.propagate, logger.handlers[:] = before


def logged(stream: io.StringIO, *outcomes: Outcome) -> list[str]:
    access.enable(stream)
    for outcome in outcomes:
        access.log_outcome(outcome)
    return stream.getvalue().splitlines()


def test_a_line_of_json_per_request() -> None:
    plain, full = logged(io.StringIO(), PLAIN, FULL)
    assert json.loads(plain) == {
        "at": "2027-01-15T08:00:00.250+00:00",
        "request_id": "req-1",
        "ending": "refused",
        "status": 404,
        "method": "GET",
        "endpoint": "/",
        "ms": 1.5,
        "error": "unknown_url",
    }
    assert json.loads(full) == {
        "at": "2027-01-15T08:00:00.000+00:00",
        "request_id": "req-2",
        "ending": "completed",
        "status": 200,
        "method": "POST",
        "endpoint": "/v1/chat/completions",
        "ms": 1500.0,
        "first_content_ms": 750.0,
        "key": "me",
        "project_id": "p",
        "model_asked": "auto",
        "provider": "b",
        "model": "m",
        "stream": True,
        "attempts": [
            {
                "provider": "a",
                "model": "n",
                "ms": 500.0,
                "status": 500,
                "failure": "server",
                "code": "boom",
            },
            {"provider": "b", "model": "m", "ms": 1000.0, "status": 200},
        ],
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "partial_usage": True,
    }


def test_short_lines_on_a_terminal() -> None:
    hostile = Outcome("r", 0.0, Ending.REFUSED, 405, "\x1b[2J", "", 0.0)
    plain, full, escaped = (line[9:] for line in logged(Terminal(), PLAIN, FULL, hostile))
    assert plain == "404 GET / 2ms unknown_url refused"
    assert full == "200 POST /v1/chat/completions 1500ms b/m (2 attempts; a: server) completed"
    assert escaped == "405 ?[2J - 0ms refused"


def test_nothing_until_it_is_enabled(caplog: pytest.LogCaptureFixture) -> None:
    access.logger.setLevel(logging.WARNING)
    access.log_outcome(PLAIN)
    assert caplog.records == []


def test_standard_error_is_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    access.enable()
    access.log_outcome(PLAIN)
    assert capsys.readouterr().err.startswith('{"at":"2027')


def test_the_page_and_the_policy_that_lets_nothing_in() -> None:
    status, headers, body = console.answer("/")
    assert status == 200
    fields = dict(headers)
    assert fields[b"content-length"] == b"%d" % len(body)
    assert fields[b"content-type"] == b"text/html; charset=utf-8"
    policy = fields[b"content-security-policy"]
    assert policy.startswith(b"default-src 'none'; style-src 'sha256-")
    assert b"unsafe" not in policy
    assert body.count(b"<style>") == 1
    for forbidden in (b"<script", b"style=", b"http://", b"https://"):
        assert forbidden not in body
    assert b"/v1/chat/completions" in body


def test_the_policy_allows_the_pages_own_style() -> None:
    import base64
    import hashlib

    _, headers, body = console.answer("/")
    style = body[body.index(b"<style>") + 7 : body.index(b"</style>")]
    allowed = base64.b64encode(hashlib.sha256(style).digest())
    assert b"'sha256-" + allowed + b"'" in dict(headers)[b"content-security-policy"]

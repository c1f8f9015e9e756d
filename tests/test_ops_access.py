"""The access log."""

import io
import json
import logging
import threading

import pytest

from gwproto import AttemptRecord, Ending, Outcome, Usage
from gwproto_ops import access
from gwproto_ops.records import Line

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


def logged(stream: io.StringIO, *outcomes: Outcome) -> list[str]:
    with access.enabled(stream):
        for outcome in outcomes:
            access.log_outcome(outcome)
    return stream.getvalue().splitlines()


def test_a_line_of_json_per_request() -> None:
    plain, full = (json.loads(text) for text in logged(io.StringIO(), PLAIN, FULL))
    assert list(plain) == list(full) == list(Line.__struct_fields__)
    assert {name: value for name, value in plain.items() if value} == {
        "at": 1_800_000_000.25,
        "request_id": "req-1",
        "ending": "refused",
        "status": 404,
        "method": "GET",
        "endpoint": "/",
        "ms": 1.5,
        "error": "unknown_url",
    }
    failed, served = full.pop("attempts")
    assert {name: value for name, value in full.items() if value} == {
        "at": 1_800_000_000.0,
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
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "partial_usage": True,
    }
    assert (failed["provider"], failed["status"], failed["failure"], failed["code"]) == (
        "a",
        500,
        "server",
        "boom",
    )
    assert (served["started_ms"], served["ms"], served["first_content_ms"]) == (500.0, 1000.0, 250.0)


def test_short_lines_on_a_terminal() -> None:
    hostile = Outcome("r", 0.0, Ending.REFUSED, 405, "\x1b[2J", "", 0.0)
    plain, full, escaped = (line[9:] for line in logged(Terminal(), PLAIN, FULL, hostile))
    assert plain == "404 GET / 2ms unknown_url refused"
    assert full == "200 POST /v1/chat/completions 1500ms b/m (2 attempts; a: server) completed"
    assert escaped == "405 ?[2J - 0ms refused"


def test_an_embedder_gets_it_from_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "gwproto.access")
    access.log_outcome(PLAIN)
    assert caplog.records == []
    caplog.set_level(logging.INFO, "gwproto.access")
    access.log_outcome(PLAIN)
    (record,) = caplog.records
    assert json.loads(record.getMessage())["request_id"] == "req-1"


def test_standard_error_is_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with access.enabled():
        access.log_outcome(PLAIN)
    assert capsys.readouterr().err.startswith('{"at":1800000000.25,')


class Blocked(io.StringIO):
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.go.wait()
        return super().write(text)


def test_an_output_that_blocks_holds_up_nobody_and_drops_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access.Writer, "LIMIT", 2)
    stream = Blocked()
    with access.enabled(stream) as writer:
        access.log_outcome(PLAIN)
        stream.reached.wait()
        for _ in range(5):
            access.log_outcome(PLAIN)
        assert writer.dropped == 3
        stream.go.set()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[3] == "access log: 3 lines dropped, the output was too slow"


def test_an_output_that_is_gone_is_no_ones_error() -> None:
    stream = io.StringIO()
    with access.enabled(stream):
        stream.close()
        access.log_outcome(PLAIN)

"""Errors: written in one shape, read in all; classes and delays."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.wire import delay
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import Reading
from gwproto.wire.openai.errors import (
    clean,
    decode_error,
    encode_error,
    encode_status_error,
    error_frame,
    in_band_failure,
)
from gwproto.wire.openai.models import Model, ModelList
from gwproto.wire.openai.parts import fields_of
from gwproto.wire.strict import MAX_DEPTH, repair, too_deep

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "errors.json").read_text())
WALL = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def decode(status: int, body: Any = None, **headers: str) -> Failure:
    fields = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return decode_error(status, fields, data, Reading(wall=WALL))


@pytest.mark.golden
@pytest.mark.parametrize("golden", GOLDENS, ids=[one["name"] for one in GOLDENS])
def test_recorded_errors(golden: dict[str, Any]) -> None:
    headers = tuple((name.encode(), value.encode()) for name, value in golden["headers"])
    reading = Reading(provider=golden["provider"], wall=WALL)
    failure = decode_error(golden["status"], headers, golden["body"].encode(), reading)
    assert failure.kind.name == golden["kind"]
    assert failure.retry_after == golden["retry_after"]
    assert failure.param == golden["param"]
    assert failure.status == golden["status"]
    assert (failure.scope and failure.scope.name) == golden["scope"]


@pytest.mark.golden
@pytest.mark.parametrize("golden", GOLDENS, ids=[one["name"] for one in GOLDENS])
def test_recorded_errors_of_somebody(golden: dict[str, Any]) -> None:
    """``general``: the class shows without knowing whose error it is."""
    headers = tuple((name.encode(), value.encode()) for name, value in golden["headers"])
    failure = decode_error(golden["status"], headers, golden["body"].encode(), Reading(wall=WALL))
    assert (failure.kind.name == golden["kind"]) is golden["general"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "INVALID"),
        (401, "AUTH"),
        (402, "CREDITS"),
        (403, "FORBIDDEN"),
        (404, "MODEL_GONE"),
        (405, "INVALID"),
        (408, "TIMEOUT"),
        (410, "MODEL_GONE"),
        (413, "TOO_BIG"),
        (422, "INVALID"),
        (424, "SERVER"),
        (429, "RATE_MINUTE"),
        (498, "OVERLOADED"),
        (302, "SERVER"),
        (500, "SERVER"),
        (502, "SERVER"),
        (503, "OVERLOADED"),
        (504, "TIMEOUT"),
        (520, "SERVER"),
        (529, "OVERLOADED"),
    ],
)
def test_status_alone(status: int, kind: str) -> None:
    failure = decode(status)
    assert failure.kind.name == kind
    assert failure.message == "The provider sent no message."
    assert (failure.type, failure.code, failure.param, failure.retry_after) == (None, None, None, None)


@pytest.mark.parametrize(
    ("body", "message", "type_", "code", "param"),
    [
        ({"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}, "m", "t", "c", "p"),
        ([{"error": {"message": "m", "code": 400, "status": "INVALID_ARGUMENT"}}], "m", None, None, None),
        ({"error": "m", "code": "c"}, "m", None, "c", None),
        ({"error": {"message": "m", "code": "words of yours"}}, "m", None, None, None),
        ({"message": "m", "type": "t", "param": None, "code": "c"}, "m", "t", "c", None),
        ({"detail": "m"}, "m", None, None, None),
        (
            {"detail": [{"loc": ["body", "stop", 0], "msg": "bad", "type": "x"}, {"msg": "worse"}, "worst"]},
            "stop.0: bad; worse; worst",
            None,
            None,
            "stop.0",
        ),
        ({"status": 400, "title": "m"}, "m", None, None, None),
        ({"object": "error", "message": "m", "code": 40001}, "m", None, "40001", None),
        ({"success": False, "errors": [{"code": 7, "message": "m"}]}, "m", None, "7", None),
        ({"type": "error", "error": {"type": "t", "message": "m"}, "request_id": "r"}, "m", "t", None, None),
        ({"message": "m", "__type": "t"}, "m", "t", None, None),
        ({"error": {"message": '{"error":{"message":"m","code":"c"}}'}}, "m", None, "c", None),
        ({"error": {"message": "{not json"}}, "{not json", None, None, None),
        ({"error": {"message": "[1]", "code": "c"}}, "[1]", None, "c", None),
        ({"error": {"message": "7"}}, "7", None, None, None),
        ({"error": {"message": {"a": 1}}}, '{"a":1}', None, None, None),
        ({"error": {"message": {"message": "m"}}}, "m", None, None, None),
        ({"error": {"message": "", "msg": "m"}}, "m", None, None, None),
        ({"errors": ["m"]}, "m", None, None, None),
        ({"errors": [[1]]}, "The provider sent no message.", None, None, None),
        ({"error": True}, "The provider sent no message.", None, None, None),
        ({"error": True, "message": "m", "code": "c"}, "m", None, "c", None),
        ({"statusCode": 400, "error": "Bad Request", "message": "m"}, "m", "Bad Request", None, None),
        ("m", "m", None, None, None),
        ([], "The provider sent no message.", None, None, None),
        (7, "The provider sent no message.", None, None, None),
        (b"plain\ttext", "plain text", None, None, None),
        (b"<h1>Bad</h1> <p>gate\xff", "Bad gate\ufffd", None, None, None),
        (b'{"error":{"message":"m","x":NaN}}', "m", None, None, None),
        (
            b'{"message":"m","x":' + b"[" * 200 + b"]" * 200 + b"}",
            '{"message":"m","x":' + "[" * 200 + "]" * 80 + "…",
            None,
            None,
            None,
        ),
    ],
)
def test_shapes(body: Any, message: str, type_: str | None, code: str | None, param: str | None) -> None:
    failure = decode(400, body)
    assert (failure.message, failure.type, failure.code, failure.param) == (message, type_, code, param)
    assert failure.kind is FailureClass.INVALID


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, {"message": "Rate limit reached on requests per day (RPD)"}, "RATE_DAY"),
        (
            429,
            {"message": "You exceeded your current quota, please check your plan and billing details"},
            "CREDITS",
        ),
        (
            429,
            {
                "message": "check your plan and billing details",
                "details": [
                    {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}, 1]},
                    1,
                    {"violations": 1},
                ],
            },
            "RATE_MINUTE",
        ),
        (429, {"message": "x is temporarily rate-limited upstream"}, "OVERLOADED"),
        (429, {"message": "m", "metadata": {"raw": "temporarily out"}}, "OVERLOADED"),
        (429, {"message": "m", "metadata": {"limit_source": "daily", "raw": 1}}, "RATE_DAY"),
        (400, {"message": "m", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, "FILTERED"),
        (400, {"message": "m", "details": {"error_code": "enforced_spend_limit_reached"}}, "CREDITS"),
        (400, {"message": "Unknown parameter: 'safety_identifier'."}, "INVALID"),
        (400, {"message": "m", "code": "unknown_parameter"}, "INVALID"),
        (404, {"message": "The model `x` does not exist or you do not have access"}, "MODEL_GONE"),
        (400, {"message": "The model `x` has been decommissioned"}, "MODEL_GONE"),
        (500, {"message": "This model's maximum context length is 4096 tokens"}, "CONTEXT"),
        (500, {"message": "The engine is currently overloaded"}, "OVERLOADED"),
        (400, {"message": "capacity of a bottle"}, "INVALID"),
        (400, {"message": "x" * 400 + " maximum context length"}, "INVALID"),
    ],
)
def test_markers(status: int, error: dict[str, Any], kind: str) -> None:
    assert decode(status, {"error": error}).kind.name == kind


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (b'{"error":{"message":"m","code":429,"x":1e999}}', "RATE_MINUTE"),
        (b'{"x_groq":{"error":"over capacity"}}', "OVERLOADED"),
        (b'{"x_groq":{"id":"r"}}', None),
        (b'{"x_groq":7}', None),
        (b'{"error":{},"choices":[]}', None),
        (b'{"message":"m","choices":[]}', None),
        (b'{"detail":"Unauthorized"}', "AUTH"),
    ],
)
def test_errors_in_a_200(document: bytes, kind: str | None) -> None:
    failure = in_band_failure(fields_of(msgspec.Raw(document)), Reading())
    assert (failure and failure.kind.name) == kind


def test_reasons_in_headers() -> None:
    assert decode(400, {"message": "m"}, x_ms_error_code="content_filter").kind is FailureClass.FILTERED
    assert decode(400, {"message": "m"}, x_amzn_errortype="Decommissioned").kind is FailureClass.MODEL_GONE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n\tb\x00c\x1b[31m", "a b c [31m"),
        ("<b>a</b><script>x()</script>b<", "a b<"),
        ("Incorrect API key provided: sk-abcdef123456. See docs", "Incorrect API key provided: *** See docs"),
        ("Bearer abc123 refused", "Bearer *** refused"),
        ("GET /v1?key=AIzaSyA-123&x=1", "GET /v1?key=***&x=1"),
        ("AIzaSyA1234567890", "***"),
        ("x" * 301, "x" * 299 + "…"),
        ("x" * 300, "x" * 300),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_hostile_html_is_quick_to_clean() -> None:
    for text in ("<" * 10**6, "<script" * 10**5, "\n" * 10**6):
        assert len(clean(text)) <= 300


def test_error_bodies() -> None:
    assert encode_error("m", "t", "c") == b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}'
    assert encode_status_error(418, "m", "t", "c", None) == encode_error("m", "t", "c")
    frame = b'data: {"error":{"message":"m\\n","type":"t","param":"p","code":null}}\n\n'
    assert error_frame("m\n", "t", None, "p") == frame


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": " 7.5 "}, 7.5),
        ({"retry_after": "0"}, 0.5),
        ({"retry_after": "86401"}, 86400.0),
        ({"retry_after": "1e400"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": ""}, None),
        ({"retry_after": "٣"}, None),
        ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5),
        ({"retry_after_ms": "x", "retry_after": "7"}, 7.0),
        ({"retry_after": "Mon, 21 Sep 2026 14:13:30 GMT"}, 10.0),
        ({"retry_after": "Mon, 21 Sep 2026 14:13:10 GMT"}, 0.5),
        ({"retry_after": "Mon, 21 Sep 2026 14:13:30 GMT", "date": "Mon, 21 Sep 2026 14:13:00 GMT"}, 30.0),
        ({"retry_after": "Mon, 21 Sep 2026 14:13:30 GMT", "date": "today"}, 10.0),
        ({"retry_after": "Monday, 21-Sep-26 14:13:30 GMT"}, 10.0),
        ({"retry_after": "Mon Sep 21 14:13:30 2026"}, 10.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "7.66s"}, 7.66),
        (
            {
                "x_ratelimit_remaining_requests": "0",
                "x_ratelimit_reset_requests": "2m59.56s",
                "x_ratelimit_remaining_tokens": "0",
                "x_ratelimit_reset_tokens": "1s",
            },
            179.56,
        ),
        ({"x_ratelimit_remaining_tokens": "5", "x_ratelimit_reset_tokens": "7.66s"}, None),
        ({"x_ratelimit_remaining_tokens": "0"}, None),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1790000060"}, 60.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1790000060000"}, 60.0),
        (
            {
                "anthropic_ratelimit_requests_remaining": "0",
                "anthropic_ratelimit_requests_reset": "2026-09-21T14:14:20Z",
            },
            60.0,
        ),
        (
            {
                "anthropic_ratelimit_requests_remaining": "0",
                "anthropic_ratelimit_requests_reset": "2026-09-21T14:14:20",
            },
            None,
        ),
    ],
)
def test_delays_in_headers(headers: dict[str, str], expected: float | None) -> None:
    assert decode(429, **headers).retry_after == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"details": [{"x": 1}, {"retryDelay": "20.04s"}]}, 20.04),
        ({"details": [{"retryDelay": "soon"}]}, None),
        ({"retry_after": 5}, 5.0),
        ({"retryAfter": "5s"}, 5.0),
        ({"retry_after": [5]}, None),
        ({"metadata": {"headers": {"X-RateLimit-Limit": "1", "X-RateLimit-Reset": "1790000060000"}}}, 60.0),
        ({"metadata": {"headers": {"X-RateLimit-Reset": 30}}}, 30.0),
        ({"metadata": {"headers": {"X-RateLimit-Limit": "1"}}}, None),
        ({"message": "Please try again in 9m38.016s."}, 578.016),
        ({"message": "Please retry in 20.0s."}, 20.0),
        ({"message": "Please retry after 26 seconds."}, 26.0),
        ({"message": "Please wait 41230 seconds before retrying."}, 41230.0),
        ({"message": "wait 2 minutes"}, 120.0),
        ({"message": "wait 2 hours"}, 7200.0),
        ({"message": "try again in hm."}, None),
        ({"message": "try again in 1m2h."}, None),
        ({"message": "Try again in 5 minutes"}, 300.0),
        ({"message": "please retry in 250ms"}, 0.5),
        ({"message": "wait for 1.5 hours"}, 5400.0),
        ({"message": "retry after 1 day"}, 86400.0),
        ({"message": "You will regain access on 2026-09-21 at 15:13 UTC."}, 3580.0),
        ({"message": "You will regain access on 2026-99-21 at 15:13 UTC."}, None),
        ({"details": [{"retryDelay": "20.04s"}], "retry_after": 5}, 20.04),
        ({"details": 7, "retry_after": True}, None),
    ],
)
def test_delays_in_bodies(error: dict[str, Any], expected: float | None) -> None:
    assert decode(429, {"error": error}).retry_after == expected


def test_a_delay_beside_the_error() -> None:
    assert decode(429, {"error": {"message": "m"}, "retry_after": 5}).retry_after == 5.0


def test_a_days_quota_ignores_the_minutes_delay() -> None:
    error = {"message": "quota per day. Please retry in 20s.", "details": [{"retryDelay": "20s"}]}
    assert decode(429, {"error": error}).retry_after == 35200  # until midnight
    assert decode(429, {"error": error}, retry_after="600").retry_after == 600


def test_what_counts_most_among_delays() -> None:
    """Headers before the body, what is asked for in so many seconds before resets, and prose last."""
    headers = {
        "retry_after_ms": "1500",
        "retry_after": "7",
        "x_ratelimit_remaining": "0",
        "x_ratelimit_reset": "6",
    }
    error: dict[str, Any] = {
        "message": "retry after 9 seconds",
        "metadata": {"headers": {"X-RateLimit-Reset": "5"}},
        "retry_after": 4,
        "details": [{"retryDelay": "3s"}],
    }
    seen = []
    for name in (
        "retry_after_ms",
        "retry_after",
        "details",
        "retry_after",
        "metadata",
        "x_ratelimit_reset",
        "",
    ):
        seen.append(decode(429, {"error": error}, **headers).retry_after)
        (headers if name in headers else error).pop(name, None)
    assert seen == [1.5, 7.0, 3.0, 4.0, 5.0, 6.0, 9.0]


def test_delays_without_a_clock() -> None:
    date = (b"retry-after", b"Mon, 21 Sep 2026 14:13:30 GMT")
    sent = (b"date", b"Mon, 21 Sep 2026 14:13:00 GMT")
    reset = (b"x-ratelimit-reset", b"1790000060")
    for headers, expected in (
        ((date,), None),
        ((date, sent), 30.0),
        ((reset, (b"x-ratelimit-remaining", b"0")), None),
    ):
        assert decode_error(429, headers, b"", Reading()).retry_after == expected
    assert decode_error(429, (), b'{"message":"per day"}', Reading()).retry_after is None


@pytest.mark.parametrize(
    ("end", "wall", "seconds"),
    [
        ("minute", WALL, 40.0),
        ("minute", 60.0, 60.0),
        ("utc_day", WALL, 35200.0),
        ("pacific_day", WALL, 64000.0),
        ("pacific_day", 1_789_970_400.0, 7200.0),  # 06:00 in Greenwich is 22:00 there
        ("utc_month", WALL, 812800.0),
        ("utc_month", 1_798_761_599.0, 1.0),  # the year's last second
        ("utc_month", 1_798_761_600.0, 31 * 86400.0),
    ],
)
def test_ends_by_the_clock(end: Any, wall: float, seconds: float) -> None:
    assert delay.calendar_delay(end, wall) == seconds
    assert delay.calendar_delay(end, 0.0) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7.66s", 7.66),
        ("2m59.56s", 179.56),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("120ms", 0.12),
        ("9m38.016s", 578.016),
        ("33011.382867", 33011.382867),
        ("1d2h", 93600.0),
        ("", None),
        ("s", None),
        ("1x", None),
        ("9" * 400 + "d", None),
        ("9" * 400, None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    got = delay.parse_duration(text)
    assert got == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777.0),
        ("Sun Nov  6 08:49:37 1994", 784111777.0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799.0),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 31 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
    ],
)
def test_dates(text: str, seconds: float | None) -> None:
    assert delay.parse_date(text, WALL) == seconds


@given(
    st.integers(100, 599),
    JSON
    | st.dictionaries(st.sampled_from(("error", "message", "code", "details", "metadata", "type")), JSON),
)
def test_any_error_is_classified(status: int, body: Any) -> None:
    failure = decode(status, body)
    assert failure.message
    assert len(failure.message) <= 300
    assert failure.retry_after is None or 0.5 <= failure.retry_after <= 86400


@given(st.binary(max_size=60), st.text(max_size=20))
def test_any_bytes_are_classified(body: bytes, header: str) -> None:
    fields = tuple(
        (name, header.encode())
        for name in (b"retry-after", b"date", b"retry-after-ms", b"x-ratelimit-remaining")
    )
    assert decode_error(429, fields, body, Reading(wall=WALL)).message


def _message(content: bytes) -> bytes:
    return b'{"model":"a","messages":[{"role":"user","content":' + content + b"}]}"


@pytest.mark.parametrize(
    ("document", "deep"),
    [
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, False),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), True),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), True),
        (b"[" + b"[],{}," * 1000 + b"[]]", False),
        (b'["' + b"[" * 1000 + b'\\"' + b"{" * 1000 + b'"]', False),
        (b'["\\\\",' + b"[" * 200 + b'"]"' + b"]" * 200 + b"]", True),
        (b"[" + b" " * 5000 + b"[" * (MAX_DEPTH - 1) + b"]" * MAX_DEPTH, False),
        (b"[" + b" " * 5000 + b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"]", True),
        (b"[" + b"[],{}," * 1000 + b'"' + b" " * 5000 + b'"]', False),
        # Text of a message, of a part, and of a part as deep as text stands.
        (_message(b'"' + b"[{" * 100 + b" " * 1000 + b'"'), False),
        (_message(b'[{"text":"' + b"[{" * 100 + b" " * 1000 + b'"}]'), False),
        (_message(b'[{"a":{"text":"' + b"[{" * 100 + b" " * 1000 + b'"}}]'), False),
        (
            _message(
                b"[" * (MAX_DEPTH - 3) + b'"' + b"[{" * 100 + b" " * 1000 + b'"' + b"]" * (MAX_DEPTH - 3)
            ),
            False,
        ),
        (
            _message(
                b"[" * (MAX_DEPTH - 2) + b'"' + b"[{" * 100 + b" " * 1000 + b'"' + b"]" * (MAX_DEPTH - 2)
            ),
            True,
        ),
        # A value that is not the last one of its name.
        (_message(b"[" * 200 + b"]" * 200 + b',"content":"' + b" " * 2000 + b'"'), True),
        # More than a parser takes, and what no parser takes.
        (_message(b'"' + b" " * 40_000 + b'","more":' + b"[" * 5000 + b"]" * 5000), True),
        (b'{"' + b" " * 2000 + b'":' + b"[" * 200, True),
    ],
)
def test_depth(document: bytes, deep: bool) -> None:
    assert too_deep(document) is deep


@given(JSON)
def test_repair_leaves_json_alone(value: Any) -> None:
    assert json.loads(repair(json.dumps(value).encode())) == value


def test_repair_refuses_what_is_not_almost_json() -> None:
    for document in (b"", b"{", b"{'a':1}", b"9" * 5000):
        with pytest.raises(WireError):
            repair(document)


def test_model_list() -> None:
    row = Model(id="auto", created=5, owned_by="gateway", tier="medium", max_output=None)
    assert msgspec.to_builtins(ModelList(data=[row, Model(id="b")])) == {
        "object": "list",
        "data": [
            {
                "id": "auto",
                "object": "model",
                "created": 5,
                "owned_by": "gateway",
                "tier": "medium",
                "max_output": None,
            },
            {"id": "b", "object": "model", "created": 0, "owned_by": ""},
        ],
    }


def test_dialects_are_named_after_themselves() -> None:
    assert all(name == dialect.name for name, dialect in DIALECTS.items())

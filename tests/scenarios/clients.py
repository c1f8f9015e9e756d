"""Rows in which the client errs or leaves, and rows about the gateway's own limits."""

from typing import Any

from scenarios.model import Arrival, Scenario
from scenarios.parts import (
    CHAT,
    DONE,
    HELLO,
    ROLE,
    SILENT,
    STREAM,
    ask,
    get,
    one_after_another,
    row,
    stream,
    text,
)

_SMALL = {"limits": {"max_body": 200}}
_LONG = b'{"messages":[{"role":"user","content":"' + b"x" * 300 + b'"}]}'
_PACED = stream(*HELLO, DONE, pace=1.0)

_WRONG: tuple[dict[str, Any], ...] = (
    {"model": 7},
    {"messages": "x"},
    {"stream": "yes"},
    {"temperature": 3},
    {"max_tokens": 0},
    {"max_completion_tokens": 1.5},
    {"reasoning_effort": "huge"},
    {"project_id": "a b"},
    {"tools": {}},
    {"n": 0},
    {"response_format": "json"},
)

BAD_REQUESTS: tuple[Scenario, ...] = (
    *[
        row(name, asked=ask(body=body))
        for name, body in (
            ("body_missing", b""),
            ("body_not_json", b"{"),
            ("body_no_object", b"[]"),
            ("body_nan", b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}'),
            ("body_invalid_utf8", b'{"messages":[{"role":"user","content":"\xff"}]}'),
            ("body_too_deep", b'{"messages":' + b"[" * 200 + b"]" * 200 + b"}"),
            ("messages_empty", b'{"messages":[]}'),
            ("messages_missing", b'{"model":"auto"}'),
            ("role_unknown", b'{"messages":[{"role":"wizard","content":"x"}]}'),
        )
    ],
    *[row(f"wrong_{next(iter(fields))}", asked=ask(**fields)) for fields in _WRONG],
    row("model_unknown", asked=ask(model="nobody-knows-it")),
    row("key_wrong", asked=ask(key="wrong")),
    row("key_missing", asked=ask(key=None)),
    row("path_unknown", asked=ask(target="/v1/nothing")),
    row("method_wrong", asked=get(CHAT)),
    row("forced_provider_unknown", asked=ask(headers=((b"x-gateway-force-provider", b"nobody"),))),
    row("body_over_the_limit_by_length", asked=ask(body=_LONG), settings=_SMALL),
    row("body_over_the_limit_chunked", asked=ask(body=_LONG, length=None), settings=_SMALL),
    row("body_compressed", asked=ask(headers=((b"content-encoding", b"gzip"),))),
    row("the_next_one_works", arrivals=one_after_another(ask(body=b"{"), ask())),
)

OTHER_ENDPOINTS: tuple[Scenario, ...] = (
    row("livez", asked=get("/livez")),
    row("readyz", asked=get("/readyz")),
    row("models", asked=get("/v1/models")),
    row("one_model", asked=get("/v1/models/alpha-m")),
    row("no_such_model", asked=get("/v1/models/none")),
)

LEAVING: tuple[Scenario, ...] = (
    row(
        "leaves_while_uploading",
        asked=ask(pieces=((0.0, b"{"),), length=50, complete=False, leaves_after=1.5),
    ),
    row("leaves_while_waiting", SILENT, asked=ask(stream=True, leaves_after=1.5)),
    row("leaves_while_waiting_whole", SILENT, asked=ask(leaves_after=1.5)),
    row("leaves_while_streaming", _PACED, asked=ask(stream=True, leaves_after=2.5)),
    row(
        "leaves_during_failover",
        stream(ROLE),
        SILENT,
        asked=ask(stream=True, leaves_after=0.5),
    ),
)

# Answers of limits say how long to wait, so they take a clock that stands still.
LIMITS: tuple[Scenario, ...] = (
    row("upload_stalls", asked=ask(pieces=((0.0, b"{"),), length=50, complete=False), slow=True),
    row(
        "max_in_flight",
        _PACED,
        arrivals=(Arrival(0.0, ask(stream=True)), Arrival(0.5, ask(stream=True)), Arrival(9.0, ask())),
        settings={"limits": {"max_in_flight": 1}},
    ),
    row(
        "rate_limited",
        arrivals=one_after_another(ask(), ask(), ask()),
        settings={"limits": {"requests_per_second": 0.001, "burst": 2, "tokens_per_minute": 5000}},
        slow=True,
    ),
    row(
        "tokens_limited",
        arrivals=one_after_another(ask(max_tokens=2000), ask(max_tokens=900), ask(max_tokens=990)),
        settings={"limits": {"tokens_per_minute": 1000}},
        slow=True,
    ),
    row(
        "address_limited",
        arrivals=one_after_another(
            get("/v1/models/none"), ask(key="wrong"), get("/livez"), ask(key="wrong"), ask()
        ),
        settings={"limits": {"public_requests_per_second": 0.001, "public_burst": 2}},
        slow=True,
    ),
    row("draining_lets_streams_finish", _PACED, drain_after=1.5),
    row(
        "draining_ends_streams_at_last",
        stream(ROLE, *[text("x")] * 40, pace=1.0),
        drain_after=1.5,
        settings={"server": {"drain_timeout": 5}},
    ),
    row(
        "draining_while_waiting",
        SILENT,
        asked=ask(),
        drain_after=1.5,
        settings={"server": {"drain_timeout": 5}},
    ),
    row(
        "readyz_before_draining",
        STREAM,
        arrivals=(Arrival(0.0, ask()), Arrival(3.0, get("/readyz"))),
        unready_after=1.5,
    ),
)

"""The machine of a chat completion, as conversations: events in, commands out."""

import json
import math
from typing import Any

import pytest

from gwproto import (
    Abort,
    ClientData,
    ClientEnd,
    ClientGone,
    CloseUpstream,
    Draining,
    Ending,
    LocalProtocolError,
    LossReason,
    OpenUpstream,
    SendData,
    SendEnd,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.config import (
    LimitSettings,
    ProviderTimeouts,
    Quirks,
    RetrySettings,
    RoutingSettings,
    ServerSettings,
    TimeoutSettings,
)
from gwproto.exchange.body import MAX_ERROR_BODY
from gwproto.exchange.exchange import LINGER_TIMEOUT
from support.conversation import (
    DONE,
    EPOCH,
    ROLE,
    START,
    STOP,
    answer,
    begin,
    body,
    chunk,
    completion,
    feed,
    gateway,
    head,
    opened,
    provider,
    provider_of,
    sent_body,
    sent_error,
    sent_head,
    text,
)

EVENT_STREAM = ((b"content-type", b"text/event-stream"),)
THREE = tuple(provider(name) for name in "abc")


def streaming(*pieces: bytes, attempt: int = 1) -> list[Any]:
    return [
        UpstreamOpened(attempt, False),
        UpstreamHead(attempt, 200, EVENT_STREAM),
        *[UpstreamData(attempt, piece) for piece in pieces],
    ]


def outcome_of(exchange: Any) -> Any:
    assert exchange.finished
    assert exchange.outcome is not None
    return exchange.outcome


# How a target is asked


def test_the_models_name_may_stand_in_the_address_and_a_query_behind_it() -> None:
    address = "http://a.example/deployments/{model}"
    model = {"id": "a-model", "upstream": "org/x y"}
    made = gateway(provider("a", base_url=address, query={"api-version": "1"}, model=model))
    request = opened(begin(made, body())[1]).request
    assert request.target == "/deployments/org/x%20y/chat/completions?api-version=1"
    made = gateway(provider("a", format="gemini", query={"key": "1"}))
    request = opened(begin(made, body(stream=True))[1]).request
    assert request.target == "/v1/models/a-model:streamGenerateContent?alt=sse&key=1"


def test_effort_is_asked_for_as_the_model_knows_it() -> None:
    def asked(effort: str, **model: Any) -> tuple[Any, str]:
        made = gateway(provider("a", model={"id": "a-model", **model}))
        exchange, commands = begin(made, body(reasoning_effort=effort))
        field = json.loads(opened(commands).request.body).get("reasoning_effort")
        return field, sent_head(feed(exchange, START, *answer(1, completion())))[1][
            "x-gateway-reasoning-effort"
        ]

    assert asked("max") == ("max", "max")
    assert asked("max", quirks=Quirks(effort=("none", "low", "high"))) == ("high", "high")
    assert asked("none", quirks=Quirks(effort=("low",))) == ("low", "low")
    assert asked("low", quirks=Quirks(effort=())) == (None, "auto")
    assert asked("low", capabilities=("tools",)) == (None, "none")
    assert asked("auto") == (None, "auto")


def test_reasoning_inside_the_text_stands_where_reasoning_belongs() -> None:
    thinking = {"id": "a-model", "quirks": Quirks(think_inline="tagged")}
    exchange, _ = begin(gateway(provider("a", model=thinking)), body())
    commands = feed(exchange, START, *answer(1, completion("<think>Hm.</think>Yes.")))
    message = json.loads(sent_body(commands))["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm.")
    exchange, _ = begin(gateway(provider("a", model=thinking)), body(stream=True))
    pieces = map(text, ("<thi", "nk>Hm.", "Hm.", "</think>", "Yes.", "<think>"))
    commands = feed(exchange, START, *streaming(ROLE, *pieces, STOP, DONE))
    deltas = [
        json.loads(event[6:])["choices"][0]["delta"] for event in sent_body(commands).split(b"\n\n")[:-3]
    ]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm.Hm."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Yes.<think>"


# One attempt that goes well


def test_a_completion_is_passed_on_byte_for_byte() -> None:
    exchange, commands = begin(gateway(), body(model="auto", temperature=0.50, unknown={"x": 1.0}))
    request = opened(commands).request
    assert request.target == "/v1/chat/completions"
    assert request.credential == "a"
    assert json.loads(request.body)["model"] == "a-model"
    assert b'"unknown":{"x": 1.0}' in request.body
    payload = completion(model="a-model")
    commands = feed(exchange, START + 1, *answer(1, payload))
    status, headers = sent_head(commands)
    assert status == 200
    assert sent_body(commands) == payload
    assert commands[-1] == SendEnd()
    assert headers["content-length"] == str(len(payload))
    assert headers["x-gateway-provider"] == "a"
    assert headers["x-gateway-model"] == "a-model"
    assert headers["x-gateway-attempts"] == "1"
    assert headers["x-gateway-reasoning-effort"] == "auto"
    assert headers["x-gateway-request-id"] == headers["x-request-id"] == exchange.request_id
    assert headers["server-timing"] == "gw;dur=0.0, upstream;dur=1000.0"
    outcome = outcome_of(exchange)
    assert outcome.ending is Ending.COMPLETED
    assert (outcome.status, outcome.provider, outcome.model) == (200, "a", "a-model")
    assert (outcome.at, outcome.duration) == (START + EPOCH, 1)
    assert outcome.key == "tester"
    assert outcome.usage.total_tokens == 3
    assert not outcome.partial_usage


def test_a_stream_is_held_until_its_first_content_and_ends_with_one_done() -> None:
    exchange, commands = begin(gateway(), body(stream=True))
    assert json.loads(opened(commands).request.body)["stream_options"] == {"include_usage": True}
    assert feed(exchange, START, *streaming(b": hello\n\n", ROLE)) == []
    commands = feed(exchange, START + 2, UpstreamData(1, text("Hi")))
    status, headers = sent_head(commands)
    assert status == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    assert sent_body(commands) == ROLE + text("Hi")
    assert feed(exchange, START + 3, UpstreamData(1, text(" there"))) == [SendData(text(" there"))]
    usage = chunk({}, choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    commands = feed(exchange, START + 4, UpstreamData(1, STOP + usage + DONE))
    assert sent_body(commands) == STOP + DONE
    assert commands[-1] == SendEnd()
    assert not exchange.finished
    assert feed(exchange, START + 4, UpstreamEnd(1)) == []
    outcome = outcome_of(exchange)
    assert outcome.ending is Ending.COMPLETED
    assert outcome.first_content_after == 2
    assert outcome.usage.total_tokens == 3


def test_the_client_gets_the_usage_it_asked_for() -> None:
    exchange, _ = begin(gateway(), body(stream=True, stream_options={"include_usage": True}))
    usage = chunk({}, choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    commands = feed(exchange, START, *streaming(ROLE + text("x") + STOP + usage + DONE))
    events = sent_body(commands).split(b"\n\n")
    assert json.loads(events[-3][6:])["choices"] == []
    assert json.loads(events[-3][6:])["usage"]["total_tokens"] == 3
    assert events[-2:] == [b"data: [DONE]", b""]


def test_lingering_ends_with_the_clock_and_closes() -> None:
    exchange, _ = begin(gateway(), body(stream=True))
    feed(exchange, START, *streaming(ROLE + text("x") + STOP + DONE))
    assert exchange.deadline == START + LINGER_TIMEOUT
    assert exchange.tick(START + LINGER_TIMEOUT) == [CloseUpstream(1)]
    assert outcome_of(exchange).ending is Ending.COMPLETED


@pytest.mark.parametrize(
    ("event", "commands"),
    [
        (UpstreamData(1, text("junk")), [CloseUpstream(1)]),
        (UpstreamLost(1, LossReason.RESET), []),
        (ClientGone(), [CloseUpstream(1)]),
    ],
)
def test_nothing_after_the_end_marker_changes_the_outcome(event: Any, commands: Any) -> None:
    exchange, _ = begin(gateway(), body(stream=True))
    feed(exchange, START, *streaming(ROLE + text("x") + STOP + DONE))
    assert exchange.receive(Draining(), START) == []
    assert exchange.receive(event, START) == commands
    assert outcome_of(exchange).ending is Ending.COMPLETED


def test_abandoning_a_lingering_exchange_keeps_its_outcome() -> None:
    exchange, _ = begin(gateway(), body(stream=True))
    feed(exchange, START, *streaming(ROLE + text("x") + STOP + DONE))
    assert exchange.abandon(START) == [CloseUpstream(1)]
    assert outcome_of(exchange).ending is Ending.COMPLETED
    assert exchange.abandon(START) == []


# The client's request


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'{"messages": NaN}', None),
        (b'{"messages":' + b"[" * 200 + b"]" * 200 + b"}", None),
        (b"{}", "messages"),
        (body(messages=[]), "messages"),
        (body(temperature="warm"), "temperature"),
        (body(messages=[{"role": "wizard", "content": "x"}]), "messages[0].role"),
        (body(project_id="a b"), "project_id"),
    ],
)
def test_bad_requests_are_refused_and_leave_a_record(payload: bytes, param: str | None) -> None:
    exchange, commands = begin(gateway(), payload)
    status, headers = sent_head(commands)
    assert status == 400
    assert headers["x-request-id"] == exchange.request_id
    assert "x-gateway-provider" not in headers
    assert sent_error(commands)["param"] == param
    outcome = outcome_of(exchange)
    assert (outcome.ending, outcome.status, outcome.attempts) == (Ending.REFUSED, 400, ())


def test_an_unknown_model_is_a_404() -> None:
    _, commands = begin(gateway(), body(model="gpt-nothing"))
    assert sent_head(commands)[0] == 404
    error = sent_error(commands)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_an_unknown_forced_provider_is_a_400_that_lists_the_known() -> None:
    _, commands = begin(gateway(*THREE), body(), headers={"x-gateway-force-provider": "z"})
    assert sent_head(commands)[0] == 400
    assert "a, b, c" in sent_error(commands)["message"]


def test_headers_restrict_and_tag() -> None:
    exchange, commands = begin(
        gateway(*THREE),
        body(project_id="from-body"),
        headers={
            "x-gateway-force-provider": "b",
            "x-gateway-force-model": "b-model",
            "x-gateway-project-id": "from-header",
            "x-gateway-require-params": "TRUE",
            "x-gateway-affinity": "session-1",
            "x-gateway-unknown": "is ignored",
        },
    )
    assert provider_of(opened(commands)) == "b"
    feed(exchange, START, *answer(1, completion()))
    assert outcome_of(exchange).project_id == "from-header"


@pytest.mark.parametrize(
    ("name", "value"), [("x-gateway-project-id", "a b"), ("x-gateway-require-params", "maybe")]
)
def test_a_bad_header_is_refused(name: str, value: str) -> None:
    _, commands = begin(gateway(), body(), headers={name: value})
    assert sent_head(commands)[0] == 400
    assert sent_error(commands)["param"] == name


def test_a_body_over_the_limit_is_refused_while_it_comes() -> None:
    limited = gateway(limits=LimitSettings(max_body=10))
    exchange = limited.begin(head(), START)
    exchange.start(START)
    assert exchange.receiving
    assert exchange.receive(ClientData(b"x" * 10), START) == []
    commands = exchange.receive(ClientData(b"x"), START)
    status, headers = sent_head(commands)
    assert (status, headers["connection"]) == (413, "close")
    assert not exchange.receiving


def test_a_slow_body_is_refused() -> None:
    exchange = gateway(timeouts=TimeoutSettings(body=7.0)).begin(head(), START)
    exchange.start(START)
    assert exchange.deadline == START + 7
    assert exchange.tick(START + 6) == []
    status, headers = sent_head(exchange.tick(START + 7))
    assert (status, headers["connection"]) == (408, "close")


def test_a_timeout_of_zero_is_off() -> None:
    exchange = gateway(timeouts=TimeoutSettings(body=0.0)).begin(head(), START)
    exchange.start(START)
    assert exchange.deadline == math.inf


# Failing over before the commit point


FAILURES = [
    [UpstreamLost(1, LossReason.REFUSED)],
    [UpstreamLost(1, LossReason.DNS)],
    [UpstreamOpened(1, False), UpstreamLost(1, LossReason.RESET)],
    [UpstreamOpened(1, False), UpstreamHead(1, 200, ()), UpstreamLost(1, LossReason.TRUNCATED)],
    [UpstreamOpened(1, False), UpstreamHead(1, 200, ()), UpstreamEnd(1)],
    answer(1, b'{"error":{"message":"boom","type":"server_error"}}', status=500),
    answer(1, status=503),
    answer(1, b"<html>Bad gateway</html>", status=502, content_type="text/html"),
    answer(1, b"<html>Bad gateway</html>", status=200, content_type="text/html"),
    answer(1, b"x" * (MAX_ERROR_BODY + 1), status=500),
    answer(1, b'{"error":{"message":"Incorrect API key"}}', status=401),
    answer(1, b'{"error":{"message":"no money"}}', status=402),
    answer(1, b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', status=429),
    answer(1, b'{"error":{"message":"no such model","code":"model_not_found"}}', status=404),
    answer(1, status=302, headers=((b"location", b"http://169.254.169.254/"),)),
    answer(1, status=204),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("events", FAILURES, ids=range(len(FAILURES)))
def test_another_provider_answers_and_the_client_sees_nothing_of_it(events: list[Any], stream: bool) -> None:
    exchange, commands = begin(gateway(*THREE), body(stream=stream))
    first = provider_of(opened(commands))
    commands = feed(exchange, START, *events)
    assert not [command for command in commands if isinstance(command, SendHead | SendData)]
    second = opened(commands)
    assert provider_of(second) != first
    if stream:
        commands = feed(exchange, START, *streaming(ROLE + text("Hi") + STOP + DONE, attempt=2))
    else:
        commands = feed(exchange, START, *answer(2, completion("Hi")))
    assert sent_head(commands)[1]["x-gateway-attempts"] == "2"
    assert b"Hi" in sent_body(commands)
    exchange.receive(UpstreamEnd(2), START) if stream else None
    outcome = outcome_of(exchange)
    assert [record.failure is None for record in outcome.attempts] == [False, True]


STREAM_FAILURES = {
    "error event": [b'data: {"error":{"message":"boom"}}\n\n'],
    "named error event": [b'event: error\ndata: {"error":{"message":"boom"}}\n\n'],
    "error after the role": [ROLE, b'data: {"error":{"message":"boom"}}\n\n'],
    "garbage": [b"data: {nonsense\n\n"],
    "only done": [DONE],
    "endless line": [b"data: " + b"x" * (1 << 20) + b"xx"],
}


@pytest.mark.parametrize("pieces", STREAM_FAILURES.values(), ids=STREAM_FAILURES)
def test_a_stream_that_begins_badly_costs_a_retry(pieces: list[bytes]) -> None:
    exchange, _ = begin(gateway(*THREE), body(stream=True))
    commands = feed(exchange, START, *streaming(*pieces))
    assert commands[0] == CloseUpstream(1)
    assert isinstance(commands[1], OpenUpstream)


def test_a_stream_that_ends_before_content_costs_a_retry() -> None:
    exchange, _ = begin(gateway(*THREE), body(stream=True))
    feed(exchange, START, *streaming(ROLE))
    commands = feed(exchange, START, UpstreamEnd(1))
    assert [type(command) for command in commands] == [OpenUpstream]


def test_a_stale_connection_costs_nothing_once() -> None:
    exchange, _ = begin(gateway(), body())
    commands = feed(exchange, START, UpstreamOpened(1, True), UpstreamLost(1, LossReason.STALE))
    again = opened(commands)
    assert again.attempt == 2
    assert again.request.fresh
    assert feed(exchange, START, UpstreamData(1, b"late")) == []
    commands = feed(exchange, START, *answer(2, completion()))
    assert sent_head(commands)[1]["x-gateway-attempts"] == "1"
    (record,) = outcome_of(exchange).attempts
    assert record.failure is None


def test_a_second_stale_connection_is_a_failure() -> None:
    exchange, _ = begin(gateway(*THREE), body())
    feed(exchange, START, UpstreamOpened(1, True), UpstreamLost(1, LossReason.STALE))
    commands = feed(exchange, START, UpstreamOpened(2, True), UpstreamLost(2, LossReason.STALE))
    assert opened(commands).attempt == 3
    assert not opened(commands).request.fresh


def test_the_same_target_is_tried_again_only_after_a_pause() -> None:
    exchange, _ = begin(gateway(), body())
    assert feed(exchange, START, *answer(1, status=500)) == []
    pause = exchange.deadline - START
    assert 0 <= pause <= 0.5
    commands = exchange.tick(exchange.deadline)
    assert provider_of(opened(commands)) == "a"
    commands = feed(exchange, START + 1, *answer(2, completion()))
    assert sent_head(commands)[1]["x-gateway-attempts"] == "2"


def test_attempts_are_bounded_and_the_error_says_so() -> None:
    exchange, commands = begin(gateway(*THREE, retry=RetrySettings(max_attempts=2)), body())
    commands = feed(exchange, START, *answer(1, b'{"error":{"message":"kaputt"}}', status=500))
    commands = feed(exchange, START, *answer(2, status=503))
    status, headers = sent_head(commands)
    assert status == 502
    assert headers["x-gateway-attempts"] == "2"
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    error = sent_error(commands)
    assert (error["type"], error["code"], error["message"]) == ("provider_error", "upstream_error", "kaputt")
    outcome = outcome_of(exchange)
    assert (outcome.ending, outcome.error) == (Ending.FAILED, "upstream_error")


def test_the_retry_budget_is_shared_by_all_requests() -> None:
    shared = gateway(*THREE, retry=RetrySettings(max_attempts=2, budget_ratio=0.0, budget_floor=1))
    for retried in (True, False):
        exchange, commands = begin(shared, body())
        commands = feed(exchange, START, *answer(1, status=500))
        assert any(isinstance(command, OpenUpstream) for command in commands) is retried


def test_rate_limits_everywhere_are_a_429_with_the_earliest_return() -> None:
    exchange, _ = begin(gateway(provider("a"), provider("b")), body())
    wait = ((b"retry-after", b"30"),)
    feed(exchange, START, *answer(1, status=429, headers=wait))
    commands = feed(exchange, START, *answer(2, status=429, headers=wait))
    status, headers = sent_head(commands)
    assert status == 429
    assert int(headers["retry-after"]) >= 30
    error = sent_error(commands)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


@pytest.mark.parametrize("max_attempts", [4, 2])
@pytest.mark.parametrize(("first", "second"), [(b"300", b"5"), (b"5", b"300")])
def test_the_client_is_told_of_the_first_return_not_of_the_first_hint(
    first: bytes, second: bytes, max_attempts: int
) -> None:
    made = gateway(provider("a"), provider("b"), retry=RetrySettings(max_attempts=max_attempts))
    exchange, _ = begin(made, body())
    feed(exchange, START, *answer(1, status=429, headers=((b"retry-after", first),)))
    commands = feed(exchange, START, *answer(2, status=429, headers=((b"retry-after", second),)))
    status, headers = sent_head(commands)
    assert status == 429
    assert 5 <= int(headers["retry-after"]) <= 6


def test_a_request_while_all_are_throttled_is_a_429_without_an_attempt() -> None:
    shared = gateway(routing=RoutingSettings(max_wait=0.0))
    exchange, _ = begin(shared, body())
    feed(exchange, START, *answer(1, status=429, headers=((b"retry-after", b"30"),)))
    exchange, commands = begin(shared, body(), START + 1)
    status, headers = sent_head(commands)
    assert status == 429
    assert 29 <= int(headers["retry-after"]) <= 60
    assert outcome_of(exchange).attempts == ()


def test_a_request_while_all_keys_are_bad_is_a_503() -> None:
    shared = gateway()
    exchange, _ = begin(shared, body())
    feed(exchange, START, *answer(1, status=401))
    exchange, commands = begin(shared, body(), START + 1)
    status, headers = sent_head(commands)
    assert status == 503
    assert "retry-after" in headers
    error = sent_error(commands)
    assert (error["type"], error["code"]) == ("service_unavailable", "no_candidate")


def test_waits_for_a_target_that_is_about_to_return() -> None:
    shared = gateway()
    exchange, _ = begin(shared, body())
    feed(exchange, START, *answer(1, status=429, headers=((b"retry-after", b"1"),)))
    while not exchange.finished and exchange.deadline < START + 60:
        commands = exchange.tick(exchange.deadline)
        if any(isinstance(command, OpenUpstream) for command in commands):
            break
    assert not exchange.finished
    assert exchange.deadline > START + 1


@pytest.mark.parametrize(
    ("status", "payload", "code"),
    [
        (400, b'{"error":{"message":"bad","type":"invalid_request_error","code":"x","param":"tools"}}', "x"),
        (413, b'{"error":{"message":"big","type":"tokens","code":"too_big"}}', "too_big"),
        (422, b'{"detail":[{"loc":["body","x"],"msg":"no","type":"t"}]}', None),
    ],
)
def test_the_providers_verdict_on_the_request_is_final(status: int, payload: bytes, code: str | None) -> None:
    exchange, _ = begin(gateway(), body())
    commands = feed(exchange, START, *answer(1, payload, status=status))
    while not exchange.finished:  # "too big" may fit elsewhere
        (command,) = exchange.tick(exchange.deadline)
        assert isinstance(command, OpenUpstream)
        commands = feed(exchange, START + 9, *answer(command.attempt, payload, status=status))
    assert sent_head(commands)[0] == status
    assert sent_error(commands)["type"] == "invalid_request_error"
    if code is not None:
        assert sent_error(commands)["code"] == code
    assert outcome_of(exchange).ending is Ending.REFUSED


def test_context_too_long_looks_for_a_larger_window() -> None:
    small = provider("a", model={"context_window": 4096})
    large = provider("b", model={"context_window": 131072}, fallback=True)
    exchange, commands = begin(gateway(small, large), body())
    assert provider_of(opened(commands)) == "a"
    too_long = (
        b'{"error":{"message":"maximum context length is 4096 tokens","code":"context_length_exceeded"}}'
    )
    commands = feed(exchange, START, *answer(1, too_long, status=400))
    assert provider_of(opened(commands)) == "b"


@pytest.mark.parametrize("window", [0, 4096])
def test_context_too_long_is_final_when_no_window_is_larger(window: int) -> None:
    model = {"context_window": window}
    exchange, _ = begin(gateway(provider("a", model=model), provider("b", model=model)), body())
    too_long = (
        b'{"error":{"message":"maximum context length is 4096 tokens","code":"context_length_exceeded"}}'
    )
    commands = feed(exchange, START, *answer(1, too_long, status=400))
    assert sent_head(commands)[0] == 400
    assert sent_error(commands)["code"] == "context_length_exceeded"


# Deadlines


def test_each_phase_has_its_deadline() -> None:
    timeouts = TimeoutSettings(connect=5, head=20, first_content=30, idle=40, total=590, stream_total=100)
    settings = ServerSettings(heartbeat_interval=0)
    exchange, _ = begin(gateway(timeouts=timeouts, server=settings), body(stream=True))
    assert exchange.deadline == START + 5
    feed(exchange, START + 1, UpstreamOpened(1, False))
    assert exchange.deadline == START + 21
    feed(exchange, START + 2, UpstreamHead(1, 200, EVENT_STREAM))
    assert exchange.deadline == START + 31
    feed(exchange, START + 3, UpstreamData(1, ROLE + text("x")))
    assert exchange.deadline == START + 43
    feed(exchange, START + 4, UpstreamData(1, b": only a comment\n\n"))
    assert exchange.deadline == START + 43
    feed(exchange, START + 5, UpstreamData(1, text("y")))
    assert exchange.deadline == START + 45
    feed(exchange, START + 90, UpstreamData(1, text("z")))
    assert exchange.deadline == START + 100


def test_without_a_stream_only_the_total_counts() -> None:
    timeouts = TimeoutSettings(first_content=30, idle=40, total=590)
    exchange, _ = begin(gateway(timeouts=timeouts), body())
    feed(exchange, START, UpstreamOpened(1, False), UpstreamHead(1, 200, ()))
    assert exchange.deadline == START + 590


def test_a_provider_may_have_its_own_timeouts() -> None:
    slow = provider("a", timeouts=ProviderTimeouts(connect=50.0))
    exchange, _ = begin(gateway(slow), body())
    assert exchange.deadline == START + 50


def test_a_stall_before_content_goes_elsewhere() -> None:
    exchange, commands = begin(gateway(*THREE, timeouts=TimeoutSettings(first_content=30)), body(stream=True))
    first = provider_of(opened(commands))
    feed(exchange, START, *streaming(ROLE))
    while True:
        now = exchange.deadline
        commands = list(exchange.tick(now))
        assert exchange.deadline > now
        if any(isinstance(command, OpenUpstream) for command in commands):
            break
        assert sent_body(commands) == b": keep-alive\n\n"
    assert now == START + 30
    assert commands[0] == CloseUpstream(1)
    assert provider_of(opened(commands)) != first


def test_timeouts_everywhere_are_a_504() -> None:
    exchange, _ = begin(gateway(retry=RetrySettings(max_attempts=1)), body())
    commands = exchange.tick(exchange.deadline)
    assert commands[0] == CloseUpstream(1)
    status, headers = sent_head(commands)
    assert (status, headers["x-should-retry"]) == (504, "false")
    assert sent_error(commands)["code"] == "upstream_timeout"


def test_the_total_deadline_spans_all_attempts() -> None:
    timeouts = TimeoutSettings(connect=8, total=10)
    exchange, _ = begin(gateway(*THREE, timeouts=timeouts), body())
    commands = exchange.tick(START + 8)
    assert opened(commands).attempt == 2
    assert exchange.deadline == START + 10
    commands = exchange.tick(START + 10)
    assert commands[0] == CloseUpstream(2)
    assert sent_head(commands)[0] == 504


def test_the_total_deadline_ends_a_wait_too() -> None:
    exchange, _ = begin(gateway(timeouts=TimeoutSettings(total=0.001)), body())
    feed(exchange, START, *answer(1, status=500))
    commands = exchange.tick(START + 10)
    assert sent_head(commands)[0] in (502, 504)


def test_an_error_status_whose_body_stalls_is_classified_without_it() -> None:
    exchange, _ = begin(gateway(retry=RetrySettings(max_attempts=1)), body())
    feed(exchange, START, UpstreamOpened(1, False), UpstreamHead(1, 500, ()), UpstreamData(1, b'{"err'))
    commands = exchange.tick(exchange.deadline)
    assert commands[0] == CloseUpstream(1)
    assert sent_head(commands)[0] == 502
    assert outcome_of(exchange).attempts[0].status == 500


# Heartbeats


def test_heartbeats_begin_before_the_first_content_and_retries_stay_possible() -> None:
    exchange, _ = begin(gateway(*THREE), body(stream=True))
    assert exchange.deadline == START + 5
    feed(exchange, START, UpstreamOpened(1, False))
    commands = exchange.tick(START + 15)
    status, headers = sent_head(commands)
    assert status == 200
    assert "x-gateway-provider" not in headers
    assert sent_body(commands) == b": keep-alive\n\n"
    assert exchange.tick(START + 30) == [SendData(b": keep-alive\n\n")]
    commands = feed(exchange, START + 31, UpstreamLost(1, LossReason.RESET))
    assert opened(commands).attempt == 2
    commands = feed(exchange, START + 32, *streaming(ROLE + text("x"), attempt=2))
    assert commands == [SendData(ROLE + text("x"))]


def test_after_a_heartbeat_an_error_is_an_event() -> None:
    exchange, _ = begin(gateway(retry=RetrySettings(max_attempts=1)), body(stream=True))
    feed(exchange, START, UpstreamOpened(1, False))
    exchange.tick(START + 15)
    commands = feed(exchange, START + 16, UpstreamLost(1, LossReason.RESET))
    assert sent_body(commands).startswith(b'data: {"error":')
    assert b"[DONE]" not in sent_body(commands)
    assert commands[-1] == SendEnd()
    outcome = outcome_of(exchange)
    assert (outcome.ending, outcome.status) == (Ending.FAILED, 200)


def test_heartbeats_can_be_switched_off_and_a_plain_answer_has_none() -> None:
    silent = ServerSettings(heartbeat_interval=0.0)
    exchange, _ = begin(gateway(server=silent), body(stream=True))
    feed(exchange, START, UpstreamOpened(1, False))
    assert exchange.deadline == START + 300
    exchange, _ = begin(gateway(), body())
    feed(exchange, START, UpstreamOpened(1, False))
    assert exchange.deadline == START + 590


def test_heartbeats_fill_silence_between_contents() -> None:
    exchange, _ = begin(gateway(), body(stream=True))
    feed(exchange, START + 10, *streaming(ROLE + text("x")))
    assert exchange.deadline == START + 25
    assert exchange.tick(START + 25) == [SendData(b": keep-alive\n\n")]


# After the commit point


@pytest.mark.parametrize(
    "events",
    [
        [UpstreamLost(1, LossReason.RESET)],
        [UpstreamLost(1, LossReason.TRUNCATED)],
        [UpstreamEnd(1)],
        [UpstreamData(1, b'data: {"id":'), UpstreamEnd(1)],
        [UpstreamData(1, b'data: {"error":{"message":"boom"}}\n\n')],
        [UpstreamData(1, b"data: nonsense\n\n")],
    ],
)
def test_a_failure_after_content_is_an_event_without_done(events: list[Any]) -> None:
    exchange, _ = begin(gateway(*THREE), body(stream=True))
    feed(exchange, START, *streaming(ROLE + text("half an")))
    commands = feed(exchange, START + 1, *events)
    assert not any(isinstance(command, OpenUpstream) for command in commands)
    sent = sent_body(commands)
    assert sent.startswith(b'data: {"error":{')
    assert sent.endswith(b"}\n\n")
    assert b"[DONE]" not in sent
    assert b"finish_reason" not in sent
    assert commands[-1] == SendEnd()
    outcome = outcome_of(exchange)
    assert (outcome.ending, outcome.status) == (Ending.TRUNCATED, 200)


def test_content_and_error_in_one_read_are_content_then_error() -> None:
    """The outcome may not depend on how the bytes were split."""
    exchange, _ = begin(gateway(*THREE), body(stream=True))
    commands = feed(exchange, START, *streaming(ROLE + text("x") + b'data: {"error":{"message":"b"}}\n\n'))
    assert commands[0] == CloseUpstream(1)
    assert sent_body(commands).startswith(ROLE + text("x") + b'data: {"error"')
    assert outcome_of(exchange).ending is Ending.TRUNCATED


def test_an_idle_stream_is_broken_off_with_an_event() -> None:
    settings = ServerSettings(heartbeat_interval=0.0)
    exchange, _ = begin(gateway(server=settings), body(stream=True))
    feed(exchange, START, *streaming(ROLE + text("x")))
    commands = exchange.tick(START + 300)
    assert commands[0] == CloseUpstream(1)
    assert b'"upstream_timeout"' in sent_body(commands)


@pytest.mark.parametrize("last", [UpstreamEnd(1), UpstreamLost(1, LossReason.RESET)])
def test_a_finish_without_done_is_complete(last: Any) -> None:
    exchange, _ = begin(gateway(), body(stream=True))
    commands = feed(exchange, START, *streaming(ROLE + text("x") + STOP), last)
    assert sent_body(commands) == ROLE + text("x") + STOP + DONE
    assert outcome_of(exchange).ending is Ending.COMPLETED


def test_a_stall_after_the_finish_is_complete() -> None:
    settings = ServerSettings(heartbeat_interval=0.0)
    exchange, _ = begin(gateway(server=settings), body(stream=True))
    feed(exchange, START, *streaming(ROLE + text("x") + STOP))
    commands = exchange.tick(START + 300)
    assert sent_body(commands).endswith(DONE)
    assert exchange.tick(exchange.deadline) == [CloseUpstream(1)]
    assert outcome_of(exchange).ending is Ending.COMPLETED


# The client leaves, the process stops


@pytest.mark.parametrize("pieces", [[], [ROLE], [ROLE, text("x")]])
def test_a_client_that_is_gone_closes_the_upstream(pieces: list[bytes]) -> None:
    shared = gateway()
    exchange, _ = begin(shared, body(stream=True))
    feed(exchange, START, *streaming(*pieces))
    assert exchange.receive(ClientGone(), START + 1) == [CloseUpstream(1)]
    outcome = outcome_of(exchange)
    assert outcome.ending is Ending.CLIENT_CLOSED
    assert outcome.status == (200 if len(pieces) == 2 else 499)
    assert outcome.attempts[0].failure is None
    (status,) = shared.shared.router.statuses(START + 1)
    assert (status.status, status.in_flight) == ("available", 0)


def test_a_client_that_is_gone_while_uploading_or_waiting_leaves_nothing() -> None:
    shared = gateway()
    exchange = shared.begin(head(), START)
    exchange.start(START)
    assert exchange.receive(ClientGone(), START) == []
    assert outcome_of(exchange).ending is Ending.CLIENT_CLOSED
    exchange, _ = begin(shared, body())
    feed(exchange, START, *answer(1, status=500))
    assert exchange.receive(ClientGone(), START) == []
    assert shared.statistics(START).in_flight == 0


def test_draining_lets_a_stream_go_on_and_then_ends_it_with_an_event() -> None:
    exchange, _ = begin(
        gateway(server=ServerSettings(drain_timeout=20, heartbeat_interval=0)), body(stream=True)
    )
    feed(exchange, START, *streaming(ROLE + text("x")))
    assert exchange.receive(Draining(), START + 1) == []
    assert exchange.deadline == START + 21
    assert sent_body(feed(exchange, START + 2, UpstreamData(1, text("y")))) == text("y")
    commands = exchange.tick(START + 21)
    assert commands[0] == CloseUpstream(1)
    assert b'"shutting_down"' in sent_body(commands)
    assert outcome_of(exchange).ending is Ending.TRUNCATED


def test_draining_answers_a_waiting_client_with_503() -> None:
    shared = gateway(server=ServerSettings(drain_timeout=20))
    exchange, _ = begin(shared, body())
    feed(exchange, START, UpstreamOpened(1, False))
    exchange.receive(Draining(), START)
    commands = exchange.tick(START + 20)
    status, headers = sent_head(commands)
    assert (status, headers["connection"]) == (503, "close")
    assert sent_error(commands)["type"] == "service_unavailable"
    (health,) = shared.shared.router.statuses(START + 20)
    assert health.status == "available"


# Abandoning


def test_abandoned_before_the_head_it_answers_500() -> None:
    exchange, _ = begin(gateway(), body())
    commands = exchange.abandon(START)
    assert commands[0] == CloseUpstream(1)
    assert sent_head(commands)[0] == 500
    assert outcome_of(exchange).ending is Ending.ABANDONED


def test_abandoned_after_the_head_it_aborts() -> None:
    exchange, _ = begin(gateway(), body(stream=True))
    feed(exchange, START, *streaming(ROLE + text("x")))
    assert exchange.abandon(START) == [CloseUpstream(1), Abort()]
    assert outcome_of(exchange).ending is Ending.ABANDONED


# The caller's own mistakes


def test_misuse_raises() -> None:
    exchange = gateway().begin(head(), START)
    exchange.start(START)
    with pytest.raises(LocalProtocolError):
        exchange.start(START)
    exchange, _ = begin(gateway(), body())
    for event in (ClientData(b"x"), ClientEnd()):
        with pytest.raises(LocalProtocolError):
            exchange.receive(event, START)
    exchange.abandon(START)
    assert exchange.tick(START) == []
    with pytest.raises(LocalProtocolError):
        exchange.receive(ClientGone(), START)


# Headers


def test_dropped_parameters_are_named_and_cannot_break_a_header() -> None:
    exchange, commands = begin(gateway(), body())
    attempt = exchange._attempts.live[1]  # type: ignore[attr-defined]  # no dialect of ours drops anything yet
    attempt.dropped = ("logit_bias", "we\r\nird: x", "y" * 99)
    _, headers = sent_head(feed(exchange, START, *answer(1, completion())))
    assert headers["x-gateway-dropped-params"] == f"logit_bias,we__ird__x,{'y' * 64}"
    assert outcome_of(exchange).dropped_params == attempt.dropped
    assert opened(commands)


# Forms of answers


def test_an_object_for_a_stream_is_unrolled() -> None:
    exchange, _ = begin(gateway(), body(stream=True))
    commands = feed(exchange, START, *answer(1, b"\n\n", completion("Hello")))
    assert sent_head(commands)[1]["content-type"].startswith("text/event-stream")
    events = sent_body(commands).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    assert b'"content":"Hello"' in sent_body(commands)


def test_a_stream_for_an_object_is_assembled() -> None:
    exchange, _ = begin(gateway(), body())
    commands = feed(exchange, START, *streaming(ROLE + text("Hel"), text("lo") + STOP + DONE))
    assert sent_head(commands)[1]["content-type"] == "application/json"
    whole = json.loads(sent_body(commands))
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == "Hello"
    for last in (UpstreamEnd(1), UpstreamLost(1, LossReason.RESET)):
        exchange, _ = begin(gateway(), body())
        commands = feed(exchange, START, *streaming(ROLE + text("Hel"), text("lo") + STOP), last)
        assert json.loads(sent_body(commands))["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "pieces",
    [
        [ROLE + text("x")],
        [ROLE + text("x"), b'data: {"error":{"message":"b"}}\n\n'],
        [b"data: nonsense\n\n"],
        [b"data: nonsense"],
        [DONE],
        [b": nothing\n\n"],
    ],
)
def test_a_broken_stream_for_an_object_is_a_failure(pieces: list[bytes]) -> None:
    exchange, _ = begin(gateway(retry=RetrySettings(max_attempts=1)), body())
    commands = feed(exchange, START, *streaming(*pieces), UpstreamEnd(1))
    assert sent_head(commands)[0] == 502
    assert outcome_of(exchange).ending is Ending.FAILED


def test_an_error_body_that_breaks_off_is_classified_by_what_there_is() -> None:
    exchange, _ = begin(gateway(retry=RetrySettings(max_attempts=1)), body())
    part = b'{"error":{"message":"no money","code":"insufficient_quota"}}  '
    feed(exchange, START, UpstreamOpened(1, False), UpstreamHead(1, 429, ()), UpstreamData(1, part))
    commands = feed(exchange, START, UpstreamLost(1, LossReason.RESET))
    assert sent_head(commands)[0] == 502
    assert outcome_of(exchange).attempts[0].failure == "credits"


def test_a_model_without_reasoning_gets_no_effort() -> None:
    plain = provider("a", model={"capabilities": ("tools",)})
    exchange, commands = begin(gateway(plain), body(reasoning_effort="high"))
    assert "reasoning_effort" not in json.loads(opened(commands).request.body)
    commands = feed(exchange, START, *answer(1, completion()))
    assert sent_head(commands)[1]["x-gateway-reasoning-effort"] == "none"


def test_a_model_that_reasons_gets_the_effort() -> None:
    exchange, commands = begin(gateway(), body(reasoning_effort="high"))
    assert json.loads(opened(commands).request.body)["reasoning_effort"] == "high"
    commands = feed(exchange, START, *answer(1, completion()))
    assert sent_head(commands)[1]["x-gateway-reasoning-effort"] == "high"


def test_a_verdict_of_no_status_class_is_the_failures_own() -> None:
    """All models are gone, one after the other: the client's 404."""
    exchange, _ = begin(gateway(*THREE), body())
    gone = b'{"error":{"message":"gone","code":"model_not_found"}}'
    for attempt in (1, 2, 3):
        commands = feed(exchange, START, *answer(attempt, gone, status=410))
    assert sent_head(commands)[0] == 404
    assert sent_error(commands)["code"] == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_of_functions_gets_a_function_call(stream: bool, streamed: bool) -> None:
    """OpenAI: ``functions`` is the older form of ``tools``, and its answers are of the older form, too."""
    exchange, _ = begin(gateway(), body(functions=[{"name": "f"}], stream=stream))
    calls = [
        {"index": number, "id": f"c{number}", "type": "function", "function": {"name": name, "arguments": ""}}
        for number, name in enumerate("fg")
    ]
    if streamed:
        finish = chunk({}, "tool_calls")
        pieces = [chunk({"role": "assistant", "tool_calls": [call]}) for call in calls]
        commands = feed(exchange, START, *streaming(*pieces, finish, DONE), UpstreamEnd(1))
    else:
        whole = json.loads(completion())
        whole["choices"][0]["message"]["tool_calls"] = calls
        commands = feed(exchange, START, *answer(1, json.dumps(whole).encode()))
    said = sent_body(commands).decode()
    assert "tool_calls" not in said
    assert '"finish_reason":"function_call"' in said
    if not stream:
        assert json.loads(said)["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    else:
        events = [json.loads(event[6:]) for event in said.split("\n\n")[:-2]]
        deltas = [event["choices"][0]["delta"] for event in events]
        spoken = [delta["function_call"] for delta in deltas if "function_call" in delta]
        assert spoken[0]["name"] == "f"
        assert "".join(piece["arguments"] for piece in spoken) == "{}"

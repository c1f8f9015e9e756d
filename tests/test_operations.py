"""What an operator asks of the routing, and does to it; and the exchange that collects the body for it."""

import json
from typing import Any

import pytest

from gwproto import (
    ClientData,
    ClientEnd,
    ClientGone,
    Command,
    Draining,
    Ending,
    Exchange,
    Gateway,
    LocalProtocolError,
    SendEnd,
    UpstreamEnd,
)
from gwproto.config import LimitSettings, TimeoutSettings
from support.conversation import (
    START,
    answer,
    begin,
    body,
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
)

EXPLAIN, RESET = "/v1/routing/explain", "/v1/routing/reset"


def collecting(gateway: Gateway, target: str = EXPLAIN, **options: Any) -> Exchange:
    exchange = gateway.begin(head("POST", target, **options), START)
    assert list(exchange.start(START)) == []
    assert exchange.receiving
    return exchange


def post(gateway: Gateway, target: str, payload: bytes, now: float = START, **options: Any) -> list[Command]:
    exchange = collecting(gateway, target, **options)
    commands = feed(exchange, now, ClientData(payload), ClientEnd())
    assert exchange.finished
    assert not exchange.receiving
    assert exchange.outcome is not None
    assert (exchange.outcome.endpoint, exchange.outcome.key) == (target, "tester")
    return commands


def decision(gateway: Gateway, payload: bytes, **options: Any) -> dict[str, Any]:
    commands = post(gateway, EXPLAIN, payload, **options)
    assert sent_head(commands)[0] == 200
    found = json.loads(sent_body(commands))
    assert isinstance(found, dict)
    return found


def fail(gateway: Gateway, name: str, status: int = 401) -> None:
    """One request pinned to a provider, which answers with an error."""
    exchange, commands = begin(gateway, body(), headers={"x-gateway-force-provider": name})
    feed(exchange, START, *answer(opened(commands).attempt, b"{}", status=status))


# Explaining


def test_the_decision_is_the_one_that_a_request_then_gets() -> None:
    made = gateway(provider("a"), provider("b"), provider("c"))
    for _ in range(5):
        found = decision(made, body(model="auto"))
        _, commands = begin(made, body(model="auto"))
        assert found["chosen"]["provider"] == provider_of(opened(commands))


def test_every_candidate_has_a_score_with_its_terms_or_a_reason() -> None:
    made = gateway(provider("a"), provider("b"), provider("c", model={"capabilities": ()}))
    fail(made, "b")
    found = decision(made, body(model="auto", tools=[{"type": "function", "function": {"name": "f"}}]))
    rows = {row["provider"]: row for row in found["candidates"]}
    assert found["object"] == "routing.decision"
    assert found["needs"] == ["tools"]
    assert found["estimated_prompt_tokens"] > 0
    assert found["chosen"] == rows["a"]
    assert rows["a"]["reason"] is None
    assert set(rows["a"]["terms"]) == {"success", "headroom", "latency", "fit"}
    assert rows["a"]["upstream"] == rows["a"]["model"] == "a-model"
    assert "cooling down" in rows["b"]["reason"]
    assert rows["b"]["key"] == "b"
    assert (rows["c"]["reason"], rows["c"]["score"]) == ("lacks tools", None)


def test_headers_restrict_an_explanation_as_they_restrict_a_request() -> None:
    made = gateway(provider("a"), provider("b"))
    found = decision(made, body(), headers={"x-gateway-force-provider": "b"})
    assert found["chosen"]["provider"] == "b"


def test_nobody_may_be_left() -> None:
    made = gateway(provider("a"))
    fail(made, "a")
    found = decision(made, body())
    assert found["chosen"] is None
    assert "cooling down" in found["candidates"][0]["reason"]


@pytest.mark.parametrize(
    ("payload", "status", "code", "param"),
    [
        (body(model="none-such"), 404, "model_not_found", "model"),
        (b"{", 400, "invalid_json", None),
        (body(temperature=9), 400, "decimal_above_max_value", "temperature"),
    ],
)
def test_what_a_request_would_be_refused_for_is_said_here_too(
    payload: bytes, status: int, code: str, param: str | None
) -> None:
    commands = post(gateway(), EXPLAIN, payload)
    error = sent_error(commands)
    assert (sent_head(commands)[0], error["code"], error["param"]) == (status, code, param)


# Resetting


@pytest.mark.parametrize(
    ("payload", "ended"),
    [
        (b"", 1),
        (b"{}", 1),
        (b'{"provider":"a"}', 1),
        (b'{"key":"a"}', 1),
        (b'{"provider":"b"}', 0),
        (b'{"model":"b-model","provider":null}', 0),
    ],
)
def test_a_reset_ends_cooldowns(payload: bytes, ended: int) -> None:
    made = gateway(provider("a"), provider("b"))
    fail(made, "a")
    commands = post(made, RESET, payload)
    assert sent_head(commands)[0] == 200
    assert json.loads(sent_body(commands))["ended"] == ended
    assert (decision(made, body(model="a-model"))["chosen"] is not None) == bool(ended)


@pytest.mark.parametrize(
    ("payload", "param", "words"),
    [
        (b'{"provider":"zzz"}', "provider", "Unknown provider 'zzz'. Valid: a."),
        (b'{"model":"zzz"}', "model", "Unknown model 'zzz'. Valid: a-model."),
        (b'{"key":"zzz"}', "key", "Unknown key 'zzz'. Valid: a."),
        (b'{"provider":7}', "provider", "Expected `str | null`, got `int`."),
        (b'{"providers":"a"}', None, "Object contains unknown field `providers`."),
        (b"[]", None, "Expected `object`, got `array`."),
    ],
)
def test_a_reset_of_what_does_not_exist(payload: bytes, param: str | None, words: str) -> None:
    commands = post(gateway(), RESET, payload)
    error = sent_error(commands)
    assert (sent_head(commands)[0], error["param"], error["message"]) == (400, param, words)


def test_a_reset_that_is_no_json() -> None:
    commands = post(gateway(), RESET, b"provider=a")
    assert (sent_head(commands)[0], sent_error(commands)["code"]) == (400, "invalid_json")


# Who may


@pytest.mark.parametrize("target", [EXPLAIN, RESET])
def test_operators_need_a_key_and_post(target: str) -> None:
    refused = gateway().begin(head("POST", target, key="wrong"), START)
    assert sent_head(refused.start(START))[0] == 401
    wrong = gateway().begin(head("GET", target), START)
    status, headers = sent_head(wrong.start(START))
    assert (status, headers["allow"]) == (405, "POST")


# The exchange


def test_a_body_may_be_too_large() -> None:
    made = gateway(limits=LimitSettings(max_body=10))
    announced = made.begin(head("POST", RESET, headers={"content-length": "11"}), START)
    assert sent_head(announced.start(START))[0] == 413
    exchange = collecting(made)
    status, headers = sent_head(exchange.receive(ClientData(b"x" * 11), START))
    assert (status, headers["connection"]) == (413, "close")
    assert exchange.finished


def test_a_body_may_take_too_long() -> None:
    exchange = collecting(gateway())
    assert exchange.deadline == START + 60.0
    assert exchange.tick(START + 59.0) == []
    commands = exchange.tick(START + 60.0)
    assert (sent_head(commands)[0], sent_error(commands)["code"]) == (408, "request_timeout")
    assert exchange.tick(START + 61.0) == []


def test_a_body_may_take_its_time_when_nobody_minds() -> None:
    assert collecting(gateway(timeouts=TimeoutSettings(body=0))).deadline == float("inf")


def test_a_client_may_leave() -> None:
    exchange = collecting(gateway())
    assert exchange.receive(ClientGone(), START) == []
    assert exchange.outcome is not None
    assert (exchange.outcome.ending, exchange.outcome.status) == (Ending.CLIENT_CLOSED, 499)


def test_draining_waits_for_the_body() -> None:
    exchange = collecting(gateway())
    assert exchange.receive(Draining(), START) == []
    assert not exchange.finished


def test_giving_up() -> None:
    exchange = collecting(gateway())
    commands = exchange.abandon(START)
    assert (sent_head(commands)[0], commands[-1]) == (500, SendEnd())
    assert exchange.outcome is not None
    assert exchange.outcome.ending is Ending.ABANDONED
    assert exchange.abandon(START) == []


def test_misuse_is_noticed() -> None:
    exchange = collecting(gateway())
    with pytest.raises(LocalProtocolError):
        exchange.start(START)
    with pytest.raises(LocalProtocolError):
        exchange.receive(UpstreamEnd(1), START)
    exchange.receive(ClientEnd(), START)
    with pytest.raises(LocalProtocolError):
        exchange.receive(ClientEnd(), START)


def test_a_changed_credential_heals_at_once() -> None:
    made = gateway(provider("a"), provider("b"))
    fail(made, "a")
    made.reconfigure(made.configuration, START)
    assert decision(made, body(model="a-model"))["chosen"] is None
    made.reconfigure(made.configuration, START, renewed=("a",))
    assert decision(made, body(model="a-model"))["chosen"] is not None


# Over a restart


def test_a_gateway_goes_on_from_what_another_knew() -> None:
    before = gateway(provider("a"), provider("b"))
    fail(before, "a")
    state = before.snapshot(START)
    after = gateway(provider("a"), provider("b"))
    after.restore(state, START + 10.0)
    assert decision(after, body(model="a-model"))["chosen"] is None
    renewed = gateway(provider("a"), provider("b"))
    renewed.restore(state, START + 10.0, renewed=("a",))
    assert decision(renewed, body(model="a-model"))["chosen"] is not None
    _, commands = begin(renewed, body(model="a-model"))
    exchange, commands = begin(renewed, body(model="a-model"))
    feed(exchange, START, *answer(opened(commands).attempt, completion()))


def test_a_state_from_the_future_is_taken_as_it_is() -> None:
    before = gateway(provider("a"))
    fail(before, "a")
    after = gateway(provider("a"))
    after.restore(before.snapshot(START + 5.0), START)
    assert decision(after, body())["chosen"] is None


def test_clients_budgets_go_on_too() -> None:
    limits = LimitSettings(requests_per_day=2)
    before, after = gateway(limits=limits), gateway(limits=limits)
    for _ in range(2):
        begin(before, body())
    after.restore(before.snapshot(START), START)
    refused = after.begin(head(), START)
    assert sent_head(refused.start(START))[0] == 429

"""Fields that providers refuse: what is learned from which error, and how much of it is kept."""

import json
from typing import Any

import pytest

from gwproto.config import RetrySettings
from gwproto.failures import Failure, FailureClass
from gwproto.policy.refusals import MAX_FIELDS, MAX_TARGETS, VITAL, Refusals
from support.conversation import (
    START,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    opened,
    provider,
    sent_head,
)

TARGET = ("p", "m")


def refused(message: str, param: str | None = None, code: str | None = None, **more: Any) -> Failure:
    return Failure(
        more.pop("kind", FailureClass.INVALID), message, status=400, code=code, param=param, **more
    )


@pytest.mark.parametrize(
    "failure",
    [
        refused("Unrecognized request argument supplied: user"),
        refused('Invalid JSON payload received. Unknown name "user": Cannot find field.'),
        refused(
            "Unsupported parameter: 'user' is not supported with this model.", "user", "unsupported_parameter"
        ),
        refused("user: Extra inputs are not permitted", "user", "extra_forbidden"),
        refused("`user` is not allowed here"),
        refused("This model doesn't support it", "user.name"),
    ],
)
def test_a_field_that_is_named_is_learned(failure: Failure) -> None:
    refusals = Refusals()
    assert refusals.learn(TARGET, {"user"}, failure)
    assert refusals.of(TARGET) == {"user"}
    assert refusals.of(("p", "other")) == frozenset()
    assert not refusals.learn(TARGET, {"user"}, failure)  # it was left out already


@pytest.mark.parametrize(
    "failure",
    [
        refused('"llama3" does not support thinking'),
        refused("This model does not support the effort parameter."),
        refused("adaptive thinking is not supported on this model"),
        refused("thinking.adaptive: Extra inputs are not permitted", "thinking.adaptive", "extra_forbidden"),
        refused('Unknown name "thinkingConfig": Cannot find field.'),
        refused("`reasoning_effort` is not supported with this model"),
    ],
)
def test_effort_is_learned_by_all_its_names(failure: Failure) -> None:
    refusals = Refusals()
    assert not refusals.learn(TARGET, {"user"}, failure)
    assert refusals.learn(TARGET, {"user", "reasoning_effort"}, failure)
    assert refusals.of(TARGET) == {"reasoning_effort"}


def test_what_was_thought_is_not_how_hard_to_think() -> None:
    refusals = Refusals()
    failure = refused("`reasoning_content` is not supported in messages")
    assert not refusals.learn(TARGET, {"messages", "reasoning_effort"}, failure)
    assert refusals.of(TARGET) == frozenset()


@pytest.mark.parametrize(
    "failure",
    [
        refused("Invalid value for 'user'.", "user", "invalid_value"),
        refused("Unsupported parameter: 'user'", "user", kind=FailureClass.SERVER),
        refused("Unsupported parameter: 'seed'"),
        refused("Unsupported parameter"),
        refused("user is not supported"),
    ],
)
def test_nothing_is_learned_from_other_errors(failure: Failure) -> None:
    refusals = Refusals()
    assert not refusals.learn(TARGET, {"user"}, failure)
    assert refusals.of(TARGET) == frozenset()


@pytest.mark.parametrize("field", sorted(VITAL))
def test_what_makes_the_answer_another_one_is_never_left_out(field: str) -> None:
    assert not Refusals().learn(TARGET, {field}, refused("Unsupported parameter", field))


def test_memory_is_bounded() -> None:
    refusals = Refusals()
    for number in range(MAX_FIELDS + 1):
        learned = refusals.learn(TARGET, {f"f{number}"}, refused("unknown", f"f{number}"))
        assert learned == (number < MAX_FIELDS)
    for number in range(MAX_TARGETS):
        refusals.learn(("p", str(number)), {"user"}, refused("unknown", "user"))
    assert refusals.of(TARGET) == frozenset()
    assert refusals.of(("p", "0")) == {"user"}


ERROR = b'{"error":{"message":"Unrecognized request argument supplied: user","type":"invalid_request_error"}}'


def test_the_same_target_is_asked_again_without_the_field() -> None:
    made = gateway(provider("a"), provider("b"))
    exchange, commands = begin(made, body(model="a-model", user="u", seed=1))
    assert json.loads(opened(commands).request.body)["user"] == "u"
    commands = feed(exchange, START + 1, *answer(1, ERROR, status=400))
    again = opened(commands)
    assert again.attempt == 2
    assert again.request.credential == "a"
    assert "user" not in json.loads(again.request.body)
    assert json.loads(again.request.body)["seed"] == 1
    status, headers = sent_head(feed(exchange, START + 2, *answer(2, completion(model="a-model"))))
    assert status == 200
    assert headers["x-gateway-attempts"] == "2"
    assert headers["x-gateway-dropped-params"] == "user"
    assert exchange.outcome is not None
    assert [attempt.failure for attempt in exchange.outcome.attempts] == ["invalid", None]
    # From now on it is left out at once, for this target alone.
    _, commands = begin(made, body(model="a-model", user="u"))
    assert "user" not in json.loads(opened(commands).request.body)
    _, commands = begin(made, body(model="b-model", user="u"))
    assert json.loads(opened(commands).request.body)["user"] == "u"


def test_the_error_is_final_without_a_try_or_budget_left_or_when_it_comes_again() -> None:
    made = gateway(provider("a"), retry=RetrySettings(max_attempts=1))
    exchange, _ = begin(made, body(user="u"))
    assert sent_head(feed(exchange, START, *answer(1, ERROR, status=400)))[0] == 400
    made = gateway(provider("a"), retry=RetrySettings(budget_ratio=0, budget_floor=0))
    exchange, _ = begin(made, body(user="u"))
    assert sent_head(feed(exchange, START, *answer(1, ERROR, status=400)))[0] == 400
    made = gateway(provider("a"))
    exchange, _ = begin(made, body(user="u"))
    feed(exchange, START, *answer(1, ERROR, status=400))
    assert sent_head(feed(exchange, START, *answer(2, ERROR, status=400)))[0] == 400


def test_a_field_the_client_did_not_send_is_no_reason_to_ask_again() -> None:
    exchange, _ = begin(gateway(provider("a")), body(seed=1))
    assert sent_head(feed(exchange, START, *answer(1, ERROR, status=400)))[0] == 400


@pytest.mark.parametrize(
    ("format", "error"),
    [
        ("openai", b'{"error":{"message":"Unrecognized request argument supplied: reasoning_effort"}}'),
        ("ollama", b'{"error":"\\"llama3\\" does not support thinking"}'),
    ],
)
def test_a_model_without_effort_is_asked_again_without_it(format: str, error: bytes) -> None:
    made = gateway(provider("a", format=format))
    exchange, commands = begin(made, body(reasoning_effort="high"))
    asked = json.loads(opened(commands).request.body)
    again = json.loads(opened(feed(exchange, START, *answer(1, error, status=400))).request.body)
    assert asked.keys() - again.keys() <= {"reasoning_effort", "think"}
    assert again.keys().isdisjoint(("reasoning_effort", "think"))
    _, headers = sent_head(feed(exchange, START, *answer(2, error, status=400)))
    assert headers["x-gateway-reasoning-effort"] == "none"
    assert headers["x-gateway-dropped-params"] == "reasoning_effort"


def test_nothing_is_left_out_of_a_request_that_requires_every_field() -> None:
    made = gateway(provider("a"))
    required = {"x-gateway-require-params": "true"}
    exchange, _ = begin(made, body(user="u"), headers=required)
    assert sent_head(feed(exchange, START, *answer(1, ERROR, status=400)))[0] == 400
    exchange, _ = begin(made, body(user="u"))
    feed(exchange, START, *answer(1, ERROR, status=400), *answer(2, completion()))
    _, commands = begin(made, body(user="u"), headers=required)
    assert json.loads(opened(commands).request.body)["user"] == "u"  # though it is known to be refused

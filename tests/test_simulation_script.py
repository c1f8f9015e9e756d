"""Scripted providers: each fault and limit by itself, and answers that are OpenAI's format."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from gwproto import LossReason
from gwproto.routing.quota import DAY
from gwproto.testing import Close, Connection, Data, End, Head, Reset, Stall, Step
from gwproto.testing.simulation.scenario import Load, ProviderScript, Trouble
from gwproto.testing.simulation.script import DIAL_TIME, Provider

MIDNIGHT = 20_000 * DAY
BEGAN = MIDNIGHT - 1000.0


def provider(**fields: Any) -> Provider:
    script = ProviderScript(name="alpha", **fields)
    load = Load(requests=100, rate=1.0, chunks=4, words=2)
    return Provider(script, load, began=BEGAN, length=500.0, rng=random.Random(1))


def asked(one: Provider, at: float = 0.0, *, streamed: bool = False, key: str = "alpha#1") -> Connection:
    return one.connect(key, streamed, BEGAN + at)


def status(connection: Connection) -> int:
    head = connection.steps[0].action
    assert isinstance(head, Head)
    return head.status


def headers(connection: Connection) -> dict[bytes, bytes]:
    head = connection.steps[0].action
    assert isinstance(head, Head)
    return dict(head.headers)


def body(steps: Sequence[Step]) -> bytes:
    return b"".join(step.action.data for step in steps if isinstance(step.action, Data))


def bad(**fields: Any) -> tuple[Trouble, ...]:
    return (Trouble(start=0, until=100, **fields),)


def test_an_answer_is_openais() -> None:
    connection = asked(provider())
    answer = json.loads(body(connection.steps))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]
    assert int(headers(connection)[b"content-length"]) == len(body(connection.steps))
    assert isinstance(connection.steps[-1].action, End)
    assert connection.steps[0].after > 0.0


def test_a_stream_is_openais() -> None:
    connection = asked(provider(pace=0.5), streamed=True)
    events = body(connection.steps).decode().split("\n\n")[:-1]
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event[6:]) for event in events[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"]
    assert chunks[-1]["choices"] == []
    writes = [step.after for step in connection.steps if isinstance(step.action, Data)]
    assert writes[0] == 0.0
    assert set(writes[1:]) == {0.5}


def test_connections_are_kept_alive() -> None:
    one = provider()
    first = asked(one)
    assert (first.dial, first.reused) == (DIAL_TIME, False)
    one.closed(True)
    assert asked(one).reused
    assert not asked(one).reused  # the only idle one is in use


def test_a_dead_provider_refuses_until_its_trouble_is_over() -> None:
    one = provider(troubles=bad(dead=True))
    assert asked(one, 99.0).lost is LossReason.REFUSED
    assert asked(one, 100.0).lost is None
    assert asked(one, 500.0).lost is LossReason.REFUSED  # it comes again


@pytest.mark.parametrize(("fault", "code"), [({"errors": 1.0}, 500), ({"throttled": 1.0}, 429)])
def test_faults_with_a_status(fault: dict[str, float], code: int) -> None:
    one = provider(troubles=bad(**fault))
    assert status(asked(one)) == code
    assert b"retry-after" not in headers(asked(one))
    assert status(asked(one, 200.0)) == 200
    assert not one.healthy(BEGAN)
    assert one.healthy(BEGAN + 200.0)


def test_a_storm_with_hints() -> None:
    one = provider(troubles=bad(throttled=1.0, hint=20.0))
    assert headers(asked(one))[b"retry-after"] == b"20"
    assert one.throttled == 1


@pytest.mark.parametrize(("fault", "action"), [({"resets": 1.0}, Reset), ({"stalls": 1.0}, Stall)])
def test_answers_that_break_off(fault: dict[str, float], action: type) -> None:
    one = provider(troubles=bad(**fault))
    stream = asked(one, streamed=True).steps
    assert isinstance(stream[-1].action, action)
    assert b"content" in body(stream)
    assert b"[DONE]" not in body(stream)
    plain = asked(one).steps
    assert [type(step.action) for step in plain] == [Head, action]
    assert not any(isinstance(step.action, Close | End) for step in (*stream, *plain))


def test_being_slow_is_a_longer_latency_and_no_ill_health() -> None:
    quick, slow = provider(spread=0.0), provider(spread=0.0, troubles=bad(slow=10.0))
    assert asked(slow, streamed=True).steps[0].after == 10.0 * asked(quick, streamed=True).steps[0].after
    assert slow.healthy(BEGAN)


def test_a_minutes_limit_is_per_key_and_rolls() -> None:
    one = provider(requests_per_minute=2, keys=2, limit_headers=True)
    said = headers(asked(one, 0.0))
    assert said[b"x-ratelimit-remaining-requests"] == b"1"
    assert status(asked(one, 10.0)) == 200
    refused = asked(one, 20.0)
    assert (status(refused), headers(refused)[b"retry-after"]) == (429, b"40")
    assert one.healthy(BEGAN + 20.0)  # with its other key
    assert status(asked(one, 20.0, key="alpha#2")) == 200
    assert status(asked(one, 60.0)) == 200
    assert status(asked(one, 61.0)) == 429


def test_a_limit_without_hints() -> None:
    one = provider(requests_per_minute=1, hints=False)
    asked(one)
    assert b"retry-after" not in headers(asked(one))
    assert not one.healthy(BEGAN)


def test_a_days_limit_ends_at_midnight() -> None:
    one = provider(requests_per_day=3, used_today=2)
    assert status(asked(one)) == 200
    refused = asked(one, 999.0)
    assert status(refused) == 429
    assert b"per day" in body(refused.steps)
    assert one.spent(BEGAN + 999.0)
    assert not one.healthy(BEGAN + 999.0)
    assert one.healthy(MIDNIGHT)
    assert status(asked(one, 1000.0)) == 200


def test_room_in_flight() -> None:
    refusing = provider(in_flight=1, beyond="refused")
    assert status(asked(refusing)) == 200
    assert not refusing.healthy(BEGAN)
    assert status(asked(refusing)) == 529
    refusing.closed(True)
    refusing.closed(True)
    assert status(asked(refusing)) == 200
    slower = provider(in_flight=1, spread=0.0, pace=0.0)
    first = asked(slower).steps[0].after
    assert asked(slower).steps[0].after == 2.0 * first


def test_recoveries_come_with_every_round() -> None:
    one = provider(troubles=(Trouble(start=10, until=20, dead=True),))
    assert list(one.recoveries(1100.0)) == [(10.0, 20.0), (510.0, 520.0), (1010.0, 1020.0)]

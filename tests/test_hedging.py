"""A slow attempt is joined by a second one: conversations with the machine."""

from typing import Any

import pytest
from msgspec import structs

from gwproto import (
    ClientGone,
    CloseUpstream,
    Ending,
    Exchange,
    Gateway,
    OpenUpstream,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamOpened,
)
from gwproto.config import HedgeSettings, ProviderSettings, RetrySettings
from support.conversation import (
    DONE,
    ROLE,
    START,
    STOP,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    opened,
    provider,
    provider_of,
    sent_body,
    sent_head,
    text,
)

HEDGE = HedgeSettings(enabled=True, min_samples=2, min_delay=0.5, budget=0.5)
SSE = ((b"content-type", b"text/event-stream"),)
SLOW = START + 10.0  # when the requests of interest come


def known(
    *providers: ProviderSettings, hedge: HedgeSettings = HEDGE, stream: bool = True, **sections: Any
) -> Gateway:
    """A gateway that knows its first provider to answer within a second, and has earned one hedge."""
    made = gateway(*(providers or map(provider, "abc")), hedge=hedge, **sections)
    for _ in range(2):
        exchange, _ = begin(made, body(stream=stream), START, headers={"x-gateway-force-provider": "a"})
        pieces = (ROLE, text("x"), STOP, DONE) if stream else (completion(),)
        feed(exchange, START + 1.0, *answer(1, *pieces))
    return made


def ask_slow(made: Gateway, **fields: Any) -> Exchange:
    """A request whose first attempt, at ``a``, has sent a head but no content."""
    exchange, commands = begin(made, body(stream=True, **fields), SLOW)
    assert provider_of(opened(commands)) == "a"
    feed(exchange, SLOW, *head_of(1), UpstreamData(1, ROLE))
    return exchange


def head_of(attempt: int) -> list[Any]:
    return [UpstreamOpened(attempt, False), UpstreamHead(attempt, 200, SSE)]


def hedged(made: Gateway) -> Exchange:
    exchange = ask_slow(made)
    assert exchange.deadline == SLOW + 1.0
    assert provider_of(opened(exchange.tick(SLOW + 1.0))) != "a"
    return exchange


def records(exchange: Exchange) -> list[tuple[str, bool, bool, str | None]]:
    assert exchange.outcome is not None
    return [(one.provider, one.hedge, one.lost, one.failure) for one in exchange.outcome.attempts]


def test_without_it_nobody_joins() -> None:
    exchange = ask_slow(known(hedge=HedgeSettings()))
    assert exchange.tick(SLOW + 14.0) == []
    assert exchange.deadline == SLOW + 15.0  # the heartbeat's


def test_the_faster_one_serves_and_the_slower_one_is_closed_first() -> None:
    made = known()
    exchange = hedged(made)
    commands = feed(exchange, SLOW + 1.5, *head_of(2), UpstreamData(2, text("Hi")))
    assert commands[0] == CloseUpstream(1)
    _, headers = sent_head(commands)
    assert (headers["x-gateway-provider"], headers["x-gateway-attempts"]) == ("b", "2")
    assert headers["server-timing"] == "gw;dur=0.0, upstream;dur=1500.0"
    assert b"Hi" in sent_body(commands)
    assert feed(exchange, SLOW + 1.6, UpstreamData(1, text("too late"))) == []
    feed(exchange, SLOW + 2.0, UpstreamData(2, STOP + DONE), UpstreamEnd(2))
    assert records(exchange) == [("a", False, True, None), ("b", True, False, None)]
    assert exchange.outcome is not None
    assert (exchange.outcome.provider, exchange.outcome.ending) == ("b", Ending.COMPLETED)
    status = next(one for one in made.shared.router.statuses(SLOW) if one.provider == "a")
    assert (status.failures, status.in_flight) == (0, 0)


def test_the_first_may_still_be_the_faster_one() -> None:
    exchange = hedged(known())
    feed(exchange, SLOW + 1.5, *head_of(2), UpstreamData(2, ROLE))
    commands = feed(exchange, SLOW + 2.0, UpstreamData(1, text("Hi") + STOP + DONE), UpstreamEnd(1))
    assert commands[0] == CloseUpstream(2)
    assert sent_head(commands)[1]["x-gateway-provider"] == "a"
    assert records(exchange) == [("b", True, True, None), ("a", False, False, None)]
    assert exchange.outcome is not None
    assert exchange.outcome.provider == "a"


def test_nobody_joins_once_there_is_content() -> None:
    exchange = ask_slow(known())
    feed(exchange, SLOW + 0.5, UpstreamData(1, text("Hi")))
    assert exchange.deadline > SLOW + 1.0
    assert exchange.tick(SLOW + 5.0) == []


def test_a_failure_leaves_the_race_to_the_other() -> None:
    exchange = hedged(known())
    assert feed(exchange, SLOW + 1.2, *answer(2, b"{}", status=500)) == []
    commands = feed(exchange, SLOW + 2.0, UpstreamData(1, text("Hi")))
    assert sent_body(commands) == ROLE + text("Hi")
    feed(exchange, SLOW + 2.0, UpstreamData(1, STOP + DONE), UpstreamEnd(1))
    assert records(exchange) == [("b", True, False, "server"), ("a", False, False, None)]


def test_after_both_have_failed_the_course_is_the_usual_one() -> None:
    exchange = hedged(known())
    assert feed(exchange, SLOW + 1.2, UpstreamEnd(1)) == []
    command = opened(feed(exchange, SLOW + 1.5, *answer(2, b"{}", status=500)))
    assert (provider_of(command), command.attempt) == ("c", 3)
    assert exchange.deadline == SLOW + 1.5 + 1.0  # which may be joined, too


def test_the_requests_own_deadline_ends_both() -> None:
    exchange = hedged(known())
    commands = exchange.tick(SLOW + 700.0)
    assert commands[:2] == [CloseUpstream(1), CloseUpstream(2)]
    assert [failure for *_, failure in records(exchange)] == ["timeout", "timeout"]


def test_a_client_that_leaves_ends_both_without_a_verdict() -> None:
    made = known()
    exchange = hedged(made)
    assert exchange.receive(ClientGone(), SLOW + 2.0) == [CloseUpstream(1), CloseUpstream(2)]
    assert records(exchange) == [("a", False, False, None), ("b", True, False, None)]
    assert all(one.in_flight == 0 for one in made.shared.router.statuses(SLOW))


def test_a_hedge_is_an_attempt() -> None:
    exchange = ask_slow(known(retry=RetrySettings(max_attempts=1)))
    assert exchange.tick(SLOW + 1.0) == []
    exchange = hedged(known(retry=RetrySettings(max_attempts=2)))
    feed(exchange, SLOW + 1.2, *answer(2, b"{}", status=500))
    commands = feed(exchange, SLOW + 1.5, UpstreamEnd(1))
    assert not any(isinstance(command, OpenUpstream) for command in commands)
    assert sent_head(commands)[0] == 502


def test_hedges_have_a_budget() -> None:
    quarter = structs.replace(HEDGE, budget=0.25)
    exchange = ask_slow(known(hedge=quarter))  # the third request, so three quarters of one
    assert exchange.tick(SLOW + 1.0) == []
    made = known(hedge=quarter)
    begin(made, body(), SLOW, headers={"x-gateway-force-provider": "b"})
    hedged(made)
    assert not made.shared.hedging.affordable


def test_a_hedge_that_finds_nobody_costs_nothing() -> None:
    made = known(provider("a"))
    assert ask_slow(made).tick(SLOW + 1.0) == []
    assert made.shared.hedging.affordable


@pytest.mark.parametrize("stream", [True, False])
def test_a_plain_answers_first_content_is_all_of_it(stream: bool) -> None:
    exchange, _ = begin(known(stream=stream), body(stream=stream), SLOW)
    assert provider_of(opened(exchange.tick(SLOW + 1.0))) == "b"
    commands = feed(exchange, SLOW + 1.5, *answer(2, completion("Hi")))
    assert commands[0] == CloseUpstream(1)
    assert b"Hi" in sent_body(commands)
    assert exchange.finished


def test_a_field_that_the_hedge_refuses_is_left_out_and_the_race_goes_on() -> None:
    exchange = ask_slow(known(), logit_bias={"1": 1})
    exchange.tick(SLOW + 1.0)
    fault = b'{"error":{"message":"Unrecognized request argument supplied: logit_bias","param":"logit_bias"}}'
    again = opened(feed(exchange, SLOW + 1.2, *answer(2, fault, status=400)))
    assert (provider_of(again), again.attempt) == ("b", 3)
    assert b"logit_bias" not in again.request.body
    commands = feed(exchange, SLOW + 1.5, *head_of(3), UpstreamData(3, text("Hi")))
    assert commands[0] == CloseUpstream(1)
    feed(exchange, SLOW + 1.5, UpstreamData(3, STOP + DONE), UpstreamEnd(3))
    assert [one[:3] for one in records(exchange)] == [
        ("b", True, False),
        ("a", False, True),
        ("b", True, False),
    ]


def test_a_retry_without_a_target_costs_no_budget() -> None:
    made = gateway(retry=RetrySettings(budget_ratio=0.0, budget_floor=1))
    for attempt in range(3):
        exchange, commands = begin(made, body(), SLOW + 0.001 * attempt)
        assert provider_of(opened(commands)) == "a"
        feed(exchange, SLOW + 0.001 * attempt, *answer(1, b"{}", status=401))
        assert exchange.finished
        made.shared.router.reset(SLOW + 0.001 * attempt)
    assert made.shared.budget.take(SLOW + 0.01)

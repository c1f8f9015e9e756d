"""Equal requests at the same time share one upstream call."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gwproto import (
    Abort,
    ClientGone,
    CloseUpstream,
    Draining,
    Ending,
    Exchange,
    Gateway,
    OpenUpstream,
    Outcome,
    SendData,
    SendEnd,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamOpened,
)
from gwproto.config import HedgeSettings, ServerSettings, SingleFlightSettings
from gwproto.exchange.flight import MAX_KEPT, key_of
from gwproto.exchange.sharing import SharingExchange
from gwproto.routing.demand import Demand
from gwproto.testing import ScriptedNetwork, World
from gwproto.wire.neutral import ChatRequest
from gwproto.wire.openai.request import parse_request
from scenarios.flights import SETTINGS, same
from scenarios.model import EPOCH as SCENARIO_EPOCH
from scenarios.model import Scenario
from scenarios.model import configuration as scenario_configuration
from scenarios.parts import stream as paced
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
    sent_body,
    sent_error,
    sent_head,
    text,
)

SSE = ((b"content-type", b"text/event-stream"),)
ON = SingleFlightSettings(enabled=True)


def sharing(**sections: Any) -> Gateway:
    return gateway(provider("a"), provider("b"), single_flight=ON, **sections)


class Woken:
    """Counts how often an exchange's driver would have been woken."""

    def __init__(self, exchange: Exchange) -> None:
        self.count = 0
        exchange.wake = self._wake

    def _wake(self) -> None:
        self.count += 1


def ask(made: Gateway, now: float = START, **fields: Any) -> tuple[SharingExchange, list[Any]]:
    exchange, commands = begin(made, body(**{"stream": True, "temperature": 0, **fields}), now)
    assert isinstance(exchange, SharingExchange)
    return exchange, list(commands)


def lead(made: Gateway, *pieces: bytes, **fields: Any) -> SharingExchange:
    exchange, commands = ask(made, **fields)
    assert opened(commands).attempt == 1
    feed(exchange, START, UpstreamOpened(1, False), UpstreamHead(1, 200, SSE))
    feed(exchange, START, *[UpstreamData(1, piece) for piece in pieces])
    return exchange


def follow(made: Gateway, now: float = START, **fields: Any) -> tuple[SharingExchange, list[Any]]:
    exchange, commands = ask(made, now, **fields)
    assert not any(isinstance(command, OpenUpstream) for command in commands)
    return exchange, commands


def outcome_of(exchange: Exchange) -> Outcome:
    assert exchange.finished
    assert exchange.outcome is not None
    return exchange.outcome


# Who shares


def key(label: str = "", demand: Demand | None = None, **fields: Any) -> object:
    request = parse_request(body(**{"temperature": 0, **fields}))
    assert isinstance(request, ChatRequest)
    return key_of(request, demand or Demand(), label)


def test_only_answers_that_are_meant_to_be_the_same() -> None:
    assert key() is not None
    assert key() == key(temperature=0)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert key(temperature=0.1) is None
    assert key(temperature=None) is None
    assert key(n=2) is None
    assert key(n=1) is not None
    assert key(tools=[tool]) is None
    assert key(functions=[tool["function"]]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True},
        {"model": "x"},
        {"max_tokens": 5},
        {"messages": [{"role": "user", "content": "ho"}]},
        {"reasoning_effort": "low"},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"unheard_of": 1},
    ],
)
def test_any_field_makes_a_difference(fields: dict[str, Any]) -> None:
    assert key(**fields) not in (None, key())


def test_whoever_asks_and_whom_makes_a_difference() -> None:
    assert key("one") != key("two")
    plain = Demand()
    for changes in ({"provider": "a"}, {"forced_model": "m"}, {"affinity": "x"}, {"require_params": True}):
        assert key(demand=structs.replace(plain, **changes)) != key(demand=plain)


def test_a_project_makes_none() -> None:
    assert key(project_id="p") == key()


def test_off_by_default() -> None:
    made = gateway()
    for _ in range(2):
        exchange, commands = begin(made, body(temperature=0))
        opened(commands)
        assert not exchange.wakeable


# Following


def test_a_follower_gets_the_answer_under_a_head_of_its_own() -> None:
    made = sharing()
    leader = lead(made)
    early, commands = follow(made)
    woken = Woken(early)
    assert commands == []
    first = feed(leader, START + 1, UpstreamData(1, ROLE + text("a")))
    assert woken.count == 1
    assert early.deadline == START + 1
    heard = early.tick(START + 1.5)
    status, headers = sent_head(heard)
    assert status == 200
    assert headers["x-gateway-request-id"] == headers["x-request-id"] == early.request_id
    assert headers["x-gateway-shared"] == "true"
    assert "x-gateway-shared" not in sent_head(first)[1]
    assert headers["x-gateway-provider"] == "a"
    assert sent_body(heard) == sent_body(first)
    late, prefix = follow(made, START + 2)
    assert sent_body(prefix) == sent_body(first)
    rest = feed(leader, START + 3, UpstreamData(1, text("b") + STOP + DONE), UpstreamEnd(1))
    for follower in (early, late):
        heard = follower.tick(START + 3)
        assert sent_body(heard) == sent_body(rest)
        assert heard[-1] == SendEnd()
        outcome = outcome_of(follower)
        assert (outcome.ending, outcome.status, outcome.shared) == (Ending.COMPLETED, 200, True)
        assert (outcome.provider, outcome.model, outcome.attempts) == ("a", "a-model", ())
        assert outcome.usage is None
    assert outcome_of(early).first_content_after == 1.5
    assert not outcome_of(leader).shared
    assert made.statistics(START).in_flight == 0
    assert made.shared.flights == {}


def test_a_follower_takes_nothing_from_anybody() -> None:
    made = sharing(hedge=HedgeSettings(enabled=True, budget=0.5))
    lead(made)
    for _ in range(3):
        follow(made)
    assert sum(status.in_flight for status in made.shared.router.statuses(START)) == 1
    assert not made.shared.hedging.affordable


def test_nobody_joins_an_answer_that_is_over() -> None:
    made = sharing()
    lead(made, text("a") + STOP + DONE)  # its framing may still come
    opened(ask(made)[1])


def test_plain_answers_and_errors_are_shared_too() -> None:
    made = sharing()
    leader, _ = ask(made, stream=False)
    follower, _ = follow(made, stream=False)
    commands = feed(leader, START + 1, *answer(1, completion()))
    heard = follower.tick(START + 1)
    assert sent_body(heard) == sent_body(commands)
    assert outcome_of(follower).ending is Ending.COMPLETED
    leader, _ = ask(made, stream=False)
    follower, _ = follow(made, stream=False)
    attempt = 1
    error = feed(leader, START + 2, *answer(attempt, b'{"error":{"message":"No."}}', status=400))
    heard = follower.tick(START + 2)
    assert sent_error(heard) == sent_error(error)
    assert sent_head(heard)[0] == 400
    outcome = outcome_of(follower)
    assert (outcome.ending, outcome.error, outcome.status) == (Ending.REFUSED, "invalid_request", 400)


def test_a_failure_after_content_is_everybodys() -> None:
    made = sharing()
    leader = lead(made, text("a"))
    follower, _ = follow(made)
    feed(leader, START + 1, UpstreamEnd(1))
    assert b"stream_truncated" in sent_body(follower.tick(START + 1))
    assert outcome_of(follower).ending is outcome_of(leader).ending is Ending.TRUNCATED


def test_a_request_that_finds_nobody_at_once_leaves_no_flight() -> None:
    made = gateway(provider("a", model={"requests_per_day": 1}), single_flight=ON)
    feed(begin(made, body())[0], START, *answer(1, completion()))
    exchange, commands = ask(made)
    assert sent_head(commands)[0] == 429
    assert outcome_of(exchange).ending is Ending.FAILED
    assert made.shared.flights == {}


# Leaving


def test_a_leader_whose_client_leaves_serves_on_unseen() -> None:
    made = sharing()
    leader = lead(made, text("a"))
    follower, _ = follow(made)
    assert leader.receive(ClientGone(), START + 1) == []
    assert leader.receive(ClientGone(), START + 1) == []
    assert not leader.finished
    assert feed(leader, START + 2, UpstreamData(1, text("b"))) == []
    assert b"b" in sent_body(follower.tick(START + 2))
    assert feed(leader, START + 3, UpstreamData(1, STOP + DONE), UpstreamEnd(1)) == []
    follower.tick(START + 3)
    assert outcome_of(follower).ending is Ending.COMPLETED
    outcome = outcome_of(leader)
    assert (outcome.ending, outcome.status) == (Ending.CLIENT_CLOSED, 200)
    assert [attempt.failure for attempt in outcome.attempts] == [None]


def test_it_stops_when_the_last_follower_leaves() -> None:
    made = sharing()
    leader = lead(made)
    first, _ = follow(made)
    second, _ = follow(made)
    leader.receive(ClientGone(), START + 1)
    feed(leader, START + 1, UpstreamData(1, text("a")), ClientGone())
    woken = Woken(leader)
    first.receive(ClientGone(), START + 2)
    assert woken.count == 0
    second.receive(ClientGone(), START + 3)
    assert woken.count == 1
    assert leader.deadline == START + 3
    assert leader.tick(START + 3) == [CloseUpstream(1)]
    assert (outcome_of(leader).ending, outcome_of(leader).status) == (Ending.CLIENT_CLOSED, 499)
    assert (outcome_of(first).ending, outcome_of(first).status) == (Ending.CLIENT_CLOSED, 499)
    assert made.shared.flights == {}


def test_unless_another_one_has_joined_by_then() -> None:
    made = sharing()
    leader = lead(made)
    first, _ = follow(made)
    leader.receive(ClientGone(), START + 1)
    first.receive(ClientGone(), START + 2)
    second, _ = follow(made, START + 2)
    assert leader.tick(START + 2) == []
    feed(leader, START + 3, UpstreamData(1, text("a") + STOP + DONE), UpstreamEnd(1))
    assert sent_head(second.tick(START + 3))[0] == 200
    assert outcome_of(second).ending is Ending.COMPLETED


def test_a_leader_that_is_served_itself_does_not_mind_who_leaves() -> None:
    made = sharing()
    leader = lead(made, text("a"))
    follower, _ = follow(made)
    follower.receive(ClientGone(), START + 1)
    assert leader.tick(START + 1) == []
    assert not leader.finished
    assert leader.receive(ClientGone(), START + 2) == [CloseUpstream(1)]
    assert made.shared.flights == {}


# Breaking off


def test_who_has_content_ends_with_an_error() -> None:
    made = sharing()
    leader = lead(made)
    served, _ = follow(made)
    feed(leader, START + 1, UpstreamData(1, text("a")))
    served.tick(START + 1)
    leader.abandon(START + 2)
    assert outcome_of(leader).ending is Ending.ABANDONED
    commands = served.tick(START + 2)
    assert b"stream_truncated" in sent_body(commands)
    assert b"[DONE]" not in sent_body(commands)
    outcome = outcome_of(served)
    assert (outcome.ending, outcome.shared, outcome.provider) == (Ending.TRUNCATED, True, "a")


def test_who_has_none_begins_again_and_the_others_follow() -> None:
    made = sharing()
    leader = lead(made)
    first, _ = follow(made)
    second, _ = follow(made)
    leader.abandon(START + 1)
    assert opened(first.tick(START + 1)).attempt == 1
    assert second.tick(START + 1) == []
    events = answer(1, text("b"), STOP, DONE, content_type="text/event-stream")
    commands = feed(first, START + 2, *events)
    assert sent_body(second.tick(START + 2)) == sent_body(commands)
    assert not outcome_of(first).shared
    assert outcome_of(second).shared
    assert [outcome_of(one).ending for one in (first, second)] == [Ending.COMPLETED] * 2


def test_who_has_only_had_heartbeats_goes_on_alone() -> None:
    made = sharing(server=ServerSettings(heartbeat_interval=1.0))
    leader = lead(made)
    follower, _ = follow(made)
    leader.tick(START + 1)
    assert sent_body(follower.tick(START + 1)) == b": keep-alive\n\n"
    leader.abandon(START + 1)
    assert opened(follower.tick(START + 1)).attempt == 1
    assert made.shared.flights == {}  # its head would not fit another answer's
    events = answer(1, text("b"), STOP, DONE, content_type="text/event-stream")
    commands = feed(follower, START + 1.5, *events)
    assert not any(isinstance(command, SendHead) for command in commands)
    assert outcome_of(follower).ending is Ending.COMPLETED
    assert not outcome_of(follower).shared


def test_a_follower_may_be_given_up_as_anybody() -> None:
    made = sharing()
    lead(made, text("a"))
    follower, _ = follow(made)
    assert follower.abandon(START + 1) == [Abort()]
    assert outcome_of(follower).ending is Ending.ABANDONED


def test_draining_ends_a_follower_in_time() -> None:
    made = sharing(server=ServerSettings(drain_timeout=5.0))
    lead(made, text("a"))
    served, _ = follow(made)
    lead(made, seed=1)
    waiting, _ = follow(made, seed=1)
    for follower in (served, waiting):
        follower.receive(Draining(), START + 1)
        assert follower.deadline == START + 6
    assert b"shutting_down" in sent_body(served.tick(START + 6))
    assert outcome_of(served).ending is Ending.TRUNCATED
    assert sent_head(waiting.tick(START + 6))[0] == 503
    assert outcome_of(waiting).ending is Ending.FAILED


# Memory

LONG = text("x" * 300_000)


def test_a_long_answer_is_not_joined_and_not_kept() -> None:
    made = sharing()
    leader = lead(made, LONG, LONG, LONG)
    follower, prefix = follow(made)
    assert len(sent_body(prefix)) > 900_000
    assert len(made.shared.flights) == 1
    feed(leader, START + 1, UpstreamData(1, LONG))
    assert made.shared.flights == {}
    opened(ask(made, START + 1)[1])
    for second in range(2, 10):
        feed(leader, START + second, UpstreamData(1, LONG))
        assert sent_body(follower.tick(START + second)).count(b"xxx") > 0
        flight = follower._follows
        assert flight is not None
        assert flight._kept == 0
    feed(leader, START + 10, UpstreamData(1, STOP + DONE), UpstreamEnd(1))
    follower.tick(START + 10)
    assert outcome_of(follower).ending is Ending.COMPLETED


def test_who_reads_too_slowly_is_cut_off() -> None:
    made = sharing()
    leader = lead(made)
    asleep, _ = follow(made)
    feed(leader, START, UpstreamData(1, text("a")))
    quick, _ = follow(made)
    slow, _ = follow(made)
    for second in range(1, 6):
        feed(leader, START + second, UpstreamData(1, LONG))
        quick.tick(START + second)
    flight = quick._follows
    assert flight is not None
    assert list(flight.followers) == [quick]
    assert flight._kept == 0
    assert b"stream_truncated" in sent_body(slow.tick(START + 6))
    assert opened(asleep.tick(START + 6)).attempt == 1  # it has had nothing yet
    feed(leader, START + 7, UpstreamData(1, STOP + DONE), UpstreamEnd(1))
    quick.tick(START + 7)
    assert outcome_of(quick).ending is Ending.COMPLETED


def test_an_answer_in_one_piece_may_be_longer() -> None:
    made = sharing()
    leader, _ = ask(made, stream=False)
    follower, _ = follow(made, stream=False)
    feed(leader, START + 1, *answer(1, completion("x" * 2 * MAX_KEPT)))
    assert len(sent_body(follower.tick(START + 1))) > 2 * MAX_KEPT
    assert outcome_of(follower).ending is Ending.COMPLETED


# Anything


@settings(max_examples=150, deadline=None)
@given(
    clients=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.25, 1.5, 3.25, 7.0]),  # comes
            st.sampled_from([float("inf")] * 3 + [0.75, 2.25]),  # and leaves after
            st.sampled_from([0.0, 0.0, 0.4, 3.0]),  # writes for
        ),
        min_size=2,
        max_size=6,
    ),
    abandoned=st.sampled_from([float("inf"), 0.1, 2.6]),
    whole=st.booleans(),
)
def test_every_client_gets_a_whole_answer_or_hears_that_it_is_none(
    clients: list[tuple[float, float, float]], abandoned: float, whole: bool
) -> None:
    script = (paced(ROLE, *map(text, "abcd"), STOP, *([DONE] if whole else []), pace=1.0),)
    scenario = Scenario(name="", arrivals=(), settings=SETTINGS)
    made = Gateway(scenario_configuration(scenario), rng=random.Random(1), epoch=SCENARIO_EPOCH)
    network = ScriptedNetwork(script)
    world = World(made, network, start=START, epoch=SCENARIO_EPOCH)
    transcripts = [
        world.visit(same(leaves_after=leaves, write_time=write), START + comes)
        for comes, leaves, write in clients
    ]

    def give_up() -> None:
        run = next(iter(world.running), None)
        if run is not None and not run.exchange.finished:
            run._perform(run.exchange.abandon(world.now))

    if abandoned < float("inf"):
        world.at(START + abandoned, give_up)
    world.run()
    assert made.statistics(world.now).in_flight == 0
    assert sum(status.in_flight for status in made.shared.router.statuses(world.now)) == 0
    assert made.shared.flights == {}
    calls = sum(bool(t.outcome and t.outcome.attempts) for t in transcripts)
    assert len(network.log) == calls
    for transcript in transcripts:
        outcome = transcript.outcome
        assert outcome is not None
        words = [word for word in "abcd" if f'"content":"{word}"'.encode() in transcript.body]
        assert transcript.body.count(b'"content":"a"') <= 1
        assert words == list("abcd"[: len(words)])
        if outcome.ending is Ending.COMPLETED:
            assert words == list("abcd")
            assert transcript.body.count(DONE) == 1
            assert transcript.body.endswith(DONE)
        elif outcome.ending is Ending.TRUNCATED:
            assert b'data: {"error"' in transcript.body
        if outcome.ending is not Ending.COMPLETED:
            assert DONE not in transcript.body


def test_pieces_are_commands_as_the_client_gets_them() -> None:
    made = sharing()
    leader = lead(made)
    follower, _ = follow(made)
    first = feed(leader, START + 1, UpstreamData(1, text("a")))
    heard = follower.tick(START + 1)
    assert [type(command) for command in heard] == [SendHead, SendData]
    assert heard[1] is first[1]

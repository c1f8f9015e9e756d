"""The client's trace: what of its headers counts, and how it goes on at every attempt."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gwproto import (
    AttemptRecord,
    Command,
    LossReason,
    OpenUpstream,
    Outcome,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.config import HedgeSettings, RetrySettings
from gwproto.policy.tracing import MAX_MEMBERS, MAX_STATE, span_id, trace_headers, trace_of
from gwproto.values import Trace
from support.conversation import (
    DONE,
    KEY,
    ROLE,
    START,
    STOP,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    head,
    opened,
    provider,
    text,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{PARENT}-01"


def read(*parents: str, state: tuple[str, ...] = ()) -> Trace | None:
    fields = [(b"host", b"x")]
    fields += [(b"tracestate", one.encode("latin-1")) for one in state]
    fields += [(b"traceparent", one.encode("latin-1")) for one in parents]
    return trace_of(tuple(fields))


def state_of(*state: str) -> str:
    found = read(GIVEN, state=state)
    assert found is not None  # whatever the state is, the trace goes on
    return found.state


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        (GIVEN, 1),
        (f"00-{TRACE}-{PARENT}-00", 0),
        (f"00-{TRACE}-{PARENT}-03", 3),  # level 2's random trace id
        (f"00-{TRACE}-{PARENT}-ff", 3),  # flags nobody knows are not passed on
        (f"01-{TRACE}-{PARENT}-01", 1),
        (f"01-{TRACE}-{PARENT}-09-what-comes-next", 1),
        (f"fe-{TRACE}-{PARENT}-00-", 0),
    ],
)
def test_valid(given: str, flags: int) -> None:
    assert read(given) == Trace(TRACE, PARENT, flags, "")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-011",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"01-{TRACE}-{PARENT}-01more",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"0A-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT[1:]}-01",
        f"00-{TRACE}g-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f" {GIVEN}",
        f"{GIVEN}\n",
        f"{GIVEN},{GIVEN}",
        "\xe9" * 55,
    ],
)
def test_what_is_not_right_is_as_if_it_had_not_been_sent(given: str) -> None:
    assert read(given, state=("a=1",)) is None


def test_one_of_two_is_none() -> None:
    assert read(GIVEN, GIVEN) is None
    assert read() is None


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=80))
def test_nothing_that_is_sent_raises(given: str) -> None:
    found = read(given, state=(given,))
    assert found is None or (len(found.trace_id), found.state) == (32, "")


@pytest.mark.parametrize(
    "state",
    [
        "rojo=00f067aa0ba902b7",
        "rojo=1,congo=t61rcWkgMzE",
        "rojo=1 ,\tcongo=2",
        "fw529a3039@dt=FfffC;abc",
        "1a-2b*c/d_e@sys-1=x",
        "a=" + "v" * 256,
        "a" * 256 + "=v",
        "a= b",  # blanks may stand inside
        "a=1,,b=2,",  # empty members are none
        ",".join(f"k{number}=v" for number in range(MAX_MEMBERS)),
        "k=" + "v" * 251 + ",l=" + "v" * 256,
    ],
)
def test_a_state_is_passed_on_as_it_came(state: str) -> None:
    assert len(state) <= MAX_STATE
    assert state_of(state) == state


def test_several_states_are_one_list() -> None:
    assert state_of("a=1,b=2", "c=3") == "a=1,b=2,c=3"


@pytest.mark.parametrize(
    "state",
    [
        "",
        ",",
        " , ",
        "a",
        "a=",
        "=1",
        "A=1",
        "1a=1",
        "a@1b=1",
        "a@b@c=1",
        "a=1=2",
        "a=1,b",
        "a=\x7f",
        "a=\xe9",
        "a=1\r\nx-evil: 1",
        "a=1,a=2",
        "a=" + "v" * 257,
        "a" * 257 + "=v",
        "a" * 242 + "@b=v",
        "a@" + "b" * 15 + "=v",
        "k=" + "v" * 252 + ",l=" + "v" * 256,
        ",".join(f"k{number}=v" for number in range(MAX_MEMBERS + 1)),
    ],
)
def test_a_state_that_is_malformed_or_too_long_is_left_out(state: str) -> None:
    assert state_of(state) == ""


def test_nobody_waits_for_a_long_state() -> None:
    assert state_of("a" * 60_000) == state_of("," * 60_000) == state_of("a@" * 30_000) == ""


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.lists(st.integers(0, 300), unique=True))
def test_span_ids(request_id: str, numbers: list[int]) -> None:
    ids = [span_id(request_id, number) for number in numbers]
    assert len(set(ids)) == len(numbers)
    assert all(len(one) == 16 and set(one) <= set(string.hexdigits.lower()) for one in ids)
    assert "0" * 16 not in ids


def test_the_requests_span_has_the_ids_first_half() -> None:
    assert span_id(TRACE) == TRACE[:16]
    assert span_id("0" * 32) == "f" * 16
    assert span_id("0" * 15 + "1" + "0" * 16, 1) == "f" * 16


@given(
    st.builds(
        Trace,
        st.just(TRACE),
        st.just(PARENT),
        st.integers(0, 3),
        st.sampled_from(["", "a=1", "a=1,b=2"]),
    )
)
def test_what_is_sent_can_be_read(trace: Trace) -> None:
    assert trace_of(trace_headers(trace, PARENT)) == trace


# Beside OpenTelemetry's own reader


@given(st.data())
def test_a_trace_is_read_as_opentelemetry_reads_it(data: st.DataObject) -> None:
    given = list(data.draw(st.sampled_from([GIVEN, f"01-{TRACE}-{PARENT}-00-more"])))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(given) - 1))
        given[at] = data.draw(st.sampled_from([*"0f-Fgx", "", "00"]))
    text = "".join(given)
    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    theirs = get_current_span(context).get_span_context()
    ours = read(text)
    assert (ours is not None) == theirs.is_valid
    if ours is not None:
        assert (int(ours.trace_id, 16), int(ours.parent_id, 16)) == (theirs.trace_id, theirs.span_id)
        assert bool(ours.flags & 1) == theirs.trace_flags.sampled


@given(st.lists(st.text("az19@_-*/=, \t~A", max_size=8), max_size=4).map(",".join))
def test_a_state_is_read_as_opentelemetry_reads_it(state: str) -> None:
    assert bool(state_of(state)) == bool(TraceState.from_header([state]))


# Conversations

SENT = {"traceparent": GIVEN, "tracestate": "rojo=1"}


def sent_on(command: OpenUpstream) -> tuple[str, ...]:
    """What a provider gets of the trace."""
    fields = command.request.headers
    return tuple(value.decode() for name, value in fields if name in (b"traceparent", b"tracestate"))


def going_on(request_id: str, number: int) -> tuple[str, ...]:
    return (f"00-{TRACE}-{span_id(request_id, number)}-01", "rojo=1")


def opens(commands: list[Command]) -> tuple[str, ...]:
    return sent_on(opened(commands))


def finished(outcome: Outcome | None) -> tuple[tuple[AttemptRecord, ...], Trace | None]:
    assert outcome is not None
    return outcome.attempts, outcome.trace


def test_every_attempt_goes_on_with_the_trace_from_a_span_of_its_own() -> None:
    made = gateway(provider("a"), provider("b"), retry=RetrySettings(max_attempts=3))
    exchange, commands = begin(made, body(), headers=SENT)
    id = exchange.request_id
    assert sent_on(opened(commands)) == going_on(id, 1)
    assert opens(feed(exchange, START, *answer(1, b"{}", status=500))) == going_on(id, 2)
    stale = feed(exchange, START, UpstreamOpened(2, True), UpstreamLost(2, LossReason.STALE))
    assert opens(stale) == going_on(id, 3)
    feed(exchange, START, *answer(3, completion()))
    attempts, trace = finished(exchange.outcome)
    assert trace == Trace(TRACE, PARENT, 1, "rojo=1")
    assert [one.number for one in attempts] == [
        1,
        3,
    ]  # the stale try and its fresh connection are one attempt


def test_a_hedge_has_a_span_of_its_own() -> None:
    hedge = HedgeSettings(enabled=True, min_samples=1, min_delay=0.5, budget=1.0)
    made = gateway(provider("a"), provider("b"), hedge=hedge)
    known, _ = begin(made, body(stream=True))
    sse = ((b"content-type", b"text/event-stream"),)
    feed(known, START, *answer(1, ROLE, text("x"), STOP, DONE, content_type="text/event-stream"))
    exchange, commands = begin(made, body(stream=True), START + 1.0, headers=SENT)
    assert sent_on(opened(commands)) == going_on(exchange.request_id, 1)
    hedged = opened(exchange.tick(exchange.deadline))
    assert sent_on(hedged) == going_on(exchange.request_id, 2)
    feed(exchange, START + 2.0, UpstreamOpened(2, False), UpstreamHead(2, 200, sse))
    feed(exchange, START + 2.0, UpstreamData(2, ROLE + text("x") + STOP + DONE), UpstreamEnd(2))
    attempts, _ = finished(exchange.outcome)
    assert [(one.number, one.lost) for one in attempts] == [(1, True), (2, False)]


def test_without_a_valid_trace_providers_are_told_of_none() -> None:
    for headers in ({}, {"tracestate": "a=1"}, {"traceparent": "00-x", "tracestate": "a=1"}):
        exchange, commands = begin(gateway(), body(), headers=headers)
        assert sent_on(opened(commands)) == ()
        feed(exchange, START, *answer(1, completion()))
        assert finished(exchange.outcome)[1] is None


def test_a_request_that_nobody_was_asked_for_has_its_trace_in_the_record() -> None:
    exchange, _ = begin(gateway(), b"{", headers=SENT)
    assert finished(exchange.outcome) == ((), Trace(TRACE, PARENT, 1, "rojo=1"))


def test_what_else_a_request_says_is_as_without_a_trace() -> None:
    plain, traced = (
        opened(begin(gateway(seed=3), body(), headers={**more, "x-gateway-project-id": "p"})[1])
        for more in ({}, SENT)
    )
    assert traced.request.headers[: len(plain.request.headers)] == plain.request.headers
    assert traced.request.body == plain.request.body


def test_what_is_refused_by_its_head_alone_has_its_trace_too() -> None:
    made = gateway()
    traces = []
    for target, key in (("/v1/chat/completions", None), ("/nowhere", KEY), ("/livez", KEY)):
        exchange = made.begin(head("GET", target, key=key, headers=SENT), START)
        exchange.start(START)
        traces.append(finished(exchange.outcome)[1])
    assert traces == [Trace(TRACE, PARENT, 1, "rojo=1")] * 2 + [None]

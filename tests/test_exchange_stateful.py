"""Several exchanges over one gateway, under any order of what clients, providers, clocks and operators do.

The machine plays the runtime: it performs commands by keeping books, and the invariants of ``docs/design.md`` are
asserted at the moment a command appears. Requests that are finished are replaced by fresh ones in the same run, so that
runs go deep into the state they share. ``STATEFUL_EXAMPLES`` sets how many runs there are.
"""

import hashlib
import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from gwproto import (
    Abort,
    ClientData,
    ClientEnd,
    ClientGone,
    CloseUpstream,
    Command,
    Configuration,
    Draining,
    Ending,
    Event,
    Gateway,
    LossReason,
    OpenUpstream,
    Outcome,
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
    HealthSettings,
    HedgeSettings,
    LimitSettings,
    ModelSettings,
    RetrySettings,
    RoutingSettings,
    ServerSettings,
    Settings,
    TimeoutSettings,
)
from gwproto.exchange.account import DEFAULT_OUTPUT
from gwproto.exchange.attempt import ERROR_BODY_TIMEOUT
from gwproto.exchange.exchange import LINGER_TIMEOUT, ChatExchange
from gwproto.failures import REACTIONS, FailureClass
from gwproto.policy.retry import BUDGET_WINDOW, RetryBudget
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import Target, compile_catalog
from gwproto.routing.health import FAILURES_IN_A_ROW, Circuit
from gwproto.routing.router import FINAL, Router, Ticket
from gwproto.routing.spare import MIN_HEADROOM
from gwproto.routing.values import State
from support.conversation import DONE, EPOCH, KEY, ROLE, START, STOP, body, chunk, completion, head, provider
from support.rare import reach

TIMES = TimeoutSettings(body=3.0, connect=2.0, first_content=5.0, idle=3.0, total=7.0, stream_total=10.0)
HEARTBEAT = 2.5
DRAIN = 5.0
HEALTH = HealthSettings(
    cooldown=2.5,
    cooldown_max=10.0,
    throttle_cooldown=0.7,
    max_retry_after=5.0,
    auth_cooldown=12.0,
    model_cooldown=12.0,
)
RATIO = 0.2
HEDGE = HedgeSettings(enabled=True, percentile=0.5, budget=0.4, min_delay=0.35, min_samples=2)
PROVIDERS = (
    provider("a", models=(ModelSettings(id="a-model"), ModelSettings(id="a-small", tier="low"))),
    provider("b", models=(ModelSettings(id="b-model", context_window=8000),)),
    provider("c"),
    provider("spare", fallback=True),
)
CREDENTIALS = {"a": ["a-one", "a-two"], "b": ["b"], "c": ["c"], "spare": ["spare"]}

SECRET = "sk-canary0123456789abcdefghij"  # what a provider might quote of our key
PROMPT = "canary-of-the-prompt"
MESSAGES = [{"role": "user", "content": PROMPT}]
RESERVED = len(json.dumps(MESSAGES)) // 4 + DEFAULT_OUTPUT  # tokens, by each request in flight
SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)
USAGE = chunk({}, choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
FAULT = b'{"error":{"message":"key %b is no good here","type":"server_error"}}' % SECRET.encode()
MARK = re.compile(rb"<(\d+\.\d+):\d+>")
TOO_LONG = b'{"error":{"message":"too long","code":"context_length_exceeded"}}'

WHO = st.integers(0, 5)
ODD = st.integers(0, 7)
RARE = st.integers(0, 15)
MIN_CALLS = 3
MAX_CALLS = 6
ORDER: dict[type, int] = {CloseUpstream: 0, SendHead: 1, SendData: 1, SendEnd: 1, Abort: 1, OpenUpstream: 2}


#: What the machine below must come to, or its invariants would be true of little.
STATES = (
    "half-open: a probe",
    "the probe failed",
    "the probe was cancelled",
    "slow start left",
    "panic",
    "waiting for the earliest",
    "another round over the same targets",
    "its own cooldown passed over",
    "all throttled",
    "nobody available",
    "budget exhausted",
    "a larger window after context too long",
    "a fresh connection after a stale one",
    "a hedge won",
    "a hedge lost",
    "a hedge failed",
    "an error after a heartbeat",
    *(f"ended: {ending.value}" for ending in Ending),
)
REACHED: Counter[str] = Counter()


class CountedBudget(RetryBudget):
    """The budget, but that it is noticed when it is used up."""

    def allows(self, now: float) -> bool:
        allowed = super().allows(now)
        REACHED["budget exhausted"] += not allowed
        return allowed


class Try:
    """One upstream try as the network sees it."""

    def __init__(self, call: "Call", number: int, ticket: Ticket, now: float) -> None:
        self.call = call
        self.number = number
        self.ticket = ticket
        self.stage = "dialing"  # waiting reading error
        self.open = True
        self.reused = False
        self.fresh = False
        self.form = ""  # of the body: "stream" or "object"
        self.rest = b""  # what is left of an object
        self.texts: list[str] = []
        self.finished = False
        self.started_at = self.opened_at = self.head_at = now
        self.dialed_at = now

    @property
    def live(self) -> bool:
        return self.call.live.get(self.number) is self

    def mark(self) -> str:
        """A text that nobody else sends."""
        text = f"<{self.call.id}.{self.number}:{len(self.texts)}>"
        self.texts.append(text)
        return text


class Call:
    """One client request and what its client has seen."""

    def __init__(
        self, id: int, exchange: ChatExchange, *, stream: bool, heartbeat: float, hedged: bool, now: float
    ) -> None:
        self.id = id
        self.exchange = exchange
        self.stream = stream
        self.heartbeat = heartbeat  # 0 = off
        self.hedged = hedged  # may be
        self.began_at = now
        self.upload: list[Event] = []  # what is still to come
        self.tries: list[Try] = []
        self.attempts = 0
        self.live: dict[int, Try] = {}  # by number; two while they race
        self.served: Try | None = None
        self.tried: set[object] = set()
        self.head: SendHead | None = None
        self.body = bytearray()
        self.ended_at = math.inf
        self.sent_at = math.inf  # when the client last got something, or began to wait
        self.progress_at = (math.inf, math.inf)  # surely, and at the latest
        self.drain_at = math.inf
        self.gone = False

    @property
    def closed(self) -> list[int]:
        return [one.number for one in self.tries if not one.open]

    def slot(self, which: int) -> float:
        """When the clock is due; ``which``: 0 at the earliest, 1 at the latest."""
        if self.ended_at < math.inf:
            return self.ended_at + LINGER_TIMEOUT
        slots = [self.drain_at]
        if self.upload:
            return min(*slots, self.began_at + TIMES.body)
        if self.stream and self.heartbeat:
            slots.append(self.sent_at + self.heartbeat)
        if self.served is None:
            slots.append(self.began_at + TIMES.total)
        if not self.live:
            slots.append(-math.inf if which == 0 else math.inf)  # a wait: the router's to say
        for one in self.live.values():
            slots += self.slots_of(one, which)
        return min(slots)

    def slots_of(self, one: Try, which: int) -> list[float]:
        slots = []
        if self.hedged and which == 0 and self.served is None and len(self.live) == 1:
            slots.append(one.started_at + HEDGE.min_delay)  # or later
        if one.stage == "dialing":
            slots.append(one.dialed_at + TIMES.connect)
        elif one.stage == "error":
            slots.append(one.head_at + ERROR_BODY_TIMEOUT)
        elif self.served is not None:
            slots.append(self.progress_at[which] + TIMES.idle)
            slots.append(one.started_at + TIMES.stream_total)
        elif self.stream:
            slots.append(one.opened_at + TIMES.first_content)
        return slots


class ExchangeMachine(RuleBasedStateMachine):
    @initialize(
        max_attempts=st.sampled_from([2, 3, 4]),
        floor=st.sampled_from([1, 4, 40]),
        heartbeat=st.sampled_from([0.0, HEARTBEAT]),
        hedged=st.booleans(),
        seed=st.integers(0, 99),
    )
    def begin_gateway(self, max_attempts: int, floor: int, heartbeat: float, hedged: bool, seed: int) -> None:
        self.heartbeat = heartbeat
        self.max_attempts = max_attempts
        self.floor = floor
        self.hedged = hedged
        configured = Settings(
            providers=PROVIDERS,
            timeouts=TIMES,
            server=ServerSettings(heartbeat_interval=heartbeat, drain_timeout=DRAIN),
            health=HEALTH,
            routing=RoutingSettings(max_wait=2.0),
            retry=RetrySettings(max_attempts=max_attempts, budget_ratio=RATIO, budget_floor=floor),
            hedge=HEDGE if hedged else HedgeSettings(),
            limits=LimitSettings(
                tokens_per_minute=1 << 40
            ),  # never in the way: what is reserved is looked at
        )
        key = ClientKey("tester", hashlib.sha256(KEY.encode()).digest())
        compiled = Configuration(configured, compile_catalog(configured, CREDENTIALS), (key,))
        self.gateway = Gateway(compiled, rng=random.Random(seed), epoch=EPOCH)
        self.gateway.shared.budget = CountedBudget(RATIO, floor)
        self.now = START
        self.calls: list[Call] = []
        self.count = 0
        self.asked: list[float] = []
        self.retried: list[float] = []
        self.hedges = 0
        self.cooldowns: dict[Circuit, float] = {}
        self.starting: dict[Circuit, int] = {}  # successes since the probe passed

    @property
    def router(self) -> Router:
        return self.gateway.shared.router

    # Clients

    @precondition(lambda self: len(self.calls) < MAX_CALLS)
    @rule(
        stream=st.sampled_from([True, True, False]),
        model=st.sampled_from(["auto"] * 5 + ["a-model", "c/c-model"]),
        effort=st.sampled_from(["", "", "", "low"]),
        forced=st.sampled_from(["", "", "", "", "a", "b"]),
        usage=st.booleans(),
        pieces=st.sampled_from([1, 1, 1, 2]),
    )
    def begins(self, stream: bool, model: str, effort: str, forced: str, usage: bool, pieces: int) -> None:
        self.begin(stream, model, effort, forced, usage, pieces)

    @invariant()
    def who_is_finished_is_replaced(self) -> None:
        for _ in range(MIN_CALLS - len(self.calls)):  # some are refused at once
            self.begin(self.count % 3 > 0, "auto", "", "", self.count % 2 > 0, 1)

    def begin(self, stream: bool, model: str, effort: str, forced: str, usage: bool, pieces: int) -> None:
        fields: dict[str, Any] = {"model": model, "stream": stream}
        if effort:
            fields["reasoning_effort"] = effort
        if usage and stream:
            fields["stream_options"] = {"include_usage": True}
        payload = body(**fields, messages=MESSAGES)
        if forced and model == "auto":
            request = head(headers={"x-gateway-force-provider": forced})
        else:
            request = head()
        exchange = self.gateway.begin(request, self.now)
        assert isinstance(exchange, ChatExchange)
        self.count += 1
        call = Call(
            self.count, exchange, stream=stream, heartbeat=self.heartbeat, hedged=self.hedged, now=self.now
        )
        assert exchange.start(self.now) == []
        self.calls.append(call)
        middle = len(payload) // pieces
        parts = [payload[:middle], payload[middle:]] if pieces == 2 else [payload]
        call.upload = [*map(ClientData, parts), ClientEnd()]
        if pieces == 1:
            self.upload(call)
        else:
            self.receive(call, call.upload.pop(0))

    def upload(self, call: Call) -> None:
        while call.upload:
            event = call.upload.pop(0)
            if isinstance(event, ClientEnd):
                self.asked.append(self.now)
                call.sent_at = self.now
            self.receive(call, event)

    def pick(self, who: int, calls: Sequence[Call]) -> Call:
        return calls[who % len(calls)]

    def uploading(self) -> list[Call]:
        return [call for call in self.calls if call.upload]

    @precondition(lambda self: self.uploading())
    @rule(who=WHO)
    def uploads_the_rest(self, who: int) -> None:
        self.upload(self.pick(who, self.uploading()))

    @precondition(lambda self: self.calls)
    @rule(who=WHO, rare=RARE)
    def client_leaves(self, who: int, rare: int) -> None:
        if rare:
            return
        call = self.pick(who, self.calls)
        call.gone = True
        before = self.standing()
        self.receive(call, ClientGone())
        assert call.exchange.finished
        assert self.standing() == before

    @precondition(lambda self: self.calls)
    @rule(who=WHO, rare=RARE)
    def process_drains(self, who: int, rare: int) -> None:
        if rare:
            return
        call = self.pick(who, self.calls)
        if call.ended_at == math.inf:
            call.drain_at = min(call.drain_at, self.now + DRAIN)
        self.receive(call, Draining())

    @precondition(lambda self: self.calls)
    @rule(who=WHO, rare=RARE)
    def runtime_gives_up(self, who: int, rare: int) -> None:
        answered = [call for call in self.calls if call.ended_at < math.inf]
        if rare and not answered:
            return
        call = self.pick(who, answered or self.calls)
        before = self.standing()
        ended = call.ended_at < math.inf
        self.perform(call, call.exchange.abandon(self.now), None)
        assert call.exchange.outcome is not None
        assert call.exchange.outcome.ending is (Ending.COMPLETED if ended else Ending.ABANDONED)
        assert self.standing() == before
        assert call.exchange.abandon(self.now) == []

    @rule(name=st.sampled_from(["a", "b", "c", ""]), rare=RARE)
    def operator_resets(self, name: str, rare: int) -> None:
        if rare == 0:
            self.router.reset(self.now, provider=name)
            self.cooldowns.clear()

    # Providers

    def trying(self, *stages: str) -> list[Try]:
        return [one for call in self.calls for one in call.live.values() if not stages or one.stage in stages]

    @precondition(lambda self: self.trying())
    @rule(who=WHO, steps=st.integers(1, 4), reused=st.booleans(), odd=ODD, cut=st.sampled_from([0, 0, 7, 60]))
    def goes_on(self, who: int, steps: int, reused: bool, odd: int, cut: int) -> None:
        one = self.trying()[who % len(self.trying())]
        for _ in range(steps):
            if one.live and one.call.ended_at == math.inf:
                self.next_step(one, reused, odd, cut)

    def next_step(self, one: Try, reused: bool, odd: int, cut: int) -> None:
        """What a provider that does its work does next."""
        if one.stage == "dialing":
            self.connect(one, reused)
        elif one.stage == "waiting":
            self.answer(one, 200)
        elif one.stage == "error":
            self.data(one, FAULT)
            self.end(one)
        else:
            self.some_content(one, odd, cut)

    def connect(self, one: Try, reused: bool) -> None:
        one.stage = "waiting"
        one.reused = reused and not one.fresh
        one.opened_at = self.now
        self.receive(one.call, UpstreamOpened(one.number, one.reused))

    def answer(self, one: Try, status: int, *fields: tuple[bytes, bytes]) -> None:
        if one.stage == "dialing":
            self.connect(one, False)
        one.head_at = self.now
        one.stage = "error" if status >= 400 else "reading"
        self.receive(one.call, UpstreamHead(one.number, status, (*SSE, *fields)))

    def data(self, one: Try, data: bytes, cut: int = 0) -> None:
        """In one read or in two."""
        for piece in (data[:cut], data[cut:]) if 0 < cut < len(data) else (data,):
            if one.live:
                self.receive(one.call, UpstreamData(one.number, piece))

    def end(self, one: Try) -> None:
        if one.live:
            one.open = False
            self.receive(one.call, UpstreamEnd(one.number))

    def lose(self, one: Try, why: LossReason) -> None:
        if one.live:
            one.open = False
            self.receive(one.call, UpstreamLost(one.number, why))

    def some_content(self, one: Try, odd: int, cut: int) -> None:
        call = one.call
        if not one.form:
            one.form = "stream" if call.stream == (odd > 0) else "object"
            if one.form == "object":
                whole = completion(one.mark())
                one.rest = whole[40:]
                self.data(one, whole[:40])
                return
            self.data(one, b": hello\n\n" + ROLE, cut)
            return
        if one.form == "object":
            self.data(one, b"")
            return
        if odd == 1:
            self.data(one, b": still there\n\n")
            return
        content = b"".join(chunk({"content": one.mark()}) for _ in range(1 + odd % 3))
        call.progress_at = (call.progress_at[0], self.now)
        self.data(one, content, cut)
        call.progress_at = (self.now, self.now)

    @precondition(lambda self: self.trying())
    @rule(who=WHO, how=st.integers(0, 5), odd=ODD)
    def succeeds(self, who: int, how: int, odd: int) -> None:
        one = self.trying()[who % len(self.trying())]
        call = one.call
        if one.stage == "error" or call.ended_at < math.inf:
            if how:
                self.end(one)
            return
        while one.stage != "reading":
            self.next_step(one, False, odd, 0)
        while len(one.texts) < 1:
            self.some_content(one, max(odd, 2), 0)
        if one.form == "object":
            one.finished = True
            self.data(one, one.rest, 9 * how)
            self.end(one)
            assert call.exchange.finished
            return
        call.progress_at = (call.progress_at[0], self.now)
        if not one.finished:
            one.finished = True
            self.data(one, STOP if how == 1 else STOP + USAGE)
        if how == 0:
            self.data(one, DONE)  # and the framing stays open
        elif how == 1:
            self.end(one)
        elif how == 2:
            self.lose(one, LossReason.RESET)
        elif how == 3:
            pass  # still to be ended
        else:
            self.data(one, DONE, how)
            self.end(one)
        assert how in (0, 3) or call.exchange.finished or (how == 2 and not call.stream)

    @precondition(lambda self: any(one.state is State.SLOW_START for one in self.circuits()))
    @rule(who=WHO)
    def recovers(self, who: int) -> None:
        """Slow start lasts for ten successes."""
        starting = [
            target
            for target in self.router.catalog.targets
            if any(c.state is State.SLOW_START for c in self.router._states[target.id].circuits)
        ]
        target = starting[who % len(starting)]
        for _ in range(10):
            self.begin(True, f"{target.provider.name}/{target.model.id}", "", "", False, 1)
            mine = [one for one in self.trying() if one.call.id == self.count]
            if mine:
                self.succeeds(who=self.trying().index(mine[0]), how=4, odd=3)
            self.circuits_obey_their_table()

    def racing(self) -> list[Try]:
        return [one for call in self.calls if len(call.live) > 1 for one in call.live.values()]

    @rule(odd=ODD, rounds=st.integers(1, 3), rare=st.integers(0, 4))
    def all_is_well(self, odd: int, rounds: int, rare: int) -> None:
        """Providers show how fast they are; then one takes its time."""
        for _ in range(0 if rare else rounds):
            for one in self.trying():
                if one.live and one.stage != "error" and one.call.ended_at == math.inf:
                    self.succeeds(who=self.trying().index(one), how=4, odd=odd)
            self.who_is_finished_is_replaced()
        if self.hedged and not rare:
            self.pass_to(self.now + 2.0 * HEDGE.min_delay)

    @precondition(lambda self: self.racing())
    @rule(who=WHO, how=st.integers(0, 5), odd=ODD)
    def the_first_wins_a_race(self, who: int, how: int, odd: int) -> None:
        self.wins(self.racing()[::2], who, how, odd)

    @precondition(lambda self: self.racing())
    @rule(who=WHO, how=st.integers(0, 5), odd=ODD)
    def the_hedge_wins_a_race(self, who: int, how: int, odd: int) -> None:
        self.wins(self.racing()[1::2], who, how, odd)

    def probing(self) -> list[Try]:
        return [
            one for one in self.trying() if any(c.holder is one.ticket for c in one.ticket.state.circuits)
        ]

    @precondition(lambda self: self.probing())
    @rule(who=WHO, how=st.integers(0, 5), odd=ODD)
    def the_probe_passes(self, who: int, how: int, odd: int) -> None:
        self.wins(self.probing(), who, how, odd)

    def wins(self, some: Sequence[Try], who: int, how: int, odd: int) -> None:
        self.succeeds(who=self.trying().index(some[who % len(some)]), how=how, odd=odd)

    @precondition(lambda self: self.at_b())
    @rule(who=WHO)
    def too_long_for_b(self, who: int) -> None:
        """Others have larger windows."""
        one = self.at_b()[who % len(self.at_b())]
        self.answer(one, 400)
        self.data(one, TOO_LONG)
        self.end(one)

    def at_b(self) -> list[Try]:
        return [one for one in self.trying("dialing", "waiting") if one.ticket.target.provider.name == "b"]

    @rule(name=st.sampled_from(["b", "c"]), rare=st.integers(0, 3))
    def who_alone_can_serve_fails(self, name: str, rare: int) -> None:
        """Then back-off and another round, while the budget lasts; who began the cooldown may pass it over."""
        for _ in range(0 if rare else 3):
            self.begin(True, f"{name}/{name}-model", "", "", False, 1)
            for one in self.trying("dialing"):
                if one.call.id == self.count:
                    self.answer(one, 503)
                    self.data(one, FAULT)
                    self.end(one)
        if not rare:
            self.pass_to(self.now + 0.5)

    @rule(name=st.sampled_from(["b", "c"]), rare=ODD)
    def out_of_quota(self, name: str, rare: int) -> None:
        """Whoever asks for what is throttled for longer than a request waits is told so."""
        for _ in range(0 if rare else 2):
            self.begin(True, f"{name}/{name}-model", "", "", False, 1)
            for one in self.trying("dialing", "waiting"):
                if one.call.id == self.count:
                    self.answer(one, 429, (b"retry-after", b"900"))
                    self.data(one, FAULT)
                    self.end(one)

    @precondition(lambda self: self.trying())
    @rule(who=WHO, how=st.integers(0, 8), after=st.integers(0, 5), reused=st.booleans(), odd=ODD)
    def fails(self, who: int, how: int, after: int, reused: bool, odd: int) -> None:
        one = self.trying()[who % len(self.trying())]
        for _ in range(after):
            if one.live and one.call.ended_at == math.inf:
                self.next_step(one, reused, odd, 0)
        if not one.live:
            return
        if one.call.ended_at < math.inf:
            self.data(one, chunk({"content": "too late"}))
        elif one.stage == "dialing":
            self.lose(
                one, (LossReason.REFUSED, LossReason.DNS, LossReason.TLS, LossReason.UNREACHABLE)[how % 4]
            )
        elif one.stage == "waiting":
            if one.reused or one.fresh:
                self.lose(one, LossReason.STALE if how % 2 else LossReason.RESET)
            elif how % 3 == 0:
                self.answer(one, 302, (b"location", b"http://169.254.169.254/"))
            else:
                self.lose(one, (LossReason.RESET, LossReason.PROTOCOL)[how % 2])
        elif one.stage == "error" or one.form == "object":
            self.lose(one, LossReason.TRUNCATED)
        else:
            self.fail_in_stream(one, how)

    def fail_in_stream(self, one: Try, how: int) -> None:
        one.form = one.form or "stream"
        fault = b"data: " + FAULT + b"\n\n"
        one.call.progress_at = (one.call.progress_at[0], self.now)
        if how in (0, 1):
            self.data(one, fault, 9 * how)
        elif how == 2:  # content and error in one read
            self.data(one, chunk({"content": one.mark()}) + fault)
        elif how == 3:
            self.data(one, b"data: {nonsense\n\n")
        elif how == 4:
            self.end(one)
        elif how == 5 and not one.texts:
            self.data(one, DONE)
        elif how == 6:
            self.data(one, chunk({}, "error"))
        else:
            self.lose(one, LossReason.RESET)
        assert not one.live or one.call.ended_at < math.inf or one.finished

    @precondition(lambda self: self.trying("dialing", "waiting"))
    @rule(who=WHO)
    def kept_connection_was_dead(self, who: int) -> None:
        one = self.trying("dialing", "waiting")[who % len(self.trying("dialing", "waiting"))]
        if one.stage == "dialing":
            self.connect(one, True)
        if one.reused or one.fresh:
            self.lose(one, LossReason.STALE)

    @precondition(lambda self: self.trying("dialing", "waiting"))
    @rule(
        who=WHO,
        status=st.sampled_from([500, 500, 503, 429, 429, 400, 401, 403, 404, 413]),
        hint=st.sampled_from([None, None, 1, 2, 7, 900]),
        whole=st.booleans(),
        text=st.sampled_from([FAULT, FAULT, FAULT, b"<html>no</html>", TOO_LONG]),
    )
    def refuses(self, who: int, status: int, hint: int | None, whole: bool, text: bytes) -> None:
        trying = self.trying("dialing", "waiting")
        one = trying[who % len(trying)]
        fields = ((b"retry-after", b"%d" % hint),) if hint is not None else ()
        self.answer(one, status, *fields)
        if not whole:
            return
        self.data(one, text)
        self.end(one)
        if status == 429 and hint is not None and text is FAULT:
            assert one.ticket.state.own.until - self.now >= min(hint, HEALTH.max_retry_after) - 1e-6

    @precondition(lambda self: self.trying())
    @rule(times=st.integers(1, 3), name=st.sampled_from(["a", "b", "c", "spare"]))
    def provider_is_down(self, times: int, name: str) -> None:
        for one in [one for one in self.trying() if one.ticket.target.provider.name == name][:times]:
            if one.stage == "dialing":
                self.lose(one, LossReason.REFUSED)
            elif one.call.ended_at == math.inf:
                self.lose(one, LossReason.RESET)

    @precondition(lambda self: any(call.closed for call in self.calls))
    @rule(who=WHO, how=st.integers(0, 4))
    def late(self, who: int, how: int) -> None:
        """What was on its way when an attempt was closed changes nothing."""
        call = self.pick(who, [call for call in self.calls if call.closed])
        number = call.closed[who % len(call.closed)]
        event: Event = (
            UpstreamOpened(number, True),
            UpstreamHead(number, 500, JSON),
            UpstreamData(number, chunk({"content": f"<{call.id}.{number}:9>"})),
            UpstreamEnd(number),
            UpstreamLost(number, LossReason.STALE),
        )[how]
        if number in call.live:
            return
        deadline = call.exchange.deadline
        before = self.standing()
        assert call.exchange.receive(event, self.now) == []
        assert call.exchange.deadline == deadline
        assert self.standing() == before

    # The clock

    def pass_to(self, then: float) -> None:
        """Everybody is served at his deadline."""
        for _ in range(1000):
            due = min(self.calls, key=lambda call: call.exchange.deadline, default=None)
            if due is None or due.exchange.deadline > then:
                self.now = then
                return
            self.now = max(self.now, due.exchange.deadline)
            self.tick(due)
        raise AssertionError("deadlines come faster than time passes")

    def tick(self, call: Call) -> None:
        due = call.exchange.deadline <= self.now
        live = list(call.live.values())
        latest = call.slot(0)
        commands = call.exchange.tick(self.now)
        if not due:
            assert commands == []
        if commands or call.exchange.finished:
            assert latest <= self.now  # nothing happens before its time
        self.perform(call, commands, None)
        assert call.exchange.finished or all(one.live or not one.open for one in live)

    @rule(seconds=st.sampled_from([0.001, 0.1, 0.3, 0.3, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_to(self.now + seconds)

    @precondition(lambda self: self.calls)
    @rule(who=WHO, lateness=st.sampled_from([-0.001] * 6 + [0.0, 0.0, 0.01, 3.0]))
    def time_to_a_deadline(self, who: int, lateness: float) -> None:
        """A loop that is busy looks at its clock late; one that is not may look early."""
        call = self.pick(who, self.calls)
        self.pass_to(max(self.now, call.exchange.deadline - 0.001))
        if call.exchange.finished:
            return
        self.now = max(self.now, call.exchange.deadline + lateness)
        self.tick(call)
        for other in list(self.calls):
            self.tick(other)

    @precondition(lambda self: self.resting())
    @rule(lateness=st.sampled_from([0.0, 0.5]))
    def time_to_the_end_of_a_cooldown(self, lateness: float) -> None:
        self.pass_to(self.resting()[0] + lateness)

    def resting(self) -> list[float]:
        return sorted(
            {one.until for one in self.circuits() if one.state is State.COOLDOWN and one.until > self.now}
        )

    # Performing, and what must hold at that moment

    def receive(self, call: Call, event: Event) -> None:
        self.perform(call, call.exchange.receive(event, self.now), event)

    def perform(self, call: Call, commands: Sequence[Command], cause: Event | None) -> None:
        exchange = call.exchange
        ranks = [ORDER[type(command)] for command in commands]
        assert ranks == sorted(ranks), commands  # closes, then what the client sees, then opens
        before = list(call.live.values())
        call.live = {one.number: one for one in before if one.open}
        for command in commands:
            if isinstance(command, CloseUpstream):
                one = call.live.pop(command.attempt)
                assert one.open
                one.open = False
            elif isinstance(command, OpenUpstream):
                self.opens(call, command, before, cause)
            else:
                self.client_sees(call, command)
        if exchange.finished:
            self.check_end(call)
            return
        if exchange.deadline <= self.now:
            self.perform(call, exchange.tick(self.now), None)
            return
        assert call.ended_at == math.inf or call.live
        REACHED["waiting for the earliest"] += not (call.live or call.upload)
        assert len(call.live) <= 1 + (self.hedged and call.served is None)
        assert exchange.deadline > self.now
        assert call.slot(0) <= exchange.deadline <= call.slot(1)

    def see_retry(self, call: Call) -> None:
        """An attempt after others have failed has drawn on the budget."""
        self.retried.append(self.now)
        recent = sum(self.now - BUDGET_WINDOW < at for at in self.retried)
        requests = sum(self.now - BUDGET_WINDOW < at for at in self.asked)
        assert recent <= RATIO * requests + self.floor

    def opens(self, call: Call, command: OpenUpstream, before: Sequence[Try], cause: Event | None) -> None:
        assert call.ended_at == math.inf
        assert call.served is None
        assert not any(one.number == command.attempt for one in call.tries)
        attempt = call.exchange._attempts.live[command.attempt]
        assert KEY not in repr(command)
        one = Try(call, command.attempt, attempt.ticket, self.now)
        if command.request.fresh:
            # The same try once more: no attempt, no new clock but the connection's.
            assert isinstance(cause, UpstreamLost)
            assert cause.why is LossReason.STALE
            (stale,) = [one for one in before if one.number == cause.attempt]
            assert not stale.fresh
            assert stale.ticket is attempt.ticket
            one.fresh = True
            REACHED["a fresh connection after a stale one"] += 1
            one.started_at = stale.started_at
        else:
            call.attempts += 1
            assert call.attempts <= self.max_attempts
            if call.live:
                assert cause is None
                self.check_hedge(call, attempt.ticket)
            elif call.attempts > 1:
                self.see_retry(call)
            self.check_choice(call, attempt.ticket, waited=not before, hedge=bool(call.live))
        assert command.request.credential == one.ticket.target.credential
        call.tries.append(one)
        call.live[one.number] = one

    def check_hedge(self, call: Call, ticket: Ticket) -> None:
        """It costs what is to spare, and nothing else."""
        (first,) = call.live.values()
        self.hedges += 1
        assert self.hedged
        assert self.hedges <= HEDGE.budget * len(self.asked) + 1e-6
        assert self.now >= first.started_at + HEDGE.min_delay
        assert not ticket.probe
        assert not ticket.panic
        assert not ticket.target.provider.fallback
        assert ticket.state.headroom(self.now) >= MIN_HEADROOM
        assert ticket.target.backend != first.ticket.target.backend

    def check_choice(self, call: Call, ticket: Ticket, *, waited: bool, hedge: bool) -> None:
        """``waited``: the request had a pause before this."""
        now, target = self.now, ticket.target
        course = call.exchange._course
        assert course is not None
        plan, again = course._plan, course._again
        if waited:
            call.tried.clear()  # a pause may have been followed by one more round
        assert target.backend not in call.tried
        assert not again or call.attempts > 1
        candidates = {one.id: one for one in plan.candidates}
        assert target.id in candidates
        standing = {status.target: status.status for status in self.router.statuses(now)}
        if standing[target.id] == "cooldown":
            assert ticket.panic or again
        live = [one.ticket for one in self.trying() if not one.ticket.released]
        if ticket.panic:
            assert not any(one.panic and one.target is target for one in live)
            states = [self.router._states[id] for id in candidates]
            assert all(not state.passable(now) for state in states)
        REACHED["half-open: a probe"] += ticket.probe
        REACHED["panic"] += ticket.panic
        REACHED["another round over the same targets"] += again
        for circuit in ticket.state.circuits:
            if circuit.state is State.COOLDOWN:
                assert ticket.panic or circuit.caused_by is plan
                REACHED["its own cooldown passed over"] += not ticket.panic
            elif circuit.state is State.HALF_OPEN:
                assert ticket.probe
                since = [one for one in live if one.picked_at >= circuit.until]
                assert not any(circuit in one.state.circuits and one is not ticket for one in since)
        if not (ticket.panic or again or hedge):
            self.check_preference(call, target, list(candidates.values()))
        explained = self.router.explain(plan, now)
        assert len(explained) == len(self.router.catalog.targets)
        assert [one.target for one in explained if not one.reason] == [target.id]
        call.tried.add(target.backend)

    def check_preference(self, call: Call, target: Target, candidates: list[Target]) -> None:
        """A fallback only when nobody else is left; after a failure another provider rather than the same."""
        course = call.exchange._course
        assert course is not None
        tried = (course._plan.spent | call.exchange._history.tried) - {target.backend}
        free = [
            one
            for one in candidates
            if one.backend not in tried
            and self.router._states[one.id].passable(self.now)
            and one.provider.name != target.provider.name
        ]
        if target.provider.fallback:
            assert all(one.provider.fallback for one in free)
        touched = {backend[0] for backend in tried if isinstance(backend, tuple)}
        if target.provider.origin in touched:
            assert all(one.provider.fallback or one.provider.origin in touched for one in free)

    def client_sees(self, call: Call, command: Command) -> None:
        assert call.ended_at == math.inf, f"{command} after the end"
        assert not call.gone
        if isinstance(command, SendHead):
            assert call.head is None
            call.head = command
            attempts = dict(command.headers).get(b"x-gateway-attempts")
            assert attempts is None or int(attempts) == call.attempts
        elif isinstance(command, SendData):
            assert call.head is not None
            call.body += command.data
            call.sent_at = self.now
            for mark in MARK.findall(command.data):
                (serving,) = [one for one in call.tries if mark.decode() == f"{call.id}.{one.number}"]
                assert not any(one.open for one in call.tries if one is not serving)
                assert call.served in (None, serving)
                if call.served is None:
                    call.served = serving
                    call.progress_at = (self.now, self.now)
        else:
            assert isinstance(command, Abort) or call.head is not None
            call.ended_at = self.now

    def check_end(self, call: Call) -> None:
        self.calls.remove(call)
        outcome = call.exchange.outcome
        assert outcome is not None
        assert not any(one.open for one in call.tries)
        assert len(outcome.attempts) == call.attempts
        assert (call.ended_at < math.inf) != (outcome.ending is Ending.CLIENT_CLOSED)
        assert not call.gone or outcome.ending in (Ending.CLIENT_CLOSED, Ending.COMPLETED)
        assert outcome.status == (499 if call.head is None else call.head.status)
        self.note(call, outcome)
        for place, record in enumerate(outcome.attempts):
            if record.failure is None:
                left = outcome.ending in (Ending.CLIENT_CLOSED, Ending.ABANDONED)
                assert place == call.attempts - 1 or record.lost or left
                continue
            kind = FailureClass(record.failure)
            assert REACTIONS[kind].switch or place == call.attempts - 1 or self.hedges
            backend = (record.provider, record.model, record.key)
            later = [(one.provider, one.model, one.key) for one in outcome.attempts[place + 1 :]]
            assert kind not in FINAL or backend not in later
        written = repr(outcome)
        sent = bytes(call.body)
        for secret in (KEY, SECRET, PROMPT):
            assert secret not in written
            assert secret.encode() not in sent
        self.check_body(call, sent, outcome.ending)

    def note(self, call: Call, outcome: Outcome) -> None:
        """Count what was rare about it."""
        REACHED[f"ended: {outcome.ending.value}"] += 1
        REACHED["all throttled"] += outcome.status == 429 and not outcome.attempts
        REACHED["nobody available"] += outcome.error == "no_candidate"
        beaten = call.head is not None and call.head.status == 200 and call.served is None
        REACHED["an error after a heartbeat"] += beaten and outcome.ending is Ending.FAILED
        for record, later in zip_longest(outcome.attempts, outcome.attempts[1:]):
            if record.probe:
                REACHED["the probe failed"] += record.failure is not None
                gone = outcome.ending is Ending.CLIENT_CLOSED and record.first_content_after is None
                REACHED["the probe was cancelled"] += gone and record.failure is None
            if record.hedge:
                REACHED["a hedge failed"] += record.failure is not None
                REACHED["a hedge lost"] += record.lost
                REACHED["a hedge won"] += record.first_content_after is not None
            if record.failure == FailureClass.CONTEXT.value and later is not None:
                REACHED["a larger window after context too long"] += 1

    def check_body(self, call: Call, sent: bytes, ending: Ending) -> None:
        assert sent.count(b"[DONE]") == (ending is Ending.COMPLETED and call.stream)
        texts = [] if call.served is None else call.served.texts
        seen = re.findall(rb"<\d+\.\d+:\d+>", sent)
        if ending is Ending.COMPLETED:
            assert call.served is None or call.served.finished
            assert call.head is not None
            assert call.head.status == 200
            assert seen == [text.encode() for text in texts]
            assert sent.endswith(DONE) or not call.stream
        else:
            assert seen == [text.encode() for text in texts][: len(seen)]
        if call.head is None or call.ended_at == math.inf:
            return
        length = dict(call.head.headers).get(b"content-length")
        assert length is None or int(length) == len(sent) or ending is Ending.ABANDONED
        if call.head.status != 200:
            assert set(json.loads(sent)["error"]) == {"message", "type", "param", "code"}
        elif ending in (Ending.TRUNCATED, Ending.FAILED):
            last = sent.rstrip(b"\n").rpartition(b"\n\n")[2]
            assert json.loads(last.removeprefix(b"data: "))["error"]["message"]

    # What must hold always

    def circuits(self) -> list[Circuit]:
        found: dict[Circuit, None] = {}
        for state in self.router._states.values():
            found |= dict.fromkeys(state.circuits)
        return list(found)

    def standing(self) -> list[object]:
        """All figures of health but those of what is in flight."""
        now = self.now
        # Not the summaries: a score may be a second old, a status changes with a probe. What they are made of counts.
        hidden = {"in_flight": 0, "status": "", "reason": "", "score": 0.0, "cooldown_left": 0.0}
        statuses = [structs.replace(one, **hidden) for one in self.router.statuses(now)]
        circuits = [
            (
                one.state,
                one.until,
                one.failures,
                one.successes,
                *one.evidence.estimates(now),
            )
            for one in self.circuits()
        ]
        return [*statuses, *circuits]

    @invariant()
    def what_is_in_flight_is_what_is_open(self) -> None:
        assert self.gateway.statistics(self.now).in_flight == len(self.calls)
        reserved = len([call for call in self.calls if not call.upload]) * RESERVED
        assert self.gateway.limits.keys.reserved == reserved
        held = Counter(one.ticket.target.id for one in self.trying() if one.call.ended_at == math.inf)
        for status in self.router.statuses(self.now):
            assert status.in_flight == held[status.target]

    @invariant()
    def circuits_obey_their_table(self) -> None:
        live = [one.ticket for one in self.trying()]
        for circuit in self.circuits():
            if circuit.state in (State.AVAILABLE, State.SLOW_START):
                assert circuit.failures < FAILURES_IN_A_ROW
            REACHED["slow start left"] += self.starting.get(circuit, 0) == 9 and circuit.successes == 10
            self.starting[circuit] = circuit.successes
            if circuit.holder is not None:
                assert circuit.state is State.HALF_OPEN
                assert circuit.holder in live
            assert circuit.until >= self.cooldowns.get(circuit, circuit.until)
            self.cooldowns[circuit] = circuit.until

    def teardown(self) -> None:
        """Everybody leaves: nothing is held. Time alone ends every request, too."""
        if not hasattr(self, "calls"):
            return
        if self.count % 2:
            self.pass_to(self.now + TIMES.total + TIMES.stream_total)
        for call in list(self.calls):
            call.gone = True
            self.receive(call, ClientGone())
        self.what_is_in_flight_is_what_is_open()
        assert self.calls == []


TestExchange = ExchangeMachine.TestCase
TestExchange.settings = settings(
    max_examples=int(os.environ.get("STATEFUL_EXAMPLES", "160")),
    stateful_step_count=70,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.unmeasured
def test_rare_states_are_reached(record_property: Callable[[str, object], None]) -> None:
    reach(ExchangeMachine, STATES, REACHED, record_property, steps=70)

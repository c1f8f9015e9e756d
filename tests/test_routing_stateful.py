"""The router under any order of requests, verdicts, waits and operators: its invariants hold at every step.

A request that is finished is replaced by a fresh one in the same run, so that runs go deep into shared state.
"""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from gwproto.config import ModelSettings
from gwproto.failures import Effect, Failure, FailureClass
from gwproto.policy.retry import RetryBudget
from gwproto.routing.health import Circuit
from gwproto.routing.lineup import SLOW_INTERVAL
from gwproto.routing.router import NoTarget, Router, Ticket, Wait
from gwproto.routing.ticket import Plan
from gwproto.routing.values import State
from gwproto.values import Limit
from support.rare import reach
from support.routing import Desk, NoJitter, provider, standing_of

MAX_ATTEMPTS = 4
BUDGET_RATIO, BUDGET_FLOOR, BUDGET_WINDOW = 0.2, 2, 10.0

DAILY = 60
PROVIDERS = (
    provider("a", "x", ModelSettings(id="y", tier="low")),
    provider("b", ModelSettings(id="z", requests_per_day=DAILY)),
    provider("c", requests_per_minute=6, max_concurrency=3),
    provider("spare", fallback=True),
)
KINDS = st.sampled_from(
    [
        *[FailureClass.SERVER] * 6,
        *[FailureClass.UNREACHABLE] * 4,
        *[FailureClass.RATE_MINUTE] * 3,
        *[FailureClass.TIMEOUT] * 2,
        FailureClass.CONCURRENCY,
        FailureClass.RATE_DAY,
        FailureClass.AUTH,
        FailureClass.FORBIDDEN,
        FailureClass.MODEL_GONE,
        FailureClass.CONTEXT,
        FailureClass.INVALID,
    ]
)
#: What the machine below must come to, or its invariants would be true of little.
STATES = (
    "half-open: a probe",
    "the probe failed",
    "the probe was throttled",
    "the probe was cancelled",
    "an old verdict during the probe",
    "slow start left",
    "panic",
    "waiting for the earliest",
    "all throttled",
    "another round over the same targets",
    "its own cooldown passed over",
    "a fallback",
    "budget exhausted",
    "daily quota used up",
    "learned limit spent",
    "a slow outlier kept off",
    "trial of a slow outlier",
    "affinity followed",
    "affinity given up",
    "restarted in a cooldown",
)
REACHED: Counter[str] = Counter()
HINTS = st.sampled_from([None, None, 0.0, 1.0, 1.9, 30.0, 1e9])


class Request:
    """A client's request as the exchange drives it."""

    def __init__(self, plan: Plan, began_at: float) -> None:
        self.plan = plan
        self.began_at = began_at
        self.tried: set[object] = set()
        self.again = False
        self.ticket: Ticket | None = None
        self.content = False
        self.last: Ticket | None = None
        self.attempts = 0
        self.waits: list[float] = []


class RouterMachine(RuleBasedStateMachine):
    @initialize(keys=st.booleans())
    def begin(self, keys: bool) -> None:
        self.desk = Desk(*PROVIDERS, credentials={"a": ("one", "two") if keys else ("one",)})
        self.budget = RetryBudget(BUDGET_RATIO, BUDGET_FLOOR)
        self.began: list[float] = []
        self.retried: list[float] = []
        self.requests: list[Request] = []
        self.deadlines: dict[Circuit, float] = {}
        self.turns: Counter[str] = Counter()
        self.even = False  # no failover since the set changed: those may overlap here

    # What requests do

    @rule(
        model=st.sampled_from(["auto", "auto", "auto", "x", "b/z"]),
        effort=st.sampled_from(["auto", "auto", "auto", "low"]),
        affinity=st.sampled_from(["", "", "", "", "", "one chat", "another"]),
    )
    def one_request(self, model: str, effort: str, affinity: str) -> None:
        self.request(model, effort, affinity)

    def request(self, model: str, effort: str, affinity: str = "") -> None:
        if self.desk.catalog.resolve(model) is None:  # gone with a reload
            return
        plan = self.desk.plan(model=model, effort=effort, affinity=affinity)
        request = Request(plan, self.desk.now)
        self.budget.request(self.desk.now)
        self.began.append(self.desk.now)
        if model == effort == "auto":
            self.pick_in_turn(request)
        else:
            self.pick(request)

    def live(self) -> list[Request]:
        return [request for request in self.requests if request.ticket is not None]

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def first_content(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.live()))
        if not request.content:
            assert request.ticket is not None
            request.content = True
            self.desk.router.content(request.ticket, self.desk.now)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), left=st.sampled_from([0, 1, 9, 9, 9]), reset=st.sampled_from([1.5, 1.5, 5.5]))
    def headers_tell(self, data: st.DataObject, left: int, reset: float) -> None:
        request = data.draw(st.sampled_from(self.live()))
        assert request.ticket is not None
        self.desk.router.limits(request.ticket, [Limit("requests", "minute", 10, left, reset)], self.desk.now)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.live()))
        assert request.ticket is not None
        self.desk.router.success(request.ticket, self.desk.now)
        self.requests.remove(request)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def client_gone(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.live())))

    def leave(self, request: Request) -> None:
        assert request.ticket is not None
        before = [(circuit.state, circuit.until, circuit.failures) for circuit in self.circuits()]
        REACHED["the probe was cancelled"] += bool(self.held(request.ticket))
        self.desk.router.release(request.ticket, self.desk.now)
        after = [(circuit.state, circuit.until, circuit.failures) for circuit in self.circuits()]
        assert before == after
        self.requests.remove(request)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), kind=KINDS, hint=HINTS)
    def fail(self, data: st.DataObject, kind: FailureClass, hint: float | None) -> None:
        self.fail_one(data.draw(st.sampled_from(self.live())), Failure(kind, "failed", retry_after=hint))

    def fail_one(self, request: Request, failure: Failure) -> None:
        assert request.ticket is not None
        held = self.held(request.ticket)
        if held and failure.reaction.effect is Effect.COUNT:
            REACHED["the probe failed"] += request.ticket.state.circuit(failure.reaction.scope) in held
        REACHED["the probe was throttled"] += bool(held) and failure.reaction.effect is Effect.THROTTLE
        REACHED["an old verdict during the probe"] += any(
            circuit.holder is not None and circuit not in held for circuit in request.ticket.state.circuits
        )
        self.desk.router.failure(request.ticket, failure, self.desk.now)
        request.ticket = None
        if not failure.reaction.switch or request.content or request.attempts == MAX_ATTEMPTS:
            self.requests.remove(request)
            return
        if not self.budget.take(self.desk.now):
            REACHED["budget exhausted"] += 1
            self.requests.remove(request)
            return
        self.retried.append(self.desk.now)
        self.even = False
        self.requests.remove(request)
        self.pick(request)

    @precondition(lambda self: len(self.live()) < len(self.requests))
    @rule(data=st.data())
    def look_again(self, data: st.DataObject) -> None:
        waiting = [request for request in self.requests if request.ticket is None]
        self.wake(data.draw(st.sampled_from(waiting)))

    def wake(self, request: Request) -> None:
        self.even = False
        self.desk.now = max(self.desk.now, request.waits[-1])
        self.requests.remove(request)
        self.pick(request)

    def late(self) -> list[Request]:
        """Those whose attempt is older than the probe of one of its scopes."""
        return [
            request
            for request in self.live()
            if request.ticket is not None
            and any(circuit.holder not in (None, request.ticket) for circuit in request.ticket.state.circuits)
        ]

    def probing(self) -> list[Request]:
        return [request for request in self.live() if request.ticket and self.held(request.ticket)]

    @precondition(lambda self: self.probing())
    @rule(data=st.data(), how=st.integers(0, 5))
    def the_probe_ends(self, data: st.DataObject, how: int) -> None:
        request = data.draw(st.sampled_from(self.probing()))
        assert request.ticket is not None
        if how == 0:
            self.leave(request)
        elif how == 1:
            self.fail_one(request, Failure(FailureClass.SERVER, "failed"))
        elif how == 2:
            self.fail_one(request, Failure(FailureClass.RATE_MINUTE, "slow down"))
        else:
            request.content = True
            self.desk.router.content(request.ticket, self.desk.now)

    @precondition(lambda self: self.late())
    @rule(data=st.data(), kind=st.sampled_from([FailureClass.SERVER, FailureClass.UNREACHABLE]))
    def fail_late(self, data: st.DataObject, kind: FailureClass) -> None:
        self.fail_one(data.draw(st.sampled_from(self.late())), Failure(kind, "old news"))

    @rule(model=st.sampled_from(["x", "b/z"]), rare=st.integers(0, 2))
    def one_and_the_same_fails(self, model: str, rare: int) -> None:
        """Until a cooldown begins: whose failure began it may try again after back-off."""
        for _ in range(0 if rare else 3):
            self.request(model, "auto")
            if self.requests and self.requests[-1].attempts == 1 and self.requests[-1].ticket:
                self.fail_one(self.requests[-1], Failure(FailureClass.SERVER, "failed"))
        if self.requests and self.requests[-1].ticket is None:
            self.wake(self.requests[-1])

    @rule()
    def a_chat_goes_on(self) -> None:
        for _ in range(3):
            self.request("auto", "auto", "one chat")
            ticket = self.requests[-1].ticket if self.requests else None
            if ticket is not None:
                self.desk.router.success(ticket, self.desk.now, 10)
                self.requests.pop()

    # What else happens

    @rule(names=st.sampled_from([("a",), ("b",), ("c",), ("a", "b", "c", "spare"), ("a", "b", "c", "spare")]))
    def outage(self, names: tuple[str, ...]) -> None:
        """Pinned requests fail until nobody is sent there any more: deep states would be rare otherwise."""
        self.even = False
        for name in names:
            if name not in self.desk.catalog.provider_names:  # gone with a reload
                continue
            for _ in range(9):
                choice = self.desk.ask(self.desk.plan(provider=name))
                if not isinstance(choice, Ticket):
                    break
                self.desk.fail(choice)
                if choice.panic:
                    break

    @rule(slow=st.sampled_from(["a", "b"]), rare=st.integers(0, 2))
    def a_slow_spell(self, slow: str, rare: int) -> None:
        """Long enough that the difference tells."""
        if rare:
            return
        for _ in range(13):
            for model in ("x", "b/z"):
                self.serve(model, 1.0 if slow == ("b" if model == "b/z" else "a") else 0.2)
        self.burst()
        self.desk.now += SLOW_INTERVAL
        self.burst()

    @precondition(lambda self: any(one.state is State.SLOW_START for one in self.circuits()))
    @rule()
    def recovery(self) -> None:
        """Slow start lasts for ten successes."""
        for target in self.desk.catalog.targets:
            circuits = self.desk.router._states[target.id].circuits
            for circuit in [one for one in circuits if one.state is State.SLOW_START]:
                for _ in range(20):  # or twice, where two keys take turns
                    self.serve(f"{target.provider.name}/{target.model.id}", 0.2)
                REACHED["slow start left"] += circuit.state is State.AVAILABLE

    def serve(self, model: str, delay: float) -> None:
        """A pinned request that succeeds, if there is anybody to serve it."""
        if self.desk.catalog.resolve(model) is None:  # gone with a reload
            return
        choice = self.desk.ask(self.desk.plan(model=model))
        if isinstance(choice, Ticket):
            self.even = False
            self.desk.now += delay
            self.desk.router.content(choice, self.desk.now)
            self.desk.router.success(choice, self.desk.now)

    @precondition(lambda self: any(circuit.state is not State.AVAILABLE for circuit in self.circuits()))
    @rule(elapsed=st.sampled_from([0.0, 7.3, 44.1, 300.7]), rare=st.integers(0, 4))
    def restart(self, elapsed: float, rare: int) -> None:
        """Requests end with the process. What is kept is worth as much as if the router had waited."""
        if rare:
            return
        for request in self.live():
            assert request.ticket is not None
            self.desk.router.release(request.ticket, self.desk.now)
        self.requests.clear()
        before = self.desk.router
        memory = before.snapshot(self.desk.now)
        self.desk.now += elapsed
        self.desk.router = Router(self.desk.catalog, self.desk.settings, rng=NoJitter())
        self.desk.router.restore(memory, elapsed, self.desk.now)
        self.deadlines.clear()
        self.even = False
        expected = standing_of(before, self.desk.now)
        assert standing_of(self.desk.router, self.desk.now) == pytest.approx(expected)
        cooling = [circuit for circuit in self.circuits() if circuit.state is State.COOLDOWN]
        REACHED["restarted in a cooldown"] += len(cooling)

    @rule()
    def burst(self) -> None:
        for _ in range(4):
            self.request("auto", "auto")

    @rule(seconds=st.sampled_from([0.001, 0.3, 0.3, 1.0, 1.0, 5.0, 10.0, 46.0, 61.0, 91.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.desk.now += seconds

    @precondition(lambda self: self.resting())
    @rule(lateness=st.sampled_from([0.0, 0.5]))
    def time_to_the_end_of_a_cooldown(self, lateness: float) -> None:
        until, name = min(self.resting())
        self.desk.now = until + lateness
        self.request(name, "auto")

    def resting(self) -> list[tuple[float, str]]:
        """Cooldowns' ends, and models to ask for that they concern."""
        return [
            (circuit.until, f"{target.provider.name}/{target.model.id}")
            for target in self.desk.catalog.targets
            for circuit in self.desk.router._states[target.id].circuits
            if circuit.state is State.COOLDOWN and circuit.until > self.desk.now
        ]

    @precondition(lambda self: any(circuit.state is not State.AVAILABLE for circuit in self.circuits()))
    @rule(provider=st.sampled_from(["a", "b", "c", "spare"]), rare=st.integers(0, 5))
    def operator_resets(self, provider: str, rare: int) -> None:
        if rare == 0:
            self.desk.router.reset(self.desk.now, provider=provider)
            self.deadlines.clear()

    @rule(rare=st.integers(0, 9), fewer=st.booleans())
    def reload(self, rare: int, fewer: bool) -> None:
        if rare == 0:
            self.desk.reload(*(PROVIDERS[1:] if fewer else PROVIDERS))
            self.even = False

    # Picking, and what must hold at that moment

    def pick_in_turn(self, request: Request) -> None:
        """A first attempt for "auto": while the eligible stay the same, their turns are even."""
        explained = self.desk.router.explain(request.plan, self.desk.now)
        assert len(explained) == len(self.desk.catalog.targets)
        turns = request.plan.shape.turns
        lineup = request.plan.shape.lineup(self.desk.now)
        if lineup is not None and len(lineup.names) > 1:
            if (turns._keys, turns._weights) != (lineup.names, lineup.weights):
                self.turns, self.even = Counter(dict.fromkeys(lineup.names, 0)), True
            self.even = self.even and set(lineup.weights) == {1.0} and not request.plan.affinity
        expected = [one.target for one in explained if not one.reason]
        kept = self.desk.router._affinity.get(request.plan.affinity)
        slow = () if lineup is None else tuple(lineup.slow)
        self.pick(request)
        chosen = request.ticket
        if chosen is None or chosen.panic:
            assert expected == []
            return
        assert expected == [chosen.target.id]  # the preview told the truth
        REACHED["affinity followed"] += kept == chosen.target.id
        REACHED["affinity given up"] += kept not in ("", chosen.target.id)
        if slow:
            trial = chosen.target.provider.name in slow
            REACHED["trial of a slow outlier" if trial else "a slow outlier kept off"] += 1
            self.even = self.even and not trial
            if trial:
                return
        if lineup is None or len(lineup.names) == 1:
            return  # no turns were taken
        self.turns[chosen.target.provider.name] += 1
        if self.even:
            assert max(self.turns.values()) - min(self.turns.values()) <= 1

    def pick(self, request: Request) -> None:
        now = self.desk.now
        circuits = self.circuits()
        for circuit in circuits:
            circuit.settle(now)
        before = {circuit: (circuit.state, circuit.caused_by, circuit.holder) for circuit in circuits}
        choice = self.desk.ask(request.plan, tried=request.tried, last=request.last, again=request.again)
        if isinstance(choice, Ticket):
            self.check_choice(request, choice, before)
            request.attempts += 1
            request.ticket = request.last = choice
            request.tried.add(choice.target.backend)
            self.requests.append(request)
            # Who is not chosen has a reason.
            explained = self.desk.router.explain(request.plan, now)
            assert [one.target for one in explained if not one.reason] == [choice.target.id]
        elif isinstance(choice, Wait):
            assert now < choice.until
            REACHED["waiting for the earliest"] += 1
            request.waits.append(choice.until)
            assert choice.until - (request.waits[0] - 2.0) <= 2.0 + 2.0 + 0.002
            self.requests.append(request)
        else:
            self.check_none(request, choice)

    def check_choice(
        self,
        request: Request,
        ticket: Ticket,
        before: dict[Circuit, tuple[State, object, object]],
    ) -> None:
        assert ticket.target.backend not in request.tried
        target = self.desk.router._states.get(ticket.target.id)
        if target is None or target is not ticket.state:
            return  # its plan is older than a reload
        probes = False
        for circuit in ticket.state.circuits:
            was, caused_by, holder = before[circuit]
            if was is State.COOLDOWN:
                assert ticket.panic or (request.again and caused_by is request.plan)
                REACHED["its own cooldown passed over"] += not ticket.panic
            if was is State.HALF_OPEN:
                assert holder is None  # exactly one probe
                probes = True
        assert ticket.probe == probes
        REACHED["half-open: a probe"] += probes
        REACHED["panic"] += ticket.panic
        REACHED["a fallback"] += ticket.target.provider.fallback
        panicking = [one for one in self.live() if one.ticket is not None and one.ticket.panic]
        if ticket.panic:
            assert all(one.ticket is not None and one.ticket.state is not ticket.state for one in panicking)
        state = ticket.state
        if ticket.target.provider.name == "c":
            assert state.key.in_flight <= 3
            assert len(state.key.requests) <= 6
        if ticket.target.provider.name == "b":
            assert state.used_today(self.desk.now) <= DAILY
        if ticket.target.provider.fallback and request.plan.shape.groups[0].name != "spare":
            untried = [
                seat.state
                for group in request.plan.shape.groups
                if not group.fallback
                for seat in group.seats
                if seat.target.backend not in request.tried | request.plan.spent
            ]
            if not ticket.panic and not request.again:
                assert not any(one.passable(self.desk.now) for one in untried)

    def check_none(self, request: Request, choice: NoTarget) -> None:
        """No target: then there is none that is free, or only tried ones."""
        for group in request.plan.shape.groups:
            for seat in group.seats:
                if seat.target.backend not in request.tried | request.plan.spent:
                    assert seat.state.obstacle(self.desk.now) is not None
        REACHED["all throttled"] += choice.cause == "throttled"
        if choice.cause == "exhausted":
            REACHED["another round over the same targets"] += 1
            assert request.tried
            request.again = True
            request.tried = set()
            request.waits = [self.desk.now + 0.5]
            self.requests.append(request)
        assert choice.retry_after is None or choice.retry_after > 0.0

    # What must hold always

    def held(self, ticket: Ticket) -> list[Circuit]:
        """The scopes whose probe it is."""
        return [circuit for circuit in ticket.state.circuits if circuit.holder is ticket]

    def circuits(self) -> list[Circuit]:
        found: dict[Circuit, None] = {}
        for state in self.desk.router._states.values():
            found |= dict.fromkeys(state.circuits)
        return list(found)

    @invariant()
    def cooldowns_only_move_forward(self) -> None:
        for circuit in self.circuits():
            assert circuit.until >= self.deadlines.get(circuit, circuit.until)
            self.deadlines[circuit] = circuit.until

    @invariant()
    def what_is_held_is_what_is_in_flight(self) -> None:
        held = Counter(id(request.ticket.state) for request in self.live() if request.ticket is not None)
        for state in self.desk.router._states.values():
            assert state.in_flight == held[id(state)]
            assert state.panicking == any(
                request.ticket is not None and request.ticket.panic and request.ticket.state is state
                for request in self.live()
            )

    @invariant()
    def one_probe_at_most_is_out_for_a_scope(self) -> None:
        live = [request.ticket for request in self.live()]
        for circuit in self.circuits():
            if circuit.holder is not None:
                assert circuit.state is State.HALF_OPEN
                assert circuit.holder in live

    @invariant()
    def retries_stay_within_their_budget(self) -> None:
        for at in self.retried[-1:]:
            recent = sum(at - BUDGET_WINDOW < one <= at for one in self.retried)
            requests = sum(at - BUDGET_WINDOW < one <= at for one in self.began)
            assert recent <= BUDGET_RATIO * requests + BUDGET_FLOOR

    @invariant()
    def statuses_can_always_be_read(self) -> None:
        for status in self.desk.router.statuses(self.desk.now):
            assert 0.0 <= status.headroom <= 1.0
            REACHED["daily quota used up"] += status.reason == "daily quota used up"
            REACHED["learned limit spent"] += status.reason.startswith("its provider says")
            assert (status.status == "available") == (status.reason == "") or status.status == "half_open"

    def teardown(self) -> None:
        """Everything given back, nothing is held; and after long enough everything can be served again."""
        if not hasattr(self, "desk"):
            return
        for request in self.live():
            assert request.ticket is not None
            self.desk.router.release(request.ticket, self.desk.now)
        self.desk.now += 2 * 86_400.0
        statuses = [structs.asdict(status)["status"] for status in self.desk.router.statuses(self.desk.now)]
        assert set(statuses) <= {"available", "half_open", "degraded"}
        assert isinstance(self.desk.ask(), Ticket)


RouterMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=80)
TestRouter = RouterMachine.TestCase


@pytest.mark.unmeasured
def test_rare_states_are_reached(record_property: Callable[[str, object], None]) -> None:
    reach(RouterMachine, STATES, REACHED, record_property, steps=80)

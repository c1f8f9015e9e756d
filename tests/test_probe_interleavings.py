"""The half-open probe under every order of a few requests' events, and of what operators do meanwhile.

Each request is a script: a pick, and how its attempt goes. All orders of all combinations of scripts are played, each
on a fresh router, and how many there are is known beforehand. Where a pick finds nobody, the rest of a script is idle.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product

import pytest

from gwproto.config import Settings
from gwproto.failures import Failure, FailureClass, LocalProtocolError
from gwproto.routing.catalog import compile_catalog
from gwproto.routing.demand import Demand
from gwproto.routing.health import SLOW_START_SUCCESSES, Circuit
from gwproto.routing.router import NoTarget, Router, Ticket, Wait
from gwproto.routing.snapshot import RouterState
from gwproto.routing.ticket import Plan
from gwproto.routing.values import Cause, State
from support.routing import SERVER, START, UNREACHABLE, NoJitter, provider, throttled

Script = tuple[str, ...]
Step = tuple[int, str]

FAILURES = {
    "fail": SERVER,
    "time out": Failure(FailureClass.TIMEOUT, "slow"),
    "throttle": throttled(5.0),
    "be unreachable": UNREACHABLE,
}
ONE: tuple[Script, ...] = (
    ("pick", "content", "succeed"),
    ("pick", "content", "time out"),
    ("pick", "fail"),
    ("pick", "throttle"),
    ("pick", "release"),
)
MORE: tuple[Script, ...] = (
    *ONE,
    ("pick", "succeed"),
    ("pick", "content", "release"),
    ("pick", "be unreachable"),
)
OPERATORS = ("reset", "reload", "renew", "remove and bring back", "restart", "wait")


def orders(scripts: Sequence[Script], alike: int, places: tuple[int, ...]) -> Iterator[tuple[Step, ...]]:
    """All orders of the scripts' steps. The first ``alike`` are requests that nothing but their names tells apart: they
    begin in the order of these."""
    if places == tuple(map(len, scripts)):
        yield ()
        return
    for who, script in enumerate(scripts):
        place = places[who]
        if place == len(script) or (0 < who < alike and places[who - 1] == 0):
            continue
        for rest in orders(scripts, alike, (*places[:who], place + 1, *places[who + 1 :])):
            yield (who, script[place]), *rest


def number(choices: Sequence[Sequence[Script]], alike: int) -> int:
    """How many orders there must be, in all combinations of scripts."""
    total = 0
    for scripts in product(*choices):
        lengths = [len(script) for script in scripts]
        total += math.factorial(sum(lengths)) // math.prod(map(math.factorial, lengths))
    return total // math.factorial(alike)


class Start:
    """Where runs begin: one provider with ``models``, half-open after ``failures`` of its first one."""

    def __init__(self, models: tuple[str, ...], failures: tuple[Failure, ...]) -> None:
        self.settings = Settings(providers=(provider("a", *models),))
        self.catalog = compile_catalog(self.settings, {"a": ("key",)})
        self.elsewhere = compile_catalog(Settings(providers=(provider("b"),)), {})
        router = Router(self.catalog, self.settings, rng=NoJitter())
        tickets = [pick(router, models[0], START) for _ in failures]
        for ticket, failure in zip(tickets, failures, strict=True):
            assert isinstance(ticket, Ticket)
            router.failure(ticket, failure, START)
        self.memory = router.snapshot(START)

    def router(self, memory: RouterState, elapsed: float, now: float) -> Router:
        router = Router(self.catalog, self.settings, rng=NoJitter())
        router.restore(memory, elapsed, now)
        return router


def pick(router: Router, model: str, now: float) -> Ticket | Wait | NoTarget:
    plan = router.plan(Demand(model=model))
    assert isinstance(plan, Plan)
    return router.pick(plan, now, deadline=now)


class Run:
    """One order of events, and books of who holds which slot, kept beside the router's own."""

    def __init__(self, start: Start, models: tuple[str, ...], seen: Counter[object]) -> None:
        self.start = start
        self.models = models  # by request
        self.seen = seen
        self.now = START
        self.router = start.router(start.memory, 45.0, START)
        self.tickets: dict[int, Ticket] = {}
        self.given_back: list[Ticket] = []
        self.probes: dict[Circuit, Ticket] = {}
        self.deadlines: dict[Circuit, float] = {}
        self.check()

    def play(self, steps: tuple[Step, ...]) -> None:
        for who, what in steps:
            self.now += 0.1
            if what in OPERATORS:
                self.operate(what)
            elif what == "pick":
                self.pick(who)
            elif who in self.tickets:
                self.go_on(who, what)
            self.check()
        assert not self.tickets
        for ticket in self.given_back:
            try:
                self.router.release(ticket, self.now)
            except LocalProtocolError:
                continue
            raise AssertionError("a slot came back twice")
        self.recover()

    def circuits(self) -> list[Circuit]:
        return list({c: None for state in self.router._states.values() for c in state.circuits})

    def check(self) -> None:
        """What must hold after every step."""
        live = Counter(id(ticket.state) for ticket in self.tickets.values())
        states = self.router._states.values()
        for state in states:
            assert state.in_flight == live[id(state)]
            panicking = [one for one in self.tickets.values() if one.panic and one.state is state]
            assert state.panicking == bool(panicking)
            assert state.key.in_flight == sum(live[id(one)] for one in states if one.key is state.key)
        for circuit in self.circuits():
            assert circuit.holder is self.probes.get(circuit)
            assert circuit.holder is None or circuit.state is State.HALF_OPEN
            assert circuit.until >= self.deadlines.get(circuit, circuit.until)
            self.deadlines[circuit] = circuit.until

    def pick(self, who: int) -> None:
        model = self.models[who]
        state = self.router._states[f"a/{model}"]
        for circuit in state.circuits:
            circuit.settle(self.now)
        half = [circuit for circuit in state.circuits if circuit.state is State.HALF_OPEN]
        closed = [circuit for circuit in state.circuits if circuit.state is State.COOLDOWN]
        panicking = any(ticket.panic and ticket.state is state for ticket in self.tickets.values())
        choice = pick(self.router, model, self.now)
        if not isinstance(choice, Ticket):
            assert closed or any(circuit in self.probes for circuit in half)
            self.seen["refused"] += 1
            return
        assert choice.probe == bool(half)
        assert choice.panic == bool(closed)
        assert not (choice.panic and panicking)
        for circuit in half:
            assert circuit not in self.probes  # nobody but the probe
            self.probes[circuit] = choice
        self.seen["probe"] += choice.probe
        self.seen["panic"] += choice.panic
        self.tickets[who] = choice

    def go_on(self, who: int, what: str) -> None:
        ticket = self.tickets[who]
        held = [circuit for circuit, probe in self.probes.items() if probe is ticket]
        others = [circuit for circuit in ticket.state.circuits if circuit not in held]
        for circuit in others:
            circuit.settle(self.now)
        before = [circuit.state for circuit in others]
        # Who is answered in panic mode has proved as much as a probe.
        proved = [
            State.SLOW_START
            if ticket.panic and circuit.state is State.COOLDOWN and circuit.cause is Cause.ERRORS
            else circuit.state
            for circuit in others
        ]
        if what == "content":
            self.router.content(ticket, self.now)
        elif what == "succeed":
            self.router.success(ticket, self.now)
        elif what == "release":
            self.router.release(ticket, self.now)
        else:
            self.router.failure(ticket, FAILURES[what], self.now)
        if what in ("content", "release"):
            assert [circuit.state for circuit in others] == (before if what == "release" else proved)
            self.seen["proved in panic"] += what == "content" and before != proved
        passed = what in ("content", "succeed")
        for circuit in held:
            del self.probes[circuit]
            if passed:
                assert circuit.state is State.SLOW_START
                assert circuit.successes == (what == "succeed")
            elif what == "release":
                assert circuit.state is State.HALF_OPEN
            self.seen[f"probe: {what}"] += 1
        if held and what in FAILURES:
            scope = FAILURES[what].reaction.scope
            failed = ticket.state.circuit(scope)
            assert failed not in held or failed.state is State.COOLDOWN
        if what != "content":
            self.given_back.append(self.tickets.pop(who))

    def operate(self, what: str) -> None:
        start, router = self.start, self.router
        if what == "wait":
            self.now += 200.0
        elif what == "reset":
            router.reset(self.now)
            assert all(circuit.state is State.AVAILABLE for circuit in self.circuits())
            self.probes.clear()
            self.deadlines.clear()
        elif what == "renew":
            router.reconfigure(start.catalog, start.settings, self.now, renewed=("key",))
            for state in self.router._states.values():
                for circuit in (state.own, state.key.circuit):
                    assert circuit.state is State.AVAILABLE
                    self.probes.pop(circuit, None)
                    self.deadlines.pop(circuit, None)
        elif what == "reload":
            before = self.circuits()
            router.reconfigure(start.catalog, start.settings, self.now)
            assert self.circuits() == before
        elif what == "remove and bring back":
            # Attempts in flight report to what nobody sees any more; what is there now begins anew.
            router.reconfigure(start.elsewhere, start.settings, self.now)
            router.reconfigure(start.catalog, start.settings, self.now)
            assert all(circuit.state is State.AVAILABLE for circuit in self.circuits())
        else:
            self.restart()

    def restart(self) -> None:
        """Who was in flight is gone with the process, and with him the slot he held."""
        before = [(circuit.state, circuit.until) for circuit in self.circuits()]
        self.router = self.start.router(self.router.snapshot(self.now), 0.0, self.now)
        for (state, until), circuit in zip(before, self.circuits(), strict=True):
            if state is State.COOLDOWN and until > self.now:
                assert circuit.until == pytest.approx(until)
        self.tickets.clear()
        self.given_back.clear()
        self.probes.clear()

    def recover(self) -> None:
        """However it went: once the cooldowns are over one probe comes through, then more and more do, then all."""
        standing = [(c.state, c.successes, c.failures, c.reason) for c in self.circuits()]
        end = (*self.models, *standing)
        if self.seen[end]:
            return
        self.seen[end] += 1
        self.now += 200.0
        state = self.router._states[f"a/{self.models[0]}"]
        for circuit in state.circuits:
            circuit.settle(self.now)
        half = any(circuit.state is State.HALF_OPEN for circuit in state.circuits)
        first = pick(self.router, self.models[0], self.now)
        assert isinstance(first, Ticket)
        assert first.probe == half
        if half:
            assert not isinstance(pick(self.router, self.models[0], self.now), Ticket)
        self.router.content(first, self.now)
        self.router.success(first, self.now)
        weights = []
        while any(circuit.state is State.SLOW_START for circuit in state.circuits):
            weights.append(state.weight)
            self.serve()
        rest = range(SLOW_START_SUCCESSES + 1 - len(weights), SLOW_START_SUCCESSES + 1)
        assert weights == [tenths / 10 for tenths in rest]
        assert len(weights) == 9 or not half  # the probe was the first of ten
        assert state.weight == 1.0
        assert all(circuit.state is State.AVAILABLE for circuit in state.circuits)

    def serve(self) -> None:
        ticket = pick(self.router, self.models[0], self.now)
        assert isinstance(ticket, Ticket)
        assert not ticket.probe
        self.router.success(ticket, self.now)


def search(
    start: Start, models: tuple[str, ...], choices: Sequence[Sequence[Script]], alike: int
) -> Counter[object]:
    """Play all orders; what was seen in them."""
    seen: Counter[object] = Counter()
    for scripts in product(*choices):
        for steps in orders(scripts, alike, (0,) * len(scripts)):
            Run(start, models, seen).play(steps)
            seen["played"] += 1
    # Of requests that are alike, whoever comes first is the first one, whatever his script.
    assert seen["played"] == number(choices, alike)
    return seen


pytestmark = pytest.mark.unmeasured

TARGET = Start(("x",), (SERVER,) * 3)
#: The target x and its provider are both half-open, y is so by its provider alone.
BOTH = Start(("x", "y"), (SERVER,) * 3 + (UNREACHABLE,) * 3)


def test_three_requests_at_a_half_open_target() -> None:
    seen = search(TARGET, ("x", "x", "x"), [ONE] * 3, 3)
    assert seen["played"] == 7895
    for what in ("refused", "probe", "panic", "probe: content", "probe: release", "proved in panic"):
        assert seen[what] > 100


@pytest.mark.parametrize("operator", OPERATORS)
def test_two_requests_and_an_operator(operator: str) -> None:
    seen = search(TARGET, ("x", "x"), [MORE, MORE, [(operator,)]], 2)
    assert seen["played"] == 1905
    assert min(seen["probe"], seen["refused"]) > 100


def test_two_targets_of_a_half_open_provider() -> None:
    seen = search(BOTH, ("x", "y"), [MORE, MORE], 0)
    assert seen["played"] == 630
    assert min(seen["probe"], seen["refused"], seen["probe: be unreachable"]) > 10

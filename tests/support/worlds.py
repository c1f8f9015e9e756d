"""Random worlds of the production machines, and books of all that was said and decided in them.

A :class:`Play` is one run: several providers of several formats with their faults, a network with its own, clients that
leave or are slow, limits, hedges. Everything follows from the seed. The books are kept beside the machines: what the
router was asked and answered, what every exchange was told and wanted, which connections were open.
"""

import hashlib
import math
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from gwproto import (
    CloseUpstream,
    Command,
    Configuration,
    Event,
    Exchange,
    Gateway,
    OpenUpstream,
    Origin,
    Outcome,
    RequestHead,
    UpstreamEnd,
    UpstreamLost,
)
from gwproto.config import Settings
from gwproto.failures import Failure
from gwproto.policy.retry import RetryBudget
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import Target, compile_catalog
from gwproto.routing.health import Circuit
from gwproto.routing.router import NoTarget, Router, Ticket, Wait
from gwproto.routing.ticket import Plan
from gwproto.routing.values import State
from gwproto.testing import (
    Connection,
    Knobs,
    SimulatedNetwork,
    SimulatedProvider,
    Transcript,
    Visit,
    Weather,
    World,
)
from gwproto.testing.formats import FORMATS
from gwproto.testing.network import Cut, whole
from gwproto.values import UpstreamRequest
from gwproto.wire.dialects import VOCABULARIES
from scenarios.model import EPOCH, KEY
from scenarios.parts import ask

NAMES = ("alpha", "beta", "gamma", "delta")
RATIO, FLOOR = 0.2, 2
TIMEOUTS = {"connect": 2.0, "first_content": 8.0, "idle": 4.0, "total": 20.0, "stream_total": 30.0}
FAULTS: tuple[dict[str, object], ...] = (
    {},
    {},
    {"status": 500},
    {"status": 429, "retry_after": 3},
    {"status": 429},
    {"status": 401},
    {"reset_after": 0},
    {"reset_after": 2},
    {"stall_after": 1},
    {"first_event_error": True},
    {"no_finish": True},
    {"garbage": "html"},
)


class Scope(NamedTuple):
    """A circuit just before a pick of a target of it."""

    circuit: Circuit
    state: State
    own: bool  # this very request began its cooldown
    probed: bool


class Pick(NamedTuple):
    """A target was given out."""

    at: float
    ticket: Ticket
    again: bool
    spare: bool  # a second one, beside a slow one
    scopes: tuple[Scope, ...]
    panicking: bool  # a request went to this target in panic already
    in_flight: int  # of its key, this one included
    minute: int  # requests of its key in the last minute, this one included, as the books have it
    day: int
    lineup: tuple[str, ...]  # who took turns just before, if all had equal weights


class Verdict(NamedTuple):
    """A target came back."""

    at: float
    word: str
    ticket: Ticket
    unchanged: bool  # health is as it was before


class WatchedRouter(Router):
    """The router, and what it did."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self.picks: list[Pick] = []
        self.verdicts: list[Verdict] = []
        self.backwards = 0  # deadlines that moved so
        self.out: list[Ticket] = []  # given out and not come back
        self._deadlines: dict[Circuit, float] = {}
        super().__init__(*args, **named)

    def circuits(self) -> list[Circuit]:
        return list({c: None for state in self._states.values() for c in state.circuits})

    def pick(
        self,
        plan: Plan,
        now: float,
        *,
        tried: Collection[object] = (),
        last: Target | None = None,
        deadline: float,
        again: bool = False,
    ) -> Ticket | Wait | NoTarget:
        before = self._before(plan, now)
        choice = super().pick(plan, now, tried=tried, last=last, deadline=deadline, again=again)
        if isinstance(choice, Ticket):
            self._note(choice, before, now, again=again, spare=False)
        return choice

    def spare(self, plan: Plan, now: float, tried: Collection[object]) -> Ticket | None:
        before = self._before(plan, now)
        ticket = super().spare(plan, now, tried)
        if ticket is not None:
            self._note(ticket, before, now, again=False, spare=True)
        return ticket

    def _before(self, plan: Plan, now: float) -> tuple[dict[Circuit, Scope], set[int], tuple[str, ...]]:
        for circuit in self.circuits():
            circuit.settle(now)
        scopes = {
            circuit: Scope(circuit, circuit.state, circuit.caused_by is plan, circuit.holder is not None)
            for circuit in self.circuits()
        }
        panicking = {id(ticket.state) for ticket in self.out if ticket.panic}
        lineup = plan.shape.lineup(now)
        equal = lineup is not None and set(lineup.weights) == {1.0} and not lineup.slow
        return scopes, panicking, tuple(lineup.names) if lineup is not None and equal else ()

    def _note(
        self,
        ticket: Ticket,
        before: tuple[dict[Circuit, Scope], set[int], tuple[str, ...]],
        now: float,
        *,
        again: bool,
        spare: bool,
    ) -> None:
        scopes, panicking, lineup = before
        state = ticket.state
        mine = [pick for pick in self.picks if pick.ticket.state.key is state.key and pick.at > now - 60.0]
        self.out.append(ticket)
        self.picks.append(
            Pick(
                now,
                ticket,
                again,
                spare,
                tuple(scopes[circuit] for circuit in state.circuits),
                id(state) in panicking,
                sum(one.state.key is state.key for one in self.out),
                len(mine) + 1,
                sum(pick.ticket.state is state for pick in self.picks) + 1,  # a play is shorter than a day
                lineup,
            )
        )

    def _judge(self, word: str, ticket: Ticket, now: float, judge: Callable[[], None]) -> None:
        before = self._health(now)
        judge()
        self.out.remove(ticket)
        self.verdicts.append(Verdict(now, word, ticket, before == self._health(now)))
        for circuit in self.circuits():
            self.backwards += circuit.until < self._deadlines.get(circuit, circuit.until)
            self._deadlines[circuit] = circuit.until

    def _health(self, now: float) -> list[object]:
        return [
            (c.state, c.until, c.failures, c.successes, c.reason, c.evidence.estimates(now))
            for c in self.circuits()
        ]

    def success(self, ticket: Ticket, now: float, tokens: int = 0) -> None:
        self._judge("success", ticket, now, lambda: super(WatchedRouter, self).success(ticket, now, tokens))

    def failure(self, ticket: Ticket, failure: Failure, now: float) -> None:
        self._judge("failure", ticket, now, lambda: super(WatchedRouter, self).failure(ticket, failure, now))

    def release(self, ticket: Ticket, now: float) -> None:
        self._judge("release", ticket, now, lambda: super(WatchedRouter, self).release(ticket, now))

    def overtaken(self, ticket: Ticket, now: float) -> None:
        self._judge("overtaken", ticket, now, lambda: super(WatchedRouter, self).overtaken(ticket, now))


class WatchedBudget(RetryBudget):
    """The retry budget, and when it was drawn on."""

    def __init__(self) -> None:
        super().__init__(RATIO, FLOOR)
        self.requests: list[float] = []
        self.taken: list[float] = []
        self.refused = 0

    def request(self, now: float) -> None:
        self.requests.append(now)
        super().request(now)

    def allows(self, now: float) -> bool:
        allowed = super().allows(now)
        self.refused += not allowed
        return allowed

    def take(self, now: float) -> bool:
        taken = super().take(now)
        if taken:
            self.taken.append(now)
        return taken


class Entry(NamedTuple):
    """One call of an exchange: what it was told when, and what it wanted."""

    exchange: int
    at: float
    call: str  # begin start receive tick
    said: RequestHead | Event | None
    commands: tuple[Command, ...]


class WatchedExchange:
    """An exchange with a journal."""

    def __init__(self, number: int, exchange: Exchange, gateway: "WatchedGateway") -> None:
        self._number = number
        self._exchange = exchange
        self._gateway = gateway
        self.open: set[int] = set()  # upstreams

    @property
    def deadline(self) -> float:
        return self._exchange.deadline

    @property
    def wakeable(self) -> bool:
        return self._exchange.wakeable

    @property
    def wake(self) -> Callable[[], None]:
        return self._exchange.wake

    @wake.setter
    def wake(self, wake: Callable[[], None]) -> None:
        self._exchange.wake = wake

    @property
    def finished(self) -> bool:
        return self._exchange.finished

    @property
    def receiving(self) -> bool:
        return self._exchange.receiving

    @property
    def outcome(self) -> Outcome | None:
        return self._exchange.outcome

    def _enter(
        self, call: str, said: Event | None, commands: Sequence[Command], now: float
    ) -> Sequence[Command]:
        if isinstance(said, UpstreamEnd | UpstreamLost):
            self.open.discard(said.attempt)
        for command in commands:
            if isinstance(command, OpenUpstream):
                self.open.add(command.attempt)
            elif isinstance(command, CloseUpstream):
                self.open.remove(command.attempt)
        self._gateway.journal.append(Entry(self._number, now, call, said, tuple(commands)))
        self._gateway.look()
        return commands

    def start(self, now: float) -> Sequence[Command]:
        return self._enter("start", None, self._exchange.start(now), now)

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        return self._enter("receive", event, self._exchange.receive(event, now), now)

    def tick(self, now: float) -> Sequence[Command]:
        return self._enter("tick", None, self._exchange.tick(now), now)


class WatchedGateway(Gateway):
    """A gateway whose exchanges keep a journal together."""

    def __init__(self, configuration: Configuration, seed: int) -> None:
        rng = random.Random(seed)
        self.router = WatchedRouter(configuration.catalog, configuration.settings, rng=rng, epoch=EPOCH)
        super().__init__(configuration, rng=rng, epoch=EPOCH, router=self.router)
        self.journal: list[Entry] = []
        self.exchanges: list[WatchedExchange] = []
        self.budget = self.shared.budget = WatchedBudget()
        self.tokens = 0  # the most that were reserved and committed at any step

    def look(self) -> None:
        for allowance in self.limits.keys._known.values():
            committed = 0 if allowance.minute is None else allowance.minute.total
            self.tokens = max(self.tokens, allowance.reserved + committed)

    def begin(self, head: RequestHead, now: float) -> Exchange:
        number = len(self.exchanges)
        self.journal.append(Entry(number, now, "begin", head, ()))
        watched = WatchedExchange(number, super().begin(head, now), self)
        self.exchanges.append(watched)
        return cast(Exchange, watched)  # it does whatever a driver asks of one

    def replayed(self, configuration: Configuration, seed: int) -> list[Entry]:
        """What another gateway makes of this one's journal."""
        other = WatchedGateway(configuration, seed)
        for entry in self.journal:
            if entry.call == "begin":
                other.begin(cast(RequestHead, entry.said), entry.at)
                continue
            exchange = other.exchanges[entry.exchange]
            if entry.call == "start":
                exchange.start(entry.at)
            elif entry.call == "tick":
                exchange.tick(entry.at)
            else:
                exchange.receive(cast(Event, entry.said), entry.at)
        return other.journal


class CountingNetwork(SimulatedNetwork):
    """A network that knows how many connections are in use. Who throttles does not always ask for the same pause."""

    in_use = 0

    def connect(self, request: UpstreamRequest, now: float) -> Connection:
        self.in_use += 1
        provider = self.providers[request.origin]
        if provider.knobs.status == 429:
            pause = self._rng.choice((None, 1.0, 8.0))
            provider.knobs = msgspec.structs.replace(provider.knobs, retry_after=pause)
        return super().connect(request, now)

    def closed(self, origin: Origin, reusable: bool) -> None:
        self.in_use -= 1
        super().closed(origin, reusable)


def configuration(rng: random.Random, *, even: bool, sharing: bool) -> Configuration:
    """``even``: nothing that makes turns uneven by right: no limits, no hedges."""
    providers = []
    for name in NAMES[: rng.choice((2, 3, 4))]:
        format = rng.choice(("openai", "openai", "anthropic", "gemini", "ollama"))
        providers.append(
            {
                "name": name,
                "format": format,
                "base_url": f"http://{name}.test{FORMATS[format].base}",
                "headers": {"anthropic-version": "2023-06-01"} if format == "anthropic" else {},
                "models": [
                    {"id": model, "requests_per_day": 0 if even else rng.choice((0, 0, 25))}
                    for model in ("m", "n")[: 1 if even else rng.choice((1, 2))]
                ],
                "requests_per_minute": 0 if even else rng.choice((0, 0, 6)),
                "max_concurrency": 0 if even else rng.choice((0, 0, 2)),
            }
        )
    settings = msgspec.convert(
        {
            "providers": providers,
            "timeouts": TIMEOUTS,
            "server": {"heartbeat_interval": rng.choice((0.0, 3.0))},
            "retry": {"budget_ratio": RATIO, "budget_floor": FLOOR},
            "health": {"cooldown": 6.0, "throttle_cooldown": 2.0, "max_retry_after": 10.0},
            "hedge": {
                "enabled": not even and rng.random() < 0.7,
                "percentile": 0.6,
                "budget": 0.2,
                "min_samples": 3,
                "min_delay": 0.2,
            },
            "single_flight": {"enabled": sharing},
            "limits": {"tokens_per_minute": 0 if even else rng.choice((0, 1000, 20_000))},
        },
        Settings,
        strict=False,
    )
    # A second key is a second chance of the same provider: whoever has failed everywhere else takes it out of turn.
    keys = ("one",) if even else ("one", "two")
    catalog = compile_catalog(settings, {"alpha": keys}, VOCABULARIES)
    key = ClientKey("test", hashlib.sha256(KEY.encode()).digest())
    return Configuration(settings, catalog, (key,))


def providers(rng: random.Random, settings: Settings) -> dict[Origin, SimulatedProvider]:
    found = {}
    outage = rng.choice((0, 0, 0, 0, 500, 429))
    for provider in settings.providers:
        fault = {"status": outage} if outage else rng.choice(FAULTS)
        knobs = {
            "latency": rng.choice((0.05, 0.3, 2.0)),
            "latency_spread": rng.choice((0.0, 1.0)),
            "pace": rng.choice((0.0, 0.05, 0.5)),
            "failure_rate": 1.0 if outage else rng.choice((0.1, 0.2, 0.5, 1.0)) if fault else None,
            **fault,
        }
        found[Origin("http", f"{provider.name}.test", 80)] = SimulatedProvider(
            provider.name,
            models=[model.id for model in provider.models],
            rng=random.Random(rng.getrandbits(32)),
            knobs=msgspec.convert(knobs, Knobs),
            format=provider.format,
        )
    return found


class Question(NamedTuple):
    """A visit: when, whether it is streamed, and what it says."""

    at: float
    stream: bool
    text: str
    visit: Visit


def questions(rng: random.Random, count: int, *, even: bool, sharing: bool) -> list[Question]:
    """``even``: one after another, and none that belong together. ``sharing``: often the same as the one before."""
    out = []
    at = 0.0
    for number in range(count):
        at += 60.0 if even else rng.choice((0.0, 0.0, 0.2, 1.0, 3.0))
        stream = rng.random() < 0.7
        text = f"question {number // 3 if sharing else number}"
        chat = "" if even else rng.choice(("", "", "", "one", "two"))
        visit = ask(
            stream=stream,
            messages=[{"role": "user", "content": text}],
            max_tokens=200,
            temperature=0,
            headers=((b"x-gateway-affinity", chat.encode()),) if chat else (),
            leaves_after=rng.choice((math.inf, math.inf, rng.uniform(0.0, 6.0))),
        )
        out.append(Question(at, stream, text, visit))
    return out


class Play:
    """One seeded run. ``cut``: how reads divide what was written. ``network``: what else the network does."""

    def __init__(
        self,
        seed: int,
        *,
        cut: Cut = whole,
        count: int = 40,
        even: bool = False,
        network: type[CountingNetwork] = CountingNetwork,
    ) -> None:
        rng = random.Random(seed)
        self.seed = seed
        self.sharing = not even and seed % 4 == 3  # equal requests share an answer
        self.configuration = configuration(rng, even=even, sharing=self.sharing)
        self.gateway = WatchedGateway(self.configuration, seed)
        self.router = self.gateway.router
        self.budget = self.gateway.budget
        self.providers = providers(rng, self.configuration.settings)
        weather = Weather(
            dial_time=rng.choice((0.0, 0.1)), refused=rng.choice((0.0, 0.2)), stale=rng.choice((0.0, 0.3))
        )
        self.network = network(self.providers, rng=random.Random(rng.getrandbits(32)), weather=weather)
        self.start = rng.uniform(1e3, 1e6)
        self.world = World(self.gateway, self.network, start=self.start, epoch=EPOCH, cut=cut)
        self.questions = questions(rng, count, even=even, sharing=self.sharing)
        self.left_open = 0  # upstreams that their exchange did not close
        self.settled: list[
            bool
        ] = []  # of who was at work when a client left: released, and nothing else changed
        self.left_at: dict[int, float] = {}  # when the client of a transcript leaves
        self.transcripts = [
            self.world.visit(question.visit, self.start + question.at, self._ended)
            for question in self.questions
        ]
        for question, transcript in zip(self.questions, self.transcripts, strict=True):
            self.left_at[id(transcript)] = self.start + question.at + question.visit.leaves_after
        if rng.random() < 0.6:
            self.world.at(self.start + rng.uniform(15.0, 30.0), self._heal)

    def _heal(self) -> None:
        for provider in self.providers.values():
            provider.knobs = Knobs(latency=0.1)

    def run(self) -> "Play":
        self.world.run()
        return self

    def _ended(self, transcript: Transcript) -> None:
        self.left_open += sum(len(one.open) for one in self.gateway.exchanges if one.finished)
        outcome = transcript.outcome
        assert outcome is not None
        # Who leads others goes on without his client, until they are served or gone, too.
        if transcript.ending == "left" and transcript.finished_at == self.left_at[id(transcript)]:
            working = sum(record.failure is None and not record.lost for record in outcome.attempts)
            for verdict in self.router.verdicts[len(self.router.verdicts) - working :]:
                released = verdict.word == "release" and verdict.at == self.world.now
                self.settled.append(released and verdict.unchanged)

"""One scenario under one policy, from the first request to the last."""

import math
import random
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import accumulate, product

import msgspec
from msgspec import structs

from gwproto.gateway import Gateway
from gwproto.routing.quota import DAY
from gwproto.testing.network import Connection
from gwproto.testing.simulation.baseline import RoundRobin
from gwproto.testing.simulation.measures import Figures, Measures
from gwproto.testing.simulation.scenario import CLIENT_KEY, Load, Policy, Scenario, configuration_of
from gwproto.testing.simulation.script import Provider
from gwproto.testing.simulator import Transcript, Visit, World
from gwproto.values import Origin, Outcome, RequestHead, UpstreamRequest

#: Where the clock stands when a run begins: anywhere but at zero, as real ones do.
START = 1000.0
#: Requests between two calls of ``progress``.
STRIDE = 256
_MOMENT = 1e-3  # seconds

_WANTS_STREAM = (b"accept", b"text/event-stream")
_PROMPT = "Tell me in a few words what a gateway is good for."


class _Network:
    """Scripted providers, each at its own origin."""

    def __init__(self, providers: dict[str, Provider]) -> None:
        self._providers = providers

    def connect(self, request: UpstreamRequest, now: float) -> Connection:
        provider = self._providers[request.origin.host]
        return provider.connect(request.credential, _WANTS_STREAM in request.headers, now)

    def closed(self, origin: Origin, reusable: bool) -> None:
        self._providers[origin.host].closed(reusable)


class _Kind:
    """All requests that are alike: what they say, how likely they are, and who could answer them."""

    def __init__(self, visit: Visit, weight: float, capable: tuple[Provider, ...]) -> None:
        self.visit = visit
        self.weight = weight
        self.capable = capable


class Run:
    """A scenario under a policy. Every kind of chance has a seed of its own, so that policies meet the same world."""

    def __init__(
        self, scenario: Scenario, policy: Policy, *, seed: int | None = None, requests: int | None = None
    ) -> None:
        """``requests`` in place of the scenario's: with more of them its troubles come again, with fewer it ends
        early. Raises :class:`ConfigurationError` when policy and scenario do not go together."""
        load = scenario.load
        seed = scenario.seed if seed is None else seed
        self.requests = load.requests if requests is None else requests
        self.seconds = self.requests / load.rate  # about
        self.policy = policy
        self._load = load
        wall = scenario.starts_at.timestamp()
        self.providers = [
            Provider(
                script,
                load,
                began=wall,
                length=scenario.length,
                rng=random.Random(f"{seed} provider {script.name}"),
            )
            for script in scenario.providers
        ]
        configuration = configuration_of(scenario, policy)
        epoch = wall - START
        chance = random.Random(f"{seed} gateway")
        router = None
        if policy.plain:
            router = RoundRobin(configuration.catalog, configuration.settings, rng=chance, epoch=epoch)
        self.gateway = Gateway(configuration, rng=chance, epoch=epoch, router=router)
        by_host = {f"{provider.name}.test": provider for provider in self.providers}
        self.world = World(self.gateway, _Network(by_host), start=START, epoch=epoch, keep=False)
        judged = configuration_of(scenario, Policy(name="")).settings.retry
        self.measures = Measures(
            [provider.name for provider in self.providers],
            start=START,
            seconds=self.seconds,
            ratio=judged.budget_ratio,
            floor=judged.budget_floor,
        )
        self._kinds = _kinds(load, self.providers)
        self._bounds = list(accumulate(kind.weight for kind in self._kinds))
        self._arrivals = random.Random(f"{seed} arrivals")
        self._clients = random.Random(f"{seed} clients")
        self._to_come = self.requests
        self._progress: Callable[[int], None] | None = None
        self._observe: Callable[[float, Outcome], None] | None = None
        self._plan_recoveries()

    def run(
        self,
        progress: Callable[[int], None] | None = None,
        observe: Callable[[float, Outcome], None] | None = None,
    ) -> Figures:
        """Play it all. ``progress`` is told now and then how many more requests have come; ``observe`` gets every
        request that is over: when it came, in seconds from the start, and its outcome."""
        self._progress = progress
        self._observe = observe
        self.world.at(START, self._arrive)
        self.world.run()
        if progress is not None:
            progress(self.requests % STRIDE)
        throttled = sum(provider.throttled for provider in self.providers)
        return self.measures.figures(self.policy.name, throttled, self.world.now - START)

    def _arrive(self) -> None:
        """A client comes, and the next one is expected."""
        world, load, chance = self.world, self._load, self._clients.random
        kind = self._kinds[min(bisect_left(self._bounds, chance() * self._bounds[-1]), len(self._kinds) - 1)]
        visit = kind.visit
        if load.leaving and chance() < load.leaving:
            patience = self._clients.expovariate(1.0 / load.leaves_after) if load.leaves_after else 0.0
            visit = structs.replace(visit, leaves_after=patience)
        at = world.now - START
        self.measures.arrived(at)
        world.visit(visit, ended=partial(self._ended, kind, at))
        self._to_come -= 1
        if self._progress is not None and self._to_come % STRIDE == 0 and self._to_come:
            self._progress(STRIDE)
        if self._to_come:
            gap = 1.0 / load.rate
            if load.arrivals == "poisson":
                gap = self._arrivals.expovariate(load.rate)
            world.at(world.now + gap, self._arrive)

    def _ended(self, kind: _Kind, arrived: float, transcript: Transcript) -> None:
        outcome = transcript.outcome
        assert outcome is not None  # an exchange that is finished has one
        if self._observe is not None:
            self._observe(arrived, outcome)
        now = self.world.now
        if self.measures.ended(outcome, arrived, now - START):
            wall = now + self.world.epoch
            if any(provider.healthy(wall) for provider in kind.capable):
                self.measures.avoidable()

    def _plan_recoveries(self) -> None:
        """Have the clock call when troubles end and begin, and at midnight."""
        world = self.world
        for provider in self.providers:
            for start, until in provider.recoveries(self.seconds):
                world.at(START + start, partial(self._hurt, provider))
                world.at(START + until, partial(self._healed, provider))
            if provider.script.requests_per_day:
                began = START + world.epoch
                midnight = math.ceil(began / DAY) * DAY
                while midnight < began + self.seconds:
                    # A moment before, to see who is out.
                    world.at(midnight - world.epoch - _MOMENT, partial(self._day_ends, provider))
                    midnight += DAY

    def _day_ends(self, provider: Provider) -> None:
        if provider.spent(self.world.now + self.world.epoch):
            self.world.at(self.world.now + _MOMENT, partial(self._healed, provider))

    def _healed(self, provider: Provider) -> None:
        self.measures.healed(provider.name, self.world.now - START, self._healthy())

    def _hurt(self, provider: Provider) -> None:
        self.measures.hurt(provider.name, self._healthy())

    def _healthy(self) -> int:
        """How many providers share the load from now on."""
        wall = (
            self.world.now + self.world.epoch + _MOMENT
        )  # wall time is coarse: past what ends or begins now
        return sum(provider.well(wall) for provider in self.providers if not provider.script.fallback)


def simulate(
    scenario: Scenario,
    policy: Policy,
    *,
    seed: int | None = None,
    requests: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Figures:
    """Run ``scenario`` under ``policy``; the same arguments give the same figures."""
    return Run(scenario, policy, seed=seed, requests=requests).run(progress)


def _kinds(load: Load, providers: list[Provider]) -> list[_Kind]:
    streams = [
        (wanted, share) for wanted, share in ((True, load.streams), (False, 1 - load.streams)) if share
    ]
    prompts = [
        (tokens, share) for tokens, share in ((load.long_tokens, load.long), (0, 1 - load.long)) if share
    ]
    kinds = []
    for (wanted, a), (model, b), (effort, c), (tokens, d) in product(
        streams, load.models.items(), load.efforts.items(), prompts
    ):
        capable = [
            provider
            for provider in providers
            if (model in ("auto", *provider.script.models))
            and not 0 < provider.script.context_window < 1.2 * tokens
        ]
        kinds.append(_Kind(_visit(wanted, model, effort, tokens), a * b * c * d, tuple(capable)))
    return kinds


def _visit(stream: bool, model: str, effort: str, tokens: int) -> Visit:
    text = _PROMPT + " word" * tokens
    fields: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if effort != "auto":
        fields["reasoning_effort"] = effort
    if stream:
        fields["stream"] = True
    body = msgspec.json.encode(fields)
    headers = (
        (b"host", b"gateway.test"),
        (b"authorization", f"Bearer {CLIENT_KEY}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    )
    return Visit(head=RequestHead("POST", "/v1/chat/completions", headers), body=((0.0, body),))

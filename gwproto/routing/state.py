"""What the router remembers about keys, models, providers and targets: all of its mutable state but the turns.

It is kept apart from the catalog, so that a reload can hand it on to the targets that still exist.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from gwproto.failures import Scope
from gwproto.routing.catalog import Catalog, Provider, Target
from gwproto.routing.health import Circuit
from gwproto.routing.quota import MINUTE, Meter, Quota
from gwproto.routing.score import base_score, latency_term
from gwproto.routing.values import Cause, Obstacle, State
from gwproto.values import Limit, Terms

#: Seconds after which to look again for what ends at no known time: a probe, a free slot.
POLL = 0.25
#: Seconds until a score is computed anew. Failures count at once, successes and ageing may wait that long.
SCORE_AGE = 1.0
#: Durations kept for percentiles.
SAMPLES = 100

# To look a member of an enumeration up takes longer than to compare it.
_AVAILABLE, _HALF_OPEN = State.AVAILABLE, State.HALF_OPEN


class ModelState:
    """One provider's model, over all keys."""

    __slots__ = ("circuit",)

    def __init__(self) -> None:
        self.circuit = Circuit()


class Changes:
    """Counts what may change any ranking."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class ProviderState:
    """A provider. ``version`` counts what may change its own ranking."""

    __slots__ = ("circuit", "version")

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.version = 0


class KeyState:
    """One credential of a provider, and the limits that go by the key."""

    __slots__ = ("circuit", "in_flight", "max_concurrency", "requests", "requests_per_minute", "tokens")

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.in_flight = 0
        self.requests: deque[float] = deque()
        self.requests_per_minute = 0
        self.tokens = Meter(0, MINUTE)
        self.max_concurrency = 0

    def limit(self, provider: Provider) -> None:
        """Take over what the configuration says now."""
        self.requests_per_minute = provider.requests_per_minute
        self.max_concurrency = provider.max_concurrency
        self.tokens.limit = float(provider.tokens_per_minute)
        self.requests = deque(self.requests, maxlen=self.requests_per_minute)

    def used(self, now: float) -> int:
        """Requests of the last minute, up to the limit."""
        requests = self.requests
        while requests and requests[0] <= now - MINUTE:
            requests.popleft()
        return len(requests)

    @property
    def limited(self) -> bool:
        """Is there any limit to look at?"""
        return bool(self.requests_per_minute or self.tokens.limit or self.max_concurrency)

    def obstacle(self, now: float) -> Obstacle | None:
        """The limit that keeps traffic away."""
        if self.max_concurrency and self.in_flight >= self.max_concurrency:
            return Obstacle(Cause.THROTTLED, now + POLL, "as many requests in flight as allowed")
        if self.requests_per_minute and self.used(now) >= self.requests_per_minute:
            return Obstacle(
                Cause.THROTTLED, self.requests[0] + MINUTE, "quota of requests per minute used up"
            )
        until = self.tokens.whole_at(now)
        if until > now:
            return Obstacle(Cause.THROTTLED, until, "quota of tokens per minute used up")
        return None

    def headroom(self, now: float) -> float:
        """The share of its limits that is left, in 0..1."""
        left = self.tokens.left(now)
        if self.requests_per_minute:
            left = min(left, 1.0 - self.used(now) / self.requests_per_minute)
        return left


class TargetState:
    """One target: its circuit and those it shares, its counters, and its score."""

    __slots__ = (
        "_base",
        "_base_at",
        "_changes",
        "_limited",
        "_spent",
        "attempts",
        "circuits",
        "delays",
        "durations",
        "failures",
        "in_flight",
        "key",
        "model",
        "own",
        "panicking",
        "provider",
        "quota",
        "successes",
        "throttles",
    )

    def __init__(
        self, key: KeyState, model: ModelState, provider: ProviderState, changes: Changes, epoch: float
    ) -> None:
        self._changes = changes
        self.own = Circuit()
        self.key = key
        self.model = model
        self.provider = provider
        self.circuits = (self.own, key.circuit, model.circuit, provider.circuit)
        self.attempts = 0
        self.successes = 0
        self.failures = 0
        self.throttles = 0
        self.in_flight = 0
        self.panicking = False
        self.durations: deque[float] = deque(maxlen=SAMPLES)
        self.delays: deque[float] = deque(maxlen=SAMPLES)
        self.quota = Quota(epoch)
        self._limited = False
        self._spent = False  # of its limits one was, when last looked at
        self._base = 0.0
        self._base_at = -math.inf

    def limit(self, target: Target) -> None:
        """Take over what the configuration says now."""
        provider, model = target.provider, target.model
        self.key.limit(provider)
        self.quota.configure(
            provider.day_offset,
            (model.requests_per_day, model.tokens_per_day),
            (model.requests_per_minute, model.tokens_per_minute),
        )
        self._see_limits()
        self.changed()

    def _see_limits(self) -> None:
        self._limited = self.quota.known or self.key.limited

    def changed(self) -> None:
        """Its score and every ranking with it are stale."""
        self._base_at = -math.inf
        self.provider.version += 1
        self._changes.count += 1

    # Queries

    def circuit(self, scope: Scope) -> Circuit:
        """The circuit that a failure of this scope concerns."""
        return self.circuits[_CIRCUITS[scope]]

    def passable(self, now: float) -> bool:
        """May it be picked?"""
        for circuit in self.circuits:
            # The state of nearly all, looked at here: this is asked of every target once a second.
            if circuit.state is _AVAILABLE:
                continue
            if not circuit.passable(now):
                return False
            # What its provider's or its key's outage taught must not keep the probe from being made, either.
            if circuit.state is State.HALF_OPEN and self.own.evidence.outdate(circuit.until):
                self._base_at = -math.inf
        return not (self._limited and self._exhausted(now) is not None)

    def obstacle(self, now: float, request: object = None) -> Obstacle | None:
        """Why it may not be picked; None: it may. Cooldowns that ``request`` itself caused do not count."""
        found = [
            obstacle
            for circuit in self.circuits
            if (obstacle := _obstacle(circuit, now, request)) is not None
        ]
        exhausted = self._exhausted(now)
        if exhausted is not None:
            found.append(exhausted)
        if not found:
            return None
        # The gravest one explains, the last one to go decides how long it takes.
        gravest = max(found, key=lambda obstacle: (_GRAVITY[obstacle.cause], obstacle.until))
        until = max(obstacle.until for obstacle in found)
        return Obstacle(gravest.cause, until, gravest.reason, all(one.cooling for one in found))

    def _exhausted(self, now: float) -> Obstacle | None:
        found = self.key.obstacle(now)
        if found is not None:
            return found
        spent = self.quota.exhausted(now)
        return None if spent is None else Obstacle(Cause.THROTTLED, spent.until, spent.reason)

    def used_today(self, now: float) -> int:
        """Attempts since its provider's day began, where there is any limit."""
        self.quota.days.turn(now)
        return self.quota.days.requests

    def headroom(self, now: float) -> float:
        """The share that is left of the limit that is nearest, in 0..1; 1 when no limit is known."""
        if not self._limited:
            return 1.0
        return min(self.quota.headroom(now), self.key.headroom(now))

    def score(self, now: float) -> float:
        """Without tier fit."""
        if now - self._base_at >= SCORE_AGE:
            self._base = base_score(self.own.evidence, self.headroom(now), now)
            self._base_at = now
        return self._base

    def terms(self, fit: float, now: float) -> Terms:
        """What makes its score."""
        success, delay = self.own.evidence.estimates(now)
        return Terms(success, self.headroom(now), latency_term(delay), fit)

    @property
    def weight(self) -> float:
        """Its share of turns: below 1 while one of its scopes is in slow start."""
        own, key, model, provider = self.circuits
        return min(own.weight, key.weight, model.weight, provider.weight)

    # Changes

    def begin(self, holder: object, now: float) -> bool:
        """An attempt begins. True: it is the probe of a scope that is half-open."""
        self.attempts += 1
        self.in_flight += 1
        self.key.in_flight += 1
        probe = False
        for circuit in self.circuits:
            if circuit.state is _HALF_OPEN:
                circuit.claim(holder)
                probe = True
        if self._limited:
            self.quota.take(now)
            if self.key.requests_per_minute:
                self.key.used(now)
                self.key.requests.append(now)
        if probe:
            self.changed()
        if self._limited or self._spent:
            self._check(now)
        return probe

    def _check(self, now: float) -> None:
        """A limit may have been reached, or be whole again."""
        spent = self._limited and self._exhausted(now) is not None
        if spent or self._spent:
            self.changed()
        self._spent = spent

    def learn(self, limits: Iterable[Limit], now: float) -> None:
        """Its provider told what is left."""
        self.quota.learn(limits, now)
        self._see_limits()
        self._check(now)

    def use(self, tokens: int, now: float) -> None:
        """An answer has used so many tokens."""
        if self._limited:
            self.quota.use(tokens, now)
            if self.key.tokens.limit:
                self.key.tokens.add(tokens, now)
            self._check(now)

    def throttled(self, now: float) -> None:
        """Its provider refused a request for its rate, and did not say of which limit."""
        self.throttles += 1
        self.quota.refused(now)
        self._see_limits()

    def success(self, duration: float, now: float) -> None:
        """An attempt ended well."""
        self.successes += 1
        self.durations.append(duration)
        own, key, model, provider = self.circuits
        if (
            own.state is not _AVAILABLE
            or key.state is not _AVAILABLE
            or model.state is not _AVAILABLE
            or provider.state is not _AVAILABLE
        ):
            self.changed()
        own.success(now)
        key.success(now)
        model.success(now)
        provider.success(now)

    def end(self, holder: object, probe: bool) -> None:
        """An attempt is over; probes without a verdict give their slots back."""
        self.in_flight -= 1
        self.key.in_flight -= 1
        if probe:
            for circuit in self.circuits:
                circuit.release(holder)
        if probe or self.key.max_concurrency:
            self.changed()


_CIRCUITS = {Scope.TARGET: 0, Scope.KEY: 1, Scope.MODEL: 2, Scope.PROVIDER: 3}
_GRAVITY = {Cause.ERRORS: 0, Cause.THROTTLED: 1, Cause.DISABLED: 2}


def _obstacle(circuit: Circuit, now: float, request: object) -> Obstacle | None:
    if circuit.passable(now):
        return None
    if circuit.state is State.HALF_OPEN:
        return Obstacle(circuit.cause, now + POLL, "half open: its probe is under way")
    if request is not None and circuit.caused_by is request:
        return None
    seconds = circuit.until - now
    return Obstacle(circuit.cause, circuit.until, f"cooling down for {seconds:.1f} s: {circuit.reason}", True)


class Registry:
    """All states of one catalog, taken over from the one before where the same thing still exists."""

    __slots__ = ("_keys", "_models", "_providers", "_targets", "changes", "states")

    def __init__(self, catalog: Catalog, before: "Registry | None", epoch: float) -> None:
        self.changes: Changes = Changes() if before is None else before.changes
        self._keys: dict[object, KeyState] = {}
        self._models: dict[object, ModelState] = {}
        self._providers: dict[object, ProviderState] = {}
        self._targets: dict[object, TargetState] = {}
        self.states: dict[str, TargetState] = {}  # by the target's id
        for target in catalog.targets:
            state = self._state(target, before, epoch)
            state.limit(target)
            self.states[target.id] = state

    def _state(self, target: Target, before: "Registry | None", epoch: float) -> TargetState:
        provider = target.provider
        # A provider at another address, or a key of another name, is another one.
        place = (provider.name, provider.origin, provider.path)
        identity = (provider.name, target.backend)
        if before is not None and identity in before._targets:
            state = before._targets[identity]
        else:
            old = before or self
            state = TargetState(
                _known(KeyState, (place, target.credential), self._keys, old._keys),
                _known(ModelState, (place, target.model.upstream), self._models, old._models),
                _known(ProviderState, place, self._providers, old._providers),
                self.changes,
                epoch,
            )
        self._keys[place, target.credential] = state.key
        self._models[place, target.model.upstream] = state.model
        self._providers[place] = state.provider
        self._targets[identity] = state
        return state


_S = TypeVar("_S")


def _known(make: Callable[[], _S], key: object, own: dict[object, _S], old: dict[object, _S]) -> _S:
    return own.get(key) or old.get(key) or make()

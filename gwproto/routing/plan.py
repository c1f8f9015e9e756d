"""The first two steps of choosing: which targets could serve a request at all, health aside.

Requests repeat, so the answer is kept per *shape*: what a demand has in common with all others of its kind.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Container

from msgspec import Struct

from gwproto.failures import Failure, FailureClass
from gwproto.routing.catalog import AUTO, CAPABILITIES, Catalog, Target
from gwproto.routing.demand import Demand
from gwproto.routing.rotation import Band, Rotation
from gwproto.routing.score import FIT_WEIGHT
from gwproto.routing.state import SCORE_AGE, Changes, Registry, TargetState

#: Token estimates err; a prompt that fits barely does not fit.
PROMPT_MARGIN = 1.2

_LEVELS = {
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_PREFERENCE = {
    AUTO: ("medium", "low", "high"),
    "low": ("low", "medium", "high"),
    "medium": ("medium", "high", "low"),
    "high": ("high", "medium", "low"),
}

_WINDOW = "a large enough context window"

#: Classes of providers: the next one only when none is left of those before.
MEETS, OTHER, FALLBACK = range(3)


class Seat(Struct, frozen=True, eq=False):
    """A target in a plan: its memory, and how well it suits this kind of request (0 is best)."""

    target: Target
    state: TargetState
    preference: int
    fit: float  # its score's term for the tier

    def score(self, now: float) -> float:
        return self.state.score(now) + self.fit


class Front(Struct, frozen=True, eq=False):
    """A provider's best targets at the moment, which take turns, and what they make of the provider."""

    group: "Group"
    seats: dict[str, Seat]
    keys: list[str]
    weights: list[float]
    score: float
    weight: float
    rank: int  # MEETS, OTHER, FALLBACK


class Group:
    """One provider's targets in a plan, in order of preference."""

    __slots__ = (
        "_band",
        "_effort",
        "_front",
        "_version",
        "fallback",
        "name",
        "provider",
        "seats",
        "turns",
        "until",
    )

    def __init__(self, name: str, seats: list[Seat], effort: str, turns: Rotation) -> None:
        self.name = name
        self.fallback = seats[0].target.provider.fallback
        self.provider = seats[0].state.provider
        self.seats = sorted(seats, key=lambda seat: seat.preference)
        self.turns = turns
        self.until = -math.inf  # when the front must be computed anew at the latest
        self._effort = effort
        self._band = Band()
        self._front: Front | None = None
        self._version = -1

    def front(self, now: float) -> Front | None:
        """The best available targets; None when there are none. Computed anew only after a change."""
        if self._version != self.provider.version or now >= self.until:
            self.until = now + SCORE_AGE
            self._front = self._rank(now, (), None, True)
            self._version = self.provider.version
        return self._front

    def front_without(self, tried: Container[object], request: object, now: float) -> Front | None:
        """The same without some backends, and with those that cool down because of ``request`` alone."""
        return self._rank(now, tried, request, False)

    def _rank(self, now: float, tried: Container[object], request: object, remember: bool) -> Front | None:
        found: list[Seat] = []
        for seat in self.seats:
            if found and seat.preference != found[0].preference:
                break
            if seat.target.backend in tried:
                continue
            if not seat.state.passable(now):
                obstacle = seat.state.obstacle(now, request)
                if obstacle is not None:
                    if remember:
                        self.until = min(self.until, obstacle.until)
                    continue
            found.append(seat)
        if not found:
            return None
        scored = [(seat.target.id, seat.score(now)) for seat in found]
        keys = self._band.members(scored, remember=remember)
        seats = {seat.target.id: seat for seat in found}
        weights = [seats[key].state.weight for key in keys]
        rank = FALLBACK if self.fallback else OTHER
        if not self.fallback and (self._effort == AUTO or found[0].preference == 0):
            rank = MEETS
        return Front(self, seats, keys, weights, max(score for _, score in scored), max(weights), rank)


class Lineup(Struct, frozen=True, eq=False):
    """The providers of the best class there is, and those of them that take turns."""

    rank: int
    fronts: dict[str, Front]
    names: list[str]
    weights: list[float]


class Shape:
    """What all demands of one kind share: the candidates by provider, those removed and why, and their turns."""

    __slots__ = ("_band", "_changes", "_lineup", "_until", "_version", "groups", "removed", "turns")

    def __init__(
        self,
        groups: tuple[Group, ...],
        removed: tuple[tuple[Target, str], ...],
        turns: Rotation,
        changes: Changes,
    ) -> None:
        self.groups = groups
        self.removed = removed
        self.turns = turns
        self._band = Band()
        self._changes = changes
        self._lineup: Lineup | None = None
        self._version = -1
        self._until = -math.inf

    def lineup(self, now: float) -> Lineup | None:
        """Who takes turns; None: nobody is available. Computed anew only after a change."""
        if self._version != self._changes.count or now >= self._until:
            fronts = [front for group in self.groups if (front := group.front(now)) is not None]
            self._lineup = self._line_up(fronts) if fronts else None
            self._until = min((group.until for group in self.groups), default=math.inf)
            self._version = self._changes.count
        return self._lineup

    def _line_up(self, fronts: list[Front]) -> Lineup:
        rank = min(front.rank for front in fronts)
        by_name = {front.group.name: front for front in fronts if front.rank == rank}
        names = self._band.members([(name, front.score) for name, front in by_name.items()])
        return Lineup(rank, by_name, names, [by_name[name].weight for name in names])


class Plan(Struct, eq=False):
    """One request's candidates. Also the request's identity for the router, and how long it is ready to wait."""

    shape: Shape
    wait_until: float = math.inf
    chosen: Target | None = None
    spent: frozenset[object] = frozenset()  # backends that must not serve this request again

    @property
    def candidates(self) -> tuple[Target, ...]:
        return tuple(seat.target for group in self.shape.groups for seat in group.seats)

    @property
    def removed(self) -> tuple[tuple[Target, str], ...]:
        return self.shape.removed


class Planner:
    """Makes plans for one catalog."""

    #: Clients choose what shapes there are, so their number is bounded.
    MAX_SHAPES = 512

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        rotations: Callable[[tuple[str, ...]], Rotation],
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._rotations = rotations
        self._windows = sorted({target.model.context_window for target in catalog.targets} - {0})
        self._shapes: dict[tuple[object, ...], Shape] = {}

    def plan(self, demand: Demand) -> Plan | Failure:
        """Which targets could serve this; a failure when none ever could, or what it names does not exist."""
        tokens = PROMPT_MARGIN * demand.prompt_tokens + demand.output_tokens
        effort = _LEVELS.get(demand.effort, AUTO)
        key = (
            demand.model,
            demand.provider,
            demand.forced_model,
            demand.needs,
            effort,
            # All demands between two sizes of windows are alike.
            bisect_left(self._windows, tokens),
            demand.parameters if demand.require_params else None,
        )
        shape = self._shapes.get(key)
        if shape is not None:
            return Plan(shape)
        made = self._shape(demand, effort, tokens)
        # Failures are not kept: their keys are whatever a client makes up.
        if isinstance(made, Failure):
            return made
        if len(self._shapes) >= self.MAX_SHAPES:
            self._shapes.clear()
        self._shapes[key] = made
        return Plan(made)

    def _shape(self, demand: Demand, effort: str, tokens: float) -> Shape | Failure:
        named = self._named(demand)
        if isinstance(named, Failure):
            return named
        removed: list[tuple[Target, str]] = []
        obstacles: dict[str, None] = {}
        suitable: list[Target] = []
        for target in self._catalog.targets:
            if target not in named:
                removed.append((target, "not among the models or providers asked for"))
                continue
            lacking = _lacking(target, demand, tokens)
            if lacking:
                removed.append((target, f"lacks {lacking}"))
                obstacles[lacking] = None
            else:
                suitable.append(target)
        if named and not suitable:
            return _unsupported(tuple(obstacles))
        return self._arrange(suitable, tuple(removed), effort)

    def _named(self, demand: Demand) -> frozenset[Target] | Failure:
        """The targets that the demand's names stand for."""
        catalog = self._catalog
        named = catalog.resolve(demand.model or AUTO)
        if named is None:
            return Failure(
                FailureClass.INVALID,
                f"The model {demand.model!r} does not exist.",
                status=404,
                type="invalid_request_error",
                code="model_not_found",
                param="model",
            )
        chosen = frozenset(named)
        if demand.provider:
            if demand.provider not in catalog.provider_names:
                return _unknown("provider", demand.provider, catalog.provider_names)
            chosen = frozenset(target for target in chosen if target.provider.name == demand.provider)
        if demand.forced_model:
            forced = catalog.resolve(demand.forced_model)
            if forced is None:
                return _unknown("model", demand.forced_model, catalog.model_names)
            chosen &= frozenset(forced)
        if named and not chosen:
            return Failure(
                FailureClass.INVALID,
                "The model, the forced model and the forced provider have no target in common.",
                status=400,
                type="invalid_request_error",
                code="model_not_found",
                param="x-gateway-force-provider" if demand.provider else "x-gateway-force-model",
            )
        return chosen

    def _arrange(self, suitable: list[Target], removed: tuple[tuple[Target, str], ...], effort: str) -> Shape:
        tiers = _PREFERENCE[effort]
        by_provider: dict[str, list[Seat]] = {}
        for target in suitable:
            tier = tiers.index(target.model.tier)
            capabilities = target.model.capabilities
            preference = 2 * tier
            if effort != AUTO and capabilities is not None and "reasoning" not in capabilities:
                preference += 1
            seat = Seat(target, self._registry.states[target.id], preference, FIT_WEIGHT * (1.0 - tier / 2.0))
            by_provider.setdefault(target.provider.name, []).append(seat)
        groups = tuple(
            Group(name, seats, effort, self._rotations(("targets", effort, name)))
            for name, seats in by_provider.items()
        )
        turns = self._rotations(("providers", effort, *by_provider))
        return Shape(groups, removed, turns, self._registry.changes)


def _lacking(target: Target, demand: Demand, tokens: float) -> str:
    """Why this target can never serve this demand; ``""``: it can. What the catalog does not state is assumed."""
    model = target.model
    lacking = demand.needs & (target.provider.vocabulary.lacks | (model.quirks.lacks or frozenset()))
    if model.capabilities is not None:
        lacking |= (demand.needs & CAPABILITIES) - model.capabilities
    if lacking:
        return ", ".join(sorted(lacking))
    if model.context_window and tokens > model.context_window:
        return _WINDOW
    if demand.require_params:
        return ", ".join(sorted(_not_taken(target, demand.parameters)))
    return ""


def _not_taken(target: Target, parameters: frozenset[str]) -> frozenset[str]:
    """Those of a request's fields that ``target`` would have dropped."""
    quirks = target.model.quirks
    renamed = quirks.rename or {}
    spelled = frozenset(renamed.get(name, name) for name in parameters)
    refused = spelled & (quirks.drop or frozenset())
    vocabulary = target.provider.vocabulary
    if vocabulary.open and quirks.open is not False:
        return refused
    return refused | (spelled - vocabulary.parameters.union(renamed.values(), quirks.keep or ()))


def _unsupported(obstacles: tuple[str, ...]) -> Failure:
    if obstacles == (_WINDOW,):
        return Failure(
            FailureClass.CONTEXT,
            "The request is longer than the context window of every model that could serve it.",
            status=400,
            type="invalid_request_error",
            code="context_length_exceeded",
            param="messages",
        )
    return Failure(
        FailureClass.INVALID,
        f"No configured model supports what the request needs; lacking: {'; '.join(obstacles)}.",
        status=400,
        type="invalid_request_error",
        code="unsupported_capability",
    )


def _unknown(what: str, name: str, valid: tuple[str, ...]) -> Failure:
    return Failure(
        FailureClass.INVALID,
        f"Unknown {what} {name!r}. Valid: {', '.join(valid)}.",
        status=400,
        type="invalid_request_error",
        code="invalid_value",
        param=f"x-gateway-force-{what}",
    )

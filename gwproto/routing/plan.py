"""The first two steps of choosing: which targets could serve a request at all, health aside.

Requests repeat, so the answer is kept per *shape*: what a demand has in common with all others of its kind.
"""

from bisect import bisect_left
from collections.abc import Callable

from gwproto.failures import Failure, FailureClass
from gwproto.routing.catalog import AUTO, CAPABILITIES, Catalog, Target
from gwproto.routing.demand import Demand
from gwproto.routing.lineup import Group, Shape
from gwproto.routing.rotation import Rotation
from gwproto.routing.seats import Seat
from gwproto.routing.state import Registry
from gwproto.routing.ticket import Plan

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
            demand.allowed,
        )
        shape = self._shapes.get(key)
        if shape is not None:
            return Plan(shape, affinity=demand.affinity)
        made = self._shape(demand, effort, tokens)
        # Failures are not kept: their keys are whatever a client makes up.
        if isinstance(made, Failure):
            return made
        if len(self._shapes) >= self.MAX_SHAPES:
            self._shapes.clear()
        self._shapes[key] = made
        return Plan(made, affinity=demand.affinity)

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
            if demand.allowed is not None and target.id not in demand.allowed:
                removed.append((target, "not allowed to the client's key"))
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
        if chosen and demand.allowed is not None and demand.allowed.isdisjoint([one.id for one in chosen]):
            return _not_allowed(demand)
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
            seat = Seat(target, self._registry.states[target.id], preference, 1.0 - tier / 2.0)
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


def _not_allowed(demand: Demand) -> Failure:
    name = demand.forced_model or demand.model or AUTO
    where = f" at provider {demand.provider!r}" if demand.provider else ""
    return Failure(
        FailureClass.INVALID,
        f"This API key does not have access to model {name!r}{where}.",
        status=403,
        type="invalid_request_error",
        code="model_not_found",
        param="model",
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

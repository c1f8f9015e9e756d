"""What the router knows, as a plain value that a runtime may keep over a restart.

Everything in it is relative to the moment it was taken: durations, not instants. What is restored later is older by
the time in between, and names that mean nothing any more are passed over.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from gwproto.routing.catalog import Catalog, Target
from gwproto.routing.state import TargetState
from gwproto.routing.values import CircuitState, QuotaState


class TargetMemory(Struct, frozen=True, gc=False, omit_defaults=True):
    """A target's own circuit and what it has used of its day."""

    circuit: CircuitState | None = None
    quota: QuotaState | None = None


class RouterState(Struct, frozen=True, gc=False, omit_defaults=True):
    """Health and quotas by what identifies their subjects: address, credential's name, upstream model."""

    providers: dict[str, CircuitState] = {}
    keys: dict[str, CircuitState] = {}
    models: dict[str, CircuitState] = {}
    targets: dict[str, TargetMemory] = {}


def snapshot(catalog: Catalog, states: Mapping[str, TargetState], now: float) -> RouterState:
    """What there is to remember; what is as good as new is left out."""
    found = RouterState({}, {}, {}, {})
    for target in catalog.targets:
        state = states[target.id]
        for name, kept, circuit in (
            (_provider(target), found.providers, state.provider.circuit),
            (_key(target), found.keys, state.key.circuit),
            (_model(target), found.models, state.model.circuit),
        ):
            if name not in kept and (value := circuit.snapshot(now)) is not None:
                kept[name] = value
        own = state.own.snapshot(now)
        quota = state.quota.snapshot(now) if state.used_today(now) else None
        if own is not None or quota is not None:
            found.targets[_target(target)] = TargetMemory(own, quota)
    return found


def restore(
    catalog: Catalog,
    states: Mapping[str, TargetState],
    memory: RouterState,
    elapsed: float,
    now: float,
    renewed: Collection[str],
) -> None:
    """Take over ``memory``, which is ``elapsed`` seconds old. Credentials in ``renewed`` have another secret now: what
    is remembered of them, and of the targets that use them, holds no more."""
    for target in catalog.targets:
        state = states[target.id]
        circuits = [
            (memory.providers.get(_provider(target)), state.provider.circuit),
            (memory.models.get(_model(target)), state.model.circuit),
        ]
        if target.credential not in renewed:
            kept = memory.targets.get(_target(target), TargetMemory())
            circuits += [(memory.keys.get(_key(target)), state.key.circuit), (kept.circuit, state.own)]
            if kept.quota is not None:
                state.quota.restore(kept.quota, elapsed, now)
        for value, circuit in circuits:
            if value is not None:
                circuit.restore(value, elapsed, now)
        state.changed()


def _provider(target: Target) -> str:
    origin = target.provider.origin
    return f"{target.provider.name} {origin.scheme}://{origin.host}:{origin.port}{target.provider.path}"


def _key(target: Target) -> str:
    return f"{_provider(target)} {target.credential}"


def _model(target: Target) -> str:
    return f"{_provider(target)} {target.model.upstream}"


def _target(target: Target) -> str:
    return f"{_key(target)} {target.model.upstream}"

"""Who may serve a request beside the target that serves it already."""

from gwproto.routing.seats import Seat
from gwproto.routing.ticket import Plan
from gwproto.routing.values import State

#: The part of its quota that a target must have left: what is scarce is kept for requests that have nobody else.
MIN_HEADROOM = 0.2

_WELL = (State.AVAILABLE, State.SLOW_START)


def unfit(plan: Plan, now: float) -> set[object]:
    """The backends of ``plan`` that a race must leave alone: fallbacks, what is scarce, and whatever rests or would be
    probed by it."""
    return {seat.target.backend for group in plan.shape.groups for seat in group.seats if not _fit(seat, now)}


def _fit(seat: Seat, now: float) -> bool:
    state = seat.state
    return (
        not seat.target.provider.fallback
        and all(circuit.state in _WELL for circuit in state.circuits)
        and state.headroom(now) >= MIN_HEADROOM
    )

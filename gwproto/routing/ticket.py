"""What asking the router for a target comes to."""

from typing import Literal

from msgspec import Struct

from gwproto.routing.catalog import Target
from gwproto.routing.plan import Plan
from gwproto.routing.state import TargetState


class Ticket(Struct, eq=False):
    """One attempt's hold on its target."""

    target: Target
    probe: bool  # decides over a half-open scope
    panic: bool  # every candidate was cooling down
    picked_at: float
    state: TargetState
    plan: Plan
    released: bool = False


class Wait(Struct, frozen=True, gc=False):
    """Ask again at ``until``: a target comes back, or may."""

    until: float


class NoTarget(Struct, frozen=True, gc=False):
    """There is none: all ``throttled``, some ``unavailable``, or ``exhausted``: none but tried ones are left.

    ``retry_after``: seconds until the first comes back, as far as is known.
    """

    cause: Literal["throttled", "unavailable", "exhausted"]
    retry_after: float | None

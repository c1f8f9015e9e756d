"""What asking the router for a target comes to."""

import math
from typing import Literal, final

from msgspec import Struct

from gwproto.routing.catalog import Target
from gwproto.routing.lineup import Shape
from gwproto.routing.state import TargetState
from gwproto.values import Candidate


class Plan(Struct, eq=False):
    """One request's candidates. Also the request's identity for the router, and how long it is ready to wait."""

    shape: Shape
    wait_until: float = math.inf
    chosen: Target | None = None
    spent: frozenset[object] = frozenset()  # backends that must not serve this request again
    considered: tuple[Candidate, ...] = ()  # what was known of all targets at the latest pick
    affinity: str = ""  # of requests that had better be served by one and the same target; "": of none

    @property
    def candidates(self) -> tuple[Target, ...]:
        return tuple(seat.target for group in self.shape.groups for seat in group.seats)

    @property
    def removed(self) -> tuple[tuple[Target, str], ...]:
        return self.shape.removed


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


@final
class NoTarget(Struct, frozen=True, gc=False):
    """There is none: all ``throttled``, some ``unavailable``, or ``exhausted``: none but tried ones are left.

    ``retry_after``: seconds until the first comes back, as far as is known.
    """

    cause: Literal["throttled", "unavailable", "exhausted"]
    retry_after: float | None

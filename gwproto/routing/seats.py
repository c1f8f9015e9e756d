"""Who stands where in a plan at the moment; computed in :mod:`gwproto.routing.lineup`."""

from typing import TYPE_CHECKING

from msgspec import Struct

from gwproto.routing.catalog import Target
from gwproto.routing.score import FIT_WEIGHT
from gwproto.routing.state import TargetState

if TYPE_CHECKING:
    from gwproto.routing.lineup import Group


class Seat(Struct, frozen=True, eq=False):
    """A target in a plan: its memory, and how well it suits this kind of request (0 is best)."""

    target: Target
    state: TargetState
    preference: int
    fit: float  # of its tier, in 0..1

    def score(self, now: float) -> float:
        return self.state.score(now) + FIT_WEIGHT * self.fit


class Front(Struct, frozen=True, eq=False):
    """A provider's best targets at the moment, which take turns, and what they make of the provider."""

    group: "Group"
    seats: dict[str, Seat]
    keys: list[str]
    weights: list[float]
    score: float
    weight: float
    rank: int  # MEETS, OTHER, FALLBACK
    known: float  # how many of their times to first content are known, and the mean (seconds)
    delay: float


class Lineup(Struct, frozen=True, eq=False):
    """The providers of the best class there is, those of them that take turns, and the slow outliers, which do not."""

    rank: int
    fronts: dict[str, Front]
    names: list[str]
    weights: list[float]
    slow: dict[str, float]  # and what would not be slow: a time to first content in seconds

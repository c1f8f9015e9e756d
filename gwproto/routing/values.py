"""How targets stand: the states of their health, what keeps traffic away from them, what outlives the process."""

import enum

from msgspec import Struct


class State(enum.Enum):
    AVAILABLE = "available"
    COOLDOWN = "cooldown"
    HALF_OPEN = "half_open"
    SLOW_START = "slow_start"


class Cause(enum.Enum):
    """Why a circuit cools down."""

    ERRORS = "errors"
    THROTTLED = "throttled"
    DISABLED = "disabled"


class CircuitState(Struct, frozen=True, gc=False, omit_defaults=True):
    """A circuit as a plain value. ``left``: seconds until its cooldown ends. A probe that was out has given its slot
    back; who caused a cooldown is forgotten."""

    state: State = State.AVAILABLE
    cause: Cause = Cause.ERRORS
    reason: str = ""
    left: float = 0.0
    failures: int = 0
    successes: int = 0
    error_pause: float = 0.0
    throttle_pause: float = 0.0
    evidence: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


class Obstacle(Struct, frozen=True, gc=False):
    """Why a target gets no traffic, and until when at the latest known."""

    cause: Cause
    until: float
    reason: str
    cooling: bool = False  # a cooldown, as against a probe under way or a limit


class Spent(Struct, frozen=True, gc=False):
    """A limit that is used up, and until when."""

    until: float
    reason: str


class QuotaState(Struct, frozen=True, gc=False, omit_defaults=True):
    """A target's use of its day; ``day_left``: seconds until that day ends."""

    requests: int = 0
    tokens: int = 0
    day_left: float = 0.0

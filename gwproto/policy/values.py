"""What the policies hold, judge by and answer."""

from typing import final

from msgspec import Struct

from gwproto.config import OwnRates


class Refused(Struct, frozen=True, gc=False):
    """Answer with ``status`` and close: nothing after such a head can be trusted."""

    status: int
    message: str


class ClientKey(Struct, frozen=True, gc=False):
    """A key that clients may present; ``sha256`` is the digest of its bytes.

    ``limits``: what differs from the common limits. Keys of one label have one allowance between them, and the limits
    of the first of them that has its own. ``models`` and ``projects``: the names that may be asked for; None: any.
    From ``expires`` on, in wall time, it is refused.
    """

    label: str
    sha256: bytes
    limits: OwnRates | None = None
    models: tuple[str, ...] | None = None
    projects: tuple[str, ...] | None = None
    expires: float | None = None


class Grant(Struct, frozen=True, gc=False):
    """What a key is bound to; None: to nothing. Requests without a project belong to the first of ``projects``."""

    targets: frozenset[str] | None = None  # ids
    projects: tuple[str, ...] | None = None


class Accepted(Struct, frozen=True, gc=False):
    """The key with this label was presented; ``grant`` None: it may be used for anything."""

    label: str
    grant: Grant | None = None


class Denied(Struct, frozen=True, gc=False):
    """Answer with this error."""

    status: int
    message: str
    code: str
    reason: str  # for records: missing unknown expired ambiguous
    label: str = ""  # of a key that was good once


class Entry(Struct, frozen=True, gc=False):
    key: ClientKey
    accepted: Accepted


class Standing(Struct, frozen=True, gc=False):
    """How much of a limit is left, and in how many seconds all of it is there again if nothing more is used."""

    limit: int
    remaining: int
    reset: float


@final
class Rejection(Struct, frozen=True, gc=False):
    """``retry_after`` is in seconds; None: a request of this size never fits."""

    limit: str  # the setting's name
    message: str
    retry_after: float | None
    requests: Standing | None
    tokens: Standing | None


class DayUsage(Struct, frozen=True, gc=False):
    """What was used of a day's budgets."""

    requests: int = 0
    tokens: int = 0
    cost: float = 0.0  # US dollars


class LimitsState(Struct, frozen=True, gc=False):
    """What was used of a day's budgets: JSON by ``msgspec``, to outlive a restart. ``day`` counts from 1970, UTC."""

    day: int
    keys: dict[str, DayUsage] = {}  # by label
    projects: dict[str, DayUsage] = {}

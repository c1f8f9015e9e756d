"""What a gateway is made of, and what it tells of itself."""

from msgspec import Struct

from gwproto.config import Settings
from gwproto.policy.values import ClientKey, LimitsState
from gwproto.queries import NoQuery, Query
from gwproto.routing.catalog import Catalog
from gwproto.routing.snapshot import RouterState


class Configuration(Struct, frozen=True, gc=False):
    """Settings compiled: all that a gateway needs to know. Holds hashes of client keys, and no provider's secret."""

    settings: Settings
    catalog: Catalog
    keys: tuple[ClientKey, ...]


class Statistics(Struct, frozen=True, gc=False):
    """How busy a gateway is."""

    in_flight: int  # chat completions begun and not finished
    begun: int  # requests since the start
    draining_for: float | None  # seconds since the process was asked to stop


class State(Struct, frozen=True, gc=False):
    """What a gateway knows of its providers and of its clients' budgets, taken ``at`` a wall time. Holds no secret."""

    at: float
    router: RouterState
    limits: LimitsState


class Page(Struct, frozen=True, gc=False):
    """What the runtime answers."""

    name: str
    endpoint: str
    query: type[Query] = NoQuery
    key: bool = True  # is one needed?
    stats: bool = False  # not with ``public_stats``

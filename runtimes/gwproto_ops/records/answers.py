"""What the analytics pages answer."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from gwproto.routing.status import Status
from gwproto_ops.records.lines import Record


class Percentiles(Struct, frozen=True, gc=False):
    """Milliseconds, within 10 %."""

    p50: float
    p95: float
    p99: float


class Figures(Struct, frozen=True, gc=False):
    """Of some chat completions."""

    requests: int
    successful: int  # a whole answer was sent
    failed: int  # failed, truncated or abandoned
    refused: int  # the client's fault
    client_closed: int
    success_rate: float | None  # successful of successful and failed; null: neither
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost: float  # US dollars, as far as prices are known
    first_content_ms: Percentiles | None
    duration_ms: Percentiles | None  # of those that were successful


class Day(Figures, frozen=True, gc=False, kw_only=True):
    date: str  # UTC


class Point(Figures, frozen=True, gc=False, kw_only=True):
    at: int  # seconds since 1970: the bucket's start


class Series(Struct, frozen=True):
    name: str
    points: tuple[Point, ...]


class Analytics(Struct, frozen=True, kw_only=True):
    """``GET /v1/analytics``."""

    object: Literal["analytics"] = "analytics"
    days: int
    project_id: str | None
    provider: str | None
    model: str | None
    from_: int = field(name="from")  # seconds since 1970
    to: int
    bucket: Literal["hour", "day"]
    total_requests: int
    successful_requests: int
    failed_requests: int
    success_rate: float | None
    totals: Figures
    providers: Mapping[str, Figures]
    models: Mapping[str, Figures]
    projects: Mapping[str, Figures]  # "": without a project
    daily: tuple[Day, ...]
    series: tuple[Series, ...]


class Requests(Struct, frozen=True, kw_only=True):
    """``GET /v1/requests``: the latest first."""

    object: Literal["list"] = "list"
    data: tuple[Record, ...]
    has_more: bool
    next: str | None


class ProviderStats(Struct, frozen=True, kw_only=True):
    """How a provider stands now, and what its attempts came to."""

    status: Status | Literal["removed"]  # its best target's; removed: it is not configured any more
    reason: str | None
    targets: int
    in_flight: int
    cooldown_until: float  # seconds since 1970; 0: it is not cooling down
    attempts: int
    successes: int
    throttles: int
    failures: Mapping[str, int]  # by class
    success_rate: float | None
    first_content_ms: Percentiles | None
    duration_ms: Percentiles | None


class Stats(Struct, frozen=True, kw_only=True):
    """``GET /v1/stats/providers``."""

    object: Literal["provider_stats"] = "provider_stats"
    days: int
    providers: Mapping[str, ProviderStats]

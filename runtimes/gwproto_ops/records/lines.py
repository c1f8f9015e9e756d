"""A finished request as the access log, ``/v1/requests`` and the export show it; made in ``record``."""

from msgspec import Struct

from gwproto.values import Candidate


class Attempt(Struct, frozen=True, gc=False):
    """One upstream try."""

    provider: str
    model: str  # the provider's name for it
    key: str  # the credential's name
    status: int | None
    failure: str | None  # its class; None: it served the request, or had no verdict
    code: str
    started_ms: float  # after the request's start
    ms: float
    first_content_ms: float | None
    probe: bool
    panic: bool
    reused: bool | None  # on a kept-alive connection?
    hedge: bool
    lost: bool


class Line(Struct, frozen=True, gc=False):
    """A finished request."""

    at: float  # seconds since 1970
    request_id: str
    key: str
    project_id: str
    endpoint: str
    method: str
    model_asked: str
    provider: str
    model: str
    stream: bool
    status: int
    ending: str
    error: str
    ms: float
    first_content_ms: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None  # US dollars
    partial_usage: bool
    shared: bool
    dropped_params: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    chosen: str  # a target's id
    rejected: str
    client: str


class Record(Line, frozen=True, gc=False):
    """A finished request with every target there was, and why it was not chosen."""

    candidates: tuple[Candidate, ...] = ()

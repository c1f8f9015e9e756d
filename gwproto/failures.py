"""What can go wrong, as values.

The dividing test: could a peer (client, provider, network) cause it? Then it is a :class:`Failure`, a value that
drives retry, health and the error body. Only a caller who breaks our own API gets an exception.
"""

import enum

from msgspec import Struct


class LocalProtocolError(Exception):
    """The caller of our API broke its contract; the machine that raised it is unusable."""


class WireError(Exception):
    """Raised inside a codec for input it cannot read; the machine turns it into a :class:`Failure`."""


class ConfigurationError(Exception):
    """A configuration that cannot be used. ``problems`` holds ``(path, what is wrong)`` pairs, all of them."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for path, problem in problems))
        self.problems = problems


class FailureClass(enum.Enum):
    """Why an attempt failed, decided by status, headers and body together (never by the status alone)."""

    RATE_MINUTE = "rate_minute"  # a short window of requests or tokens is used up
    RATE_DAY = "rate_day"  # a daily or monthly quota is used up
    CONCURRENCY = "concurrency"  # too many in flight on this key
    OVERLOADED = "overloaded"  # the provider has no capacity
    TOO_BIG = "too_big"  # one request larger than the tier allows
    CONTEXT = "context"  # longer than the model's window
    FILTERED = "filtered"  # a safety block
    INVALID = "invalid"  # the request is malformed or unsupported
    AUTH = "auth"  # the gateway's key is bad
    FORBIDDEN = "forbidden"  # model not on the plan, region
    CREDITS = "credits"  # no balance
    MODEL_GONE = "model_gone"  # unknown or removed model
    SERVER = "server"  # 5xx, bad JSON, HTML, a reset
    TIMEOUT = "timeout"  # connect, head, first content, idle, total
    EMPTY = "empty"  # a 200 with neither content nor finish
    TRUNCATED = "truncated"  # ended without finish and without end marker
    TOOL_GENERATION = "tool_generation"  # the model wrote an invalid tool call
    UNREACHABLE = "unreachable"  # refused, DNS, TLS: counts for the whole provider


class Scope(enum.Enum):
    """What a failure says something about, and so what it takes out of rotation."""

    REQUEST = "request"  # the request itself: no target's health is touched
    TARGET = "target"
    KEY = "key"
    MODEL = "model"
    PROVIDER = "provider"


class Effect(enum.Enum):
    """What a failure does to its scope."""

    NONE = "none"
    COUNT = "count"  # evidence against health; cools down after several
    THROTTLE = "throttle"  # cools at once, but is not ill health
    DISABLE = "disable"  # out for long: bad key, no credits, removed model


class Reaction(Struct, frozen=True, gc=False):
    """How the gateway answers a class of failure; one row of the taxonomy's table."""

    scope: Scope
    effect: Effect
    switch: bool  # may another target do better?
    status: int  # the client's status when this failure is the final one
    type: str  # OpenAI's error.type
    code: str  # OpenAI's error.code, where the provider gave none


_REQUEST, _TARGET, _KEY, _MODEL, _PROVIDER = (
    Scope.REQUEST,
    Scope.TARGET,
    Scope.KEY,
    Scope.MODEL,
    Scope.PROVIDER,
)
_F = FailureClass

REACTIONS: dict[FailureClass, Reaction] = {
    _F.RATE_MINUTE: Reaction(_TARGET, Effect.THROTTLE, True, 429, "rate_limit_error", "rate_limit_exceeded"),
    _F.RATE_DAY: Reaction(_TARGET, Effect.THROTTLE, True, 429, "rate_limit_error", "rate_limit_exceeded"),
    _F.CONCURRENCY: Reaction(_KEY, Effect.THROTTLE, True, 429, "rate_limit_error", "rate_limit_exceeded"),
    _F.OVERLOADED: Reaction(_TARGET, Effect.COUNT, True, 502, "provider_error", "upstream_error"),
    _F.TOO_BIG: Reaction(
        _REQUEST, Effect.NONE, True, 413, "invalid_request_error", "context_length_exceeded"
    ),
    _F.CONTEXT: Reaction(
        _REQUEST, Effect.NONE, True, 400, "invalid_request_error", "context_length_exceeded"
    ),
    _F.FILTERED: Reaction(_REQUEST, Effect.NONE, False, 400, "invalid_request_error", "content_filter"),
    _F.INVALID: Reaction(_REQUEST, Effect.NONE, False, 400, "invalid_request_error", "invalid_request"),
    _F.AUTH: Reaction(_KEY, Effect.DISABLE, True, 502, "provider_error", "upstream_error"),
    _F.FORBIDDEN: Reaction(_TARGET, Effect.DISABLE, True, 502, "provider_error", "upstream_error"),
    _F.CREDITS: Reaction(_KEY, Effect.DISABLE, True, 502, "provider_error", "upstream_error"),
    _F.MODEL_GONE: Reaction(_MODEL, Effect.DISABLE, True, 404, "invalid_request_error", "model_not_found"),
    _F.SERVER: Reaction(_TARGET, Effect.COUNT, True, 502, "provider_error", "upstream_error"),
    _F.TIMEOUT: Reaction(_TARGET, Effect.COUNT, True, 504, "provider_error", "upstream_timeout"),
    _F.EMPTY: Reaction(_TARGET, Effect.COUNT, True, 502, "provider_error", "bad_upstream_response"),
    _F.TRUNCATED: Reaction(_TARGET, Effect.COUNT, True, 502, "provider_error", "stream_truncated"),
    _F.TOOL_GENERATION: Reaction(_REQUEST, Effect.NONE, True, 502, "provider_error", "bad_upstream_response"),
    _F.UNREACHABLE: Reaction(_PROVIDER, Effect.COUNT, True, 502, "provider_error", "upstream_unreachable"),
}


class Failure(Struct, frozen=True, gc=False):
    """One failed attempt, classified.

    ``message`` is safe to show: at most 300 characters, tags stripped, never a secret. ``status``, ``code``,
    ``type`` and ``param`` are the provider's own where it sent them. ``retry_after`` is in seconds from the moment
    the failure was seen. ``scope`` is what the provider is known to mean, where that differs from its class's own.
    """

    kind: FailureClass
    message: str
    status: int | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    scope: Scope | None = None

    @property
    def reaction(self) -> Reaction:
        return REACTIONS[self.kind]


class LossReason(enum.Enum):
    """Why an upstream connection was lost before its response was complete."""

    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    UNREACHABLE = "unreachable"  # no route, network down, too many files
    STALE = "stale"  # a kept-alive connection turned out to be dead: nothing was answered on it
    RESET = "reset"
    TRUNCATED = "truncated"  # the framing promised more
    PROTOCOL = "protocol"  # not HTTP/1.1 as RFC 9112 has it
    TOO_LARGE = "too_large"  # a head over its limit

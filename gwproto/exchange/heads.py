"""Response heads of chat completions (docs/contract.md, headers)."""

import math
import re

from gwproto.exchange.attempt import Attempt
from gwproto.failures import Failure
from gwproto.values import Headers

#: Proxies between here and the client must pass a stream on as it comes.
_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_JSON = (b"content-type", b"application/json")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_NO_RETRY = (b"x-should-retry", b"false")


def identity(request_id: str) -> Headers:
    """The request's id, on every response."""
    encoded = request_id.encode()
    return ((b"x-gateway-request-id", encoded), (b"x-request-id", encoded))


def provenance(attempt: Attempt | None, attempts: int) -> Headers:
    """Who served the request, as far as that is known."""
    if attempt is None:
        return ()
    target = attempt.ticket.target
    headers = (
        (b"x-gateway-provider", target.provider.name.encode()),
        (b"x-gateway-model", target.model.upstream.encode()),
        (b"x-gateway-attempts", b"%d" % attempts),
        (b"x-gateway-reasoning-effort", attempt.effort.encode()),
    )
    if attempt.dropped:
        # Names the client made up may hold anything; a header may not (RFC 9110, 5.5).
        names = ",".join(_UNSAFE.sub("_", name)[:64] for name in attempt.dropped)
        return (*headers, (b"x-gateway-dropped-params", names.encode()))
    return headers


def timing(began_at: float, upstream: float, now: float) -> tuple[bytes, bytes]:
    """``server-timing`` in milliseconds: our own time and the provider's (W3C Server Timing)."""
    own = max(0.0, now - began_at - upstream)
    return (b"server-timing", b"gw;dur=%.1f, upstream;dur=%.1f" % (own * 1e3, upstream * 1e3))


def stream_head(request_id: str) -> Headers:
    return (*_STREAM, *identity(request_id))


def json_head(request_id: str, length: int) -> Headers:
    return (_JSON, (b"content-length", b"%d" % length), *identity(request_id))


def retry_hints(status: int, retry_after: float | None) -> Headers:
    """``retry-after`` (RFC 9110, 10.2.3) on 429 and 503; no retry by SDKs of what has been failed over already."""
    if status in (429, 503):
        seconds = 1 if retry_after is None else max(1, math.ceil(retry_after))
        return ((b"retry-after", b"%d" % seconds),)
    return (_NO_RETRY,) if status in (502, 504) else ()


def verdict(failures: list[Failure]) -> tuple[Failure, int]:
    """The failure to show when every attempt failed, and its status.

    A verdict on the request itself is the client's to read, with the provider's own status. Otherwise the first that
    says something about the provider's state: 502, 504 or 429.
    """
    last = failures[-1]
    if not last.reaction.switch:
        return last, _request_status(last)
    for failure in failures:
        if failure.reaction.status in (502, 504, 429):
            return failure, failure.reaction.status
    return last, _request_status(last)


def _request_status(failure: Failure) -> int:
    status = failure.status
    if status is not None and status in (400, 404, 413, 422):
        return status
    return failure.reaction.status

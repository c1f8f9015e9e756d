"""The client's side of a chat completion: which head was sent, and how answers and errors look because of it."""

import re
from collections.abc import Sequence

from gwproto.commands import Command, SendData, SendEnd, SendHead
from gwproto.exchange.account import Account
from gwproto.exchange.attempt import Attempt
from gwproto.exchange.reply import CLOSE, identity, retry_after
from gwproto.failures import Failure, FailureClass
from gwproto.sse.encoder import KEEP_ALIVE
from gwproto.values import Headers
from gwproto.wire.openai.errors import encode_error, error_frame

#: Proxies between here and the client must pass a stream on as it comes.
_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_JSON = (b"content-type", b"application/json")
# Codes of providers are theirs; a client that asks many of them needs one vocabulary.
_OURS = frozenset(
    (
        "bad_upstream_response",
        "internal_error",
        "no_candidate",
        "rate_limit_exceeded",
        "shutting_down",
        "stream_truncated",
        "upstream_error",
        "upstream_timeout",
        "upstream_unreachable",
    )
)
_NO_RETRY = (b"x-should-retry", b"false")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
#: The gateway's own account is at fault. A client shown the provider's words would look for a mistake in its own key.
_ACCOUNT = frozenset((FailureClass.AUTH, FailureClass.FORBIDDEN, FailureClass.CREDITS))


class Response:
    """``status`` is that of the head which was sent, 0 before; ``error`` the code of the error that was sent."""

    __slots__ = ("_account", "_request_id", "error", "extra", "status")

    def __init__(self, request_id: str, account: Account | None = None) -> None:
        self._request_id = request_id
        self._account = account
        self.status = 0
        self.error = ""
        self.extra: Headers = ()

    def commit(
        self, attempt: Attempt, attempts: int, gateway_time: float, upstream_time: float, length: int | None
    ) -> Sequence[Command]:
        """The head of a success; nothing when a heartbeat has sent one already. ``length`` None: a stream."""
        if self.status:
            return []
        self.status = 200
        form = _STREAM if length is None else (_JSON, (b"content-length", b"%d" % length))
        headers = (
            *form,
            *identity(self._request_id),
            *_provenance(attempt, attempts),
            # W3C Server Timing: milliseconds
            (b"server-timing", b"gw;dur=%.1f, upstream;dur=%.1f" % (gateway_time * 1e3, upstream_time * 1e3)),
            *(() if self._account is None else self._account.headers),
            *self.extra,
        )
        return [SendHead(200, headers)]

    def heartbeat(self) -> Sequence[Command]:
        """A comment that keeps the connection alive, after a head that cannot name the provider yet."""
        beat = SendData(KEEP_ALIVE)
        if self.status:
            return [beat]
        self.status = 200
        limits = () if self._account is None else self._account.headers
        return [SendHead(200, (*_STREAM, *identity(self._request_id), *limits, *self.extra)), beat]

    def fail(
        self,
        failure: Failure,
        status: int,
        attempt: Attempt | None,
        attempts: int,
        *,
        type: str = "",
        close: bool = False,
    ) -> Sequence[Command]:
        """An error: a status and a JSON body, or an event without ``[DONE]`` when a head has been sent."""
        reaction = failure.reaction
        if failure.kind in _ACCOUNT:
            failure = Failure(failure.kind, "The provider refused the gateway's account.")
        own = status < 500 and status != 429  # the client's own doing: it is shown the provider's words
        kind = type or reaction.type  # never the provider's: each has a vocabulary of its own
        if self.status or own or failure.code in _OURS:
            code = failure.code or reaction.code
        else:
            code = reaction.code
        self.error = code
        param = failure.param if own else None
        if self.status:
            return [SendData(error_frame(failure.message, kind, code, param)), SendEnd()]
        self.status = status
        body = encode_error(failure.message, kind, code, param)
        headers = (
            _JSON,
            (b"content-length", b"%d" % len(body)),
            *identity(self._request_id),
            *(() if attempt is None else _provenance(attempt, attempts)),
            *_retry_hints(status, failure.retry_after),
            *(() if self._account is None else self._account.headers),
            *((CLOSE,) if close else ()),
            *self.extra,
        )
        return [SendHead(status, headers), SendData(body), SendEnd()]


def _provenance(attempt: Attempt, attempts: int) -> Headers:
    """Who served the request."""
    target = attempt.ticket.target
    headers = (
        (b"x-gateway-provider", target.provider.name.encode()),
        (b"x-gateway-model", target.model.upstream.encode()),
        (b"x-gateway-attempts", b"%d" % attempts),
        (b"x-gateway-reasoning-effort", attempt.effort.encode()),
    )
    if not attempt.dropped:
        return headers
    # Names the client made up may hold anything; a header field may not (RFC 9110, 5.5).
    names = ",".join([_UNSAFE.sub("_", name)[:64] for name in attempt.dropped])
    return (*headers, (b"x-gateway-dropped-params", names.encode()))


def _retry_hints(status: int, seconds: float | None) -> Headers:
    """``retry-after`` on 429 and 503; SDKs must not repeat what has been failed over already."""
    if status in (429, 503):
        return (retry_after(seconds),)
    return (_NO_RETRY,) if status in (502, 504) else ()

"""Exchanges that need no provider: their answer is known when the head is."""

import math
from collections.abc import Sequence

from gwproto.commands import Command, Delegate, SendData, SendEnd, SendHead
from gwproto.events import Event
from gwproto.exchange.base import Exchange
from gwproto.failures import Failure, LocalProtocolError
from gwproto.policy.tracing import trace_of
from gwproto.values import Ending, Headers, Outcome, RequestHead
from gwproto.wire.openai.errors import encode_error

CLOSE = (b"connection", b"close")


class Answer:
    """A complete response, before the headers that every response gets."""

    __slots__ = ("body", "content_type", "error", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        *,
        content_type: bytes = b"application/json",
        headers: Headers = (),
        error: str = "",
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.error = error


def error_answer(
    status: int,
    code: str,
    message: str,
    *,
    type: str = "invalid_request_error",
    headers: Headers = (),
    param: str | None = None,
) -> Answer:
    return Answer(status, encode_error(message, type, code, param), headers=headers, error=code)


def refused(failure: Failure, headers: Headers = ()) -> Answer:
    """The error that says ``failure``."""
    code, kind = failure.code or failure.reaction.code, failure.type or failure.reaction.type
    return error_answer(
        failure.status or 400, code, failure.message, type=kind, headers=headers, param=failure.param
    )


def retry_after(seconds: float | None) -> tuple[bytes, bytes]:
    """``retry-after`` in whole seconds (RFC 9110, 10.2.3); at least one, also where it is not known."""
    return b"retry-after", b"%d" % max(1, math.ceil(seconds or 0))


class Answering(Exchange):
    """An exchange that ends with an :class:`Answer` of the gateway's own."""

    __slots__ = ("_client", "_endpoint", "_epoch", "_key", "_rejected")

    def __init__(
        self, head: RequestHead, request_id: str, now: float, *, endpoint: str, epoch: float, key: str = ""
    ) -> None:
        super().__init__(head, request_id, now)
        self._endpoint = endpoint
        self._epoch = epoch
        self._key = key
        self._rejected = self._client = ""

    def _respond(self, answer: Answer, now: float, ending: Ending | None = None) -> Sequence[Command]:
        """Send it whole, and be finished."""
        self._finish(answer.status, answer.error, now, ending)
        head = SendHead(answer.status, (*reply_headers(answer, self.request_id), *self.extra))
        if self.head.method == "HEAD" or not answer.body:
            return [head, SendEnd()]
        return [head, SendData(answer.body), SendEnd()]

    def _finish(self, status: int, error: str, now: float, ending: Ending | None = None) -> None:
        self.finished = True
        self.receiving = False
        if ending is None:
            ending = Ending.REFUSED if status >= 400 else Ending.COMPLETED
        self.outcome = Outcome(
            request_id=self.request_id,
            at=self.began_at + self._epoch,
            ending=ending,
            status=status,
            method=self.head.method,
            endpoint=self._endpoint,
            duration=now - self.began_at,
            key=self._key,
            error=error,
            began_at=self.began_at,
            trace=trace_of(self.head.headers) if error else None,
            rejected=self._rejected,
            client=self._client,
        )


class Reply(Answering):
    """Answers from :meth:`start` and is finished with it.

    ``rejected``: what was wrong with the client's key, and ``client``, its address.
    """

    __slots__ = ("_answer",)

    def __init__(
        self,
        head: RequestHead,
        request_id: str,
        now: float,
        *,
        answer: Answer | Delegate,
        endpoint: str,
        epoch: float,
        key: str = "",
        rejected: str = "",
        client: str = "",
    ) -> None:
        super().__init__(head, request_id, now, endpoint=endpoint, epoch=epoch, key=key)
        self._answer = answer
        self._rejected, self._client = rejected, client

    @property
    def deadline(self) -> float:
        return math.inf

    def start(self, now: float) -> Sequence[Command]:
        if self.finished:
            raise LocalProtocolError("start() after the end of an exchange")
        answer = self._answer
        if isinstance(answer, Delegate):
            self._finish(200, "", now)
            return [Delegate(answer.name, answer.query, (*identity(self.request_id), *self.extra))]
        return self._respond(answer, now)

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        raise LocalProtocolError(f"{event!r} for an exchange that is finished by start()")

    def tick(self, now: float) -> Sequence[Command]:
        return []

    def abandon(self, now: float) -> Sequence[Command]:
        if not self.finished:
            self._finish(499, "", now, Ending.ABANDONED)
        return []


def reply_headers(answer: Answer, request_id: str) -> Headers:
    """The headers of a complete response; a 204 has no body to tell of (RFC 9110, 8.6)."""
    form: Headers = ()
    if answer.status != 204:
        form = ((b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body)))
    return (*form, *identity(request_id), *answer.headers)


def identity(request_id: str) -> Headers:
    """The request's id, on every response."""
    encoded = request_id.encode()
    return ((b"x-gateway-request-id", encoded), (b"x-request-id", encoded))

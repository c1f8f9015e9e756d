"""One upstream try: where it stands, which deadline is next, and what it left behind."""

import enum
import math
import re

from msgspec import structs

from gwproto.exchange.body import BLANK, ErrorBody, choose
from gwproto.exchange.gears import Body
from gwproto.exchange.intake import envelope_of, reading_of, write
from gwproto.failures import Failure, FailureClass, LossReason
from gwproto.policy.tracing import span_id, trace_headers
from gwproto.routing.router import Ticket
from gwproto.values import AttemptRecord, Headers, Limit, UpstreamRequest
from gwproto.wire.limits import told
from gwproto.wire.neutral import UNREAD, ChatRequest


class Phase(enum.Enum):
    """How far an attempt is; each phase has its own deadline."""

    OPENING = "connect"
    WAITING = "response head"
    READING = "first content"
    CONTENT = "next content"
    COLLECTING = "error body"


# To look a member of an enumeration up takes longer than to compare it.
_OPENING, _WAITING, _READING, _CONTENT = Phase.OPENING, Phase.WAITING, Phase.READING, Phase.CONTENT

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")

#: An error status is verdict enough: its body may take this long (seconds), then it is classified without.
ERROR_BODY_TIMEOUT = 5.0


_LOSSES: dict[LossReason, tuple[FailureClass, str, str]] = {
    LossReason.REFUSED: (FailureClass.UNREACHABLE, "upstream_unreachable", "refused the connection"),
    LossReason.DNS: (FailureClass.UNREACHABLE, "upstream_unreachable", "has no address"),
    LossReason.TLS: (FailureClass.UNREACHABLE, "upstream_unreachable", "failed the TLS handshake"),
    LossReason.UNREACHABLE: (FailureClass.UNREACHABLE, "upstream_unreachable", "could not be reached"),
    LossReason.STALE: (FailureClass.SERVER, "upstream_error", "closed the connection"),
    LossReason.RESET: (FailureClass.SERVER, "upstream_error", "reset the connection"),
    LossReason.TRUNCATED: (FailureClass.SERVER, "upstream_error", "closed the connection early"),
    LossReason.PROTOCOL: (FailureClass.SERVER, "bad_upstream_response", "sent an invalid HTTP response"),
    LossReason.TOO_LARGE: (FailureClass.SERVER, "bad_upstream_response", "sent an oversized head"),
}


class Attempt:
    """One live attempt. ``deadline`` is the instant at which its present phase has taken too long."""

    __slots__ = (
        "_asked",
        "_dialect",
        "_max_tokens",
        "_reading",
        "_request_id",
        "_timeouts",
        "body",
        "deadline",
        "dropped",
        "effort",
        "first_content_at",
        "hedge",
        "limits",
        "number",
        "opened_at",
        "phase",
        "request",
        "reused",
        "started_at",
        "status",
        "ticket",
        "total_at",
    )

    def __init__(
        self,
        number: int,
        ticket: Ticket,
        asked: ChatRequest,
        request_id: str,
        now: float,
        refused: frozenset[str] = frozenset(),
        *,
        hedge: bool = False,
    ) -> None:
        """``refused``: fields that this target is known not to take. ``hedge``: it joins another that is slow."""
        timeouts = ticket.target.provider.timeouts
        self.number = number
        self.ticket = ticket
        self.hedge = hedge
        self._asked = asked
        if asked.require_params:
            refused = frozenset()  # a refusal is better than an answer to less
        written = write(asked, ticket.target, refused)
        self._dialect = written.dialect
        self._max_tokens = written.max_tokens
        self._reading = UNREAD  # until there is an answer
        self._request_id = request_id
        self.request = written.request
        self.dropped = written.dropped
        self.effort = written.effort
        self.started_at = now
        self.opened_at = now
        self.first_content_at: float | None = None
        self.status: int | None = None
        self.limits: tuple[Limit, ...] = ()  # what its head told of them
        self.reused: bool | None = None
        self.body: Body | None = None
        self.phase = _OPENING
        self._timeouts = timeouts
        self.total_at = now + timeouts.total
        self._due(now + timeouts.connect)

    def addressed(self, request_id: str) -> UpstreamRequest:
        """Its request; with the client's trace, if there is one, as gone on by this try."""
        trace = self._asked.trace
        if trace is None:
            return self.request
        headers = trace_headers(trace, span_id(request_id, self.number))
        return structs.replace(self.request, headers=(*self.request.headers, *headers))

    def opened(self, now: float, reused: bool) -> None:
        """The request is on its way."""
        timeouts = self._timeouts
        self.reused = reused
        self.opened_at = now
        self.phase = _WAITING
        within = timeouts.head
        if self._asked.stream and timeouts.first_content < within:
            within = timeouts.first_content
        self._due(now + within)

    def answered(self, status: int, headers: Headers, now: float, wall: float) -> None:
        """The response head is there."""
        self.status = status
        self._reading = reading_of(self.ticket.target, self._max_tokens, self._request_id, wall)
        self.limits = told(headers, self._reading.limit_windows, wall)
        if status >= 400:
            self.body = ErrorBody(self._dialect, status, headers, self._reading)
            self.phase = Phase.COLLECTING
            self._due(now + ERROR_BODY_TIMEOUT)
            return
        self.phase = _READING
        self._due(self.opened_at + self._timeouts.first_content if self._asked.stream else math.inf)

    def begin_body(self, data: bytes, request_id: str, wall: float) -> bytes:
        """Choose the body for an answer that begins with ``data``, unless that is but blanks, and say what it gets."""
        asked = self._asked
        self.body = choose(
            data,
            self._dialect,
            envelope_of(request_id, self.ticket.target, wall),
            self._reading,
            stream=asked.stream,
            include_usage=asked.include_usage,
            legacy=asked.legacy_functions,
        )
        return data.lstrip(BLANK)  # as those before it were, in reads of their own

    def committed(self, now: float) -> None:
        """The first content has gone to the client; from here on the idle and the stream's total clocks run."""
        self.phase = _CONTENT
        self.first_content_at = now
        self.total_at = self.started_at + self._timeouts.stream_total
        self.progressed(now)

    def progressed(self, now: float) -> None:
        """Content came (comments are not progress)."""
        if self.first_content_at is not None:
            deadline = now + self._timeouts.idle
            self.deadline = deadline if deadline < self.total_at else self.total_at

    def _due(self, at: float) -> None:
        self.deadline = at if at < self.total_at else self.total_at

    def restart(self, number: int, now: float) -> None:
        """The same try on a fresh connection, as ``number``."""
        self.number = number
        self.request = structs.replace(self.request, fresh=True)
        self.phase = _OPENING
        self._due(now + self._timeouts.connect)

    def lost(self, why: LossReason) -> Failure:
        """What losing the connection before any of the body means."""
        kind, code, what = _LOSSES[why]
        return Failure(kind, f"The provider {what}.", status=self.status, code=code)

    def redirected(self) -> Failure:
        """What a status of 3xx means."""
        message = f"The provider answered with status {self.status}."
        return Failure(FailureClass.SERVER, message, self.status, code="bad_upstream_response")

    def empty(self) -> Failure:
        """What a whole response without a body means."""
        message, code = "The provider's answer was empty.", "bad_upstream_response"
        return Failure(FailureClass.EMPTY, message, self.status, code=code)

    def timed_out(self) -> Failure:
        """What passing the deadline means."""
        if isinstance(self.body, ErrorBody):  # its status says enough
            return self.body.classify()
        return Failure(
            FailureClass.TIMEOUT, f"The provider took too long: {self.phase.value}.", code="upstream_timeout"
        )

    def record(self, now: float, failure: Failure | None, *, lost: bool = False) -> AttemptRecord:
        target = self.ticket.target
        first = self.first_content_at
        return AttemptRecord(
            provider=target.provider.name,
            model=target.model.upstream,
            key=target.credential,
            started_at=self.started_at,
            duration=now - self.started_at,
            first_content_after=None if first is None else first - self.started_at,
            status=self.status,
            failure=None if failure is None else failure.kind.value,
            code="" if failure is None else _UNSAFE.sub("_", failure.code or "")[:64],
            probe=self.ticket.probe,
            panic=self.ticket.panic,
            reused=self.reused,
            hedge=self.hedge,
            lost=lost,
            number=self.number,
        )

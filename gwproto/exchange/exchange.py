"""The machine of a chat completion: one client request over as many attempts as its budget allows.

::

    body ──> choosing ──> attempting ──> streaming ──> lingering ──> finished
               ^  |            |             |
               |  v            v             v
             waiting <──── failed try   error event

*body*: the client's request is coming in. *choosing*: the router picks a target, at once. *waiting*: for a target that
comes back, or out of back-off before the same target is tried again. *attempting*: nothing but heartbeats has reached
the client, everything can still change. *streaming*: past the commit point, the exchange can only end or break off.
*lingering*: the client has its whole answer; the provider's framing is given a moment to end, so that its connection
can be used again.

Every ticket taken from the router goes back by exactly one of success, failure, release.
"""

import math
from collections.abc import Sequence

from msgspec import structs

from gwproto.commands import Abort, CloseUpstream, Command, OpenUpstream, SendData, SendEnd, SendHead
from gwproto.events import (
    ClientData,
    ClientEnd,
    ClientGone,
    Draining,
    Event,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.exchange.attempt import Attempt, Phase
from gwproto.exchange.base import Exchange
from gwproto.exchange.body import Body, ErrorBody, choose
from gwproto.exchange.heads import (
    json_head,
    provenance,
    retry_hints,
    stream_head,
    timing,
    verdict,
)
from gwproto.exchange.intake import Intake, envelope_of, request_for
from gwproto.exchange.shared import Shared
from gwproto.failures import Failure, FailureClass, LocalProtocolError, LossReason
from gwproto.policy.retry import backoff
from gwproto.routing.demand import Demand
from gwproto.routing.router import NoTarget, Plan, Ticket, Wait
from gwproto.sse.encoder import KEEP_ALIVE
from gwproto.values import AttemptRecord, Ending, Outcome, RequestHead, Usage
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import ChatRequest
from gwproto.wire.openai.errors import encode_error, error_frame

#: How long a provider's framing may take to end after its format's end marker (seconds).
LINGER_TIMEOUT = 0.1


class ChatExchange(Exchange):
    """One ``POST /v1/chat/completions``."""

    __slots__ = (
        "_again",
        "_attempt",
        "_attempts",
        "_body_at",
        "_demand",
        "_drain_at",
        "_ending",
        "_failures",
        "_heartbeat_at",
        "_intake",
        "_key",
        "_last",
        "_linger_at",
        "_next_number",
        "_plan",
        "_records",
        "_request",
        "_retry_at",
        "_served",
        "_settings",
        "_shared",
        "_status",
        "_total_at",
        "_tried",
        "_upstream_time",
        "_usage",
    )

    def __init__(self, head: RequestHead, request_id: str, now: float, *, shared: Shared, key: str) -> None:
        super().__init__(head, request_id, now)
        self._shared = shared
        self._settings = shared.settings
        self._key = key
        self._intake = Intake(head, shared.settings.limits.max_body)
        self._request: ChatRequest | None = None
        self._demand: Demand | None = None
        self._plan: Plan | None = None
        self._tried: set[object] = set()
        self._again = False
        self._attempt: Attempt | None = None  # the live one
        self._last: Attempt | None = None  # the latest, live or not
        self._served: Attempt | None = None  # the one whose answer the client gets
        self._attempts = 0  # tries that count
        self._next_number = 1
        self._failures: list[Failure] = []
        self._records: list[AttemptRecord] = []
        self._upstream_time = 0.0
        self._usage: Usage | None = None
        self._status = 0  # of the head that was sent
        self._ending: Ending | None = None  # once the client's answer is settled
        self._body_at = self._drain_at = self._heartbeat_at = math.inf
        self._linger_at = self._retry_at = self._total_at = math.inf

    @property
    def deadline(self) -> float:
        attempt = self._attempt
        return min(
            math.inf if attempt is None else attempt.deadline,
            self._total_at,
            self._heartbeat_at,
            self._drain_at,
            self._retry_at,
            self._body_at,
            self._linger_at,
        )

    # Inputs

    def start(self, now: float) -> Sequence[Command]:
        if self.receiving or self.finished:
            raise LocalProtocolError("start() was called before")
        self.receiving = True
        self._shared.in_flight += 1
        self._body_at = now + _limit(self._settings.timeouts.body)
        return []

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        if self.finished:
            raise LocalProtocolError(f"{type(event).__name__} after the end of an exchange")
        if isinstance(event, UpstreamData):
            attempt = self._attempt
            if attempt is None or attempt.number != event.attempt:
                return []
            return self._on_data(attempt, event.data, now)
        if isinstance(event, ClientData):
            return self._on_client_data(event.data, now)
        if isinstance(event, ClientEnd):
            return self._on_client_end(now)
        if isinstance(event, ClientGone):
            return self._end(Ending.CLIENT_CLOSED, now)
        if isinstance(event, Draining):
            self._drain_at = min(self._drain_at, now + self._settings.server.drain_timeout)
            return []
        attempt = self._attempt
        if attempt is None or attempt.number != event.attempt:
            return []
        if isinstance(event, UpstreamOpened):
            attempt.opened(now, event.reused)
            return []
        if isinstance(event, UpstreamHead):
            return self._on_head(attempt, event, now)
        if isinstance(event, UpstreamEnd):
            return self._on_end(attempt, now)
        return self._on_lost(attempt, event, now)

    def tick(self, now: float) -> Sequence[Command]:
        commands: list[Command] = []
        while not self.finished and self.deadline <= now:
            commands += self._tick(now)
        return commands

    def _tick(self, now: float) -> Sequence[Command]:
        """Handle one slot that is due."""
        if self._linger_at <= now:
            return self._end(Ending.COMPLETED, now)
        if self._drain_at <= now:
            failure = Failure(FailureClass.OVERLOADED, "The gateway is shutting down.", code="shutting_down")
            return self._answer_failure(failure, 503, now, type="service_unavailable")
        if self._body_at <= now:
            late = Failure(FailureClass.INVALID, "The request body took too long.", code="request_timeout")
            return self._answer_failure(late, 408, now, close=True)
        attempt = self._attempt
        if self._total_at <= now:
            return self._on_total(attempt, now)
        if attempt is not None and attempt.deadline <= now:
            if attempt.phase is Phase.COLLECTING and isinstance(attempt.body, ErrorBody):
                attempt.body.end()
                assert attempt.body.failure is not None
                return self._failed(attempt, attempt.body.failure, now, close=True)
            return self._failed(attempt, attempt.timed_out(), now, close=True)
        if self._retry_at <= now:
            self._retry_at = math.inf
            return self._choose(now)
        return self._heartbeat(now)

    def abandon(self, now: float) -> Sequence[Command]:
        if self.finished:
            return []
        if self._status or self._ending is not None:
            return [*self._end(Ending.ABANDONED, now), Abort()]
        failure = Failure(FailureClass.SERVER, "Internal error of the gateway.", code="internal_error")
        return self._answer_failure(failure, 500, now, type="server_error", ending=Ending.ABANDONED)

    # The client's request

    def _on_client_data(self, data: bytes, now: float) -> Sequence[Command]:
        if not self.receiving:
            raise LocalProtocolError("ClientData after ClientEnd")
        problem = self._intake.receive(data)
        return [] if problem is None else self._refuse(problem, now, close=True)

    def _on_client_end(self, now: float) -> Sequence[Command]:
        if not self.receiving:
            raise LocalProtocolError("ClientEnd twice")
        self.receiving = False
        self._body_at = math.inf
        understood = self._intake.finish()
        if isinstance(understood, Failure):
            return self._refuse(understood, now)
        request, demand = understood
        self._request = request
        self._demand = demand
        plan = self._shared.router.plan(demand)
        if isinstance(plan, Failure):
            return self._refuse(plan, now)
        self._plan = plan
        self._shared.budget.request(now)
        self._total_at = self.began_at + _limit(self._settings.timeouts.total)
        if request.stream:
            self._heartbeat_at = now + _limit(self._settings.server.heartbeat_interval)
        return self._choose(now)

    def _refuse(self, failure: Failure, now: float, *, close: bool = False) -> Sequence[Command]:
        return self._answer_failure(failure, failure.status or 400, now, ending=Ending.REFUSED, close=close)

    # Choosing and trying

    def _choose(self, now: float) -> Sequence[Command]:
        """Ask the router for the next target and open it, or settle how to go on without."""
        assert self._plan is not None
        choice = self._shared.router.pick(
            self._plan,
            now,
            tried=self._tried,
            last=None if self._last is None else self._last.ticket.target,
            deadline=self._total_at,
            again=self._again,
        )
        if isinstance(choice, Ticket):
            return self._open(choice, now)
        if isinstance(choice, Wait):
            self._retry_at = choice.until
            return []
        return self._without_target(choice, now)

    def _without_target(self, choice: NoTarget, now: float) -> Sequence[Command]:
        if choice.cause == "exhausted" and self._tried:
            # No other target: the same ones once more, after a pause.
            self._again = True
            self._tried.clear()
            self._retry_at = now + backoff(self._attempts - 1, self._shared.rng)
            return []
        if self._failures:
            return self._give_up(now, choice.retry_after)
        if choice.cause == "throttled":
            failure = Failure(
                FailureClass.RATE_MINUTE,
                "Every provider for this request is rate limited.",
                retry_after=choice.retry_after,
            )
            return self._answer_failure(failure, 429, now)
        failure = Failure(
            FailureClass.OVERLOADED,
            "No provider for this request is available.",
            code="no_candidate",
            retry_after=choice.retry_after,
        )
        return self._answer_failure(failure, 503, now, type="service_unavailable")

    def _open(self, ticket: Ticket, now: float) -> Sequence[Command]:
        assert self._request is not None
        self._attempts += 1
        self._tried.add(ticket.target.backend)
        upstream, dropped, effort = request_for(self._request, ticket.target)
        attempt = Attempt(
            self._take_number(),
            ticket,
            upstream,
            now,
            stream=self._request.stream,
            dropped=dropped,
            effort=effort,
        )
        self._attempt = self._last = attempt
        return [OpenUpstream(attempt.number, upstream)]

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number = number + 1
        return number

    # The provider's answer

    def _on_head(self, attempt: Attempt, event: UpstreamHead, now: float) -> Sequence[Command]:
        attempt.answered(event.status, now)
        if event.status >= 400:
            dialect = DIALECTS[attempt.ticket.target.provider.format]
            wall = now + self._shared.epoch
            attempt.body = ErrorBody(dialect, event.status, event.headers, wall)
        elif not 200 <= event.status < 300:
            redirect = Failure(
                FailureClass.SERVER,
                f"The provider answered with status {event.status}.",
                status=event.status,
                code="bad_upstream_response",
            )
            return self._failed(attempt, redirect, now, close=True)
        return []

    def _on_data(self, attempt: Attempt, data: bytes, now: float) -> Sequence[Command]:
        if self._ending is not None:  # lingering: whatever follows the end marker is not wanted
            return self._end(Ending.COMPLETED, now) if data.strip() else []
        body = attempt.body or self._choose_body(attempt, data, now)
        if body is None:
            return []
        out = body.receive(data)
        if attempt.phase is Phase.CONTENT and body.progress:
            attempt.progressed(now)
            if self._heartbeat_at < math.inf:
                self._heartbeat_at = now + self._settings.server.heartbeat_interval
        return self._pass_on(attempt, body, out, now, close=True)

    def _choose_body(self, attempt: Attempt, data: bytes, now: float) -> Body | None:
        request = self._request
        assert request is not None
        target = attempt.ticket.target
        attempt.body = choose(
            data,
            DIALECTS[target.provider.format],
            envelope_of(self.request_id, target, now + self._shared.epoch),
            stream=request.stream,
            include_usage=request.include_usage,
            legacy=request.legacy_functions,
        )
        return attempt.body

    def _pass_on(
        self, attempt: Attempt, body: Body, out: bytes, now: float, *, close: bool = False
    ) -> Sequence[Command]:
        """Hand the client what the body let out, commit on the first of it, and see whether that was the end."""
        commands: list[Command] = []
        if out:
            if attempt.phase is not Phase.CONTENT:
                self._commit(attempt, body, out, commands, now)
            commands.append(SendData(out))
        if body.failure is not None:
            commands += self._failed(attempt, body.failure, now, close=close)
        elif body.complete:
            commands += self._completed(attempt, body, now)
        return commands

    def _commit(self, attempt: Attempt, body: Body, out: bytes, commands: list[Command], now: float) -> None:
        assert self._request is not None
        self._shared.router.content(attempt.ticket, now)
        attempt.committed(now)
        self._served = attempt
        self._total_at = math.inf  # from here on the attempt's own clocks run
        if self._status:
            return
        self._status = 200
        common = (
            *provenance(attempt, self._attempts),
            timing(self.began_at, self._upstream_time + now - attempt.started_at, now),
        )
        if self._request.stream:
            commands.append(SendHead(200, (*stream_head(self.request_id), *common)))
        else:
            commands.append(SendHead(200, (*json_head(self.request_id, len(out)), *common)))

    def _completed(self, attempt: Attempt, body: Body, now: float) -> Sequence[Command]:
        self._usage = body.usage
        self._shared.router.success(attempt.ticket, now)
        self._records.append(attempt.record(now, None))
        self._ending = Ending.COMPLETED
        self._heartbeat_at = self._drain_at = math.inf
        attempt.deadline = math.inf
        self._linger_at = now + LINGER_TIMEOUT
        return [SendEnd()]

    def _on_end(self, attempt: Attempt, now: float) -> Sequence[Command]:
        if self._ending is not None:
            self._attempt = None  # its connection is free again
            return self._end(Ending.COMPLETED, now)
        body = attempt.body
        if body is None:
            empty = Failure(
                FailureClass.EMPTY,
                "The provider's answer was empty.",
                status=attempt.status,
                code="bad_upstream_response",
            )
            return self._failed(attempt, empty, now, close=False)
        commands = [*self._pass_on(attempt, body, body.end(), now)]
        if body.complete:
            self._attempt = None
            commands += self._end(Ending.COMPLETED, now)
        return commands

    def _on_lost(self, attempt: Attempt, event: UpstreamLost, now: float) -> Sequence[Command]:
        if self._ending is not None:
            self._attempt = None
            return self._end(Ending.COMPLETED, now)
        if event.why is LossReason.STALE and not attempt.request.fresh:
            return self._reopen(attempt, now)
        body = attempt.body
        if body is not None:
            commands = [*self._pass_on(attempt, body, body.cut(), now)]
            if body.complete:
                self._attempt = None
                commands += self._end(Ending.COMPLETED, now)
            return commands
        return self._failed(attempt, attempt.lost(event.why), now, close=False)

    def _reopen(self, attempt: Attempt, now: float) -> Sequence[Command]:
        """A kept-alive connection was dead: the same request on a fresh one, once, as the same attempt."""
        attempt.restart(self._take_number(), now)
        return [OpenUpstream(attempt.number, attempt.request)]

    # Failures

    def _failed(self, attempt: Attempt, failure: Failure, now: float, *, close: bool) -> Sequence[Command]:
        """An attempt ended badly: tell the router, then go elsewhere, wait, or answer."""
        self._shared.router.failure(attempt.ticket, failure, now)
        self._failures.append(failure)
        commands = self._drop_attempt(attempt, failure, now, close=close)
        if self._served is not None:
            return [*commands, *self._answer_failure(failure, failure.reaction.status, now)]
        return [*commands, *self._next(attempt, failure, now)]

    def _drop_attempt(
        self, attempt: Attempt, failure: Failure | None, now: float, *, close: bool
    ) -> list[Command]:
        self._records.append(attempt.record(now, failure))
        self._upstream_time += now - attempt.started_at
        self._attempt = None
        return [CloseUpstream(attempt.number)] if close else []

    def _next(self, attempt: Attempt, failure: Failure, now: float) -> Sequence[Command]:
        if (
            not failure.reaction.switch
            or self._attempts >= self._settings.retry.max_attempts
            or not self._widen(attempt, failure)
            or not self._shared.budget.take(now)
        ):
            return self._give_up(now, failure.retry_after)
        return self._choose(now)

    def _widen(self, attempt: Attempt, failure: Failure) -> bool:
        """After "context too long" only a larger window helps. False: there is none."""
        if failure.kind is not FailureClass.CONTEXT:
            return True
        window = attempt.ticket.target.model.context_window
        assert self._demand is not None
        self._demand = structs.replace(self._demand, prompt_tokens=window)
        plan = self._shared.router.plan(self._demand)
        if window == 0 or isinstance(plan, Failure):
            return False
        self._plan = plan
        return True

    def _give_up(self, now: float, retry_after: float | None) -> Sequence[Command]:
        failure, status = verdict(self._failures)
        if status == 429 and failure.retry_after is None and retry_after is not None:
            failure = structs.replace(failure, retry_after=retry_after)
        return self._answer_failure(failure, status, now)

    def _on_total(self, attempt: Attempt | None, now: float) -> Sequence[Command]:
        late = Failure(FailureClass.TIMEOUT, "The request took too long.", code="upstream_timeout")
        commands: list[Command] = []
        if attempt is not None:
            self._shared.router.failure(attempt.ticket, late, now)
            commands = self._drop_attempt(attempt, late, now, close=True)
        self._failures.append(late)
        return [*commands, *self._answer_failure(late, 504, now)]

    # Answers

    def _heartbeat(self, now: float) -> Sequence[Command]:
        self._heartbeat_at = now + self._settings.server.heartbeat_interval
        if self._status:
            return [SendData(KEEP_ALIVE)]
        self._status = 200
        return [SendHead(200, stream_head(self.request_id)), SendData(KEEP_ALIVE)]

    def _answer_failure(
        self,
        failure: Failure,
        status: int,
        now: float,
        *,
        type: str = "",
        ending: Ending | None = None,
        close: bool = False,
    ) -> Sequence[Command]:
        """The error answer: a status and a JSON body, or an error event when a head has been sent."""
        reaction = failure.reaction
        client_fault = status < 500 and status != 429
        kind = type or (failure.type if client_fault and failure.type else reaction.type)
        code = failure.code or reaction.code
        param = failure.param if client_fault else None
        if self._status:
            if ending is None:
                ending = Ending.TRUNCATED if self._served is not None else Ending.FAILED
            frame = error_frame(failure.message, kind, code, param)
            return [*self._release(now), SendData(frame), SendEnd(), *self._finish(ending, now, code)]
        if ending is None:
            ending = Ending.REFUSED if client_fault else Ending.FAILED
        self._status = status
        body = encode_error(failure.message, kind, code, param)
        headers = (
            *json_head(self.request_id, len(body)),
            *provenance(self._last, self._attempts),
            *retry_hints(status, failure.retry_after),
        )
        if close:
            headers = (*headers, (b"connection", b"close"))
        sends: list[Command] = [SendHead(status, headers), SendData(body), SendEnd()]
        return [*self._release(now), *sends, *self._finish(ending, now, code)]

    # Endings

    def _end(self, ending: Ending, now: float) -> Sequence[Command]:
        """End without saying more to the client; what was settled before stays as it is."""
        commands = self._release(now)
        self._finish(self._ending or ending, now, "")
        return commands

    def _release(self, now: float) -> list[Command]:
        """Let go of the live attempt without a verdict on its target."""
        attempt = self._attempt
        if attempt is None:
            return []
        if self._ending is not None:  # success is reported already
            self._attempt = None
            return [CloseUpstream(attempt.number)]
        self._shared.router.release(attempt.ticket, now)
        return self._drop_attempt(attempt, None, now, close=True)

    def _finish(self, ending: Ending, now: float, error: str) -> Sequence[Command]:
        self.finished = True
        self.receiving = False
        self._shared.in_flight -= 1
        self.outcome = self._make_outcome(ending, now, error)
        return []

    def _make_outcome(self, ending: Ending, now: float, error: str) -> Outcome:
        served = self._served
        target = None if self._last is None else self._last.ticket.target
        request = self._request
        first = None if served is None else served.first_content_at
        return Outcome(
            request_id=self.request_id,
            at=self.began_at + self._shared.epoch,
            ending=ending,
            status=self._status or 499,
            method=self.head.method,
            endpoint="/v1/chat/completions",
            duration=now - self.began_at,
            key=self._key,
            project_id="" if request is None else request.project_id or "",
            model_asked="" if request is None else request.model,
            provider="" if target is None else target.provider.name,
            model="" if target is None else target.model.upstream,
            stream=request is not None and request.stream,
            attempts=tuple(self._records),
            first_content_after=None if first is None else first - self.began_at,
            usage=self._usage,
            partial_usage=self._usage is not None and ending is not Ending.COMPLETED,
            dropped_params=() if served is None else served.dropped,
            error=error,
        )


def _limit(seconds: float) -> float:
    """A timeout from the configuration: 0 is off."""
    return seconds or math.inf

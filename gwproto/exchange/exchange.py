"""The machine of a chat completion: one client request over as many attempts as its budget allows.

::

    body ──> choosing ──> attempting ──> streaming ──> lingering ──> finished
               ^  |            |             |
               |  v            v             v
             waiting <──── failed try   error event

*body*: the client's request is coming in. *choosing*: the router picks a target, at once. *waiting*: for a target that
comes back, or out of back-off before the same target is tried again. *attempting*: nothing but heartbeats has reached
the client, everything can still change. *streaming*: past the commit point, the exchange can only end or break off.
*lingering*: the client has its whole answer; the provider's framing gets a moment to end, for its connection's sake.

An attempt that is slow may be joined by a second one, a *hedge*: the first with content serves, the other is closed.
"""

import math
from collections.abc import Sequence

from gwproto.commands import Abort, Command, SendData, SendEnd
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
from gwproto.exchange.account import Account
from gwproto.exchange.attempt import Attempt
from gwproto.exchange.attempts import Attempts
from gwproto.exchange.base import Exchange, in_order
from gwproto.exchange.course import Course
from gwproto.exchange.gears import Body
from gwproto.exchange.history import History
from gwproto.exchange.intake import Intake, too_slow
from gwproto.exchange.response import Response
from gwproto.exchange.shared import Shared
from gwproto.failures import Failure, FailureClass, LocalProtocolError, LossReason
from gwproto.policy.values import Accepted
from gwproto.routing.demand import Demand
from gwproto.routing.router import Plan, Ticket, Wait
from gwproto.values import Ending, RequestHead
from gwproto.wire.neutral import ChatRequest

#: How long a provider's framing may take to end after its format's end marker (seconds).
LINGER_TIMEOUT = 0.1

_COMPLETED = Ending.COMPLETED  # to look it up takes longer than to compare it


class ChatExchange(Exchange):
    """One ``POST /v1/chat/completions``."""

    __slots__ = (
        "_account",
        "_attempts",
        "_body_at",
        "_course",
        "_drain_at",
        "_heartbeat_at",
        "_hedge_at",
        "_history",
        "_intake",
        "_linger_at",
        "_request",
        "_response",
        "_retry_at",
        "_settings",
        "_shared",
        "_total_at",
    )

    def __init__(
        self,
        head: RequestHead,
        request_id: str,
        now: float,
        *,
        shared: Shared,
        client: Accepted,
        account: Account | None = None,
    ) -> None:
        super().__init__(head, request_id, now)
        self._account = account  # None: nothing about it is limited
        self._shared = shared
        self._settings = shared.settings
        self._intake = Intake(head, shared.settings.limits.max_body, client.grant)
        self._response = Response(request_id, account)
        self._history = History(head, request_id, now, shared.epoch, client.label)
        self._request: ChatRequest | None = None
        self._course: Course | None = None
        self._attempts = Attempts(request_id, self._history, shared)
        # Slots: instants, math.inf when nothing is due (a timeout of 0 is off). Each live attempt has its own.
        self._body_at = self._drain_at = self._heartbeat_at = self._hedge_at = math.inf
        self._linger_at = self._retry_at = self._total_at = math.inf

    @property
    def deadline(self) -> float:
        # Asked for after every input, and min() takes twice as long.
        earliest = self._heartbeat_at if self._heartbeat_at < self._drain_at else self._drain_at
        earliest = self._linger_at if self._linger_at < earliest else earliest
        served = self._history.served
        if served is not None:  # past the commit point no other is live
            return earliest if earliest < served.deadline else served.deadline
        earliest = min(earliest, self._body_at, self._total_at, self._hedge_at, self._retry_at)
        for attempt in self._attempts.live.values():
            if attempt.deadline < earliest:
                earliest = attempt.deadline
        return earliest

    # Inputs

    def start(self, now: float) -> Sequence[Command]:
        if self.receiving or self.finished:
            raise LocalProtocolError("start() was called before")
        self.receiving = True
        self._response.extra = self.extra
        self._shared.in_flight += 1
        self._body_at = now + (self._settings.timeouts.body or math.inf)
        return []

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        if self.finished:
            raise LocalProtocolError(f"{type(event).__name__} after the end of an exchange")
        if type(event) is UpstreamData:  # most are; isinstance() takes several times as long to say no
            return self._on_data(event, now)
        if type(event) is ClientData or type(event) is ClientEnd:
            return self._on_body(event, now)
        if type(event) is ClientGone:
            return self._on_gone(now)
        if type(event) is Draining:
            if self._linger_at == math.inf:
                self._drain_at = min(self._drain_at, now + self._settings.server.drain_timeout)
            return []
        return self._on_upstream(event, now)

    def tick(self, now: float) -> Sequence[Command]:
        commands: list[Command] = []
        while not self.finished and self.deadline <= now:
            commands += self._tick(now)
        return in_order(commands)

    def abandon(self, now: float) -> Sequence[Command]:
        if self.finished:
            return []
        if self._linger_at < math.inf:
            return self._release(now, _COMPLETED)
        if self._response.status:
            return [*self._release(now, Ending.ABANDONED), Abort()]
        ours = Failure(FailureClass.SERVER, "Internal error of the gateway.", code="internal_error")
        return self._answer(ours, 500, now, type="server_error", ending=Ending.ABANDONED, close=True)

    def _tick(self, now: float) -> Sequence[Command]:
        """Handle one slot that is due."""
        if self._linger_at <= now:
            return self._release(now, _COMPLETED)
        if self._drain_at <= now:
            failure = Failure(FailureClass.OVERLOADED, "The gateway is shutting down.", code="shutting_down")
            return self._answer(failure, 503, now, type="service_unavailable", close=True)
        if self._body_at <= now:
            return self._answer(too_slow(), 408, now, close=True)
        if self._total_at <= now:
            late = Failure(FailureClass.TIMEOUT, "The request took too long.", code="upstream_timeout")
            return [*self._attempts.lose_all(late, now), *self._answer(late, 504, now)]
        for attempt in self._attempts.live.values():
            if attempt.deadline <= now:
                return self._on_late(attempt, now)
        if self._retry_at <= now:
            self._retry_at = math.inf
            return self._choose(now)
        if self._hedge_at <= now:
            return self._hedge(now)
        self._heartbeat_at = now + self._settings.server.heartbeat_interval
        return self._response.heartbeat()

    def _on_late(self, attempt: Attempt, now: float) -> Sequence[Command]:
        """An attempt's phase has taken too long."""
        body = attempt.body
        if body is not None and body.finished:
            return self._pass_on(attempt, body, body.cut(), now, open=True)
        return self._failed(attempt, attempt.timed_out(), now, close=True)

    # The client

    def _on_gone(self, now: float) -> Sequence[Command]:
        return self._release(now, Ending.CLIENT_CLOSED)

    def _on_body(self, event: ClientData | ClientEnd, now: float) -> Sequence[Command]:
        if not self.receiving:
            raise LocalProtocolError(f"{type(event).__name__} after ClientEnd")
        if type(event) is ClientData:
            problem = self._intake.receive(event.data)
            return [] if problem is None else self._refuse(problem, now, close=True)
        return self._on_request(now)

    def _on_request(self, now: float) -> Sequence[Command]:
        """The client's request is complete."""
        self.receiving = False
        self._body_at = math.inf
        understood = self._intake.finish()
        if not isinstance(understood, tuple):
            return self._refuse(understood, now)
        self._request, demand = understood
        if self._account is not None and (refused := self._account.admit(self._request, now)) is not None:
            return self._refuse(refused, now)
        plan = self._shared.router.plan(demand)
        if not isinstance(plan, Plan):
            return self._refuse(plan, now)
        return self._serve(plan, demand, now)

    def _serve(self, plan: Plan, demand: Demand, now: float) -> Sequence[Command]:
        """The request is understood, and there are targets for it."""
        assert self._request is not None
        self._course = Course(plan, demand, self._history, self._shared, self._request)
        self._shared.asked(now)
        self._total_at = self.began_at + (self._settings.timeouts.total or math.inf)
        if self._request.stream:
            self._heartbeat_at = now + (self._settings.server.heartbeat_interval or math.inf)
        return self._choose(now)

    def _refuse(self, failure: Failure, now: float, *, close: bool = False) -> Sequence[Command]:
        return self._answer(failure, failure.status or 400, now, ending=Ending.REFUSED, close=close)

    # Choosing and trying

    def _choose(self, now: float) -> Sequence[Command]:
        """Ask the router for the next target and open it, or settle how to go on without."""
        assert self._course is not None
        choice = self._course.next(now, self._total_at)
        if isinstance(choice, Ticket):
            self._hedge_at = self._course.slow_at(now)
            return [self._attempts.open(choice, self._course.request, now)]
        if isinstance(choice, Wait):
            self._retry_at = choice.until
            return []
        return self._answer(choice.failure, choice.status, now, type=choice.type)

    def _hedge(self, now: float) -> Sequence[Command]:
        """The attempt is slow: another one joins it, where there is one to be had."""
        assert self._course is not None
        self._hedge_at = math.inf
        ticket = self._course.hedge(now)
        return [] if ticket is None else [self._attempts.open(ticket, self._course.request, now, hedge=True)]

    # The provider

    def _on_upstream(
        self, event: UpstreamOpened | UpstreamHead | UpstreamEnd | UpstreamLost, now: float
    ) -> Sequence[Command]:
        attempt = self._attempts.live.get(event.attempt)
        if attempt is None:
            return []  # late: that attempt is closed
        if type(event) is UpstreamOpened:
            attempt.opened(now, event.reused)
            return []
        if type(event) is UpstreamEnd:
            return self._on_end(attempt, now)
        if type(event) is UpstreamLost:
            return self._on_lost(attempt, event.why, now)
        self._attempts.answered(attempt, event.status, event.headers, now)
        if 300 <= event.status < 400:  # never followed: a redirect could lead anywhere, with our key
            return self._failed(attempt, attempt.redirected(), now, close=True)
        return []

    def _on_data(self, event: UpstreamData, now: float) -> Sequence[Command]:
        attempt = self._attempts.live.get(event.attempt)
        if attempt is None:
            return []
        if self._linger_at < math.inf:  # whatever follows the end marker is not wanted
            return self._release(now, _COMPLETED)
        data = event.data
        if attempt.body is None:
            data = attempt.begin_body(data, self.request_id, now + self._shared.epoch)
        body = attempt.body
        if body is None:
            return []
        out = body.receive(data)
        if body.progress:
            attempt.progressed(now)
        return self._pass_on(attempt, body, out, now, open=True)

    def _pass_on(
        self, attempt: Attempt, body: Body, out: bytes, now: float, *, open: bool
    ) -> Sequence[Command]:
        """Hand the client what the body let out, commit on the first of it, and see whether that was the end.

        ``open``: the provider's response may go on.
        """
        commands: list[Command] = []
        if out:
            if attempt.first_content_at is None:
                commands = self._commit(attempt, len(out), now)
            if self._heartbeat_at < math.inf:
                self._heartbeat_at = now + self._settings.server.heartbeat_interval
            commands.append(SendData(out))
            if self._account is not None:
                self._account.sent(out)
        if body.failure is not None:
            commands += self._failed(attempt, body.failure, now, close=open)
            return in_order(commands)
        if body.complete:
            commands.append(SendEnd())
            self._attempts.succeed(attempt, now)
            self._heartbeat_at = self._drain_at = math.inf
            self._linger_at = now + LINGER_TIMEOUT
            if not open:
                del self._attempts.live[attempt.number]
                commands += self._release(now, _COMPLETED)
        return commands

    def _commit(self, attempt: Attempt, length: int, now: float) -> list[Command]:
        """The first content: from here on there is no way back."""
        assert self._course is not None
        self._course.content(self._attempts, now)
        commands = self._attempts.win(attempt, now)
        self._shared.router.content(attempt.ticket, now)
        attempt.committed(now)
        history = self._history
        history.served = attempt
        self._hedge_at = self._total_at = math.inf  # the attempt's own clocks run on
        upstream_time = history.upstream_time(now)
        own_time = max(0.0, now - self.began_at - upstream_time)
        size = None if self._course.request.stream else length
        commands += self._response.commit(attempt, history.attempts, own_time, upstream_time, size)
        return commands

    def _on_end(self, attempt: Attempt, now: float) -> Sequence[Command]:
        if self._linger_at < math.inf:
            del self._attempts.live[attempt.number]  # its connection is free again
            return self._release(now, _COMPLETED)
        body = attempt.body
        if body is None:
            return self._failed(attempt, attempt.empty(), now, close=False)
        return self._pass_on(attempt, body, body.end(), now, open=False)

    def _on_lost(self, attempt: Attempt, why: LossReason, now: float) -> Sequence[Command]:
        if self._linger_at < math.inf:
            del self._attempts.live[attempt.number]
            return self._release(now, _COMPLETED)
        if why is LossReason.STALE and not attempt.request.fresh:
            return [self._attempts.restart(attempt, now)]  # once
        if attempt.body is not None:
            return self._pass_on(attempt, attempt.body, attempt.body.cut(), now, open=False)
        return self._failed(attempt, attempt.lost(why), now, close=False)

    # Failures

    def _failed(self, attempt: Attempt, failure: Failure, now: float, *, close: bool) -> Sequence[Command]:
        """An attempt ended badly: go elsewhere, wait, or answer. ``close``: its connection is still open."""
        assert self._course is not None
        if self._course.simplifies(attempt.ticket.target, failure, now):
            return self._attempts.simplify(attempt, failure, self._course.request, now, close=close)
        commands = self._attempts.lose(attempt, failure, now, close=close)
        if self._history.served is not None:
            return [*commands, *self._answer(failure, failure.reaction.status, now)]
        if self._attempts.live:
            return commands  # the one that it raced with goes on
        self._hedge_at = math.inf
        if self._course.goes_on(attempt.ticket.target, failure):
            return [*commands, *self._choose(now)]
        verdict = self._course.verdict()
        return [*commands, *self._answer(verdict.failure, verdict.status, now)]

    # Endings

    def _answer(
        self,
        failure: Failure,
        status: int,
        now: float,
        *,
        type: str = "",
        ending: Ending | None = None,
        close: bool = False,
    ) -> Sequence[Command]:
        """Send an error and end."""
        history = self._history
        ending = ending or history.ending(status)
        sends = self._response.fail(failure, status, history.last, history.attempts, type=type, close=close)
        return [*self._release(now, ending), *sends]

    def _release(self, now: float, ending: Ending) -> Sequence[Command]:
        """Let go of everything, and end."""
        commands = self._attempts.drop(now, judged=self._linger_at < math.inf)
        if self._linger_at < math.inf:
            ending = _COMPLETED  # the client had its whole answer
        self.finished = True
        self.receiving = False
        self._shared.in_flight -= 1
        if self._account is not None:
            self._account.close(self._history, ending, now)
        status, error = self._response.status or 499, self._response.error
        self.outcome = self._history.outcome(now, ending, status, error, self._request)
        return commands

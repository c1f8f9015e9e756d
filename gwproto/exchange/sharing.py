"""A chat completion that may share another one's answer (single flight).

Of equal requests at the same time the first, the *leader*, is served like any other. The rest are *followers*: they get
what the leader has sent so far, under a head of their own, and from then on every piece when the leader gets it. The
leader never waits for them. If its client goes away it serves them on, unseen; if it breaks off, those that have passed
on content end with an error, and the others are served by themselves.
"""

import math
from collections.abc import Callable, Sequence

from msgspec import structs

from gwproto.commands import Abort, Command, SendData, SendEnd, SendHead
from gwproto.events import Event
from gwproto.exchange.account import Account
from gwproto.exchange.exchange import ChatExchange
from gwproto.exchange.flight import Flight, key_of
from gwproto.exchange.reply import identity
from gwproto.exchange.shared import Shared
from gwproto.exchange.values import Piece
from gwproto.failures import Failure, FailureClass
from gwproto.policy.cors import HEADERS as CROSS_ORIGIN
from gwproto.policy.values import Accepted
from gwproto.routing.demand import Demand
from gwproto.routing.router import Plan
from gwproto.values import Ending, RequestHead

_SENDS = (SendHead, SendData, SendEnd)
_OWN = CROSS_ORIGIN | {name for name, _ in identity("")}  # each request's, whoever is served with it
_SHARED = (b"x-gateway-shared", b"true")


class SharingExchange(ChatExchange):
    """One ``POST /v1/chat/completions`` while single flight is on."""

    __slots__ = (
        "_content_at",
        "_cut_off",
        "_demand",
        "_follows",
        "_label",
        "_leads",
        "_left",
        "_news_at",
        "_plan",
        "apart",
    )

    wakeable = True

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
        super().__init__(head, request_id, now, shared=shared, client=client, account=account)
        self.wake: Callable[[], None] = _nobody
        self.apart = ""  # see key_of
        self._label = client.label
        self._leads: Flight | None = None
        self._follows: Flight | None = None
        self._news_at = math.inf
        self._cut_off = False
        self._content_at: float | None = None  # when a follower's client got the first of it
        self._left: int | None = None  # what a leader's client had for a status when it went away
        self._plan: Plan | None = None
        self._demand: Demand | None = None

    @property
    def deadline(self) -> float:
        return min(self._news_at, super().deadline)

    # Inputs

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        return self._published(super().receive(event, now), now)

    def tick(self, now: float) -> Sequence[Command]:
        return self._published(super().tick(now), now)

    def abandon(self, now: float) -> Sequence[Command]:
        commands = super().abandon(now)
        if self._leads is not None:
            self._leads.break_off(now)
            self._leads = None
        return commands

    def notify(self, now: float) -> None:
        """There is news of the flight."""
        self._news_at = min(self._news_at, now)
        self.wake()

    def cut_off(self, now: float) -> None:
        """The flight has ended without an end."""
        self._cut_off = True
        self.notify(now)

    def _tick(self, now: float) -> Sequence[Command]:
        if self._news_at <= now:
            return self._hear(now)
        return super()._tick(now)

    def _on_gone(self, now: float) -> Sequence[Command]:
        if self._leads is not None and self._leads.followers:
            if self._left is None:  # it may be said more than once
                self._left = self._response.status or 499
            return []
        return super()._on_gone(now)

    # Leading

    def _serve(self, plan: Plan, demand: Demand, now: float) -> Sequence[Command]:
        assert self._request is not None
        self._plan, self._demand = plan, demand
        # Who has been sent a head already could not follow one of another status.
        key = None if self._response.status else key_of(self._request, demand, self._label, self.apart)
        if key is None:
            return super()._serve(plan, demand, now)
        flight = self._shared.flights.get(key)
        if flight is None:
            self._leads = Flight(key, self, self._shared.flights)
            return super()._serve(plan, demand, now)
        self._follows = flight
        flight.followers[self] = 0
        return self._hear(now)

    def _published(self, commands: Sequence[Command], now: float) -> Sequence[Command]:
        """Pass on to followers what the client is sent; who has left is sent nothing."""
        flight = self._leads
        if flight is not None:
            flight.served = self._history.served or self._history.last
            flight.error = self._response.error
            content = self._history.served is not None
            pieces = [Piece(command, content) for command in commands if isinstance(command, _SENDS)]
            if pieces:
                flight.publish(pieces, now)
            if pieces and isinstance(pieces[-1].command, SendEnd):
                self._leads = None
            elif self.finished:
                flight.break_off(now)
                self._leads = None
        if self._left is None:
            return commands
        return [command for command in commands if not isinstance(command, (*_SENDS, Abort))]

    # Following

    def _hear(self, now: float) -> Sequence[Command]:
        """Take in what is new."""
        self._news_at = math.inf
        flight = self._follows
        if flight is None:
            if self._left is not None and self._leads is not None and not self._leads.followers:
                return self._release(now, Ending.CLIENT_CLOSED)
            return []
        if self._cut_off:
            return self._go_on_alone(now)
        commands: list[Command] = []
        for piece in flight.take(self):
            command = piece.command
            if isinstance(command, SendHead):
                self._response.status = command.status
                command = self._own(command)
            elif piece.content and self._content_at is None:
                self._content_at = now
            commands.append(command)
            if isinstance(command, SendEnd):
                self._response.error = flight.error
                commands += self._release(now, flight.ending)
        return commands

    def _own(self, head: SendHead) -> SendHead:
        """The leader's head with this request's ids."""
        headers = [field for field in head.headers if field[0] not in _OWN]
        return SendHead(head.status, (*headers, *identity(self.request_id), _SHARED, *self.extra))

    def _go_on_alone(self, now: float) -> Sequence[Command]:
        assert self._plan is not None
        assert self._demand is not None
        self._cut_off = False
        if self._content_at is None:
            self._follows = None
            return self._serve(self._plan, self._demand, now)
        message = "The answer that this request shared has broken off."
        failure = Failure(FailureClass.TRUNCATED, message, code="stream_truncated")
        return self._answer(failure, 502, now, ending=Ending.TRUNCATED)

    # Endings

    def _release(self, now: float, ending: Ending) -> Sequence[Command]:
        if ending is Ending.FAILED and self._content_at is not None:
            ending = Ending.TRUNCATED  # a follower has no attempt that would say so
        commands = super()._release(now, ending)
        assert self.outcome is not None
        flight = self._follows
        if self._leads is not None:
            self._leads.ending = self.outcome.ending
        if self._left is not None:
            self.outcome = structs.replace(self.outcome, ending=Ending.CLIENT_CLOSED, status=self._left)
        if flight is not None:
            target = None if flight.served is None else flight.served.ticket.target
            first = self._content_at
            self.outcome = structs.replace(
                self.outcome,
                shared=True,
                provider="" if target is None else target.provider.name,
                model="" if target is None else target.model.upstream,
                dropped_params=() if flight.served is None else flight.served.dropped,
                first_content_after=None if first is None else first - self.began_at,
            )
            flight.leave(self, now)
        return commands


def _nobody() -> None:
    """Nobody drives this exchange yet."""

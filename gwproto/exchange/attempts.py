"""The attempts of one exchange that are under way: one, or two while they race."""

import math
from collections.abc import Sequence

from gwproto.commands import CloseUpstream, Command, OpenUpstream
from gwproto.exchange.attempt import Attempt
from gwproto.exchange.history import History
from gwproto.exchange.shared import Shared
from gwproto.failures import Failure
from gwproto.routing.router import Ticket
from gwproto.values import Headers
from gwproto.wire.neutral import ChatRequest


class Attempts:
    """``live`` has them by number.

    Every ticket taken from the router goes back from here, by exactly one of success, failure, release, overtaken.
    """

    __slots__ = ("_history", "_request_id", "_shared", "live")

    def __init__(self, request_id: str, history: History, shared: Shared) -> None:
        self._request_id = request_id
        self._history = history
        self._shared = shared
        self.live: dict[int, Attempt] = {}

    def open(self, ticket: Ticket, request: ChatRequest, now: float, *, hedge: bool = False) -> OpenUpstream:
        """Begin a try of ``ticket``'s target."""
        refused = self._shared.refusals.of(ticket.target.refuses)
        number = self._history.next_number()
        attempt = Attempt(number, ticket, request, self._request_id, now, refused, hedge=hedge)
        self.live[number] = attempt
        self._history.begin(attempt)
        return OpenUpstream(number, attempt.addressed(self._request_id))

    @property
    def began_at(self) -> float:
        """When the first of those that are live began: while they race it has been slow for so long at least."""
        return min([attempt.started_at for attempt in self.live.values()])

    def answered(self, attempt: Attempt, status: int, headers: Headers, now: float) -> None:
        """Its response head is there, and may tell of limits."""
        attempt.answered(status, headers, now, now + self._shared.epoch)
        if attempt.limits:
            self._shared.router.limits(attempt.ticket, attempt.limits, now)

    def restart(self, attempt: Attempt, now: float) -> OpenUpstream:
        """A kept-alive connection was dead: the same try on a fresh one."""
        del self.live[attempt.number]
        attempt.restart(self._history.next_number(), now)
        self.live[attempt.number] = attempt
        return OpenUpstream(attempt.number, attempt.addressed(self._request_id))

    def simplify(
        self, attempt: Attempt, failure: Failure, request: ChatRequest, now: float, *, close: bool
    ) -> Sequence[Command]:
        """The same target once more, without a field. It is as well as it was, so its ticket is kept."""
        self._history.end(attempt, failure, now)
        del self.live[attempt.number]
        again = self.open(attempt.ticket, request, now, hedge=attempt.hedge)
        return [CloseUpstream(attempt.number), again] if close else [again]

    def succeed(self, attempt: Attempt, now: float) -> None:
        """Its answer is complete. It stays live: its framing may not be."""
        usage = None if attempt.body is None else attempt.body.usage
        self._shared.router.success(attempt.ticket, now, 0 if usage is None else usage.total_tokens)
        self._history.end(attempt, None, now)
        attempt.deadline = math.inf

    def lose(self, attempt: Attempt, failure: Failure, now: float, *, close: bool) -> list[Command]:
        """It ended badly. ``close``: its connection is still open."""
        self._shared.router.failure(attempt.ticket, failure, now)
        self._history.end(attempt, failure, now)
        del self.live[attempt.number]
        return [CloseUpstream(attempt.number)] if close else []

    def lose_all(self, failure: Failure, now: float) -> list[Command]:
        """All ended badly, and for the same reason."""
        commands: list[Command] = []
        for attempt in list(self.live.values()):
            commands += self.lose(attempt, failure, now, close=True)
        return commands

    def win(self, winner: Attempt, now: float) -> list[Command]:
        """``winner`` has content: whoever raced with it is closed."""
        commands: list[Command] = []
        if len(self.live) == 1:
            return commands
        for attempt in list(self.live.values()):
            if attempt is not winner:
                del self.live[attempt.number]
                commands.append(CloseUpstream(attempt.number))
                self._shared.router.overtaken(attempt.ticket, now)
                self._history.end(attempt, None, now, lost=True)
        return commands

    def drop(self, now: float, *, judged: bool) -> list[Command]:
        """Let go of all. ``judged``: their tickets have been given back already."""
        commands: list[Command] = []
        for attempt in self.live.values():
            commands.append(CloseUpstream(attempt.number))
            if not judged:
                self._shared.router.release(attempt.ticket, now)
                self._history.end(attempt, None, now)
        self.live.clear()
        return commands

"""An exchange that needs its request's body to answer, and no provider."""

import math
from collections.abc import Callable, Sequence

from gwproto.commands import Command
from gwproto.events import ClientData, ClientEnd, ClientGone, Draining, Event
from gwproto.exchange.intake import Intake, too_slow
from gwproto.exchange.reply import CLOSE, Answer, Answering, error_answer, refused
from gwproto.exchange.shared import Shared
from gwproto.failures import Failure, LocalProtocolError
from gwproto.policy.values import Accepted
from gwproto.values import Ending, RequestHead


class Operation(Answering):
    """Collects the body and answers with what ``perform`` makes of it; a :class:`Failure` becomes an error."""

    __slots__ = ("_body_at", "_intake", "_perform", "_timeout")

    def __init__(
        self,
        head: RequestHead,
        request_id: str,
        now: float,
        *,
        perform: Callable[[Intake, float], Answer | Failure],
        endpoint: str,
        shared: Shared,
        client: Accepted,
    ) -> None:
        super().__init__(head, request_id, now, endpoint=endpoint, epoch=shared.epoch, key=client.label)
        self._intake = Intake(head, shared.settings.limits.max_body, client.grant)
        self._perform = perform
        self._timeout = shared.settings.timeouts.body or math.inf  # 0 is off
        self._body_at = math.inf

    @property
    def deadline(self) -> float:
        return self._body_at

    def start(self, now: float) -> Sequence[Command]:
        if self.receiving or self.finished:
            raise LocalProtocolError("start() was called before")
        self.receiving = True
        self._body_at = now + self._timeout
        return []

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        if self.finished:
            raise LocalProtocolError(f"{type(event).__name__} after the end of an exchange")
        if isinstance(event, ClientData):
            problem = self._intake.receive(event.data)
            return [] if problem is None else self._refuse(problem, now, close=True)
        if isinstance(event, ClientEnd):
            made = self._perform(self._intake, now)
            return self._refuse(made, now) if isinstance(made, Failure) else self._respond(made, now)
        if isinstance(event, ClientGone):
            self._finish(499, "", now, Ending.CLIENT_CLOSED)
            return []
        if isinstance(event, Draining):
            return []  # the body's own deadline is near enough
        raise LocalProtocolError(f"{type(event).__name__} for an exchange without a provider")

    def tick(self, now: float) -> Sequence[Command]:
        if self.finished or now < self._body_at:
            return []
        return self._refuse(too_slow(), now, close=True)

    def abandon(self, now: float) -> Sequence[Command]:
        if self.finished:
            return []
        message = "Internal error of the gateway."
        answer = error_answer(500, "internal_error", message, type="server_error", headers=(CLOSE,))
        return self._respond(answer, now, Ending.ABANDONED)

    def _refuse(self, failure: Failure, now: float, *, close: bool = False) -> Sequence[Command]:
        return self._respond(refused(failure, (CLOSE,) if close else ()), now)

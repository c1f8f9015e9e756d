"""The course of a request over its targets: which one next, when, and when to stop looking."""

import math
from collections.abc import Sequence

from msgspec import structs

from gwproto.exchange.attempts import Attempts
from gwproto.exchange.history import History
from gwproto.exchange.shared import Shared
from gwproto.exchange.values import Verdict
from gwproto.failures import Failure, FailureClass
from gwproto.policy.retry import backoff
from gwproto.routing.catalog import Target
from gwproto.routing.demand import Demand
from gwproto.routing.router import NoTarget, Plan, Ticket, Wait
from gwproto.wire.neutral import ChatRequest


class Course:
    """One request's way through the router. Settings are those it began with."""

    __slots__ = (
        "_again",
        "_demand",
        "_hedging",
        "_history",
        "_kind",
        "_max_attempts",
        "_plan",
        "_shared",
        "request",
    )

    def __init__(
        self, plan: Plan, demand: Demand, history: History, shared: Shared, request: ChatRequest
    ) -> None:
        self.request = request
        self._kind = demand.model, request.stream
        self._hedging = shared.hedging if shared.settings.hedge.enabled else None
        self._plan = plan
        self._demand = demand
        self._history = history
        self._shared = shared
        self._max_attempts = shared.settings.retry.max_attempts
        self._again = False  # every target was tried: the same ones may be used once more

    def next(self, now: float, deadline: float) -> Ticket | Wait | Verdict:
        """The next target; or when to ask again; or why there is none."""
        history, budget = self._history, self._shared.budget
        if history.attempts and not budget.allows(now):
            return self.verdict()
        choice = self._shared.router.pick(
            self._plan,
            now,
            tried=history.tried,
            last=None if history.last is None else history.last.ticket.target,
            deadline=deadline,
            again=self._again,
        )
        history.considered = self._plan.considered
        if history.attempts and isinstance(choice, Ticket):
            budget.take(now)
        if type(choice) is not NoTarget:
            return choice
        if choice.cause == "exhausted":
            # No other target: the same ones once more, after a pause.
            self._again = True
            history.tried.clear()
            return Wait(now + backoff(history.attempts - 1, self._shared.rng))
        if history.failures:
            return self.verdict(choice.retry_after)
        if choice.cause == "throttled":
            message = "Every provider for this request is rate limited."
            return Verdict(Failure(FailureClass.RATE_MINUTE, message, retry_after=choice.retry_after), 429)
        message = "No provider for this request is available."
        failure = Failure(
            FailureClass.OVERLOADED, message, code="no_candidate", retry_after=choice.retry_after
        )
        return Verdict(failure, 503, "service_unavailable")

    def goes_on(self, target: Target, failure: Failure) -> bool:
        """May another try follow this failure, if the retry budget has one?"""
        return (
            failure.reaction.switch
            and self._history.attempts < self._max_attempts
            and self._widened(target, failure)
        )

    def slow_at(self, now: float) -> float:
        """When a try that begins now will have taken longer than nearly all others do."""
        return math.inf if self._hedging is None else now + self._hedging.delay(self._kind, now)

    def content(self, attempts: Attempts, now: float) -> None:
        """First content came, of a try or a race."""
        if self._hedging is not None:
            self._hedging.content(self._kind, now - attempts.began_at)

    def hedge(self, now: float) -> Ticket | None:
        """A second target beside the slow one, if there is one to spare. Takes from the hedges' budget if so."""
        hedging = self._hedging
        assert hedging is not None  # or there would have been no instant for it
        if self._history.attempts >= self._max_attempts or not hedging.affordable:
            return None
        ticket = self._shared.router.spare(self._plan, now, self._history.tried)
        if ticket is not None:
            hedging.spend()
        return ticket

    def simplifies(self, target: Target, failure: Failure, now: float) -> bool:
        """Was it only a field that ``target`` does not take? Takes a try without it from the budget if so."""
        return (
            failure.kind is FailureClass.INVALID
            and not self.request.require_params
            and self._history.served is None
            and self._history.attempts < self._max_attempts
            and self._shared.refusals.learn(target.refuses, self.request.fields, failure)
            and self._shared.budget.take(now)
        )

    def verdict(self, retry_after: float | None = None) -> Verdict:
        """What all the failures come to. ``retry_after``: seconds until the first target is back, if that is known."""
        failures = self._history.failures
        failure, status = _judge(failures)
        if retry_after is None:
            hints = [one.retry_after for one in failures if one.retry_after is not None]
            retry_after = min(hints, default=None)
        return Verdict(structs.replace(failure, retry_after=retry_after), status)

    def _widened(self, target: Target, failure: Failure) -> bool:
        """After "context too long" only a larger window helps. False: there is none."""
        if failure.kind is not FailureClass.CONTEXT:
            return True
        window = target.model.context_window
        self._demand = structs.replace(self._demand, prompt_tokens=window)
        plan = self._shared.router.plan(self._demand)
        if window == 0 or isinstance(plan, Failure):
            return False
        self._plan = plan
        return True


def _judge(failures: Sequence[Failure]) -> tuple[Failure, int]:
    """The failure to show when every attempt failed, and its status.

    A verdict on the request itself is the client's to read, with the provider's own status. Otherwise the first that
    says something about the providers' state: 502, 504 or 429.
    """
    last = failures[-1]
    if last.reaction.switch:
        for failure in failures:
            if failure.reaction.status in (502, 504, 429):
                return failure, failure.reaction.status
    status = last.status
    if status is not None and status in (400, 404, 413, 422):
        return last, status
    return last, last.reaction.status

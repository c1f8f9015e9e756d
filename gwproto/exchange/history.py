"""What an exchange has tried so far, and what is to be recorded of it."""

from gwproto.exchange.attempt import Attempt
from gwproto.failures import Failure
from gwproto.policy.tracing import trace_of
from gwproto.routing.catalog import Target
from gwproto.values import AttemptRecord, Candidate, Decision, Ending, Outcome, RequestHead, Usage
from gwproto.wire.neutral import ChatRequest


class History:
    """``attempts`` counts the tries that cost budget; a fresh connection after a stale one does not.

    ``last`` is the latest try, ``served`` the one whose answer the client gets, ``spent`` the tokens that were
    reported.
    """

    __slots__ = (
        "_began_at",
        "_epoch",
        "_head",
        "_key",
        "_number",
        "_request_id",
        "_trying",
        "_trying_since",
        "_upstream_time",
        "attempts",
        "considered",
        "cost",
        "failed",
        "failures",
        "last",
        "records",
        "served",
        "spent",
        "tried",
        "usage",
    )

    def __init__(self, head: RequestHead, request_id: str, now: float, epoch: float, key: str) -> None:
        self._head = head
        self._request_id = request_id
        self._began_at = now
        self._epoch = epoch
        self._key = key
        self._number = 0
        self.attempts = 0
        self.failures: list[Failure] = []
        self.considered: tuple[Candidate, ...] = ()  # what was known of all targets at the latest pick
        self.failed: list[tuple[str, str]] = []  # targets' ids and the classes of their failures
        self.records: list[AttemptRecord] = []
        self.tried: set[object] = set()  # backends
        self.last: Attempt | None = None
        self.served: Attempt | None = None
        self._trying = 0  # tries begun and not over
        self._trying_since = 0.0
        self._upstream_time = 0.0
        self.spent = 0
        self.cost: float | None = None
        self.usage: Usage | None = None

    def next_number(self) -> int:
        """The number that tells a try's events from those of all others."""
        self._number += 1
        return self._number

    def begin(self, attempt: Attempt) -> None:
        if not self._trying:
            self._trying_since = attempt.started_at
        self._trying += 1
        self.attempts += 1
        self.tried.add(attempt.ticket.target.backend)
        self.last = attempt

    def upstream_time(self, now: float) -> float:
        """For how many seconds there was a try under way."""
        return self._upstream_time + (now - self._trying_since if self._trying else 0.0)

    def end(self, attempt: Attempt, failure: Failure | None, now: float, *, lost: bool = False) -> None:
        self.records.append(attempt.record(now, failure, lost=lost))
        self._upstream_time = self.upstream_time(now)
        self._trying -= 1
        self._trying_since = now
        if failure is not None:
            self.failures.append(failure)
            self.failed.append((attempt.ticket.target.id, failure.kind.value))
        if attempt.body is not None and attempt.body.usage is not None:
            self.usage = attempt.body.usage
            self.spent += self.usage.prompt_tokens + self.usage.completion_tokens
            cost = attempt.ticket.target.model.cost(self.usage)
            if cost is not None:
                self.cost = cost + (self.cost or 0.0)

    def ending(self, status: int) -> Ending:
        """How a request ends that an error of this status is sent to."""
        if self.served is not None:
            return Ending.TRUNCATED
        return Ending.REFUSED if status < 500 and status != 429 else Ending.FAILED

    def outcome(
        self, now: float, ending: Ending, status: int, error: str, request: ChatRequest | None
    ) -> Outcome:
        """The record of a request that is over; ``request`` None: it was never understood."""
        served = self.served
        named = served or self.last
        target = None if named is None else named.ticket.target
        first = None if served is None else served.first_content_at
        return Outcome(
            request_id=self._request_id,
            at=self._began_at + self._epoch,
            ending=ending,
            status=status,
            method=self._head.method,
            endpoint="/v1/chat/completions",
            duration=now - self._began_at,
            key=self._key,
            project_id="" if request is None else request.project_id or "",
            model_asked="" if request is None else request.model,
            provider="" if target is None else target.provider.name,
            model="" if target is None else target.model.upstream,
            stream=request is not None and request.stream,
            attempts=tuple(self.records),
            first_content_after=None if first is None else first - self._began_at,
            usage=self.usage,
            partial_usage=self.usage is not None and ending is not Ending.COMPLETED,
            dropped_params=() if served is None else served.dropped,
            error=error,
            decision=self._decision(target),
            began_at=self._began_at,
            cost=self.cost,
            trace=trace_of(self._head.headers) if request is None else request.trace,
        )

    def _decision(self, target: Target | None) -> Decision | None:
        if not self.considered:
            return None
        failed = tuple(self.failed)
        chosen = "" if target is None else target.id
        if self.served is None and chosen in dict(failed):
            chosen = ""  # nobody was, in the end
        return Decision(self.considered, chosen, failed)

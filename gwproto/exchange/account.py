"""What one chat completion draws from the limits of its key and its project.

The request is counted by its head; its tokens are reserved when it is understood, and settled when it has ended.
"""

from gwproto.exchange.attempt import Attempt
from gwproto.exchange.history import History
from gwproto.failures import Failure, FailureClass
from gwproto.policy.limits import Limits
from gwproto.policy.ratelimit import Limiter, Reservation
from gwproto.policy.standing import rate_headers
from gwproto.policy.values import Rejection
from gwproto.values import AttemptRecord, Ending, Headers, Usage
from gwproto.wire.neutral import ChatRequest

#: Tokens reserved for an answer whose length the request does not limit.
DEFAULT_OUTPUT = 1024
#: What a token costs in text, and what surrounds the text of an event (bytes).
_BYTES_PER_TOKEN = 4
_BYTES_PER_EVENT = 240


def open_account(limits: Limits, key: str, now: float) -> "Account | Rejection | None":
    """Count a request of ``key``. None: nothing about it is limited."""
    rejection = limits.keys.request(key, now)
    if rejection is not None:
        return rejection
    limited = limits.keys.rates(key) is not None or limits.projects.rates("") is not None
    return Account(limits, key) if limited else None


class Account:
    """``headers`` are for the client: how its key stood when the request was admitted, or why it was not."""

    __slots__ = ("_bytes", "_events", "_key", "_limits", "_prompt", "_reservations", "headers")

    def __init__(self, limits: Limits, key: str) -> None:
        self._limits = limits
        self._key = key
        self._reservations: list[tuple[Limiter, Reservation]] = []
        self._prompt = 0
        self._events = self._bytes = 0
        self.headers: Headers = ()

    def admit(self, request: ChatRequest, now: float) -> Failure | None:
        """Reserve what ``request`` may need, or say why it is refused. Either way it is closed in the end."""
        limits = self._limits
        rejection = None
        drawn_on = [(limits.keys, self._key)]
        if request.project_id is not None:
            drawn_on.append((limits.projects, request.project_id))
            rejection = limits.projects.request(request.project_id, now)
        largest = [size for limiter, who in drawn_on if (size := limiter.largest(who))]
        tokens = _estimate(request, min(largest, default=0))
        self._prompt = request.prompt_tokens
        for limiter, who in drawn_on:
            if not limiter.settles(who):
                continue
            if rejection is None:
                held = limiter.reserve(who, tokens, now)
                if isinstance(held, Reservation):
                    self._reservations.append((limiter, held))
                else:
                    rejection = held
        if rejection is None:
            self.headers = rate_headers(*limits.keys.standing(self._key, now))
            return None
        self.headers = rate_headers(rejection.requests, rejection.tokens)
        return refusal(rejection)

    def sent(self, data: bytes) -> None:
        """Content went to the client: what it is charged by when no usage is ever reported."""
        if self._reservations:
            self._events += data.count(b"data: ")
            self._bytes += len(data)

    def close(self, history: History, ending: Ending, now: float) -> None:
        """The request has ended: settle what it used.

        All usage that providers reported counts. An answer without usage counts with the estimate of its prompt and
        of what was sent of it. Before there was an answer nothing is charged, but for the prompt when the client left
        while a provider was working on it. Tokens cost what the catalog says; where it says nothing, nothing.
        """
        used, cost = history.spent, history.cost or 0.0
        served = history.served
        if served is None:
            last, records = history.last, history.records
            if ending is Ending.CLIENT_CLOSED and last is not None and records and _at_work(records[-1]):
                used, cost = _charged(used, cost, last, Usage(self._prompt))
        elif served.body is None or served.body.usage is None:
            events = max(1, self._events)
            sent = max(events, (self._bytes - events * _BYTES_PER_EVENT) // _BYTES_PER_TOKEN)
            used, cost = _charged(used, cost, served, Usage(self._prompt, sent))
        for limiter, reservation in self._reservations:
            limiter.settle(reservation, used, now, cost)


def _charged(used: int, cost: float, attempt: Attempt, usage: Usage) -> tuple[int, float]:
    """Tokens and US dollars with those of an estimated ``usage``."""
    used += usage.prompt_tokens + usage.completion_tokens
    return used, cost + (attempt.ticket.target.model.cost(usage) or 0.0)


def _at_work(record: AttemptRecord) -> bool:
    """Had a provider the request, and had not failed yet?"""
    return record.failure is None and record.reused is not None


def _estimate(request: ChatRequest, largest: int) -> int:
    """Tokens that ``request`` may need. Of an answer that it does not limit, no more is expected than ever fits."""
    if request.max_tokens is not None:
        return request.prompt_tokens + request.max_tokens * request.n
    likely = request.prompt_tokens + DEFAULT_OUTPUT * request.n
    return max(request.prompt_tokens, min(likely, largest))


def refusal(rejection: Rejection) -> Failure:
    """A rejection as the client's error. What never fits is no 429: official SDKs would send it again."""
    if rejection.retry_after is None:
        return Failure(FailureClass.INVALID, rejection.message, status=413, code="request_too_large")
    return Failure(
        FailureClass.RATE_MINUTE,
        rejection.message,
        status=429,
        code="rate_limit_exceeded",
        retry_after=rejection.retry_after,
    )

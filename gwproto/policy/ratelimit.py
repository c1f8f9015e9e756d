"""What somebody may use: requests per second, tokens per minute, requests, tokens and US dollars per day.

Tokens are known only when an answer has ended, so they are reserved before a request is sent on and settled afterwards.
At no instant is more reserved and committed than a limit allows: a reservation is held until it is settled, however
long that takes; what was used beyond it is committed as far as there is room, the rest is owed and keeps others out.

What a request costs is not reserved: nobody can tell before. A day's cost that is spent refuses the next request.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Mapping

from gwproto.config import Rates
from gwproto.failures import LocalProtocolError
from gwproto.policy.standing import duration, tighter
from gwproto.policy.values import DayUsage, Rejection, Standing

MINUTE = 60
DAY = 86400
#: How many identities a limiter remembers. Clients choose their addresses and projects.
CAPACITY = 10_000
#: When room depends on requests in flight, nobody knows how long it takes (seconds).
SOON = 1.0
#: Sums of costs err; what is left of a budget below this is nothing (US dollars).
_DUST = 1e-9

_NOTHING = Rates()


class TokenBucket:
    """``burst`` at once, refilled at ``rate`` per second. ``taken`` is what is missing from it."""

    __slots__ = ("_at", "taken")

    def __init__(self, now: float) -> None:
        self.taken = 0.0
        self._at = now

    def refill(self, rate: float, now: float) -> None:
        if now > self._at:
            self.taken = max(0.0, self.taken - (now - self._at) * rate)
            self._at = now


class LastMinute:
    """Tokens committed within the last minute, in slices of a second.

    A slice is dropped when the youngest of it is a minute old, so no 60 seconds ever hold more than the limit.
    ``blocked_until``: until then the limit's own rate works off what was used beyond it.
    """

    __slots__ = ("_slices", "blocked_until", "total")

    def __init__(self) -> None:
        self._slices: deque[tuple[int, int]] = deque()  # second, tokens
        self.total = 0
        self.blocked_until = -math.inf

    def advance(self, now: float) -> None:
        slices = self._slices
        while slices and slices[0][0] + 1 + MINUTE <= now:
            self.total -= slices.popleft()[1]

    def commit(self, tokens: int, room: int, limit: int, now: float) -> None:
        """Count ``tokens``, as far as there is ``room``; the rest takes its time."""
        counted = min(tokens, room)
        if counted:
            second = math.floor(now)
            before = self._slices.pop()[1] if self._slices and self._slices[-1][0] == second else 0
            self._slices.append((second, before + counted))
            self.total += counted
        if tokens > counted:
            self.blocked_until = max(now, self.blocked_until) + MINUTE * (tokens - counted) / limit

    def empty_in(self, now: float) -> float:
        """Seconds until nothing counts any more."""
        last = self._slices[-1][0] + 1 + MINUTE if self._slices else now
        return max(last, self.blocked_until) - now

    def room_in(self, missing: int, now: float) -> float:
        """Seconds until ``missing`` tokens have been dropped, or nothing is left to drop."""
        until = max(now, self.blocked_until)
        for second, tokens in self._slices:
            if missing <= 0:
                break
            missing -= tokens
            until = max(until, second + 1 + MINUTE)
        return until - now


class Allowance:
    """What one identity has used and holds reserved. Whoever asks it anything has called :meth:`advance` before.

    Of the day: ``requests``, ``tokens`` (committed) and ``owed`` tokens, ``cost``; counted only while the day has a
    limit, or nobody could ever be forgotten before midnight.
    """

    __slots__ = ("bucket", "cost", "day", "minute", "open", "owed", "requests", "reserved", "tokens")

    def __init__(self, now: float) -> None:
        self.bucket = TokenBucket(now)
        self.minute: LastMinute | None = None
        self.day = 0
        self.requests = self.tokens = self.owed = 0
        self.cost = 0.0
        self.open = 0  # reservations
        self.reserved = 0  # tokens of them

    def advance(self, rates: Rates, now: float, day: int) -> None:
        """Time has passed."""
        self.bucket.refill(rates.requests_per_second, now)
        if self.minute is not None:
            self.minute.advance(now)
        if day != self.day:
            self.day = day
            self.requests = self.tokens = self.owed = 0
            self.cost = 0.0

    def whole(self, now: float) -> bool:
        """Is there nothing to remember?"""
        minute = self.minute
        used = self.bucket.taken or self.requests or self.tokens or self.cost or self.open
        return not used and (minute is None or not minute.empty_in(now))

    def settle(self, reserved: int, tokens: int, cost: float, rates: Rates, now: float) -> None:
        """``tokens`` were used by a request that held ``reserved``, and came to ``cost``."""
        self.open -= 1
        self.reserved -= reserved
        if rates.cost_per_day:
            self.cost += cost
        limit = rates.tokens_per_day
        if limit:
            owed = self.owed + tokens
            counted = min(owed, max(0, limit - self.reserved - self.tokens))
            self.tokens += counted
            self.owed = owed - counted
        limit = rates.tokens_per_minute
        if limit:
            if self.minute is None:
                self.minute = LastMinute()
            self.minute.commit(tokens, max(0, limit - self.reserved - self.minute.total), limit, now)

    def requests_left(self, rates: Rates, midnight: float) -> Standing | None:
        """The tighter of the limits of requests; ``midnight`` is so many seconds away."""
        second = day = None
        if rate := rates.requests_per_second:
            left = max(0, math.floor(rates.burst - self.bucket.taken))
            second = Standing(rates.burst, left, self.bucket.taken / rate)
        if limit := rates.requests_per_day:
            left = max(0, limit - self.requests)
            day = Standing(limit, left, midnight if self.requests else 0.0)
        return tighter(second, day)

    def tokens_left(self, rates: Rates, now: float, midnight: float) -> Standing | None:
        """The tighter of the limits of tokens."""
        minute = day = None
        if limit := rates.tokens_per_minute:
            used, reset = 0, 0.0
            if self.minute is not None:
                used = limit if self.minute.blocked_until > now else self.minute.total
                reset = self.minute.empty_in(now)
            if self.reserved:
                reset = max(reset, float(MINUTE))
            minute = Standing(limit, max(0, limit - used - self.reserved), reset)
        if limit := rates.tokens_per_day:
            used = self.tokens + self.owed + self.reserved
            day = Standing(limit, max(0, limit - used), midnight if used else 0.0)
        return tighter(minute, day)


class Reservation:
    """Tokens held for one request, until it is settled or cancelled: exactly once."""

    __slots__ = ("_allowance", "_identity", "open", "tokens")

    def __init__(self, identity: str, allowance: Allowance, tokens: int) -> None:
        self._identity = identity
        self._allowance = allowance
        self.tokens = tokens
        self.open = True

    def close(self) -> tuple[str, Allowance]:
        """Whose it was. Raises :class:`LocalProtocolError` the second time."""
        if not self.open:
            raise LocalProtocolError("a reservation is settled or cancelled once")
        self.open = False
        return self._identity, self._allowance


class Limiter:
    """The limits of all identities of one kind, each of which has its own allowance.

    ``subject`` names the kind in messages; ``own`` are rates that differ from the common ones. The number of those
    remembered is bounded: by ``capacity``, where those that were used least recently are forgotten, and by how many
    have something reserved. Every call looks at two others at most. ``now`` must not decrease.
    """

    __slots__ = ("_capacity", "_epoch", "_known", "_own", "_rates", "_subject")

    def __init__(
        self,
        subject: str,
        rates: Rates,
        *,
        epoch: float,
        own: Mapping[str, Rates] | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self._subject = subject
        self._epoch = epoch
        self._capacity = capacity
        self._known: OrderedDict[str, Allowance] = OrderedDict()
        self._rates = rates if _limits(rates) else None
        self._own = {identity: rates if _limits(rates) else None for identity, rates in (own or {}).items()}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def reserved(self) -> int:
        """Tokens held by requests in flight."""
        return sum([allowance.reserved for allowance in self._known.values()])

    def rates(self, identity: str) -> Rates | None:
        """What ``identity`` may use; None: anything."""
        return self._own.get(identity, self._rates) if self._own else self._rates

    def reconfigure(self, rates: Rates, own: Mapping[str, Rates] | None, now: float) -> None:
        """Change the limits at once. What was used stays used; what was refilled so far was at the old rate."""
        day = self._day(now)
        for identity, allowance in self._known.items():
            allowance.advance(self.rates(identity) or _NOTHING, now, day)
        self._rates = rates if _limits(rates) else None
        self._own = {identity: rates if _limits(rates) else None for identity, rates in (own or {}).items()}

    def request(self, identity: str, now: float) -> Rejection | None:
        """Count one more request, or say why it must wait."""
        rates = self.rates(identity)
        if rates is None:
            return None
        allowance = self._at(identity, rates, now)
        if rates.cost_per_day and allowance.cost > rates.cost_per_day - _DUST:
            words = f"its budget of {rates.cost_per_day:g} US dollars per day (UTC) is used up"
            return self._reject(allowance, rates, now, "cost_per_day", words, self._midnight(now))
        limit = rates.requests_per_day
        if limit and allowance.requests >= limit:
            words = f"its budget of {limit} requests per day (UTC) is used up"
            return self._reject(allowance, rates, now, "requests_per_day", words, self._midnight(now))
        rate = rates.requests_per_second
        if rate:
            taken = allowance.bucket.taken + 1.0
            if taken > rates.burst:
                words = f"{rate:g} requests per second, {rates.burst} at once"
                wait = (taken - rates.burst) / rate
                return self._reject(allowance, rates, now, "requests_per_second", words, wait)
            allowance.bucket.taken = taken
        if limit:
            allowance.requests += 1
        return None

    def reserve(self, identity: str, tokens: int, now: float) -> Reservation | Rejection:
        """Hold ``tokens`` for a request, or say why it must wait."""
        rates = self.rates(identity) or _NOTHING
        allowance = self._at(identity, rates, now)
        for name, limit, window in (
            ("tokens_per_day", rates.tokens_per_day, "day (UTC)"),
            ("tokens_per_minute", rates.tokens_per_minute, "minute"),
        ):
            if limit and tokens > limit:
                words = f"{limit} tokens per {window}, and this request may need {tokens}"
                return self._reject(allowance, rates, now, name, words, None)
        limit = rates.tokens_per_day
        missing = allowance.tokens + allowance.owed + allowance.reserved + tokens - limit
        if limit and missing > 0:
            words = f"its budget of {limit} tokens per day (UTC) has no room for {tokens}"
            wait = SOON if missing <= allowance.reserved else self._midnight(now)
            return self._reject(allowance, rates, now, "tokens_per_day", words, wait)
        limit = rates.tokens_per_minute
        if limit:
            minute = allowance.minute
            missing = allowance.reserved + tokens - limit + (0 if minute is None else minute.total)
            blocked = minute is not None and minute.blocked_until > now
            if missing > 0 or blocked:
                words = f"{limit} tokens per minute, and this request may need {tokens}"
                wait = SOON if minute is None else max(SOON, minute.room_in(missing, now))
                return self._reject(allowance, rates, now, "tokens_per_minute", words, wait)
        allowance.open += 1
        allowance.reserved += tokens
        return Reservation(identity, allowance, tokens)

    def settle(self, reservation: Reservation, tokens: int, now: float, cost: float = 0.0) -> None:
        """The request has ended and used ``tokens``. A new day's budget is charged for what ends in it."""
        identity, allowance = reservation.close()
        rates = self.rates(identity) or _NOTHING
        allowance.advance(rates, now, self._day(now))
        allowance.settle(reservation.tokens, tokens, cost, rates, now)

    def cancel(self, reservation: Reservation, now: float) -> None:
        """The request has ended and used nothing."""
        self.settle(reservation, 0, now)

    def settles(self, identity: str) -> bool:
        """Is anything limited that is known only when a request has ended?"""
        rates = self.rates(identity) or _NOTHING
        return bool(rates.tokens_per_minute or rates.tokens_per_day or rates.cost_per_day)

    def largest(self, identity: str) -> int:
        """The most tokens that a request may ever need; 0: any number, since tokens are not limited."""
        rates = self.rates(identity) or _NOTHING
        minute, day = rates.tokens_per_minute, rates.tokens_per_day
        return min(minute, day) if minute and day else minute or day

    def standing(self, identity: str, now: float) -> tuple[Standing | None, Standing | None]:
        """Where ``identity`` stands with its requests and its tokens; None where they are not limited."""
        rates = self.rates(identity)
        if rates is None:
            return None, None
        return self._standing(self._at(identity, rates, now), rates, now)

    def usage(self, now: float) -> dict[str, DayUsage]:
        """What was used today, by identity. What is reserved does not count."""
        day = self._day(now)
        return {
            identity: DayUsage(allowance.requests, allowance.tokens + allowance.owed, allowance.cost)
            for identity, allowance in self._known.items()
            if allowance.day == day
            and (allowance.requests or allowance.tokens or allowance.owed or allowance.cost)
        }

    def restore(self, usage: Mapping[str, DayUsage], now: float) -> None:
        """At least so much was used today."""
        for identity, used in usage.items():
            allowance = self._at(identity, self.rates(identity) or _NOTHING, now)
            allowance.requests = max(allowance.requests, used.requests)
            allowance.tokens = max(allowance.tokens, used.tokens - allowance.owed)
            allowance.cost = max(allowance.cost, used.cost)

    def _at(self, identity: str, rates: Rates, now: float) -> Allowance:
        """The allowance of ``identity`` as it is now."""
        day = self._day(now)
        allowance = self._known.get(identity)
        if allowance is None:
            self._forget(now, day)
            allowance = self._known[identity] = Allowance(now)
        else:
            self._known.move_to_end(identity)
        allowance.advance(rates, now, day)
        return allowance

    def _forget(self, now: float, day: int) -> None:
        """Make room for one more: drop two that are whole again, or too many, of those unused for longest."""
        for _ in range(min(2, len(self._known))):
            identity, allowance = next(iter(self._known.items()))
            allowance.advance(self.rates(identity) or _NOTHING, now, day)
            if allowance.open:
                self._known.move_to_end(identity)
            elif len(self._known) >= self._capacity or allowance.whole(now):
                del self._known[identity]

    def _reject(
        self, allowance: Allowance, rates: Rates, now: float, limit: str, words: str, wait: float | None
    ) -> Rejection:
        requests, tokens = self._standing(allowance, rates, now)
        if wait is None:
            message = f"Request too large for this {self._subject}: {words}."
        else:
            message = (
                f"Rate limit reached for this {self._subject}: {words}. Please try again in {duration(wait)}."
            )
        return Rejection(limit, message, wait, requests, tokens)

    def _standing(
        self, allowance: Allowance, rates: Rates, now: float
    ) -> tuple[Standing | None, Standing | None]:
        midnight = self._midnight(now)
        return allowance.requests_left(rates, midnight), allowance.tokens_left(rates, now, midnight)

    def _day(self, now: float) -> int:
        return int((now + self._epoch) // DAY)

    def _midnight(self, now: float) -> float:
        return DAY - (now + self._epoch) % DAY


def _limits(rates: Rates) -> bool:
    """Is anything limited?"""
    requests = rates.requests_per_second or rates.requests_per_day
    return bool(requests or rates.tokens_per_minute or rates.tokens_per_day or rates.cost_per_day)

"""One scripted provider: what it answers, given the time, what it has answered before, and its own chance."""

import math
import random
from collections import deque
from collections.abc import Iterator, Sequence

from gwproto.failures import LossReason
from gwproto.routing.quota import DAY, MINUTE
from gwproto.testing.network import Connection
from gwproto.testing.simulation.answers import Answers, Limits, error
from gwproto.testing.simulation.scenario import Load, ProviderScript, Trouble, credentials_of
from gwproto.testing.steps import Data, End, Head, Step

#: Seconds that a dial, a refusal of one and an error answer take.
DIAL_TIME = 0.03
ERROR_TIME = 0.05

_FAILED = error(500, "server_error", "server_error", "The server had an error while processing your request.")
_BUSY = error(529, "server_error", "overloaded_error", "Overloaded.")
_LIMITED = "Rate limit reached for requests per minute (RPM)."
_SPENT = error(429, "requests", "rate_limit_exceeded", "Rate limit reached for requests per day (RPD).")


class Provider:
    """A provider in a running scenario. ``rng`` is its own, so that no other's luck depends on its share.

    ``began`` and ``now`` are wall time.
    """

    def __init__(
        self, script: ProviderScript, load: Load, *, began: float, length: float, rng: random.Random
    ) -> None:
        self.script = script
        self.name = script.name
        self.throttled = 0  # how often it answered 429
        self._began = began
        self._length = length
        self._rng = rng
        self._answers = Answers(script.name, chunks=load.chunks, words=load.words, pace=script.pace)
        self.in_flight = 0
        self._idle = 0
        self._minute: dict[str, deque[float]] = {name: deque() for name in credentials_of(script)}
        self._day = began // DAY
        self._used = dict.fromkeys(self._minute, script.used_today)

    # Requests

    def connect(self, credential: str, streamed: bool, now: float) -> Connection:
        """A request comes in."""
        self.in_flight += 1
        trouble = self._trouble(now)
        if trouble is not None and trouble.dead:
            return Connection(dial=DIAL_TIME, lost=LossReason.REFUSED)
        steps = self._respond(trouble, credential, streamed, now)
        if self._idle:
            self._idle -= 1
            return Connection(steps, reused=True)
        return Connection(steps, dial=DIAL_TIME)

    def closed(self, reusable: bool) -> None:
        """A connection is no longer in use."""
        self.in_flight -= 1
        self._idle += reusable

    def _respond(
        self, trouble: Trouble | None, credential: str, streamed: bool, now: float
    ) -> Sequence[Step]:
        script, chance = self.script, self._rng.random
        if trouble is not None and trouble.throttled and chance() < trouble.throttled:
            return self._refuse(trouble.hint)
        if script.requests_per_day:
            if self._used_today(credential, now) >= script.requests_per_day:
                self.throttled += 1
                return _failing(_SPENT)
            self._used[credential] += 1
        limits: Limits = ()
        if script.requests_per_minute:
            used = self._used_lately(credential, now)
            if len(used) >= script.requests_per_minute:
                return self._refuse(used[0] + MINUTE - now if script.hints else 0.0)
            used.append(now)
            if script.limit_headers:
                limits = _limits(script.requests_per_minute, len(used), used[0] + MINUTE - now)
        latency = script.latency * math.exp(script.spread * self._rng.gauss(0.0, 1.0))
        if script.in_flight and self.in_flight > script.in_flight:
            if script.beyond == "refused":
                return _failing(_BUSY)
            latency *= self.in_flight / script.in_flight
        if trouble is not None:
            latency *= trouble.slow
            if trouble.errors and chance() < trouble.errors:
                return _failing(_FAILED)
            broken = trouble.resets + trouble.stalls
            if broken and (drawn := chance()) < broken:
                return self._break(streamed, latency, silent=drawn < trouble.stalls)
        if not streamed:
            return self._answers.plain(latency + self._answers.pace * len(self._answers.lengths), limits)
        lengths = self._answers.lengths
        return self._answers.stream(lengths[int(chance() * len(lengths))], latency, limits)

    def _break(self, streamed: bool, latency: float, *, silent: bool) -> Sequence[Step]:
        if streamed:
            return self._answers.broken(self._answers.lengths[-1], latency, silent=silent)
        return self._answers.broken_plain(latency, silent=silent)

    def _refuse(self, hint: float) -> Sequence[Step]:
        self.throttled += 1
        said = ((b"retry-after", b"%d" % math.ceil(hint)),) if hint > 0.0 else ()
        return _failing(error(429, "requests", "rate_limit_exceeded", _LIMITED, said))

    def _used_lately(self, credential: str, now: float) -> deque[float]:
        used = self._minute[credential]
        while used and used[0] <= now - MINUTE:
            used.popleft()
        return used

    def _used_today(self, credential: str, now: float) -> int:
        day = now // DAY
        if day != self._day:
            self._day = day
            self._used = dict.fromkeys(self._used, 0)
        return self._used[credential]

    def _trouble(self, now: float) -> Trouble | None:
        """What is wrong at the moment: the first that is in force."""
        troubles = self.script.troubles
        if not troubles:
            return None
        instant = (now - self._began) % self._length
        for trouble in troubles:
            if trouble.at(instant):
                return trouble
        return None

    # What only the script knows

    def healthy(self, now: float) -> bool:
        """Would it surely have answered a request that came now?"""
        script = self.script
        if not self.well(now):
            return False
        if script.in_flight and self.in_flight >= script.in_flight:
            return False
        return any(self._has_room(credential, now) for credential in self._minute)

    def well(self, now: float) -> bool:
        """Is nothing wrong with it that makes requests fail, and is something left of its day?"""
        trouble = self._trouble(now)
        return not (trouble is not None and trouble.fails) and not self.spent(now)

    def spent(self, now: float) -> bool:
        """Are the day's requests used up, with every key?"""
        per_day = self.script.requests_per_day
        return bool(per_day) and all(self._used_today(name, now) >= per_day for name in self._used)

    def recoveries(self, seconds: float) -> Iterator[tuple[float, float]]:
        """Beginnings and ends of its troubles in the first ``seconds``, in seconds from the start."""
        for trouble in self.script.troubles:
            shift = 0.0
            while shift + trouble.until < seconds:
                yield shift + trouble.start, shift + trouble.until
                shift += self._length

    def _has_room(self, credential: str, now: float) -> bool:
        script = self.script
        if script.requests_per_day and self._used_today(credential, now) >= script.requests_per_day:
            return False
        per_minute = script.requests_per_minute
        return not per_minute or len(self._used_lately(credential, now)) < per_minute


def _failing(answer: tuple[Head, Data]) -> Sequence[Step]:
    head, body = answer
    return (Step(ERROR_TIME, head), Step(0.0, body), Step(0.0, End()))


def _limits(limit: int, used: int, reset: float) -> Limits:
    """OpenAI's headers: https://platform.openai.com/docs/guides/rate-limits."""
    return (
        (b"x-ratelimit-limit-requests", b"%d" % limit),
        (b"x-ratelimit-remaining-requests", b"%d" % (limit - used)),
        (b"x-ratelimit-reset-requests", b"%.3fs" % reset),
    )

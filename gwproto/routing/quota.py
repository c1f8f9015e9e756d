"""What is left of the limits on a target: those that are configured, those that its provider's headers tell of, and
those that its refusals let guess.

What nobody may pass keeps traffic away (:meth:`Quota.exhausted`); all of them together make the headroom, by which
traffic moves elsewhere before a limit is met.
"""

import math
from collections import deque
from collections.abc import Iterable

from gwproto.routing.values import QuotaState, Spent
from gwproto.values import Limit

MINUTE = 60.0
DAY = 86400.0
#: Headers may name this many limits; more are not remembered.
MAX_LEARNED = 16
#: Seconds after which what a refusal taught counts half.
GUESS_HALF_LIFE = 300.0
#: Below this share a guess has faded.
FADED = 0.05


class Meter:
    """Use of a limit per window that flows off evenly: a sliding window's estimate in two numbers.

    ``limit`` 0: there is none.
    """

    __slots__ = ("_at", "_used", "limit", "window")

    def __init__(self, limit: float, window: float) -> None:
        self.limit = limit
        self.window = window
        self._used = 0.0
        self._at = 0.0

    def add(self, amount: float, now: float) -> None:
        self._used = self.used(now) + amount
        self._at = now

    def used(self, now: float) -> float:
        return max(0.0, self._used - (now - self._at) * self.limit / self.window)

    def left(self, now: float) -> float:
        """The share that is left, in 0..1."""
        return max(0.0, 1.0 - self.used(now) / self.limit) if self.limit else 1.0

    def whole_at(self, now: float) -> float:
        """When there is room again; now, if there is."""
        over = self.used(now) - self.limit
        return now if not self.limit or over < 0.0 else now + over * self.window / self.limit


class Days:
    """Counts of what was used today, by days that begin at ``offset`` hours from UTC."""

    __slots__ = ("_ends_at", "_epoch", "offset", "requests", "tokens")

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch
        self._ends_at = -math.inf
        self.offset = 0.0
        self.requests = 0
        self.tokens = 0

    def turn(self, now: float) -> None:
        """Begin with another day if there is one."""
        if now >= self._ends_at:
            self.requests = self.tokens = 0
            self._ends_at = self._end(now)

    def begin_at(self, offset: float) -> None:
        """Days begin at another hour from now on, and with it another day."""
        if offset != self.offset:
            self.offset = offset
            self._ends_at = -math.inf

    def ends_at(self, now: float) -> float:
        self.turn(now)
        return self._ends_at

    def _end(self, now: float) -> float:
        wall = self._epoch + 3600.0 * self.offset
        return (math.floor((now + wall) / DAY) + 1.0) * DAY - wall


class Learned:
    """One limit as headers tell of it: exact when they came, an estimate from then on."""

    __slots__ = ("_at", "_limit", "_remaining", "_reset_at", "_room_at")

    def __init__(
        self, limit: int | None, remaining: int, reset: float | None, window: str, now: float
    ) -> None:
        reset = MINUTE if reset is None else min(reset, DAY)
        self._limit = limit
        self._remaining = float(remaining)
        self._at = now
        self._reset_at = now + reset
        # A reset is when all is whole again, which may be long after there is room for one (OpenAI's guide to rate
        # limits). Up to a minute it is waited for, and a day is; in between somebody goes and looks.
        self._room_at = now + (
            max(1.0, reset / limit) if limit and reset > MINUTE and window != "day" else reset
        )

    def take(self) -> None:
        """One unit is used up."""
        self._remaining = max(0.0, self._remaining - 1.0)

    def over(self, now: float) -> bool:
        """Nothing that was said holds any more."""
        return now >= self._reset_at

    def left(self, now: float) -> float:
        """The share that is left, in 0..1."""
        limit = self._limit
        if not limit:
            return 0.0 if self._remaining == 0.0 and not self.over(now) else 1.0
        if self.over(now):
            return 1.0
        share = min(1.0, self._remaining / limit)
        return share + (1.0 - share) * (now - self._at) / (self._reset_at - self._at)

    def spent_until(self, now: float) -> float:
        """When something is left again; now, if something is."""
        if self._remaining >= 1.0:
            return now
        return max(now, self._room_at)


class Quota:
    """The limits of one target."""

    __slots__ = (
        "_guess",
        "_guessed_at",
        "_learned",
        "_recent",
        "_watching",
        "day_limit",
        "days",
        "meters",
        "token_day_limit",
    )

    def __init__(self, epoch: float) -> None:
        self.days = Days(epoch)
        self.day_limit = 0
        self.token_day_limit = 0
        # What the catalog knows of a plan may be another plan's: it counts for headroom, a refusal says if it is so.
        self.meters = (Meter(0, MINUTE), Meter(0, MINUTE))  # requests, tokens
        self._learned: dict[tuple[str, str], Learned] = {}
        self._recent: deque[float] = deque(maxlen=1000)  # instants of requests, once there was a refusal
        self._watching = False
        self._guess = 0.0  # requests a minute
        self._guessed_at = 0.0

    def configure(self, offset: float, per_day: tuple[int, int], per_minute: tuple[int, int]) -> None:
        """Take over what the configuration says now; each pair is requests, tokens (0 = no limit known)."""
        self.days.begin_at(offset)
        self.day_limit, self.token_day_limit = per_day
        for meter, limit in zip(self.meters, per_minute, strict=True):
            meter.limit = float(limit)

    @property
    def known(self) -> bool:
        """Is there any limit to look at?"""
        return bool(
            self.day_limit
            or self.token_day_limit
            or self.meters[0].limit
            or self.meters[1].limit
            or self._learned
            or self._watching
        )

    # What happens

    def take(self, now: float) -> None:
        """A request goes out."""
        self.days.turn(now)
        self.days.requests += 1
        if self.meters[0].limit:
            self.meters[0].add(1.0, now)
        for (dimension, _), learned in self._learned.items():
            if dimension == "requests":
                learned.take()
        if self._watching:
            self._recent.append(now)

    def use(self, tokens: int, now: float) -> None:
        """A request has used so many tokens."""
        self.days.turn(now)
        self.days.tokens += tokens
        if self.meters[1].limit:
            self.meters[1].add(tokens, now)

    def learn(self, limits: Iterable[Limit], now: float) -> None:
        """A response's headers told of limits."""
        for said in limits:
            place = said.dimension, said.window
            if said.remaining is not None and (place in self._learned or len(self._learned) < MAX_LEARNED):
                self._learned[place] = Learned(said.limit, said.remaining, said.reset, said.window, now)

    def refused(self, now: float) -> None:
        """Throttled, and no header says by which limit: what went through in the last minute was all there was."""
        self._watching = True
        if self._recent:
            self._recent.pop()  # the refused one did not: a probe alone would teach a limit of one
        went = self._went(now)
        if went:
            self._guess = float(went)
            self._guessed_at = now

    # What is left

    def headroom(self, now: float) -> float:
        """The share that is left of the limit that is nearest, in 0..1."""
        self.days.turn(now)
        left = min(self.meters[0].left(now), self.meters[1].left(now))
        if self.day_limit and not self._tells("requests", "day"):
            left = min(left, max(0.0, 1.0 - self.days.requests / self.day_limit))
        if self.token_day_limit and not self._tells("tokens", "day"):
            left = min(left, max(0.0, 1.0 - self.days.tokens / self.token_day_limit))
        for learned in self._learned.values():
            left = min(left, learned.left(now))
        return min(left, self._guessed_left(now)) if self._guess else left

    def exhausted(self, now: float) -> Spent | None:
        """The limit that keeps traffic away; None: nothing does."""
        self.days.turn(now)
        if self.day_limit and self.days.requests >= self.day_limit and not self._tells("requests", "day"):
            return Spent(self.days.ends_at(now), "daily quota used up")
        if (
            self.token_day_limit
            and self.days.tokens >= self.token_day_limit
            and not self._tells("tokens", "day")
        ):
            return Spent(self.days.ends_at(now), "daily quota of tokens used up")
        for (dimension, window), learned in self._learned.items():
            until = learned.spent_until(now)
            if until > now:
                per = f" per {window}" if window else ""
                return Spent(until, f"its provider says that no {dimension}{per} are left")
        return None

    def _tells(self, dimension: str, window: str) -> bool:
        """Does the provider itself keep us informed? Then its word counts, not the catalog's."""
        return (dimension, window) in self._learned

    def _guessed_left(self, now: float) -> float:
        trust = math.exp2((self._guessed_at - now) / GUESS_HALF_LIFE)
        if trust < FADED:
            self._guess = 0.0
            return 1.0
        return max(0.0, 1.0 - trust * min(1.0, self._went(now) / self._guess))

    def _went(self, now: float) -> int:
        """Requests of the last minute."""
        recent = self._recent
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        return len(recent)

    # What outlives the process

    def snapshot(self, now: float) -> "QuotaState":
        self.days.turn(now)
        return QuotaState(self.days.requests, self.days.tokens, self.days.ends_at(now) - now)

    def restore(self, state: "QuotaState", elapsed: float, now: float) -> None:
        """What was used of today still is, unless the day has ended meanwhile."""
        self.days.turn(now)
        if elapsed < state.day_left:
            self.days.requests = max(self.days.requests, state.requests)
            self.days.tokens = max(self.days.tokens, state.tokens)

"""Rates, tokens and budgets: by hand, and beside a naive model that remembers everything and adds it up anew."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gwproto import LocalProtocolError
from gwproto.config import LimitSettings, OwnRates, Rates
from gwproto.policy.limits import Limits
from gwproto.policy.ratelimit import DAY, Limiter, Reservation
from gwproto.policy.standing import duration, rate_headers
from gwproto.policy.values import ClientKey, DayUsage, LimitsState, Rejection, Standing

START = 4096.5
EPOCH = 19_000 * DAY - START - 100.0  # the start is 100 seconds before midnight


def limiter(capacity: int = 100, own: Mapping[str, Rates] | None = None, **rates: Any) -> Limiter:
    return Limiter("key", Rates(**rates), epoch=EPOCH, own=own, capacity=capacity)


def held(limits: Limiter, tokens: int, now: float, who: str = "a") -> Reservation:
    reservation = limits.reserve(who, tokens, now)
    assert isinstance(reservation, Reservation)
    return reservation


def refused(outcome: Reservation | Rejection | None) -> Rejection:
    assert isinstance(outcome, Rejection)
    return outcome


def use(limits: Limiter, tokens: int, now: float, who: str = "a") -> None:
    limits.settle(held(limits, tokens, now, who), tokens, now)


# By hand


def test_a_burst_then_one_for_each_fraction_of_a_second() -> None:
    limits = limiter(requests_per_second=4.0, burst=2)
    assert [limits.request("a", START) is None for _ in range(3)] == [True, True, False]
    rejection = refused(limits.request("a", START + 0.125))
    assert (rejection.limit, rejection.retry_after) == ("requests_per_second", 0.125)
    assert rejection.message == (
        "Rate limit reached for this key: 4 requests per second, 2 at once. Please try again in 1s."
    )
    assert rejection.requests == Standing(2, 0, 0.375)
    assert limits.request("a", START + 0.25) is None
    assert limits.request("b", START) is None, "each has its own"


def test_a_days_requests_end_and_begin_at_midnight() -> None:
    limits = limiter(requests_per_day=2)
    assert [limits.request("a", START) is None for _ in range(2)] == [True, True]
    rejection = refused(limits.request("a", START + 40))
    assert (rejection.limit, rejection.retry_after) == ("requests_per_day", 60.0)
    assert "budget of 2 requests per day (UTC)" in rejection.message
    assert rejection.message.endswith("again in 1m0s.")
    assert limits.request("a", START + 99.5) is not None
    assert limits.request("a", START + 100) is None


def test_tokens_are_reserved_then_settled() -> None:
    limits = limiter(tokens_per_minute=100)
    first = held(limits, 60, START)
    rejection = refused(limits.reserve("a", 41, START))
    assert (rejection.limit, rejection.retry_after) == ("tokens_per_minute", 1.0)
    assert rejection.tokens == Standing(100, 40, 60.0)
    second = held(limits, 40, START)
    assert limits.reserved == 100
    limits.settle(first, 10, START + 300)  # a reservation is held however long
    limits.cancel(second, START + 300)
    assert limits.standing("a", START + 300) == (None, Standing(100, 90, 60.5))
    assert limits.reserved == 0


def test_tokens_come_back_when_they_are_a_minute_old() -> None:
    limits = limiter(tokens_per_minute=100)
    use(limits, 30, START)  # in the second that began at 4096
    use(limits, 20, START + 0.25)
    use(limits, 50, START + 10)
    assert refused(limits.reserve("a", 1, START + 10)).retry_after == 50.5
    assert refused(limits.reserve("a", 51, START + 10)).retry_after == 60.5
    assert limits.standing("a", START + 60)[1] == Standing(100, 0, 10.5)
    assert limits.standing("a", START + 60.5)[1] == Standing(100, 50, 10.0)
    assert limits.standing("a", START + 70.5)[1] == Standing(100, 100, 0.0)


def test_what_was_used_beyond_a_reservation_is_worked_off() -> None:
    limits = limiter(tokens_per_minute=60)
    limits.settle(held(limits, 10, START), 90, START)
    assert limits.standing("a", START)[1] == Standing(60, 0, 60.5)
    limits.settle(held(limits, 0, START + 61), 60 + 120, START + 61)
    rejection = refused(limits.reserve("a", 0, START + 61 + 61))
    assert rejection.retry_after == 59.0, "two minutes of 60 tokens"
    assert rejection.tokens == Standing(60, 0, 59.0)
    assert isinstance(limits.reserve("a", 60, START + 61 + 120), Reservation)


def test_a_days_tokens_count_in_full_whoever_holds_room() -> None:
    limits = limiter(tokens_per_day=1000)
    first, _ = held(limits, 100, START), held(limits, 800, START)
    limits.settle(first, 500, START)
    assert refused(limits.reserve("a", 1, START)).retry_after == 1.0, "it depends on the other one"
    assert limits.usage(START) == {"a": DayUsage(0, 500)}
    (allowance,) = limits._known.values()
    assert (allowance.reserved, allowance.tokens, allowance.owed) == (800, 200, 300)
    assert limits.standing("a", START + 100)[1] == Standing(1000, 200, 86400.0), (
        "what is owed is the old day's"
    )


def test_a_days_tokens_come_back_at_midnight() -> None:
    limits = limiter(tokens_per_day=1000)
    first, second = held(limits, 100, START), held(limits, 800, START)
    limits.settle(first, 500, START)
    limits.cancel(second, START)
    assert limits.standing("a", START)[1] == Standing(1000, 500, 100.0)
    rejection = refused(limits.reserve("a", 501, START))
    assert (rejection.limit, rejection.retry_after) == ("tokens_per_day", 100.0)
    assert "no room for 501" in rejection.message
    held(limits, 100, START)
    assert refused(limits.reserve("a", 500, START)).retry_after == 1.0, "if the other one needs nothing"
    assert refused(limits.reserve("a", 501, START)).retry_after == 100.0
    assert limits.standing("a", START + 100)[1] == Standing(1000, 900, 86400.0)


def test_a_minutes_tokens_leave_room_for_what_is_reserved() -> None:
    limits = limiter(tokens_per_minute=100)
    first, second = held(limits, 20, START), held(limits, 60, START)
    limits.settle(first, 55, START)
    (allowance,) = limits._known.values()
    assert allowance.minute is not None
    assert (allowance.reserved, allowance.minute.total) == (60, 40)
    assert allowance.minute.blocked_until == START + 9, "15 of 100 tokens in a minute"
    limits.cancel(second, START)


def test_what_never_fits_is_told_so() -> None:
    limits = limiter(tokens_per_minute=100, tokens_per_day=150)
    rejection = refused(limits.reserve("a", 101, START))
    assert (rejection.limit, rejection.retry_after) == ("tokens_per_minute", None)
    assert rejection.message == (
        "Request too large for this key: 100 tokens per minute, and this request may need 101."
    )
    assert refused(limits.reserve("a", 151, START)).limit == "tokens_per_day"
    assert limits.largest("a") == 100
    assert limiter(tokens_per_day=150).largest("a") == 150
    assert limiter(requests_per_day=1).largest("a") == 0


def test_a_reservation_ends_once() -> None:
    limits = limiter(tokens_per_day=100)
    reservation = held(limits, 50, START)
    limits.settle(reservation, 50, START)
    with pytest.raises(LocalProtocolError):
        limits.settle(reservation, 1, START)
    with pytest.raises(LocalProtocolError):
        limits.cancel(reservation, START)
    assert limits.usage(START) == {"a": DayUsage(0, 50)}


def test_without_limits_nothing_is_remembered() -> None:
    limits = limiter(own={"b": Rates(requests_per_day=1), "c": Rates()})
    for _ in range(3):
        assert limits.request("a", START) is None
    assert limits.request("c", START) is None
    assert (limits.rates("a"), limits.rates("c"), len(limits)) == (None, None, 0)
    assert limits.standing("a", START) == (None, None)
    assert limits.request("b", START) is None
    assert limits.request("b", START) is not None


def test_the_tighter_of_two_limits_is_shown() -> None:
    limits = limiter(
        requests_per_second=1.0, burst=5, requests_per_day=4, tokens_per_minute=50, tokens_per_day=60
    )
    assert limits.standing("a", START) == (Standing(4, 4, 0.0), Standing(50, 50, 0.0))
    for _ in range(4):
        limits.request("a", START)
    use(limits, 50, START)
    assert limits.standing("a", START + 1) == (Standing(4, 0, 99.0), Standing(50, 0, 59.5))
    assert limits.standing("a", START + 62) == (Standing(4, 0, 38.0), Standing(60, 10, 38.0))


def test_other_limits_hold_at_once_and_usage_stays() -> None:
    limits = limiter(requests_per_second=1.0, burst=10, tokens_per_day=100)
    for _ in range(10):
        limits.request("a", START)
    use(limits, 60, START)
    limits.reconfigure(Rates(requests_per_second=100.0, burst=5, tokens_per_day=70), None, START + 2)
    assert limits.standing("a", START + 2) == (Standing(5, 0, 0.08), Standing(70, 10, 98.0))
    limits.reconfigure(Rates(), None, START + 2)
    assert limits.request("a", START + 2) is None
    limits.reconfigure(Rates(), {"a": Rates(tokens_per_day=65)}, START + 3)
    assert limits.standing("a", START + 3) == (None, Standing(65, 5, 97.0))


def test_a_limit_switched_off_and_on_under_a_reservation() -> None:
    limits = limiter(tokens_per_minute=100)
    reservation = held(limits, 80, START)
    limits.reconfigure(Rates(), None, START)
    limits.settle(reservation, 80, START)
    assert limits.reserved == 0
    limits.reconfigure(Rates(tokens_per_minute=100), None, START)
    assert isinstance(limits.reserve("a", 100, START), Reservation), (
        "nothing is counted while nothing is limited"
    )


def test_a_clock_that_stands_still_or_goes_back_refills_nothing() -> None:
    limits = limiter(requests_per_second=1.0, burst=1)
    assert limits.request("a", START) is None
    assert limits.request("a", START - 50) is not None
    assert limits.request("a", START) is not None


def test_a_hundred_thousand_identities_stay_bounded() -> None:
    limits = limiter(capacity=1000, requests_per_second=20.0, burst=60)
    most = 0
    for number in range(100_000):
        limits.request(f"10.0.{number >> 8}.{number & 255}", START + number * 1e-6)
        most = max(most, len(limits))
    assert most == 1000
    for number in range(1000):  # those before are whole again, and two go for each that comes
        limits.request(f"new-{number}", START + 10 + number)
    assert len(limits) <= 2


def test_who_has_something_reserved_is_not_forgotten() -> None:
    limits = limiter(capacity=4, tokens_per_day=100)
    reservation = held(limits, 90, START, "busy")
    for number in range(50):
        use(limits, 1, START, f"other-{number}")
        assert len(limits) <= 4
    assert limits.reserve("busy", 20, START) == refused(limits.reserve("busy", 20, START))
    limits.settle(reservation, 90, START)
    for number in range(50):
        use(limits, 1, START, f"another-{number}")
    assert "busy" not in limits.usage(START), "the one used least recently"


def test_a_reservation_of_nothing_is_one() -> None:
    limits = limiter(tokens_per_minute=60)
    reservation = held(limits, 0, START)
    limits.standing("b", START)
    limits.settle(reservation, 90, START)
    assert limits.standing("a", START)[1] == Standing(60, 0, 60.5)


def test_who_comes_back_is_remembered_longer() -> None:
    limits = limiter(capacity=4, requests_per_day=1000)
    for number in range(50):
        limits.request(f"once-{number}", START)
        limits.request("often", START)
    assert limits.usage(START)["often"] == DayUsage(50, 0)


def test_a_days_usage_outlives_a_restart_but_not_the_day() -> None:
    settings = LimitSettings(requests_per_day=3, project=Rates(tokens_per_day=100))
    limits = Limits(settings, (), EPOCH)
    limits.keys.request("k", START)
    use(limits.projects, 70, START, "p")
    held(limits.projects, 20, START, "q")
    limits.addresses.request("192.0.2.1", START)
    state = limits.snapshot(START)
    assert state == LimitsState(18_999, {"k": DayUsage(1, 0)}, {"p": DayUsage(0, 70)})
    assert limits.snapshot(START + 100) == LimitsState(19_000)

    again = Limits(settings, (), EPOCH)
    again.keys.request("k", START)
    for _ in range(2):
        again.restore(state, START + 1)
    assert again.snapshot(START + 1) == state
    assert refused(again.projects.reserve("p", 31, START + 1)).limit == "tokens_per_day"
    tomorrow = Limits(settings, (), EPOCH)
    tomorrow.restore(state, START + 100)
    assert tomorrow.snapshot(START + 100) == LimitsState(19_000)


def test_keys_may_have_limits_of_their_own() -> None:
    keys = (
        ClientKey("a", b"", OwnRates(requests_per_day=1)),
        ClientKey("b", b"", OwnRates(tokens_per_minute=0, requests_per_second=0.0)),
        ClientKey("a", b"", OwnRates(requests_per_day=9)),
        ClientKey("c", b""),
    )
    common = LimitSettings(requests_per_second=2.0, tokens_per_minute=100)
    limits = Limits(common, keys, EPOCH)
    assert limits.keys.rates("a") == Rates(requests_per_second=2.0, tokens_per_minute=100, requests_per_day=1)
    assert limits.keys.rates("b") is None
    assert limits.keys.rates("c") == common
    limits.reconfigure(LimitSettings(), keys[1:], START)
    assert limits.keys.rates("a") == Rates(requests_per_day=9)
    assert limits.addresses.rates("x") == Rates(requests_per_second=20.0, burst=60)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.2, "1s"), (59.5, "1m0s"), (360.0, "6m0s"), (3599.1, "1h0m0s"), (86399, "23h59m59s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_headers_have_openais_names() -> None:
    assert rate_headers(None, None) == ()
    assert rate_headers(Standing(60, 59, 0.05), Standing(1000, 0, 360.0)) == (
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
    )


# Beside a model


@dataclass
class Naive:
    """One identity, by lists of all that ever happened. Exact: every number is a fraction."""

    turns: list[tuple[Fraction, str, Fraction]] = field(default_factory=list)  # requests, and rates set
    requests: list[Fraction] = field(default_factory=list)
    used: list[tuple[Fraction, int]] = field(default_factory=list)  # settled
    counted: list[tuple[Fraction, int]] = field(default_factory=list)  # of that, within the minute's limit
    blocked_until: Fraction = Fraction(0)
    open: list[Reservation] = field(default_factory=list)

    def taken(self, now: Fraction) -> Fraction:
        taken, rate, at = Fraction(0), Fraction(0), Fraction(0)
        for when, what, value in [*self.turns, (now, "", Fraction(0))]:
            taken = max(Fraction(0), taken - (when - at) * rate)
            at = when
            if what == "request":
                taken += 1
            elif what == "rate":
                rate = value
        return taken

    @property
    def reserved(self) -> int:
        return sum(reservation.tokens for reservation in self.open)

    def minute(self, now: Fraction) -> int:
        return sum(tokens for at, tokens in self.counted if math.floor(at) + 61 > now)

    def today(self, now: Fraction) -> tuple[int, int]:
        day = _day(now)
        return (
            sum(_day(at) == day for at in self.requests),
            sum(tokens for at, tokens in self.used if _day(at) == day),
        )


def _day(now: Fraction) -> int:
    return math.floor((now + Fraction(EPOCH)) / DAY)


# Everything is a multiple of a power of two, so that floats are as exact as the model.
RATES = st.builds(
    Rates,
    requests_per_second=st.sampled_from([0.0, 0.25, 1.0, 8.0]),
    burst=st.integers(1, 5),
    tokens_per_minute=st.sampled_from([0, 16, 60, 120]),
    requests_per_day=st.sampled_from([0, 3, 12]),
    tokens_per_day=st.sampled_from([0, 40, 80, 200]),
)
WHO = st.sampled_from("aaab")


class LimiterMachine(RuleBasedStateMachine):
    @initialize(rates=RATES)
    def begin(self, rates: Rates) -> None:
        self.now = START
        self.rates = rates
        self.limiter = Limiter("key", rates, epoch=EPOCH)
        self.naive = {who: Naive() for who in "ab"}
        self.sums: dict[tuple[str, str], int] = {}
        self.set_rate()

    def set_rate(self) -> None:
        for naive in self.naive.values():
            naive.turns.append((self.at, "rate", Fraction(self.rates.requests_per_second)))

    @property
    def at(self) -> Fraction:
        return Fraction(self.now)

    @rule(eighths=st.one_of(st.integers(0, 24), st.sampled_from([479, 488, 799, 800, 8 * DAY])))
    def time_passes(self, eighths: int) -> None:
        self.now += eighths / 8

    @rule(rates=RATES)
    def reconfigures(self, rates: Rates) -> None:
        self.rates = rates
        self.limiter.reconfigure(rates, None, self.now)
        self.set_rate()

    @rule(who=WHO)
    def asks(self, who: str) -> None:
        rates, naive, now = self.rates, self.naive[who], self.at
        taken = naive.taken(now)
        expected = None
        if rates.requests_per_day and naive.today(now)[0] >= rates.requests_per_day:
            expected = "requests_per_day"
        elif rates.requests_per_second and taken + 1 > rates.burst:
            expected = "requests_per_second"
        rejection = self.limiter.request(who, self.now)
        assert (rejection and rejection.limit) == expected
        if rejection is None:
            if rates.requests_per_day:
                naive.requests.append(now)
            if rates.requests_per_second:
                naive.turns.append((now, "request", Fraction(0)))
        elif expected == "requests_per_second":
            assert rejection.retry_after == (taken + 1 - rates.burst) / Fraction(rates.requests_per_second)

    @rule(who=WHO, tokens=st.one_of(st.integers(1, 24), st.integers(0, 130)))
    def reserves(self, who: str, tokens: int) -> None:
        rates, naive, now = self.rates, self.naive[who], self.at
        expected = None
        minute, day = rates.tokens_per_minute, rates.tokens_per_day
        if day and tokens > day:
            expected = "tokens_per_day"
        elif minute and tokens > minute:
            expected = "tokens_per_minute"
        elif day and naive.today(now)[1] + naive.reserved + tokens > day:
            expected = "tokens_per_day"
        elif minute and (naive.minute(now) + naive.reserved + tokens > minute or naive.blocked_until > now):
            expected = "tokens_per_minute"
        held = self.limiter.reserve(who, tokens, self.now)
        if isinstance(held, Rejection):
            assert held.limit == expected
            if held.retry_after is not None and not naive.open:
                later = self.now + held.retry_after  # which is neither too short nor longer than needed
                fits = naive.minute(Fraction(later)) + tokens <= minute and naive.blocked_until <= later
                assert fits or expected == "tokens_per_day"
                if expected == "tokens_per_minute" and held.retry_after > 1:
                    before = Fraction(later) - Fraction(1, 8)
                    assert naive.minute(before) + tokens > minute or naive.blocked_until > before
        else:
            assert expected is None
            naive.open.append(held)

    @rule(who=WHO, sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3), used=st.integers(0, 150))
    def is_busy(self, who: str, sizes: list[int], used: int) -> None:
        """What happens most often: some requests at once, of which one ends."""
        for tokens in sizes:
            self.reserves(who, tokens)
        if self.naive[who].open:
            self.settle(who, self.naive[who].open.pop(), used)

    def pick(self, who: int) -> tuple[str, Reservation]:
        both = [(name, one) for name, naive in self.naive.items() for one in naive.open]
        name, one = both[who % len(both)]
        self.naive[name].open.remove(one)
        return name, one

    @precondition(lambda self: any(naive.open for naive in self.naive.values()))
    @rule(which=st.integers(0, 5), tokens=st.one_of(st.integers(1, 40), st.integers(0, 200)))
    def settles(self, which: int, tokens: int) -> None:
        self.settle(*self.pick(which), tokens)

    def settle(self, who: str, one: Reservation, tokens: int) -> None:
        naive = self.naive[who]
        self.limiter.settle(one, tokens, self.now)
        if self.rates.tokens_per_day:
            naive.used.append((self.at, tokens))
        limit = self.rates.tokens_per_minute
        if limit:
            room = max(0, limit - naive.reserved - naive.minute(self.at))
            naive.counted.append((self.at, min(tokens, room)))
            if tokens > room:
                start = max(self.at, naive.blocked_until)
                naive.blocked_until = start + Fraction(60 * (tokens - room), limit)

    @precondition(lambda self: any(naive.open for naive in self.naive.values()))
    @rule(which=st.integers(0, 5))
    def cancels(self, which: int) -> None:
        _, one = self.pick(which)
        self.limiter.cancel(one, self.now)
        with pytest.raises(LocalProtocolError):
            self.limiter.settle(one, 1, self.now)

    @invariant()
    def no_limit_is_ever_exceeded(self) -> None:
        for who, allowance in self.limiter._known.items():
            allowance.advance(self.rates, self.now, _day(self.at))
            minute = allowance.reserved + (0 if allowance.minute is None else allowance.minute.total)
            day = allowance.reserved + allowance.tokens
            for name, value, limit in (
                ("minute", minute, self.rates.tokens_per_minute),
                ("day", day, self.rates.tokens_per_day),
            ):
                before = self.sums.get((who, name), 0)  # a limit may have been lowered under it
                assert not limit or value <= max(limit, before)
                self.sums[who, name] = value

    @invariant()
    def everything_adds_up(self) -> None:
        now, rates = self.at, self.rates
        assert self.limiter.reserved == sum(naive.reserved for naive in self.naive.values())
        for who, naive in self.naive.items():
            used = self.limiter.usage(self.now).get(who, DayUsage())
            requests, tokens = naive.today(now)
            assert (used.requests, used.tokens) == (requests, tokens)
            lefts = []
            if rates.requests_per_second:
                lefts.append(max(0, math.floor(rates.burst - naive.taken(now))))
            if rates.requests_per_day:
                lefts.append(max(0, rates.requests_per_day - requests))
            shown, shown_tokens = self.limiter.standing(who, self.now)
            assert (shown and shown.remaining) == min(lefts, default=None)
            lefts = []
            if limit := rates.tokens_per_minute:
                left = max(0, limit - naive.reserved - naive.minute(now))
                lefts.append(0 if naive.blocked_until > now else left)
            if limit := rates.tokens_per_day:
                lefts.append(max(0, limit - naive.reserved - tokens))
            assert (shown_tokens and shown_tokens.remaining) == min(lefts, default=None)

    def teardown(self) -> None:
        if not hasattr(self, "limiter"):
            return
        for naive in self.naive.values():
            for one in naive.open:
                self.limiter.settle(one, one.tokens, self.now)
        assert self.limiter.reserved == 0


TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)

"""What is left of limits: configured ones, those of headers, and what refusals let guess."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gwproto.config import ModelSettings
from gwproto.routing.quota import DAY, MAX_LEARNED, Meter, Quota
from gwproto.routing.router import NoTarget, Wait
from gwproto.values import Limit
from support.routing import START, THROTTLED, Desk, provider, throttled

MIDNIGHT = 20_000 * DAY


def told(desk: Desk, *limits: Limit) -> None:
    ticket = desk.pick()
    desk.router.limits(ticket, limits, desk.now)
    desk.router.success(ticket, desk.now)


def headroom(desk: Desk) -> float:
    return desk.router.statuses(desk.now)[0].headroom


# What headers tell


def test_a_spent_limit_keeps_traffic_away_until_it_is_reset() -> None:
    desk = Desk(provider("a"))
    told(desk, Limit("tokens", "minute", 6000, 0, 7.5))
    (status,) = desk.router.statuses(desk.now)
    assert status.status == "exhausted"
    assert status.reason == "its provider says that no tokens per minute are left"
    assert desk.ask() == NoTarget("throttled", 7.5)
    desk.now += 6.0
    assert desk.ask() == Wait(START + 7.5)
    desk.now += 1.5
    assert desk.serve() == "a/a-model"
    assert headroom(desk) == 1.0


def test_requests_count_against_what_was_left() -> None:
    desk = Desk(provider("a"))
    told(desk, Limit("requests", "", 10, 2, 30.0))
    assert desk.serve() == desk.serve() == "a/a-model"
    assert desk.ask() == NoTarget("throttled", 30.0)
    assert desk.router.statuses(desk.now)[0].reason == "its provider says that no requests are left"


def test_newer_headers_replace_older_ones() -> None:
    desk = Desk(provider("a"))
    told(desk, Limit("requests", "minute", 10, 1, 30.0))
    told(desk, Limit("requests", "minute", 10, 10, 60.0))
    assert headroom(desk) == 1.0


def test_where_a_reset_is_far_off_somebody_goes_and_looks() -> None:
    desk = Desk(provider("a"))
    told(desk, Limit("requests", "", 100, 0, 1000.0))
    assert desk.ask() == NoTarget("throttled", 10.0)
    desk.now += 10.0
    assert desk.serve() == "a/a-model"


def test_a_day_is_waited_for() -> None:
    desk = Desk(provider("a"))
    told(desk, Limit("requests", "day", 100, 0, 7200.0))
    assert desk.ask() == NoTarget("throttled", 7200.0)


def test_a_limit_without_a_reset_holds_for_a_minute() -> None:
    desk = Desk(provider("a"))
    told(desk, Limit("requests", "", None, 0))
    assert headroom(desk) == 0.0
    assert desk.ask() == NoTarget("throttled", 60.0)
    desk.now += 60.0
    assert headroom(desk) == 1.0
    assert desk.serve() == "a/a-model"


def test_what_is_left_grows_towards_the_reset() -> None:
    quota = Quota(0.0)
    quota.learn([Limit("tokens", "", 100, 20, 40.0)], START)
    assert quota.headroom(START) == pytest.approx(0.2)
    assert quota.headroom(START + 20.0) == pytest.approx(0.6)
    assert quota.headroom(START + 40.0) == 1.0


def test_limits_that_say_nothing_of_what_is_left_are_not_learned() -> None:
    quota = Quota(0.0)
    quota.learn([Limit("requests", "month", 1000, None)], START)
    assert not quota.known


def test_headers_may_name_only_so_many_limits() -> None:
    quota = Quota(0.0)
    quota.learn([Limit(f"kind-{number}", "", 10, 10, 60.0) for number in range(MAX_LEARNED)], START)
    quota.learn([Limit("one-more", "", 10, 0, 60.0)], START)
    assert quota.exhausted(START) is None
    quota.learn([Limit("kind-0", "", 10, 0, 60.0)], START)
    assert quota.exhausted(START) is not None


def test_a_provider_that_tells_of_its_day_knows_better_than_the_catalog() -> None:
    desk = Desk(provider("a", ModelSettings(id="m", requests_per_day=2, tokens_per_day=10)))
    told(desk, Limit("requests", "day", 1000, 998, 3600.0), Limit("tokens", "day", 10**6, 10**6, 3600.0))
    for _ in range(4):
        ticket = desk.pick()
        desk.router.success(ticket, desk.now, 100)
    assert headroom(desk) > 0.9


# What is configured


def test_tokens_of_the_day_are_a_budget_too() -> None:
    desk = Desk(
        provider("a", ModelSettings(id="m", tokens_per_day=1000), day_offset=-8), epoch=MIDNIGHT - START
    )
    ticket = desk.pick()
    desk.router.success(ticket, desk.now, 600)
    assert headroom(desk) == pytest.approx(0.4)
    desk.router.success(desk.pick(), desk.now, 600)
    (status,) = desk.router.statuses(desk.now)
    assert (status.status, status.reason) == ("exhausted", "daily quota of tokens used up")
    assert desk.ask() == NoTarget("throttled", 8 * 3600.0)
    desk.now += 8 * 3600.0
    assert desk.serve() == "a/m"


@pytest.mark.parametrize(("offset", "left"), [(0, 24.0), (-8, 8.0), (5.5, 18.5)])
def test_the_day_begins_where_the_provider_is(offset: float, left: float) -> None:
    model = ModelSettings(id="m", requests_per_day=1)
    desk = Desk(provider("a", model, day_offset=offset), epoch=MIDNIGHT - START)
    desk.serve()
    assert desk.ask() == NoTarget("throttled", left * 3600.0)


def test_tokens_per_minute_are_per_key() -> None:
    desk = Desk(provider("a", "x", "y", tokens_per_minute=600), credentials={"a": ("one", "two")})
    ticket = desk.pick()
    first = ticket.target.credential
    desk.router.success(ticket, desk.now, 900)
    assert {desk.pick().target.credential for _ in range(4)} == {"one", "two"} - {first}
    standing = [status.reason for status in desk.router.statuses(desk.now) if status.key == first]
    assert standing == ["quota of tokens per minute used up"] * 2
    desk.now += 29.0
    assert first not in {desk.pick().target.credential for _ in range(4)}
    desk.now += 31.0
    assert {desk.pick().target.credential for _ in range(4)} == {"one", "two"}


def test_a_plans_limits_are_headroom_and_no_more() -> None:
    model = ModelSettings(id="m", requests_per_minute=10, tokens_per_minute=1000)
    desk = Desk(provider("a", model))
    for _ in range(5):
        desk.router.success(desk.pick(), desk.now, 20)
    assert headroom(desk) == pytest.approx(0.5)
    desk.router.success(desk.pick(), desk.now, 800)
    assert headroom(desk) == pytest.approx(0.1)
    for _ in range(10):
        desk.serve()
    assert headroom(desk) == 0.0


def test_a_reload_takes_limits_away() -> None:
    desk = Desk(provider("a", requests_per_minute=1))
    desk.serve()
    assert isinstance(desk.ask(), NoTarget)
    desk.reload(provider("a"))
    assert desk.serve() == "a/a-model"


# What refusals let guess


def test_a_second_refusal_tells_how_much_was_too_much() -> None:
    desk = Desk(provider("a"))
    desk.fail(desk.pick(), THROTTLED)
    desk.now += 15.0
    for _ in range(4):
        desk.serve()
    desk.fail(desk.pick(), throttled(1.0))
    desk.now += 2.0
    assert headroom(desk) == pytest.approx(0.0, abs=0.01)
    desk.now += 61.0
    assert headroom(desk) == 1.0
    desk.serve()
    assert 0.7 < headroom(desk) < 0.9
    desk.now += 3600.0
    desk.serve()
    assert headroom(desk) == 1.0


def test_a_refusal_after_nothing_went_through_teaches_nothing() -> None:
    quota = Quota(0.0)
    quota.refused(START)
    assert quota.known
    quota.refused(START)
    assert quota.headroom(START) == 1.0


def test_a_refused_probe_teaches_nothing() -> None:
    """Or a target would be taken for one of a request a minute after every storm of refusals."""
    desk = Desk(provider("a"))
    for _ in range(4):
        desk.fail(desk.pick(), THROTTLED)
        desk.now += 301.0
    desk.serve()
    desk.now += 2.0
    assert headroom(desk) == 1.0


# Meters


@given(
    limit=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(0, 500)), max_size=30),
)
def test_a_meter_never_forgets_faster_than_its_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    meter = Meter(limit, 60.0)
    now, total, level = START, 0.0, 0.0
    meter.add(0, now)
    for pause, amount in steps:
        now += pause
        meter.add(amount, now)
        level = max(0.0, level - pause * limit / 60.0) + amount
        assert meter.used(now) == pytest.approx(level, abs=1e-6)
        total += amount
        flowed = (now - START) * limit / 60.0
        assert total - flowed - 1e-6 * (total + flowed) <= meter.used(now) <= total + 1e-6
        assert 0.0 <= meter.left(now) <= 1.0
        whole = meter.whole_at(now)
        assert whole >= now
        assert meter.used(whole) <= limit + 1e-6


def test_a_meter_without_a_limit() -> None:
    meter = Meter(0, 60.0)
    assert meter.left(START) == 1.0
    assert meter.whole_at(START) == START


# What outlives the process


def test_the_use_of_a_day_outlives_the_process_and_not_the_day() -> None:
    def fresh() -> Quota:
        quota = Quota(MIDNIGHT - START)
        quota.configure(0.0, (10, 1000), (0, 0))
        return quota

    quota = fresh()
    now = START + 82_800.0  # an hour before midnight
    quota.take(now)
    quota.use(70, now)
    kept = quota.snapshot(now)
    soon, late = fresh(), fresh()
    soon.restore(kept, 3599.0, START)
    late.restore(kept, 3600.0, START)
    assert (soon.days.requests, soon.days.tokens) == (1, 70)
    assert (late.days.requests, late.days.tokens) == (0, 0)


def test_learned_limits_never_break_the_router() -> None:
    """Whatever headers claim, a target is picked, waited for or explained."""
    chance = random.Random(7)
    desk = Desk(provider("a"), provider("b"))
    for _ in range(300):
        choice = desk.ask()
        if isinstance(choice, Wait | NoTarget):
            desk.now += 1.0
            continue
        said = [
            Limit(
                chance.choice(["requests", "tokens", "x"]),
                chance.choice(["", "minute", "day", "month"]),
                chance.choice([None, 0, 1, 10**18]),
                chance.choice([None, 0, 1, 10**18]),
                chance.choice([None, 0.0, 1e-9, 3.0, 1e18]),
            )
            for _ in range(3)
        ]
        desk.router.limits(choice, said, desk.now)
        desk.router.success(choice, desk.now, chance.choice([0, 5, 10**15]))
        desk.now += chance.random()
        assert all(0.0 <= status.headroom <= 1.0 for status in desk.router.statuses(desk.now))


# Beside a model


class Told:
    """A limit as headers told of it, and what was taken since."""

    def __init__(self, limit: Limit, now: float) -> None:
        assert limit.remaining is not None
        self.left = limit.remaining
        reset = 60.0 if limit.reset is None else min(limit.reset, DAY)
        if limit.limit and reset > 60.0 and limit.window != "day":
            reset = max(1.0, reset / limit.limit)  # long before all is whole somebody goes and looks
        self.until = now + reset


class QuotaMachine(RuleBasedStateMachine):
    """The quota of a target beside a model that remembers every request."""

    @initialize(offset=st.sampled_from([0.0, -8.0, 5.5]), hours=st.integers(0, 23))
    def begin(self, offset: float, hours: int) -> None:
        self.offset = 3600.0 * offset
        self.epoch = MIDNIGHT - START + 3600.0 * hours
        self.now = START
        self.taken: list[float] = []
        self.used: list[tuple[float, int]] = []
        self.told: dict[tuple[str, str], Told] = {}
        self.quota = self.fresh()

    def fresh(self) -> Quota:
        quota = Quota(self.epoch)
        quota.configure(self.offset / 3600.0, (4, 1000), (0, 0))
        return quota

    def day(self, at: float) -> int:
        return math.floor((at + self.epoch + self.offset) / DAY)

    @rule()
    def take(self) -> None:
        self.quota.take(self.now)
        self.taken.append(self.now)
        for (dimension, _), told in self.told.items():
            if dimension == "requests":
                told.left = max(0, told.left - 1)

    @rule(tokens=st.sampled_from([1, 300, 999]))
    def use(self, tokens: int) -> None:
        self.quota.use(tokens, self.now)
        self.used.append((self.now, tokens))

    @rule(
        dimension=st.sampled_from(["requests", "tokens"]),
        window=st.sampled_from(["", "minute", "day"]),
        limit=st.sampled_from([None, 10]),
        remaining=st.sampled_from([None, 0, 1, 3]),
        reset=st.sampled_from([None, 5.0, 90.0, 7200.0]),
    )
    def learn(
        self, dimension: str, window: str, limit: int | None, remaining: int | None, reset: float | None
    ) -> None:
        said = Limit(dimension, window, limit, remaining, reset)
        self.quota.learn([said], self.now)
        if remaining is not None:
            self.told[dimension, window] = Told(said, self.now)

    @rule(seconds=st.sampled_from([0.5, 8.0, 61.0, 3600.0, 40_000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.taken)
    @rule(seconds=st.sampled_from([0.0, 30.0, 20_000.0]))
    def restart(self, seconds: float) -> None:
        """What headers told is not kept: they tell it again."""
        kept = self.quota.snapshot(self.now)
        self.now += seconds
        self.quota = self.fresh()
        self.quota.restore(kept, seconds, self.now)
        self.told.clear()

    @invariant()
    def it_is_exhausted_when_the_model_is(self) -> None:
        today = self.day(self.now)
        requests = sum(self.day(at) == today for at in self.taken)
        tokens = sum(used for at, used in self.used if self.day(at) == today)
        spent = self.quota.exhausted(self.now)
        headroom = self.quota.headroom(self.now)
        until = [told.until for told in self.told.values() if told.left < 1 and told.until > self.now]
        midnight = (today + 1) * DAY - self.epoch - self.offset
        shares = [1.0]
        for dimension, share in (("requests", requests / 4), ("tokens", tokens / 1000)):
            if (dimension, "day") not in self.told:
                shares.append(max(0.0, 1.0 - share))
                if share >= 1.0:
                    until.append(midnight)
        assert (spent is None) == (not until)
        assert spent is None or any(spent.until == pytest.approx(at) for at in until)
        assert 0.0 <= headroom <= min(shares) + 1e-9
        assert self.told or headroom == pytest.approx(min(shares))


TestQuota = QuotaMachine.TestCase
TestQuota.settings = settings(max_examples=40, stateful_step_count=40)

"""When a target counts as slow, and how many hedges there may be."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gwproto.config import HedgeSettings
from gwproto.policy.hedging import DELAY_AGE, MAX_SAVED, Hedging

NOW = 300.0


def hedging(**changes: float) -> Hedging:
    return Hedging(HedgeSettings(enabled=True, **changes))  # type: ignore[arg-type]  # tests name what they change


def hedges(one: Hedging) -> int:
    made = 0
    while one.affordable:
        one.spend()
        made += 1
    return made


def test_nobody_is_slow_before_enough_is_known() -> None:
    assert hedging().delay("a", [1.0] * 19, NOW) == math.inf
    assert hedging().delay("a", [1.0] * 20, NOW) == 1.0


def test_slow_is_later_than_the_percentile_of_the_latest_times() -> None:
    times = [float(time) for time in range(100, 0, -1)]
    assert hedging().delay("a", times, NOW) == 95.0
    assert hedging(percentile=1.0).delay("a", times, NOW) == 100.0
    assert hedging(percentile=0.5).delay("a", times[:20], NOW) == 90.0
    assert hedging(percentile=0.001).delay("a", times, NOW) == 1.0


def test_fast_targets_are_given_a_moment() -> None:
    assert hedging(min_delay=0.3).delay("a", [0.01] * 20, NOW) == 0.3


def test_a_targets_delay_is_computed_once_a_second() -> None:
    one = hedging()
    assert one.delay("a", [1.0] * 20, NOW) == 1.0
    assert one.delay("b", [3.0] * 20, NOW) == 3.0
    assert one.delay("a", [2.0] * 20, NOW + 0.99 * DELAY_AGE) == 1.0
    assert one.delay("a", [2.0] * 20, NOW + DELAY_AGE) == 2.0


def test_one_request_in_twenty_earns_a_hedge() -> None:
    one = hedging()
    assert not one.affordable
    for _ in range(19):
        one.request()
    assert not one.affordable
    one.request()
    assert hedges(one) == 1
    for _ in range(20):
        one.request()
    assert hedges(one) == 1


def test_what_is_saved_up_has_a_limit() -> None:
    one = hedging()
    for _ in range(1000):
        one.request()
    assert hedges(one) == MAX_SAVED


def test_another_configuration_keeps_what_was_earned_and_computes_delays_anew() -> None:
    one = hedging(budget=1.0)
    one.request()
    assert one.delay("a", [1.0] * 20, NOW) == 1.0
    one.reconfigure(HedgeSettings(enabled=True, budget=0.0, min_delay=2.0))
    one.request()
    assert one.delay("a", [1.0] * 20, NOW) == 2.0
    assert hedges(one) == 1


@given(st.lists(st.booleans()), st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]))
def test_over_any_time_hedges_are_that_part_of_the_requests_plus_ten(
    wishes: list[bool], budget: float
) -> None:
    one = hedging(budget=budget)
    made = [0]
    for wish in wishes:
        one.request()
        made.append(made[-1])
        if wish and one.affordable:
            one.spend()
            made[-1] += 1
    for start in range(len(made)):
        for end in range(start, len(made)):
            assert made[end] - made[start] <= budget * (end - start) + MAX_SAVED * (start > 0) + 1e-6

"""When a target counts as slow, and how many hedges there may be."""

import math
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gwproto.config import HedgeSettings
from gwproto.policy.hedging import DELAY_AGE, MAX_KINDS, MAX_SAVED, SAMPLES, Hedging, Kind

NOW = 300.0
PLAIN = ("auto", False)


def hedging(**changes: float) -> Hedging:
    return Hedging(HedgeSettings(enabled=True, **changes))  # type: ignore[arg-type]  # tests name what they change


def hedges(one: Hedging) -> int:
    made = 0
    while one.affordable:
        one.spend()
        made += 1
    return made


def learned(times: Iterable[float], kind: Kind = PLAIN, **changes: float) -> float:
    """What counts as slow after these times to first content."""
    one = hedging(**changes)
    for time in times:
        one.content(kind, time)
    return one.delay(PLAIN, NOW)


def test_nobody_is_slow_before_enough_is_known() -> None:
    assert learned([]) == math.inf
    assert learned([1.0] * 19) == math.inf
    assert learned([1.0] * 20) == 1.0


def test_slow_is_later_than_the_percentile_of_the_latest_times() -> None:
    times = [float(time) for time in range(100, 0, -1)]
    assert learned(times) == 95.0
    assert learned(times, percentile=1.0) == 100.0
    assert learned(times[:20], percentile=0.5) == 90.0
    assert learned(times, percentile=0.001) == 1.0
    assert learned([9.0] * 100 + [1.0] * SAMPLES) == 1.0


def test_fast_targets_are_given_a_moment() -> None:
    assert learned([0.01] * 20, min_delay=0.3) == 0.3


def test_each_kind_of_request_has_its_own_times() -> None:
    assert learned([1.0] * 20, ("auto", True)) == math.inf
    assert learned([1.0] * 20, ("other", False)) == math.inf


def test_a_delay_is_computed_once_a_second() -> None:
    one = hedging(min_samples=1, percentile=1.0)
    one.content(PLAIN, 1.0)
    assert one.delay(PLAIN, NOW) == 1.0
    one.content(PLAIN, 2.0)
    assert one.delay(PLAIN, NOW + 0.99 * DELAY_AGE) == 1.0
    assert one.delay(PLAIN, NOW + DELAY_AGE) == 2.0


def test_the_number_of_kinds_is_bounded() -> None:
    one = hedging(min_samples=1)
    for number in range(MAX_KINDS + 1):
        one.content((f"model-{number}", False), 1.0)
    assert one.delay(("model-0", False), NOW) == math.inf
    assert one.delay(("model-1", False), NOW) == 1.0


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
    for _ in range(20):
        one.content(PLAIN, 1.0)
    assert one.delay(PLAIN, NOW) == 1.0
    one.reconfigure(HedgeSettings(enabled=True, budget=0.0, min_delay=2.0))
    one.request()
    assert one.delay(PLAIN, NOW) == 2.0
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

"""Back-off and the retry budget."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwproto.policy.retry import BUDGET_WINDOW, RetryBudget, backoff


class Highest(random.Random):
    """Chance at its upper end."""

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("attempt", "longest"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (5000, 8.0)]
)
def test_backoff_doubles_up_to_its_cap(attempt: int, longest: float) -> None:
    assert backoff(attempt, Highest()) == longest


def test_backoff_has_full_jitter() -> None:
    rng = random.Random(7)
    pauses = [backoff(4, rng) for _ in range(400)]
    assert min(pauses) < 0.5
    assert max(pauses) > 7.5
    assert 3.5 < sum(pauses) / 400 < 4.5


def test_the_budget_is_a_share_of_the_requests_plus_a_floor() -> None:
    budget = RetryBudget(0.2, 1)
    for _ in range(10):
        budget.request(100.0)
    assert [budget.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_the_budget_slides() -> None:
    budget = RetryBudget(0.5, 0)
    budget.request(100.0)
    budget.request(105.0)
    assert budget.take(105.0)
    assert not budget.take(105.0)
    budget.request(110.0)  # the first one is out of the window now
    assert not budget.take(110.0)
    budget.request(110.0)
    assert not budget.take(110.0)
    budget.request(114.9)
    assert budget.take(114.9)
    assert not budget.take(115.0)


def test_without_requests_there_is_the_floor_alone() -> None:
    budget = RetryBudget(0.2, 2)
    assert [budget.take(0.0) for _ in range(3)] == [True, True, False]
    assert budget.take(BUDGET_WINDOW)


def test_new_limits_keep_what_the_window_holds() -> None:
    budget = RetryBudget(0.0, 2)
    assert budget.take(0.0)
    budget.reconfigure(0.5, 0)
    for _ in range(4):
        budget.request(0.0)
    assert [budget.take(0.0) for _ in range(2)] == [True, False]


@given(
    steps=st.lists(st.tuples(st.floats(0, 4), st.sampled_from("rrrttttac")), max_size=60),
    ratio=st.floats(0, 1),
    floor=st.integers(0, 5),
)
def test_the_budget_holds_in_every_window_that_ends_when_it_is_drawn_on(
    steps: list[tuple[float, str]], ratio: float, floor: int
) -> None:
    """Requests, retries taken and asked for, and changes of the limits, in any order."""
    budget = RetryBudget(ratio, floor)
    requests: list[float] = []
    retries: list[float] = []
    now = 1000.0
    for pause, what in steps:
        now += pause
        if what == "r":
            budget.request(now)
            requests.append(now)
        elif what == "c":
            ratio, floor = 1.0 - ratio, 5 - floor
            budget.reconfigure(ratio, floor)
        else:
            recent = sum(at > now - BUDGET_WINDOW for at in requests)
            drawn = sum(at > now - BUDGET_WINDOW for at in retries)
            allowed = drawn + 1 <= ratio * recent + floor
            assert budget.allows(now) == allowed
            if what == "t":
                assert budget.take(now) == allowed
                if allowed:
                    retries.append(now)


def test_asking_takes_nothing() -> None:
    budget = RetryBudget(0.0, 1)
    assert budget.allows(100.0)
    assert budget.allows(100.0)
    assert budget.take(100.0)
    assert not budget.allows(101.0)
    assert not budget.take(101.0)
    assert budget.allows(100.0 + BUDGET_WINDOW)

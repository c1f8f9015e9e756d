"""Evidence: priors, ageing, and the score it makes."""

import pytest

from gwproto.routing.score import HALF_LIFE, Evidence, base_score

T = 9_000.0


def evidence(*outcomes: bool, at: float = T) -> Evidence:
    made = Evidence()
    for outcome in outcomes:
        made.add(outcome, at)
    return made


def test_nothing_known_is_the_prior() -> None:
    assert (*Evidence().estimates(T), Evidence().volume(T)) == (0.9, 1.0, 0.0)


def test_the_prior_weighs_as_much_as_ten_outcomes() -> None:
    assert evidence(*[False] * 10).estimates(T)[0] == pytest.approx(0.45)
    assert evidence(*[True] * 10).estimates(T)[0] == pytest.approx(0.95)


def test_evidence_counts_half_after_a_half_life_and_the_prior_comes_back() -> None:
    made = evidence(*[False] * 10)
    assert made.volume(T + HALF_LIFE) == pytest.approx(5.0)
    assert made.estimates(T + HALF_LIFE)[0] == pytest.approx(9 / 15)
    assert made.estimates(T + 20 * HALF_LIFE)[0] == pytest.approx(0.9, abs=1e-4)
    made.add(False, T + HALF_LIFE)
    assert made.volume(T + HALF_LIFE) == pytest.approx(6.0)


def test_a_hundred_outcomes_are_remembered() -> None:
    made = evidence(*[False] * 100)
    assert made.volume(T) == pytest.approx(100.0)
    for _ in range(300):
        made.add(True, T)
    assert made.volume(T) == pytest.approx(100.0)
    assert made.failure_share == pytest.approx(0.99**300)


def test_delays_are_averaged_with_their_prior_and_age() -> None:
    made = Evidence()
    for _ in range(3):
        made.add_delay(5.0, T)
    assert made.estimates(T)[1] == pytest.approx(3.0)
    assert made.estimates(T + HALF_LIFE)[1] == pytest.approx((1.5 * 5.0 + 3.0) / 4.5)


def test_forgetting_leaves_the_priors() -> None:
    made = evidence(False, False)
    made.add_delay(9.0, T)
    made.forget()
    assert (*made.estimates(T), made.volume(T)) == (0.9, 1.0, 0.0)


def test_the_score_weighs_success_headroom_and_latency() -> None:
    assert base_score(Evidence(), 1.0, T) == pytest.approx(0.6 * 0.9 + 0.2 + 0.15 * 7 / 8)
    assert base_score(Evidence(), 0.25, T) == pytest.approx(0.6 * 0.9 + 0.05 + 0.15 * 7 / 8)
    slow = Evidence()
    for _ in range(50):
        slow.add_delay(60.0, T)
    assert base_score(slow, 1.0, T) == pytest.approx(0.6 * 0.9 + 0.2)

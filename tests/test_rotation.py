"""Taking turns: fairness and its memory, the band and its hysteresis."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gwproto.routing.rotation import ENTER, STAY, Band, Rotation


def test_equals_take_turns_in_order() -> None:
    rotation = Rotation()
    assert [rotation.turn("abc", [1.0] * 3) for _ in range(7)] == list("abcabca")


def test_weights_are_spread_smoothly() -> None:
    # nginx's own example: upstream_round_robin, commit 52327e0.
    rotation = Rotation()
    assert [rotation.turn("abc", [5.0, 1.0, 1.0]) for _ in range(7)] == list("aabacaa")


def test_a_preview_takes_no_turn() -> None:
    rotation = Rotation()
    assert rotation.turn("ab", [1.0, 1.0]) == "a"
    assert [rotation.preview("ab", [1.0, 1.0]) for _ in range(3)] == ["b"] * 3
    assert rotation.turn("ab", [1.0, 1.0]) == "b"


def test_memory_survives_changes_of_the_set() -> None:
    rotation = Rotation()
    assert [rotation.turn("abc", [1.0] * 3) for _ in range(2)] == list("ab")
    assert [rotation.turn("bc", [1.0] * 2) for _ in range(2)] == list("cb")
    # Not back at "a" because the set is new, and no burst for who was away.
    assert Counter(rotation.turn("abc", [1.0] * 3) for _ in range(6)) == Counter(a=2, b=2, c=2)


def test_who_was_passed_over_often_gets_no_burst() -> None:
    rotation = Rotation()
    for _ in range(1000):
        rotation.turn("abc", [1.0] * 3, "bc")
    assert Counter(rotation.turn("abc", [1.0] * 3) for _ in range(30))["a"] <= 12


@given(
    sets=st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), max_size=10),
    size=st.integers(1, 6),
    requests=st.lists(st.integers(1, 6), max_size=100),
    seed=st.integers(0, 1000),
)
def test_turns_differ_by_at_most_one_failovers_included(
    sets: list[set[str]], size: int, requests: list[int], seed: int
) -> None:
    """After any history: each request takes some turns, never one it has had."""
    rotation = Rotation()
    rng = random.Random(seed)
    for members in sets:
        before = sorted(members)
        weights = [rng.choice((1.0, 1.0, 0.1, 0.5)) for _ in before]
        for _ in range(rng.randrange(1, 5)):
            rotation.turn(before, weights, rng.sample(before, rng.randint(1, len(before))))
    keys = "abcdef"[:size]
    turns = Counter(dict.fromkeys(keys, 0))
    for attempts in requests:
        left = set(keys)
        for _ in range(min(attempts, size)):
            # The first may go to anybody, as in the router.
            chosen = rotation.turn(keys, [1.0] * size, left if len(left) < size else None)
            left.remove(chosen)
            turns[chosen] += 1
        assert max(turns.values()) - min(turns.values()) <= 1


def test_turns_in_a_circle_are_made_good_like_any_others() -> None:
    rotation, weights = Rotation(), [1.0] * 4
    assert [rotation.turn("abcd", weights) for _ in range(6)] == list("abcdab")
    # A failover from "b": of those who have waited, "d" alone is allowed.
    assert rotation.turn("abcd", weights, "ad") == "d"
    assert [rotation.turn("abcd", weights) for _ in range(6)] == list("cabcda")
    # Another set begins where this one is.
    assert rotation.turn("abd", [1.0] * 3) == "b"


def test_a_circle_survives_lists_that_are_made_anew() -> None:
    rotation = Rotation()
    assert [rotation.turn(list("abc"), [1.0] * 3) for _ in range(5)] == list("abcab")


def test_the_band_is_wider_for_those_inside() -> None:
    band = Band()
    assert band.members([("a", 1.0), ("b", 0.84), ("c", 0.86)]) == ["a", "c"]
    assert band.members([("a", 1.0), ("b", 0.84), ("c", 0.81)]) == ["a", "c"]
    assert band.members([("a", 1.0), ("b", 0.86), ("c", 0.79)]) == ["a", "b"]
    assert band.members([("a", 1.0), ("b", 0.81), ("c", 0.84)]) == ["a", "b"]


def test_looking_at_the_band_changes_nothing() -> None:
    band = Band()
    assert band.members([("a", 1.0), ("b", 0.9)], remember=False) == ["a", "b"]
    assert band.members([("a", 1.0), ("b", 0.82)]) == ["a"]


def test_the_best_is_always_in_the_band() -> None:
    assert Band().members([("a", 0.1), ("b", 0.3)]) == ["b"]
    assert ENTER < STAY

"""What a record holds, and what records add up to."""

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gwproto import AttemptRecord, Ending, Outcome, Usage
from gwproto_ops.records.figures import (
    DAY,
    HOUR,
    Sums,
    failures,
    judged,
    merged,
    of_attempts,
    of_requests,
    percentiles,
)
from gwproto_ops.records.lines import Attempt, Line
from gwproto_ops.records.record import LONGEST, kept, line, plain, read, values
from support.outcomes import CONSIDERED, NOON, PLAIN, random_outcomes

ATTEMPTS = (
    Attempt(
        "alpha", "big-1", "alpha", 500, "server", "boom", 0.0, 500.0, None, False, False, None, False, False
    ),
    Attempt("beta", "small-1", "beta#2", 200, None, "", 500.0, 1500.0, 250.0, True, True, False, True, False),
)
EXPECTED = Line(
    at=NOON,
    request_id="0" * 32,
    key="me",
    project_id="shop",
    endpoint="/v1/chat/completions",
    method="POST",
    model_asked="auto",
    provider="beta",
    model="small-1",
    stream=True,
    status=200,
    ending="completed",
    error="",
    ms=2000.0,
    first_content_ms=750.0,
    prompt_tokens=10,
    completion_tokens=20,
    cached_tokens=4,
    reasoning_tokens=5,
    cost=0.25,
    partial_usage=False,
    shared=False,
    dropped_params=("seed", "user"),
    attempts=ATTEMPTS,
    chosen="beta/small",
    rejected="",
    client="",
)


def test_a_line_says_all_of_an_outcome() -> None:
    assert line(PLAIN) == EXPECTED


def test_what_is_not_known_is_null() -> None:
    bare = Outcome(
        "r",
        NOON,
        Ending.REFUSED,
        401,
        "POST",
        "/v1/chat/completions",
        0.0015,
        rejected="unknown",
        client="::1",
    )
    found = json.loads(msgspec.json.encode(line(bare)))
    assert set(found) == set(Line.__struct_fields__)
    assert {name for name, value in found.items() if value is None} == {
        "first_content_ms",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "cost",
    }
    assert (found["ms"], found["rejected"], found["client"], found["attempts"]) == (1.5, "unknown", "::1", [])


def test_a_record_that_was_kept_is_as_it_was_and_has_its_candidates() -> None:
    record = read(kept([values(PLAIN)])[0], CONSIDERED, [["alpha/big", "server"]])
    assert {name: getattr(record, name) for name in Line.__struct_fields__} == msgspec.structs.asdict(
        EXPECTED
    )
    assert record.candidates == PLAIN.candidates
    assert [one.reason for one in record.candidates] == ["tried: server", "", "cooling down"]
    assert read(kept([values(PLAIN)])[0]).candidates == ()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("llama-3", "llama-3"),
        ("x" * 5000, "x" * LONGEST),
        ("a\0b\x1b[2J\n", "a\ufffdb\ufffd[2J\ufffd"),
        ("\ud800", "\ufffd"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("日本 é", "日本 é"),
    ],
)
def test_what_others_chose_is_short_and_inert(text: str, shown: str) -> None:
    assert plain(text) == shown
    hostile = replace(PLAIN, model_asked=text, method=text, error=text, dropped_params=(text,))
    found = line(hostile)
    assert (found.model_asked, found.method, found.error, found.dropped_params) == (
        shown,
        shown,
        shown,
        (shown,),
    )
    attempt = replace(PLAIN.attempts[0], code=text)
    assert line(replace(PLAIN, attempts=(attempt,))).attempts[0].code == shown


def test_times_are_milliseconds_after_the_start() -> None:
    late = replace(PLAIN, began_at=49.0)
    assert [attempt.started_ms for attempt in line(late).attempts] == [1000.0, 1500.0]
    assert line(replace(PLAIN, duration=1.23456789)).ms == 1234.568


def test_nothing_of_an_outcome_is_left_out_by_mistake() -> None:
    # Who adds a field to Outcome decides here whether records show it.
    told_otherwise = {"decision", "usage", "began_at", "duration", "first_content_after", "trace"}
    assert set(Outcome.__struct_fields__) - told_otherwise <= set(Line.__struct_fields__)


def test_sums_by_hour_provider_model_and_project() -> None:
    cells = of_requests(
        [PLAIN, replace(PLAIN, at=NOON + 3599.9), replace(PLAIN, at=NOON - 0.1), replace(PLAIN, model="m")]
    )
    assert {key: sums["completed"] for key, sums in cells.items()} == {
        (int(NOON), "beta", "small-1", "shop"): 2,
        (int(NOON) - HOUR, "beta", "small-1", "shop"): 1,
        (int(NOON), "beta", "m", "shop"): 1,
    }
    sums = cells[int(NOON), "beta", "small-1", "shop"]
    assert {name: sums[name] for name in ("prompt", "completion", "cached", "reasoning", "cost")} == {
        "prompt": 20,
        "completion": 40,
        "cached": 8,
        "reasoning": 10,
        "cost": 0.5,
    }
    assert int(NOON) % DAY == 12 * HOUR


def test_an_answer_that_was_shared_is_paid_once() -> None:
    ((_, sums),) = of_requests([PLAIN, replace(PLAIN, shared=True)]).items()
    assert (sums["completed"], sums["prompt"], sums["cost"]) == (2, 10, 0.25)
    assert sum(cell["attempts"] for cell in of_attempts([PLAIN, replace(PLAIN, shared=True)]).values()) == 2


def test_durations_are_of_whole_answers() -> None:
    ((_, sums),) = of_requests([replace(PLAIN, ending=Ending.CLIENT_CLOSED)]).items()
    assert percentiles(sums, "d", (0.5,)) is None
    found = percentiles(sums, "f", (0.5,))
    assert found is not None
    assert found[0] == pytest.approx(750, rel=0.1)


def test_attempts_by_provider_and_class() -> None:
    lost = AttemptRecord("beta", "m", "beta", 50.0, 0.5, lost=True)
    unheard = AttemptRecord("beta", "m", "beta", 50.0, 0.5, failure="unheard of\n")
    cells = of_attempts(
        [PLAIN, replace(PLAIN, ending=Ending.CLIENT_CLOSED), replace(PLAIN, attempts=(lost, unheard))]
    )
    alpha, beta = cells[int(NOON), "alpha"], cells[int(NOON), "beta"]
    assert (alpha["attempts"], failures(alpha), judged(failures(alpha))) == (2, {"server": 2}, (2, 0))
    assert (beta["attempts"], beta["successes"], failures(beta)) == (4, 1, {"unheard of\ufffd": 1})
    assert judged({"rate_minute": 3, "invalid": 5, "timeout": 7, "auth": 11}) == (18, 3)


@given(st.lists(st.floats(0.001, 100_000), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_right_within_a_tenth(durations: list[float], share: float) -> None:
    sums: Sums = {}
    for _, found in of_requests([replace(PLAIN, duration=duration) for duration in durations]).items():
        sums = found
    rank = -(-len(durations) * round(share * 100) // 100)
    exact = sorted(durations)[rank - 1] * 1e3
    told = percentiles(sums, "d", (share,))
    assert told is not None
    assert told[0] == pytest.approx(exact, rel=0.1)


def test_extreme_durations_have_a_place() -> None:
    ((_, sums),) = of_requests(
        [replace(PLAIN, duration=seconds) for seconds in (0.0, -1.0, 1e-9, 1e12)]
    ).items()
    assert sums["d0"] == 3
    assert sum(number for name, number in sums.items() if name.startswith("d")) == 4


def test_merging_texts_is_adding() -> None:
    assert json.loads(merged('{"a":1,"cost":0.5}', '{"cost":0.25,"b":2}')) == {"a": 1, "cost": 0.75, "b": 2}


def test_any_split_into_batches_adds_up_to_the_same() -> None:
    outcomes = random_outcomes(400)
    chance = random.Random(3)
    whole = of_requests(outcomes)
    parts: dict[object, Sums] = {}
    while outcomes:
        size = chance.randint(1, 90)
        for key, sums in of_requests(outcomes[:size]).items():
            into = parts.setdefault(key, {})
            for name, number in sums.items():
                into[name] = into.get(name, 0) + number
        del outcomes[:size]
    assert {key: {n: pytest.approx(v) for n, v in sums.items()} for key, sums in whole.items()} == parts


def test_a_request_without_usage_costs_nothing() -> None:
    ((_, sums),) = of_requests([replace(PLAIN, usage=None, cost=None)]).items()
    assert not {"prompt", "completion", "cached", "reasoning", "cost"} & set(sums)
    ((_, sums),) = of_requests([replace(PLAIN, usage=Usage(1, 2, 3))]).items()
    assert "cached" not in sums

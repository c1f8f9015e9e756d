"""Policies in the library's scenarios: what the gateway promises there, and that the same seed says the same."""

import math
import subprocess
import sys
import xml.etree.ElementTree
from functools import cache
from pathlib import Path

import pytest

import gwproto
from gwproto import Ending, Outcome
from gwproto.routing.health import SLOW_START_SUCCESSES
from gwproto.testing.simulation import (
    COLUMNS,
    GATEWAY,
    ROUND_ROBIN,
    Figures,
    Policy,
    Run,
    Scenario,
    compare,
    plot,
    read_scenario,
    rows,
    share_rows,
    simulate,
)
from gwproto.testing.simulation.measures import Measures
from gwproto.values import AttemptRecord

LIBRARY = Path(gwproto.__file__).parent / "data" / "scenarios"


@cache
def scenario(name: str) -> Scenario:
    return read_scenario((LIBRARY / f"{name}.toml").read_bytes(), name)


@cache
def figures(name: str) -> Figures:
    return simulate(scenario(name), GATEWAY)


# What the gateway promises

PARTIAL = ("brown-out", "dead-provider", "flapping", "throttling-hints", "throttling-silent")


@pytest.mark.parametrize("name", PARTIAL)
def test_nothing_fails_while_a_healthy_target_exists(name: str) -> None:
    seen = figures(name)
    assert seen.failed == 0
    assert seen.cut == 0
    assert seen.success_rate == 1.0
    assert seen.attempts_mean <= 1.3
    assert seen.attempts_mean > 1.0  # there was trouble
    assert seen.retry_budget_used <= 1.0


@pytest.mark.parametrize("name", [*PARTIAL, "thundering-herd", "midnight-reset", "outage"])
def test_one_probe_at_a_time_and_the_share_comes_back(name: str) -> None:
    seen = figures(name)
    assert seen.probes_at_once == 1
    assert seen.recoveries
    for recovery in seen.recoveries:
        assert recovery.seconds is not None
        assert recovery.successes <= SLOW_START_SUCCESSES
        # The longest pause between two probes, and ten successes at its share of these rates.
        assert recovery.seconds <= 300.0 + 30.0


def test_an_outage_is_not_multiplied() -> None:
    seen = figures("outage")
    assert seen.failed > 0
    assert seen.retry_budget_used <= 1.0
    assert (
        seen.attempt_bound_used <= 1.1
    )  # first attempts that waited come a little later than their requests
    assert seen.panics > 0


def test_plain_round_robin_is_worse_where_there_is_trouble() -> None:
    plain = simulate(scenario("thundering-herd"), ROUND_ROBIN)
    assert plain.attempts_mean > figures("thundering-herd").attempts_mean
    assert plain.failed > figures("thundering-herd").failed
    assert plain.retry_budget_used > 1.0
    assert plain.probes_at_once == plain.panics == 0


def test_clients_that_leave_are_nobodys_failure() -> None:
    seen = simulate(scenario("steady"), GATEWAY, requests=600)
    assert seen.left > 0
    assert seen.success_rate == 1.0
    assert seen.shares["zeta"] == 0.0  # a fallback


# The same seed

PROGRAM = """
import sys
from pathlib import Path
from gwproto.testing.simulation import GATEWAY, ROUND_ROBIN, compare, plot, read_scenario, to_json

scenario = read_scenario(Path(sys.argv[1]).read_bytes(), "")
result = compare(scenario, (GATEWAY, ROUND_ROBIN), seed=7, requests=700)
sys.stdout.write(to_json([result]).decode() + plot([result]))
"""


def test_the_same_seed_gives_the_same_bytes_whatever_hashes_are() -> None:
    def told(hash_seed: str) -> bytes:
        return subprocess.run(
            (sys.executable, "-c", PROGRAM, str(LIBRARY / "throttling-hints.toml")),
            env={"PYTHONPATH": str(Path(gwproto.__file__).parent.parent), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout

    assert told("1") == told("2")
    assert len(told("1")) > 10_000


def test_another_seed_is_another_run() -> None:
    one, other = (simulate(scenario("steady"), GATEWAY, seed=seed, requests=200) for seed in (1, 2))
    assert one.ttft != other.ttft


def test_policies_meet_the_same_arrivals() -> None:
    runs = [Run(scenario("steady"), policy, requests=100) for policy in (GATEWAY, ROUND_ROBIN)]
    for run in runs:
        run.run()
    first, second = (run.measures.arrivals for run in runs)
    assert first == second
    assert len(first) == 100


TWICE = b"""
name = "twice"
[load]
requests = 200
rate = 2.0
arrivals = "steady"
[[providers]]
name = "alpha"
troubles = [{ start = 10, until = 20, throttled = 1.0 }]
[[providers]]
name = "beta"
"""


def test_more_requests_meet_the_troubles_again() -> None:
    seen = simulate(read_scenario(TWICE, ""), GATEWAY, requests=400)
    assert [(one.provider, one.at) for one in seen.recoveries] == [("alpha", 20.0), ("alpha", 120.0)]
    assert all(one.seconds is not None for one in seen.recoveries)


def test_progress_adds_up() -> None:
    told: list[int] = []
    simulate(scenario("steady"), GATEWAY, requests=600, progress=told.append)
    assert sum(told) == 600
    assert len(told) > 1


# Reports


def test_the_report() -> None:
    result = compare(scenario("dead-provider"), (GATEWAY, Policy(name="<other> & co")), requests=700)
    table = rows([result])
    assert [row[:3] for row in table] == [
        ("dead-provider", "gwproto", "700"),
        ("dead-provider", "<other> & co", "700"),
    ]
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert [row[0] for row in share_rows(result)] == [one.name for one in scenario("dead-provider").providers]
    assert (result.phases[0].provider, result.phases[0].what) == ("alpha", "dead")
    assert (result.phases[0].start, result.phases[0].until) == (60.0, 70.0)  # the run's end
    pictured = xml.etree.ElementTree.fromstring(plot([result, result]))
    texts = [element.text for element in pictured.iter("{http://www.w3.org/2000/svg}text")]
    assert "share per provider, <other> & co" in texts
    assert "alpha: dead" in [element.text for element in pictured.iter("{http://www.w3.org/2000/svg}title")]


# Figures, by hand


def outcome(ending: Ending, *attempts: AttemptRecord, provider: str = "a", error: str = "") -> Outcome:
    return Outcome(
        request_id="r",
        at=0.0,
        ending=ending,
        status=200,
        method="POST",
        endpoint="",
        duration=1.0,
        provider=provider,
        stream=True,
        attempts=attempts,
        first_content_after=0.5,
        error=error,
    )


def attempt(
    start: float,
    duration: float,
    *,
    probe: bool = False,
    hedge: bool = False,
    first: float | None = None,
) -> AttemptRecord:
    return AttemptRecord(
        provider="a",
        model="m",
        key="k",
        started_at=1000.0 + start,
        duration=duration,
        first_content_after=first,
        probe=probe,
        hedge=hedge,
    )


def measures(*, ratio: float = 0.5, floor: int = 0) -> Measures:
    return Measures(("a", "b"), start=1000.0, seconds=100.0, ratio=ratio, floor=floor)


def test_counting() -> None:
    seen = measures()
    for at in (0.0, 0.0, 1.0, 2.0):
        seen.arrived(at)
    assert not seen.ended(outcome(Ending.COMPLETED, attempt(0.0, 1.0)), 0.0, 1.0)
    assert seen.ended(outcome(Ending.FAILED, attempt(0.0, 0.5), attempt(0.7, 0.3), error="oops"), 0.0, 1.0)
    seen.avoidable()
    assert not seen.ended(outcome(Ending.TRUNCATED, attempt(1.0, 1.0), error="cut"), 1.0, 2.0)
    assert not seen.ended(outcome(Ending.CLIENT_CLOSED, attempt(2.0, 1.0)), 2.0, 3.0)
    found = seen.figures("p", throttled=2, seconds=7200.0)
    assert (found.requests, found.left, found.failed, found.cut) == (4, 1, 1, 1)
    assert found.failed_while_healthy == 1
    assert found.success_rate == round(1 / 3, 4)
    assert found.errors == {"cut": 1, "oops": 1}
    assert (found.attempts_mean, found.attempts_max, found.waits) == (1.25, 2, 1)
    assert found.throttled_per_hour == 1.0
    assert (found.ttft.p50, found.total.p99) == (0.5, 1.0)
    assert (
        found.retry_budget_used == 1.0
    )  # one, decided at 0.5 when two had come, of which half may be repeated
    assert found.attempt_bound_used == 1.0  # the same: three attempts where two requests may have three
    assert found.shares == {"a": 1.0, "b": 0.0}


def test_a_hedge_is_no_retry() -> None:
    seen = measures()
    seen.arrived(0.0)
    seen.ended(
        outcome(Ending.COMPLETED, attempt(0.5, 0.4, hedge=True), attempt(0.0, 1.0), attempt(1.0, 1.0)),
        0.0,
        2.0,
    )
    found = seen.figures("p", throttled=0, seconds=2.0)
    assert (found.hedges, found.waits, found.attempts_max) == (1, 0, 3)
    assert found.retry_budget_used == 2.0  # one, where half a one is allowed


def test_nothing_at_all() -> None:
    found = measures().figures("p", throttled=0, seconds=0.0)
    assert (found.success_rate, found.ttft.p50, found.probes_at_once) == (1.0, None, 0)
    assert set(found.course.success) == {None}


def test_retries_without_a_budget_are_beyond_every_bound() -> None:
    seen = measures(ratio=0.0)
    seen.arrived(0.0)
    seen.ended(outcome(Ending.COMPLETED, attempt(0.0, 0.1), attempt(0.1, 0.1)), 0.0, 1.0)
    assert seen.figures("p", throttled=0, seconds=1.0).retry_budget_used == math.inf


@pytest.mark.parametrize(("second", "most"), [(0.4, 2), (0.5, 1)])
def test_probes_at_once(second: float, most: int) -> None:
    seen = measures()
    passed = attempt(0.0, 9.0, probe=True, first=0.5)  # from its first content on it is none
    for one in (passed, attempt(second, 1.0, probe=True)):
        seen.arrived(0.0)
        seen.ended(outcome(Ending.COMPLETED, one), 0.0, 9.0)
    assert seen.figures("p", throttled=0, seconds=1.0).probes_at_once == most


def test_how_a_share_comes_back() -> None:
    seen = measures()
    seen.healed("a", 10.0, healthy=2)
    own = [*"abbbbbbabbb", *"ab" * 20]
    for number, provider in enumerate(own):
        seen.ended(outcome(Ending.COMPLETED, provider=provider), 0.0, 11.0 + number)
    (back,) = seen.figures("p", throttled=0, seconds=100.0).recoveries
    # From the fifth on, 8 of 20 are its own, which is 80 % of one half.
    assert (back.provider, back.at, back.seconds, back.successes) == ("a", 10.0, 5.0, 1)


def test_what_is_fair_depends_on_who_is_well() -> None:
    seen = measures()
    seen.healed("a", 10.0, healthy=1)
    for _ in range(15):
        seen.ended(outcome(Ending.COMPLETED, provider="b"), 0.0, 11.0)
    seen.healed("b", 12.0, healthy=2)
    for number in range(40):
        seen.ended(outcome(Ending.COMPLETED, provider="ab"[number % 2]), 0.0, 20.0 + number)
    seen.hurt("b", healthy=1)
    backs = seen.figures("p", throttled=0, seconds=100.0).recoveries
    assert [back.seconds for back in backs] == [1.0, 8.0]  # from the last four of those at 11 on; at once


def test_a_way_back_that_the_next_trouble_cuts_short() -> None:
    seen = measures()
    seen.healed("a", 10.0, healthy=1)
    seen.hurt("a", healthy=1)
    for number in range(30):
        seen.ended(outcome(Ending.COMPLETED), 0.0, 11.0 + number)
    (back,) = seen.figures("p", throttled=0, seconds=100.0).recoveries
    assert back.seconds is None

"""Random scenarios: first what is true while anything may be wrong, then that all is well again once it is not."""

import random
from functools import cache
from typing import Any

import pytest

from gwproto import Ending, Outcome
from gwproto.config import Tier
from gwproto.testing.simulation import GATEWAY, Run, Scenario
from gwproto.testing.simulation.scenario import Load, ProviderScript, Trouble

SEEDS = 16
TROUBLED = 150.0  # seconds
#: The longest that anything is remembered: a cooldown, or a request from before that is still running.
HEALED = TROUBLED + 90.0
LENGTH = HEALED + 90.0

SETTINGS: dict[str, Any] = {
    "timeouts": {"first_content": 20.0, "idle": 5.0, "total": 40.0, "stream_total": 60.0},
    "health": {"cooldown": 10.0, "cooldown_max": 40.0, "throttle_cooldown": 5.0, "max_retry_after": 40.0},
}

#: None of them so narrow that a healthy provider takes longer than a request may.
ROOMS: tuple[dict[str, Any], ...] = ({}, {"in_flight": 1, "beyond": "refused"}, {"in_flight": 8})
MODELS: tuple[dict[str, Tier], ...] = ({"chat": "medium"}, {"chat": "medium", "large": "high"})


def trouble(rng: random.Random) -> Trouble:
    start = rng.uniform(0.0, TROUBLED - 20.0)
    kind = rng.choice(("dead", "errors", "throttled", "slow", "resets", "stalls", "mixed"))
    return Trouble(
        start=start,
        until=rng.uniform(start + 5.0, TROUBLED),
        dead=kind == "dead",
        errors=rng.choice((0.3, 1.0)) if kind in ("errors", "mixed") else 0.0,
        throttled=rng.choice((0.3, 1.0)) if kind in ("throttled", "mixed") else 0.0,
        hint=rng.choice((0.0, 5.0, 40.0)),
        slow=rng.choice((3.0, 30.0)) if kind in ("slow", "mixed") else 1.0,
        resets=rng.choice((0.2, 1.0)) if kind == "resets" else 0.0,
        stalls=rng.choice((0.2, 0.9)) if kind == "stalls" else 0.0,
        period=rng.choice((0.0, 0.0, 7.0)),
    )


def scenario(seed: int) -> Scenario:
    rng = random.Random(seed)
    others = [
        ProviderScript(
            name=f"p{number}",
            keys=rng.choice((1, 1, 2)),
            models=rng.choice(MODELS),
            latency=rng.choice((0.1, 0.5, 2.0)),
            fallback=rng.random() < 0.2,
            requests_per_minute=rng.choice((0, 0, 40)),
            declared=rng.random() < 0.5,
            hints=rng.random() < 0.5,
            **rng.choice(ROOMS),
            troubles=tuple([trouble(rng) for _ in range(rng.choice((0, 1, 2)))]),
        )
        for number in range(rng.choice((0, 1, 3)))
    ]
    # One that has room for everybody, or nothing could be asked for at the end; it has its troubles, too.
    wide = ProviderScript(name="wide", troubles=(trouble(rng),))
    rate = rng.choice((0.7, 3.0))
    return Scenario(
        name=f"random {seed}",
        load=Load(
            requests=int(LENGTH * rate),
            rate=rate,
            leaving=rng.choice((0.0, 0.2)),
            efforts={"auto": 3.0, "high": 1.0},
        ),
        providers=(*others, wide),
        lasts=10.0 * LENGTH,  # the troubles do not come again
        settings=SETTINGS,
    )


@cache
def played(seed: int) -> tuple[Run, list[tuple[float, Outcome]]]:
    """A run that was looked at every half a second, and every outcome with its arrival."""
    run = Run(scenario(seed), GATEWAY, seed=seed)
    world, gateway = run.world, run.gateway
    outcomes: list[tuple[float, Outcome]] = []

    def look() -> None:
        held = sum(status.in_flight for status in gateway.shared.router.statuses(world.now))
        assert held >= world.connections  # whatever is open is somebody's attempt
        assert gateway.statistics(world.now).in_flight == len(world.running)
        if len(outcomes) < run.requests:
            world.at(world.now + 0.5, look)

    world.at(world.now, look)
    figures = run.run(observe=lambda arrived, outcome: outcomes.append((arrived, outcome)))
    assert figures.probes_at_once <= 1
    assert figures.retry_budget_used <= 1.0
    return run, outcomes


@pytest.mark.parametrize("seed", range(SEEDS))
def test_safety_and_liveness(seed: int) -> None:
    run, outcomes = played(seed)
    # Safety
    assert len(outcomes) == run.requests  # one ending each
    assert all(len(outcome.attempts) <= 4 for _, outcome in outcomes)
    assert all(outcome.duration <= 60.0 + 1e-6 for _, outcome in outcomes)
    # Nothing outlives its request.
    world = run.world
    assert not world.running
    assert world.connections == 0
    assert run.gateway.statistics(world.now).in_flight == 0
    assert [provider.in_flight for provider in run.providers] == [0] * len(run.providers)
    statuses = run.gateway.shared.router.statuses(world.now)
    assert [status.in_flight for status in statuses] == [0] * len(statuses)
    # Liveness: with nothing wrong any more, everybody is answered.
    late = [outcome for arrived, outcome in outcomes if arrived > HEALED]
    assert len(late) > 20
    assert {outcome.ending for outcome in late} <= {Ending.COMPLETED, Ending.CLIENT_CLOSED}
    standing = {status.target: status for status in statuses}
    assert standing["wide/chat"].status == "available"
    tired = [one for one in statuses if one.status == "cooldown" and "rate_minute" not in one.reason]
    assert [one.target for one in tired if "overloaded" not in one.reason] == []


def test_these_scenarios_are_bad_enough() -> None:
    """Or the rules above would be true of nothing."""
    endings = set()
    failures = set()
    panics = probes = 0
    for seed in range(SEEDS):
        for _, outcome in played(seed)[1]:
            endings.add(outcome.ending)
            for attempt in outcome.attempts:
                failures.add(attempt.failure)
                panics += attempt.panic
                probes += attempt.probe
    assert endings == set(Ending) - {Ending.REFUSED, Ending.ABANDONED}
    assert failures >= {"server", "timeout", "rate_minute", "unreachable", "overloaded"}
    assert panics
    assert probes

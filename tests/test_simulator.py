"""Random worlds: many clients, failing providers, a bad network, and the rules that hold in all of them."""

import json
import math
import random

import msgspec
import pytest

from gwproto import Configuration, Ending, Gateway, Origin, Outcome
from gwproto.config import Settings
from gwproto.routing.catalog import compile_catalog
from gwproto.testing import (
    Knobs,
    SimulatedNetwork,
    SimulatedProvider,
    Transcript,
    Visit,
    Weather,
    World,
)
from scenarios.model import EPOCH, KEY, configuration
from scenarios.parts import ask, row

NAMES = ("alpha", "beta", "gamma")
FAULTS: tuple[dict[str, object], ...] = (
    {},
    {"status": 500},
    {"status": 429, "retry_after": 3},
    {"status": 401},
    {"reset_after": 0},
    {"reset_after": 2},
    {"stall_after": 0},
    {"stall_after": 1},
    {"first_event_error": True},
    {"no_done": True},
    {"no_finish": True},
    {"garbage": "html"},
    {"garbage": "empty"},
    {"garbage": "invalid_utf8"},
    {"requests_per_minute": 5},
)


def gateway(seed: int) -> Gateway:
    base = configuration(row("any", providers=3))
    quick = {"connect": 2, "first_content": 10, "idle": 5, "total": 60, "stream_total": 120}
    raw = {**msgspec.to_builtins(base.settings), "timeouts": quick}
    for provider in raw["providers"]:
        provider["models"] = [{"id": "m"}]
    settings = msgspec.convert(raw, Settings, strict=False)
    catalog = compile_catalog(settings, {})
    return Gateway(Configuration(settings, catalog, base.keys), rng=random.Random(seed), epoch=EPOCH)


def providers(rng: random.Random) -> dict[Origin, SimulatedProvider]:
    made = {}
    for name in NAMES:
        fault = rng.choice(FAULTS)
        rate = rng.choice((0.2, 0.5, 1.0)) if fault and "requests_per_minute" not in fault else None
        knobs = msgspec.convert(
            {
                "latency": rng.choice((0.0, 0.3, 4.0)),
                "latency_spread": rng.choice((0.0, 0.7)),
                "pace": rng.choice((0.0, 0.05, 1.0)),
                "failure_rate": rate,
                **fault,
            },
            Knobs,
        )
        seeded = random.Random(rng.getrandbits(32))
        made[Origin("http", f"{name}.test", 80)] = SimulatedProvider(
            name, models=["m"], rng=seeded, knobs=knobs
        )
    return made


def visits(rng: random.Random) -> list[tuple[float, Visit]]:
    out = []
    at = 0.0
    for number in range(60):
        at += rng.expovariate(1.0)
        visit = ask(
            stream=rng.random() < 0.6,
            messages=[{"role": "user", "content": f"question {number}"}],
            leaves_after=rng.choice((math.inf, math.inf, math.inf, rng.uniform(0.0, 20.0))),
            write_time=rng.choice((0.0, 0.0, 0.4)),
        )
        out.append((at, visit))
    return out


def played(seed: int, *, drain: bool = False) -> tuple[World, list[Transcript]]:
    rng = random.Random(seed)
    weather = Weather(
        dial_time=rng.choice((0.0, 0.1, 3.0)),
        refused=rng.choice((0.0, 0.2)),
        unresolved=rng.choice((0.0, 0.1)),
        stale=rng.choice((0.0, 0.3)),
    )
    start = rng.uniform(1e3, 1e6)  # a clock may stand anywhere
    network = SimulatedNetwork(providers(rng), rng=random.Random(rng.getrandbits(32)), weather=weather)
    world = World(gateway(seed), network, start=start, epoch=EPOCH)
    transcripts = [world.visit(visit, start + at) for at, visit in visits(rng)]
    if drain:
        world.at(start + 30.0, world.drain)
    world.run()
    return world, transcripts


def check(transcript: Transcript) -> Outcome:
    """What is true of every request."""
    outcome = transcript.outcome
    assert outcome is not None
    assert transcript.ending in ("complete", "left")  # an abort is for what the gateway itself does wrong
    assert len(outcome.attempts) <= 4
    assert (outcome.ending is Ending.CLIENT_CLOSED) == (transcript.ending == "left")
    body = transcript.body
    assert KEY.encode() not in body
    if transcript.ending == "complete":
        streamed = dict(transcript.headers)[b"content-type"].startswith(b"text/event-stream")
        if streamed:
            check_stream(body, outcome)
        else:
            answer = json.loads(body)
            assert (
                ("error" in answer) == (transcript.status != 200) == (outcome.ending is not Ending.COMPLETED)
            )
            assert int(dict(transcript.headers)[b"content-length"]) == len(body)
    return outcome


def check_stream(body: bytes, outcome: Outcome) -> None:
    """One terminal event, the last; one answer's content, not two."""
    events = [e for e in body.decode().split("\n\n") if e and not e.startswith(":")]
    assert all(event.startswith("data: ") for event in events)
    done = [event == "data: [DONE]" for event in events]
    failed = ["error" in json.loads(e[6:]) for e in events if e != "data: [DONE]"]
    if outcome.ending is Ending.COMPLETED:
        assert done == [False] * (len(events) - 1) + [True]
        assert not any(failed)
    else:
        assert not any(done)
        assert failed == [False] * (len(events) - 1) + [True]
    chunks = [json.loads(e[6:]) for e in events if e != "data: [DONE]"]
    answers = {chunk["id"] for chunk in chunks if "error" not in chunk}
    assert len(answers) <= 1
    roles = [c for chunk in chunks for c in chunk.get("choices", ()) if "role" in c["delta"]]
    assert len(roles) == len(answers)


@pytest.mark.parametrize("seed", range(60))
def test_random_worlds(seed: int) -> None:
    world, transcripts = played(seed)
    for transcript in transcripts:
        check(transcript)
    assert not world.running
    assert world.connections == 0
    assert world.gateway.statistics(world.now).in_flight == 0


@pytest.mark.parametrize("seed", range(10))
def test_draining_ends_everything_in_time(seed: int) -> None:
    world, transcripts = played(seed, drain=True)
    for transcript in transcripts:
        check(transcript)
    assert world.connections == 0


def test_the_same_seed_gives_the_same_transcripts() -> None:
    def told(seed: int) -> list[object]:
        return [(t.status, t.headers, t.pieces, t.ending, t.finished_at) for t in played(seed)[1]]

    assert told(7) == told(7)
    assert told(7) != told(8)


@pytest.mark.unmeasured
def test_faults_happen_in_these_worlds() -> None:
    """Or the rules above would be true of nothing."""
    endings = set()
    failures = set()
    retried = False
    for seed in range(60):
        for transcript in played(seed)[1]:
            assert transcript.outcome is not None
            endings.add(transcript.outcome.ending)
            failures |= {attempt.failure for attempt in transcript.outcome.attempts}
            retried |= len(transcript.outcome.attempts) > 1 and transcript.outcome.ending is Ending.COMPLETED
    assert endings >= {Ending.COMPLETED, Ending.FAILED, Ending.TRUNCATED, Ending.CLIENT_CLOSED}
    assert failures >= {"server", "timeout", "rate_minute", "auth", "empty", "truncated", "unreachable"}
    assert retried

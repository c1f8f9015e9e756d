"""What a client gets depends on the bytes a provider sent, not on how they were split."""

import random
from collections.abc import Iterable

import pytest
from msgspec import structs
from test_scenarios import golden

from gwproto.testing import Connection, Data, Step
from scenarios.in_simulator import run
from scenarios.model import Scenario, rendered
from scenarios.table import TABLE

_answered = [s for s in TABLE if any(isinstance(t.action, Data) for c in s.script for t in c.steps)]
each = pytest.mark.parametrize("scenario", _answered, ids=lambda scenario: scenario.name)


def bytewise(data: bytes) -> Iterable[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@each
def test_byte_by_byte(scenario: Scenario) -> None:
    assert rendered(scenario, run(scenario, bytewise)) == golden(scenario)


@each
def test_random_cuts(scenario: Scenario) -> None:
    rng = random.Random(scenario.name)

    def cut(data: bytes) -> Iterable[bytes]:
        at = 0
        while at < len(data):
            size = rng.choice((1, 2, 7, 30, 200))
            yield data[at : at + size]
            at += size

    for _ in range(5):
        assert rendered(scenario, run(scenario, cut)) == golden(scenario)


@pytest.mark.unmeasured
@each
def test_every_single_cut(scenario: Scenario) -> None:
    if scenario.timed or scenario.name == "byte_by_byte":
        return  # the untimed ones have the same bytes
    whole = run(scenario)
    assert rendered(scenario, whole) == golden(scenario)
    total = max(sum(_size(step) for step in connection.steps) for connection in scenario.script)
    # Other formats' streams are cut everywhere in test_wire_goldens.
    for where in range(1, total, 1 if scenario.format == "openai" else 11):
        seen = 0

        def cut(data: bytes, where: int = where) -> Iterable[bytes]:
            nonlocal seen
            at = where - seen
            seen += len(data)
            return (data[:at], data[at:]) if 0 < at < len(data) else (data,)

        assert run(scenario, cut) == whole


@each
def test_all_in_one(scenario: Scenario) -> None:
    script = tuple(_merged(connection) for connection in scenario.script)
    merged = structs.replace(scenario, script=script)
    assert rendered(scenario, run(merged)) == golden(scenario)


def _size(step: Step) -> int:
    return len(step.action.data) if isinstance(step.action, Data) else 0


def _merged(connection: Connection) -> Connection:
    """Writes without a pause between them as one."""
    steps: list[Step] = []
    for step in connection.steps:
        last = steps[-1].action if steps else None
        if isinstance(step.action, Data) and isinstance(last, Data) and not step.after:
            steps[-1] = Step(steps[-1].after, Data(last.data + step.action.data))
        else:
            steps.append(step)
    return Connection(steps, connection.dial, connection.lost, connection.reused)

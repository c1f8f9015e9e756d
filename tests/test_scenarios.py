"""One table of scenarios through every runtime: equal to each other, and to the goldens.

``python -m scenarios`` in ``tests`` writes the goldens anew.
"""

import pytest

from scenarios.__main__ import GOLDENS
from scenarios.in_memory import on_driver
from scenarios.in_simulator import run
from scenarios.model import KEY, SECRET, Scenario, rendered
from scenarios.on_asgi import on_asgi, on_quart
from scenarios.on_trio import on_trio
from scenarios.table import TABLE
from support.virtual_loop import run_virtually

each = pytest.mark.parametrize("scenario", TABLE, ids=lambda scenario: scenario.name)
backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def golden(scenario: Scenario) -> str:
    return (GOLDENS / f"{scenario.name}.txt").read_text(encoding="utf-8")


def test_goldens_belong_to_scenarios() -> None:
    assert {path.stem for path in GOLDENS.iterdir()} == {scenario.name for scenario in TABLE}


def test_no_secret_is_in_any_golden() -> None:
    for path in GOLDENS.iterdir():
        text = path.read_text(encoding="utf-8")
        assert KEY not in text
        assert SECRET not in text


@each
def test_simulator(scenario: Scenario) -> None:
    assert rendered(scenario, run(scenario)) == golden(scenario)


@each
@backends
def test_driver(scenario: Scenario, backend: str) -> None:
    report = run_virtually(backend, on_driver, scenario)
    assert rendered(scenario, report) == golden(scenario)


@each
@backends
def test_asgi(scenario: Scenario, backend: str) -> None:
    report = run_virtually(backend, on_asgi, scenario)
    assert rendered(scenario, report) == golden(scenario)


@each
def test_quart(scenario: Scenario) -> None:
    report = run_virtually("asyncio", on_quart, scenario)
    assert rendered(scenario, report) == golden(scenario)


@each
def test_trio_server(scenario: Scenario) -> None:
    report = run_virtually("trio", on_trio, scenario)
    assert rendered(scenario, report) == golden(scenario)

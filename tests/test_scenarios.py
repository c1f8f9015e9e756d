"""One table of scenarios through every runtime: equal to each other, and to the goldens.

``python -m scenarios`` in ``tests`` writes the goldens anew.
"""

import gzip
from collections.abc import Awaitable, Callable

import anyio
import pytest
from msgspec import structs

from scenarios.__main__ import GOLDENS
from scenarios.clients import LEAVING
from scenarios.in_memory import on_driver
from scenarios.in_simulator import run
from scenarios.model import KEY, SECRET, Report, Scenario, rendered
from scenarios.on_asgi import on_asgi, on_quart
from scenarios.on_asyncio import on_asyncio
from scenarios.on_trio import on_trio
from scenarios.parts import answer, reply
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


@each
def test_asyncio_server(scenario: Scenario) -> None:
    report = run_virtually("asyncio", on_asyncio, scenario)
    assert rendered(scenario, report) == golden(scenario)


@pytest.mark.parametrize(
    "run_on", [on_driver, on_asgi, on_quart, on_trio, on_asyncio], ids=lambda run: run.__name__
)
def test_an_answer_compressed_unasked(run_on: Callable[[Scenario], Awaitable[Report]]) -> None:
    """Content codings end at the connection: what follows is as if there had been none."""
    plain = next(scenario for scenario in TABLE if scenario.name == "plain")
    coded = reply(gzip.compress(answer()), content_encoding="gzip")
    report = run_virtually(
        "trio" if run_on is on_trio else "asyncio", run_on, structs.replace(plain, script=(coded,))
    )
    assert rendered(plain, report) == golden(plain)


@pytest.mark.parametrize(
    ("run_on", "backend"),
    [
        (on_driver, "asyncio"),
        (on_driver, "trio"),
        (on_asgi, "asyncio"),
        (on_asgi, "trio"),
        (on_quart, "asyncio"),
        (on_trio, "trio"),
        (on_asyncio, "asyncio"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("scenario", LEAVING, ids=lambda scenario: scenario.name)
def test_a_client_that_leaves_ends_everything_at_once(
    run_on: Callable[[Scenario], Awaitable[Report]], backend: str, scenario: Scenario
) -> None:
    """Runners return when all is closed, and 100 ms is the contract."""

    async def timed() -> float:
        start = anyio.current_time()
        await run_on(scenario)
        return anyio.current_time() - start

    (arrival,) = scenario.arrivals
    assert arrival.visit.leaves_after <= run_virtually(backend, timed) <= arrival.visit.leaves_after + 0.1

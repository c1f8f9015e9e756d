"""The same table over real sockets, as far as nothing in it takes time: all servers as they are deployed."""

import asyncio

import pytest
import trio
from test_scenarios import golden

import gwproto_asyncio
from scenarios.model import Scenario, rendered
from scenarios.on_sockets import on_asyncio_sockets, on_hypercorn, on_quart_server, on_trio_sockets
from scenarios.table import TABLE

# A failed dial is nothing a provider does; names and ports that cannot be dialled are not portable.
_PROMPT = [s for s in TABLE if not s.timed and all(c.lost is None for c in s.script)]
each = pytest.mark.parametrize("scenario", _PROMPT, ids=lambda scenario: scenario.name)

pytestmark = pytest.mark.sockets


@each
def test_hypercorn(scenario: Scenario) -> None:
    report = asyncio.run(on_hypercorn(scenario))
    assert rendered(scenario, report) == golden(scenario)


@each
def test_quart_server(scenario: Scenario) -> None:
    report = asyncio.run(on_quart_server(scenario))
    assert rendered(scenario, report) == golden(scenario)


@each
@pytest.mark.parametrize("fast", [False, True], ids=["asyncio", "uvloop"])
def test_asyncio(scenario: Scenario, fast: bool) -> None:
    if fast:
        pytest.importorskip("uvloop")
    run = gwproto_asyncio.run if fast else asyncio.run
    assert rendered(scenario, run(on_asyncio_sockets(scenario))) == golden(scenario)


@each
def test_trio(scenario: Scenario) -> None:
    report = trio.run(on_trio_sockets, scenario)
    assert rendered(scenario, report) == golden(scenario)

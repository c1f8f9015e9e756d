"""Whenever the asyncio server breaks a connection off: nothing is left in flight, no lease leaks, all is closed."""

import asyncio

import pytest

from scenarios.clients import LEAVING
from scenarios.flights import FLIGHTS
from scenarios.hedges import HEDGES
from scenarios.model import Arrival, Scenario
from scenarios.on_asyncio import AsyncioRun
from scenarios.table import TABLE
from support.virtual_loop import run_virtually

NAMES = {
    "plain",
    "stream",
    "stale_kept_connection",
    "reset_before_content",
    "status_500_then_good",
    "slow_dial",
}
SCENARIOS = [
    *(scenario for scenario in TABLE if scenario.name in NAMES),
    *LEAVING,
    *FLIGHTS[::2],
    *HEDGES[::2],
]


class StoppedRun(AsyncioRun):
    """Breaks off every connection ``turns`` turns of the loop after the first visit has begun."""

    def __init__(self, scenario: Scenario, turns: int) -> None:
        super().__init__(scenario)
        self._turns = turns

    async def _visit(self, index: int, arrival: Arrival) -> None:
        if index == 0:
            self._saboteur = asyncio.create_task(self._stop())
        await super()._visit(index, arrival)

    async def _stop(self) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)
        for connection in list(self.server.connections):
            connection.stop()


@pytest.mark.unmeasured
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_stopped_at_any_time(scenario: Scenario) -> None:
    async def main(turns: int) -> int:
        run = StoppedRun(scenario, turns)
        await run.perform()
        return run.server.gateway.statistics(0.0).in_flight

    for turns in (*range(1, 40), 50, 70, 100):
        assert run_virtually("asyncio", main, turns) == 0

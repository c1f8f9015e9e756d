"""Whoever cancels an exchange, at whatever instant: nothing is left in flight, no lease leaks, every stream is closed.

A run counts the instants at which its driver can be cancelled, then the scenario runs again for each of them.
"""

from collections.abc import Generator
from typing import Any

import anyio
import pytest

from scenarios.in_memory import DriverRun
from scenarios.model import Arrival, Scenario
from scenarios.table import TABLE
from support.virtual_loop import run_virtually

each = pytest.mark.parametrize("scenario", TABLE, ids=lambda scenario: scenario.name)


class CancelledRun(DriverRun):
    """Cancels the first visit's task at its ``instant``-th wait. None: counts them."""

    def __init__(self, scenario: Scenario, instant: int | None) -> None:
        super().__init__(scenario)
        self.instant = instant
        self.waits = 0

    async def _visit(self, index: int, arrival: Arrival) -> None:
        if index:
            await super()._visit(index, arrival)
            return
        with anyio.CancelScope() as scope:
            await _Counted(super()._visit(index, arrival), self, scope)


class _Counted:
    """Awaits a coroutine, counting how often it waits."""

    def __init__(self, coroutine: Any, run: CancelledRun, scope: anyio.CancelScope) -> None:
        self._coroutine = coroutine
        self._run = run
        self._scope = scope

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            self._run.waits += 1
            if self._run.waits == self._run.instant:
                self._scope.cancel()
            value, error = None, None
            try:
                value = yield waits_for
            except BaseException as thrown:
                error = thrown


def instants(backend: str, scenario: Scenario) -> int:
    run = CancelledRun(scenario, None)
    run_virtually(backend, run.run)
    return run.waits


@each
@pytest.mark.unmeasured
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_instant(scenario: Scenario, backend: str) -> None:
    for instant in range(1, instants(backend, scenario) + 1):
        run = CancelledRun(scenario, instant)
        run_virtually(backend, run.run)  # checks that all is quiet in the end

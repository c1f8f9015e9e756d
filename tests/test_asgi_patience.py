"""The scope that ASGI requests wait in on asyncio, on virtual time."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from gwproto_asgi.patience import Patience
from support.virtual_loop import run_virtually


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtually("asyncio", test)

    return run


async def elapsed(patience: Patience, deadline: float, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with patience.until(deadline=begun + deadline):
        await asyncio.sleep(seconds)
    return loop.time() - begun


@virtually
async def test_it_ends_what_takes_too_long_and_nothing_else() -> None:
    patience = Patience()
    assert await elapsed(patience, 5.0, 1.0) == 1.0
    assert not patience.cancelled_caught
    assert await elapsed(patience, 5.0, 9.0) == 5.0
    assert patience.cancelled_caught
    assert await elapsed(patience, 5.0, 1.0) == 1.0
    assert not patience.cancelled_caught
    assert await elapsed(patience, math.inf, 1000.0) == 1000.0
    assert await elapsed(patience, 1.0, 9.0) == 1.0  # earlier than what the timer was set to
    patience.close()


@virtually
async def test_a_timer_of_before_ends_nothing_outside() -> None:
    patience = Patience()
    await elapsed(patience, 5.0, 1.0)
    await asyncio.sleep(10.0)
    assert await elapsed(patience, 5.0, 9.0) == 5.0
    patience.close()


@virtually
async def test_cancelled_by_another_task() -> None:
    patience = Patience()
    asyncio.get_running_loop().call_later(2.0, patience.cancel)
    assert await elapsed(patience, math.inf, 9.0) == 2.0
    patience.cancel()  # nobody is inside
    assert await elapsed(patience, math.inf, 9.0) == 9.0


@virtually
async def test_who_runs_is_not_interrupted_by_itself() -> None:
    patience = Patience()
    with patience.until(deadline=math.inf):
        patience.cancel()
        await asyncio.sleep(1.0)
    assert not patience.cancelled_caught


@virtually
async def test_a_cancellation_that_is_somebody_elses_goes_on() -> None:
    patience = Patience()
    task = asyncio.ensure_future(elapsed(patience, 5.0, 9.0))
    loop = asyncio.get_running_loop()
    loop.call_later(2.0, patience.cancel)
    loop.call_later(2.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not patience.cancelled_caught

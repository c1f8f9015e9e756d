"""An asyncio event loop whose clock jumps: nobody waits, and the order of things is that of real time.

For tests without sockets or threads. What would wait for ever raises instead.
"""

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing

T = TypeVar("T")

START = 1_000.0  # the clock's first reading


class _Selector(selectors.SelectSelector):
    """Asks the system what is ready now; where the loop would wait it moves the loop's clock."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.loop.jump()
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when there is nothing to do, and then at once."""

    _scheduled: list[asyncio.TimerHandle]  # of the base class, a heap

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self._now = START
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        """As if something had kept the loop busy."""
        self._now += seconds

    def jump(self) -> None:
        """To the next timer."""
        if not self._scheduled or self._scheduled[0].when() == math.inf:  # so anyio sleeps for ever
            raise RuntimeError("every task waits for something that will never happen")
        self._now = max(self._now, self._scheduled[0].when())


def run_virtually(backend: str, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Run ``function(*arguments)`` on ``asyncio`` or ``trio``, on virtual time."""
    if backend == "trio":
        return trio.run(function, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))

    async def main() -> T:
        return await function(*arguments)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())

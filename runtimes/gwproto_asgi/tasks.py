"""Tasks beside an exchange: the watch for its client, its dials.

Most requests need the watch alone. anyio's task group costs about 100 µs on asyncio for that, a bare task 10.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

from anyio import create_task_group

logger = logging.getLogger("gwproto")


class Tasks(Protocol):
    """An asynchronous context manager; at its exit every task still running is cancelled."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object: ...

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, object]], *arguments: Any) -> None: ...


class AsyncioTasks:
    """A task's failure is logged, not raised: what runs here reports to the exchange by events."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, object]], *arguments: Any) -> None:
        task = asyncio.get_running_loop().create_task(function(*arguments))
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task beside an exchange failed", exc_info=error)


class AnyioTasks:
    """The same on any backend, by a task group."""

    __slots__ = ("_group",)

    def __init__(self) -> None:
        self._group = create_task_group()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, object]], *arguments: Any) -> None:
        self._group.start_soon(function, *arguments)

"""What a task of asyncio's waits in, for an eighth of what a cancel scope of anyio's costs."""

import asyncio
import math
from types import TracebackType
from typing import Self


class Patience:
    """A cancel scope that one task enters again and again, as an ``async`` function's ``with``. Not to be nested.

    To enter it is cheap because its timer is only set anew for an earlier deadline, or when it has fired too early. It
    is asyncio's own cancellation that it uses, which no scope of anyio's holds off.
    """

    __slots__ = ("_armed", "_before", "_called", "_handle", "_loop", "_task", "cancelled_caught", "deadline")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None  # who is inside
        self._before = 0  # how often that one had been cancelled when it entered
        self._called = False
        self._handle: asyncio.TimerHandle | None = None
        self._armed = math.inf  # when the timer fires
        self.deadline = math.inf
        self.cancelled_caught = False

    def until(self, *, deadline: float) -> Self:
        """To be entered, for no longer than this."""
        self.deadline = deadline
        return self

    def cancel(self) -> None:
        """Have whoever is inside come out. One that runs just now is not held up: it has to look for itself."""
        task = self._task
        if task is not None and not self._called and task is not asyncio.current_task():
            self._called = True
            task.cancel()

    def close(self) -> None:
        """For good: a timer that is left would keep alive what it would call."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def __enter__(self) -> Self:
        self._task = task = asyncio.current_task()
        assert task is not None
        self._before = task.cancelling()
        self._called = self.cancelled_caught = False
        if self.deadline < self._armed:
            self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if not self._called:
            return False
        assert task is not None
        # Cancelled by somebody else, too: that is theirs to catch (as in asyncio.timeouts).
        mine = task.uncancel() <= self._before
        self.cancelled_caught = mine and kind is not None and issubclass(kind, asyncio.CancelledError)
        return self.cancelled_caught

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = self.deadline
        self._handle = self._loop.call_at(self._armed, self._fired)

    def _fired(self) -> None:
        self._handle = None
        self._armed = math.inf
        if self._task is None:
            return
        if self._loop.time() < self.deadline:
            self._arm()
        else:
            self.cancel()

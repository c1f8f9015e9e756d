"""trio as the callbacks need it (``gwproto_raw.loops``)."""

from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import trio

from gwproto_raw.loops import Transport
from gwproto_trio.poller import Poller
from gwproto_trio.tasks import spawn

T = TypeVar("T")


class Loop:
    """The present trio run (see ``gwproto_raw.loops.Loop``)."""

    def __init__(self) -> None:
        # trio.current_time looks up whose clock it is, each time.
        self.clock = trio.lowlevel.current_clock().current_time

    @cached_property
    def poller(self) -> Poller:
        """Of this loop's sockets. Raises :class:`OSError` when there is no descriptor left."""
        return Poller()

    def call_soon(self, callback: Callable[[], None]) -> None:
        spawn(_call, callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> trio.CancelScope:
        scope = trio.CancelScope()
        spawn(_call_at, self.clock() + delay, callback, scope)
        return scope

    def start(
        self, work: Coroutine[Any, Any, None], done: Callable[[BaseException | None], None]
    ) -> trio.CancelScope:
        scope = trio.CancelScope()
        spawn(_perform, work, done, scope)
        return scope

    def run_in_thread(self, work: Callable[[], T], done: Callable[[Callable[[], T]], None]) -> None:
        spawn(_run_in_thread, work, done)

    def prepare(self, transport: Transport) -> Transport:
        return transport  # has these bounds


async def _call(callback: Callable[[], None]) -> None:
    callback()


async def _call_at(when: float, callback: Callable[[], None], scope: trio.CancelScope) -> None:
    with scope:
        await trio.sleep_until(when)
    if not scope.cancelled_caught:
        callback()


async def _perform(
    work: Coroutine[Any, Any, None], done: Callable[[BaseException | None], None], scope: trio.CancelScope
) -> None:
    error: Exception | None = None
    with scope:
        try:
            await work
        except Exception as caught:
            error = caught
    if not scope.cancelled_caught:
        done(error)


async def _run_in_thread(work: Callable[[], T], done: Callable[[Callable[[], T]], None]) -> None:
    try:
        made = await trio.to_thread.run_sync(work)
    except Exception as caught:
        error = caught

        def fail() -> NoReturn:
            raise error

        done(fail)
    else:
        done(lambda: made)

"""asyncio's event loops, and uvloop's, as the callbacks need them (``gwproto_raw.loops``)."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from gwproto_raw.loops import READ_SIZE, Clock, Transport

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on a loop of uvloop's, where that is installed, else on asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """The loop's monotonic clock, without detour.

    asyncio's asks ``time.monotonic``. uvloop's does once a turn, in whole milliseconds.
    """
    own = isinstance(loop, asyncio.BaseEventLoop) and type(loop).time is not asyncio.BaseEventLoop.time
    return loop.time if own else time.monotonic


def protocol_of(connection: object) -> asyncio.Protocol:
    """``connection`` for the loop. Loops ask for a protocol's methods, not for its base, and compiled classes
    (``docs/compiled.md``) can have no base that is not."""
    return cast("asyncio.Protocol", connection)


class Loop:
    """The running loop (see ``gwproto_raw.loops.Loop``)."""

    def __init__(self) -> None:
        self.own = own = asyncio.get_running_loop()
        self.clock = clock_of(own)
        self.call_soon = own.call_soon
        self.call_later = own.call_later

    def start(
        self, work: Coroutine[Any, Any, None], done: Callable[[BaseException | None], None]
    ) -> "asyncio.Task[None]":
        def ended(task: "asyncio.Task[None]") -> None:
            if not task.cancelled():
                done(task.exception())

        task = self.own.create_task(work)
        task.add_done_callback(ended)
        return task

    def run_in_thread(self, work: Callable[[], T], done: Callable[[Callable[[], T]], None]) -> None:
        self.own.run_in_executor(None, work).add_done_callback(lambda made: done(made.result))

    def prepare(self, transport: asyncio.Transport) -> Transport:
        transport.set_write_buffer_limits(1, 0)  # with 0, asyncio's TLS takes an empty buffer for a full one
        if hasattr(transport, "max_size"):  # asyncio's own reads 256 KiB; uvloop's 250, and it cannot be told
            transport.max_size = READ_SIZE
        return transport

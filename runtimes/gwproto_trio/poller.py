"""Which sockets are ready: one task waits for all of them.

A wait of trio's own takes a task's turn, and a system call, for each socket and each time: more than all that is done
with a chunk of a stream. Here a turn is for whatever has come meanwhile.
"""

import select
from collections.abc import Callable

import trio

from gwproto_trio.tasks import spawn

AVAILABLE = hasattr(select, "epoll")  # Linux alone has it
READABLE, WRITABLE = (select.EPOLLIN, select.EPOLLOUT) if AVAILABLE else (1, 4)


class Poller:
    """Calls back with the events of a file descriptor, as epoll(7) has them, as long as it is in that state.

    There is a task as long as anything is watched.
    """

    def __init__(self) -> None:
        """Raises :class:`OSError` when there is no descriptor left."""
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._scope = trio.CancelScope()

    def watch(self, fd: int, wanted: int, callback: Callable[[int], None]) -> None:
        """Call for these events from now on; for none, if there are none ``wanted``. Callbacks must not raise."""
        callbacks = self._callbacks
        if not wanted:  # epoll would tell of a broken connection all the same, again and again
            if callbacks.pop(fd, None) is not None:
                self._epoll.unregister(fd)
                if not callbacks:
                    self._scope.cancel()
        elif fd in callbacks:
            self._epoll.modify(fd, wanted)
        else:
            self._epoll.register(fd, wanted)
            if not callbacks:
                self._scope = trio.CancelScope()
                spawn(self._run, self._scope)
            callbacks[fd] = callback

    async def _run(self, scope: trio.CancelScope) -> None:
        fd = self._epoll.fileno()
        poll, callbacks = self._epoll.poll, self._callbacks
        with scope:
            while True:
                await trio.lowlevel.wait_readable(fd)
                for ready, events in poll(0):
                    callback = callbacks.get(ready)
                    if callback is not None:  # else it was given up by one of those before it
                        callback(events)

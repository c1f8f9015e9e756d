"""Tasks beside the callbacks.

They live as long as the run, not as who asked for them: connections to providers outlive the client's for which they
were dialled. So these are system tasks, each of them short or ended by whoever holds its scope.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

logger = logging.getLogger("gwproto")


def spawn(function: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Start a task. What goes wrong in it is an error of ours, and costs no more than what it was for."""
    trio.lowlevel.spawn_system_task(_guarded, function, *arguments, name=function)


async def _guarded(function: Callable[..., Awaitable[None]], *arguments: object) -> None:
    try:
        await function(*arguments)
    except Exception:
        logger.exception("a task failed inside the gateway")

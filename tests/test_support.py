"""The tests' own ground: virtual time and streams in memory."""

import socket

import anyio
import pytest

from support.memory import connected
from support.virtual_loop import run_virtually

_LINGER = (socket.SOL_SOCKET, socket.SO_LINGER, b"")

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@backends
def test_virtual_time_passes_in_order(backend: str) -> None:
    async def main() -> list[float]:
        woken: list[float] = []
        start = anyio.current_time()

        async def sleeper(seconds: float) -> None:
            await anyio.sleep(seconds)
            woken.append(anyio.current_time() - start)

        async with anyio.create_task_group() as tasks:
            for seconds in (86400.0, 0.25, 3.0):
                tasks.start_soon(sleeper, seconds)
        return woken

    assert run_virtually(backend, main) == [0.25, 3.0, 86400.0]


def test_waiting_for_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="never happen"):
        run_virtually("asyncio", anyio.sleep_forever)


@backends
def test_memory_streams_end_in_order_or_by_a_reset(backend: str) -> None:
    async def main() -> None:
        ours, theirs = connected()
        await theirs.send(b"ab")
        await theirs.send(b"c")
        await theirs.aclose()
        assert await ours.receive(2) == b"ab"
        assert await ours.receive() == b"c"
        with pytest.raises(anyio.EndOfStream):
            await ours.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await ours.send(b"x")

        ours, theirs = connected()
        theirs.setsockopt(*_LINGER)
        await theirs.send(b"last")
        await theirs.aclose()
        assert await ours.receive() == b"last"
        with pytest.raises(anyio.BrokenResourceError):
            await ours.receive()
        await ours.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await ours.receive()

    run_virtually(backend, main)

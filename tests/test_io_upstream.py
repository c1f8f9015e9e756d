"""Attempts over connections: opened, answered, lost, given back, and never left behind."""

import inspect
import itertools
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, TaskGroup

from gwproto import (
    Event,
    LossReason,
    Origin,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
    UpstreamRequest,
)
from gwproto_io.dialling import loss_reason
from gwproto_io.http1 import encode_request
from gwproto_io.keyring import Keyring
from gwproto_io.upstream import INLINE_SIZE, Pool, Upstreams
from support.codecs import with_each_codec
from support.memory import MemoryStream, connected
from support.virtual_loop import run_virtually

codec = with_each_codec(globals(), "Pool")

ORIGIN = Origin("http", "provider.example", 80)
REQUEST = UpstreamRequest(ORIGIN, "POST", "/v1", (), b"{}", credential="key")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
SECRET = (b"authorization", b"Bearer canary")


class World:
    """A pool whose connections end here."""

    def __init__(self, tasks: TaskGroup, *, delay: float = 0.0, error: Exception | None = None) -> None:
        self.pool = Pool({"key": SECRET}, dial=self.dial)
        self.upstreams = Upstreams(self.pool, tasks.start_soon)
        self.ours: list[MemoryStream] = []
        self.theirs: list[MemoryStream] = []
        self.dials: list[Origin] = []
        self.delay = delay
        self.error = error

    async def dial(self, origin: Origin) -> ByteStream:
        self.dials.append(origin)
        await anyio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        ours, theirs = connected()
        self.ours.append(ours)
        self.theirs.append(theirs)
        return ours

    async def events(self, count: int) -> list[Event]:
        return [await self.upstreams.next_event() for _ in range(count)]

    async def complete(self, attempt: int) -> None:
        """A whole exchange on whatever connection the pool gives."""
        await self.upstreams.open(attempt, REQUEST)
        assert isinstance(await self.upstreams.next_event(), UpstreamOpened)
        await self.theirs[-1].send(ANSWER)
        while not isinstance(await self.upstreams.next_event(), UpstreamEnd):
            pass

    @property
    def open(self) -> int:
        return sum(not stream.closed for stream in self.ours)


Test = Callable[[TaskGroup], Awaitable[None]]


def on_both(test: Test) -> Callable[[str], None]:
    """Run the test on asyncio and trio, in a task group that is cancelled at its end."""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            await test(tasks)
            tasks.cancel_scope.cancel()

    def run(backend: str) -> None:
        run_virtually(backend, main)

    return pytest.mark.parametrize("backend", ["asyncio", "trio"])(run)


@on_both
async def test_a_fresh_connection_and_then_the_same_again(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.upstreams.open(1, REQUEST)
    assert await world.upstreams.next_event() == UpstreamOpened(1, False)
    sent = await world.theirs[0].receive()
    assert sent.startswith(b"POST /v1 HTTP/1.1\r\nhost: provider.example\r\n")
    assert b"authorization: Bearer canary\r\n" in sent
    await world.theirs[0].send(ANSWER)
    head = UpstreamHead(1, 200, ((b"content-length", b"2"),))
    assert await world.events(3) == [head, UpstreamData(1, b"hi"), UpstreamEnd(1)]
    assert (world.pool.leases.leased, world.pool.leases.idle) == (0, 1)

    await world.upstreams.open(2, REQUEST)
    assert await world.upstreams.next_event() == UpstreamOpened(2, True)
    assert (len(world.dials), world.pool.leases.leased) == (1, 1)
    await world.upstreams.aclose()
    assert (world.open, world.pool.leases.leased, world.pool.leases.idle) == (0, 0, 0)


@on_both
async def test_a_connection_is_dialled_when_asked_for_a_fresh_one(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.complete(1)
    fresh = UpstreamRequest(ORIGIN, "POST", "/v1", (), b"{}", fresh=True)
    await world.upstreams.open(2, fresh)
    assert await world.upstreams.next_event() == UpstreamOpened(2, False)
    assert len(world.dials) == 2
    await world.upstreams.aclose()
    await world.pool.aclose()
    assert world.open == 0


@on_both
async def test_a_large_request_on_a_kept_connection(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.complete(1)
    await world.theirs[0].receive()
    body = b"x" * (INLINE_SIZE + 1)
    await world.upstreams.open(2, UpstreamRequest(ORIGIN, "POST", "/v1", (), body))
    assert await world.upstreams.next_event() == UpstreamOpened(2, True)
    received = b""
    while not received.endswith(body):
        received += await world.theirs[0].receive()
    await world.theirs[0].send(ANSWER)
    await world.events(3)
    assert world.pool.leases.idle == 1


@on_both
async def test_the_provider_closed_a_kept_connection(tasks: TaskGroup) -> None:
    for count in (1, 2):  # before the request is written, and when nothing answers it
        world = World(tasks)
        await world.complete(1)
        if count == 1:
            await world.theirs[0].aclose()
        await world.upstreams.open(2, REQUEST)
        if count == 2:
            assert await world.upstreams.next_event() == UpstreamOpened(2, True)
            await world.theirs[0].aclose()
        assert await world.upstreams.next_event() == UpstreamLost(2, LossReason.STALE)
        assert (world.open, world.pool.leases.leased) == (0, 0)


@on_both
async def test_losses_on_a_fresh_connection(tasks: TaskGroup) -> None:
    for sent, abrupt, why in [
        (b"", False, LossReason.RESET),
        (b"", True, LossReason.RESET),
        (b"HTTP/1.1 200", False, LossReason.RESET),
        (ANSWER[:-1], False, LossReason.TRUNCATED),
        (ANSWER[:-1], True, LossReason.RESET),
        (b"garbage\r\n\r\n", False, LossReason.PROTOCOL),
    ]:
        world = World(tasks)
        await world.upstreams.open(1, REQUEST)
        assert await world.upstreams.next_event() == UpstreamOpened(1, False)
        if abrupt:
            world.theirs[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"")
        await world.theirs[0].send(sent)
        await world.theirs[0].aclose()
        while not isinstance(event := await world.upstreams.next_event(), UpstreamLost):
            pass
        assert event == UpstreamLost(1, why)
        assert (world.open, world.pool.leases.leased, world.pool.leases.idle) == (0, 0, 0)


@on_both
async def test_the_connection_is_gone_before_the_request_is_written(tasks: TaskGroup) -> None:
    world = World(tasks)
    made = world.dial

    async def dial(origin: Origin) -> ByteStream:
        stream = await made(origin)
        await world.theirs[-1].aclose()
        return stream

    world.pool.dial = dial
    await world.upstreams.open(1, REQUEST)
    assert await world.upstreams.next_event() == UpstreamLost(1, LossReason.RESET)
    assert (world.open, world.pool.leases.leased) == (0, 0)


@on_both
async def test_failed_dials(tasks: TaskGroup) -> None:
    for error, why in [
        (ConnectionRefusedError(), LossReason.REFUSED),
        (socket.gaierror(), LossReason.DNS),
        (OSError("no route"), LossReason.UNREACHABLE),
        (ssl.SSLCertVerificationError(), LossReason.TLS),
        (UnicodeError("label too long"), LossReason.DNS),
    ]:
        world = World(tasks, error=error)
        await world.upstreams.open(1, REQUEST)
        assert await world.upstreams.next_event() == UpstreamLost(1, why)
        assert world.pool.leases.leased == 0


def test_causes_are_looked_through() -> None:
    wrapped = OSError("all attempts failed")
    wrapped.__cause__ = ExceptionGroup("several", [OSError(), ConnectionRefusedError()])
    assert loss_reason(wrapped) is LossReason.REFUSED
    assert loss_reason(OSError()) is LossReason.UNREACHABLE


@on_both
async def test_an_attempt_closed_while_it_is_dialled(tasks: TaskGroup) -> None:
    world = World(tasks, delay=5.0)
    await world.upstreams.open(1, REQUEST)
    await anyio.sleep(1.0)
    await world.upstreams.close(1)
    await world.upstreams.close(1)
    assert world.pool.leases.leased == 0
    with anyio.move_on_after(10.0):
        await world.upstreams.next_event()
    assert world.open == 0
    assert (len(world.dials), len(world.ours)) == (1, 0)


@on_both
async def test_a_dial_that_cannot_be_stopped_is_closed_when_it_succeeds(tasks: TaskGroup) -> None:
    world = World(tasks)
    made = world.dial

    async def dial(origin: Origin) -> ByteStream:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5.0)
            stream = await made(origin)
        return stream  # noqa: RET504 - to mypy the scope above may swallow what is raised in it

    world.pool.dial = dial
    await world.upstreams.open(1, REQUEST)
    await anyio.sleep(1.0)
    await world.upstreams.close(1)
    await anyio.sleep(10.0)
    assert (len(world.ours), world.open, world.pool.leases.leased) == (1, 0, 0)


@on_both
async def test_what_is_closed_before_its_end_is_taken_is_not_reused(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.upstreams.open(1, REQUEST)
    await world.upstreams.next_event()
    await world.theirs[0].send(ANSWER)
    assert isinstance(await world.upstreams.next_event(), UpstreamHead)  # the rest has been read, too
    await world.upstreams.close(1)
    assert await world.events(2) == [UpstreamData(1, b"hi"), UpstreamEnd(1)]
    assert (world.open, world.pool.leases.idle, world.pool.leases.leased) == (0, 0, 0)


@on_both
async def test_a_connection_that_says_close_is_closed(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.upstreams.open(1, REQUEST)
    await world.upstreams.next_event()
    await world.theirs[0].send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    await world.events(2)
    assert (world.open, world.pool.leases.idle, world.pool.leases.leased) == (0, 0, 0)


@on_both
async def test_waiting_is_cancel_safe(tasks: TaskGroup) -> None:
    world = World(tasks)
    with anyio.move_on_after(1.0):
        await world.upstreams.next_event()
    await world.upstreams.open(1, REQUEST)
    await world.upstreams.next_event()
    events: list[Event] = []
    for byte in ANSWER:
        await world.theirs[0].send(bytes([byte]))
        with anyio.move_on_after(1.0):
            while True:
                events.append(await world.upstreams.next_event())
    head = UpstreamHead(1, 200, ((b"content-length", b"2"),))
    assert events == [head, UpstreamData(1, b"h"), UpstreamData(1, b"i"), UpstreamEnd(1)]


@on_both
async def test_idle_connections_expire(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.complete(1)
    await anyio.sleep(60.0)
    await world.complete(2)
    assert (len(world.dials), world.open) == (2, 1)
    await world.pool.aclose()
    assert world.open == 0


@on_both
async def test_nothing_shows_a_secret(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.upstreams.open(1, REQUEST)
    event = await world.upstreams.next_event()
    shown = repr([REQUEST, event, world.pool, world.upstreams, world.pool.leases])
    assert "canary" not in shown
    await world.upstreams.aclose()


ELSEWHERE = Origin("https", "elsewhere.example", 443)
CREDENTIALS = {"key": SECRET, "long": (b"x-key", b"a-secret-that-is-long"), "short": (b"x-key", b"ollama")}
DESTINATIONS = {("key", ORIGIN), ("long", ORIGIN), ("long", ELSEWHERE), ("short", ELSEWHERE)}
HEADERS = ((), ((b"accept", b"text/event-stream"),))


@pytest.mark.parametrize("most", [1, 100])
def test_requests_that_begin_alike(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many heads are kept, each request is as if it was written alone."""
    monkeypatch.setattr("gwproto_io.keyring.MAX_HEADS", most)
    keyring = Keyring(CREDENTIALS, DESTINATIONS)
    heads = itertools.product((ORIGIN, ELSEWHERE), ("POST", "GET"), ("/v1", "/v2"), HEADERS)
    for head, name, body in itertools.product(
        heads, ("key", "long", "short", ""), (b"{}", b"", b"{}", b"[1]")
    ):
        request = UpstreamRequest(*head, body, name)
        expected = encode_request(request, CREDENTIALS.get(name))
        secret = b"a-secret-that-is-long" if name == "long" else b""
        served = not name or (name, request.origin) in DESTINATIONS
        assert keyring.encode(request) == ((expected, secret) if served else None)


@on_both
async def test_an_unknown_credential_opens_nothing(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.upstreams.open(1, UpstreamRequest(ORIGIN, "POST", "/", (), b"", credential="other"))
    assert await world.upstreams.next_event() == UpstreamLost(1, LossReason.UNREACHABLE)
    assert world.pool.leases.leased == 0


def _request(host: str, credential: str = "key") -> UpstreamRequest:
    return UpstreamRequest(Origin("http", host, 80), "POST", "/v1", (), b"{}", credential=credential)


async def _sent(world: World, attempt: int, request: UpstreamRequest) -> bytes:
    """The key that an attempt shows."""
    await world.upstreams.open(attempt, request)
    await world.upstreams.next_event()
    head = await world.theirs[-1].receive()
    await world.upstreams.close(attempt)
    return head.partition(b"authorization: Bearer ")[2].partition(b"\r")[0]


@on_both
async def test_a_secret_goes_where_its_configuration_sends_it(tasks: TaskGroup) -> None:
    """Also for a request that was planned by one configuration and is tried again under the next."""
    world = World(tasks)
    old, new = Origin("http", "old.example", 80), Origin("http", "new.example", 80)
    world.pool.reconfigure({"key": (b"authorization", b"Bearer first")}, {("key", old)})
    world.upstreams = Upstreams(world.pool, tasks.start_soon)
    assert await _sent(world, 1, _request("old.example")) == b"first"
    world.pool.reconfigure({"key": (b"authorization", b"Bearer second")}, {("key", new)})
    assert await _sent(world, 2, _request("new.example")) == b"second"
    assert await _sent(world, 3, _request("old.example")) == b"first"
    assert await _sent(world, 4, _request("other.example", "")) == b""
    world.pool.reconfigure({"key": (b"authorization", b"Bearer third")}, {("key", old)})
    assert (
        await _sent(world, 5, _request("old.example")) == b"third"
    )  # the one before may be worth nothing now
    world.upstreams = Upstreams(world.pool, tasks.start_soon)
    await world.upstreams.open(6, _request("new.example"))
    assert await world.upstreams.next_event() == UpstreamLost(6, LossReason.UNREACHABLE)
    await world.upstreams.close(6)
    assert world.pool.leases.leased == 0


@on_both
async def test_a_connection_outlives_another_configuration(tasks: TaskGroup) -> None:
    world = World(tasks)
    await world.complete(1)
    world.pool.reconfigure({"key": (b"authorization", b"Bearer second")}, {("key", ORIGIN)})
    await world.complete(2)
    assert len(world.dials) == 1


async def _visit(world: World, body: bytes) -> None:
    try:
        for attempt in (1, 2):
            await world.upstreams.open(attempt, UpstreamRequest(ORIGIN, "POST", "/v1", (), body))
            while not isinstance(await world.upstreams.next_event(), UpstreamEnd | UpstreamLost):
                pass
    finally:
        await world.upstreams.aclose()


async def _serve(world: World) -> None:
    """Answer every request in two pieces, a second apart."""
    served = 0
    while True:
        await anyio.sleep(0.5)
        if len(world.theirs) > served:
            served += 1
        if world.theirs:
            theirs = world.theirs[-1]
            try:
                with anyio.move_on_after(0.1):
                    await theirs.receive()
                    await theirs.send(ANSWER[:20])
                    await anyio.sleep(0.05)
                    await theirs.send(ANSWER[20:])
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return


async def _cancelled_at(step: int, body: bytes) -> bool:
    """Cancel a visit at its ``step``-th suspension; False when it has no so many."""
    finished = False
    async with anyio.create_task_group() as dials:
        world = World(dials, delay=0.25)
        dials.start_soon(partial(_serve, world))

        async def visit() -> None:
            nonlocal finished
            await _visit(world, body)
            finished = True

        async with anyio.create_task_group() as visits:
            visits.start_soon(visit)
            for _ in range(step):
                await anyio.sleep(0.05)
            visits.cancel_scope.cancel()
        await anyio.sleep(1.0)
        assert world.pool.leases.leased == 0
        assert world.open == world.pool.leases.idle
        await world.pool.aclose()
        assert world.open == 0
        dials.cancel_scope.cancel()
    return not finished


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("size", [1, INLINE_SIZE + 1])
def test_cancelled_at_any_time_nothing_is_left(backend: str, size: int) -> None:
    async def main() -> int:
        step = 0
        while await _cancelled_at(step, b"x" * size):
            step += 1
        return step

    assert run_virtually(backend, main) > 10


# Races


async def race(world: World, *, warm: bool = False) -> None:
    """Two attempts, both written, neither answered."""
    if warm:
        await world.complete(9)
    await world.upstreams.open(1, REQUEST)
    assert await world.upstreams.next_event() == UpstreamOpened(1, warm)
    await world.upstreams.open(2, REQUEST)
    assert await world.upstreams.next_event() == UpstreamOpened(2, False)


@on_both
async def test_the_first_event_of_any_attempt(tasks: TaskGroup) -> None:
    world = World(tasks)
    await race(world)
    first, second = world.theirs
    await second.send(ANSWER[:-1])
    assert [event.attempt for event in await world.events(2)] == [2, 2]  # type: ignore[union-attr]  # a provider's
    await first.send(ANSWER[:-1])
    assert [event.attempt for event in await world.events(2)] == [1, 1]  # type: ignore[union-attr]  # a provider's
    await second.send(b"i")
    assert await world.events(2) == [UpstreamData(2, b"i"), UpstreamEnd(2)]
    assert (world.pool.leases.leased, world.pool.leases.idle) == (1, 1)
    await first.send(b"i")
    assert await world.events(2) == [UpstreamData(1, b"i"), UpstreamEnd(1)]
    assert (world.pool.leases.leased, world.pool.leases.idle) == (0, 2)


@on_both
async def test_the_winner_loses_no_byte_when_the_other_is_closed(tasks: TaskGroup) -> None:
    world = World(tasks)
    await race(world)
    with anyio.move_on_after(1.0):  # both are being read
        await world.upstreams.next_event()
    await world.upstreams.close(2)
    await world.theirs[0].send(ANSWER)
    head = UpstreamHead(1, 200, ((b"content-length", b"2"),))
    assert await world.events(3) == [head, UpstreamData(1, b"hi"), UpstreamEnd(1)]
    assert (world.open, world.pool.leases.leased, world.pool.leases.idle) == (1, 0, 1)


@on_both
async def test_bytes_that_come_while_nobody_waits_are_kept(tasks: TaskGroup) -> None:
    world = World(tasks)
    await race(world)
    with anyio.move_on_after(1.0):
        await world.upstreams.next_event()
    for stream in world.theirs:
        await stream.send(ANSWER[:-1])
    await anyio.sleep(1.0)
    assert world.upstreams.take() is not None
    assert len(await world.events(3)) == 3
    await world.theirs[0].send(b"i")
    assert await world.events(2) == [UpstreamData(1, b"i"), UpstreamEnd(1)]
    await world.upstreams.aclose()
    assert world.pool.leases.leased == 0


@on_both
async def test_nobody_reads_ahead_of_what_is_taken(tasks: TaskGroup) -> None:
    world = World(tasks)
    await race(world)
    with anyio.move_on_after(1.0):
        await world.upstreams.next_event()
    await world.theirs[1].send(b"HTTP/1.1 200 OK\r\n\r\n")
    await anyio.sleep(1.0)
    await world.theirs[1].send(b"more")
    await anyio.sleep(1.0)
    assert world.ours[1]._incoming.buffer == b"more"
    await world.upstreams.aclose()


@on_both
async def test_one_is_lost_and_the_other_goes_on(tasks: TaskGroup) -> None:
    world = World(tasks)
    await race(world)
    await world.theirs[0].aclose()
    assert await world.upstreams.next_event() == UpstreamLost(1, LossReason.RESET)
    assert world.pool.leases.leased == 1
    await world.theirs[1].send(ANSWER)
    assert (await world.events(3))[-1] == UpstreamEnd(2)
    assert (world.open, world.pool.leases.leased, world.pool.leases.idle) == (1, 0, 1)


@on_both
async def test_a_dial_joins_while_the_other_is_read(tasks: TaskGroup) -> None:
    world = World(tasks, delay=2.0)
    await world.upstreams.open(1, REQUEST)
    assert await world.upstreams.next_event() == UpstreamOpened(1, False)
    await world.upstreams.open(2, REQUEST)
    with anyio.fail_after(3.0):
        assert await world.upstreams.next_event() == UpstreamOpened(2, False)
    await world.upstreams.open(3, REQUEST)
    await world.upstreams.close(3)
    await world.upstreams.aclose()
    await anyio.sleep(5.0)
    assert (world.open, world.pool.leases.leased, len(world.ours)) == (0, 0, 2)


@on_both
async def test_both_are_closed_before_their_reading_has_begun(tasks: TaskGroup) -> None:
    world = World(tasks)
    await race(world)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await world.upstreams.next_event()
    await world.upstreams.aclose()
    await anyio.sleep(1.0)
    assert (world.open, world.pool.leases.leased) == (0, 0)


def test_the_module_under_test_has_no_task_of_its_own() -> None:
    """Every task is spawned through the argument, so that its owner can end it."""
    import gwproto_io.upstream

    assert "create_task" not in inspect.getsource(gwproto_io.upstream)


@pytest.mark.sockets
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_over_tcp(backend: str) -> None:
    """A kept connection that the provider has closed, or written to unasked, is not lent again."""

    async def serve(listener: Any, unasked: bytes, closed: anyio.Event, count: list[int]) -> None:
        async def answer(stream: ByteStream) -> None:
            async with stream:
                count.append(1)
                await stream.receive()
                await stream.send(ANSWER)
                if len(count) == 1:
                    if unasked:
                        await stream.send(unasked)
                    else:
                        await stream.aclose()
                    closed.set()
                await anyio.sleep_forever()

        await listener.serve(answer)

    async def main() -> None:
        for unasked in (b"", b"HTTP/1.1 200 OK\r\n\r\n"):
            async with (
                await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
                anyio.create_task_group() as tasks,
            ):
                port = listener.extra(SocketAttribute.local_port)
                closed = anyio.Event()
                count: list[int] = []
                tasks.start_soon(serve, listener, unasked, closed, count)
                pool = Pool({})
                upstreams = Upstreams(pool, tasks.start_soon)
                request = UpstreamRequest(Origin("http", "127.0.0.1", port), "POST", "/", (), b"")
                for attempt in (1, 2):
                    await upstreams.open(attempt, request)
                    assert await upstreams.next_event() == UpstreamOpened(attempt, False)
                    while not isinstance(event := await upstreams.next_event(), UpstreamEnd):
                        assert not isinstance(event, UpstreamLost)
                    await closed.wait()
                    while pool.leases.idle and attempt == 1 and await quiet(pool):
                        await anyio.lowlevel.checkpoint()
                assert len(count) == 2
                await pool.aclose()
                tasks.cancel_scope.cancel()

    async def quiet(pool: Pool) -> bool:
        (kept,) = [connection for idle in pool.leases._idle.values() for _, connection in idle]
        return kept.quiet

    anyio.run(main, backend=backend)


@pytest.mark.sockets
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("scheme", "why"), [("http", LossReason.REFUSED), ("https", LossReason.TLS)])
def test_dials_that_fail_over_tcp(backend: str, scheme: str, why: LossReason) -> None:
    """Nobody listens; or who listens does not speak TLS."""

    async def answer_plainly(stream: ByteStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            if scheme == "http":
                await listener.aclose()
            else:
                tasks.start_soon(listener.serve, answer_plainly)
            upstreams = Upstreams(Pool({}), tasks.start_soon)
            await upstreams.open(1, UpstreamRequest(Origin(scheme, "127.0.0.1", port), "POST", "/", (), b""))
            with anyio.fail_after(20.0):
                assert await upstreams.next_event() == UpstreamLost(1, why)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)

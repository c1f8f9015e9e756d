"""Attempts over the asyncio server's connections: opened, answered, lost, given back, and never left behind."""

import asyncio
import logging
import math
import socket
import ssl
from collections.abc import Awaitable, Callable

import anyio
import pytest

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
from gwproto_asyncio.loops import Loop
from gwproto_raw.upstream import Pool, Upstreams
from support.memory import MemoryStream, connected
from support.transports import MemoryTransport
from support.virtual_loop import run_virtually

ORIGIN = Origin("http", "provider.example", 80)
REQUEST = UpstreamRequest(ORIGIN, "POST", "/v1", (), b"{}", credential="key")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
HEAD = UpstreamHead(1, 200, ((b"content-length", b"2"),))
SECRET = b"canary-of-a-provider"


class World:
    """A pool whose connections end here."""

    def __init__(self, *, delay: float = 0.0, error: Exception | None = None, room: float = math.inf) -> None:
        self.pool = Pool({"key": (b"authorization", b"Bearer " + SECRET)}, dial=self.dial, loop=Loop())
        self.notified = 0
        self.upstreams = Upstreams(self.pool)
        self.upstreams.begin(self.notify)
        self.ours: list[MemoryTransport] = []
        self.theirs: list[MemoryStream] = []
        self.dials = 0
        self.delay = delay
        self.error = error
        self.room = room

    def notify(self) -> None:
        self.notified += 1

    async def dial(self, origin: Origin, protocol: asyncio.Protocol) -> None:
        self.dials += 1
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        ours, theirs = connected()
        self.theirs.append(theirs)
        self.ours.append(MemoryTransport(protocol, ours, room=self.room))

    async def events(self) -> list[Event]:
        """All that has come by now."""
        await turns()
        events = list(self.upstreams.inbox)
        self.upstreams.inbox.clear()
        return events

    async def complete(self, attempt: int) -> None:
        """A whole exchange on whatever connection the pool gives."""
        self.upstreams.open(attempt, REQUEST)
        await turns()
        await self.theirs[-1].send(ANSWER)
        assert isinstance((await self.events())[-1], UpstreamEnd)

    @property
    def open(self) -> int:
        return sum(not transport.stream.closed for transport in self.ours)

    @property
    def leases(self) -> tuple[int, int]:
        return self.pool.leases.leased, self.pool.leases.idle


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    return lambda: run_virtually("asyncio", test)


@virtually
async def test_a_fresh_connection_and_then_the_same_again() -> None:
    world = World()
    world.upstreams.open(1, REQUEST)
    assert await world.events() == [UpstreamOpened(1, False)]
    sent = await world.theirs[0].receive()
    assert sent.startswith(b"POST /v1 HTTP/1.1\r\nhost: provider.example\r\n")
    assert b"authorization: Bearer canary-of-a-provider\r\n" in sent
    await world.theirs[0].send(ANSWER)
    assert await world.events() == [HEAD, UpstreamData(1, b"hi"), UpstreamEnd(1)]
    assert world.leases == (0, 1)
    assert world.notified == 2

    world.upstreams.open(2, REQUEST)
    assert await world.events() == [UpstreamOpened(2, True)]
    assert (world.dials, world.leases) == (1, (1, 0))
    world.upstreams.close_all()
    await turns()
    assert (world.open, world.leases) == (0, (0, 0))


@virtually
async def test_a_connection_is_dialled_when_asked_for_a_fresh_one() -> None:
    world = World()
    await world.complete(1)
    world.upstreams.open(2, UpstreamRequest(ORIGIN, "POST", "/v1", (), b"{}", fresh=True))
    assert await world.events() == [UpstreamOpened(2, False)]
    assert world.dials == 2
    world.upstreams.close_all()
    world.pool.close()
    await turns()
    assert world.open == 0


@virtually
async def test_a_kept_connection_that_ended_while_idle_is_not_used() -> None:
    world = World()
    await world.complete(1)
    await world.theirs[0].aclose()
    await turns()
    assert world.open == 0
    world.upstreams.open(2, REQUEST)
    assert await world.events() == [UpstreamOpened(2, False)]
    assert world.leases == (1, 0)


@virtually
async def test_a_kept_connection_that_says_something_while_idle_is_not_used() -> None:
    world = World()
    await world.complete(1)
    await world.theirs[0].send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    await turns()
    world.upstreams.open(2, REQUEST)
    assert await world.events() == [UpstreamOpened(2, False)]
    assert (world.open, world.leases) == (1, (1, 0))


@virtually
async def test_a_kept_connection_that_ends_under_a_request_is_stale() -> None:
    for abrupt in (False, True):
        world = World()
        await world.complete(1)
        if abrupt:
            world.theirs[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"")
        closing = asyncio.create_task(world.theirs[0].aclose())
        world.upstreams.open(2, REQUEST)  # before the loop has told
        assert await world.events() == [UpstreamOpened(2, True), UpstreamLost(2, LossReason.STALE)]
        await closing
        assert (world.open, world.leases) == (0, (0, 0))


@virtually
async def test_losses_on_a_fresh_connection() -> None:
    for sent, abrupt, why in [
        (b"", False, LossReason.RESET),
        (b"", True, LossReason.RESET),
        (b"HTTP/1.1 200", False, LossReason.RESET),
        (ANSWER[:-1], False, LossReason.TRUNCATED),
        (ANSWER[:-1], True, LossReason.RESET),
        (b"garbage\r\n\r\n", False, LossReason.PROTOCOL),
    ]:
        world = World()
        world.upstreams.open(1, REQUEST)
        assert await world.events() == [UpstreamOpened(1, False)]
        if abrupt:
            world.theirs[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"")
        await world.theirs[0].send(sent)
        await world.theirs[0].aclose()
        assert (await world.events())[-1] == UpstreamLost(1, why)
        assert (world.open, world.leases) == (0, (0, 0))


@virtually
async def test_a_body_that_ends_with_the_connection() -> None:
    world = World()
    world.upstreams.open(1, REQUEST)
    await turns()
    await world.theirs[0].send(b"HTTP/1.1 200 OK\r\n\r\nhi")
    await world.theirs[0].aclose()
    assert (await world.events())[2:] == [UpstreamData(1, b"hi"), UpstreamEnd(1)]
    assert (world.open, world.leases) == (0, (0, 0))


@virtually
async def test_failed_dials() -> None:
    for error, why in [
        (ConnectionRefusedError(), LossReason.REFUSED),
        (socket.gaierror(), LossReason.DNS),
        (OSError("no route"), LossReason.UNREACHABLE),
        (ssl.SSLCertVerificationError(), LossReason.TLS),
        (UnicodeError("label too long"), LossReason.DNS),
    ]:
        world = World(error=error)
        world.upstreams.open(1, REQUEST)
        assert await world.events() == [UpstreamLost(1, why)]
        assert world.leases == (0, 0)


def test_an_error_of_ours_in_a_dial(caplog: pytest.LogCaptureFixture) -> None:
    @virtually
    async def run() -> None:
        world = World(error=RuntimeError("a bug"))
        world.upstreams.open(1, REQUEST)
        assert await world.events() == [UpstreamLost(1, LossReason.UNREACHABLE)]

    with caplog.at_level(logging.ERROR, logger="gwproto"):
        run()
    assert "a bug" in caplog.text


@virtually
async def test_an_attempt_closed_while_it_is_dialled() -> None:
    world = World(delay=5.0)
    world.upstreams.open(1, REQUEST)
    await asyncio.sleep(1.0)
    world.upstreams.close(1)
    world.upstreams.close(1)
    assert world.leases == (0, 0)
    await asyncio.sleep(10.0)
    assert (world.dials, world.ours, list(world.upstreams.inbox)) == (1, [], [])


@virtually
async def test_a_dial_that_cannot_be_stopped_is_closed_when_it_succeeds() -> None:
    world = World()
    made = world.dial

    async def dial(origin: Origin, protocol: asyncio.Protocol) -> None:
        try:
            await asyncio.sleep(5.0)
        except asyncio.CancelledError:
            await asyncio.sleep(5.0)
        await made(origin, protocol)

    world.pool.dial = dial
    world.upstreams.open(1, REQUEST)
    await asyncio.sleep(1.0)
    world.upstreams.close(1)
    await asyncio.sleep(10.0)
    assert (len(world.ours), world.open, world.leases) == (1, 0, (0, 0))


@virtually
async def test_a_connection_that_says_close_is_closed() -> None:
    world = World()
    world.upstreams.open(1, REQUEST)
    await turns()
    await world.theirs[0].send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    assert isinstance((await world.events())[-1], UpstreamEnd)
    assert (world.open, world.leases) == (0, (0, 0))


@virtually
async def test_idle_connections_expire() -> None:
    world = World()
    await world.complete(1)
    await asyncio.sleep(60.0)
    await world.complete(2)
    await turns()
    assert (world.dials, world.open) == (2, 1)
    world.pool.close()
    await turns()
    assert world.open == 0


@virtually
async def test_a_request_that_the_provider_takes_slowly() -> None:
    """It is on the way once it is written."""
    world = World(room=10)
    world.upstreams.open(1, REQUEST)
    assert await world.events() == []
    world.ours[0].take(math.inf)
    assert await world.events() == [UpstreamOpened(1, False)]
    await world.theirs[0].send(ANSWER)
    assert (await world.events())[-1] == UpstreamEnd(1)


@virtually
async def test_an_answer_before_the_request_is_written() -> None:
    world = World(room=10)
    world.upstreams.open(1, REQUEST)
    await turns()
    await world.theirs[0].send(ANSWER[:-1])
    assert await world.events() == [UpstreamOpened(1, False), HEAD, UpstreamData(1, b"h")]
    world.ours[0].take(math.inf)
    assert await world.events() == []
    await world.theirs[0].aclose()
    assert await world.events() == [UpstreamLost(1, LossReason.TRUNCATED)]


@virtually
async def test_a_whole_answer_before_the_request_is_written() -> None:
    """What is left of the request must not run into the next one."""
    world = World(room=10)
    world.upstreams.open(1, REQUEST)
    await turns()
    await world.theirs[0].send(ANSWER)
    assert (await world.events())[-1] == UpstreamEnd(1)
    await turns()
    assert (world.open, world.leases) == (0, (0, 0))


@virtually
async def test_a_loss_before_the_request_is_written() -> None:
    world = World(room=10)
    world.upstreams.open(1, REQUEST)
    await turns()
    await world.theirs[0].aclose()
    assert await world.events() == [UpstreamOpened(1, False), UpstreamLost(1, LossReason.RESET)]
    assert world.leases == (0, 0)


@virtually
async def test_while_paused_no_provider_is_read() -> None:
    world = World()
    world.upstreams.open(1, REQUEST)
    await turns()
    world.upstreams.pause()
    world.upstreams.open(2, REQUEST)  # which was not there to be paused
    await world.events()
    for theirs in world.theirs:
        await theirs.send(ANSWER[:-2])
        await turns()
        await theirs.send(ANSWER[-2:])
    assert [event.attempt for event in await world.events()] == [2]  # type: ignore[union-attr]  # a provider's
    assert [transport.reading for transport in world.ours] == [False, False]
    world.upstreams.resume()
    assert {type(event) for event in await world.events()} == {UpstreamHead, UpstreamData, UpstreamEnd}
    assert world.leases == (0, 2)
    assert [transport.reading for transport in world.ours] == [True, True]


@virtually
async def test_what_is_given_back_while_paused_is_read_again() -> None:
    world = World()
    world.upstreams.open(1, REQUEST)
    await turns()
    await world.theirs[0].send(ANSWER)
    world.upstreams.paused = True
    assert isinstance((await world.events())[-1], UpstreamEnd)
    assert world.ours[0].reading
    await world.theirs[0].aclose()
    await turns()
    assert world.open == 0


@virtually
async def test_what_quotes_our_key_is_masked() -> None:
    world = World()
    world.upstreams.open(1, REQUEST)
    await turns()
    body = b"no such key: " + SECRET
    await world.theirs[0].send(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    assert (await world.events())[2] == UpstreamData(1, b"no such key: " + b"*" * len(SECRET))


@virtually
async def test_nothing_shows_a_secret() -> None:
    world = World()
    world.upstreams.open(1, REQUEST)
    shown = repr([REQUEST, await world.events(), world.pool, world.upstreams, world.pool.leases])
    assert "canary" not in shown


@virtually
async def test_the_first_event_of_any_attempt() -> None:
    world = World()
    for attempt in (1, 2):
        world.upstreams.open(attempt, REQUEST)
    await world.events()
    await world.theirs[1].send(ANSWER)
    assert [event.attempt for event in await world.events()] == [2] * 3  # type: ignore[union-attr]  # a provider's
    assert world.leases == (1, 1)
    await world.theirs[0].send(ANSWER)
    world.upstreams.close(1)
    assert await world.events() == []
    assert (world.open, world.leases) == (1, (0, 1))
    with pytest.raises(anyio.BrokenResourceError):
        await world.theirs[0].send(b"x")


@virtually
async def test_secrets_that_have_come_and_gone() -> None:
    """An exchange may use what was in force since it began."""
    world = World()
    world.pool.reconfigure({"key": (b"authorization", b"Bearer another")}, [])  # nowhere may it go
    world.upstreams.open(1, REQUEST)
    assert await world.events() == [UpstreamOpened(1, False)]
    assert b"canary" in await world.theirs[0].receive()
    world.upstreams.close_all()
    world.upstreams.begin(world.notify)
    world.upstreams.open(1, REQUEST)
    assert await world.events() == [UpstreamLost(1, LossReason.UNREACHABLE)]
    world.pool.reconfigure({"key": (b"authorization", b"Bearer another")}, [("key", ORIGIN)])
    world.upstreams.open(2, REQUEST)
    assert await world.events() == [UpstreamOpened(2, False)]
    assert b"another" in await world.theirs[1].receive()

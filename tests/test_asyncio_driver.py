"""The callback driver keeps the sentences of docs/driving.md."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import pytest
from test_driver import END, HEAD, OPEN, REQUEST, Scripted, Wakeable

from gwproto import (
    Abort,
    ClientData,
    ClientEnd,
    ClientGone,
    CloseUpstream,
    Command,
    Draining,
    Event,
    Exchange,
    OpenUpstream,
    SendData,
    UpstreamData,
    UpstreamEnd,
    UpstreamRequest,
)
from gwproto_asyncio.loops import Loop
from gwproto_io.sends import Send
from gwproto_raw.driver import Driver
from gwproto_raw.loops import Alarm
from support.virtual_loop import run_virtually

DATA = UpstreamData(1, b"x")


class World:
    """Both sides of an exchange. ``client`` and ``upstream``: events that are there."""

    def __init__(self, exchange: Exchange) -> None:
        self.loop = loop = Loop()
        self.log: list[object] = []
        self.client: deque[Event] = deque()
        self.upstream: deque[Event] = deque()
        self.writable = True
        self.during: Callable[[], None] = lambda: None  # called while something is performed
        self.ended = 0
        assert loop.clock == loop.own.time
        self.alarm = Alarm(loop, self.run)
        self.driver = Driver(exchange, self, Provider(self), self.alarm)

    def run(self) -> None:
        self.driver.run()

    def feed(self, *events: Event) -> None:
        self.upstream.extend(events)
        self.run()

    def exchanged(self, exchange: Exchange) -> None:
        self.ended += 1

    def take(self) -> Event | None:
        return self.client.popleft() if self.client else None

    def send(self, commands: Sequence[Send]) -> None:
        self.log.append(list(commands))
        self.during()

    def abort(self) -> None:
        self.log.append("abort")


class Provider:
    def __init__(self, world: World) -> None:
        self._world = world
        self.inbox = world.upstream

    def open(self, attempt: int, request: UpstreamRequest) -> None:
        self._world.log.append(("open", attempt))
        self._world.during()

    def close(self, attempt: int) -> None:
        self._world.log.append(("close", attempt))

    def close_all(self) -> None:
        self._world.log.append("close all")


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    return lambda: run_virtually("asyncio", test)


def times(exchange: Scripted) -> list[float]:
    return [at - exchange.times[0] for at in exchange.times]


@virtually
async def test_an_immediate_answer() -> None:
    exchange = Scripted(([HEAD, SendData(b"x"), END], math.inf, "finished"))
    world = World(exchange)
    world.run()
    world.run()
    assert world.log == [[HEAD, SendData(b"x"), END], "close all"]
    assert (exchange.inputs, world.ended) == (["start"], 1)


@virtually
async def test_a_conversation() -> None:
    end = UpstreamEnd(1)
    exchange = Scripted(
        ([], 60.0, "receiving"),
        ([], 60.0, "receiving"),
        ([OPEN], 5.0, "waiting"),
        ([HEAD, SendData(b"x")], 9.0, "waiting"),
        ([END], math.inf, "finished"),
    )
    world = World(exchange)
    world.feed(DATA)  # which is not its turn yet
    world.client.append(ClientData(b"{}"))
    world.run()
    assert world.log == []
    world.client.append(ClientEnd())
    world.run()
    world.feed(end)
    assert world.log == [("open", 1), [HEAD, SendData(b"x")], [END], "close all"]
    assert exchange.inputs == ["start", ClientData(b"{}"), ClientEnd(), DATA, end]


@virtually
async def test_commands_are_performed_in_their_order() -> None:
    close, again = CloseUpstream(1), OpenUpstream(2, REQUEST)
    exchange = Scripted(([close, HEAD, SendData(b"x"), again, SendData(b"y"), Abort()], math.inf, "finished"))
    world = World(exchange)
    world.run()
    assert world.log == [
        ("close", 1),
        [HEAD, SendData(b"x")],
        ("open", 2),
        [SendData(b"y")],
        "abort",
        "close all",
    ]


@virtually
async def test_what_performing_calls_back_waits_until_all_is_performed() -> None:
    exchange = Scripted(
        ([OPEN, OpenUpstream(2, REQUEST)], 5.0, "waiting"),
        ([HEAD], 5.0, "waiting"),
        ([], 5.0, "waiting"),
        ([END], math.inf, "finished"),
    )
    world = World(exchange)

    def during() -> None:
        world.during = lambda: None
        world.feed(DATA)
        world.driver.post(Draining())

    world.during = during
    world.run()
    assert world.log == [("open", 1), ("open", 2), [HEAD]]
    assert exchange.inputs == ["start", Draining(), DATA]
    world.feed(UpstreamEnd(1))
    assert world.ended == 1


@virtually
async def test_deadlines_tick() -> None:
    exchange = Scripted(
        ([OPEN], 5.0, "waiting"),
        ([CloseUpstream(1)], 2.0, "waiting"),
        ([], 3.0, "waiting"),
        ([HEAD, END], math.inf, "finished"),
    )
    world = World(exchange)
    world.run()
    await asyncio.sleep(20.0)
    assert world.log == [("open", 1), ("close", 1), [HEAD, END], "close all"]
    assert exchange.inputs == ["start", "tick", "tick", "tick"]
    assert times(exchange) == pytest.approx([0.0, 5.0, 7.0, 10.0])


@virtually
async def test_an_event_moves_the_deadline() -> None:
    exchange = Scripted(
        ([OPEN], 5.0, "waiting"),
        ([], 5.0, "waiting"),
        ([], 1.0, "waiting"),
        ([END], math.inf, "finished"),
    )
    world = World(exchange)
    world.run()
    for _ in range(3):
        await asyncio.sleep(4.0)
        world.feed(DATA)
    assert exchange.inputs == ["start", DATA, DATA, "tick"]
    assert times(exchange) == pytest.approx([0.0, 4.0, 8.0, 9.0])


@virtually
async def test_one_timer_serves_an_exchange_whose_deadline_moves_on() -> None:
    made = 0
    exchange = Scripted(*[([], 5.0, "waiting")] * 101, ([END], math.inf, "finished"))
    world = World(exchange)
    call_later = world.loop.call_later

    def counted(delay: float, callback: Callable[..., object]) -> asyncio.TimerHandle:
        nonlocal made
        made += 1
        return call_later(delay, callback)

    world.loop.call_later = counted  # type: ignore[assignment]  # takes no arguments for the callback
    world.run()
    for _ in range(100):
        world.feed(DATA)
    assert made == 1
    await asyncio.sleep(4.0)
    assert made == 1
    await asyncio.sleep(2.0)
    assert world.ended == 1


@virtually
async def test_nothing_is_given_while_the_client_has_not_taken_what_it_was_sent() -> None:
    exchange = Scripted(
        ([HEAD, SendData(b"x")], 1.0, "waiting"),
        ([], 5.0, "waiting"),
        ([END], math.inf, "finished"),
    )
    world = World(exchange)

    def full() -> None:
        world.writable = False

    world.during = full
    world.run()
    world.feed(DATA)
    await asyncio.sleep(10.0)
    assert exchange.inputs == ["start"]
    world.writable = True
    world.run()
    assert exchange.inputs == ["start", "tick", DATA]
    assert times(exchange) == pytest.approx([0.0, 10.0, 10.0])


@virtually
async def test_posts_do_not_wait_for_the_client_and_keep_their_order() -> None:
    exchange = Scripted(
        ([HEAD], math.inf, "waiting"),
        ([], math.inf, "waiting"),
        ([], math.inf, "finished"),
    )
    world = World(exchange)
    world.writable = False
    world.driver.post(Draining())
    world.driver.post(ClientGone())
    assert world.log == [[HEAD], "close all"]
    assert exchange.inputs == ["start", Draining(), ClientGone()]


@virtually
async def test_an_exchange_may_wake_its_driver() -> None:
    exchange = Wakeable(
        ([], math.inf, "waiting"),
        ([HEAD], math.inf, "waiting"),
        ([], math.inf, "waiting"),
        ([END], math.inf, "finished"),
    )
    world = World(exchange)
    world.run()
    await asyncio.sleep(3.0)
    exchange.news()
    assert exchange.inputs == ["start"]  # whoever wakes is busy with an exchange of its own

    def during() -> None:
        exchange.news()

    world.during = during  # in the middle of a write
    await asyncio.sleep(1.0)
    assert exchange.inputs == ["start", "tick", "tick"]
    world.writable = False
    exchange.news()
    await asyncio.sleep(1.0)
    assert world.ended == 0
    world.writable = True
    world.during = lambda: None
    world.run()
    assert world.log == [[HEAD], [END], "close all"]
    exchange.wake()
    await asyncio.sleep(1.0)
    assert world.ended == 1


class Failing(Scripted):
    def receive(self, event: Event, now: float) -> Sequence[Command]:
        raise AssertionError("a bug")


@virtually
async def test_our_own_error_ends_the_exchange() -> None:
    exchange = Failing(([OPEN], math.inf, "waiting"))
    world = World(exchange)
    world.run()
    world.feed(UpstreamEnd(1), UpstreamEnd(1))
    assert world.log == [("open", 1), "abort", "close all"]
    assert exchange.inputs == ["start", "abandon"]
    world.driver.post(ClientGone())
    assert world.ended == 1


def test_our_own_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class FailingTwice(Failing):
        def abandon(self, now: float) -> Sequence[Command]:
            raise AssertionError("a second bug")

    @virtually
    async def run() -> None:
        world = World(FailingTwice(([OPEN], math.inf, "waiting")))
        world.feed(DATA)
        assert world.log == [("open", 1), "abort", "close all"]
        world.feed(DATA)
        assert world.ended == 1

    with caplog.at_level(logging.ERROR, logger="gwproto"):
        run()
    assert [record.exc_text and record.exc_text.splitlines()[-1] for record in caplog.records] == [
        "AssertionError: a bug",
        "AssertionError: a second bug",
    ]


@virtually
async def test_abandoned_from_outside() -> None:
    exchange = Scripted(([OPEN], 1.0, "waiting"))
    world = World(exchange)
    world.run()
    world.driver.abandon()
    assert world.log == [("open", 1), "abort", "close all"]
    await asyncio.sleep(5.0)
    assert exchange.inputs == ["start", "abandon"]


# Alarms


@virtually
async def test_an_alarm() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    rung: list[float] = []
    alarm = Alarm(Loop(), lambda: rung.append(loop.time() - start))
    alarm.set(start + 5.0)
    alarm.set(start + 3.0)
    alarm.set(start + 4.0)
    await asyncio.sleep(10.0)
    assert rung == pytest.approx([4.0])
    alarm.set(start + 11.0)
    alarm.set(math.inf)
    await asyncio.sleep(10.0)
    alarm.set(start + 21.0)
    alarm.stop()
    alarm.stop()
    await asyncio.sleep(10.0)
    alarm.set(start)
    await asyncio.sleep(0.1)
    assert rung == pytest.approx([4.0, 30.0])


@virtually
async def test_an_alarm_that_is_a_trifle_early_is_not_rung_again_and_again() -> None:
    """A loop that counts milliseconds calls up to half of one too early."""
    loop = asyncio.get_running_loop()
    reads = 0

    def clock() -> float:
        nonlocal reads
        reads += 1
        return loop.time() - 0.0004

    rung: list[float] = []
    early = Loop()
    early.clock = clock
    alarm = Alarm(early, lambda: rung.append(loop.time()))
    alarm.set(loop.time() + 1.0)
    await asyncio.sleep(2.0)
    assert len(rung) == 1
    assert reads < 6

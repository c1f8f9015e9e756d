"""The awaiting driver keeps the sentences of docs/driving.md, on asyncio and trio."""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest

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
    Origin,
    RequestHead,
    SendData,
    SendEnd,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamRequest,
)
from gwproto_io.driver import Interrupts, drive
from gwproto_io.sends import Send
from support.virtual_loop import run_virtually

REQUEST = UpstreamRequest(Origin("http", "h", 80), "POST", "/", (), b"")
HEAD = SendHead(200, ())
OPEN = OpenUpstream(1, REQUEST)
END = SendEnd()


class Scripted(Exchange):
    """Answers every input with the next of ``script``: commands, the next deadline (seconds from now), the state."""

    def __init__(self, *script: tuple[Sequence[Command], float, str]) -> None:
        super().__init__(RequestHead("POST", "/", ()), "id", 0.0)
        self._script = deque(script)
        self._deadline = math.inf
        self.inputs: list[object] = []
        self.times: list[float] = []

    @property
    def deadline(self) -> float:
        return self._deadline

    def _next(self, what: object, now: float) -> Sequence[Command]:
        assert not self.finished
        assert not self.times or now >= self.times[-1]
        self.inputs.append(what)
        self.times.append(now)
        commands, after, state = self._script.popleft()
        self._deadline = now + after
        self.receiving = state == "receiving"
        self.finished = state == "finished"
        return commands

    def start(self, now: float) -> Sequence[Command]:
        return self._next("start", now)

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        return self._next(event, now)

    def tick(self, now: float) -> Sequence[Command]:
        assert now >= self._deadline
        return self._next("tick", now)

    def abandon(self, now: float) -> Sequence[Command]:
        self.inputs.append("abandon")
        self.finished = True
        return [Abort()]


class Source:
    """Events, each after a pause from when it was first awaited."""

    def __init__(self, *events: tuple[float, Event]) -> None:
        self._events = deque(events)
        self._due = -math.inf

    def take(self) -> Event | None:
        return self._events.popleft()[1] if self._events and self._events[0][0] == 0 else None

    async def next_event(self) -> Event:
        if not self._events:
            await anyio.sleep_forever()
        pause, event = self._events[0]
        if pause:
            if self._due == -math.inf:
                self._due = anyio.current_time() + pause
            await anyio.sleep_until(self._due)
            self._due = -math.inf
        self._events.popleft()
        return event


class Peer(Source):
    """Both sides of an exchange; notes what is performed in ``log``, writing takes ``write_time``."""

    def __init__(self, *events: tuple[float, Event], log: list[object], write_time: float = 0.0) -> None:
        super().__init__(*events)
        self.log = log
        self.write_time = write_time

    async def send(self, commands: Sequence[Send]) -> None:
        await anyio.sleep(self.write_time)
        self.log.append(list(commands))

    def abort(self) -> None:
        self.log.append("abort")

    async def open(self, attempt: int, request: UpstreamRequest) -> None:
        self.log.append(("open", attempt))

    async def close(self, attempt: int) -> None:
        self.log.append(("close", attempt))

    async def aclose(self) -> None:
        self.log.append("aclose")


async def perform(
    exchange: Exchange,
    client: Sequence[tuple[float, Event]] = (),
    upstream: Sequence[tuple[float, Event]] = (),
    *,
    write_time: float = 0.0,
    posts: Sequence[tuple[float, ClientGone | Draining]] = (),
    cancel_after: float = math.inf,
) -> list[object]:
    log: list[object] = []
    interrupts = Interrupts()

    async def post() -> None:
        for pause, event in posts:
            await anyio.sleep(pause)
            interrupts.post(event)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post)
        with anyio.move_on_after(cancel_after):
            await drive(
                exchange,
                Peer(*client, log=log, write_time=write_time),
                Peer(*upstream, log=log),
                interrupts,
                anyio.current_time,
            )
        tasks.cancel_scope.cancel()
    return log


def on_both(test: Callable[[], Awaitable[None]]) -> Callable[[str], None]:
    def run(backend: str) -> None:
        run_virtually(backend, test)

    return pytest.mark.parametrize("backend", ["asyncio", "trio"])(run)


@on_both
async def test_an_immediate_answer() -> None:
    exchange = Scripted(([HEAD, SendData(b"x"), END], math.inf, "finished"))
    assert await perform(exchange) == [[HEAD, SendData(b"x"), END], "aclose"]
    assert exchange.inputs == ["start"]


@on_both
async def test_a_conversation() -> None:
    data, end = UpstreamData(1, b"x"), UpstreamEnd(1)
    exchange = Scripted(
        ([], 60.0, "receiving"),
        ([], 60.0, "receiving"),
        ([OPEN], 5.0, "waiting"),
        ([HEAD, SendData(b"x")], 9.0, "waiting"),
        ([END], math.inf, "finished"),
    )
    log = await perform(exchange, [(1.0, ClientData(b"{}")), (1.0, ClientEnd())], [(1.0, data), (1.0, end)])
    assert log == [("open", 1), [HEAD, SendData(b"x")], [END], "aclose"]
    assert exchange.inputs == ["start", ClientData(b"{}"), ClientEnd(), data, end]


@on_both
async def test_a_client_whose_body_is_complete_is_asked_no_more() -> None:
    """Even if there is nothing to be performed yet: the exchange may share another one's answer."""
    end = UpstreamEnd(1)
    exchange = Scripted(([], 60.0, "receiving"), ([], 60.0, "waiting"), ([HEAD, END], math.inf, "finished"))
    await perform(exchange, [(1.0, ClientEnd()), (1.0, ClientEnd())], [(1.0, end)])
    assert exchange.inputs == ["start", ClientEnd(), end]


@on_both
async def test_commands_are_performed_in_their_order() -> None:
    close, again = CloseUpstream(1), OpenUpstream(2, REQUEST)
    exchange = Scripted(([close, HEAD, SendData(b"x"), again, SendData(b"y"), Abort()], math.inf, "finished"))
    assert await perform(exchange) == [
        ("close", 1),
        [HEAD, SendData(b"x")],
        ("open", 2),
        [SendData(b"y")],
        "abort",
        "aclose",
    ]


@on_both
async def test_deadlines_tick() -> None:
    exchange = Scripted(
        ([OPEN], 5.0, "waiting"),
        ([CloseUpstream(1)], 2.0, "waiting"),
        ([], 3.0, "waiting"),
        ([HEAD, END], math.inf, "finished"),
    )
    log = await perform(exchange)
    assert log == [("open", 1), ("close", 1), [HEAD, END], "aclose"]
    assert exchange.inputs == ["start", "tick", "tick", "tick"]
    assert [at - exchange.times[0] for at in exchange.times] == [0.0, 5.0, 7.0, 10.0]


@on_both
async def test_an_event_moves_the_deadline() -> None:
    data = UpstreamData(1, b"")
    exchange = Scripted(
        ([OPEN], 5.0, "waiting"),
        ([], 5.0, "waiting"),
        ([], 1.0, "waiting"),
        ([END], math.inf, "finished"),
    )
    await perform(exchange, upstream=[(4.0, data), (4.0, data), (4.0, data)])
    assert exchange.inputs == ["start", data, data, "tick"]
    assert [at - exchange.times[0] for at in exchange.times] == [0.0, 4.0, 8.0, 9.0]


@on_both
async def test_a_deadline_never_interrupts_a_write() -> None:
    exchange = Scripted(([HEAD, SendData(b"x")], 1.0, "waiting"), ([END], math.inf, "finished"))
    assert await perform(exchange, write_time=10.0) == [[HEAD, SendData(b"x")], [END], "aclose"]
    assert exchange.times[1] - exchange.times[0] == 10.0


@on_both
async def test_a_deadline_that_has_passed_comes_before_an_event_that_is_there() -> None:
    data = UpstreamData(1, b"x")
    exchange = Scripted(
        ([HEAD], 1.0, "waiting"),
        ([], 5.0, "waiting"),
        ([END], math.inf, "finished"),
    )
    await perform(exchange, upstream=[(0.0, data)], write_time=2.0)
    assert exchange.inputs == ["start", "tick", data]


@on_both
async def test_the_client_leaves_while_a_provider_is_awaited() -> None:
    exchange = Scripted(([OPEN], math.inf, "waiting"), ([CloseUpstream(1)], math.inf, "finished"))
    log = await perform(exchange, posts=[(3.0, ClientGone())])
    assert log == [("open", 1), ("close", 1), "aclose"]
    assert exchange.inputs == ["start", ClientGone()]
    assert exchange.times[1] - exchange.times[0] == 3.0


@on_both
async def test_posts_wait_for_a_write_and_keep_their_order() -> None:
    exchange = Scripted(
        ([HEAD], math.inf, "waiting"),
        ([], math.inf, "waiting"),
        ([], math.inf, "finished"),
    )
    log = await perform(exchange, write_time=9.0, posts=[(1.0, Draining()), (1.0, ClientGone())])
    assert log == [[HEAD], "aclose"]
    assert exchange.inputs == ["start", Draining(), ClientGone()]


class Wakeable(Scripted):
    wakeable = True

    def news(self) -> None:
        self._deadline = self.times[-1]
        self.wake()


@on_both
async def test_an_exchange_may_wake_its_driver() -> None:
    exchange = Wakeable(
        ([], math.inf, "waiting"), ([HEAD], math.inf, "waiting"), ([END], math.inf, "finished")
    )

    async def wake() -> None:
        await anyio.sleep(3.0)
        exchange.news()
        await anyio.sleep(1.0)
        exchange.news()  # in the middle of a write

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wake)
        log = await perform(exchange, write_time=2.0)
    assert log == [[HEAD], [END], "aclose"]
    assert exchange.inputs == ["start", "tick", "tick"]
    assert [at - exchange.times[0] for at in exchange.times] == [0.0, 3.0, 5.0]


@on_both
async def test_our_own_error_is_logged_and_answered() -> None:
    class Failing(Scripted):
        def receive(self, event: Event, now: float) -> Sequence[Command]:
            raise AssertionError("a bug")

    exchange = Failing(([OPEN], math.inf, "waiting"))
    assert await perform(exchange, upstream=[(1.0, UpstreamEnd(1))]) == [("open", 1), "abort", "aclose"]
    assert exchange.inputs == ["start", "abandon"]


@on_both
async def test_cancelled_while_waiting() -> None:
    exchange = Scripted(([OPEN], math.inf, "waiting"))
    assert await perform(exchange, cancel_after=1.0) == [("open", 1), "abort", "aclose"]
    assert exchange.inputs == ["start", "abandon"]


@on_both
async def test_cancelled_while_writing() -> None:
    exchange = Scripted(([HEAD], math.inf, "waiting"))
    assert await perform(exchange, write_time=9.0, cancel_after=1.0) == ["abort", "aclose"]
    assert exchange.inputs == ["start", "abandon"]


@on_both
async def test_cancelled_in_the_last_write() -> None:
    exchange = Scripted(([HEAD, END], math.inf, "finished"))
    assert await perform(exchange, write_time=9.0, cancel_after=1.0) == ["aclose"]


@on_both
async def test_a_machine_that_fails_twice_still_leaves_no_connection() -> None:
    class Failing(Scripted):
        def abandon(self, now: float) -> Sequence[Command]:
            raise AssertionError("a second bug")

    log: list[object] = []
    peer = Peer(log=log)
    with pytest.raises(AssertionError, match="second"):
        await drive(Failing(), peer, peer, Interrupts(), anyio.current_time)
    assert log == ["abort", "aclose"]

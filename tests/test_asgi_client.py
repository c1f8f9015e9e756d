"""One request's client behind ASGI's two callables."""

from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest
import trio
import trio.testing

from gwproto import (
    ClientData,
    ClientEnd,
    ClientGone,
    Delegate,
    Event,
    SendData,
    SendEnd,
    SendHead,
)
from gwproto_asgi.client import LINGER_TIMEOUT, WRITE_TIMEOUT, AsgiClient
from gwproto_asgi.scope import Message, Receive, Scope
from gwproto_io.driver import Interrupts
from gwproto_ops.telemetry import Page, Telemetry

pytestmark = pytest.mark.anyio

HEAD = SendHead(200, ((b"content-type", b"text/plain"), (b"connection", b"close")))


class Pages(Telemetry):
    def answer(self, name: str, query: str) -> Page:
        page = 203, ((b"x-query", query.encode()),), name.encode()
        return page if name == "at once" else lambda: page


class Server:
    """Gives the messages it was given, then waits for ever; keeps what is sent."""

    def __init__(
        self,
        *messages: Message,
        headers: Sequence[tuple[bytes, bytes]] = (),
        http_version: str = "1.1",
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.scope: Scope = {"type": "http", "http_version": http_version, "headers": list(headers)}
        self.messages = list(messages)
        self.sent: list[Message] = []
        self.interrupts = Interrupts()
        self.uploaded = 0
        self.on_receive: Receive | None = None
        self.on_send: Callable[[Message], Awaitable[None]] | None = None
        self.client = AsgiClient(
            self.scope,
            self.receive,
            self.send,
            self.interrupts,
            clock=clock,
            telemetry=Pages(),
            on_upload=self.on_upload,
        )

    async def receive(self) -> Message:
        if self.on_receive is not None:
            return await self.on_receive()
        if not self.messages:
            await anyio.sleep_forever()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(message)

    def on_upload(self) -> None:
        self.uploaded += 1

    async def events(self) -> list[Event]:
        events: list[Event] = []
        while not events or isinstance(events[-1], ClientData):
            events.append(await self.client.next_event())
        return events


def upload(body: bytes | None, more: bool = True) -> Message:
    message: Message = {"type": "http.request"}
    if body is not None:
        message["body"] = body
    if more:
        message["more_body"] = True
    return message


START: Message = {"type": "http.response.start", "status": 200, "headers": HEAD.headers}
DISCONNECT: Message = {"type": "http.disconnect"}


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("messages", "events", "uploads"),
    [
        ([upload(None, False)], [ClientEnd()], 1),
        ([upload(b"{}", False)], [ClientData(b"{}"), ClientEnd()], 1),
        (
            [upload(b"{"), upload(b"}"), upload(b"", False)],
            [ClientData(b"{"), ClientData(b"}"), ClientEnd()],
            1,
        ),
        ([upload(b""), upload(None), upload(b"{}", False)], [ClientData(b"{}"), ClientEnd()], 1),
        ([upload(b"{"), DISCONNECT], [ClientData(b"{"), ClientGone()], 0),
        ([DISCONNECT], [ClientGone()], 0),
    ],
)
async def test_the_request_body_becomes_events(
    messages: list[Message], events: list[Event], uploads: int
) -> None:
    server = Server(*messages)
    assert await server.events() == events
    assert server.uploaded == uploads


async def test_one_batch_is_one_body_message() -> None:
    server = Server()
    await server.client.send([HEAD, SendData(b"a"), SendData(b"b"), SendData(b"c")])
    await server.client.send([SendData(b"d"), SendEnd()])
    assert server.sent == [START, part(b"abc"), part(b"d", more=False)]


async def test_a_head_alone_is_sent_at_once() -> None:
    server = Server()
    await server.client.send([HEAD])
    assert server.sent == [START]
    await server.client.send([SendEnd()])
    assert server.sent == [START, part(b"", more=False)]


async def test_connection_fields_do_not_exist_in_http_2() -> None:
    server = Server(http_version="2")
    await server.client.send([HEAD, SendEnd()])
    assert list(server.sent[0]["headers"]) == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize("name", ["at once", "in a thread"])
async def test_what_the_core_delegates_is_answered_here(name: str) -> None:
    server = Server()
    await server.client.send([Delegate(name, "/x")])
    assert server.sent == [
        {"type": "http.response.start", "status": 203, "headers": ((b"x-query", b"/x"),)},
        part(name.encode(), more=False),
    ]


async def test_nothing_is_sent_after_abort() -> None:
    server = Server()
    await server.client.send([HEAD, SendData(b"a")])
    server.client.abort()
    await server.client.send([SendData(b"b"), SendEnd()])
    assert server.sent == [START, part(b"a")]
    assert not server.interrupts.pending


async def test_the_watch_reports_that_the_client_is_gone() -> None:
    server = Server(DISCONNECT)
    await server.client.watch()
    assert list(server.interrupts.pending) == [ClientGone()]
    await server.client.send([HEAD, SendEnd()])
    assert server.sent == []


async def test_a_disconnect_after_the_response_is_no_news() -> None:
    server = Server(DISCONNECT)
    await server.client.send([HEAD, SendEnd()])
    await server.client.watch()
    assert not server.interrupts.pending


async def test_a_server_that_raises_says_that_the_client_is_gone() -> None:
    server = Server()

    async def refuse(_: Message) -> None:
        raise OSError("client disconnected")

    server.on_send = refuse
    await server.client.send([HEAD, SendData(b"a")])
    assert list(server.interrupts.pending) == [ClientGone()]
    await server.client.send([SendData(b"b")])
    assert server.sent == []


def test_a_client_that_takes_nothing_is_gone_after_a_minute() -> None:
    async def main() -> None:
        server = Server(clock=trio.current_time)
        await server.client.send([HEAD])

        async def stall(_: Message) -> None:
            await trio.sleep_forever()

        server.on_send = stall
        before = trio.current_time()
        await server.client.send([SendData(b"a")])
        assert trio.current_time() - before == WRITE_TIMEOUT
        assert list(server.interrupts.pending) == [ClientGone()]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_an_early_answer_outlives_the_upload() -> None:
    chunks = [upload(b"x" * 10) for _ in range(30)]
    server = Server(*chunks, upload(b"", more=False), headers=[(b"transfer-encoding", b"chunked")])
    await server.client.send([HEAD, SendData(b"no"), SendEnd()])
    assert server.messages == []
    assert server.sent == [START, part(b"no"), part(b"", more=False)]


async def test_an_early_answer_does_not_wait_for_a_client_that_left() -> None:
    server = Server(upload(b"x"), DISCONNECT, headers=[(b"content-length", b"9")])
    await server.client.send([HEAD, SendData(b"no"), SendEnd()])
    assert server.sent == [START, part(b"no"), part(b"", more=False)]


def test_an_early_answer_waits_for_a_slow_upload_no_longer_than_its_limit() -> None:
    async def main() -> None:
        server = Server(upload(b"x"), headers=[(b"content-length", b"9")], clock=trio.current_time)
        before = trio.current_time()
        await server.client.send([HEAD, SendData(b"no"), SendEnd()])
        assert trio.current_time() - before == LINGER_TIMEOUT
        assert server.sent == [START, part(b"no"), part(b"", more=False)]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_upload_is_read_on_while_the_response_ends() -> None:
    """Hypercorn's queue of unread messages holds ten, and its last ``send`` waits for room in it."""

    async def main() -> None:
        to_app, queue = anyio.create_memory_object_stream[Message](10)
        server = Server(headers=[(b"transfer-encoding", b"chunked")], clock=trio.current_time)

        async def fill(message: Message) -> None:
            if not message.get("more_body", True):
                for _ in range(10 - to_app.statistics().current_buffer_used):
                    to_app.send_nowait(upload(b"x"))
                await to_app.send(DISCONNECT)

        server.on_send = fill
        server.on_receive = queue.receive
        with to_app, queue, trio.fail_after(LINGER_TIMEOUT + 1):
            await server.client.send([HEAD, SendEnd()])
        assert server.sent[-1] == part(b"", more=False)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"0")]])
async def test_without_a_body_the_end_is_sent_at_once(headers: list[tuple[bytes, bytes]]) -> None:
    server = Server(headers=headers)
    await server.client.send([HEAD, SendData(b"no"), SendEnd()])
    assert server.sent == [START, part(b"no", more=False)]


async def test_a_body_that_was_read_is_not_waited_for() -> None:
    server = Server(upload(b"{}", more=False), headers=[(b"content-length", b"2")])
    assert await server.events() == [ClientData(b"{}"), ClientEnd()]
    await server.client.send([HEAD, SendData(b"yes"), SendEnd()])
    assert server.sent == [START, part(b"yes", more=False)]

"""The trio server on loopback sockets: listening, stopping, running out of descriptors."""

import errno
import os
import signal
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from test_asyncio_server import PAGE, Pages
from test_io_tls import server_context, trusted
from test_trio_connection import CONTENT, GET, JSON_ANSWER, STREAM_BODY, STREAM_HEAD, framed, post, statuses

from gwproto import (
    Ending,
    Event,
    LossReason,
    Origin,
    Outcome,
    UpstreamEnd,
    UpstreamLost,
    UpstreamOpened,
    UpstreamRequest,
)
from gwproto.config import ServerSettings
from gwproto_ops.deployment import Deployment
from gwproto_raw import connection
from gwproto_raw.upstream import Pool, Upstreams
from gwproto_trio import Server, serve
from gwproto_trio.connecting import dial_tcp
from gwproto_trio.loops import Loop
from support.conversation import DONE, STOP, configuration, provider

__all__ = ["server_context", "trusted"]  # fixtures

pytestmark = pytest.mark.sockets

PATIENCE = 20.0  # seconds after which a test that hangs is a failure


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def deployment(provider_port: int = 1, **server: Any) -> Deployment:
    target = provider("a", base_url=f"http://127.0.0.1:{provider_port}/v1")
    return Deployment(
        configuration(target, server=ServerSettings(**server)), {"a": (b"authorization", b"Bearer upstream")}
    )


async def provide(sock: socket.socket, answer: bytes, gone: trio.Event) -> None:
    """A provider that answers every request with the same bytes."""
    listening = trio.SocketListener(trio.socket.from_stdlib_socket(sock))

    async def answer_all(stream: trio.SocketStream) -> None:
        try:
            while (await stream.receive_some()).strip():
                await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass
        gone.set()

    await trio.serve_listeners(answer_all, [listening])


async def connect(sock: socket.socket) -> trio.SocketStream:
    return await trio.open_tcp_stream(*sock.getsockname())


def on_trio(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        with trio.fail_after(PATIENCE):
            await test()

    return lambda: trio.run(main)


async def until_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while some := await stream.receive_some():
        data += some
    return data


async def until(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        some = await stream.receive_some()
        assert some, data
        data += some
    return data


@on_trio
async def test_a_chat_over_sockets() -> None:
    upstream, sock = listener(), listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide, upstream, JSON_ANSWER, trio.Event())
        outcomes: list[Outcome] = []
        server = Server(deployment(upstream.getsockname()[1]), record=outcomes.append)
        await nursery.start(server.serve, [sock])
        async with await connect(sock) as client:
            for _ in range(2):
                await client.send_all(post())
                assert statuses(await until(client, JSON_ANSWER.partition(b"\r\n\r\n")[2])) == [200]
        assert [outcome.attempts[0].reused for outcome in outcomes] == [False, True]
        nursery.cancel_scope.cancel()


@on_trio
async def test_a_client_that_leaves_closes_its_provider() -> None:
    upstream, sock = listener(), listener()
    gone = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide, upstream, STREAM_HEAD + CONTENT, gone)
        outcomes: list[Outcome] = []
        server = Server(deployment(upstream.getsockname()[1]), record=outcomes.append)
        await nursery.start(server.serve, [sock])
        client = await connect(sock)
        await client.send_all(post(STREAM_BODY))
        await until(client, b"\n\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        await gone.wait()
        assert [outcome.ending for outcome in outcomes] == [Ending.CLIENT_CLOSED]
        nursery.cancel_scope.cancel()


@on_trio
async def test_an_undelimited_body_that_is_broken_off_ends_in_a_reset() -> None:
    """Its orderly end would say that it is complete."""
    upstream, sock = listener(), listener()
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(provide, upstream, STREAM_HEAD + CONTENT, trio.Event())
            server = Server(deployment(upstream.getsockname()[1]))
            await nursery.start(server.serve, [sock])
            client = await connect(sock)
            await client.send_all(post(STREAM_BODY, version=b"1.0"))
            await until(client, b"\n\n")
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await until_end(client)
        await client.aclose()
        outer.cancel_scope.cancel()


def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT", 0.1)

    @on_trio
    async def run() -> None:
        upstream, sock = listener(), listener()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        gone = trio.Event()
        many = STREAM_HEAD + CONTENT * 40_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(provide, upstream, many, gone)
            outcomes: list[Outcome] = []
            server = Server(deployment(upstream.getsockname()[1]), record=outcomes.append)
            await nursery.start(server.serve, [sock])
            client = await connect(sock)
            await client.send_all(post(STREAM_BODY))
            await gone.wait()
            assert [outcome.ending for outcome in outcomes] == [Ending.CLIENT_CLOSED]
            with pytest.raises(trio.BrokenResourceError):
                await until_end(client)
            await client.aclose()
            nursery.cancel_scope.cancel()

    run()


@on_trio
async def test_a_slow_client_gets_all_of_it() -> None:
    upstream, sock = listener(), listener()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    many = STREAM_HEAD + CONTENT * 40_000 + framed(STOP + DONE) + b"0\r\n\r\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide, upstream, many, trio.Event())
        await nursery.start(Server(deployment(upstream.getsockname()[1])).serve, [sock])
        client = await connect(sock)
        await client.send_all(post(STREAM_BODY))
        answer = await until(client, b"0\r\n\r\n")
        assert answer.count(b'"Hello"') == 40_000
        await client.aclose()
        nursery.cancel_scope.cancel()


async def serving(
    made: Deployment, during: Callable[[socket.socket], Awaitable[None]], **options: Any
) -> None:
    """Run ``serve`` as the command line does, with ``during`` beside it; return when both have."""
    sock = listener()
    address = sock.getsockname()
    listening = trio.Event()
    urls: list[str] = []

    def on_listening(found: list[str]) -> None:
        urls.extend(found)
        listening.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve(made, on_listening=on_listening, sockets=[sock]))
        await listening.wait()
        assert urls == [f"http://127.0.0.1:{address[1]}"]
        await during(sock)


@on_trio
async def test_stopped_while_idle() -> None:
    async def stop(sock: socket.socket) -> None:
        idle = await connect(sock)
        await idle.send_all(GET)
        await until(idle, b'{"status":"ok"}')
        os.kill(os.getpid(), signal.SIGTERM)
        assert await until_end(idle) == b""
        await idle.aclose()

    await serving(deployment(), stop)


@on_trio
async def test_stopped_with_a_delay_and_a_stream() -> None:
    upstream = listener()

    async def stop(sock: socket.socket) -> None:
        streaming = await connect(sock)
        await streaming.send_all(post(STREAM_BODY))
        await until(streaming, b"\n\n\r\n")
        os.kill(os.getpid(), signal.SIGINT)
        async with await connect(sock) as late:  # the listener is still open
            await late.send_all(GET.replace(b"livez", b"readyz"))
            assert statuses(await until(late, b"}")) == [503]
        rest = await until_end(streaming)
        assert b'data: {"error":' in rest
        assert rest.endswith(b"0\r\n\r\n")
        await streaming.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide, upstream, STREAM_HEAD + CONTENT, trio.Event())
        await serving(deployment(upstream.getsockname()[1], drain_delay=0.2, drain_timeout=0.2), stop)
        nursery.cancel_scope.cancel()


@on_trio
async def test_a_second_signal_is_obeyed_at_once() -> None:
    upstream = listener()

    async def stop(sock: socket.socket) -> None:
        streaming = await connect(sock)
        await streaming.send_all(post(STREAM_BODY))
        await until(streaming, b"\n\n\r\n")
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert await until_end(streaming) == b""
        await streaming.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide, upstream, STREAM_HEAD + CONTENT, trio.Event())
        await serving(deployment(upstream.getsockname()[1]), stop)
        nursery.cancel_scope.cancel()


@on_trio
async def test_it_binds_what_is_configured() -> None:
    listening = trio.Event()
    urls: list[str] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await serve(deployment(host="::1", port=0), on_listening=lambda found: urls.extend(found))

        nursery.start_soon(run)
        while not urls:
            await trio.lowlevel.checkpoint()
        assert urls[0].startswith("http://[::1]:")
        listening.set()
        nursery.cancel_scope.cancel()


class Exhausted(socket.socket):
    """A listener that finds no descriptor left the first time."""

    accepts = 0

    def accept(self) -> tuple[socket.socket, Any]:
        Exhausted.accepts += 1
        if Exhausted.accepts == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        if Exhausted.accepts == 2:
            raise OSError(errno.ECONNABORTED, "Software caused connection abort")
        return super().accept()


def test_running_out_of_descriptors_pauses(caplog: pytest.LogCaptureFixture) -> None:
    @on_trio
    async def run() -> None:
        sock = Exhausted(fileno=listener().detach())
        async with trio.open_nursery() as nursery:
            await nursery.start(Server(deployment()).serve, [sock])
            async with await connect(sock) as client:
                await client.send_all(GET)
                assert statuses(await until(client, b'{"status":"ok"}')) == [200]
            nursery.cancel_scope.cancel()

    run()
    assert Exhausted.accepts == 3
    assert "Too many open files" in caplog.text


@on_trio
async def test_slow_clients_hinder_nobody() -> None:
    sock = listener()
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(deployment()).serve, [sock])
        slow = [await connect(sock) for _ in range(200)]
        for stream in slow:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost")
        async with await connect(sock) as client:
            await client.send_all(GET)
            assert statuses(await until(client, b'{"status":"ok"}')) == [200]
        nursery.cancel_scope.cancel()
    for stream in slow:
        await stream.aclose()


def test_a_page_that_waits_for_a_disk_keeps_nobody_else_waiting() -> None:
    @on_trio
    async def run() -> None:
        pages = Pages((200, ((b"content-length", b"4"),), b"page"))
        sock = listener()
        async with trio.open_nursery() as nursery:
            await nursery.start(Server(deployment(), telemetry=pages).serve, [sock])
            asking, other, leaving = [await connect(sock) for _ in range(3)]
            await asking.send_all(PAGE + GET)
            await leaving.send_all(PAGE)
            await trio.to_thread.run_sync(pages.asked.wait)
            await other.send_all(GET)
            assert statuses(await until(other, b'{"status":"ok"}')) == [200]
            await leaving.aclose()
            pages.go.set()
            assert statuses(await until(asking, b'{"status":"ok"}')) == [200, 200]
            await asking.aclose()
            await other.aclose()
            nursery.cancel_scope.cancel()
        assert pages.closed == 1

    run()


def test_a_page_that_cannot_be_made_costs_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    @on_trio
    async def run() -> None:
        pages = Pages(RuntimeError("disk full"))
        pages.go.set()
        sock = listener()
        async with trio.open_nursery() as nursery:
            await nursery.start(Server(deployment(), telemetry=pages).serve, [sock])
            async with await connect(sock) as client:
                await client.send_all(PAGE)
                assert await until_end(client) == b""
            nursery.cancel_scope.cancel()

    run()
    assert "disk full" in caplog.text


# Dials


async def attempts(origin: Origin, count: int) -> list[Event]:
    """``UpstreamOpened``, then how it ended, for each of ``count`` attempts one after the other."""
    seen: list[Event] = []
    news = trio.lowlevel.ParkingLot()

    def notify() -> None:
        news.unpark()

    loop = Loop()
    pool = Pool({}, loop=loop, dial=partial(dial_tcp, loop=loop))
    upstreams = Upstreams(pool)
    upstreams.begin(notify)
    for attempt in range(count):
        upstreams.open(attempt, UpstreamRequest(origin, "POST", "/", (), b""))
        done = False
        while not done:
            if not upstreams.inbox:
                await news.park()
            for event in upstreams.inbox:
                if isinstance(event, UpstreamOpened | UpstreamEnd | UpstreamLost):
                    seen.append(event)
                done = done or isinstance(event, UpstreamEnd | UpstreamLost)
            upstreams.inbox.clear()
    pool.close()
    assert pool.leases.leased == 0
    return seen


async def secure(context: ssl.SSLContext, nursery: trio.Nursery) -> int:
    """A provider that speaks TLS, and its port."""

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            while b"\r\n\r\n" in await stream.receive_some():
                await stream.send_all(JSON_ANSWER)
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    nursery.start_soon(trio.serve_listeners, answer, listeners)
    (plain,) = (one.transport_listener for one in listeners)
    assert isinstance(plain, trio.SocketListener)
    return int(plain.socket.getsockname()[1])


@pytest.mark.usefixtures("trusted")
def test_a_connection_over_tls_is_used_twice(server_context: ssl.SSLContext) -> None:
    @on_trio
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            port = await secure(server_context, nursery)
            assert await attempts(Origin("https", "localhost", port), 2) == [
                *(UpstreamOpened(0, False), UpstreamEnd(0)),
                *(UpstreamOpened(1, True), UpstreamEnd(1)),
            ]
            nursery.cancel_scope.cancel()

    run()


@pytest.mark.usefixtures("trusted")
def test_another_name_than_the_certificate_has(server_context: ssl.SSLContext) -> None:
    @on_trio
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            port = await secure(server_context, nursery)
            seen = await attempts(Origin("https", "127.0.0.1", port), 1)
            assert seen == [UpstreamLost(0, LossReason.TLS)]
            nursery.cancel_scope.cancel()

    run()


def test_an_unknown_issuer(server_context: ssl.SSLContext) -> None:
    @on_trio
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            port = await secure(server_context, nursery)
            seen = await attempts(Origin("https", "localhost", port), 1)
            assert seen == [UpstreamLost(0, LossReason.TLS)]
            nursery.cancel_scope.cancel()

    run()


@on_trio
async def test_dials_that_fail() -> None:
    with listener() as sock:
        port = sock.getsockname()[1]
    assert await attempts(Origin("http", "127.0.0.1", port), 1) == [UpstreamLost(0, LossReason.REFUSED)]
    assert await attempts(Origin("http", "x" * 64, port), 1) == [UpstreamLost(0, LossReason.DNS)]

    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, plain, 0)
        port = listeners[0].socket.getsockname()[1]
        assert await attempts(Origin("https", "127.0.0.1", port), 1) == [UpstreamLost(0, LossReason.TLS)]
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("trusted")
def test_a_handshake_that_is_given_up_closes_its_socket() -> None:
    """The core's deadline for a connection is also that of its handshake."""

    @on_trio
    async def run() -> None:
        sock = listener()
        loop = Loop()
        pool = Pool({}, loop=loop, dial=partial(dial_tcp, loop=loop))
        upstreams = Upstreams(pool)
        origin = Origin("https", "127.0.0.1", sock.getsockname()[1])
        upstreams.open(1, UpstreamRequest(origin, "POST", "/", (), b""))
        accepted, _ = await trio.to_thread.run_sync(sock.accept)
        theirs = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        assert await theirs.receive_some()  # the client's hello
        upstreams.close(1)
        assert await theirs.receive_some() == b""
        await theirs.aclose()
        sock.close()

    run()

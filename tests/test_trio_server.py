"""The trio server on loopback sockets: listening, stopping, running out of descriptors."""

import errno
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
from test_trio_connection import CONTENT, GET, JSON_ANSWER, STREAM_BODY, STREAM_HEAD, framed, post, statuses

from gwproto import Ending, LossReason, Origin, Outcome
from gwproto.config import ServerSettings
from gwproto_io.upstream import loss_reason
from gwproto_ops.deployment import Deployment
from gwproto_trio import Server, connection, serve
from gwproto_trio.sockets import ClientStream, ProviderStream, dial
from support.conversation import DONE, STOP, configuration, provider

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


def pair() -> tuple[socket.socket, socket.socket]:
    with listener() as sock:
        ours = socket.create_connection(sock.getsockname())
        theirs, _ = sock.accept()
    return ours, theirs


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@on_trio
async def test_client_streams() -> None:
    ours, theirs = pair()
    async with ClientStream(ours) as stream:
        theirs.sendall(b"hello")
        assert await stream.receive_some() == b"hello"
        assert stream.send_now(b"now") == 3
        assert theirs.recv(3) == b"now"
        while stream.send_now(b"x" * 65536):
            pass
        with trio.move_on_after(0) as full:
            await stream.wait_send_all_might_not_block()
        assert full.cancelled_caught
        with trio.move_on_after(0) as full:
            await stream.send_all(b"y")
        assert full.cancelled_caught
        reset(theirs)
        with pytest.raises(trio.BrokenResourceError):
            await until_end(stream)
        with pytest.raises(trio.BrokenResourceError):
            stream.send_now(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_eof()
    await stream.aclose()


@on_trio
async def test_what_is_more_than_the_buffers_take_is_sent_all_the_same() -> None:
    ours, theirs = pair()
    size = 20_000_000
    other = ProviderStream(theirs)
    async with ClientStream(ours) as stream, other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"x" * size)
            received = 0
            while received < size:
                received += len(await other.receive())
        await stream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await other.receive()
        await other.send_eof()
        assert await stream.receive_some() == b""


@on_trio
async def test_provider_streams_break() -> None:
    ours, theirs = pair()
    async with ProviderStream(ours) as stream:
        reset(theirs)
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")


@on_trio
async def test_dials_that_fail() -> None:
    with listener() as sock:
        port = sock.getsockname()[1]
    with pytest.raises(OSError, match="all attempts") as refused:
        await dial(Origin("http", "127.0.0.1", port))
    assert loss_reason(refused.value) is LossReason.REFUSED

    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, plain, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(OSError) as insecure:  # noqa: PT011 - ssl words it by version
            await dial(Origin("https", "127.0.0.1", port))
        assert loss_reason(insecure.value) is LossReason.TLS
        nursery.cancel_scope.cancel()

"""The asyncio server on loopback sockets, on asyncio's loop and on uvloop's: listening, stopping, dialling."""

import asyncio
import errno
import os
import signal
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from test_io_tls import server_context, trusted  # noqa: F401 - fixtures
from test_trio_connection import CONTENT, GET, JSON_ANSWER, STREAM_BODY, STREAM_HEAD, framed, post, statuses

import gwproto_asyncio
import gwproto_asyncio.server
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
from gwproto_asyncio import Server, serve
from gwproto_asyncio.dialling import connected, dial_tcp
from gwproto_asyncio.loops import Loop
from gwproto_ops.deployment import Deployment
from gwproto_ops.state import StateFile
from gwproto_ops.telemetry import Page, Telemetry
from gwproto_raw import connection
from gwproto_raw.loops import Transport
from gwproto_raw.upstream import Pool, Upstreams
from support.conversation import DONE, KEY, STOP, configuration, provider

pytestmark = pytest.mark.sockets

PATIENCE = 20.0  # seconds after which a test that hangs is a failure

Main = Callable[[], Awaitable[None]]
Run = Callable[[Main], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on either loop."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    def on_loop(main: Main) -> None:
        async def timed() -> None:
            try:
                async with asyncio.timeout(PATIENCE):
                    await main()
            finally:
                for client in Client.made:
                    client.writer.transport.abort()
                Client.made.clear()
                await asyncio.sleep(0.01)  # whatever was closed is, in the loop's next turns

        if request.param == "uvloop":
            gwproto_asyncio.run(timed())
        else:
            asyncio.run(timed())

    return on_loop


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def deployment(provider_port: int = 1, **server: Any) -> Deployment:
    target = provider("a", base_url=f"http://127.0.0.1:{provider_port}/v1")
    return Deployment(
        configuration(target, server=ServerSettings(**server)), {"a": (b"authorization", b"Bearer upstream")}
    )


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)


class Upstream:
    """A provider that answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.gone = asyncio.Event()
        self.port = 0

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Upstream"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536):
                writer.write(self.answer)
                await writer.drain()
        except ConnectionError:
            pass
        self.gone.set()
        writer.close()


class Client:
    made: ClassVar[list["Client"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.made.append(self)

    @classmethod
    async def to(cls, address: socket.socket | tuple[str, int]) -> "Client":
        where = address.getsockname() if isinstance(address, socket.socket) else address
        return cls(*await asyncio.open_connection(*where[:2]))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until(self, end: bytes) -> bytes:
        return await self.reader.readuntil(end)

    async def until_end(self) -> bytes:
        return await self.reader.read()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[tuple[str, int]]:
    """Serve on a port of its own; the end is a cancellation."""
    sock = listener()
    address = sock.getsockname()
    serving = asyncio.create_task(server.serve([sock]))
    try:
        yield address
    finally:
        serving.cancel()
        await asyncio.wait([serving])


def test_a_chat_over_sockets(run: Run) -> None:
    async def main() -> None:
        outcomes: list[Outcome] = []
        async with Upstream(JSON_ANSWER).listening() as upstream:
            server = Server(deployment(upstream.port), record=outcomes.append)
            async with running(server) as address:
                client = await Client.to(address)
                for _ in range(2):
                    client.send(post())
                    assert statuses(await client.until(JSON_ANSWER.partition(b"\r\n\r\n")[2])) == [200]
                assert [outcome.attempts[0].reused for outcome in outcomes] == [False, True]
                for transport in (*_transports(server), *_provider_transports(server)):
                    sock = transport.get_extra_info("socket")
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)


def _transports(server: Server) -> list[Transport]:
    return [one._transport for one in server.connections]


def _provider_transports(server: Server) -> list[Transport]:
    return [one._transport for idle in server.pool.leases._idle.values() for _, one in idle]  # type: ignore[misc]


def test_a_client_that_leaves_closes_its_provider(run: Run) -> None:
    async def main() -> None:
        for abrupt in (False, True):
            outcomes: list[Outcome] = []
            async with (
                Upstream(STREAM_HEAD + CONTENT).listening() as upstream,
                running(Server(deployment(upstream.port), record=outcomes.append)) as address,
            ):
                client = await Client.to(address)
                client.send(post(STREAM_BODY))
                await client.until(b"\n\n\r\n")
                if abrupt:
                    client.reset()
                else:
                    client.close()
                await upstream.gone.wait()
                assert [outcome.ending for outcome in outcomes] == [Ending.CLIENT_CLOSED]

    run(main)


def test_an_undelimited_body_that_is_broken_off_ends_in_a_reset(run: Run) -> None:
    """Its orderly end would say that it is complete."""

    async def main() -> None:
        async with Upstream(STREAM_HEAD + CONTENT).listening() as upstream:
            async with running(Server(deployment(upstream.port))) as address:
                client = await Client.to(address)
                client.send(post(STREAM_BODY, version=b"1.0"))
                await client.until(b"\n\n")
            with pytest.raises(ConnectionResetError):
                await client.until_end()

    run(main)


def test_a_client_that_takes_nothing_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT", 0.1)

    async def main() -> None:
        many = STREAM_HEAD + CONTENT * 40_000
        outcomes: list[Outcome] = []
        async with (
            Upstream(many).listening() as upstream,
            running(Server(deployment(upstream.port), record=outcomes.append)) as address,
        ):
            with socket.create_connection(address) as sock:
                sock.sendall(post(STREAM_BODY))
                await upstream.gone.wait()
                assert [outcome.ending for outcome in outcomes] == [Ending.CLIENT_CLOSED]
                with pytest.raises(ConnectionResetError), sock.makefile("rb") as file:
                    file.read()

    run(main)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.usefixtures("trusted")
def test_a_slow_client_gets_all_of_it_and_little_of_it_is_held(
    run: Run,
    secure: bool,
    server_context: ssl.SSLContext,  # noqa: F811
) -> None:
    async def main() -> None:
        many = STREAM_HEAD + CONTENT * 40_000 + framed(STOP + DONE) + b"0\r\n\r\n"
        async with Upstream(many).listening(server_context if secure else None) as upstream:
            origin = f"https://localhost:{upstream.port}" if secure else f"http://127.0.0.1:{upstream.port}"
            target = provider("a", base_url=f"{origin}/v1")
            server = Server(Deployment(configuration(target), {"a": (b"authorization", b"Bearer upstream")}))
            async with running(server) as address:
                client = await Client.to(address)
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a duplex one
                client.send(post(STREAM_BODY))
                held = 0
                while not held:
                    await asyncio.sleep(0.01)
                    held = sum(one.get_write_buffer_size() for one in _transports(server))
                assert held <= 256 * 1024
                client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # it is a duplex one
                answer = b""
                while not answer.endswith(b"0\r\n\r\n"):
                    answer += await client.reader.read(65536)
                assert answer.count(b'"Hello"') == 40_000

    run(main)


async def serving(
    made: Deployment, during: Callable[[socket.socket], Awaitable[None]], **options: Any
) -> None:
    """Run ``serve`` as the command line does, with ``during`` beside it; return when both have."""
    sock = listener()
    address = sock.getsockname()
    urls: list[str] = []
    listening = asyncio.Event()

    def on_listening(found: list[str]) -> None:
        urls.extend(found)
        listening.set()

    task = asyncio.create_task(serve(made, on_listening=on_listening, sockets=[sock], **options))
    await listening.wait()
    assert urls == [f"http://127.0.0.1:{address[1]}"]
    await during(sock)
    await task


def test_stopped_while_idle(run: Run) -> None:
    async def stop(sock: socket.socket) -> None:
        idle = await Client.to(sock)
        idle.send(GET)
        await idle.until(b'{"status":"ok"}')
        os.kill(os.getpid(), signal.SIGTERM)
        assert await idle.until_end() == b""

    run(lambda: serving(deployment(), stop))


def test_stopped_with_a_delay_and_a_stream(run: Run) -> None:
    async def main() -> None:
        async def stop(sock: socket.socket) -> None:
            streaming = await Client.to(sock)
            streaming.send(post(STREAM_BODY))
            await streaming.until(b"\n\n\r\n")
            os.kill(os.getpid(), signal.SIGINT)
            late = await Client.to(sock)  # the listener is still open
            late.send(GET.replace(b"livez", b"readyz"))
            assert statuses(await late.until(b"}")) == [503]
            rest = await streaming.until_end()
            assert b'data: {"error":' in rest
            assert rest.endswith(b"0\r\n\r\n")
            streaming.close()

        async with Upstream(STREAM_HEAD + CONTENT).listening() as upstream:
            await serving(deployment(upstream.port, drain_delay=0.2, drain_timeout=0.2), stop)

    run(main)


def test_a_second_signal_is_obeyed_at_once(run: Run) -> None:
    async def main() -> None:
        async def stop(sock: socket.socket) -> None:
            streaming = await Client.to(sock)
            streaming.send(post(STREAM_BODY))
            await streaming.until(b"\n\n\r\n")
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            assert await streaming.until_end() == b""
            streaming.close()

        async with Upstream(STREAM_HEAD + CONTENT).listening() as upstream:
            await serving(deployment(upstream.port), stop)

    run(main)


def test_it_binds_what_is_configured(run: Run) -> None:
    async def main() -> None:
        urls: list[str] = []
        task = asyncio.create_task(serve(deployment(host="::1", port=0), on_listening=urls.extend))
        await until(lambda: bool(urls))
        assert urls[0].startswith("http://[::1]:")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


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


def test_running_out_of_descriptors_pauses(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        Exhausted.accepts = 0
        sock = Exhausted(fileno=listener().detach())
        address = sock.getsockname()
        task = asyncio.create_task(Server(deployment()).serve([sock]))
        client = await Client.to(address)
        client.send(GET)
        assert statuses(await client.until(b'{"status":"ok"}')) == [200]
        assert Exhausted.accepts == 4  # and then there was no other
        client.close()
        task.cancel()
        await asyncio.wait([task])

    run(main)
    assert "Too many open files" in caplog.text


def test_a_listener_that_closes_while_it_pauses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gwproto_asyncio.server, "ACCEPT_PAUSE", 0.01)

    async def main() -> None:
        Exhausted.accepts = 0
        sock = Exhausted(fileno=listener().detach())
        address = sock.getsockname()
        server = Server(deployment())
        task = asyncio.create_task(server.serve([sock]))
        await Client.to(address)
        await until(lambda: bool(Exhausted.accepts))
        server.drain()
        await task
        await asyncio.sleep(0.02)
        assert Exhausted.accepts == 1

    run(main)


def test_slow_clients_hinder_nobody(run: Run) -> None:
    async def main() -> None:
        async with running(Server(deployment())) as address:
            slow = [await Client.to(address) for _ in range(200)]
            for client in slow:
                client.send(b"GET / HTTP/1.1\r\nhost")
            client = await Client.to(address)
            client.send(GET)
            assert statuses(await client.until(b'{"status":"ok"}')) == [200]
            for one in [*slow, client]:
                one.close()

    run(main)


def test_a_listener_of_the_hosts(run: Run) -> None:
    async def main() -> None:
        server = Server(deployment())
        listening = await asyncio.get_running_loop().create_server(server.connection, "127.0.0.1", 0)
        client = await Client.to(listening.sockets[0].getsockname())
        client.send(GET)
        assert statuses(await client.until(b'{"status":"ok"}')) == [200]
        listening.close()
        await server.aclose()
        assert await client.until_end() == b""

    run(main)


# Pages that a thread makes


class Pages(Telemetry):
    """Every page waits for ``go``, in a thread."""

    def __init__(self, made: Page | Exception) -> None:
        super().__init__()
        self.made = made
        self.asked = threading.Event()
        self.go = threading.Event()
        self.closed = 0

    def answer(self, name: str, query: str) -> Page:
        def make() -> Any:
            self.asked.set()
            self.go.wait(PATIENCE)
            if isinstance(self.made, Exception):
                raise self.made
            return self.made

        return make

    @property
    def open(self) -> bool:
        return True

    def close(self) -> None:
        self.closed += 1


PAGE = b"GET /v1/analytics HTTP/1.1\r\nhost: h\r\nauthorization: Bearer %b\r\n\r\n" % KEY.encode()


def test_a_page_that_waits_for_a_disk_keeps_nobody_else_waiting(run: Run) -> None:
    async def main() -> None:
        pages = Pages((200, ((b"content-length", b"4"),), b"page"))
        server = Server(deployment(), telemetry=pages)
        async with running(server) as address:
            asking, other, leaving = [await Client.to(address) for _ in range(3)]
            asking.send(PAGE + GET)
            leaving.send(PAGE)
            other.send(GET)
            await other.until(b'{"status":"ok"}')
            await asyncio.to_thread(pages.asked.wait, PATIENCE)
            leaving.reset()
            await until(lambda: len(server.connections) == 2)
            server.drain()
            asking.send(GET)
            pages.go.set()
            answer = await asking.until_end()
            assert statuses(answer) == [200]
            assert answer.endswith(b"page")
            assert b"x-gateway-request-id" in answer
        assert pages.closed == 1

    run(main)


def test_a_page_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pages = Pages(RuntimeError("a bug"))
        pages.go.set()
        async with running(Server(deployment(), telemetry=pages)) as address:
            client = await Client.to(address)
            client.send(PAGE + GET)
            assert await client.until_end() == b""

    run(main)
    assert "a bug" in caplog.text


# State


def test_it_keeps_its_state(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gwproto_asyncio.server, "INTERVAL", 0.0)

    async def main() -> None:
        file = tmp_path / "state.json"
        made = deployment()
        server = Server(made, state=StateFile(file, made.credentials))
        async with running(server):
            await until(lambda: file.exists())
            server.drain()
        file.unlink()

    run(main)


# Dials


async def attempts(origin: Origin, count: int) -> list[Event]:
    """``UpstreamOpened``, then how it ended, for each of ``count`` attempts one after the other."""
    seen: list[Event] = []
    news = asyncio.Event()
    pool = Pool({}, loop=Loop(), dial=dial_tcp)
    upstreams = Upstreams(pool)
    upstreams.begin(news.set)
    for attempt in range(count):
        upstreams.open(attempt, UpstreamRequest(origin, "POST", "/", (), b""))
        done = False
        while not done:
            await news.wait()
            news.clear()
            while upstreams.inbox:
                event = upstreams.inbox.popleft()
                if isinstance(event, UpstreamOpened | UpstreamEnd | UpstreamLost):
                    seen.append(event)
                done = isinstance(event, UpstreamEnd | UpstreamLost)
    pool.close()
    assert pool.leases.leased == 0
    return seen


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@pytest.mark.usefixtures("trusted")
def test_a_connection_over_tls_is_used_twice(run: Run, server_context: ssl.SSLContext) -> None:  # noqa: F811
    async def main() -> None:
        async with Upstream(OK).listening(server_context) as upstream:
            assert await attempts(Origin("https", "localhost", upstream.port), 2) == [
                UpstreamOpened(0, False),
                UpstreamEnd(0),
                UpstreamOpened(1, True),
                UpstreamEnd(1),
            ]

    run(main)


@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.usefixtures("trusted")
def test_a_body_that_ends_with_the_connection_over_tls(
    run: Run,
    orderly: bool,
    server_context: ssl.SSLContext,  # noqa: F811
) -> None:
    """Hardly any server says farewell."""

    class Ending(Upstream):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.write(self.answer)
            await writer.drain()
            if orderly:
                writer.close()
            else:
                writer.transport.abort()

    async def main() -> None:
        async with Ending(b"HTTP/1.1 200 OK\r\n\r\nhi").listening(server_context) as upstream:
            seen = await attempts(Origin("https", "localhost", upstream.port), 1)
            assert seen == [UpstreamOpened(0, False), UpstreamEnd(0)]

    run(main)


@pytest.mark.usefixtures("trusted")
def test_another_name(run: Run, server_context: ssl.SSLContext) -> None:  # noqa: F811
    async def main() -> None:
        async with Upstream(OK).listening(server_context) as upstream:
            seen = await attempts(Origin("https", "127.0.0.1", upstream.port), 1)
            assert seen == [UpstreamLost(0, LossReason.TLS)]

    run(main)


def test_an_unknown_issuer(run: Run, server_context: ssl.SSLContext) -> None:  # noqa: F811
    async def main() -> None:
        async with Upstream(OK).listening(server_context) as upstream:
            seen = await attempts(Origin("https", "localhost", upstream.port), 1)
            assert seen == [UpstreamLost(0, LossReason.TLS)]

    run(main)


def test_dials_that_fail(run: Run) -> None:
    async def main() -> None:
        with listener() as sock:
            port = sock.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            seen = await attempts(Origin("http", host, port), 1)
            assert seen == [UpstreamLost(0, LossReason.REFUSED)]
        for name in ("nowhere.invalid", "x" * 64 + ".invalid"):
            assert await attempts(Origin("http", name, port), 1) == [UpstreamLost(0, LossReason.DNS)]
        async with Upstream(b"HTTP/1.1 400 Bad Request\r\n\r\n").listening() as plain:
            seen = await attempts(Origin("https", "127.0.0.1", plain.port), 1)
            assert seen == [UpstreamLost(0, LossReason.TLS)]

    run(main)


def test_an_address_that_does_not_answer_is_not_waited_for(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.2", 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            fill = [socket.socket() for _ in range(3)]
            for one in fill:
                one.setblocking(False)
                one.connect_ex(("127.0.0.2", port))
            with socket.create_server(("127.0.0.1", port)):
                found = [
                    (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))
                    for host in ("127.0.0.2", "127.0.0.2", "127.0.0.1")
                ]
                with await connected(loop, found) as sock:
                    assert sock.getpeername() == ("127.0.0.1", port)
            for one in fill:
                one.close()

    run(main)

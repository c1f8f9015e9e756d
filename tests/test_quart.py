"""The Quart application, and Hypercorn over loopback sockets."""

import asyncio
import json
import logging
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from asgi_harness import AUTHORIZED, CHAT, KEY, PLAIN, STREAM, call, deployment
from hypercorn.utils import load_application

from gwproto import ConfigurationError
from gwproto.testing import Knobs, SimulatedProvider
from gwproto_cli.simulated import hosted
from gwproto_ops.listening import base_url
from gwproto_quart import create_app, serve
from gwproto_quart.server import listening_socket


def test_without_a_key_there_is_no_application(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_API_KEY", "GATEWAY_API_KEY_HASHES", "GWPROTO_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GROQ_API_KEY", "unused")
    with pytest.raises(ConfigurationError, match="no client key"):
        create_app()


def test_the_application_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("gateway") / "gateway.toml"
    file.write_text(
        '[[providers]]\nname = "x"\nbase_url = "http://x.test/v1"\n[[providers.models]]\nid = "named"\n'
    )
    monkeypatch.setenv("GWPROTO_CONFIG", str(file))
    monkeypatch.setenv("GATEWAY_API_KEY", KEY)
    app = create_app()

    async def main() -> bytes:
        return (await call(app, "GET", "/v1/models")).body

    assert b'"named"' in asyncio.run(main())


def test_hypercorn_finds_the_application_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", KEY)
    monkeypatch.setenv("GROQ_API_KEY", "unused")
    monkeypatch.delenv("GWPROTO_CONFIG", raising=False)
    app = load_application("gwproto_quart:create_app()", 0)

    async def main() -> int:
        def hypercorn(scope: Any, receive: Any, send: Any) -> Any:
            return app(scope, receive, send, None, None)  # type: ignore[arg-type]  # for WSGI only

        return (await call(hypercorn, "GET", "/readyz")).status

    assert asyncio.run(main()) == 200


def test_pages_of_the_application_come_first_and_nothing_else_does() -> None:
    app = create_app(deployment())

    @app.get("/about")
    async def about() -> str:
        return "about"

    @app.get("/pages/<name>")
    async def page(name: str) -> str:
        return name

    async def main() -> None:
        answers = {
            path: await call(app, "GET", path)
            for path in ("/about", "/pages/x", "/pages", "/livez", "/v1/models", "/nowhere", "/static/x")
        }
        assert {path: answer.status for path, answer in answers.items()} == {
            "/about": 200,
            "/pages/x": 200,
            "/pages": 404,
            "/livez": 200,
            "/v1/models": 200,
            "/nowhere": 404,
            "/static/x": 404,
        }
        assert answers["/about"].body == b"about"
        assert answers["/pages/x"].body == b"x"
        for path in ("/pages", "/nowhere", "/static/x"):
            assert json.loads(answers[path].body)["error"]["code"] == "unknown_url"

    asyncio.run(main())


def test_quart_limits_nothing() -> None:
    config = create_app(deployment()).config
    assert [config[name] for name in ("RESPONSE_TIMEOUT", "BODY_TIMEOUT", "MAX_CONTENT_LENGTH")] == [None] * 3


@pytest.mark.sockets
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_addresses(host: str) -> None:
    with listening_socket(host, 0) as sock:
        port = sock.getsockname()[1]
        assert base_url(sock) == (f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        with pytest.raises(OSError, match="in use"):
            listening_socket(host, port)


class Connection:
    """A client's connection: raw bytes out, parsed responses in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def post(self, body: bytes, *, length: int | None = None) -> None:
        fields = b"".join(b"%s: %s\r\n" % field for field in AUTHORIZED)
        size = len(body) if length is None else length
        self.writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % (CHAT.encode(), size))
        self.writer.write(fields + b"\r\n" + body)

    def get(self, path: str) -> None:
        self.writer.write(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        block = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = block[:-4].split(b"\r\n")
        headers = dict(field.lower().split(b": ", 1) for field in fields)
        return int(line.split(b" ")[1]), headers

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def response(self) -> tuple[int, bytes]:
        """A whole one."""
        status, headers = await self.head()
        if b"content-length" in headers:
            return status, await self.reader.readexactly(int(headers[b"content-length"]))
        body = b""
        while data := await self.chunk():
            body += data
        return status, body

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Served:
    """A gateway on Hypercorn in this event loop, and its provider."""

    def __init__(self, port: int, departed: asyncio.Event, server: "asyncio.Task[None]") -> None:
        self.port = port
        self.departed = departed
        self.server = server

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()


def served(
    scenario: Callable[[Served], Awaitable[None]], knobs: Knobs | None = None, settings: str = ""
) -> None:
    """Run ``scenario`` against a gateway that is then asked to stop, and must."""

    async def main() -> None:
        provider = SimulatedProvider("local", models=["mock"], rng=Random(1), knobs=knobs)
        departed = asyncio.Event()
        async with asyncio.timeout(30), hosted([provider], on_departure=lambda _: departed.set()) as (url,):
            listening: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            made = deployment(url, server=f"port = 0\n{settings}")
            server = asyncio.create_task(serve(made, on_listening=listening.set_result))
            server.add_done_callback(lambda _: listening.cancel())
            (base,) = await listening
            await scenario(Served(int(base.rpartition(":")[2]), departed, server))
            if not server.done():
                signal.raise_signal(signal.SIGTERM)
            await server

    asyncio.run(main())


@pytest.mark.sockets
def test_requests_one_after_the_other_on_one_connection() -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            for body in (PLAIN, STREAM, PLAIN):
                connection.post(body)
                status, answer = await connection.response()
                assert status == 200
                assert (b"[DONE]" in answer) == (body is STREAM)

    served(scenario)


@pytest.mark.sockets
def test_pipelined_requests_are_answered_in_order() -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            connection.post(STREAM)
            connection.get("/livez")
            connection.post(PLAIN)
            connection.get("/nowhere")
            answers = [await connection.response() for _ in range(4)]
            assert [status for status, _ in answers] == [200, 200, 200, 404]
            assert answers[0][1].endswith(b"data: [DONE]\n\n")
            assert b"chat.completion" in answers[2][1]

    served(scenario)


@pytest.mark.sockets
def test_the_server_does_not_name_itself() -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            connection.get("/livez")
            _, headers = await connection.head()
            assert b"server" not in headers

    served(scenario)


@pytest.mark.sockets
def test_a_large_body() -> None:
    async def scenario(gateway: Served) -> None:
        text = "x" * 2_000_000
        body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        async with gateway.connect() as connection:
            connection.post(body)
            status, answer = await connection.response()
            assert status == 200
            assert len(answer) > len(text)  # the provider echoes it

    served(scenario)


@pytest.mark.sockets
def test_a_body_over_the_limit_is_refused_and_the_refusal_arrives() -> None:
    """Whoever sends all of its body before it reads gets the answer, too."""

    async def scenario(gateway: Served) -> None:
        size = 40_000_000
        async with gateway.connect() as connection:
            connection.post(b"", length=size)
            for _ in range(size // 1_000_000):
                connection.writer.write(b"x" * 1_000_000)
                await connection.writer.drain()
            status, answer = await connection.response()
            assert status == 413
            assert json.loads(answer)["error"]["type"] == "invalid_request_error"

    served(scenario)


@pytest.mark.sockets
def test_a_refused_upload_leaves_the_connection_usable() -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            body = b"x" * 3_000_000
            connection.writer.write(
                b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            connection.writer.write(body)
            connection.get("/livez")
            assert [(await connection.response())[0] for _ in range(2)] == [404, 200]

    served(scenario)


@pytest.mark.sockets
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("body", [PLAIN, STREAM])
def test_a_client_that_leaves_takes_its_upstream_along(how: str, body: bytes) -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            connection.post(body)
            if body is STREAM:
                await connection.head()
                await connection.chunk()
            else:
                async with gateway.connect() as other:  # by its answer the first request is under way
                    other.get("/health")
                    await other.response()
            if how == "reset":
                connection.reset()
            else:
                connection.writer.close()
            await gateway.departed.wait()

    served(scenario, Knobs(stall_after=2))


@pytest.mark.sockets
@pytest.mark.parametrize("busy", [False, True])
def test_a_connection_ends_with_its_client(busy: bool) -> None:
    """At once: were it kept like an idle one, clients without keep-alive would use up the descriptors."""

    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            if busy:
                connection.post(STREAM)
                await connection.head()
                await connection.chunk()
            else:
                connection.get("/livez")
                await connection.response()
            connection.writer.write_eof()
            await connection.reader.read()

    served(scenario, Knobs(stall_after=2))


@pytest.mark.sockets
@pytest.mark.parametrize("answered", [0, 2])
def test_a_head_has_its_time(answered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gwproto_quart.connections.HEAD_TIMEOUT", 0.05)

    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            for _ in range(answered):
                connection.get("/livez")
                await connection.response()
            connection.writer.write(b"GET /livez HTTP/1.1\r\n")
            assert await connection.reader.read() == b""

    served(scenario)


@pytest.mark.sockets
def test_nobody_gets_http_2() -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            connection.writer.write(
                b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\n"
                b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
            )
            assert await connection.response() == (200, b'{"status":"ok"}')
            connection.writer.write(b"PRI * HTTP/2.0\r\nhost: x\r\n\r\n")
            status, headers = await connection.head()
            assert (status, headers[b"connection"]) == (505, b"close")

    served(scenario)


@pytest.mark.sockets
def test_a_broken_off_response_does_not_look_complete(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gwproto.access")

    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            connection.post(STREAM)
            await connection.head()
            await connection.chunk()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            await gateway.server
            assert not (await connection.reader.read()).endswith(b"0\r\n\r\n")
            await gateway.departed.wait()

    served(scenario, Knobs(stall_after=2))
    assert [json.loads(record.message)["ending"] for record in caplog.records] == ["abandoned"]


@pytest.mark.sockets
def test_draining() -> None:
    """Ready no more, then deaf to new connections, and at last the streams end with an error event."""

    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as stream, gateway.connect() as idle, gateway.connect() as probe:
            stream.post(STREAM)
            await stream.head()
            first = await stream.chunk()
            idle.get("/livez")
            await idle.response()
            signal.raise_signal(signal.SIGTERM)
            probe.get("/readyz")
            assert (await probe.response())[0] == 503
            assert await idle.reader.read() == b""  # closed, though its client did nothing
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", gateway.port)
            rest = b""
            while data := await stream.chunk():
                rest += data
            assert b'"error"' in rest
            assert b"[DONE]" not in first + rest
            await gateway.server
            await gateway.departed.wait()

    served(scenario, Knobs(stall_after=2), settings="drain_timeout = 0.2\ndrain_delay = 0.1")


@pytest.mark.sockets
def test_a_stream_may_end_while_draining() -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            connection.post(STREAM)
            await connection.head()
            signal.raise_signal(signal.SIGINT)
            body = b""
            while data := await connection.chunk():
                body += data
            assert body.endswith(b"data: [DONE]\n\n")
            await gateway.server

    served(scenario, Knobs(pace=0.005))


@pytest.mark.sockets
def test_a_client_that_reads_no_more_does_not_keep_the_process() -> None:
    async def scenario(gateway: Served) -> None:
        async with gateway.connect() as connection:
            connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            text = "x" * 16_000_000  # more than the buffers between here and there hold
            connection.post(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
            await connection.head()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            before = asyncio.all_tasks()
            await gateway.server
            left = [task for task in asyncio.all_tasks() & before if "TCPServer" in repr(task.get_coro())]
            assert left == []

    served(scenario)


@pytest.mark.sockets
def test_what_prevents_serving_is_raised() -> None:
    with listening_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        made = deployment(server=f"port = {port}")
        with pytest.raises(OSError, match="in use"):
            asyncio.run(serve(made, on_listening=lambda _: None))

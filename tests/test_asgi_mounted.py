"""The gateway inside a framework, with the framework's own test client in front."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from asgi_harness import AUTHORIZED, CHAT, KEY, PLAIN, STREAM, call, running
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["", "/llm", "/a/b", "/l%20m"])
async def test_in_starlette(prefix: str) -> None:
    async with running() as gateway:
        home = Route("/", lambda request: PlainTextResponse("home"))
        app = Starlette(routes=[home, Mount(prefix.replace("%20", " "), gateway.app)])
        for path in ("/v1/models", "/v1/models/mock", "/livez"):
            raw = (prefix + path).encode()
            answer = await call(app, "GET", (prefix + path).replace("%20", " "), raw_path=raw)
            assert answer.status == 200, path
        answer = await call(app, "POST", prefix.replace("%20", " ") + CHAT, headers=AUTHORIZED, body=[STREAM])
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (await call(app, "GET", "/")).body == b"home"


@pytest.mark.anyio
async def test_behind_a_middleware() -> None:
    class Stamp:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def stamped(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-stamp", b"1")]
                await send(message)

            await self.app(scope, receive, stamped)

    async with running() as gateway:
        app = Starlette(routes=[Mount("/llm", gateway.app)], middleware=[Middleware(Stamp)])
        answer = await call(app, "POST", "/llm" + CHAT, headers=AUTHORIZED, body=[PLAIN])
        assert answer.headers[b"x-stamp"] == b"1"
        assert json.loads(answer.body)["object"] == "chat.completion"


@pytest.mark.anyio
async def test_the_starlette_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", KEY)
    monkeypatch.setenv("GROQ_API_KEY", "unused")
    monkeypatch.delenv("GWPROTO_CONFIG", raising=False)
    app = example("starlette_app").app
    assert (await call(app, "GET", "/")).body == b"The gateway is at /llm/v1."
    assert (await call(app, "GET", "/llm/readyz")).status == 200
    assert (await call(app, "POST", "/llm" + CHAT, body=[PLAIN])).status == 401


def test_examples_are_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) <= 20, path.name


@pytest.mark.sockets
def test_the_trio_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", KEY)
    monkeypatch.setenv("GROQ_API_KEY", "unused")
    monkeypatch.delenv("GWPROTO_CONFIG", raising=False)
    program = example("trio_program")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(program.main, 0)
            port = listener.socket.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                answer = b"".join([data async for data in stream])
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"groq" in answer
            nursery.cancel_scope.cancel()

    trio.run(main)

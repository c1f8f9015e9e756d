"""ASGI without a server and providers without sockets: plain Python objects on any event loop."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Event,
    create_task_group,
)
from anyio.abc import ByteStream, TaskGroup

from gwproto import Headers, Origin, Outcome
from gwproto.loading import load
from gwproto.testing import Knobs, SimulatedProvider, Step
from gwproto_asgi import GatewayApp
from gwproto_asgi.scope import Message, Scope
from gwproto_cli.simulated import serve_connection
from gwproto_io.upstream import Pool
from gwproto_ops.deployment import Deployment, deploy
from support.memory import connected

KEY = "gw-test"
AUTHORIZED = ((b"authorization", b"Bearer gw-test"), (b"content-type", b"application/json"))
CHAT = "/v1/chat/completions"
PLAIN = b'{"model": "auto", "messages": [{"role": "user", "content": "hello"}]}'
# Frameworks type ASGI each in its own way.
App = Callable[[Any, Any, Any], Awaitable[None]]

STREAM = b'{"model": "auto", "stream": true, "messages": [{"role": "user", "content": "hello"}]}'


def deployment(base_url: str = "http://provider.test/v1", server: str = "") -> Deployment:
    """One provider with one model, and one client key. ``server`` is TOML for that section."""
    text = f"""
    [server]
    {server}
    [[providers]]
    name = "local"
    base_url = "{base_url}"
    [[providers.models]]
    id = "mock"
    """
    return deploy(load(text.encode(), {}, {}, known={}), environ={"GATEWAY_API_KEY": KEY})


class Call:
    """One request to an ASGI application, and what came of it."""

    def __init__(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: Sequence[bytes] = (),
        **scope: object,
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"gateway.test"), *headers],
            "client": ("192.0.2.1", 40000),
            "server": ("gateway.test", 80),
            **scope,
        }
        if body:
            self.scope["headers"].append((b"content-length", b"%d" % sum(map(len, body))))
        self.uploads = list(body) or [b""]
        self.sent: list[Message] = []
        self.gone = Event()
        self.returned = Event()
        self._progress = Event()

    async def receive(self) -> Message:
        if self.uploads:
            data = self.uploads.pop(0)
            return {"type": "http.request", "body": data, "more_body": bool(self.uploads)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self.complete:
            self.gone.set()  # as servers do once a response is complete
        self._wake()

    async def run(self, app: App) -> "Call":
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            self.returned.set()
            self._wake()
        return self

    async def until_body(self, size: int = 1) -> None:
        """Wait until ``size`` bytes of the response's body were sent, or the application has returned."""
        while len(self.body) < size and not self.returned.is_set():
            await self._progress.wait()

    def _wake(self) -> None:
        self._progress.set()
        self._progress = Event()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


async def call(app: App, method: str = "GET", path: str = "/", **request: Any) -> Call:
    """Perform one request to its end."""
    return await Call(method, path, **request).run(app)


async def chat(app: App, body: bytes = PLAIN, **request: Any) -> Call:
    """Perform one chat completion to its end."""
    return await call(app, "POST", CHAT, headers=AUTHORIZED, body=[body], **request)


class Provider:
    """A simulated provider behind connections in memory. ``departed`` is set when one was closed on it too early."""

    def __init__(self, tasks: TaskGroup, knobs: Knobs | None = None) -> None:
        self.simulated = SimulatedProvider("local", models=["mock"], rng=Random(1), knobs=knobs)
        self.departed = Event()
        self.connections = 0
        self._tasks = tasks

    async def dial(self, origin: Origin) -> ByteStream:
        assert origin.host == "provider.test"
        self.connections += 1
        ours, theirs = connected()
        self._tasks.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: ByteStream) -> None:
        def respond(method: str, target: str, headers: Headers, body: bytes) -> list[Step]:
            return self.simulated.respond(method, target, headers, body, 0.0)

        try:
            finished = await serve_connection(stream, respond)
        except (BrokenResourceError, ClosedResourceError, EndOfStream):
            finished = False
        if not finished:
            self.departed.set()


class Running:
    """A gateway over one provider, and the outcomes it recorded."""

    def __init__(
        self, app: GatewayApp, provider: Provider, outcomes: list[Outcome], tasks: TaskGroup
    ) -> None:
        self.app = app
        self.provider = provider
        self.outcomes = outcomes
        self.tasks = tasks


@asynccontextmanager
async def running(knobs: Knobs | None = None, server: str = "") -> AsyncIterator[Running]:
    """A gateway as an ASGI application, its provider in memory."""
    async with create_task_group() as tasks:
        provider = Provider(tasks, knobs)
        outcomes: list[Outcome] = []
        made = deployment(server=server)
        app = GatewayApp(
            made, record=outcomes.append, pool=lambda: Pool(made.credentials, dial=provider.dial)
        )
        try:
            yield Running(app, provider, outcomes, tasks)
        finally:
            await app.aclose()
            tasks.cancel_scope.cancel()

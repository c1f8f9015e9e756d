"""Scenarios over real sockets: providers on loopback, and either server as it is deployed.

Only for scenarios in which nothing takes time; their clients come one after another.
"""

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute

from gwproto import Headers, Outcome
from gwproto.testing import Connection, Step
from gwproto_cli.simulated import serve_connection
from gwproto_trio import Server
from scenarios.model import PROVIDERS, Report, Scenario, Sent, outcome_of, seen, sent
from scenarios.on_asgi import deployment
from support.client import Response, perform


class _Providers:
    """A scenario's providers, each on a port of its own."""

    def __init__(self, scenario: Scenario) -> None:
        self._script = list(scenario.script)
        self.sent: list[Sent] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[dict[str, str]]:
        async with AsyncExitStack() as stack:
            urls = {}
            listeners = []
            for name in PROVIDERS:
                listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
                await stack.enter_async_context(listener)
                urls[name] = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"
                listeners.append((name, listener))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            for name, listener in listeners:
                tasks.start_soon(listener.serve, self._handler(name))
            yield urls
            tasks.cancel_scope.cancel()

    def _handler(self, name: str) -> Callable[[ByteStream], Awaitable[None]]:
        def respond(method: str, target: str, headers: Headers, body: bytes) -> Sequence[Step]:
            self.sent.append(sent(name, method, target, body))
            return self._next().steps

        async def serve(stream: ByteStream) -> None:
            await serve_connection(stream, respond)

        return serve

    def _next(self) -> Connection:
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]


async def _visited(scenario: Scenario, port: int) -> list[Response]:
    responses = []
    for arrival in scenario.arrivals:
        with anyio.fail_after(20):
            responses.append(await perform(await anyio.connect_tcp("127.0.0.1", port), arrival.visit))
    return responses


def _report(responses: list[Response], outcomes: list[Outcome], providers: _Providers) -> Report:
    return Report(
        seen=tuple(
            seen(one.status, one.headers, bytes(one.body), one.ending, outcome_of(one.headers, outcomes))
            for one in responses
        ),
        sent=tuple(providers.sent),
    )


def _listener() -> tuple[socket.socket, int]:
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


async def on_trio_sockets(scenario: Scenario) -> Report:
    providers = _Providers(scenario)
    outcomes: list[Outcome] = []
    async with providers.listening() as urls, trio.open_nursery() as nursery:
        server = Server(deployment(scenario, urls), record=outcomes.append, rng=random.Random(1))
        sock, port = _listener()
        await nursery.start(server.serve, [sock])
        responses = await _visited(scenario, port)
        server.drain()
    return _report(responses, outcomes, providers)


async def on_asyncio_sockets(scenario: Scenario) -> Report:
    import asyncio

    from gwproto_asyncio import Server

    providers = _Providers(scenario)
    outcomes: list[Outcome] = []
    async with providers.listening() as urls:
        server = Server(deployment(scenario, urls), record=outcomes.append, rng=random.Random(1))
        sock, port = _listener()
        serving = asyncio.create_task(server.serve([sock]))
        responses = await _visited(scenario, port)
        server.drain()
        await serving
    return _report(responses, outcomes, providers)


async def on_hypercorn(scenario: Scenario) -> Report:
    """Quart on Hypercorn's own server, as whoever brings a Hypercorn configuration has it."""
    import asyncio

    from hypercorn.asyncio import serve

    from gwproto_quart.app import create_app, gateway_of
    from gwproto_quart.server import hypercorn_config

    providers = _Providers(scenario)
    outcomes: list[Outcome] = []
    async with providers.listening() as urls:
        app = create_app(deployment(scenario, urls))
        gateway_of(app)._record = outcomes.append
        sock, port = _listener()
        config = hypercorn_config()
        config.bind = [f"fd://{sock.detach()}"]
        stop = asyncio.Event()

        async def stopped() -> None:
            await stop.wait()

        serving = asyncio.create_task(serve(app, config, shutdown_trigger=stopped))
        try:
            responses = await _visited(scenario, port)
        finally:
            stop.set()
            await serving
    return _report(responses, outcomes, providers)


async def on_quart_server(scenario: Scenario) -> Report:
    """Quart on Hypercorn as ``gwproto serve`` has it."""
    import asyncio

    from gwproto_quart.app import create_app, gateway_of
    from gwproto_quart.connections import Connections
    from gwproto_quart.server import hypercorn_config

    providers = _Providers(scenario)
    outcomes: list[Outcome] = []
    async with providers.listening() as urls:
        app = create_app(deployment(scenario, urls))
        gateway_of(app)._record = outcomes.append
        connections = Connections(app, hypercorn_config())
        await app.startup()
        sock, port = _listener()
        server = await asyncio.start_server(connections.accept, sock=sock)
        try:
            responses = await _visited(scenario, port)
        finally:
            server.close()
            await connections.finish()
            await app.shutdown()
    return _report(responses, outcomes, providers)

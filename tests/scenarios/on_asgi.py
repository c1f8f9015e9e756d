"""Scenarios on ASGI applications, the server in memory: what ASGI says a server does, and nothing more."""

import math
import random
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import anyio

from gwproto import Headers, Outcome
from gwproto.testing import Visit
from gwproto_asgi import GatewayApp
from gwproto_io.upstream import Pool
from gwproto_ops.deployment import Deployment
from scenarios.in_memory import Providers
from scenarios.model import (
    Arrival,
    Report,
    Scenario,
    Seen,
    configuration,
    credentials,
    outcome_of,
    seen,
)

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def deployment(scenario: Scenario, base_urls: dict[str, str] | None = None) -> Deployment:
    made = configuration(scenario, base_urls)
    return Deployment(made, credentials(scenario))


class AsgiRun:
    """``wrap`` makes the application that is called from the gateway's."""

    def __init__(self, scenario: Scenario, wrap: Callable[[GatewayApp], Asgi] = lambda app: app) -> None:
        self.scenario = scenario
        self._wrap = wrap
        self._outcomes: list[Outcome] = []
        self._calls: dict[int, _Call] = {}
        self.pool: Pool
        self.providers: Providers

    async def run(self) -> Report:
        scenario = self.scenario
        async with anyio.create_task_group() as world:
            self.providers = Providers(scenario, world)
            made = deployment(scenario)
            self.pool = Pool(made.credentials, dial=self.providers.dial)
            gateway = GatewayApp(
                made, record=self._outcomes.append, pool=lambda: self.pool, rng=random.Random(1)
            )
            app = self._wrap(gateway)
            async with anyio.create_task_group() as clients:
                for index, arrival in enumerate(scenario.arrivals):
                    clients.start_soon(self._visit, app, index, arrival)
                if min(scenario.unready_after, scenario.drain_after) < math.inf:
                    clients.start_soon(self._drain, gateway)
            assert self.pool.leases.leased == 0
            await gateway.aclose()
            assert all(stream.closed for stream in self.providers.streams)
            world.cancel_scope.cancel()
        return Report(
            seen=tuple(self._seen(self._calls[index]) for index in range(len(scenario.arrivals))),
            sent=tuple(self.providers.sent),
        )

    async def _visit(self, app: Asgi, index: int, arrival: Arrival) -> None:
        await anyio.sleep(arrival.after)
        call = self._calls[index] = _Call(arrival.visit)
        await app(call.scope, call.receive, call.send)
        call.ending = call.ending or "aborted"

    async def _drain(self, gateway: GatewayApp) -> None:
        await anyio.sleep(min(self.scenario.unready_after, self.scenario.drain_after))
        if self.scenario.drain_after < math.inf:
            gateway.drain()
        else:
            gateway.unready()

    def _seen(self, call: "_Call") -> Seen:
        outcome = outcome_of(call.headers, self._outcomes)
        return seen(call.status, call.headers, bytes(call.body), call.ending, outcome)


class _Call:
    """One request, as a server gives it to an application."""

    def __init__(self, visit: Visit) -> None:
        head = visit.head
        path, _, query = head.target.partition("?")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.http_version,
            "method": head.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": list(head.headers),
            "client": ("192.0.2.1", 40000),
            "server": ("gateway.test", 80),
        }
        self._visit = visit
        self._pieces = list(visit.body)
        self._uploaded = False
        now = anyio.current_time()
        self._due = now
        self._leaves_at = now + visit.leaves_after
        self._over = anyio.Event()
        self.status = 0
        self.headers: Headers = ()
        self.body = bytearray()
        self.ending = ""

    async def receive(self) -> dict[str, object]:
        with anyio.CancelScope(deadline=self._leaves_at):
            if not self._uploaded:
                return await self._upload()
            await self._over.wait()
        self.ending = self.ending or "left"
        return {"type": "http.disconnect"}

    async def _upload(self) -> dict[str, object]:
        data = b""
        if self._pieces:
            after, data = self._pieces[0]
            await anyio.sleep_until(self._due + after)
            self._due += after
            self._pieces.pop(0)
        elif not self._visit.complete:
            await anyio.sleep_forever()
        self._uploaded = not self._pieces and self._visit.complete
        return {"type": "http.request", "body": data, "more_body": not self._uploaded}

    async def send(self, message: dict[str, Any]) -> None:
        if self.ending:
            return
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], tuple(message["headers"])
            return
        self.body += message["body"]
        with anyio.CancelScope(deadline=self._leaves_at):
            await anyio.sleep(self._visit.write_time if message["body"] else 0.0)
        if not message.get("more_body", False):
            self.ending = "complete"
            self._over.set()


async def on_asgi(scenario: Scenario) -> Report:
    return await AsgiRun(scenario).run()


async def on_quart(scenario: Scenario) -> Report:
    """The Quart application's dispatch in front of the gateway."""
    from gwproto_quart import create_app

    def wrap(gateway: GatewayApp) -> Asgi:
        app = create_app(deployment(scenario))
        app.asgi_app._gateway = gateway  # type: ignore[attr-defined] # the one with the pool in memory
        return app

    return await AsgiRun(scenario, wrap).run()

"""Scenarios on the asyncio server, over transports in memory."""

import asyncio
import math
import random

import anyio

from gwproto import Origin, Outcome
from gwproto_asyncio import Server
from gwproto_asyncio.loops import Loop
from gwproto_raw.upstream import Pool
from scenarios.in_memory import Providers
from scenarios.model import Arrival, Report, Scenario, Seen, outcome_of, seen
from scenarios.on_asgi import deployment
from support.client import Response, perform
from support.memory import MemoryStream, connected
from support.transports import MemoryTransport


class AsyncioRun:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.server: Server
        self.providers: Providers
        self._outcomes: list[Outcome] = []
        self._responses: dict[int, Response] = {}

    async def dial(self, origin: Origin, protocol: asyncio.Protocol) -> None:
        stream = await self.providers.dial(origin)
        assert isinstance(stream, MemoryStream)
        MemoryTransport(protocol, stream)

    async def run(self) -> Report:
        await self.perform()
        return Report(
            seen=tuple(self._seen(self._responses[index]) for index in range(len(self.scenario.arrivals))),
            sent=tuple(self.providers.sent),
        )

    async def perform(self) -> None:
        """The visits, and that nothing is left of them in the end."""
        scenario = self.scenario
        async with anyio.create_task_group() as world:
            self.providers = Providers(scenario, world)
            made = deployment(scenario)
            pool = Pool(made.credentials, dial=self.dial, loop=Loop())
            self.server = server = Server(made, record=self._outcomes.append, pool=pool, rng=random.Random(1))
            async with anyio.create_task_group() as clients:
                for index, arrival in enumerate(scenario.arrivals):
                    clients.start_soon(self._visit, index, arrival)
                if min(scenario.unready_after, scenario.drain_after) < math.inf:
                    clients.start_soon(self._drain)
            while server.connections:  # noqa: ASYNC110 - others may share the answer of one who left
                await asyncio.sleep(0.001)
            assert pool.leases.leased == 0
            await server.aclose()
            await asyncio.sleep(0.001)  # transports close in the loop's next turns
            assert all(stream.closed for stream in self.providers.streams)
            world.cancel_scope.cancel()

    async def _visit(self, index: int, arrival: Arrival) -> None:
        await anyio.sleep(arrival.after)
        ours, theirs = connected()
        MemoryTransport(self.server.connection(), theirs)
        self._responses[index] = await perform(ours, arrival.visit)

    async def _drain(self) -> None:
        await anyio.sleep(min(self.scenario.unready_after, self.scenario.drain_after))
        if self.scenario.drain_after < math.inf:
            self.server.drain()
        else:
            self.server.unready()

    def _seen(self, response: Response) -> Seen:
        outcome = outcome_of(response.headers, self._outcomes)
        return seen(response.status, response.headers, bytes(response.body), response.ending, outcome)


async def on_asyncio(scenario: Scenario) -> Report:
    return await AsyncioRun(scenario).run()

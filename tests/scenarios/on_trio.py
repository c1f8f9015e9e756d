"""Scenarios on the raw trio server, over streams in memory."""

import math
import random

import anyio
import trio
import trio.testing

from gwproto import Origin, Outcome
from gwproto_raw.loops import Receiver
from gwproto_raw.upstream import Pool
from gwproto_trio import Server
from gwproto_trio.loops import Loop
from gwproto_trio.streams import StreamTransport
from scenarios.in_memory import Providers
from scenarios.model import Arrival, Report, Scenario, Seen, outcome_of, seen
from scenarios.on_asgi import deployment
from support.client import Response, TrioStream, perform
from support.memory import MemoryStream
from support.trio_streams import OverMemory


class TrioRun:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.server: Server
        self._outcomes: list[Outcome] = []
        self._responses: dict[int, Response] = {}

    async def run(self) -> Report:
        scenario = self.scenario
        async with anyio.create_task_group() as world:
            providers = Providers(scenario, world)

            async def dial(origin: Origin, receiver: Receiver) -> None:
                stream = await providers.dial(origin)
                assert isinstance(stream, MemoryStream)
                StreamTransport(OverMemory(stream), receiver).start()

            made = deployment(scenario)
            pool = Pool(made.credentials, loop=Loop(), dial=dial)
            self.server = Server(made, record=self._outcomes.append, pool=pool, rng=random.Random(1))
            async with trio.open_nursery() as connections, trio.open_nursery() as clients:
                for index, arrival in enumerate(scenario.arrivals):
                    clients.start_soon(self._visit, connections, index, arrival)
                if min(scenario.unready_after, scenario.drain_after) < math.inf:
                    clients.start_soon(self._drain)
            assert pool.leases.leased == 0
            pool.close()
            await trio.testing.wait_all_tasks_blocked()
            assert all(stream.closed for stream in providers.streams)
            world.cancel_scope.cancel()
        return Report(
            seen=tuple(self._seen(self._responses[index]) for index in range(len(scenario.arrivals))),
            sent=tuple(providers.sent),
        )

    async def _visit(self, connections: trio.Nursery, index: int, arrival: Arrival) -> None:
        await trio.sleep(arrival.after)
        ours, theirs = trio.testing.memory_stream_pair()
        connections.start_soon(self.server.serve_stream, theirs, "192.0.2.1")
        self._responses[index] = await perform(TrioStream(ours), arrival.visit)

    async def _drain(self) -> None:
        await trio.sleep(min(self.scenario.unready_after, self.scenario.drain_after))
        if self.scenario.drain_after < math.inf:
            self.server.drain()
        else:
            self.server.unready()

    def _seen(self, response: Response) -> Seen:
        outcome = outcome_of(response.headers, self._outcomes)
        return seen(response.status, response.headers, bytes(response.body), response.ending, outcome)


async def on_trio(scenario: Scenario) -> Report:
    return await TrioRun(scenario).run()

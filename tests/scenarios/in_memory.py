"""Scenarios on the runtimes, over streams in memory: providers, and the driver by itself."""

import math
import random
import socket
import ssl
from collections.abc import Sequence

import anyio
from anyio.abc import ByteStream, TaskGroup

from gwproto import (
    ClientData,
    ClientEnd,
    ClientGone,
    Delegate,
    Draining,
    Event,
    Gateway,
    Headers,
    LossReason,
    Origin,
    SendData,
    SendEnd,
    SendHead,
)
from gwproto.testing import Connection, Step, Visit
from gwproto_cli.simulated import serve_connection
from gwproto_io.driver import Interrupts, drive
from gwproto_io.sends import Send
from gwproto_io.upstream import Pool, Upstreams
from scenarios.model import (
    EPOCH,
    SECRET,
    Arrival,
    Report,
    Scenario,
    Seen,
    Sent,
    configuration,
    credentials,
    seen,
    sent,
)
from support.memory import MemoryStream, connected

_ERRORS: dict[LossReason, Exception] = {
    LossReason.REFUSED: ConnectionRefusedError(),
    LossReason.DNS: socket.gaierror(),
    LossReason.TLS: ssl.SSLError(),
}


class Providers:
    """A scenario's providers behind connections in memory."""

    def __init__(self, scenario: Scenario, tasks: TaskGroup) -> None:
        self._script = list(scenario.script)
        self._tasks = tasks
        self.sent: list[Sent] = []
        self.streams: list[MemoryStream] = []  # the gateway's ends

    async def dial(self, origin: Origin) -> ByteStream:
        connection = self._next()
        await anyio.sleep(connection.dial)
        if connection.lost is not None:
            raise _ERRORS[connection.lost]
        ours, theirs = connected()
        self.streams.append(ours)
        self._tasks.start_soon(self._serve, origin, theirs, [connection.steps])
        return ours

    def _next(self) -> Connection:
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    async def _serve(self, origin: Origin, stream: MemoryStream, first: list[Sequence[Step]]) -> None:
        def respond(method: str, target: str, headers: Headers, body: bytes) -> Sequence[Step]:
            assert dict(headers)[b"authorization"] == f"Bearer {SECRET}".encode()
            self.sent.append(sent(origin.host, method, target, body))
            return first.pop() if first else self._next().steps

        await serve_connection(stream, respond)


class ScriptedClient:
    """A visit as a driver's client."""

    def __init__(self, visit: Visit, interrupts: Interrupts) -> None:
        self._visit = visit
        self._interrupts = interrupts
        self._pieces = list(visit.body)
        self._due = anyio.current_time()
        self._writing: anyio.CancelScope | None = None
        self.status = 0
        self.headers: Headers = ()
        self.body = bytearray()
        self.ending = ""

    async def leave(self) -> None:
        await anyio.sleep(self._visit.leaves_after)
        if not self.ending:
            self.ending = "left"
            self._interrupts.post(ClientGone())
            if self._writing is not None:
                self._writing.cancel()

    def take(self) -> Event | None:
        return None

    async def next_event(self) -> Event:
        if self._pieces:
            after, data = self._pieces[0]
            await anyio.sleep_until(self._due + after)
            self._due += after
            self._pieces.pop(0)
            return ClientData(data)
        if not self._visit.complete:
            await anyio.sleep_forever()
        return ClientEnd()

    async def send(self, commands: Sequence[Send]) -> None:
        if self.ending:
            return
        for command in commands:
            if isinstance(command, SendHead):
                self.status, self.headers = command.status, command.headers
            elif isinstance(command, SendData):
                self.body += command.data
                if self._visit.write_time:
                    with anyio.CancelScope() as self._writing:
                        await anyio.sleep(self._visit.write_time)
                    self._writing = None
            else:
                assert isinstance(command, SendEnd | Delegate)
                self.ending = self.ending or "complete"

    def abort(self) -> None:
        self.ending = self.ending or "aborted"


class DriverRun:
    """A scenario on the driver alone. What is left behind can be looked at afterwards."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.gateway: Gateway
        self.pool: Pool
        self.providers: Providers
        self._seen: dict[int, Seen] = {}
        self._running: set[Interrupts] = set()

    async def run(self) -> Report:
        scenario = self.scenario
        now = anyio.current_time()
        self.gateway = Gateway(configuration(scenario), rng=random.Random(1), epoch=EPOCH - now)
        async with anyio.create_task_group() as world:
            self.providers = Providers(scenario, world)
            self.pool = Pool(credentials(scenario), dial=self.providers.dial)
            try:
                async with anyio.create_task_group() as clients:
                    for index, arrival in enumerate(scenario.arrivals):
                        clients.start_soon(self._visit, index, arrival)
                    if min(scenario.unready_after, scenario.drain_after) < math.inf:
                        clients.start_soon(self._drain)
                self.check_quiet()
            finally:
                await self.pool.aclose()
                world.cancel_scope.cancel()
        assert all(stream.closed for stream in self.providers.streams)
        return Report(
            seen=tuple(one for _, one in sorted(self._seen.items())),
            sent=tuple(self.providers.sent),
        )

    def check_quiet(self) -> None:
        """Nothing is in flight: what was acquired was released, what is open is idle in the pool."""
        assert self.pool.leases.leased == 0
        assert sum(not stream.closed for stream in self.providers.streams) == self.pool.leases.idle
        assert self.gateway.statistics(anyio.current_time()).in_flight == 0

    async def _visit(self, index: int, arrival: Arrival) -> None:
        await anyio.sleep(arrival.after)
        exchange = self.gateway.begin(arrival.visit.head, anyio.current_time())
        interrupts = Interrupts()
        self._running.add(interrupts)
        client = ScriptedClient(arrival.visit, interrupts)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.leave)
                upstreams = Upstreams(self.pool, tasks.start_soon)
                await drive(exchange, client, upstreams, interrupts, anyio.current_time)
                tasks.cancel_scope.cancel()
        finally:
            self._running.discard(interrupts)
        self._seen[index] = seen(
            client.status, client.headers, bytes(client.body), client.ending, exchange.outcome
        )

    async def _drain(self) -> None:
        await anyio.sleep(min(self.scenario.unready_after, self.scenario.drain_after))
        self.gateway.drain(anyio.current_time())
        if self.scenario.drain_after < math.inf:
            for interrupts in self._running:
                interrupts.post(Draining())


async def on_driver(scenario: Scenario) -> Report:
    return await DriverRun(scenario).run()

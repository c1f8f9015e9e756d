"""The gateway as an ASGI 3 application."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from anyio import CancelScope, create_task_group, current_time, sleep, to_thread

from gwproto import Draining, Gateway, Outcome
from gwproto_asgi.client import AsgiClient
from gwproto_asgi.patience import Patience
from gwproto_asgi.scope import Receive, Scope, Send, request_head
from gwproto_asgi.tasks import AnyioTasks, AsyncioTasks, Tasks
from gwproto_io.driver import Interrupts, drive
from gwproto_io.upstream import Pool, Upstreams
from gwproto_ops.deployment import Deployment
from gwproto_ops.start import reconfigure_gateway, start_gateway
from gwproto_ops.state import INTERVAL, StateFile
from gwproto_ops.telemetry import Telemetry

if TYPE_CHECKING:
    from gwproto_ops.journal import Journal


class GatewayApp:
    """Serves a deployment on whatever runs it: any ASGI server, any framework's mount, asyncio or trio.

    It starts with the first request, since frameworks pass no lifespan events to what is mounted in them. A host that
    stops calls :meth:`unready`, then :meth:`drain`, and :meth:`aclose` once its requests are done; as a server's
    outermost application this one hears of the last by ``lifespan.shutdown``.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        telemetry: Telemetry | None = None,
        record: Callable[[Outcome], None] | None = None,
        pool: Callable[[], Pool] | None = None,
        rng: random.Random | None = None,
        state: StateFile | None = None,
        journal: "Journal | None" = None,
    ) -> None:
        """``telemetry`` has the pages that tell of this gateway, and hears of every request that has ended, unless
        ``record`` is there to be called instead. ``state``: where to keep, every minute and at the end, what is known
        of the providers. With a ``journal``, chance is the journal's: ``rng`` is not used."""
        self._state = state
        self._deployment = deployment
        self._telemetry = telemetry = Telemetry() if telemetry is None else telemetry
        self._record = telemetry.record if record is None else record
        self._new_pool = pool if pool is not None else lambda: Pool(self._deployment.credentials)
        self._rng = rng if rng is not None else random.Random()
        self._journal = journal
        self._home: object = None  # the event loop everything below belongs to
        self._gateway: Gateway
        self._on_asyncio: bool
        self._clock: Callable[[], float]
        self._pool: Pool
        self._new_tasks: Callable[[], Tasks]
        self._running: dict[Interrupts, CancelScope] = {}
        self._draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif kind == "lifespan":
            await self._live(receive, send)
        else:
            raise ValueError(f"unknown ASGI scope type {kind!r}")

    def unready(self) -> None:
        """Say by ``/readyz`` that this process is about to stop. Everything else goes on as before."""
        self._start()
        self._gateway.drain(self._clock())

    def drain(self) -> None:
        """Have every request, running or yet to come, finish within ``drain_timeout``."""
        self.unready()
        self._draining = True
        for interrupts in self._running:
            interrupts.post(Draining())

    def stop(self) -> None:
        """Break off whatever is still running."""
        for scope in self._running.values():
            scope.cancel()

    def reconfigure(self, deployment: Deployment) -> None:
        """Serve this from now on. Requests in flight keep what they began with. To be called on the event loop."""
        if self._home is not None:
            before, now = self._deployment, self._clock()
            reconfigure_gateway(
                self._gateway, before, deployment, now, state=self._state, journal=self._journal
            )
            self._pool.reconfigure(deployment.credentials, deployment.destinations)
        self._deployment = deployment

    @property
    def deployment(self) -> Deployment:
        """What is served."""
        return self._deployment

    async def aclose(self) -> None:
        """Close the connections kept for providers. Requests should be done by now."""
        if self._home is not None:
            await self._pool.aclose()
            await self._save()
            if self._telemetry.open:
                await to_thread.run_sync(self._telemetry.close)

    async def keep_state(self) -> None:
        """Save what is known of the providers every minute, until cancelled."""
        self._start()
        while self._state is not None:
            await sleep(INTERVAL)
            await self._save()

    async def _save(self) -> None:
        if self._state is not None:
            await to_thread.run_sync(self._state.save, self._gateway.snapshot(self._clock()))

    def _start(self) -> None:
        home = _event_loop()
        if home is self._home:
            return
        self._on_asyncio = isinstance(home, asyncio.AbstractEventLoop)
        if isinstance(home, asyncio.AbstractEventLoop):
            self._clock, self._new_tasks = home.time, AsyncioTasks
        else:
            self._clock, self._new_tasks = current_time, AnyioTasks
        # Connections and the clock belong to a loop: test clients run each request on one of its own.
        self._pool = self._new_pool()
        self._gateway = start_gateway(
            self._deployment, self._clock, rng=self._rng, state=self._state, journal=self._journal
        )
        self._telemetry.attach(self._gateway, self._clock, lambda: len(self._running))
        self._home = home

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._start()
        clock = self._clock
        exchange = self._gateway.begin(request_head(scope), clock())
        patience, writing = (Patience(), Patience()) if self._on_asyncio else (None, None)
        interrupts = Interrupts() if patience is None else Interrupts(patience.until)
        if self._draining:
            interrupts.post(Draining())
        try:
            with CancelScope() as self._running[interrupts]:
                async with self._new_tasks() as tasks:
                    client = AsgiClient(
                        scope,
                        receive,
                        send,
                        interrupts,
                        clock=clock,
                        telemetry=self._telemetry,
                        new_scope=CancelScope if writing is None else writing.until,
                        on_upload=lambda: tasks.start_soon(client.watch),
                    )
                    upstreams = Upstreams(self._pool, tasks.start_soon)
                    await drive(exchange, client, upstreams, interrupts, clock)
        finally:
            if patience is not None and writing is not None:
                patience.close()
                writing.close()
            del self._running[interrupts]
            if exchange.outcome is not None:
                self._record(exchange.outcome)

    async def _live(self, receive: Receive, send: Send) -> None:
        async with create_task_group() as tasks:
            while (await receive())["type"] == "lifespan.startup":
                self._start()
                tasks.start_soon(self.keep_state)
                await send({"type": "lifespan.startup.complete"})
            tasks.cancel_scope.cancel()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})


def _event_loop() -> object:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        from trio.lowlevel import current_trio_token

        return current_trio_token()

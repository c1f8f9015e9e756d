"""The trio server: listening, serving, and an orderly end."""

import logging
import random
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from gwproto import Outcome
from gwproto_io.codec import DEFAULT, Codec
from gwproto_ops.deployment import Deployment
from gwproto_ops.listening import base_url
from gwproto_ops.reloading import HANGUP, Reloader
from gwproto_ops.state import INTERVAL, StateFile
from gwproto_ops.telemetry import Telemetry
from gwproto_raw import server as raw
from gwproto_raw.connection import Connection
from gwproto_raw.server import ACCEPT_PAUSE, BACKLOG, EXHAUSTED, GRACE
from gwproto_raw.upstream import Pool
from gwproto_trio.connecting import dial_tcp, start, start_socket
from gwproto_trio.loops import Loop

if TYPE_CHECKING:
    from gwproto_ops.journal import Journal

logger = logging.getLogger("gwproto")


class Server(raw.Server):
    """Serves a deployment's connections. Made inside a trio run, to whose clock it belongs.

    Embedded, it is given sockets in a nursery of the host's, ``nursery.start_soon(server.serve, sockets)``, or single
    streams, also as the handler of :func:`trio.serve_listeners`. It ends when cancelled, which breaks running answers
    off, or after :meth:`drain`, when the last of them is complete.
    """

    loop: Loop

    def __init__(
        self,
        deployment: Deployment,
        *,
        telemetry: Telemetry | None = None,
        record: Callable[[Outcome], None] | None = None,
        pool: Pool | None = None,
        rng: random.Random | None = None,
        state: StateFile | None = None,
        journal: "Journal | None" = None,
        codec: Codec = DEFAULT,
    ) -> None:
        """``telemetry`` has the pages that tell of this gateway, and hears of every request that has ended, unless
        ``record`` is there to be called instead. ``state``: where to keep, every minute and at the end, what is known
        of the providers. With a ``journal``, chance is the journal's: ``rng`` is not used. ``codec`` reads the clients'
        requests; a ``pool`` given has its own."""
        loop = Loop()
        if pool is None:
            pool = Pool(deployment.credentials, loop=loop, dial=partial(dial_tcp, loop=loop), codec=codec)
        self._awaited: dict[Connection, trio.Event] = {}  # the ends of connections
        self._done = trio.Event()
        self._accepting: set[trio.CancelScope] = set()
        super().__init__(
            *(deployment, loop, pool),
            telemetry=telemetry,
            record=record,
            rng=rng,
            state=state,
            journal=journal,
            codec=codec,
        )

    async def serve(
        self,
        sockets: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve on listening TCP ``sockets``, which become this function's own, until :meth:`drain`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_state)
                for sock in sockets:
                    sock.setblocking(False)
                    nursery.start_soon(self._accept, sock)
                task_status.started()
                try:
                    await self._done.wait()
                finally:
                    self.stop()
                nursery.cancel_scope.cancel()
        finally:
            for sock in sockets:
                sock.close()
            with trio.CancelScope(shield=True):
                self.pool.close()
                await self._save()
                if self.telemetry.open:
                    await trio.to_thread.run_sync(self.telemetry.close)

    async def serve_stream(self, stream: trio.abc.Stream, client: str = "") -> None:
        """Serve one connection to its end, and close it. ``client`` is the peer's address, without port."""
        connection = Connection(self)
        self._awaited[connection] = ended = trio.Event()
        start(stream, connection, self.loop, client)
        try:
            await ended.wait()
        finally:
            connection.stop()

    def closed(self, connection: Connection) -> None:
        super().closed(connection)
        if (ended := self._awaited.pop(connection, None)) is not None:
            ended.set()
        self._check()

    def drain(self) -> None:
        """Accept no more, close what is idle, and have every running request finish within ``drain_timeout``."""
        super().drain()
        for scope in self._accepting:
            scope.cancel()
        self._check()

    def _check(self) -> None:
        if self.draining and not self.connections:
            self._done.set()

    async def _keep_state(self) -> None:
        while self._state is not None:
            await trio.sleep(INTERVAL)
            await self._save()

    async def _save(self) -> None:
        if self._state is not None:
            await trio.to_thread.run_sync(self._state.save, self.gateway.snapshot(self.clock()))

    async def _accept(self, listener: socket.socket) -> None:
        with trio.CancelScope() as scope:
            self._accepting.add(scope)
            while not self.draining:
                await trio.lowlevel.wait_readable(listener)
                try:
                    sock, address = listener.accept()
                    start_socket(sock, Connection(self), self.loop, address[0])
                except OSError as error:
                    if error.errno in EXHAUSTED:
                        logger.warning("accepting no connections for a moment: %s", error.strerror)
                        await trio.sleep(ACCEPT_PAUSE)
                    # else the client is gone already
        self._accepting.discard(scope)
        listener.close()


async def serve(
    deployment: Deployment,
    *,
    on_listening: Callable[[list[str]], None],
    sockets: Sequence[socket.socket] | None = None,
    telemetry: Telemetry | None = None,
    state: StateFile | None = None,
    journal: "Journal | None" = None,
    reloader: Reloader | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; a second signal returns at once.

    ``on_listening`` is given the base URLs once connections are accepted. ``sockets``, bound already, become this
    function's own; without them it binds the configured host and port (0: any free one). ``state``: where to keep what
    is known of the providers. ``reloader``, which becomes this function's own, keeps what is served at what its source
    says, and hears of SIGHUP. Runs in the main thread.
    """
    settings = deployment.configuration.settings.server
    if sockets is None:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        sockets = [socket.create_server((settings.host, settings.port), family=family)]
    for sock in sockets:
        sock.listen(BACKLOG)
    urls = [base_url(sock) for sock in sockets]
    server = Server(deployment, telemetry=telemetry, state=state, journal=journal)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await anext(signals)
                nursery.start_soon(stop_now)
                server.unready()
                settings = server.deployment.configuration.settings.server
                await trio.sleep(settings.drain_delay)
                server.drain()
                await trio.sleep(settings.drain_timeout + GRACE)
                nursery.cancel_scope.cancel()

            async def stop_now() -> None:
                await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            if reloader is not None:
                await nursery.start(_reload, reloader, server)
            on_listening(urls)
            await server.serve(sockets)
            nursery.cancel_scope.cancel()


async def _reload(
    reloader: Reloader, server: Server, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep ``server`` at what ``reloader`` reads, until cancelled."""
    reloader.attach(server.reconfigure, trio.lowlevel.current_trio_token().run_sync_soon)
    with trio.open_signal_receiver(*HANGUP) as signals:
        reloader.start()
        task_status.started()
        try:
            async for _ in signals:
                reloader.ask()
        finally:
            reloader.close()

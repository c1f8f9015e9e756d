"""The asyncio server: listening, serving, and an orderly end."""

import asyncio
import logging
import random
import signal
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gwproto import Outcome
from gwproto_asyncio.dialling import dial_tcp
from gwproto_asyncio.loops import Loop, protocol_of
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

if TYPE_CHECKING:
    from gwproto_ops.journal import Journal

logger = logging.getLogger("gwproto")

ACCEPTS = 64  # connections taken before others have their turn


class Server(raw.Server):
    """Serves a deployment's connections. Made inside a running event loop, to which it belongs.

    Embedded, it is given sockets in a task of the host's, ``asyncio.create_task(server.serve(sockets))``, or it makes
    the protocols of a listener of the host's, ``loop.create_server(server.connection, …)``. It ends when cancelled,
    which breaks running answers off, or after :meth:`drain`, when the last of them is complete.
    """

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
            pool = Pool(deployment.credentials, loop=loop, dial=dial_tcp, codec=codec)
        self._loop = loop.own
        self._listening: set[socket.socket] = set()
        self._welcomes: set[asyncio.Task[Any]] = set()  # connections that are about to be
        self._done = asyncio.Event()
        super().__init__(
            *(deployment, loop, pool),
            telemetry=telemetry,
            record=record,
            rng=rng,
            state=state,
            journal=journal,
            codec=codec,
        )

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Accept and serve on listening TCP ``sockets``, which become this function's own, until :meth:`drain`."""
        for sock in sockets:
            sock.setblocking(False)
            self._listening.add(sock)
            self._loop.add_reader(sock, self._accept, sock)
        await self._until_done()

    def connection(self) -> asyncio.Protocol:
        """A protocol for one more client."""
        return protocol_of(Connection(self))

    def closed(self, connection: Connection) -> None:
        super().closed(connection)
        self._check()

    def drain(self) -> None:
        """Accept no more, close what is idle, and have every running request finish within ``drain_timeout``."""
        self._deafen()
        super().drain()
        self._check()

    def stop(self) -> None:
        """Break off whatever is still running."""
        self._deafen()
        for welcome in self._welcomes:
            welcome.cancel()
        super().stop()

    async def aclose(self) -> None:
        """Stop, close the connections kept for providers, and write what is to be kept."""
        self.stop()
        self.pool.close()
        await self._save()
        if self.telemetry.open:
            await self._loop.run_in_executor(None, self.telemetry.close)

    async def _until_done(self) -> None:
        keeper = self._loop.create_task(self._keep_state())
        try:
            await self._done.wait()
        finally:
            keeper.cancel()
            await self.aclose()

    def _check(self) -> None:
        if self.draining and not self.connections and not self._welcomes:
            self._done.set()

    async def _keep_state(self) -> None:
        while self._state is not None:
            await asyncio.sleep(INTERVAL)
            await self._save()

    async def _save(self) -> None:
        if self._state is not None:
            await self._loop.run_in_executor(None, self._state.save, self.gateway.snapshot(self.clock()))

    def _deafen(self) -> None:
        for listener in self._listening:
            self._loop.remove_reader(listener)
            listener.close()
        self._listening.clear()

    def _accept(self, listener: socket.socket) -> None:
        # Not the loop's own server: uvloop's takes and closes connections when it has no descriptor for them.
        for _ in range(ACCEPTS):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    logger.warning("accepting no connections for a moment: %s", error.strerror)
                    self._loop.remove_reader(listener)
                    self._loop.call_later(ACCEPT_PAUSE, self._resume, listener)
                    return
                continue  # the client is gone already
            self._welcome(sock)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listening:
            self._loop.add_reader(listener, self._accept, listener)

    def _welcome(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            return
        welcome = self._loop.create_task(self._loop.connect_accepted_socket(self.connection, sock))
        self._welcomes.add(welcome)
        welcome.add_done_callback(self._welcomed)

    def _welcomed(self, welcome: "asyncio.Task[Any]") -> None:
        self._welcomes.discard(welcome)
        if not welcome.cancelled() and (error := welcome.exception()) is not None:
            logger.error("a connection could not be taken", exc_info=error)
        self._check()


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
    asked, at_once = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (at_once if asked.is_set() else asked).set()

    async def drained() -> None:
        await asked.wait()
        server.unready()
        settings = server.deployment.configuration.settings.server
        await asyncio.sleep(settings.drain_delay)
        server.drain()
        await asyncio.sleep(settings.drain_timeout + GRACE)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if reloader is not None:
        for number in HANGUP:
            loop.add_signal_handler(number, reloader.ask)
        reloader.attach(server.reconfigure, loop.call_soon_threadsafe)
        reloader.start()
    try:
        serving = loop.create_task(server.serve(sockets))
        on_listening(urls)
        await _first(serving, loop.create_task(drained()), loop.create_task(at_once.wait()))
    finally:
        if reloader is not None:
            reloader.close()
        for number in (signal.SIGTERM, signal.SIGINT, *HANGUP):
            loop.remove_signal_handler(number)


async def _first(*tasks: "asyncio.Task[Any]") -> None:
    """Wait for the first of ``tasks`` to end, then end the others."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()

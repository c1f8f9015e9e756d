"""The Quart application on Hypercorn, in this process, until a signal says stop."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING

from hypercorn.config import Config

from gwproto_asgi.client import WRITE_TIMEOUT
from gwproto_ops.deployment import Deployment
from gwproto_ops.listening import base_url
from gwproto_ops.reloading import HANGUP, Reloader
from gwproto_ops.state import StateFile
from gwproto_ops.telemetry import Telemetry
from gwproto_quart.app import create_app, gateway_of
from gwproto_quart.connections import Connections

if TYPE_CHECKING:
    from gwproto_ops.journal import Journal

KEEP_ALIVE_TIMEOUT = 75.0  # seconds, as nginx's
BACKLOG = 2048
MAX_HEAD = 65536  # bytes
GRACE = 5.0  # seconds past drain_timeout, for what the core ended to leave the buffers


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
    """Serve until SIGTERM or SIGINT, then drain and return; a second signal cuts everything off.

    ``on_listening`` is given the base URLs once connections are accepted. ``sockets``, bound already, become this
    function's own; without them it binds the configured host and port (0: any free one). ``state``: where to keep what
    is known of the providers. ``reloader``, which becomes this function's own, keeps what is served at what its source
    says, and hears of SIGHUP. Runs in the main thread.
    """
    settings = deployment.configuration.settings.server
    app = create_app(deployment, telemetry=telemetry, state=state, journal=journal)
    gateway = gateway_of(app)
    if sockets is None:
        sockets = [listening_socket(settings.host, settings.port)]
    else:
        for sock in sockets:
            _tune(sock)
    connections = Connections(app, hypercorn_config())
    asked, at_once = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            at_once.set()
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if reloader is not None:
        for number in HANGUP:
            loop.add_signal_handler(number, reloader.ask)
    servers: list[asyncio.Server] = []
    try:
        urls = [base_url(sock) for sock in sockets]
        await app.startup()
        if reloader is not None:
            reloader.attach(gateway.reconfigure, loop.call_soon_threadsafe)
            reloader.start()
        for sock in sockets:
            servers.append(await asyncio.start_server(connections.accept, sock=sock, backlog=BACKLOG))
        on_listening(urls)
        await asked.wait()
        gateway.unready()
        settings = gateway.deployment.configuration.settings.server
        await _first(settings.drain_delay, at_once.wait())
        gateway.drain()
        for server in servers:
            server.close()
        await _first(settings.drain_timeout + GRACE, at_once.wait(), connections.finish())
    finally:
        if reloader is not None:
            reloader.close()
        for number in (signal.SIGTERM, signal.SIGINT, *HANGUP):
            loop.remove_signal_handler(number)
        for server in servers:
            server.close()
        for sock in sockets:
            sock.close()
        gateway.stop()
        await connections.abort()
        await app.shutdown()


async def _first(patience: float, *work: Coroutine[None, None, object]) -> None:
    """Wait for the first of ``work`` to end, for no longer than ``patience`` seconds."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def hypercorn_config() -> Config:
    """Hypercorn's settings for a gateway."""
    config = Config()
    config.keep_alive_timeout = KEEP_ALIVE_TIMEOUT
    config.keep_alive_max_requests = sys.maxsize
    config.h11_max_incomplete_size = MAX_HEAD
    config.include_server_header = False
    config.accesslog = None
    # A logger instead of a file name: no handler of Hypercorn's own, whatever the program set up applies.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    return config


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens already, with the options that what it accepts inherits."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _tune(sock)
        sock.bind((host, port))
        sock.listen(BACKLOG)  # what is taken shows here: SO_REUSEADDR lets two sockets bind
    except BaseException:
        sock.close()
        raise
    return sock


def _tune(sock: socket.socket) -> None:
    """For what it will accept."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A response that was broken off leaves a full buffer, and Hypercorn waits for it to empty: of a client that
        # reads no more only the kernel can rid it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_TIMEOUT * 1000))

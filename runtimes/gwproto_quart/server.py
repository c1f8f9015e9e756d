"""The Quart application on Hypercorn, in this process, until a signal says stop."""

import asyncio
import inspect
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from gwproto_asgi.client import WRITE_TIMEOUT
from gwproto_ops.deployment import Deployment
from gwproto_quart.app import create_app, gateway_of

KEEP_ALIVE_TIMEOUT = 75.0  # seconds, as nginx's; Hypercorn allows a request's head no less
BACKLOG = 2048
MAX_HEAD = 65536  # bytes
GRACE = 5.0  # seconds past drain_timeout, for what the core ended to leave the buffers


async def serve(
    deployment: Deployment,
    *,
    on_listening: Callable[[list[str]], None],
    sockets: Sequence[socket.socket] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; a second signal cuts everything off.

    ``on_listening`` is given the base URLs once connections are accepted. ``sockets``, bound already, become this
    function's own; without them it binds the configured host and port (0: any free one). Runs in the main thread.
    """
    settings = deployment.configuration.settings.server
    app = create_app(deployment)
    gateway = gateway_of(app)
    if sockets is None:
        sockets = [listening_socket(settings.host, settings.port)]
    urls = [url_of(sock) for sock in sockets]
    config = hypercorn_config(sockets, settings.drain_timeout)
    loop = asyncio.get_running_loop()
    asked, at_once = asyncio.Event(), asyncio.Event()

    async def until_drained() -> None:
        on_listening(urls)
        await asked.wait()
        gateway.unready()
        await _wait(at_once, settings.drain_delay)
        gateway.drain()

    def stop() -> None:
        if asked.is_set():
            at_once.set()
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    server = loop.create_task(hypercorn_serve(app, config, shutdown_trigger=until_drained))
    server.add_done_callback(lambda _: at_once.set())
    server.add_done_callback(lambda _: asked.set())
    try:
        await asked.wait()
        await _wait(at_once, settings.drain_delay + settings.drain_timeout + GRACE)
        gateway.stop()
        await _cut(server)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        server.cancel()
        await gateway.aclose()
    if server.done() and not server.cancelled():
        server.result()


async def _wait(event: asyncio.Event, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            await event.wait()
    except TimeoutError:
        pass


async def _cut(server: asyncio.Task[None]) -> None:
    """Wait for Hypercorn's end, and make it come when it does not come by itself.

    Hypercorn closes a connection by waiting until all is written, which a client that reads no more prevents. It keeps
    its connections to itself, but for the locals of the coroutine that serves each.
    """
    for _ in range(20):
        await asyncio.wait([server], timeout=0.1)
        if server.done():
            break
        for task in asyncio.all_tasks():
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and coroutine.__name__ == "_server_callback":
                inspect.getcoroutinelocals(coroutine)["writer"].transport.abort()


def hypercorn_config(sockets: Sequence[socket.socket], drain_timeout: float) -> Config:
    """Hypercorn's settings for a gateway. Takes the sockets over."""
    config = Config()
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    config.backlog = BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE_TIMEOUT
    config.keep_alive_max_requests = sys.maxsize
    config.h11_max_incomplete_size = MAX_HEAD
    config.graceful_timeout = drain_timeout + 2 * GRACE  # never first: it cancels, and logs that
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger(
        "hypercorn.error"
    )  # as logging is set up, without a handler of Hypercorn's
    config.errorlog.setLevel(logging.WARNING)
    return config


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens already, with the options that what it accepts inherits."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A response that was broken off leaves a full buffer, and Hypercorn waits for it to empty: of a client
            # that reads no more only the kernel can rid it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_TIMEOUT * 1000))
        sock.bind((host, port))
        sock.listen(BACKLOG)  # what is taken shows here: SO_REUSEADDR lets two sockets bind
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket) -> str:
    """The base URL of a bound TCP socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

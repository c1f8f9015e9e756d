"""``serve`` with ``server.workers`` above 1: the supervisor's process.

Workers are fresh interpreters, not forks: a fork would copy what the threads of this process hold.
"""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack

from gwproto.failures import ConfigurationError
from gwproto_cli.environment import environment
from gwproto_cli.inert import inert
from gwproto_cli.serving import announce, cannot_listen, passing_database, with_simulated
from gwproto_ops.deployment import Deployment, new_key
from gwproto_ops.listening import reserved
from gwproto_ops.merging import past
from gwproto_ops.records.keeping import Keeper
from gwproto_ops.records.locating import locate
from gwproto_ops.reloading import Source
from gwproto_ops.workers.messages import Order, framed
from gwproto_ops.workers.supervisor import Supervisor


def supervise(
    source: Source,
    ready: Deployment | None,
    *,
    path: str | None,
    env_file: str | None,
    flags: Mapping[str, object],
    access_log: bool,
) -> None:
    """Run workers until a signal stops them. ``ready``: what ``source`` says; None: simulated providers are served."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError((("server.workers", "needs a system that has SO_REUSEPORT"),))
    environ = environment(env_file)
    loaded = source.load()
    server, analytics = loaded.settings.server, loaded.settings.analytics
    for setting, instead in inert(loaded):
        print(f"{setting}: does nothing yet: {instead}", file=sys.stderr)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with ExitStack() as stack:
        try:
            port = stack.enter_context(reserved(server.host, server.port)).getsockname()[1]
        except OSError as error:
            raise cannot_listen(server.host, server.port, error) from None
        simulated: list[str] = []
        database = ""
        if ready is None:
            simulated = _hosted(stack)
            source.complete = with_simulated(simulated)
            if loaded.origins["analytics.database"] == "default":
                database = stack.enter_context(passing_database())
        chosen = ready or source.read()
        _make_tables(database or analytics.database, server.state_dir, analytics.retention_days, environ)
        # One for all; also where it is needed only once the configured ones are taken away.
        made_key = chosen.made_key or (new_key() if source.make_key else "")

        def start(number: int) -> tuple["subprocess.Popen[bytes]", socket.socket]:
            order = Order(
                number=number,
                host=server.host,
                port=port,
                config=path,
                env_file=env_file,
                flags=dict(flags),
                access_log=access_log,
                made_key=made_key,
                simulated=simulated,
                database=database,
            )
            return _start(order)

        Supervisor(
            server.workers,
            start,
            on_listening=lambda urls: announce(urls, chosen, environ, bool(simulated)),
            summed=past,
        ).run()


def _start(order: Order) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gwproto_cli.worker", str(theirs.fileno())],
                # What this process imports from; -P: and from nowhere else.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # a terminal's Ctrl-C is for the supervisor, which passes it on
            )
        except BaseException:
            ours.close()
            raise
    ours.sendall(framed(order))
    return process, ours


def _hosted(stack: ExitStack) -> list[str]:
    """The URLs of simulated providers, which run in a thread until ``stack`` is closed."""
    from anyio.from_thread import start_blocking_portal

    from gwproto_cli.simulated import demo_providers, hosted

    portal = stack.enter_context(start_blocking_portal("asyncio"))
    return stack.enter_context(portal.wrap_async_context_manager(hosted(demo_providers())))


def _make_tables(database: str, state_dir: str, retention_days: int, environ: Mapping[str, str]) -> None:
    """Have SQLite's tables there, and whole, before several processes look for them at once.

    What fails here the workers try again; PostgreSQL has a lock for it.
    """
    source = locate(database, state_dir, environ) if database.startswith("sqlite:") else None
    if source is not None:
        keeper = Keeper(source, retention_days=retention_days, limit=1)
        keeper.work(time.monotonic(), time.time())
        keeper.close()

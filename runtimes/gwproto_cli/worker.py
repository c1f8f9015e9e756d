"""One of the processes of ``serve`` with several workers: started by the supervisor, never by hand."""

import os
import select
import socket
import sys
import threading
from contextlib import AsyncExitStack

from gwproto.failures import ConfigurationError
from gwproto_cli.environment import environment
from gwproto_cli.serving import (
    log,
    run_in,
    server_of,
    source_of,
    state_file,
    with_database,
    with_simulated,
)
from gwproto_ops import tracing
from gwproto_ops.listening import shared_socket
from gwproto_ops.reloading import Reloader
from gwproto_ops.telemetry import Telemetry
from gwproto_ops.workers.link import Link
from gwproto_ops.workers.messages import Failed, Order, Ready, Reloaded, Told


def main() -> int:
    """The argument is the descriptor of a socket, on which the order comes."""
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        link = Link(sock)
        try:
            work(link.order(), link)
        except EOFError:
            return 1
        except ConfigurationError as error:
            link.send(Failed(str(error)))
            return 1
    return 0


def work(order: Order, link: Link) -> None:
    """Serve until a signal says stop. Raises ``ConfigurationError``."""
    environ = environment(order.env_file)
    source = source_of(order.config, order.env_file, order.flags, made_key=order.made_key)
    source.make_key = bool(order.made_key)
    if order.simulated:
        source.complete = with_simulated(order.simulated)
    chosen = source.read()
    settings = chosen.configuration.settings
    if order.database:
        settings = with_database(settings, order.database)
    tracer = tracing.from_environment(os.environ)
    run = server_of(settings.server.runtime)

    async def serving(stack: AsyncExitStack) -> None:
        log(stack, requests=order.access_log, piece=select.PIPE_BUF)
        reloader = Reloader(source, chosen)
        reloader.settled = lambda: link.send(Reloaded())
        telemetry = Telemetry(
            settings, environ=environ, tracer=tracer, reloads=lambda: reloader.status, gather=link.gather
        )

        def report() -> None:
            """On the event loop's thread: what takes longer is another's."""
            made = telemetry.report()
            threading.Thread(target=lambda: link.send(Told(made())), daemon=True).start()

        def hear() -> None:
            try:
                reloader.soon(report)
            except RuntimeError:  # the event loop is at its end
                pass

        def on_listening(urls: list[str]) -> None:
            link.listen(hear, lambda: telemetry.draining)
            link.send(Ready(urls))

        await run(
            chosen,
            on_listening=on_listening,
            sockets=[shared_socket(order.host, order.port)],
            telemetry=telemetry,
            state=None if order.simulated else state_file(chosen, environ, order.number),
            reloader=reloader,
        )

    run_in(settings.server, serving)


if __name__ == "__main__":
    sys.exit(main())

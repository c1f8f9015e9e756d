"""A trio program that serves the gateway beside its own work."""

from functools import partial

import trio

from gwproto_ops.deployment import from_environment
from gwproto_trio import Server


async def main(port=8080, task_status=trio.TASK_STATUS_IGNORED):
    server = Server(from_environment())
    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_tcp, server.serve_stream, port, host="127.0.0.1")
        listeners = await nursery.start(listen)
        task_status.started(listeners)
        nursery.start_soon(trio.sleep_forever)  # the program's own work


if __name__ == "__main__":
    trio.run(main)

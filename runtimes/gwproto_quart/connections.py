"""Hypercorn's connections, kept by us: its own worker neither names them nor lets go of them in time."""

import asyncio
import logging
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import ASGIFramework

logger = logging.getLogger("gwproto")

PATIENCE = 1.0  # seconds for connections that were broken off to come to their end


class Connection(TCPServer):
    """One connection. What is sent within one turn of the event loop is written at once.

    Hypercorn writes head, body and end of a response on their own, and writing is a good part of what a response costs.
    It also keeps a connection whose client is gone as open as one that is merely idle.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._unwritten: list[bytes] = []
        self._left = False  # the client sends no more

    async def _read_data(self) -> None:
        await super()._read_data()
        self._left = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if event.data:
                if not self._unwritten:
                    self.loop.call_soon(self._write)
                self._unwritten.append(event.data)
            try:
                await self.writer.drain()
            except (ConnectionError, RuntimeError):
                await self.protocol.handle(Closed())
        elif not (self._left and isinstance(event, Updated)):  # nobody is left to be idle
            if isinstance(event, Closed):
                self._write()
            await super().protocol_send(event)

    def _write(self) -> None:
        if self._unwritten:
            self.writer.write(b"".join(self._unwritten))
            self._unwritten.clear()


class Connections:
    """Every open connection to ``app``. ``accept`` is for :func:`asyncio.start_server`."""

    def __init__(self, app: ASGIFramework, config: Config) -> None:
        self._app = ASGIWrapper(app)
        self._config = config
        self._context = WorkerContext(None)
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._none = asyncio.Event()
        self._none.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(self._app, loop, self._config, self._context, {}, reader, writer)
        task = loop.create_task(connection.run())
        self._open[task] = writer
        self._none.clear()
        task.add_done_callback(self._closed)

    async def finish(self) -> None:
        """Close what is idle, everything else after the answer it is giving; return when all are closed."""
        await self._context.terminated.set()
        await self._none.wait()

    async def abort(self) -> None:
        """Close everything at once, whether its client takes what is written or not."""
        for writer in self._open.values():
            writer.transport.abort()
        for _ in range(2):
            if self._open:
                await asyncio.wait(self._open, timeout=PATIENCE)
            for task in self._open:
                task.cancel()

    def _closed(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        if not self._open:
            self._none.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("connection failed inside the server", exc_info=error)

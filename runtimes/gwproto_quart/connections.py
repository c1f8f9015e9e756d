"""Hypercorn's connections, kept by us: its own worker neither names them nor lets go of them in time."""

import asyncio
import logging
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ASGIFramework

logger = logging.getLogger("gwproto")

HEAD_TIMEOUT = 10.0  # seconds for a request's head once some of it is here
PATIENCE = 1.0  # seconds for connections that were broken off to come to their end


class Connection(TCPServer):
    """One connection. What is sent within one turn of the event loop is written at once.

    Hypercorn writes head, body and end of a response on their own, and writing is a good part of what a response costs.
    It also keeps a connection whose client is gone, or sends a request's head for ever, as open as one that is merely
    idle, and takes up HTTP/2 whenever a client says so.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._unwritten: list[bytes] = []
        self._left = False  # the client sends no more
        self._idle = True  # no request is under way
        self._patience = self.config.keep_alive_timeout  # for the next one

    async def _read_data(self) -> None:
        http1 = self.protocol.protocol
        assert isinstance(http1, H11Protocol)  # no TLS, so nothing was negotiated
        # Hypercorn has no setting for this
        http1._check_protocol = _stay_with_http1  # type: ignore[method-assign]
        try:
            while data := await self.reader.read(MAX_RECV):
                await self.protocol.handle(RawData(data))
                if self._idle and self._patience != HEAD_TIMEOUT and http1.connection.trailing_data[0]:
                    self._patience = HEAD_TIMEOUT
                    await self.idle_task.restart(self._task_group, self._idle_timeout)
        except OSError:
            pass
        await self.protocol.handle(Closed())
        self._left = True
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        try:
            await asyncio.wait_for(self.context.terminated.wait(), self._patience)
        except TimeoutError:
            pass
        await asyncio.shield(self._initiate_server_close())

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
        elif isinstance(event, Updated):
            self._idle = event.idle
            self._patience = self.config.keep_alive_timeout
            if not self._left:  # else nobody is there to be idle
                await super().protocol_send(event)
        else:
            self._write()
            await super().protocol_send(event)

    def _write(self) -> None:
        if self._unwritten:
            self.writer.write(b"".join(self._unwritten))
            self._unwritten.clear()


async def _stay_with_http1(event: object) -> None:
    """Take no notice of a wish for HTTP/2: not by an upgrade, not by prior knowledge."""


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

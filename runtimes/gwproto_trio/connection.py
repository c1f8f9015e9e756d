"""One client's connection: its requests in order, each driven to its end before the next is begun."""

import math
import socket
import struct
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

import trio

from gwproto import (
    ClientData,
    ClientEnd,
    ClientGone,
    Delegate,
    Draining,
    Event,
    Exchange,
    Headers,
    RequestHead,
    SendData,
    SendHead,
)
from gwproto_io.driver import Interrupts, Send, drive
from gwproto_io.http1_server import CONTINUE, BadRequest, RequestParser, ResponseWriter
from gwproto_io.upstream import Upstreams
from gwproto_trio.sockets import ClientStream

if TYPE_CHECKING:
    from gwproto_trio.server import Server

READ_SIZE = 65536  # bytes
MAX_BUFFERED = 65536  # bytes read ahead; beyond them the client waits
IDLE_TIMEOUT = 75.0  # seconds between requests, as nginx's
HEAD_TIMEOUT = 10.0  # seconds from a head's first byte to its last
WRITE_TIMEOUT = 60.0  # seconds a client may take none of what is sent to it
LINGER_TIMEOUT = 2.0  # seconds for a client to read an early answer before its connection is reset

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class _Bell:
    """Where one task waits until another rings; a third of a parking lot, which is made for many."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        self._waiting = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._give_up)

    def ring(self) -> None:
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting)
            self._waiting = None

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED


class Connection:
    """Serves one client, as a ``driver.Client`` of each of its exchanges.

    One task reads, so that the client's leaving is noticed whatever else goes on; another performs the exchanges.
    """

    __slots__ = (
        "_bad_body",
        "_begun",
        "_closing",
        "_cut",
        "_ended",
        "_eof",
        "_full",
        "_idle",
        "_interrupts",
        "_lingering",
        "_news",
        "_nursery",
        "_parser",
        "_patience",
        "_patient_until",
        "_room",
        "_server",
        "_stream",
        "_writer",
    )

    def __init__(self, server: "Server", stream: trio.abc.Stream, client: str) -> None:
        self._server = server
        self._stream = stream
        self._parser = RequestParser(client, server.codec)
        self._writer = ResponseWriter("GET", "1.1")
        self._news = _Bell()  # where the performer waits for bytes
        self._room = trio.lowlevel.ParkingLot()  # where the reader waits until some are taken
        self._full = False  # the reader does so
        self._interrupts: Interrupts | None = None  # the running exchange's
        self._patience = trio.CancelScope()  # around the reader
        self._patient_until = math.inf  # how long a request may be awaited
        self._idle = True  # no request is under way
        self._eof = False  # the client sends no more
        self._lingering = False  # nothing more of the client is of interest
        self._bad_body: BadRequest | None = None
        self._cut = False  # nothing more may be sent
        self._closing = False  # the connection ends with the present response
        self._begun = False  # the present response's head has been sent
        self._ended = False  # the present response is complete

    async def run(self) -> None:
        """Serve until the client or the server is done."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._read)
                while await self._serve():
                    pass
                if self._ended and not self._eof:
                    await self._linger()
                self._nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self._stream)

    def drain(self) -> None:
        """The server is stopping: end with the running exchange, at once when there is none."""
        if self._interrupts is not None:
            self._interrupts.post(Draining())
        elif self._idle and not self._parser.buffered:
            self._patient_until = -math.inf
            self._patience.cancel()

    # What the driver calls

    def take(self) -> Event | None:
        parser = self._parser
        if parser.complete:
            return ClientEnd()
        if parser.expects_continue or not parser.ready:
            return None
        data = parser.next_data()
        self._make_room()
        return ClientData(data)

    async def next_event(self) -> Event:
        parser = self._parser
        if parser.complete:
            return ClientEnd()
        if parser.expects_continue:
            parser.expects_continue = False
            if not parser.buffered and (waiting := self._write(CONTINUE)) is not None:
                await waiting
        while True:
            try:
                data = parser.next_data()
            except BadRequest as bad:
                self._bad_body = bad
                return ClientGone()
            self._make_room()
            if data:
                return ClientData(data)
            if parser.complete:
                return ClientEnd()
            if self._eof:
                return ClientGone()
            await self._news.wait()

    def send(self, commands: Sequence[Send]) -> Awaitable[None] | None:
        if self._cut:
            return None
        if len(commands) == 1 and type(command := commands[0]) is SendData:  # most of what a stream is
            return self._write(self._writer.data(command.data))
        parts: list[bytes] = []
        body: list[bytes] = []
        for command in commands:
            if type(command) is SendData:
                body.append(command.data)
            elif type(command) is SendHead:
                parts.append(self._head(command.status, command.headers))
            elif type(command) is Delegate:
                return self._delegate(command)
            else:
                self._ended = True
        if body:
            parts.append(self._writer.data(b"".join(body)))
        if self._ended:
            parts.append(self._writer.end())
        return self._write(b"".join(parts))

    def abort(self) -> None:
        self._cut = True
        if self._writer.until_close:
            self._reset()  # an orderly end would look like the end of the body

    # One request

    async def _serve(self) -> bool:
        """Serve the next request; False ends the connection."""
        server = self._server
        try:
            head = await self._next_head()
        except BadRequest as bad:
            self._writer = ResponseWriter("GET", "1.1")
            await self._drive(self._refusal(bad))
            return False
        if head is None:
            return False
        self._writer = ResponseWriter(head.method, head.http_version)
        self._closing = not self._parser.persistent
        self._bad_body = None
        self._begun = self._ended = False
        exchange = server.gateway.begin(head, server.clock())
        await self._drive(exchange)
        if self._bad_body is not None and not self._begun:
            await self._drive(self._refusal(self._bad_body), record=False)
        if self._cut or not self._ended or self._closing or server.draining:
            return False
        return self._parser.complete or await self._skip_body()

    def _refusal(self, bad: BadRequest) -> Exchange:
        return self._server.gateway.refuse(bad.status, "bad_request", bad.message, self._server.clock())

    async def _drive(self, exchange: Exchange, *, record: bool = True) -> None:
        server = self._server
        self._interrupts = interrupts = Interrupts(trio.CancelScope)
        if self._eof:
            interrupts.post(ClientGone())
        elif server.draining:
            interrupts.post(Draining())
        upstreams = Upstreams(server.pool, self._nursery.start_soon)
        try:
            await drive(exchange, self, upstreams, interrupts, server.clock)
        finally:
            self._interrupts = None
            if record and exchange.outcome is not None:
                server.record(exchange.outcome)

    async def _next_head(self) -> RequestHead | None:
        """The next request's head; None when there will be no other."""
        parser = self._parser
        head = parser.next_head()
        self._make_room()
        if head is not None or self._eof or self._server.draining:
            return head
        self._idle = True
        self._allow(HEAD_TIMEOUT if parser.buffered else IDLE_TIMEOUT)
        while head is None and not self._eof:
            fresh = not parser.buffered
            await self._news.wait()
            head = parser.next_head()
            if head is None and fresh and parser.buffered:
                self._allow(HEAD_TIMEOUT)
        self._patient_until = math.inf
        self._idle = False
        return head

    def _allow(self, seconds: float) -> None:
        """A request is awaited for no longer than this.

        The reader's scope is only told when it would fire too late: to move its deadline costs more than one vain
        wake-up in a while.
        """
        self._patient_until = until = self._server.clock() + seconds
        if until < self._patience.deadline:
            self._patience.deadline = until

    async def _skip_body(self) -> bool:
        """Read over what is left of a body that an early answer made pointless."""
        parser = self._parser
        with trio.move_on_after(HEAD_TIMEOUT):
            while not parser.complete:
                try:
                    data = parser.next_data()
                except BadRequest:
                    return False
                if not data and not parser.complete:
                    if self._eof:
                        return False
                    await self._news.wait()
        return parser.complete

    async def _delegate(self, command: Delegate) -> None:
        page = self._server.telemetry.answer(command.name, command.query)
        status, headers, text = await trio.to_thread.run_sync(page) if callable(page) else page
        head = self._head(status, (*headers, *command.headers))
        self._ended = True
        waiting = self._write(b"".join((head, self._writer.data(text), self._writer.end())))
        if waiting is not None:
            await waiting

    def _make_room(self) -> None:
        """There may be less that was read ahead."""
        if self._full:
            self._room.unpark()

    def _head(self, status: int, headers: Headers) -> bytes:
        self._begun = True
        close = self._closing or self._server.draining or self._parser.gives_up
        head = self._writer.head(status, headers, close=close)
        self._closing = self._writer.closes
        return head

    def _write(self, data: bytes) -> Awaitable[None] | None:
        stream = self._stream
        if isinstance(stream, ClientStream):
            try:
                sent = stream.send_now(data)
            except trio.BrokenResourceError:
                self._gone()
                return None
            if sent == len(data):
                return None
            data = data[sent:]
        return self._write_on(data)

    async def _write_on(self, data: bytes) -> None:
        try:
            with trio.CancelScope(deadline=self._server.clock() + WRITE_TIMEOUT) as patience:
                await self._stream.send_all(data)
        except _BROKEN:
            self._gone()
            return
        if patience.cancelled_caught:
            self._reset()  # or the system would go on trying for minutes
            self._gone()

    def _gone(self) -> None:
        self._cut = self._eof = True
        if self._interrupts is not None and not self._ended:
            self._interrupts.post(ClientGone())

    def _reset(self) -> None:
        if isinstance(self._stream, ClientStream | trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _linger(self) -> None:
        """End the answer, then wait for the client to end too.

        To close on bytes that were not read resets the connection, and the reset may overtake the answer (RFC 9112,
        9.6).
        """
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            self._lingering = True
            self._make_room()
            with trio.move_on_after(LINGER_TIMEOUT):
                try:
                    await self._stream.send_eof()
                except _BROKEN:
                    return
                while not self._eof:
                    await self._news.wait()

    # The reader

    async def _read(self) -> None:
        parser = self._parser
        while self._patient_until > self._server.clock():
            deadline = min(self._patient_until, self._server.clock() + IDLE_TIMEOUT)
            with trio.CancelScope(deadline=deadline) as self._patience:
                while True:
                    while parser.buffered > MAX_BUFFERED and not self._lingering:
                        self._full = True
                        await self._room.park()
                        self._full = False
                    try:
                        data = await self._stream.receive_some(READ_SIZE)
                    except _BROKEN:
                        break
                    if not data:
                        break
                    if self._lingering:
                        continue
                    parser.receive(data)
                    self._news.ring()
            if not self._patience.cancelled_caught:
                break
        self._eof = True
        self._news.ring()
        if self._interrupts is not None:
            self._interrupts.post(ClientGone())

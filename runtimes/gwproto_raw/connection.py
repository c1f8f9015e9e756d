"""One client's connection: its requests in order, each performed to its end before the next is begun."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gwproto import (
    ClientData,
    ClientEnd,
    ClientGone,
    Delegate,
    Draining,
    Event,
    Exchange,
    Headers,
    SendData,
    SendEnd,
    SendHead,
)
from gwproto_io.http1_server import CONTINUE, BadRequest, RequestParser, ResponseWriter
from gwproto_io.sends import Send
from gwproto_ops.responses import Response
from gwproto_raw.driver import Driver
from gwproto_raw.loops import Alarm, Transport, address_of, reset
from gwproto_raw.upstream import Upstreams

if TYPE_CHECKING:
    from gwproto_raw.server import Server

logger = logging.getLogger("gwproto")

MAX_BUFFERED = 65536  # bytes read ahead; beyond them the client waits
IDLE_TIMEOUT = 75.0  # seconds between requests, as nginx's
HEAD_TIMEOUT = 10.0  # seconds from a head's first byte to its last
WRITE_TIMEOUT = 60.0  # seconds a client may take none of what is sent to it
LINGER_TIMEOUT = 2.0  # seconds for a client to read an early answer before its connection is reset


class Connection:
    """Serves one client, as a ``driver.Client`` of each of its exchanges.

    Its one timer is for what is due next: the running exchange's deadline, or the end of the patience with a client
    that takes nothing, or sends nothing.
    """

    __slots__ = (
        "_alarm",
        "_bad_body",
        "_begun",
        "_closing",
        "_cut",
        "_driver",
        "_ended",
        "_eof",
        "_lingering",
        "_lost",
        "_page",
        "_parser",
        "_partial",
        "_paused",
        "_record",
        "_server",
        "_transport",
        "_unsent",
        "_upstreams",
        "_writer",
        "writable",
    )

    _transport: Transport
    _parser: RequestParser

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._writer = ResponseWriter("GET", "1.1")
        self._alarm = Alarm(server.loop, self._due)
        self._upstreams = Upstreams(server.pool)
        self._driver: Driver | None = None  # the running exchange's
        self._page = False  # a thread makes the present response
        self._paused = False  # the client is not read
        self._partial = False  # some of a head is here
        self._eof = False  # the client sends no more
        self._lingering = False  # nothing more of the client is of interest
        self._lost = False  # there is no connection any more
        self._bad_body: BadRequest | None = None
        self._cut = False  # nothing more may be sent
        self._closing = False  # the connection ends with the present response
        self._begun = False  # the present response's head has been sent
        self._ended = False  # the present response is complete
        self._record = True  # the present exchange is one to tell of
        self._unsent = 0  # bytes that the client had not taken when it was last looked at
        self.writable = True

    # What the transport calls

    def connection_made(self, transport: Any) -> None:
        self._transport = self._server.loop.prepare(transport)
        self._parser = RequestParser(address_of(self._transport), self._server.codec)
        self._server.connections.add(self)
        self._next()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._parser.receive(data)
        if self._driver is not None:
            self._driver.run()
        else:
            self._next()
        if self._parser.buffered > MAX_BUFFERED and not self._paused and not self._lingering:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        driver = self._driver
        if driver is not None:
            driver.post(ClientGone())
            if self._driver is not None:  # others share its answer, and need not wait for one who left
                self._transport.abort()
        elif self._lingering:
            self._transport.close()
        else:
            self._next()
        return True  # it is closed here, once nothing more is to be sent

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = self._cut = self._lingering = self._lost = True
        self._alarm.stop()
        self.writable = True
        self._upstreams.resume()
        if self._driver is not None:
            self._driver.post(ClientGone())
        else:
            self._server.closed(self)

    def pause_writing(self) -> None:
        self.writable = False
        self._upstreams.pause()
        self._unsent = self._transport.get_write_buffer_size()
        self._alarm.set(self._server.clock() + WRITE_TIMEOUT)

    def resume_writing(self) -> None:
        self.writable = True
        self._upstreams.resume()
        self._alarm.set(math.inf)
        if self._driver is not None:
            self._driver.run()
        elif self._lingering:
            self._alarm.set(self._server.clock() + LINGER_TIMEOUT)
        elif not self._page:
            self._wait()

    # What the driver calls

    def take(self) -> Event | None:
        parser = self._parser
        if parser.complete:
            return ClientEnd()
        if parser.expects_continue:
            parser.expects_continue = False
            if not parser.buffered:
                self._write(CONTINUE)
        try:
            data = parser.next_data()
        except BadRequest as bad:
            self._bad_body = bad
            return ClientGone()
        if self._paused:
            self._unpause()
        if data:
            return ClientData(data)
        if self._parser.complete:  # by now
            return ClientEnd()
        return ClientGone() if self._eof else None

    def send(self, commands: Sequence[Send]) -> None:
        if self._cut:
            return
        if len(commands) == 1 and type(command := commands[0]) is SendData:  # most of what a stream is
            data = self._writer.data(command.data)
            if data:
                self._transport.write(data)
            return
        head = b""
        body: list[bytes] = []
        for command in commands:
            if type(command) is SendData:
                body.append(command.data)
            elif type(command) is SendHead:
                head = self._head(command.status, command.headers)
            elif type(command) is SendEnd:
                self._ended = True
            else:
                self._delegate(command)
                return
        data = self._writer.data(b"".join(body))
        end = self._writer.end() if self._ended else b""
        self._write(b"".join((head, data, end)))

    def abort(self) -> None:
        if not self._cut:
            self._cut = True
            if self._writer.until_close:
                self._reset()  # an orderly end would look like the end of the body

    def exchanged(self, exchange: Exchange) -> None:
        self._driver = None
        if self.writable:
            self._alarm.set(math.inf)
        if self._record and exchange.outcome is not None:
            try:
                self._server.record(exchange.outcome)
            except Exception:
                logger.exception("connection failed inside the gateway")
                self._closing = True
        if self._lost:
            self._server.closed(self)
        elif not self._page:
            self._responded()

    # What the server calls

    def drain(self) -> None:
        """The server is stopping: end with the running exchange, at once when there is none."""
        if self._driver is not None:
            self._driver.post(Draining())
        elif not self._lingering and not self._page and self._parser.complete and not self._parser.buffered:
            self._close()

    def stop(self) -> None:
        """Break off whatever is going on."""
        if self._driver is not None:
            self.abort()
            self._driver.abandon()
        self._transport.abort()

    # One request

    def _next(self) -> None:
        """Begin the next request, if it is there and its turn."""
        if self._driver is None and not self._page and self.writable and not self._lingering:
            try:
                self._begin()
            except Exception:
                logger.exception("connection failed inside the gateway")
                self._reset()

    def _begin(self) -> None:
        parser, server = self._parser, self._server
        try:
            if not parser.complete:  # what is left of a body that an early answer made pointless
                parser.next_data()
                self._unpause()
                if not parser.complete:
                    if self._eof:
                        self._end()
                    return
        except BadRequest:
            self._end()
            return
        self._ended = self._begun = False
        self._bad_body = None
        try:
            head = parser.next_head()
        except BadRequest as bad:
            self._writer = ResponseWriter("GET", "1.1")
            self._drive(self._refusal(bad))
            return
        if self._paused:
            self._unpause()
        if head is not None:
            self._partial = False
            self._writer = ResponseWriter(head.method, head.http_version)
            self._closing = not parser.persistent
            self._drive(server.gateway.begin(head, server.clock()))
        elif self._eof or (server.draining and not self._partial):
            self._close()
        elif not parser.buffered:
            self._alarm.set(server.clock() + IDLE_TIMEOUT)
        elif not self._partial:
            self._partial = True
            self._alarm.set(server.clock() + HEAD_TIMEOUT)

    def _refusal(self, bad: BadRequest) -> Exchange:
        return self._server.gateway.refuse(bad.status, "bad_request", bad.message, self._server.clock())

    def _drive(self, exchange: Exchange, *, record: bool = True) -> None:
        server = self._server
        self._record = record
        self._driver = driver = Driver(exchange, self, self._upstreams, self._alarm)
        self._upstreams.begin(driver.run)
        if self._eof:
            driver.post(ClientGone())
        elif server.draining:
            driver.post(Draining())
        else:
            driver.run()

    def _responded(self) -> None:
        """Nothing more will be sent of this response."""
        if self._bad_body is not None and not self._begun:
            bad, self._bad_body = self._bad_body, None
            self._drive(self._refusal(bad), record=False)
        elif self._cut or not self._ended or self._closing or self._server.draining:
            self._end()
        elif self.writable:
            self._wait()

    def _wait(self) -> None:
        """For the next request. One that is here already takes its turn behind other connections' events."""
        idle = self._parser.complete and not self._parser.buffered
        self._alarm.set(self._server.clock() + (IDLE_TIMEOUT if idle else HEAD_TIMEOUT))
        if not idle or self._eof:
            self._server.loop.call_soon(self._next)

    def _head(self, status: int, headers: Headers) -> bytes:
        self._begun = True
        close = self._closing or self._server.draining or self._parser.gives_up
        head = self._writer.head(status, headers, close=close)
        self._closing = self._writer.closes
        return head

    def _delegate(self, command: Delegate) -> None:
        page = self._server.telemetry.answer(command.name, command.query)
        if callable(page):
            self._page = True
            self._server.loop.run_in_thread(page, lambda made: self._made(command, made))
        else:
            self._answer(command, page)

    def _made(self, command: Delegate, made: Callable[[], Response]) -> None:
        self._page = False
        try:
            page = made()
        except Exception:
            logger.exception("a page failed inside the gateway")
        else:
            if not self._cut:
                self._answer(command, page)
        self._responded()

    def _answer(self, command: Delegate, page: Response) -> None:
        status, headers, text = page
        head = self._head(status, (*headers, *command.headers))
        self._ended = True
        self._write(b"".join((head, self._writer.data(text), self._writer.end())))

    def _write(self, data: bytes) -> None:
        if data and not self._cut:
            self._transport.write(data)

    # Waiting and ending

    def _unpause(self) -> None:
        if self._paused and (self._lingering or self._parser.buffered <= MAX_BUFFERED):
            self._paused = False
            self._transport.resume_reading()

    def _due(self) -> None:
        if not self.writable:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent = unsent
                self._alarm.set(self._server.clock() + WRITE_TIMEOUT)
            else:
                self._reset()  # or the system would go on trying for minutes
        elif self._driver is not None:
            self._driver.run()
        else:
            self._close()

    def _end(self) -> None:
        """Nothing more is answered here.

        To close on bytes that were not read resets the connection, and the reset may overtake the answer (RFC 9112,
        9.6): the client is given time to end, too.
        """
        if self._ended and not self._eof and self._transport.can_write_eof():
            self._lingering = True
            try:
                self._transport.write_eof()
            except OSError:
                pass  # the client is gone, as the loop will say
            self._unpause()
            if self.writable:
                self._alarm.set(self._server.clock() + LINGER_TIMEOUT)
        else:
            self._close()

    def _close(self) -> None:
        self._lingering = True
        self._transport.close()

    def _reset(self) -> None:
        self._lingering = True
        reset(self._transport)

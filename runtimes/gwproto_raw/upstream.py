"""Connections to providers, as protocols, over the pool's bookkeeping and the codec that need no I/O."""

import logging
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from gwproto import Event, LossReason, Origin, UpstreamLost, UpstreamOpened, UpstreamRequest
from gwproto_io.codec import DEFAULT, Codec
from gwproto_io.dialling import loss_reason
from gwproto_io.http1 import ResponseParser
from gwproto_io.keyring import Credentials, Keyring, Keyrings
from gwproto_io.pool import Leases
from gwproto_raw.loops import Cancellable, Loop, Transport

logger = logging.getLogger("gwproto")

#: Connects a protocol, of the kind that the loop's transports take. Raises :class:`OSError` (TLS: ``ssl.SSLError``).
#: How long it may take is the core's decision.
Dial = Callable[[Origin, Any], Coroutine[Any, Any, None]]


class Connection:
    """A provider's connection: being dialled, serving one attempt, or idle in the pool."""

    __slots__ = (
        "_announced",
        "_data",
        "_dialling",
        "_full",
        "_number",
        "_owner",
        "_parser",
        "_paused",
        "_pool",
        "_secret",
        "_transport",
        "closed",
        "origin",
        "used",
    )

    _parser: ResponseParser

    def __init__(self, pool: "Pool", origin: Origin) -> None:
        self.origin = origin
        self.used = False  # it has served a request
        self.closed = False  # it will serve none
        self._pool = pool
        self._owner: Upstreams | None = None  # whose attempt it serves
        self._number = 0
        self._data = b""  # the request until it is written
        self._secret = b""  # what must not come back
        self._transport: Transport | None = None
        self._dialling: Cancellable | None = None
        self._announced = False  # the request is on the way, and the exchange knows
        self._full = False  # the provider does not take what is written
        self._paused = False  # the provider is not read

    # What the attempts of an exchange call

    def ask(
        self, owner: "Upstreams", number: int, request: UpstreamRequest, data: bytes, secret: bytes
    ) -> None:
        """Send a request, on a connection that is dialled first where there is none yet."""
        self._owner = owner
        self._number = number
        self._secret = secret
        codec = self._pool.codec
        self._parser = ResponseParser(number, request.method, reused=self.used, codec=codec)
        self._announced = False
        if self._transport is not None:
            self._write(self._transport, data)  # whoever performs this looks for events next
            return
        self._data = data
        pool = self._pool
        self._dialling = pool.loop.start(pool.dial(self.origin, self), self._dialled)

    def close(self) -> None:
        """Whatever it is doing."""
        self.closed = True
        self._owner = None
        if self._dialling is not None:
            self._dialling.cancel()
        if self._transport is not None:
            self._transport.abort()  # nobody waits for what is written still, or for a farewell over TLS

    def pause(self) -> None:
        if self._transport is not None and not self._paused and not self.closed:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused and not self.closed:
            self._paused = False
            self._transport.resume_reading()

    # What the transport calls

    def connection_made(self, transport: Any) -> None:
        self._transport = self._pool.loop.prepare(transport)
        if self.closed:
            self._transport.abort()
            return
        data, self._data = self._data, b""
        self._write(self._transport, data)
        if self._announced and self._owner is not None:
            self._owner.post(())

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if owner is None:  # nobody asked
            self.close()
            return
        if not self._announced:
            self._announce(owner)
        secret = self._secret
        if secret and data.find(secret) >= 0:  # faster than "in"
            data = data.replace(secret, b"*" * len(secret))
        parser = self._parser
        events = parser.receive(data)
        if parser.complete:
            self._finish(
                owner, reusable=parser.reusable and not self._full
            )  # else the request would go on in it
        elif owner.paused:
            self.pause()
        owner.inbox.extend(events)
        owner.notify()

    def eof_received(self) -> None:
        self._lose(reset=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(reset=exc is not None)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        owner = self._owner
        if owner is not None and not self._announced:
            self._announce(owner)
            owner.post(())

    def _write(self, transport: Transport, data: bytes) -> None:
        assert self._owner is not None
        transport.write(data)
        if not self._full and not self._announced:  # over TLS there may have been room already
            self._announce(self._owner)

    def _announce(self, owner: "Upstreams") -> None:
        self._announced = True
        owner.inbox.append(UpstreamOpened(self._number, self.used))

    def _dialled(self, error: BaseException | None) -> None:
        self._dialling = None
        owner = self._owner
        if error is not None and owner is not None:
            if not isinstance(error, OSError | UnicodeError):  # the latter for a name that IDNA cannot encode
                logger.error("a dial failed inside the gateway", exc_info=error)
            self._finish(owner, reusable=False)
            owner.post((UpstreamLost(self._number, loss_reason(error)),))

    def _lose(self, *, reset: bool) -> None:
        """The connection has ended."""
        self.closed = True
        owner = self._owner
        if owner is not None:
            if not self._announced:
                self._announce(owner)
            event = self._parser.receive_eof(reset=reset)
            self._finish(owner, reusable=False)
            owner.post((event,))

    def _finish(self, owner: "Upstreams", *, reusable: bool) -> None:
        """The attempt's response is complete, or will never be."""
        owner.forget(self._number)
        self._owner = None
        if reusable:
            self.resume()
            self._pool.release(self)
        else:
            self._pool.leases.discard()
            self.close()


class Pool:
    """The connections of one ``loop``. ``credentials`` holds the header field of each credential by its name."""

    def __init__(self, credentials: Credentials, *, loop: Loop, dial: Dial, codec: Codec = DEFAULT) -> None:
        self.loop = loop
        self.codec = codec
        self.leases: Leases[Connection] = Leases()
        self.dial = dial
        self._clock = loop.clock
        self.keyring = Keyring(credentials)

    def reconfigure(self, credentials: Credentials, destinations: Collection[tuple[str, Origin]]) -> None:
        """Other secrets from now on. Connections stay; what is under way may still have to use what it began with."""
        self.keyring = Keyring(credentials, destinations)

    def acquire(self, request: UpstreamRequest) -> Connection:
        """Lease a connection: an idle one, or one that has yet to be dialled."""
        now = self._clock()
        connection = self.leases.acquire(request.origin, now, fresh=request.fresh)
        while connection is not None and connection.closed:
            self.leases.discard()
            connection = self.leases.acquire(request.origin, now)
        return Connection(self, request.origin) if connection is None else connection

    def release(self, connection: Connection) -> None:
        """Give back what may serve another request."""
        connection.used = True
        for expired in self.leases.release(connection.origin, connection, self._clock()):
            expired.close()

    def close(self) -> None:
        """Close what is idle."""
        for connection in self.leases.clear():
            connection.close()


class Upstreams:
    """The attempts of one exchange at a time (see ``driver.Upstreams``).

    While ``paused`` no provider is read: the client has not taken what it was sent.
    """

    __slots__ = ("_keyrings", "_live", "_pool", "inbox", "notify", "paused")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._keyrings = Keyrings(pool.keyring)
        self._live: dict[int, Connection] = {}
        self.notify: Callable[[], None] = _nobody
        self.inbox: deque[Event] = deque()
        self.paused = False

    def begin(self, notify: Callable[[], None]) -> None:
        """Another exchange begins. ``notify`` is called when there are events."""
        self.notify = notify
        self._keyrings = Keyrings(self._pool.keyring)

    def open(self, attempt: int, request: UpstreamRequest) -> None:
        pool = self._pool
        encoded = self._keyrings.encode(request, pool.keyring)
        if encoded is None:
            self.post((UpstreamLost(attempt, LossReason.UNREACHABLE),))
            return
        data, secret = encoded
        self._live[attempt] = connection = pool.acquire(request)
        connection.ask(self, attempt, request, data, secret)

    def close(self, attempt: int) -> None:
        connection = self._live.pop(attempt, None)
        if connection is not None:
            self._pool.leases.discard()
            connection.close()

    def close_all(self) -> None:
        while self._live:
            self.close(next(iter(self._live)))
        self.inbox.clear()
        self.notify = _nobody

    def pause(self) -> None:
        self.paused = True
        for connection in self._live.values():
            connection.pause()

    def resume(self) -> None:
        self.paused = False
        for connection in self._live.values():
            connection.resume()

    # What connections call

    def post(self, events: Sequence[Event]) -> None:
        self.inbox.extend(events)
        self.notify()

    def forget(self, attempt: int) -> None:
        del self._live[attempt]


def _nobody() -> None:
    """No exchange waits for events."""

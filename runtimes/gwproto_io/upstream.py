"""Connections to providers, on asyncio and trio."""

import select
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Collection

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    connect_tcp,
    current_time,
)
from anyio import (
    Event as Flag,
)
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from gwproto import (
    Event,
    LossReason,
    Origin,
    UpstreamEnd,
    UpstreamLost,
    UpstreamOpened,
    UpstreamRequest,
)
from gwproto_io import dialling
from gwproto_io.codec import DEFAULT, Codec
from gwproto_io.dialling import loss_reason
from gwproto_io.http1 import ResponseParser
from gwproto_io.keyring import Credentials, Keyring, Keyrings
from gwproto_io.pool import Leases

READ_SIZE = 65536  # bytes
# A request up to this many bytes fits the socket's buffers on an idle connection, so that writing it does not wait.
INLINE_SIZE = 65536

Dial = Callable[[Origin], Awaitable[ByteStream]]
Spawn = Callable[..., object]

_BROKEN = (BrokenResourceError, ClosedResourceError, OSError)  # ssl.SSLError is an OSError


async def dial_tcp(origin: Origin) -> ByteStream:
    """Connect, over TLS for ``https``. Raises :class:`OSError` (TLS: ``ssl.SSLError``). How long it may take is the
    caller's decision."""
    stream = await connect_tcp(origin.host, origin.port)
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return await secured(stream, origin.host) if origin.scheme == "https" else stream


async def secured(stream: ByteStream, host: str) -> ByteStream:
    """TLS over ``stream``, which is closed when the handshake fails."""
    try:
        # Not "standard compatible": hardly any HTTP server sends close_notify; bodies have a framing of their own.
        return await TLSStream.wrap(
            stream, hostname=host, ssl_context=dialling.tls_context(), standard_compatible=False
        )
    except BaseException as error:
        await _close(stream)
        if isinstance(error, BrokenResourceError | EndOfStream):
            raise ssl.SSLError("the handshake was broken off") from error
        raise


class Connection:
    """An open connection. ``used``: it has served a request."""

    __slots__ = ("_poll", "origin", "stream", "used")

    def __init__(self, origin: Origin, stream: ByteStream) -> None:
        self.origin = origin
        self.stream = stream
        self.used = False
        self._poll: select.poll | None = None
        sock = stream.extra(SocketAttribute.raw_socket, None)
        if sock is not None and hasattr(select, "poll"):  # Windows has none
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    @property
    def quiet(self) -> bool:
        """Nothing has come in while idle: neither the connection's end nor bytes that nobody asked for."""
        return self._poll is None or not self._poll.poll(0)

    async def aclose(self) -> None:
        await _close(self.stream)


async def _close(stream: ByteStream) -> None:
    with CancelScope(shield=True):  # closing never waits for the peer, and must not be skipped
        try:
            await stream.aclose()
        except _BROKEN:
            pass


class Pool:
    """The connections of one event loop. ``credentials`` holds the header field of each credential by its name."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        dial: Dial = dial_tcp,
        clock: Callable[[], float] = current_time,
        codec: Codec = DEFAULT,
    ) -> None:
        self.codec = codec
        self.leases: Leases[Connection] = Leases()
        self.dial = dial
        self._clock = clock
        self.keyring = Keyring(credentials)

    def reconfigure(self, credentials: Credentials, destinations: Collection[tuple[str, Origin]]) -> None:
        """Other secrets from now on. Connections stay; what is under way may still have to use what it began with."""
        self.keyring = Keyring(credentials, destinations)

    async def acquire(self, request: UpstreamRequest) -> Connection | None:
        """Lease an idle connection; None leases one that the caller has to dial."""
        now = self._clock()
        connection = self.leases.acquire(request.origin, now, fresh=request.fresh)
        while connection is not None and not connection.quiet:
            self.leases.discard()
            await connection.aclose()
            connection = self.leases.acquire(request.origin, now)
        return connection

    async def release(self, connection: Connection) -> None:
        """Give back what may serve another request."""
        connection.used = True
        for expired in self.leases.release(connection.origin, connection, self._clock()):
            await expired.aclose()

    async def aclose(self) -> None:
        """Close what is idle."""
        for connection in self.leases.clear():
            await connection.aclose()


class _Attempt:
    __slots__ = ("connection", "ended", "number", "opening", "parser", "reading", "request", "secret")

    def __init__(self, number: int, request: UpstreamRequest, secret: bytes) -> None:
        self.number = number
        self.request = request
        self.secret = secret
        self.connection: Connection | None = None
        self.opening: CancelScope | None = None  # around the task that dials or writes, if there is one
        self.parser: ResponseParser | None = None  # there once the request is written
        self.reading: CancelScope | None = None  # around the task that reads, if there is one
        self.ended = False  # its lease is


class Upstreams:
    """The attempts of one exchange (see ``driver.Upstreams``).

    ``spawn(function, *arguments)`` starts a task that lives no longer than what serves the exchange. A single attempt's
    open connection is read by whoever waits for the next event, without a task in between. While several race, each
    read is a task: at most one per attempt, and none while there are events to be taken, so nobody reads ahead.
    """

    __slots__ = ("_arrival", "_attempts", "_inbox", "_keyrings", "_pool", "_spawn")

    def __init__(self, pool: Pool, spawn: Spawn) -> None:
        self._pool = pool
        self._keyrings = Keyrings(pool.keyring)
        self._spawn = spawn
        self._attempts: dict[int, _Attempt] = {}
        self._inbox: deque[Event] = deque()
        self._arrival: Flag | None = None

    async def open(self, attempt: int, request: UpstreamRequest) -> None:
        encoded = self._keyrings.encode(request, self._pool.keyring)
        if encoded is None:
            self._post(UpstreamLost(attempt, LossReason.UNREACHABLE))
            return
        data, secret = encoded
        current = self._attempts[attempt] = _Attempt(attempt, request, secret)
        current.connection = await self._pool.acquire(request)
        if current.connection is not None and len(data) <= INLINE_SIZE:
            await self._write(current, current.connection, data)
        else:
            current.opening = CancelScope()
            self._spawn(self._connect, current, current.opening, data)

    async def close(self, attempt: int) -> None:
        current = self._attempts.pop(attempt, None)
        if current is not None:
            await self._end(current)

    def take(self) -> Event | None:
        inbox = self._inbox
        if not inbox or type(inbox[0]) is UpstreamEnd:  # whose connection may have to be closed
            return None
        return inbox.popleft()

    async def next_event(self) -> Event:
        inbox = self._inbox
        while not inbox:
            alone = len(self._attempts) == 1
            for current in self._attempts.values():
                if current.parser is None or current.reading is not None:
                    continue
                if alone:
                    await self._read(current, current.parser)
                    break
                current.reading = CancelScope()
                self._spawn(self._read_beside, current, current.parser, current.reading)
            else:
                self._arrival = Flag()
                await self._arrival.wait()
        event = inbox[0]
        if type(event) is UpstreamEnd:
            await self._finish(event.attempt)
        return inbox.popleft()

    async def aclose(self) -> None:
        while self._attempts:
            await self.close(next(iter(self._attempts)))

    async def _connect(self, current: _Attempt, opening: CancelScope, data: bytes) -> None:
        connection = current.connection
        try:
            with opening:
                if connection is None:
                    origin = current.request.origin
                    connection = Connection(origin, await self._pool.dial(origin))
                    current.connection = connection
                if not current.ended:
                    await self._write(current, connection, data)
        except (OSError, UnicodeError) as error:  # the latter for a name that IDNA cannot encode
            await self._lose(current, loss_reason(error))
        finally:
            if current.ended and connection is not None:  # closed meanwhile, perhaps before it was there
                await connection.aclose()

    async def _write(self, current: _Attempt, connection: Connection, data: bytes) -> None:
        try:
            await connection.stream.send(data)
        except _BROKEN:
            await self._lose(current, LossReason.STALE if connection.used else LossReason.RESET)
            return
        if not current.ended:
            current.parser = ResponseParser(
                current.number, current.request.method, reused=connection.used, codec=self._pool.codec
            )
            self._post(UpstreamOpened(current.number, connection.used))

    async def _read(self, current: _Attempt, parser: ResponseParser) -> None:
        assert current.connection is not None
        try:
            data = await current.connection.stream.receive(READ_SIZE)
        except EndOfStream:
            self._inbox.append(parser.receive_eof())
        except _BROKEN:
            self._inbox.append(parser.receive_eof(reset=True))
        else:
            secret = current.secret
            if secret and data.find(secret) >= 0:  # faster than "in"
                data = data.replace(secret, b"*" * len(secret))
            self._inbox.extend(parser.receive(data))
        if parser.complete and self._inbox and type(self._inbox[-1]) is UpstreamLost:
            await self.close(current.number)

    async def _read_beside(self, current: _Attempt, parser: ResponseParser, reading: CancelScope) -> None:
        """One read of an attempt that races."""
        with reading:
            if not current.ended:
                await self._read(current, parser)
        current.reading = None
        self._wake()

    async def _finish(self, attempt: int) -> None:
        """The end of a response has been taken note of."""
        current = self._attempts.pop(attempt, None)
        if current is None:
            return
        assert current.connection is not None
        assert current.parser is not None
        if current.parser.reusable:
            current.ended = True
            await self._pool.release(current.connection)
        else:
            await self._end(current)

    async def _lose(self, current: _Attempt, why: LossReason) -> None:
        if not current.ended:
            await self.close(current.number)
            self._post(UpstreamLost(current.number, why))

    async def _end(self, current: _Attempt) -> None:
        current.ended = True
        if current.opening is not None:
            current.opening.cancel()
        if current.reading is not None:
            current.reading.cancel()
        self._pool.leases.discard()
        if current.connection is not None:
            await current.connection.aclose()

    def _post(self, event: Event) -> None:
        self._inbox.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None:
            self._arrival.set()

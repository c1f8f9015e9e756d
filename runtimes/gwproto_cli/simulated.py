"""The socket host of simulated providers: HTTP/1.1 on loopback, one port for each, on asyncio or trio.

Beside its own API every provider answers ``GET /knobs`` and ``PUT /knobs`` with its
:class:`~gwproto.testing.Knobs` as JSON: a PUT changes the fields it names while the provider runs.
"""

import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.abc
import h11
import msgspec
from anyio.abc import ByteStream, SocketAttribute

from gwproto.testing import Close, Data, End, Head, Knobs, Reset, SimulatedProvider, Stall, Step
from gwproto.values import Headers

Respond = Callable[[str, str, Headers, bytes], Sequence[Step]]  # method, target, headers, body
OnDeparture = Callable[[SimulatedProvider], None]

_READ = 65536
_JSON = (b"content-type", b"application/json")


@asynccontextmanager
async def hosted(
    providers: Sequence[SimulatedProvider],
    *,
    host: str = "127.0.0.1",
    ports: Sequence[int] = (),
    on_departure: OnDeparture | None = None,
) -> AsyncIterator[list[str]]:
    """Serve ``providers`` while the context is open; yields their base URLs, in order.

    Missing ``ports`` are chosen by the system. ``on_departure`` is called whenever a peer closed its connection before
    the answer was complete.
    """
    async with AsyncExitStack() as stack:
        urls = []
        listeners = []
        for index, provider in enumerate(providers):
            port = ports[index] if index < len(ports) else 0
            listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
            await stack.enter_async_context(listener)
            listeners.append((listener, provider))
            bound = listener.extra(SocketAttribute.local_port)
            name = f"[{host}]" if ":" in host else host
            urls.append(f"http://{name}:{bound}{provider.format.base}")
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for listener, provider in listeners:
            tasks.start_soon(listener.serve, _Server(provider, on_departure).handle)
        try:
            yield urls
        finally:
            tasks.cancel_scope.cancel()


async def serve_providers(
    providers: Sequence[SimulatedProvider],
    *,
    host: str = "127.0.0.1",
    ports: Sequence[int] = (),
    on_listening: Callable[[list[str]], None],
) -> None:
    """Serve ``providers`` until cancelled; ``on_listening`` gets their base URLs."""
    async with hosted(providers, host=host, ports=ports) as urls:
        on_listening(urls)
        await anyio.sleep_forever()


async def serve_connection(stream: ByteStream, respond: Respond) -> bool:
    """Answer the requests on one connection with timelines, until it ends.

    False: the peer left before an answer was complete.
    """
    async with stream:
        connection = _Connection(stream)
        while (request := await connection.next_request()) is not None:
            try:
                if not await connection.play(respond(*request)):
                    break
            except _Departed:
                return False
    return True


class _Departed(Exception):
    """The peer closed its connection."""


class _Server:
    """One provider's connections."""

    def __init__(self, provider: SimulatedProvider, on_departure: OnDeparture | None) -> None:
        self.provider = provider
        self.on_departure = on_departure

    async def handle(self, stream: ByteStream) -> None:
        if not await serve_connection(stream, self._respond) and self.on_departure is not None:
            self.on_departure(self.provider)

    def _respond(self, method: str, target: str, headers: Headers, body: bytes) -> list[Step]:
        if target != "/knobs":
            return self.provider.respond(method, target, headers, body, time.time())
        if method == "PUT":
            try:
                self.provider.adjust(body)
            except msgspec.MsgspecError as problem:
                return _json(400, {"error": str(problem)})
        return _json(200, self.provider.knobs)


def _json(status: int, value: object) -> list[Step]:
    body = msgspec.json.encode(value)
    head = Head(status, (_JSON, (b"content-length", b"%d" % len(body))))
    return [Step(0.0, head), Step(0.0, Data(body)), Step(0.0, End())]


class _Connection:
    """One connection: h11 on this side of it, a timeline on the other."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ)
        self._early = b""  # read while an answer was under way

    async def next_request(self) -> tuple[str, str, Headers, bytes] | None:
        """The next whole request; None: the peer is done, or does not speak HTTP."""
        head: h11.Request | None = None
        body: list[bytes] = []
        try:
            if self._http.our_state is h11.DONE:
                self._http.start_next_cycle()
            if self._early:
                self._http.receive_data(self._early)
                self._early = b""
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        go_on = h11.InformationalResponse(status_code=100, headers=[])
                        await self._write(self._http.send(go_on) or b"")
                    self._http.receive_data(await self._read())
                elif isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    assert head is not None  # h11 gives a head first
                    headers = tuple((bytes(name), bytes(value)) for name, value in head.headers)
                    return head.method.decode(), head.target.decode(), headers, b"".join(body)
                else:
                    return None
        except (h11.ProtocolError, _Departed):
            return None

    async def play(self, steps: Sequence[Step]) -> bool:
        """Perform a timeline. True: the connection can carry another request. Raises :class:`_Departed`."""
        if not any(step.after or isinstance(step.action, Stall) for step in steps):
            return await self._perform(steps)
        alive = complete = departed = False

        async def watch() -> None:
            nonlocal departed
            while data := await self._read():
                self._early += data
            departed = True
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            try:
                alive = await self._perform(steps)
                complete = True
            except _Departed:
                departed = True
            tasks.cancel_scope.cancel()
        if departed and not complete:
            raise _Departed
        return alive

    async def _perform(self, steps: Sequence[Step]) -> bool:
        pending = bytearray()
        for step in steps:
            if step.after:
                await self._write(bytes(pending))
                pending.clear()
                await anyio.sleep(step.after)
            match step.action:
                case Head(status, headers):
                    pending += self._http.send(_head(status, headers)) or b""
                case Data(data):
                    pending += self._http.send(h11.Data(data=data)) or b""
                case End():
                    pending += self._http.send(h11.EndOfMessage()) or b""
                case Close():
                    await self._write(bytes(pending))
                    return False
                case Reset():
                    await self._write(bytes(pending))
                    await self._reset()
                    return False
                case Stall():
                    await self._write(bytes(pending))
                    await anyio.sleep_forever()
        await self._write(bytes(pending))
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _read(self) -> bytes:
        """What one read delivers; empty at the end, however it came."""
        try:
            return await self._stream.receive(_READ)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return b""

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise _Departed from None

    async def _reset(self) -> None:
        """Close so that the peer sees RST, not FIN (RFC 9293, 3.10.7: abort)."""
        raw = self._stream.extra(SocketAttribute.raw_socket, None)
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await anyio.aclose_forcefully(self._stream)


def _head(status: int, headers: Headers) -> h11.Response:
    return h11.Response(status_code=status, headers=[(b"server", b"simulated"), *headers])


#: What ``serve`` starts when it finds no credentials: name, format, model.
DEMO = (
    ("demo-openai", "openai", "gpt-demo"),
    ("demo-gemini", "gemini", "gemini-3-demo"),
    ("demo-anthropic", "anthropic", "claude-demo"),
)


def demo_providers(seed: int = 0, demo: Sequence[tuple[str, str, str]] = DEMO) -> list[SimulatedProvider]:
    """Providers at an easy pace; each has its own ``seed``."""
    return [
        SimulatedProvider(
            name, models=(model,), rng=random.Random(seed + index), knobs=Knobs(pace=0.01), format=format
        )
        for index, (name, format, model) in enumerate(demo)
    ]

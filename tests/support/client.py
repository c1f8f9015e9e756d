"""A visit as an HTTP/1.1 client on a connection of its own."""

import contextlib
from typing import Any

import anyio
import h11
import trio
from anyio.abc import ByteStream

from gwproto import Headers
from gwproto.testing import Visit

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class TrioStream(ByteStream):
    """A trio stream as anyio has them."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self._stream.receive_some(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return bytes(data)

    async def send(self, item: bytes) -> None:
        try:
            await self._stream.send_all(item)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Response:
    """What came: ``ending`` is ``complete``, ``aborted`` or ``left``."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.body = bytearray()
        self.ending = ""


async def perform(stream: ByteStream, visit: Visit) -> Response:
    """Send the visit's request, read its response, close."""
    response = Response()
    http = h11.Connection(h11.CLIENT)
    head = visit.head
    request = h11.Request(method=head.method, target=head.target, headers=list(head.headers))
    async with stream:
        with anyio.move_on_after(visit.leaves_after) as patience:
            await stream.send(http.send(request) or b"")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_upload, stream, http, visit)
                await _read(stream, http, response)
                tasks.cancel_scope.cancel()
        if patience.cancelled_caught:
            response.ending = "left"
    return response


async def _upload(stream: ByteStream, http: h11.Connection, visit: Visit) -> None:
    with contextlib.suppress(*_BROKEN):  # an early answer ends the reading too
        for after, data in visit.body:
            await anyio.sleep(after)
            await stream.send(http.send(h11.Data(data=data)) or b"")
        if visit.complete:
            await stream.send(http.send(h11.EndOfMessage()) or b"")


async def _read(stream: ByteStream, http: h11.Connection, response: Response) -> None:
    while not response.ending:
        event = http.next_event()
        if event is h11.NEED_DATA:
            try:
                data = await stream.receive()
            except anyio.EndOfStream:
                data = b""
            except _BROKEN:
                response.ending = "aborted"
                return
            try:
                http.receive_data(data)
                event = http.next_event() if not data else h11.NEED_DATA
            except h11.RemoteProtocolError:
                response.ending = "aborted"
                return
        if isinstance(event, h11.Response):
            response.status = event.status_code
            response.headers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
        elif isinstance(event, h11.Data):
            response.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            response.ending = "complete"
        elif isinstance(event, h11.ConnectionClosed):
            response.ending = "aborted"

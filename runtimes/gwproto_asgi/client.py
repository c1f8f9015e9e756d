"""The client's side of an exchange, as ASGI's ``receive`` and ``send`` give it."""

from collections.abc import Callable, Sequence

from anyio import CancelScope, create_task_group, to_thread
from anyio import Event as Flag

from gwproto import (
    ClientData,
    ClientEnd,
    ClientGone,
    Delegate,
    Event,
    SendData,
    SendHead,
)
from gwproto_asgi.scope import Message, Receive, Scope, Send
from gwproto_io.driver import Interrupts, NewScope
from gwproto_io.sends import Send as Sending
from gwproto_ops.telemetry import Telemetry

WRITE_TIMEOUT = 60.0  # seconds a client may take none of what is sent to it
LINGER_TIMEOUT = 2.0  # seconds to read on, after an early answer, a body nobody wants

# RFC 9113, 8.2.2: connection-specific fields do not exist in HTTP/2 and 3.
_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"transfer-encoding"))


class AsgiClient:
    """One request's client. ``on_upload`` is called once its body is complete, when ``receive`` is free to watch."""

    __slots__ = (
        "_clock",
        "_cut",
        "_ended",
        "_interrupts",
        "_multiplexed",
        "_new_scope",
        "_on_upload",
        "_receive",
        "_send",
        "_telemetry",
        "_unread",
        "_uploaded",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        interrupts: Interrupts,
        *,
        clock: Callable[[], float],
        telemetry: Telemetry,
        on_upload: Callable[[], None],
        new_scope: NewScope = CancelScope,
    ) -> None:
        self._receive = receive
        self._send = send
        self._interrupts = interrupts
        self._clock = clock
        self._telemetry = telemetry
        self._on_upload = on_upload
        self._new_scope = new_scope
        self._multiplexed = scope.get("http_version", "1.1") in ("2", "3")
        self._unread = announces_body(scope)
        self._uploaded = False
        self._cut = False  # nothing more may be sent: the client is gone, or the response was broken off
        self._ended = False

    def take(self) -> Event | None:
        if not self._uploaded:
            return None
        self._on_upload()
        return ClientEnd()

    async def next_event(self) -> Event:
        if self._uploaded:
            self._on_upload()
            return ClientEnd()
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self._unread = False
                return ClientGone()
            self._uploaded = not message.get("more_body", False)
            self._unread = not self._uploaded
            body = message.get("body")
            if body:
                return ClientData(bytes(body))
            if self._uploaded:
                self._on_upload()
                return ClientEnd()

    async def send(self, commands: Sequence[Sending]) -> None:
        if len(commands) == 1 and type(command := commands[0]) is SendData:  # most of what a stream is
            await self._write(None, command.data, False)
            return
        head: SendHead | None = None
        parts: list[bytes] = []
        end = False
        for command in commands:
            if type(command) is SendData:
                parts.append(command.data)
            elif type(command) is SendHead:
                head = command
            elif type(command) is Delegate:
                page = self._telemetry.answer(command.name, command.query)
                status, headers, body = await to_thread.run_sync(page) if callable(page) else page
                head = SendHead(status, (*headers, *command.headers))
                parts.append(body)
                end = True
            else:
                end = True
        await self._write(head, b"".join(parts) if len(parts) != 1 else parts[0], end)

    def gone(self) -> None:
        """Nobody reads any more."""
        if not self._ended:
            self._cut = True
            self._interrupts.post(ClientGone())

    def abort(self) -> None:
        # ASGI has no way to break a connection off, but every server does it for an application that returns before
        # its response is complete: without the last chunk, or short of the content-length, the client notices.
        self._cut = True

    async def watch(self) -> None:
        """Wait until the client is gone. Runs beside the exchange, from the end of the request's body on."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone()

    async def _write(self, head: SendHead | None, body: bytes, end: bool) -> None:
        if self._cut:
            return
        patience = self._new_scope(deadline=self._clock() + WRITE_TIMEOUT)
        with patience:
            try:
                if head is not None:
                    await self._send(self._start(head))
                if end and self._unread:
                    await self._send({"type": "http.response.body", "body": body, "more_body": True})
                    await self._linger()
                elif end or body:
                    self._ended = end
                    await self._send({"type": "http.response.body", "body": body, "more_body": not end})
            except OSError:  # the specification's way to say that the client is gone (ASGI HTTP 2.4)
                self.gone()
        if patience.cancelled_caught:
            self.gone()

    def _start(self, head: SendHead) -> Message:
        headers: Sequence[tuple[bytes, bytes]] = head.headers
        if self._multiplexed:
            headers = [field for field in headers if field[0] not in _CONNECTION_FIELDS]
        return {"type": "http.response.start", "status": head.status, "headers": headers}

    async def _linger(self) -> None:
        """End the response while the rest of the request's body is read and thrown away.

        A server that closes with unread bytes in its buffer resets the connection, and the reset may overtake the
        answer (RFC 9112, 9.6). Hypercorn even waits for ever when its queue of unread messages is full, so the reading
        goes on beside the last ``send``.
        """
        drained = Flag()

        async def discard() -> None:
            more = True
            while more:
                message = await self._receive()
                more = message["type"] == "http.request" and message.get("more_body", False)
            drained.set()

        async with create_task_group() as tasks:
            tasks.start_soon(discard)
            with CancelScope(deadline=self._clock() + LINGER_TIMEOUT):
                await drained.wait()
            self._ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()


def announces_body(scope: Scope) -> bool:
    """Whether the head promises a body (RFC 9112, 6.3)."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False

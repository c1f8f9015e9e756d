"""An ASGI server of plain Python objects: one request each, no sockets, any event loop."""

from collections.abc import Sequence
from typing import Any

from anyio import Event, create_task_group

from gwproto_asgi.scope import Message, Receive, Scope, Send


class Call:
    """One request to an ASGI application, and what came of it."""

    def __init__(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: Sequence[bytes] = (),
        http_version: str = "1.1",
        **scope: Any,
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": http_version,
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"gateway.test"), *headers],
            "client": ("192.0.2.1", 40000),
            "server": ("gateway.test", 80),
            **scope,
        }
        self.uploads = list(body)
        self.sent: list[Message] = []
        self.gone = Event()
        self.returned = Event()
        self.progress = Event()

    async def receive(self) -> Message:
        if self.uploads:
            data = self.uploads.pop(0)
            return {"type": "http.request", "body": data, "more_body": bool(self.uploads)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.progress.set()
        self.progress = Event()
        if self.complete:
            self.gone.set()  # as servers do once a response is complete

    async def run(self, app: "App") -> "Call":
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            self.returned.set()
            self.progress.set()
        return self

    async def until_body(self, size: int) -> None:
        """Wait until ``size`` bytes of the response's body were sent, or the application has returned."""
        while len(self.body) < size and not self.returned.is_set():
            await self.progress.wait()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


class App:
    """The shape of an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


async def call(app: App, method: str = "GET", path: str = "/", **request: Any) -> Call:
    """Perform one request to its end."""
    return await Call(method, path, **request).run(app)


__all__ = ["App", "Call", "call", "create_task_group"]

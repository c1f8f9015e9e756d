"""Gateways as processes of their own, and simulated providers in a thread, all on loopback sockets."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from anyio.from_thread import start_blocking_portal

from gwproto.testing import Knobs, SimulatedProvider, Step
from gwproto.values import Headers
from gwproto_cli.simulated import hosted

ROOT = Path(__file__).parent.parent.parent
KEY = "gw-key-of-the-client"
CHAT = "/v1/chat/completions"
RUNTIMES = ("quart", "trio", "asyncio")
FIVE_HEADERS = (
    "x-gateway-provider",
    "x-gateway-model",
    "x-gateway-attempts",
    "x-gateway-request-id",
    "x-gateway-reasoning-effort",
)
PATIENCE = 30.0  # seconds until what should happen is taken for something that never will


class Received(NamedTuple):
    """A request as a provider got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any


class Provider(SimulatedProvider):
    """A simulated provider that remembers what it was asked. Everything here may be used from any thread."""

    def __init__(
        self, name: str, knobs: Knobs | None = None, models: Iterable[str] = (), format: str = "openai"
    ) -> None:
        super().__init__(
            name, models=tuple(models) or (f"{name}-model",), rng=Random(name), knobs=knobs, format=format
        )
        self.received: list[Received] = []
        self.departures = 0  # peers that left before their answer was complete
        self._news = threading.Condition()

    def respond(self, method: str, target: str, headers: Headers, body: bytes, now: float) -> list[Step]:
        fields = {name.decode(): value.decode("latin-1") for name, value in headers}
        with self._news:
            self.received.append(Received(method, target, fields, json.loads(body) if body else None))
            self._news.notify_all()
        return super().respond(method, target, headers, body, now)

    def departed(self) -> None:
        with self._news:
            self.departures += 1
            self._news.notify_all()

    def wait(self, condition: Callable[["Provider"], bool]) -> None:
        """Until ``condition`` holds of this provider."""
        with self._news:
            assert self._news.wait_for(lambda: condition(self), PATIENCE), "it never happened"


@contextmanager
def hosting(providers: Sequence[Provider]) -> Iterator[list[str]]:
    """Serve ``providers`` from a thread; yields their base URLs."""

    def departed(provider: SimulatedProvider) -> None:
        assert isinstance(provider, Provider)
        provider.departed()

    with start_blocking_portal("asyncio") as portal:
        host = portal.wrap_async_context_manager(hosted(providers, on_departure=departed))
        urls = host.__enter__()
        try:
            yield urls
        finally:
            host.__exit__(None, None, None)  # a failing test is not the task group's to wrap


class Answer(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The events of a stream, JSON decoded but for ``[DONE]``."""
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8"
        *events, rest = self.body.decode().split("\n\n")
        assert rest == ""
        data = [event.removeprefix("data: ") for event in events if not event.startswith(":")]
        return [one if one == "[DONE]" else json.loads(one) for one in data]

    @property
    def error(self) -> dict[str, Any]:
        """The error of a response that is one, and nothing else."""
        assert self.headers["content-type"] == "application/json"
        assert list(self.json) == ["error"]
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert error["message"]
        assert self.headers["x-request-id"] == self.headers["x-gateway-request-id"] != ""
        return error


class Client:
    """A client's one connection, made anew when the server has closed it."""

    def __init__(self, port: int, key: str = KEY) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.key = key

    def send(
        self,
        body: object,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        path: str = CHAT,
    ) -> http.client.HTTPResponse:
        """Send a request; the response is there as far as its head. ``body``: bytes as they are, else JSON."""
        fields = {"authorization": f"Bearer {self.key}", **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.http.request(method, path, body, fields)
        return self.http.getresponse()

    def read(self, response: http.client.HTTPResponse) -> Answer:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def ask(self, body: object, **more: Any) -> Answer:
        return self.read(self.send(body, **more))

    def chat(self, text: str = "hello", **fields: Any) -> Answer:
        return self.ask({"messages": [{"role": "user", "content": text}], **fields})

    def get(self, path: str) -> Answer:
        return self.ask(None, method="GET", path=path)

    def close(self) -> None:
        self.http.close()


class GatewayProcess:
    """A running ``gwproto serve``. ``announced`` is what it printed when it was ready."""

    def __init__(self, process: "subprocess.Popen[str]", announced: list[str], log: Path) -> None:
        self.process = process
        self.announced = announced
        self.url = announced[0].split()[3]
        self.port = int(self.url.rpartition(":")[2])
        self._log = log

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text("utf-8")

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @contextmanager
    def client(self, key: str = KEY) -> Iterator[Client]:
        client = Client(self.port, key)
        try:
            yield client
        finally:
            client.close()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE)


@contextmanager
def serving(
    directory: Path,
    runtime: str,
    config: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    notices: str = "",
    code: int = 0,
) -> Iterator[GatewayProcess]:
    """Run the command on a free port, and see to it that it ends well: by SIGTERM, with ``code`` and no traceback.

    ``config`` is TOML, None for none at all. ``notices``: a regular expression for lines it may write beside the access
    log.
    """
    command = [sys.executable, "-m", "gwproto_cli", "serve", "--port", "0", "--runtime", runtime]
    if config is not None:
        file = directory / "gateway.toml"
        file.write_text(config, "utf-8")
        command += ["--config", str(file)]
    command += flags
    variables = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtimes")]),
        "PYTHONWARNINGS": "error",
        "XDG_STATE_HOME": str(directory),
        **({"GATEWAY_API_KEY": KEY} if environ is None else environ),
    }
    log = directory / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=variables, cwd=directory
        ) as process,
    ):
        try:
            assert process.stdout is not None
            announced = []
            for line in process.stdout:
                announced.append(line.rstrip("\n"))
                if line.startswith("try: "):
                    break
            assert announced, log.read_text()
            gateway = GatewayProcess(process, announced, log)
            yield gateway
            gateway.terminate()
            assert gateway.wait() == code
        finally:
            process.kill()
    for line in gateway.log.splitlines():
        # nothing but the access log and the audit
        expected = line.startswith(("{", "WARNING gwproto.audit: {"))
        assert expected or (notices and re.fullmatch(notices, line)), gateway.log


def configuration(providers: Sequence[Provider], urls: Sequence[str], more: str = "", **tables: str) -> str:
    """A configuration file of these providers. ``tables`` adds lines to a provider's table, by its name."""
    parts = [more]
    for provider, url in zip(providers, urls, strict=True):
        parts.append(f'[[providers]]\nname = "{provider.name}"\nbase_url = "{url}"')
        if provider.format.name != "openai":  # the known provider of the same name speaks it
            parts.append(f'like = "{provider.format.name}"')
        parts.append(tables.get(provider.name.replace("-", "_"), ""))
        parts += [f'[[providers.models]]\nid = "{model}"' for model in provider.models]
    return "\n".join(parts)

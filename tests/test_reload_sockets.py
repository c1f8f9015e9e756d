"""The configuration changes under load, on both servers: nothing fails, and what has begun ends as it began."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPResponse
from pathlib import Path

import pytest
import trio

import gwproto_asyncio
import gwproto_quart
import gwproto_trio
from gwproto.testing import Knobs
from gwproto_ops.deployment import Deployment
from gwproto_ops.reloading import Reloader, Source
from support.servers import KEY, PATIENCE, RUNTIMES, Answer, Client, Provider, configuration, hosting, serving

pytestmark = pytest.mark.sockets

STREAM = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
PLAIN = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
HELD = {**STREAM, "model": "held"}


def entry(key: str, more: str = "") -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f'[[keys]]\nlabel = "{key}"\nsha256 = "{digest}"\n{more}\n'


def replaced(path: Path, text: str) -> None:
    """As editors write."""
    beside = path.with_name("beside")
    beside.write_text(text)
    os.replace(beside, path)


class Held:
    """A provider whose streams stop in the middle until they may go on."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.go_on = threading.Event()
        self.keys: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(65536)
            self.keys += [
                line[22:] for line in head.split(b"\r\n") if line.startswith(b"authorization: Bearer ")
            ]
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + _event("Hel"))
            assert self.go_on.wait(PATIENCE)
            sock.sendall(_event("lo") + _event("", "stop") + b"data: [DONE]\n\n")

    def close(self) -> None:
        self.listener.close()


def _event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "held", "choices": [choice]}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


class Watched(Reloader):
    """Says when it has done something."""

    INTERVAL = 0.02

    def __init__(self, source: Source, current: Deployment) -> None:
        super().__init__(source, current)
        self.news = threading.Condition()

    def _put_in_force(self, made: Deployment) -> None:
        super()._put_in_force(made)
        with self.news:
            self.news.notify_all()

    def _failed(self, problems: str) -> None:
        super()._failed(problems)
        with self.news:
            self.news.notify_all()

    def after(self, change: Callable[[], object]) -> None:
        """Make a change, and wait until something has come of it."""
        with self.news:
            before = self.status
            change()

            def different() -> bool:
                now = self.status
                return (now.reloads, now.failures) != (before.reloads, before.failures)

            assert self.news.wait_for(different, PATIENCE), "nothing happened"


def run(runtime: str, made: Deployment, reloader: Reloader, during: Callable[[int], None]) -> None:
    """Serve in this thread while ``during``, given the port, goes on in another."""
    errors: list[BaseException] = []

    def visit(port: int) -> None:
        try:
            during(port)
        except BaseException as error:
            errors.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    def on_listening(urls: list[str]) -> None:
        threading.Thread(target=visit, args=(int(urls[0].rpartition(":")[2]),), daemon=True).start()

    if runtime == "trio":
        trio.run(partial(gwproto_trio.serve, made, on_listening=on_listening, reloader=reloader))
    elif runtime == "asyncio":
        gwproto_asyncio.run(gwproto_asyncio.serve(made, on_listening=on_listening, reloader=reloader))
    else:
        asyncio.run(gwproto_quart.serve(made, on_listening=on_listening, reloader=reloader))
    if errors:
        raise errors[0]


class Load:
    """Clients that ask, streams and plain answers in turn, until told to stop."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.port = port
        self.stop = threading.Event()
        self.answers: list[Answer] = []
        self._pool = ThreadPoolExecutor(clients)
        self._futures = [self._pool.submit(self._visit) for _ in range(clients)]

    def _visit(self) -> None:
        client = Client(self.port, "steady")
        try:
            while not self.stop.is_set():
                for body in (STREAM, PLAIN):
                    self.answers.append(client.ask(body))
        finally:
            client.close()

    def wait(self, more: int = 40) -> None:
        """Until so many more have been answered."""
        wanted = len(self.answers) + more
        while len(self.answers) < wanted and not any(future.done() for future in self._futures):
            self.stop.wait(0.005)

    def end(self) -> list[Answer]:
        self.stop.set()
        for future in self._futures:
            future.result(PATIENCE)
        self._pool.shutdown()
        return self.answers


@contextmanager
def asking(port: int, body: object, key: str = "steady") -> Iterator[tuple[Client, HTTPResponse]]:
    client = Client(port, key)
    try:
        yield client, client.send(body)
    finally:
        client.close()


def status(port: int, key: str, body: object = PLAIN) -> int:
    with asking(port, body, key) as (client, response):
        return client.read(response).status


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nothing_fails_while_everything_changes(runtime: str, tmp_path: Path) -> None:
    config, keys, secret = tmp_path / "gateway.toml", tmp_path / "keys.toml", tmp_path / "secret"
    held = Held()
    providers = [Provider(name, Knobs(words=3), ("m",)) for name in ("one", "two")]

    def configured(url: str, *, with_held: bool = True) -> str:
        text = f'[auth]\nkeys_file = "{keys}"\n[server]\nport = 0\n'
        text += f'[[providers]]\nname = "p"\nbase_url = "{url}"\napi_key_file = "{secret}"\nmodels = [{{ id = "m" }}]\n'
        if with_held:
            text += f'[[providers]]\nname = "held"\nbase_url = "{held.url}"\napi_key_file = "{secret}"\n'
            text += 'models = [{ id = "held" }]\n'
        return text

    with hosting(providers) as urls:
        config.write_text(configured(urls[0]))
        keys.write_text(entry("steady") + entry("old"))
        secret.write_text("secret-1")
        source = Source(str(config), environ=dict)
        made = source.read()
        reloader = Watched(source, made)

        def during(port: int) -> None:
            load = Load(port)
            with asking(port, HELD) as (streaming, response), asking(port, HELD, "old") as (leaving, other):
                for held_up in (response, other):
                    while b"Hel" not in held_up.readline():
                        pass
                load.wait()
                assert [status(port, key) for key in ("old", "new")] == [200, 401]
                reloader.after(lambda: replaced(keys, entry("steady") + entry("new", 'models = ["m"]')))
                load.wait()
                assert [status(port, key) for key in ("old", "new")] == [401, 200]
                assert status(port, "new", HELD) == 403

                reloader.after(lambda: keys.write_text("[[keys]]\nlabel = 1"))
                assert reloader.status.failures == 1
                load.wait()
                assert [status(port, key) for key in ("old", "new")] == [401, 200]
                reloader.after(lambda: keys.write_text(entry("steady") + entry("newer")))
                assert [status(port, key) for key in ("new", "newer")] == [401, 200]

                reloader.after(lambda: secret.write_text("secret-2"))
                load.wait()
                reloader.after(lambda: replaced(config, configured(urls[1], with_held=False)))
                load.wait()
                assert providers[1].received[-1].headers["authorization"] == "Bearer secret-2"
                assert status(port, "newer", {**PLAIN, "model": "held"}) == 404
                before = len(providers[0].received)
                load.wait()
                assert len(providers[0].received) == before

                held.go_on.set()  # what began with the first configuration ends as it began
                for client, answer in ((streaming, response), (leaving, other)):
                    assert client.read(answer).body.endswith(b"data: [DONE]\n\n")
                assert held.keys == [b"secret-1"] * 2
            answers = load.end()
            assert {answer.status for answer in answers} == {200}
            streams = [one for one in answers if one.headers["content-type"].startswith("text/event-stream")]
            assert len(streams) * 2 == len(answers)
            for one in streams:
                assert one.events[-1] == "[DONE]"
            assert b'"error"' not in b"".join([answer.body for answer in answers])
            assert (reloader.status.reloads, reloader.status.failures) == (4, 1)

        run(runtime, made, reloader, during)
    held.close()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_hangup_rotates_a_key(runtime: str, tmp_path: Path) -> None:
    provider = Provider("one", models=("m",))
    keys = tmp_path / "keys.toml"
    keys.write_text(entry(KEY))
    said = (
        r"INFO gwproto\.reloading: .* is in force|WARNING gwproto: .*:|.*keys\.toml: not TOML.*"
        r"|WARNING gwproto: server\.drain_delay.*"
    )
    with (
        hosting([provider]) as urls,
        serving(
            tmp_path,
            runtime,
            configuration([provider], urls, f'[auth]\nkeys_file = "{keys}"'),
            environ={},
            notices=said,
        ) as gateway,
    ):

        def until(ready: Callable[[], bool]) -> None:
            pause = threading.Event()
            for _ in range(int(PATIENCE / 0.01)):
                if ready():
                    return
                pause.wait(0.01)
            raise AssertionError(gateway.log)

        assert status(gateway.port, KEY) == 200
        gateway.process.send_signal(signal.SIGHUP)  # nothing has changed
        until(lambda: gateway.log.count("is in force") == 1)
        assert status(gateway.port, KEY) == 200
        keys.write_text("keys = [")
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: "is not used" in gateway.log)
        assert status(gateway.port, KEY) == 200
        keys.write_text(entry("another"))
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: gateway.log.count("is in force") == 2)
        assert [status(gateway.port, key) for key in (KEY, "another")] == [401, 200]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_made_key_and_simulated_providers_outlive_a_hangup(runtime: str, tmp_path: Path) -> None:
    with serving(tmp_path, runtime, environ={}, notices=r"INFO gwproto\.reloading: .*") as gateway:
        key = next(line for line in gateway.announced if line.startswith("key: ")).split()[1]
        body = {"messages": PLAIN["messages"]}
        assert status(gateway.port, key, body) == 200
        gateway.process.send_signal(signal.SIGHUP)
        pause = threading.Event()
        while "is in force" not in gateway.log:
            assert gateway.process.poll() is None
            pause.wait(0.01)
        assert status(gateway.port, key, body) == 200

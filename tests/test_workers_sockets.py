"""``serve --workers 2``: one gateway to its clients, whatever becomes of one of its processes."""

import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gwproto.testing import Knobs
from support.servers import (
    CHAT,
    KEY,
    PATIENCE,
    RUNTIMES,
    Answer,
    Client,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)

pytestmark = pytest.mark.sockets

TWO = ("--workers", "2")
#: So many that one process has all of them once in two billion times.
CONNECTIONS = 32
MESSAGES = [{"role": "user", "content": "hello"}]
STREAM = {"stream": True, "messages": MESSAGES}


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it never happened")


def workers(gateway: GatewayProcess) -> list[int]:
    """The processes of the workers, the one that was started first before the others."""
    pid = gateway.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@contextmanager
def connected(gateway: GatewayProcess) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(gateway.client()) for _ in range(CONNECTIONS)]


def figures(gateway: GatewayProcess) -> dict[str, float]:
    """By name, over all labels; only those of chat completions where there is an endpoint."""
    with gateway.client() as client:
        answer = client.get("/metrics")
    assert answer.status == 200
    found = {"gwproto_requests_total": 0.0}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            if sample.labels.get("endpoint", CHAT) == CHAT:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def asked(client: Client) -> int:
    """The status of a chat completion; 0: the connection was broken."""
    try:
        return client.chat().status
    except (OSError, HTTPException):
        client.close()
        return 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_is_killed(runtime: str, tmp_path: Path) -> None:
    """The other goes on, another takes its place, and no figure goes backwards."""
    provider = Provider("one", Knobs(words=3))
    notices = r"WARNING gwproto: worker \d \(process \d+\) is replaced: it ended by SIGKILL"
    with (
        hosting([provider]) as urls,
        serving(tmp_path, runtime, configuration([provider], urls), flags=TWO, notices=notices) as gateway,
        connected(gateway) as clients,
    ):

        def recorded() -> int:
            with gateway.client() as client:
                answer = client.get("/v1/analytics")
            assert answer.status == 200
            total: int = answer.json["total_requests"]
            return total

        before = workers(gateway)
        assert len(before) == 2
        assert [asked(client) for client in clients] == [200] * CONNECTIONS
        until(lambda: figures(gateway)["gwproto_requests_total"] == CONNECTIONS)
        until(lambda: recorded() == CONNECTIONS)
        shown = figures(gateway)
        assert shown["gwproto_workers"] == 2
        assert shown["gwproto_workers_silent"] == 0
        assert shown["gwproto_request_duration_seconds_count"] == CONNECTIONS

        os.kill(before[0], signal.SIGKILL)
        until(lambda: not runs(before[0]))
        statuses = [asked(client) for client in clients]
        assert set(statuses) == {0, 200}  # both had some of the connections
        assert [asked(client) for client in clients] == [200] * CONNECTIONS
        until(lambda: figures(gateway)["gwproto_workers"] == 2)
        new = [pid for pid in workers(gateway) if pid not in before]
        assert len(new) == 1
        total = 2 * CONNECTIONS + statuses.count(200)
        until(lambda: figures(gateway)["gwproto_requests_total"] == total)
        after = figures(gateway)
        assert after["gwproto_worker_restarts_total"] == 1
        assert after["gwproto_request_duration_seconds_count"] == total
        assert all(after[name] >= n for name, n in shown.items() if name.endswith(("_total", "_count")))

        until(lambda: recorded() >= total)
        assert recorded() == total
    lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    assert sum(line["endpoint"] == CHAT for line in lines) <= total
    with sqlite3.connect(tmp_path / "gwproto" / "gwproto.db") as database:
        assert database.execute("SELECT count(*) FROM gwproto_records").fetchone() == (total,)
    states = sorted(path.name for path in (tmp_path / "gwproto").glob("state*"))
    assert states == ["state-2.json", "state.json"]


@pytest.mark.parametrize(("runtime", "group"), [*[(one, False) for one in RUNTIMES], ("trio", True)])
def test_a_signal_drains_all(runtime: str, group: bool, tmp_path: Path) -> None:
    """``group``: the workers get it, too, as service managers do it."""
    provider = Provider("paced", Knobs(words=25, pace=0.03))
    with (
        hosting([provider]) as urls,
        serving(tmp_path, runtime, configuration([provider], urls), flags=TWO) as gateway,
        connected(gateway) as clients,
    ):
        responses = [client.send(STREAM) for client in clients]
        begun = [response.readline() for response in responses]
        for pid in workers(gateway) if group else ():
            os.kill(pid, signal.SIGTERM)
        gateway.terminate()

        def deaf() -> bool:
            with gateway.client() as client:
                try:
                    client.get("/livez")
                except (OSError, HTTPException):
                    return True
            return False

        until(deaf)
        assert gateway.process.poll() is None
        for client, response, first in zip(clients, responses, begun, strict=True):
            body = first + client.read(response).body
            client.close()
            assert body.endswith(b"data: [DONE]\n\n")
            assert b'"error"' not in body
        assert gateway.wait() == 0
    assert provider.departures == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_second_signal_ends_all_at_once(runtime: str, tmp_path: Path) -> None:
    provider = Provider("stalled", Knobs(stall_after=1))
    with (
        hosting([provider]) as urls,
        serving(tmp_path, runtime, configuration([provider], urls), flags=TWO) as gateway,
        gateway.client() as client,
    ):
        client.send(STREAM).readline()
        gateway.process.send_signal(signal.SIGINT)

        def alone() -> bool:
            """The worker that has nothing to do is gone."""
            return len(workers(gateway)) == 1

        until(alone)
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.wait() == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_workers_do_not_outlive_their_supervisor(runtime: str, tmp_path: Path) -> None:
    """They drain."""
    provider = Provider("paced", Knobs(words=20, pace=0.02))
    with (
        hosting([provider]) as urls,
        serving(
            tmp_path, runtime, configuration([provider], urls), flags=TWO, code=-signal.SIGKILL
        ) as gateway,
        gateway.client() as client,
    ):
        pids = workers(gateway)
        response = client.send(STREAM)
        first = response.readline()
        gateway.process.kill()
        body = first + client.read(response).body
        client.close()
        assert body.endswith(b"data: [DONE]\n\n")
        until(lambda: not any(map(runs, pids)))


def entry(key: str) -> str:
    return f'[[keys]]\nlabel = "{key}"\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_hangup_rotates_a_key_in_all(runtime: str, tmp_path: Path) -> None:
    provider = Provider("one", Knobs(words=3), ("m",))
    keys = tmp_path / "keys.toml"
    keys.write_text(entry(KEY) + entry("old"))
    said = r"INFO gwproto\.reloading: .* is in force"
    with (
        hosting([provider]) as urls,
        serving(
            tmp_path,
            runtime,
            configuration([provider], urls, f'[auth]\nkeys_file = "{keys}"'),
            environ={},
            flags=TWO,
            notices=said,
        ) as gateway,
        ThreadPoolExecutor(4) as pool,
    ):
        stop = threading.Event()

        def ask() -> list[Answer]:
            answers = []
            with gateway.client() as client:
                while not stop.is_set():
                    answers.append(client.ask({"model": "m", **STREAM}))
            return answers

        def statuses(key: str) -> set[int]:
            found = set()
            for _ in range(CONNECTIONS):
                with gateway.client(key) as client:
                    found.add(client.chat(model="m").status)
            return found

        asking = [pool.submit(ask) for _ in range(4)]
        try:
            assert [statuses(key) for key in ("old", "new")] == [{200}, {401}]
            keys.write_text(entry(KEY) + entry("new"))
            gateway.process.send_signal(signal.SIGHUP)
            until(lambda: gateway.log.count("is in force") == 2)
            assert [statuses(key) for key in ("old", "new")] == [{401}, {200}]
        finally:
            stop.set()
        answers = [answer for one in asking for answer in one.result(PATIENCE)]
        assert {answer.status for answer in answers} == {200}
        assert all(answer.events[-1] == "[DONE]" for answer in answers)


def test_all_have_one_made_key_and_one_set_of_simulated_providers(tmp_path: Path) -> None:
    with serving(tmp_path, "trio", environ={}, flags=TWO, notices=r"INFO gwproto\.reloading: .*") as gateway:
        assert sum(line.startswith("gwproto listens on") for line in gateway.announced) == 1
        key = next(line for line in gateway.announced if line.startswith("key: ")).split()[1]

        def served() -> set[str]:
            found = set()
            for _ in range(CONNECTIONS):
                with gateway.client(key) as client:
                    answer = client.chat()
                    assert answer.status == 200
                    found.add(answer.headers["x-gateway-provider"])
            return found

        assert served() == {"demo-openai", "demo-gemini", "demo-anthropic"}
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: gateway.log.count("is in force") == 2)
        assert served() == {"demo-openai", "demo-gemini", "demo-anthropic"}
        with gateway.client(key) as client:
            until(lambda: client.get("/v1/analytics").json["total_requests"] == 2 * CONNECTIONS)
    assert list((tmp_path).glob("gwproto*")) == []  # neither records nor state of what was only simulated


def run(tmp_path: Path, *flags: str, **environ: str) -> tuple[int, str]:
    """Exit code and standard error of a gateway that does not start."""
    provider = Provider("p")
    (tmp_path / "gateway.toml").write_text(configuration([provider], ["http://127.0.0.1:9/v1"]))
    command = [sys.executable, "-m", "gwproto_cli", "serve", "--config", "gateway.toml", *TWO, *flags]
    variables = {**os.environ, "GATEWAY_API_KEY": KEY, "XDG_STATE_HOME": str(tmp_path), **environ}
    made = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert made.stdout == ""
    return made.returncode, made.stderr


def test_what_keeps_workers_from_starting_is_said_once(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    status, said = run(tmp_path, "--port", "0", **environ)
    assert status == 1
    (line,) = said.splitlines()
    assert line.startswith("worker ")
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in line


def test_a_port_that_others_listen_at(tmp_path: Path) -> None:
    """Although they are willing to share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = run(tmp_path, "--port", str(port))
    assert (status, said) == (1, f"127.0.0.1:{port}: Address already in use\n")


def test_a_journal_is_one_processs(tmp_path: Path) -> None:
    status, said = run(tmp_path, "--journal", str(tmp_path / "journal"))
    assert status == 1
    assert said.startswith("--journal: ")
    assert "server.workers = 1" in said
    assert not (tmp_path / "journal").exists()

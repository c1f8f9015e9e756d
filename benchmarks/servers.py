"""The processes of a benchmark: the server under test alone on one core, everything else on the others."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks import load

START_LIMIT = 20.0  # seconds until a server must answer
WITH_H11 = "-h11"  # ends the name of a runtime that is to do without httptools
COMPILED = "-compiled"  # ends the name of a runtime whose hot modules are to be compiled (docs/compiled.md)
COMPILED_PATH = Path(__file__).parent.parent / "build" / "compiled"
CLIENT_KEY = "bench-client-key"
PROVIDERS = 12
MODELS = 10  # of each provider
SLOW = "mock-every-10000-1000"  # a stream that is open and hardly says anything
EVEN = "mock-every-400-1000"
#: Models that every provider has.
SHARED = ("mock-plain", "mock-burst-50", "mock-burst-500", "mock-paced-50", SLOW, EVEN)

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = {CORES[0]}
OTHER_CORES = set(CORES[1:]) or SERVER_CORES

NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_buffer_size 2m;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    keepalive_requests 100000000;
    tcp_nodelay on;
    upstream provider {{ server 127.0.0.1:{provider}; keepalive 1024; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


class BenchmarkError(Exception):
    """The run is worthless: a server did not start, or answered wrongly."""


class Server(NamedTuple):
    """A running server under test, or the reference."""

    port: int
    pid: int
    start_to_listening: float  # seconds from its start to the first 200 of GET /livez
    start_to_answer: float  # … to the first chat answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Processes started inside run on ``cores``, from their first instruction."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


@contextlib.contextmanager
def helper(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the harness itself, off the server's core; it ends when its standard input does."""
    with on(OTHER_CORES):
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    with process:
        yield process


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep the server's core from sleeping."""
    with on(SERVER_CORES):
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.awake"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Provider(NamedTuple):
    port: int
    pid: int


@contextlib.contextmanager
def provider_process(port: int = 0) -> Iterator[Provider]:
    """The mock provider; its port of the system's choice unless given."""
    with helper("benchmarks.provider", str(port)) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the mock provider cannot listen on port {port}")
        yield Provider(int(line), process.pid)


@contextlib.contextmanager
def provider(port: int = 0) -> Iterator[int]:
    """The mock provider's port."""
    with provider_process(port) as running:
        yield running.port


class Generator:
    """The load generator's process, seen from here."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self.jobs = process.stdin
        self.reports = process.stdout

    def measure(self, job: load.Job) -> load.Measurement:
        self.jobs.write(msgspec.json.encode(job) + b"\n")
        self.jobs.flush()
        report = msgspec.json.decode(self.reports.readline(), type=load.Measurement | load.Refusal)
        if isinstance(report, load.Refusal):
            raise BenchmarkError(report.why)
        return report


@contextlib.contextmanager
def generator() -> Iterator[Generator]:
    with helper("benchmarks.load") as process:
        yield Generator(process)


def nginx_path() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def configuration(provider_port: int, providers: int = PROVIDERS, models: int = MODELS) -> str:
    """Providers that share the models asked for, so that every request is routed, and have others beside them.

    All that a deployment has is on: keys, records in a database, the access log, metrics.
    """
    lines: list[str] = []
    for number in range(providers):
        lines += [
            "[[providers]]",
            f'name = "provider-{number}"',
            'format = "openai"',
            f'base_url = "http://127.0.0.1:{provider_port}/v1"',
            'api_key_env = "BENCH_PROVIDER_KEY"',
        ]
        names = [*SHARED, *(f"other-{other}" for other in range(models - len(SHARED)))]
        for model in names[:models]:
            lines += ["[[providers.models]]", f'id = "{number}-{model}"', f'upstream = "{model}"']
    return "\n".join(lines) + "\n"


def command(
    name: str,
    directory: Path,
    port: int,
    provider_port: int,
    more: Sequence[str],
    size: tuple[int, int] = (PROVIDERS, MODELS),
) -> list[str]:
    """How the server called ``name`` is started: nginx, the relay, or a runtime with ``more`` options.

    ``size``: of a gateway's configuration, the number of providers and of each one's models.
    """
    if name == "nginx":
        path = nginx_path()
        if path is None:
            raise BenchmarkError("nginx is not installed")
        (directory / "nginx.conf").write_text(NGINX.format(port=port, provider=provider_port))
        return [path, "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"]
    if name == "relay":
        return [sys.executable, "-m", "benchmarks.relay", str(port), str(provider_port)]
    (directory / "gateway.toml").write_text(configuration(provider_port, *size))
    name = name.removesuffix(COMPILED)
    gwproto = ["-m", "gwproto_cli"]
    if name.endswith(WITH_H11):
        gwproto = ["-c", "import sys; sys.modules['httptools'] = None; import gwproto_cli.__main__"]
    return [
        *(sys.executable, *gwproto, "serve", "--config", str(directory / "gateway.toml")),
        *("--runtime", name.removesuffix(WITH_H11), "--port", str(port), *more),
    ]


@contextlib.contextmanager
def serving(
    name: str,
    directory: Path,
    provider_port: int,
    more: Sequence[str],
    settings: Mapping[str, str] | None = None,
    cores: set[int] = SERVER_CORES,
    size: tuple[int, int] = (PROVIDERS, MODELS),
) -> Iterator[Server]:
    """Start the server called ``name`` alone on its core, wait for its first answers, and stop it at the end.

    ``settings``: ``GWPROTO_`` variables for a gateway. ``cores``: others than its own, for several workers.
    ``size``: see :func:`command`.
    """
    directory = directory / name
    directory.mkdir(exist_ok=True)
    port = free_port()
    argv = command(name, directory, port, provider_port, more, size)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GWPROTO_")}
    environment |= {
        "GATEWAY_API_KEY": CLIENT_KEY,
        "BENCH_PROVIDER_KEY": "bench-provider-key",
        "XDG_STATE_HOME": str(directory),
        **(settings or {}),
    }
    if name.endswith(COMPILED):
        if not COMPILED_PATH.is_dir():
            raise BenchmarkError(f"{name}: nothing is compiled; `make compiled` does it")
        # Without PYTHONSAFEPATH the current directory's modules would come first.
        environment |= {"PYTHONPATH": str(COMPILED_PATH), "PYTHONSAFEPATH": "1"}
    chat = load.request(load.Job(port, 0, "mock-plain", 1, 0, 0.0, key=CLIENT_KEY))
    try:
        with started(argv, environment, directory, port, "/livez", chat, cores=cores) as server:
            yield server
    except BenchmarkError as error:
        raise BenchmarkError(f"{name}: {error}") from None


@contextlib.contextmanager
def started(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    port: int,
    ready: str,
    chat: bytes,
    limit: float = START_LIMIT,
    cwd: Path | None = None,
    cores: set[int] = SERVER_CORES,
) -> Iterator[Server]:
    """Run ``argv`` alone on its core, wait until ``ready`` and then ``chat`` is answered, and stop it at the end.

    ``cores``: others than its own.

    Raises :class:`BenchmarkError` with the end of its log when either has no 200 in time.
    """
    log = directory / "log"
    with log.open("wb") as output, on(cores):
        begun = time.perf_counter()
        try:
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchmarkError(f"cannot start {argv[0]}: {error.strerror}") from None
    try:
        until = begun + limit
        try:
            probe = f"GET {ready} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
            listening = first_answer(process, port, probe.encode(), until)
            answered = first_answer(process, port, chat, until)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{log.read_text(errors='replace')[-2000:]}".rstrip()) from None
        yield Server(port, process.pid, listening - begun, answered - begun)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end; kill it, and whatever it leaves behind, when it does not."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(ProcessLookupError):  # as a rule nothing is left
        os.killpg(process.pid, signal.SIGKILL)


def first_answer(process: subprocess.Popen[bytes], port: int, request: bytes, until: float) -> float:
    """Ask until the answer is a 200; the instant it came. A server that starts may refuse for a while."""
    answer = b""
    while (left := until - time.perf_counter()) > 0 and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=left) as connection:
                connection.sendall(request)
                answer = connection.recv(4096)
        except OSError:
            pass
        if answer.startswith(b"HTTP/1.1 200 "):
            return time.perf_counter()
        time.sleep(0.002)
    if process.poll() is not None:
        raise BenchmarkError("ended at its start")
    raise BenchmarkError(f"its last answer is {answer!r}" if answer else "does not answer")

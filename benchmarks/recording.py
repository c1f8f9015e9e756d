"""``python -m benchmarks.recording``: the cost of records, metrics and access log, and of a store that fails.

The same gateway with and without them, in turns; then with records while the database is locked, deleted or full.
"""

import argparse
import contextlib
import http.client
import re
import resource
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import load, meter, servers
from benchmarks.overhead import RUNTIMES

DATABASE = "GWPROTO_ANALYTICS__DATABASE"
METRICS = "GWPROTO_ANALYTICS__METRICS"
WITHOUT = {DATABASE: "", METRICS: "false"}
SETTLING = 1.0  # seconds: what is recorded is written within one
LOCKED = 5.0  # seconds
ROOM = 256 * 1024  # bytes that a file may have when there is no more room


class Cost(NamedTuple):
    """CPU seconds a request, one value per round. ``beside``: those of the threads beside the event loop's (the log's
    and the store's), where all but an append to a queue is done; unlike the difference of two servers' figures it
    hardly depends on the machine's mood."""

    runtime: str
    without: list[float]
    recording: list[float]
    beside: list[float]

    @property
    def ratio(self) -> float:
        pairs = zip(self.recording, self.without, strict=True)
        return statistics.median(recording / without for recording, without in pairs)

    @property
    def share(self) -> float:
        """Of what the event loop's own thread needs."""
        pairs = zip(self.recording, self.beside, strict=True)
        return statistics.median(beside / (recording - beside) for recording, beside in pairs)


class Suffered(NamedTuple):
    """A pass while something was wrong."""

    runtime: str
    fault: str
    answers: int
    p50: float
    p99: float
    written: int
    dropped: int


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process's transaction, as far as the gateway can tell."""

    def hold() -> None:
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout = 10000")
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED)
            other.execute("ROLLBACK")

    with _meanwhile(hold):
        yield


@contextlib.contextmanager
def deleted(database: Path) -> Iterator[None]:
    """In the middle of the pass."""

    def delete() -> None:
        time.sleep(LOCKED / 4)
        for path in database.parent.glob(f"{database.name}*"):
            path.unlink()

    with _meanwhile(delete):
        yield


@contextlib.contextmanager
def _meanwhile(action: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Files of what is started inside cannot grow beyond ``ROOM``."""
    mine = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, mine[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, mine)


def nothing(_: Path) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


#: What goes wrong during a pass, and what holds for the server from its start.
FAULTS: dict[str, tuple[Callable[[Path], contextlib.AbstractContextManager[None]], bool]] = {
    "none": (nothing, False),
    "database locked for 5 s": (locked, False),
    "database deleted": (deleted, False),
    "disk full": (nothing, True),
}


def job(server: servers.Server, connections: int, duration: float) -> load.Job:
    return load.Job(
        port=server.port,
        pid=server.pid,
        model="mock-plain",
        connections=connections,
        events=0,
        duration=duration,
        key=servers.CLIENT_KEY,
        settling=SETTLING,
    )


def measure_cost(
    runtime: str,
    directory: Path,
    provider: int,
    generator: servers.Generator,
    *,
    rounds: int,
    duration: float,
    connections: int,
    progress: Callable[[str], None],
) -> Cost:
    """Both servers run all the time, on the same core, and are asked in turns."""
    cost = Cost(runtime, [], [], [])
    kinds: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
        "without": (["--no-access-log"], WITHOUT),
        "recording": ([], {DATABASE: f"sqlite:///{directory / 'cost.db'}"}),
    }
    with contextlib.ExitStack() as stack:
        running = {}
        for kind, (options, settings) in kinds.items():
            (directory / kind).mkdir(exist_ok=True)
            running[kind] = stack.enter_context(
                servers.serving(runtime, directory / kind, provider, options, settings)
            )
        for number in range(rounds):
            order = list(running) if number % 2 else list(reversed(running))
            for kind in order:
                progress(f"{runtime}: {kind}, round {number + 1}")
                before = meter.by_thread(running[kind].pid)
                measured = generator.measure(job(running[kind], connections, duration))
                values: list[float] = getattr(cost, kind)
                values.append(measured.cpu / measured.answers)
                if kind == "recording":
                    after = meter.by_thread(running[kind].pid)
                    loop, others = (now - then for now, then in zip(after, before, strict=True))
                    cost.beside.append(values[-1] * others / (loop + others))
    return cost


def measure_faults(
    runtime: str,
    directory: Path,
    provider: int,
    generator: servers.Generator,
    *,
    duration: float,
    progress: Callable[[str], None],
) -> list[Suffered]:
    found = []
    for number, (fault, (during, small)) in enumerate(FAULTS.items()):
        progress(f"{runtime}: {fault}")
        place = directory / f"{runtime}-{number}"
        place.mkdir()
        database = place / "records.db"
        settings = {DATABASE: f"sqlite:///{database}"}
        with contextlib.ExitStack() as stack:
            with no_room() if small else contextlib.nullcontext():
                server = stack.enter_context(
                    servers.serving(runtime, place, provider, ["--no-access-log"], settings)
                )
            with during(database):
                measured = generator.measure(job(server, 4, duration))
            metrics = scraped(server.port)
        found.append(
            Suffered(
                runtime,
                fault,
                measured.answers,
                measured.p50,
                measured.p99,
                sample(metrics, "gwproto_records_written_total"),
                sample(metrics, "gwproto_records_dropped_total"),
            )
        )
    return found


def scraped(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics", headers={"x-api-key": servers.CLIENT_KEY})
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def sample(metrics: str, name: str) -> int:
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    if found is None:
        raise servers.BenchmarkError(f"/metrics has no {name}")
    return int(float(found[1]))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recording", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--runtime", action="append", choices=RUNTIMES, help="may be repeated (default: both)"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--duration", type=float, default=2.0, help="seconds per pass")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument(
        "--fault-duration", type=float, default=8.0, help="seconds per fault; 0: none is tried"
    )
    options = parser.parse_args(argv)
    options.runtime = options.runtime or list(RUNTIMES)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when a server did not start or answered wrongly."""
    options = arguments(argv)

    def progress(what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)

    costs: list[Cost] = []
    suffered: list[Suffered] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="gwproto-bench-") as name,
            servers.provider() as provider,
            servers.generator() as generator,
            servers.awake(),
        ):
            for runtime in options.runtime:
                directory = Path(name) / runtime
                directory.mkdir()
                costs.append(
                    measure_cost(
                        runtime,
                        directory,
                        provider,
                        generator,
                        rounds=options.rounds,
                        duration=options.duration,
                        connections=options.connections,
                        progress=progress,
                    )
                )
                if options.fault_duration:
                    suffered += measure_faults(
                        runtime,
                        directory,
                        provider,
                        generator,
                        duration=options.fault_duration,
                        progress=progress,
                    )
    except servers.BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
    print(
        f"{'CPU per request [us]':24}{'without':>10}{'recording':>12}{'ratio':>8}{'threads':>9}{'share':>9}"
    )
    for cost in costs:
        without, recording = statistics.median(cost.without), statistics.median(cost.recording)
        thread = statistics.median(cost.beside)
        print(
            f"{cost.runtime:24}{without * 1e6:10.1f}{recording * 1e6:12.1f}{cost.ratio:8.3f}"
            f"{thread * 1e6:9.1f}{cost.share:9.1%}"
        )
    if suffered:
        print(f"\n{'fault':34}{'answers':>9}{'p50 [ms]':>10}{'p99 [ms]':>10}{'written':>9}{'dropped':>9}")
    for one in suffered:
        title = f"{one.runtime}, {one.fault}"
        figures = f"{one.answers:9}{one.p50 * 1e3:10.2f}{one.p99 * 1e3:10.2f}{one.written:9}{one.dropped:9}"
        print(f"{title:34}{figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

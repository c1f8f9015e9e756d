"""``python -m benchmarks.workers``: how much more several workers serve than one.

On a machine whose cores are all in use, client and provider take their part of them, so that the throughput measured
cannot grow by as much as the gateway's would if they ran elsewhere. What is compared is therefore what the gateway's
own cores would give, if it had them for itself:

    requests a second of N workers = N cores / CPU seconds per request, of all workers and their supervisor

That holds where every worker has as much to do as it can, and none waits for another. The first is so in a closed loop
with many connections. Waiting would show in the column *idle*: workers that stood in each other's way without using CPU
would leave cores with nothing to do.

Three arrangements take turns: one worker that has a core, client and provider on the others; one worker, and N, on N
cores. Where there are too few cores client and provider share them: they disturb N workers more than one, so that the
figure is rather too low. *possible* is what the measured throughput could at most have grown by, client and provider
included: where it is near the measured growth, nothing but them was in the way.

The system deals connections out by a hash, so that some workers get more. Where requests come evenly over all
connections, whatever the server does, the busiest worker is the first that has too much: *when dealt unevenly* counts
only as much as all do when that one is full.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import load, meter, overhead, scale, servers
from gwproto_cli.process import raise_descriptors

CONNECTIONS = 64
GOAL = 0.9  # of as many times the throughput as there are workers
WARM_UP = 0.4  # seconds: every worker is to have seen requests
DISTURBED = 0.1  # cores
FROM, TO = 0.1, 0.9  # of a pass, between which shares are looked at

ESTABLISHED, LISTEN = "01", "0A"  # in /proc/net/tcp

ALONE, ONE, MANY = "one, own core", "one", "many"


class Sample(NamedTuple):
    at: float
    supervisor: float  # CPU seconds; of the only process where there is one worker
    workers: list[float]
    client: float
    provider: float
    idle: float  # seconds, of all cores in use
    connections: list[int]  # of each worker


class Pass(NamedTuple):
    arrangement: str
    workers: int
    throughput: float  # requests a second
    cpu: float  # seconds per request
    busy: list[float]  # cores used by each worker; by the only process
    supervisor: float
    client: float
    provider: float
    idle: float
    others: float  # cores that other processes used
    connections: list[int]
    p99: float  # seconds
    waited: float  # seconds, see load.Measurement
    elapsed: float


def sockets(port: int, state: str) -> set[str]:
    """Those of a local TCP port, as links in ``/proc`` name them."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(f"socket:[{fields[9]}]")
    return found


def await_listeners(port: int, count: int) -> None:
    """The first answer tells of one worker; the others may still be on their way."""
    until = time.monotonic() + servers.START_LIMIT
    while len(sockets(port, LISTEN)) < count:
        if time.monotonic() > until:
            raise servers.BenchmarkError(f"not all of the {count} workers listen")
        time.sleep(0.01)


def owners(port: int, pids: Sequence[int]) -> list[int]:
    """How many established connections to ``port`` each process has."""
    mine = sockets(port, ESTABLISHED)
    counts = []
    for pid in pids:
        links = []
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                links.append(os.readlink(entry.path))
            except OSError:  # closed meanwhile
                continue
        counts.append(len(mine.intersection(links)))
    return counts


def idle(cores: set[int]) -> float:
    """Seconds since the machine's start in which these cores had nothing to do, together."""
    names = {f"cpu{core}" for core in cores}
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    ticks = sum(int(fields[4]) + int(fields[5]) for fields in lines if fields[0] in names)
    return ticks / meter.TICKS_PER_SECOND


def sample(server: servers.Server, client: int, provider: int, cores: set[int]) -> Sample:
    children = meter.tree(server.pid)[1:]
    workers = [meter.usage(pid).cpu for pid in children]
    whole = meter.usage(server.pid).cpu
    return Sample(
        at=time.monotonic(),
        supervisor=whole - sum(workers),
        workers=workers,
        client=meter.usage(client).cpu,
        provider=meter.usage(provider).cpu,
        idle=idle(cores),
        connections=owners(server.port, children or [server.pid]),
    )


def measure(
    arrangement: str,
    server: servers.Server,
    generator: servers.Generator,
    provider: servers.Provider,
    cores: set[int],
    *,
    connections: int,
    duration: float,
) -> Pass:
    """``cores``: which gateway, client and provider may use together."""
    job = load.Job(
        port=server.port,
        pid=server.pid,
        model="mock-plain",
        connections=connections,
        events=0,
        duration=duration,
        warm_up=WARM_UP,
        key=servers.CLIENT_KEY,
    )
    samples: list[Sample] = []

    def look() -> None:
        time.sleep(WARM_UP + load.SETTLING + FROM * duration)
        samples.append(sample(server, generator.pid, provider.pid, cores))
        time.sleep((TO - FROM) * duration)
        samples.append(sample(server, generator.pid, provider.pid, cores))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        measured = generator.measure(job)
    finally:
        looking.join()
    first, last = samples
    return passed(arrangement, measured, first, last, len(cores))


def passed(arrangement: str, measured: load.Measurement, first: Sample, last: Sample, cores: int) -> Pass:
    over = last.at - first.at
    workers = [(now - then) / over for now, then in zip(last.workers, first.workers, strict=True)]
    supervisor = (last.supervisor - first.supervisor) / over
    client = (last.client - first.client) / over
    provider = (last.provider - first.provider) / over
    nothing = (last.idle - first.idle) / over
    return Pass(
        arrangement=arrangement,
        workers=max(1, len(workers)),
        throughput=measured.answers / measured.elapsed,
        cpu=measured.cpu / measured.answers,
        busy=workers or [supervisor],
        supervisor=supervisor if workers else 0.0,
        client=client,
        provider=provider,
        idle=nothing,
        others=max(0.0, cores - nothing - sum(workers) - supervisor - client - provider),
        connections=last.connections,
        p99=measured.p99,
        waited=measured.waited,
        elapsed=measured.elapsed,
    )


class Scaling(NamedTuple):
    """How many times the throughput of one worker; medians of the rounds."""

    workers: int
    same: float  # cores of their own, by the CPU per request on the same cores
    alone: float  # … compared with one worker that had a core
    uneven: float  # the first, when requests come evenly over connections that are dealt out unevenly
    measured: float
    possible: float  # what could have been measured at most


def scaling(rounds: Sequence[dict[str, Pass]], cores: int) -> Scaling:
    """``cores``: how many client, provider and gateway had together for the many workers."""
    found: list[Scaling] = []
    for one in rounds:
        alone, single, many = one[ALONE], one[ONE], one[MANY]
        count = many.workers
        same = count * single.cpu / many.cpu
        beside = (single.client + single.provider) / single.throughput  # CPU seconds per request
        # Of one worker's: at most a core. Of many at a perfect scaling: all cores, and at most one for each worker.
        first = min(1 / single.cpu, cores / (single.cpu + beside))
        best = min(count / single.cpu, cores / (single.cpu + beside))
        found.append(
            Scaling(
                workers=count,
                same=same,
                alone=count * alone.cpu / many.cpu,
                uneven=same / count * sum(many.connections) / max(many.connections),
                measured=many.throughput / single.throughput,
                possible=best / first,
            )
        )
    return Scaling(
        found[0].workers,
        *(statistics.median(getattr(one, field) for one in found) for field in Scaling._fields[1:]),
    )


def table(rounds: Sequence[dict[str, Pass]]) -> tuple[list[str], list[list[str]]]:
    head = ["workers", "requests/s", "CPU [µs]", "cores: workers", "supervisor", "client", "provider"]
    head += ["idle", "others", "connections", "p99 [ms]"]
    rows = []
    for name in (ALONE, ONE, MANY):
        passes = [one[name] for one in rounds]
        middle = {
            field: statistics.median(getattr(one, field) for one in passes)
            for field in ("throughput", "cpu", "supervisor", "client", "provider", "idle", "others", "p99")
        }
        busy = [sorted(one.busy, reverse=True) for one in passes]
        dealt = [max(one.connections) for one in passes]
        count, total = passes[0].workers, sum(passes[0].connections)
        rows.append(
            [
                f"{name}: {count}" if name == MANY else name,
                f"{middle['throughput']:.0f}",
                f"{middle['cpu'] * 1e6:.1f}",
                " + ".join(f"{statistics.median(shares):.2f}" for shares in zip(*busy, strict=True)),
                *(f"{middle[field]:.2f}" for field in ("supervisor", "client", "provider", "idle", "others")),
                str(total) if count == 1 else f"{min(dealt)}..{max(dealt)} of {total}",
                f"{middle['p99'] * 1e3:.1f}",
            ]
        )
    return head, rows


def disturbances(rounds: Sequence[dict[str, Pass]]) -> list[str]:
    """Why the figures are worth less than they seem."""
    found = []
    for name in (ALONE, ONE, MANY):
        others = statistics.median(one[name].others for one in rounds)
        if others > DISTURBED:
            found.append(f"{name}: other processes used {others:.2f} cores: measure again on an idle machine")
    rest = statistics.median(one[MANY].idle for one in rounds)
    if rest > DISTURBED:
        found.append(f"{MANY}: {rest:.2f} cores had nothing to do: the workers were not the limit, or waited")
    return found


def scaling_table(found: Scaling) -> tuple[list[str], list[list[str]]]:
    head = [f"{found.workers} workers serve", "times as much as one"]
    return head, [
        ["on cores of their own, by CPU per request on the same cores", f"{found.same:.2f}"],
        ["… by that of one worker that had a core", f"{found.alone:.2f}"],
        ["… the first, when dealt unevenly", f"{found.uneven:.2f}"],
        ["measured, client and provider on the same machine", f"{found.measured:.2f}"],
        ["possible, for what was measured", f"{found.possible:.2f}"],
    ]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runtime", choices=overhead.RUNTIMES, default="asyncio", help="default: %(default)s"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--rounds", type=int, default=5, help="each starts the servers afresh")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds per pass")
    parser.add_argument("--quick", action="store_true", help="2 rounds of short passes")
    parser.add_argument(
        "--serve-option", action="append", default=[], metavar="OPTION", help="one more for gwproto serve"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(argv)
    if not 2 <= options.workers <= len(servers.CORES):
        parser.error(f"--workers: from 2 to as many as there are cores, {len(servers.CORES)}")
    if options.quick:
        options.rounds, options.duration = 2, 0.5
    return options


def run(options: argparse.Namespace, progress: Callable[[str], None]) -> list[dict[str, Pass]]:
    """Measure. Raises :class:`servers.BenchmarkError` when a server does not start or answers wrongly."""
    shared = set(servers.CORES[: options.workers])
    others = set(servers.CORES[options.workers :]) or shared
    rounds: list[dict[str, Pass]] = []
    with (
        tempfile.TemporaryDirectory(prefix="gwproto-bench-") as directory,
        servers.provider_process() as provider,
        servers.generator() as generator,
    ):
        for number in range(options.rounds):
            with ExitStack() as stack:
                running = {}
                # The workers, their cores, and the cores of client and provider.
                for name, count, cores in (
                    (ALONE, 1, servers.SERVER_CORES),
                    (ONE, 1, shared),
                    (MANY, options.workers, shared),
                ):
                    progress(f"round {number + 1}: starting {count}")
                    place = Path(directory) / name.replace(" ", "-")
                    place.mkdir(exist_ok=True)
                    more = [*options.serve_option, f"--workers={count}"]
                    server = servers.serving(options.runtime, place, provider.port, more, cores=cores)
                    running[name] = stack.enter_context(server)
                    await_listeners(running[name].port, count)
                shift = number % len(running)
                found: dict[str, Pass] = {}
                for name in [*running][shift:] + [*running][:shift]:
                    progress(f"round {number + 1}: {name}")
                    beside = servers.OTHER_CORES if name == ALONE else others
                    for pid in (provider.pid, generator.pid):
                        os.sched_setaffinity(pid, beside)
                    cores = (servers.SERVER_CORES if name == ALONE else shared) | beside
                    found[name] = measure(
                        name,
                        running[name],
                        generator,
                        provider,
                        cores,
                        connections=options.connections,
                        duration=options.duration,
                    )
                rounds.append(found)
    return rounds


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when a server did not start or answered wrongly."""
    options = arguments(argv)
    raise_descriptors()
    progress = scale.Progress(6 * options.rounds)
    try:
        rounds = run(options, progress)
    except servers.BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    cores = min(len(servers.CORES), 2 * options.workers)
    found = scaling(rounds, cores)
    scale.tables([("medians of the rounds", *table(rounds)), ("scaling", *scaling_table(found))])
    if found.same < (goal := GOAL * options.workers):
        print(f"{options.workers} workers serve less than {goal:.1f} times as much", file=sys.stderr)
    for problem in disturbances(rounds):
        print(problem, file=sys.stderr)
    passes = [one._asdict() | {"round": number} for number, of in enumerate(rounds) for one in of.values()]
    chosen = {**vars(options), "json": None}
    scale.write(options.json, {"options": chosen, "scaling": found._asdict(), "passes": passes})
    return 0


if __name__ == "__main__":
    sys.exit(main())

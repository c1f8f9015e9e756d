"""``python -m benchmarks.streams``: 2000 streams at once on one worker, and how long their events are under way.

Every stream has an event each 400 ms, one stream after the other, so that 2000 of them make 5000 events a second. The
provider writes into each when it was sent, by the clock that all processes of a machine share; the client looks at that
clock when it reads it. *direct* is the client at the provider, without a server between: what the harness itself takes,
and part of every other row. Memory is what the server has grown by since its first answer, divided by the streams.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from benchmarks import meter, overhead, scale, servers
from gwproto_cli.process import raise_descriptors

PACE = 0.4  # seconds between two events of a stream; servers.EVEN has it in milliseconds
OPENING = 250  # streams a second
SETTLING = 2.0  # seconds from the last stream's beginning, until events are looked at

MEMORY = 64 * 1024  # bytes of a stream
TRANSIT = 0.050  # seconds, the 99th percentile
BUSY = 0.8  # of the other cores' time; beyond it client and provider are what is measured

DIRECT = "direct"


class Pass(NamedTuple):
    server: str
    streams: int
    memory: float  # bytes of a stream
    elapsed: float  # seconds
    events: int
    fewest: int  # of one stream
    most: int
    p50: float  # seconds an event was under way
    p99: float
    max: float
    worst: float  # of one stream, on average
    busy: float  # CPU seconds in a second: the server's,
    client: float
    provider: float
    waited: float  # seconds in a second that the server was ready to run while its core served others


def measure(
    name: str,
    directory: Path,
    provider: servers.Provider,
    crowd: scale.Crowd,
    *,
    streams: int,
    duration: float,
    more: Sequence[str],
    progress: Callable[[str], None],
) -> Pass:
    progress(f"{name}: opening {streams} streams")
    running: AbstractContextManager[servers.Server]
    if name == DIRECT:
        running = nullcontext(servers.Server(provider.port, provider.pid, 0.0, 0.0))
    else:
        running = servers.serving(name, directory, provider.port, more)
    with running as server:
        before = meter.rss_bytes(server.pid)
        crowd.open(server, servers.EVEN, streams, streams / OPENING)
        time.sleep(SETTLING)
        progress(f"{name}: watching {streams} streams")
        pids = (server.pid, crowd.pid, provider.pid)
        usages = [meter.usage(pid) for pid in pids]
        watched = crowd.watch(duration)
        after = [meter.usage(pid) for pid in pids]
        grown = meter.rss_bytes(server.pid) - before
        crowd.close()
    shares = [(now.cpu - then.cpu) / watched.elapsed for now, then in zip(after, usages, strict=True)]
    return Pass(
        server=name,
        streams=streams,
        memory=0.0 if name == DIRECT else grown / streams,
        elapsed=watched.elapsed,
        events=watched.events,
        fewest=watched.fewest,
        most=watched.most,
        p50=watched.p50,
        p99=watched.p99,
        max=watched.max,
        worst=watched.worst,
        busy=0.0 if name == DIRECT else shares[0],
        client=shares[1],
        provider=shares[2],
        waited=0.0 if name == DIRECT else (after[0].waited - usages[0].waited) / watched.elapsed,
    )


def of_all(passes: Sequence[Pass]) -> Pass:
    """The rounds of one server: medians; of the starved stream and the latest event the worst."""
    first = passes[0]
    values = {
        field: statistics.median(getattr(one, field) for one in passes)
        for field in ("memory", "elapsed", "p50", "p99", "worst", "busy", "client", "provider", "waited")
    }
    return first._replace(
        **values,
        events=round(statistics.median(one.events for one in passes)),
        fewest=min(one.fewest for one in passes),
        most=max(one.most for one in passes),
        max=max(one.max for one in passes),
    )


def table(passes: Sequence[Pass]) -> tuple[list[str], list[list[str]]]:
    head = ["server", "KiB each", "events/s", "p50 [ms]", "p99 [ms]", "max [ms]", "slowest stream [ms]"]
    head += ["events of a stream", "busy", "client", "provider"]
    rows = []
    for one in passes:
        rows.append(
            [
                one.server,
                "" if one.server == DIRECT else f"{one.memory / 1024:.1f}",
                f"{one.events / one.elapsed:.0f}",
                *(f"{seconds * 1e3:.1f}" for seconds in (one.p50, one.p99, one.max, one.worst)),
                f"{one.fewest}..{one.most}",
                "" if one.server == DIRECT else f"{one.busy:.0%}",
                f"{one.client:.0%}",
                f"{one.provider:.0%}",
            ]
        )
    return head, rows


def problems(passes: Sequence[Pass]) -> list[str]:
    """Which goals a gateway has missed, and which rows are not about the server."""
    found = []
    for one in passes:
        if (others := one.client + one.provider) > BUSY * len(servers.OTHER_CORES):
            found.append(f"{one.server}: client and provider used {others:.0%} of a core: they are the limit")
        if one.waited > overhead.DISTURBED:
            found.append(
                f"{one.server}: it had to wait for its core in {one.waited:.0%} of the time: measure again"
            )
        if one.server in (DIRECT, "nginx"):
            continue
        if one.memory > MEMORY:
            found.append(f"{one.server}: {one.memory / 1024:.0f} KiB for a stream, more than {MEMORY >> 10}")
        if one.p99 > TRANSIT:
            found.append(f"{one.server}: p99 is {one.p99 * 1e3:.0f} ms, more than {TRANSIT * 1e3:.0f}")
        due = int(one.elapsed / PACE)  # the first may have come just before
        if one.fewest < due - 1:
            found.append(f"{one.server}: a stream had {one.fewest} events while {due} were due")
    return found


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__.splitlines()[0])
    names = [*overhead.RUNTIMES, *[name + servers.WITH_H11 for name in overhead.RUNTIMES]]
    parser.add_argument(
        "--runtime", action="append", choices=names, help="may be repeated (default: all, without h11)"
    )
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=10.0, help="seconds per pass")
    parser.add_argument("--quick", action="store_true", help="one round of 3 seconds")
    parser.add_argument("--allow-sleep", action="store_true", help="let the server's core sleep when idle")
    parser.add_argument(
        "--serve-option", action="append", default=[], metavar="OPTION", help="one more for gwproto serve"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.duration = 1, 3.0
    options.runtime = options.runtime or list(overhead.RUNTIMES)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when a server did not start, or a stream went wrong."""
    options = arguments(argv)
    raise_descriptors()
    names = [DIRECT, *(["nginx"] if servers.nginx_path() else []), *options.runtime]
    progress = scale.Progress(2 * options.rounds * len(names))
    passes: dict[str, list[Pass]] = {name: [] for name in names}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="gwproto-bench-") as directory,
            servers.provider_process() as provider,
            scale.crowds() as crowd,
            nullcontext() if options.allow_sleep else servers.awake(),
        ):
            for _ in range(options.rounds):
                for name in names:
                    passes[name].append(
                        measure(
                            name,
                            Path(directory),
                            provider,
                            crowd,
                            streams=options.streams,
                            duration=options.duration,
                            more=options.serve_option,
                            progress=progress,
                        )
                    )
    except servers.BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    summary = [of_all(of_server) for of_server in passes.values()]
    scale.tables([(f"{options.streams} streams, an event each {PACE * 1e3:.0f} ms", *table(summary))])
    for problem in problems(summary):
        print(problem, file=sys.stderr)
    figures = [one._asdict() for of_server in passes.values() for one in of_server]
    scale.write(options.json, {"options": {**vars(options), "json": None}, "passes": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())

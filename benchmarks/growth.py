"""``python -m benchmarks.growth``: what a request costs with more targets, more open streams, and longer prompts.

**Targets.** The same traffic at gateways that have from 1 to 1000 targets configured, all at the one mock provider,
up to a hundred of them candidates for each request. The gateways run beside each other and are asked in turns.

**Streams.** The same traffic at gateways that serve from 1 to 2000 streams beside it, each with an event every ten
seconds. What the streams cost alone, watched just before each pass, is taken off.

**Prompts.** Prose, code, and conversations of many short messages, each from 2 kB to 1 MiB. ns per byte is the slope
between two sizes, so that what a request costs anyway is not in it. Beside it nginx's, which does nothing with a byte
but have the system copy it in and out again. *core* is a whole exchange in this process, without input or output.
"""

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, get_args

from msgspec import structs

from benchmarks import load, meter, micro, overhead, prompts, scale, servers
from gwproto_cli.process import raise_descriptors

CONNECTIONS = 16
#: Number of targets: providers, and models of each.
TARGETS = {1: (1, 1), 10: (1, 10), 120: (12, 10), 996: (12, 83), 1000: (100, 10)}
STREAMS = (1, 500, 2000)
OPENING = 1000  # streams a second
SIZES = (2 << 10, 64 << 10, 256 << 10, 1 << 20)  # bytes
KINDS: tuple[prompts.Kind, ...] = get_args(prompts.Kind)
LONG_CONNECTIONS = 4
FLAT = 0.1  # of the smallest's cost, that others' may differ
PER_BYTE = 5.0  # ns
READ = 65536  # bytes, the core's pieces of a body

PARTS = ("targets", "streams", "prompts")


class Cost(NamedTuple):
    """CPU seconds per request at ``size`` of what grows, a value for each pass."""

    part: str
    server: str
    kind: str  # of prompt
    size: int  # targets, streams, or bytes of the request
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Bench(NamedTuple):
    """What all parts are measured with."""

    directory: Path
    provider: int
    generator: servers.Generator
    crowd: scale.Crowd
    duration: float
    more: Sequence[str]
    progress: Callable[[str], None]


def job(server: servers.Server, duration: float, connections: int = CONNECTIONS) -> load.Job:
    return load.Job(
        port=server.port,
        pid=server.pid,
        model="mock-plain",
        connections=connections,
        events=0,
        duration=duration,
        key=servers.CLIENT_KEY,
    )


@contextmanager
def running(
    bench: Bench, wanted: Mapping[str, tuple[str, tuple[int, int]]]
) -> Iterator[dict[str, servers.Server]]:
    """All that is ``wanted``, at once, by a label each: a server's name and the size of its configuration."""
    with ExitStack() as stack:
        found = {}
        for label, (name, size) in wanted.items():
            bench.progress(f"starting {name}, {label}")
            directory = bench.directory / label.replace(" ", "-")
            directory.mkdir(exist_ok=True)
            found[label] = stack.enter_context(
                servers.serving(name, directory, bench.provider, bench.more, size=size)
            )
        yield found


def turns(labels: Sequence[str], number: int) -> list[str]:
    """Nobody always comes first."""
    shift = number % len(labels)
    return [*labels[shift:], *labels[:shift]]


def measure_targets(bench: Bench, runtime: str, passes: int) -> list[Cost]:
    costs = {f"{count} targets": Cost("targets", runtime, "", count, []) for count in TARGETS}
    wanted = {f"{count} targets": (runtime, size) for count, size in TARGETS.items()}
    with running(bench, wanted) as found:
        for number in range(passes):
            for label in turns(list(found), number):
                bench.progress(f"{runtime}, {label}")
                measured = bench.generator.measure(job(found[label], bench.duration))
                costs[label].values.append(measured.cpu / measured.answers)
    return list(costs.values())


def measure_streams(bench: Bench, name: str, passes: int) -> list[Cost]:
    costs = {f"{count} streams": Cost("streams", name, "", count, []) for count in STREAMS}
    wanted = dict.fromkeys(costs, (name, (servers.PROVIDERS, servers.MODELS)))
    with running(bench, wanted) as found:
        for label, server in found.items():
            bench.progress(f"{name}, opening {label}")
            count = costs[label].size
            bench.crowd.open(server, servers.SLOW, count, count / OPENING)
        for number in range(passes):
            for label in turns(list(found), number):
                bench.progress(f"{name}, {label}")
                server = found[label]
                alone = cpu_share(server.pid, bench.duration)
                measured = bench.generator.measure(job(server, bench.duration))
                spent = measured.cpu - alone * (measured.elapsed + load.SETTLING)
                costs[label].values.append(spent / measured.answers)
        bench.crowd.close()
    return list(costs.values())


def cpu_share(pid: int, seconds: float) -> float:
    """CPU seconds in a second."""
    before, begun = meter.usage(pid), time.monotonic()
    time.sleep(seconds)
    return (meter.usage(pid).cpu - before.cpu) / (time.monotonic() - begun)


def measure_prompts(bench: Bench, names: Sequence[str], passes: int) -> list[Cost]:
    costs: list[Cost] = []
    with running(bench, {name: (name, (servers.PROVIDERS, servers.MODELS)) for name in names}) as found:
        for kind in KINDS:
            for size in SIZES:
                of_each = {}
                for name, server in found.items():
                    one = long_job(server, bench.duration, kind, size)
                    of_each[name] = (one, Cost("prompts", name, kind, len(load.request(one)), []))
                    costs.append(of_each[name][1])
                for number in range(passes):
                    for name in turns(names, number):
                        bench.progress(f"{name}, {kind} of {size >> 10} KiB")
                        one, cost = of_each[name]
                        measured = bench.generator.measure(one)
                        cost.values.append(measured.cpu / measured.answers)
    return costs


def long_job(server: servers.Server, duration: float, kind: prompts.Kind, size: int) -> load.Job:
    return structs.replace(job(server, duration, LONG_CONNECTIONS), prompt=kind, size=size)


def measure_core(progress: Callable[[str], None], seconds: float, repeats: int) -> list[Cost]:
    pieces = micro.Pieces()
    costs = []
    for kind in KINDS:
        for size in SIZES:
            progress(f"core, {kind} of {size >> 10} KiB")
            nobody = servers.Server(0, 0, 0.0, 0.0)
            request = load.request(long_job(nobody, 0.0, kind, size))
            # The core's own models; the name is in the body's first bytes.
            body = micro.body_of(request).replace(b'"mock-plain"', b'"mock-model-3"', 1)
            reads = [body[at : at + READ] for at in range(0, len(body), READ)]
            call = functools.partial(pieces.chat_of, reads, micro.JSON_HEADERS, pieces.answer)
            values = [micro.microseconds(call, seconds, 1) / 1e6 for _ in range(repeats)]
            costs.append(Cost("prompts", "core", kind, len(request), values))
    return costs


def slope(small: Cost, large: Cost) -> float:
    """ns per byte."""
    return (large.median - small.median) / (large.size - small.size) * 1e9


def flat_table(costs: Sequence[Cost]) -> tuple[list[str], list[list[str]]]:
    """A row for each size, a column for each server and how it compares with the smallest size."""
    names = list(dict.fromkeys(cost.server for cost in costs))
    head = ["CPU per request"]
    for name in names:
        head += [f"{name} [µs]", "ratio"]
    rows: dict[int, list[str]] = {}
    smallest = {name: next(cost for cost in costs if cost.server == name) for name in names}
    for cost in costs:
        row = rows.setdefault(cost.size, [f"{cost.size} {cost.part}".replace("1 targets", "1 target")])
        low, high = min(cost.values) * 1e6, max(cost.values) * 1e6
        row += [f"{cost.median * 1e6:.1f} ({low:.1f}..{high:.1f})"]
        row += [f"{cost.median / smallest[cost.server].median:.2f}"]
    return head, list(rows.values())


def slope_table(costs: Sequence[Cost]) -> tuple[list[str], list[list[str]]]:
    """A row for each server and kind: ns per byte from each size to the next, and over all."""
    steps = [f"{a >> 10} to {b >> 10} KiB" for a, b in pairwise(SIZES)]
    head = ["ns of CPU per byte", f"{SIZES[0] >> 10} KiB [µs]", *steps, "over all"]
    rows = []
    for kind in KINDS:
        for name in dict.fromkeys(cost.server for cost in costs):
            line = [cost for cost in costs if (cost.kind, cost.server) == (kind, name)]
            pairs = [*pairwise(line), (line[0], line[-1])]
            slopes = [f"{slope(small, large):.2f}" for small, large in pairs]
            rows.append([f"{kind}, {name}", f"{line[0].median * 1e6:.1f}", *slopes])
    return head, rows


def missed(costs: Sequence[Cost]) -> list[str]:
    """Which goals were not reached, by whom; nginx and the core have none."""
    found = []
    for part in PARTS:
        of_part = [cost for cost in costs if cost.part == part and cost.server not in ("nginx", "core")]
        for name, kind in dict.fromkeys((cost.server, cost.kind) for cost in of_part):
            line = [cost for cost in of_part if (cost.server, cost.kind) == (name, kind)]
            if part == "prompts":
                if (per_byte := slope(line[0], line[-1])) > PER_BYTE:
                    found.append(f"{name}, {kind}: {per_byte:.2f} ns per byte, more than {PER_BYTE:.0f}")
                continue
            for cost in line:
                change = cost.median / line[0].median - 1
                if abs(change) > FLAT:
                    found.append(f"{name}, {cost.size} {part}: {change:+.0%}, more than {FLAT:.0%}")
    return found


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "--runtime",
        choices=[*overhead.RUNTIMES, *[name + servers.WITH_H11 for name in overhead.RUNTIMES]],
        default="asyncio",
        help="default: %(default)s",
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="each starts the servers afresh")
    parser.add_argument("--passes", type=int, default=3, help="of each server in a round")
    parser.add_argument("--duration", type=float, default=1.0, help="seconds per pass")
    parser.add_argument("--quick", action="store_true", help="one round of short passes")
    parser.add_argument("--allow-sleep", action="store_true", help="let the server's core sleep when idle")
    parser.add_argument(
        "--serve-option", action="append", default=[], metavar="OPTION", help="one more for gwproto serve"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.passes, options.duration = 1, 3, 0.3
    options.part = options.part or list(PARTS)
    return options


def run(options: argparse.Namespace, progress: Callable[[str], None]) -> list[Cost]:
    """Measure. Raises :class:`servers.BenchmarkError` when a server does not start or answers wrongly."""
    reference = ["nginx"] if servers.nginx_path() else []
    costs: list[Cost] = []
    with (
        tempfile.TemporaryDirectory(prefix="gwproto-bench-") as directory,
        servers.provider() as provider_port,
        servers.generator() as generator,
        scale.crowds() as crowd,
        nullcontext() if options.allow_sleep else servers.awake(),
    ):
        bench = Bench(
            Path(directory), provider_port, generator, crowd, options.duration, options.serve_option, progress
        )
        for _ in range(options.rounds):
            if "targets" in options.part:
                costs += measure_targets(bench, options.runtime, options.passes)
            if "streams" in options.part:
                for name in [*reference, options.runtime]:
                    costs += measure_streams(bench, name, options.passes)
            if "prompts" in options.part:
                costs += measure_prompts(bench, [*reference, options.runtime], options.passes)
    if "prompts" in options.part:
        costs += measure_core(progress, options.duration / 5, options.passes)
    return merged(costs)


def merged(costs: Sequence[Cost]) -> list[Cost]:
    """The rounds' together."""
    found: dict[tuple[str, str, str, int], Cost] = {}
    for cost in costs:
        found.setdefault(cost[:4], cost._replace(values=[])).values.extend(cost.values)
    return list(found.values())


def steps(options: argparse.Namespace) -> int:
    """How many there are to report."""
    names = 1 + (servers.nginx_path() is not None)
    of_round = {
        "targets": len(TARGETS) * (1 + options.passes),
        "streams": len(STREAMS) * (2 + options.passes) * names,
        "prompts": names + len(SIZES) * len(KINDS) * options.passes * names,
    }
    core = len(SIZES) * len(KINDS) if "prompts" in options.part else 0
    total: int = core + options.rounds * sum(of_round[part] for part in options.part)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when a server did not start or answered wrongly."""
    options = arguments(argv)
    raise_descriptors()
    progress = scale.Progress(steps(options))
    try:
        costs = run(options, progress)
    except servers.BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    of_part = {part: [cost for cost in costs if cost.part == part] for part in options.part}
    scale.tables(
        [
            (f"by {part}", *(slope_table(found) if part == "prompts" else flat_table(found)))
            for part, found in of_part.items()
        ]
    )
    for problem in missed(costs):
        print(f"goal missed: {problem}", file=sys.stderr)
    figures = [{**cost._asdict(), "median": cost.median} for cost in costs]
    scale.write(options.json, {"options": {**vars(options), "json": None}, "figures": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())

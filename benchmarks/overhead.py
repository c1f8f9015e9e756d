"""``python -m benchmarks.overhead``: what the gateway costs per request and per chunk, beside a plain proxy.

Each round starts every server afresh and gives each the same passes in turn, so that what disturbs the machine
disturbs all of them. Figures are medians over the rounds; ratios are made within a round.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import load, servers

RUNTIMES = ("asyncio", "trio", "quart")


class Scenario(NamedTuple):
    name: str
    model: str
    connections: int
    events: int = 0  # per stream; 0: JSON answers
    stagger: float = 0.0  # seconds


SCENARIOS = (
    Scenario("request, 1 connection", "mock-plain", 1),
    Scenario("request, 16 connections", "mock-plain", 16),
    Scenario("request, 64 connections", "mock-plain", 64),
    Scenario("chunk, 50 at once", "mock-burst-50", 16, 50),
    Scenario("chunk, 500 at once", "mock-burst-500", 16, 500),
    # A stream takes half a second; begun together, all would send in the same instants.
    Scenario("chunk, paced 10 ms", "mock-paced-50", 64, 50, 0.5 / 64),
)

MEMORY = "RSS under load"
START = "start to first answer"
LISTENING = "start to first /livez"

DISTURBED = 0.02  # of a pass's time; a server that waits longer shares its core with something


class Figure(NamedTuple):
    """One row for one server: its values, one per round."""

    server: str
    name: str
    unit: str
    values: list[float]
    ratios: list[float]  # to the reference in the same round; none for the reference itself

    def text(self, digits: int = 3) -> str:
        low, high = min(self.values), max(self.values)
        return f"{statistics.median(self.values):.{digits}g} ({low:.{digits}g}..{high:.{digits}g})"


class Report(NamedTuple):
    reference: str
    runtimes: Sequence[str]
    figures: list[Figure]
    passes: list[dict[str, Any]]  # everything measured, for --json


def run(
    reference: str,
    runtimes: Sequence[str],
    scenarios: Sequence[Scenario],
    *,
    rounds: int,
    duration: float,
    awake: bool,
    more: Sequence[str],
    cores: set[int],
    progress: Callable[[str], None],
) -> Report:
    """Measure. Raises :class:`servers.BenchmarkError` when a server does not start or answers wrongly."""
    names = [reference, *runtimes]
    cells: dict[tuple[str, str], list[float]] = {}
    units: dict[str, str] = {}
    passes: list[dict[str, Any]] = []

    def add(server: str, name: str, unit: str, value: float) -> None:
        cells.setdefault((name, server), []).append(value)
        units[name] = unit

    with (
        tempfile.TemporaryDirectory(prefix="gwproto-bench-") as directory,
        servers.provider() as provider_port,
        servers.generator() as generator,
        servers.awake() if awake else nullcontext(),
    ):
        for number in range(rounds):
            with ExitStack() as stack:
                running: dict[str, servers.Server] = {}
                memory: dict[str, int] = {}
                for name in names:
                    progress(f"round {number + 1}: starting {name}")
                    server = stack.enter_context(
                        servers.serving(name, Path(directory), provider_port, more, cores=cores)
                    )
                    running[name] = server
                    add(name, LISTENING, "s", server.start_to_listening)
                    add(name, START, "s", server.start_to_answer)
                for turn, scenario in enumerate(scenarios):
                    shift = (number + turn) % len(names)  # nobody always comes first
                    for name in names[shift:] + names[:shift]:
                        progress(f"round {number + 1}: {name}, {scenario.name}")
                        job = load.Job(
                            port=running[name].port,
                            pid=running[name].pid,
                            model=scenario.model,
                            connections=scenario.connections,
                            events=scenario.events,
                            duration=duration,
                            stagger=scenario.stagger,
                            key=servers.CLIENT_KEY,
                        )
                        try:
                            measured = generator.measure(job)
                        except servers.BenchmarkError as error:
                            raise servers.BenchmarkError(f"{name}, {scenario.name}: {error}") from None
                        if scenario.events:
                            cost = measured.cpu / measured.answers / scenario.events
                            add(name, scenario.name, "µs", cost * 1e6)
                        else:
                            add(name, scenario.name, "ms", measured.cpu / measured.answers * 1e3)
                        memory[name] = max(memory.get(name, 0), measured.rss)
                        passes.append(
                            {"round": number, "server": name, "scenario": scenario.name}
                            | {field: getattr(measured, field) for field in measured.__struct_fields__}
                            | {"busy": measured.cpu / measured.elapsed}
                        )
                for name, rss in memory.items():
                    add(name, MEMORY, "MiB", rss / 2**20)
    figures = []
    for figure, unit in units.items():
        base = cells[figure, reference]
        figures.append(Figure(reference, figure, unit, base, []))
        for name in runtimes:
            values = cells[figure, name]
            ratios = [value / of for value, of in zip(values, base, strict=True)]
            figures.append(Figure(name, figure, unit, values, ratios))
    return Report(reference, runtimes, figures, passes)


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a line per figure, a column per server and per ratio."""
    head = ["CPU per", report.reference]
    for name in report.runtimes:
        head += [name, "ratio"]
    rows: dict[str, list[str]] = {}
    for figure in report.figures:
        row = rows.setdefault(figure.name, [f"{figure.name} [{figure.unit}]"])
        row.append(figure.text())
        if figure.ratios:
            row.append(f"{statistics.median(figure.ratios):.1f}")
    return head, list(rows.values())


def show(head: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """A table on standard output, for eyes or for programs. Every column but the first is figures."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.markup import escape  # units in brackets are no markup
            from rich.table import Table
        except ImportError:
            pass
        else:
            grid = Table(head[0], title=title)
            for column in head[1:]:
                grid.add_column(column, justify="right")
            for row in rows:
                grid.add_row(*map(escape, row))
            Console().print(grid)
            return
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    for line in [head, *rows]:
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([line[0].ljust(len(first)), *rest]))


def disturbance(passes: Sequence[dict[str, Any]]) -> str:
    """What the reader must know when other processes ran on the server's core; empty when none did."""
    disturbed = sum(one["waited"] > DISTURBED * one["elapsed"] for one in passes)
    if disturbed == 0:
        return ""
    return (
        f"{disturbed} of {len(passes)} passes were disturbed by other processes on the server's core. Fast servers "
        "suffer most, so that ratios look better than they are: measure again on an idle machine."
    )


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "server_cores": sorted(servers.SERVER_CORES),
        "other_cores": sorted(servers.OTHER_CORES),
    }


def as_json(report: Report, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": machine() | {"server_cores": options["server_cores"]},
        "options": options,
        "reference": report.reference,
        "figures": [
            {
                "server": figure.server,
                "name": figure.name,
                "unit": figure.unit,
                "median": statistics.median(figure.values),
                "values": figure.values,
                "ratio": statistics.median(figure.ratios) if figure.ratios else None,
                "ratios": figure.ratios,
            }
            for figure in report.figures
        ],
        "passes": report.passes,
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--runtime",
        action="append",
        choices=[
            *[name + more for more in ("", servers.WITH_H11, servers.COMPILED) for name in RUNTIMES],
            "relay",
        ],
        metavar="NAME",
        help=f"what to measure, may be repeated (default: {', '.join(RUNTIMES)}); those with -h11 as if httptools was"
        " not installed, those with -compiled from what `make compiled` made; relay is a bare proxy on trio and h11",
    )
    parser.add_argument(
        "--compiled", action="store_true", help="all gateways compiled: -compiled after each --runtime"
    )
    parser.add_argument(
        "--reference",
        choices=["nginx", "relay"],
        default="nginx" if servers.nginx_path() else "relay",
        help="default: nginx when it is installed",
    )
    parser.add_argument(
        "--scenario", action="append", metavar="TEXT", help="only those whose name has this text"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=float, default=1.0, help="seconds per pass")
    parser.add_argument("--quick", action="store_true", help="2 rounds of short passes")
    parser.add_argument(
        "--allow-sleep",
        action="store_true",
        help="let the server's core sleep when idle (see benchmarks/awake.py)",
    )
    parser.add_argument(
        "--serve-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="one more option for gwproto serve, as --serve-option=--no-access-log",
    )
    parser.add_argument(
        "--all-cores",
        action="store_true",
        help="let the servers run on every core, beside everything else: for --serve-option=--workers=2. CPU per"
        " request is then that of all workers; of the throughput the client takes its part",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.duration = 2, 0.3
    options.runtime = options.runtime or list(RUNTIMES)
    if options.compiled:
        options.runtime = [
            name if name == "relay" else name.removesuffix(servers.COMPILED) + servers.COMPILED
            for name in options.runtime
        ]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when a server did not start or answered wrongly."""
    options = arguments(argv)
    wanted = options.scenario or [""]
    scenarios = [scenario for scenario in SCENARIOS if any(part in scenario.name for part in wanted)]
    cores = set(servers.CORES) if options.all_cores else servers.SERVER_CORES
    total = options.rounds * (len(options.runtime) + 1) * (len(scenarios) + 1)
    done = 0

    def progress(what: str) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            print(f"\r\x1b[K[{done}/{total}] {what}", end="", file=sys.stderr, flush=True)

    try:
        report = run(
            options.reference,
            options.runtime,
            scenarios,
            rounds=options.rounds,
            duration=options.duration,
            awake=not options.allow_sleep,
            more=options.serve_option,
            cores=cores,
            progress=progress,
        )
    except servers.BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
    show(*table(report), "one core, median (min..max) of the rounds")
    print(disturbance(report.passes), file=sys.stderr)
    if options.json:
        chosen = {
            "awake": not options.allow_sleep,
            "serve_options": options.serve_option,
            "server_cores": sorted(cores),
            "rounds": options.rounds,
            "duration": options.duration,
            "scenarios": [s.name for s in scenarios],
        }
        options.json.write_text(json.dumps(as_json(report, chosen), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

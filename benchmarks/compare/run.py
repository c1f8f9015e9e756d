"""Measuring peers in turns: every round starts all afresh and gives each the same passes, in an order that shifts."""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from benchmarks import load, servers
from benchmarks.compare import peers
from benchmarks.compare.peers import Peer

WARM_UP = 0.3  # seconds

MEMORY = "RSS under load"
READY = "start to ready"
START = "start to first answer"


class Scenario(NamedTuple):
    name: str
    model: str  # of the mock provider
    connections: int
    events: int = 0  # per stream; 0: JSON answers
    stagger: float = 0.0  # seconds
    open: bool = False  # at the run's rate


SCENARIOS = (
    Scenario("16 connections", "mock-plain", 16),
    Scenario("64 connections", "mock-plain", 64),
    Scenario("latency", "mock-plain", 64, open=True),
    Scenario("50 at once", "mock-burst-50", 16, 50),
    # A stream takes half a second; begun together, all would send in the same instants.
    Scenario("paced 10 ms", "mock-paced-50", 64, 50, 0.5 / 64),
)


class Target(NamedTuple):
    """What the load generator sends to."""

    name: str
    port: int
    pid: int  # 0: unknown, so that only the client's side is measured
    host: str = "127.0.0.1"
    authority: str = "127.0.0.1"
    tls: bool = False
    path: str = "/v1/chat/completions"
    model: str = "{model}"
    headers: Mapping[str, str] = {}
    expect: Literal["text", "any"] = "text"

    def job(self, scenario: Scenario, duration: float, rate: float) -> load.Job:
        return load.Job(
            port=self.port,
            pid=self.pid,
            model=peers.expanded(self.model, {"model": scenario.model}),
            connections=scenario.connections,
            events=scenario.events,
            duration=duration,
            warm_up=min(WARM_UP, duration),
            stagger=scenario.stagger,
            rate=rate if scenario.open else 0.0,
            host=self.host,
            authority=self.authority,
            tls=self.tls,
            path=self.path,
            headers=dict(self.headers),
            expect=self.expect,
            tolerant=True,
        )


def at_url(url: str, name: str, model: str, key: str, pid: int) -> Target:
    """The target at the base URL that an OpenAI client would be given, or at the whole URL of chat completions.

    Without a model those of the mock provider are asked for, and their answers are checked. Raises ValueError.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url}: expected a URL such as http://127.0.0.1:8080/v1")
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/") or "/v1"
    if not path.endswith("/chat/completions"):
        path += "/chat/completions"
    return Target(
        name=name or parts.netloc,
        port=parts.port or (443 if tls else 80),
        pid=pid,
        host=parts.hostname,
        authority=parts.netloc.rpartition("@")[2],
        tls=tls,
        path=path + (f"?{parts.query}" if parts.query else ""),
        model=model or "{model}",
        headers={"authorization": f"Bearer {key}"} if key else {},
        expect="any" if model else "text",
    )


class Figure(NamedTuple):
    """One row for one peer."""

    peer: str
    name: str
    unit: str
    values: list[float]  # one per round in which there was one
    ratios: list[float]  # to the reference in the same round; none for the reference itself

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None


def digits(value: float) -> str:
    """Three significant ones, never with an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


class Problem(NamedTuple):
    """Requests that failed, or a peer that did not start."""

    peer: str
    round: int
    scenario: str
    times: int
    error: str  # the first one


class Report(NamedTuple):
    reference: str  # empty: none
    targets: Sequence[str]
    figures: list[Figure]
    problems: list[Problem]
    passes: list[dict[str, Any]]  # everything measured


@contextmanager
def serving(
    name: str, peer: Peer, directory: Path, provider_port: int, more: Sequence[str]
) -> Iterator[tuple[Target, servers.Server]]:
    """Run a peer alone on the servers' core. Raises :class:`servers.BenchmarkError` when it does not come to answer.

    ``more``: options of ``gwproto serve``.
    """
    directory = directory / name
    directory.mkdir(exist_ok=True)
    if peer.server:
        headers = {"authorization": f"Bearer {servers.CLIENT_KEY}"}
        with servers.serving(peer.server, directory, provider_port, more) as server:
            yield Target(name, server.port, server.pid, headers=headers), server
        return
    values = peers.values(
        peer,
        port=servers.free_port(),
        spare_port=servers.free_port(),
        provider_port=provider_port,
        directory=directory,
        key=servers.CLIENT_KEY,
    )
    for file, template in peer.files.items():
        (directory / file).write_text(peers.expanded(template, values))
    target = Target(
        name,
        int(values["port"]),
        0,
        path=peer.path,
        model=peer.model,
        headers={field: peers.expanded(text, values) for field, text in peer.headers.items()},
    )
    more_environment = {field: peers.expanded(text, values) for field, text in peer.environment.items()}
    with servers.started(
        peer.argv(values),
        {**os.environ, **more_environment},
        directory,
        target.port,
        peer.ready,
        load.request(target.job(SCENARIOS[0], 0.0, 0.0)),
        peer.start_limit,
        directory,
    ) as server:
        yield target._replace(pid=server.pid), server


def figures_of(
    scenario: Scenario, measured: load.Measurement, target: Target, rate: float
) -> Iterator[tuple[str, str, float]]:
    """What a pass says: names, units and values."""
    if scenario.open:
        for percentile in ("p50", "p90", "p99", "max"):
            yield f"latency at {rate:g}/s, {percentile}", "ms", getattr(measured, percentile) * 1e3
    elif not scenario.events:
        yield f"throughput, {scenario.name}", "1/s", measured.answers / measured.elapsed
        if target.pid:
            yield f"CPU per request, {scenario.name}", "ms", measured.cpu / measured.answers * 1e3
    else:
        if scenario.stagger:
            yield f"stream p99, {scenario.name}", "ms", measured.p99 * 1e3
        else:
            yield f"streams, {scenario.name}", "1/s", measured.answers / measured.elapsed
        # Those that the provider sent: who merges events has not done less work.
        chunks = measured.events if target.expect == "any" else measured.answers * scenario.events
        if target.pid:
            yield f"CPU per chunk, {scenario.name}", "µs", measured.cpu / chunks * 1e6


class Cells:
    """The values of all figures, by peer and round."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], dict[str, dict[int, float]]] = {}

    def add(self, peer: str, round: int, name: str, unit: str, value: float) -> None:
        self.values.setdefault((name, unit), {}).setdefault(peer, {})[round] = value

    def figures(self, reference: str, order: Sequence[str]) -> list[Figure]:
        found = []
        for (name, unit), rows in self.values.items():
            base = rows.get(reference, {})
            for peer in order:
                values = rows.get(peer, {})
                if not values:
                    continue
                common = [round for round in values if base.get(round) and peer != reference]
                ratios = [values[round] / base[round] for round in common]
                found.append(Figure(peer, name, unit, list(values.values()), ratios))
        # How a peer starts was measured first, and is read last.
        return sorted(found, key=lambda figure: figure.name in (MEMORY, READY, START))


def run(
    chosen: Mapping[str, Peer],
    urls: Sequence[Target],
    scenarios: Sequence[Scenario],
    *,
    reference: str,
    rounds: int,
    duration: float,
    rate: float,
    awake: bool,
    provider_port: int,
    more: Sequence[str],
    progress: Callable[[str], None],
) -> Report:
    """Measure all; what fails is in the report, and ends nothing else."""
    order = [*chosen, *[target.name for target in urls]]
    cells = Cells()
    problems: list[Problem] = []
    passes: list[dict[str, Any]] = []
    dead: set[str] = set()  # would not start
    with (
        tempfile.TemporaryDirectory(prefix="gwproto-bench-") as directory,
        servers.provider(provider_port) as provider,
        servers.generator() as generator,
        servers.awake() if awake else nullcontext(),
    ):
        for number in range(rounds):
            with ExitStack() as stack:
                targets = {target.name: target for target in urls}
                memory: dict[str, int] = {}
                for name, peer in chosen.items():
                    progress(f"round {number + 1}: starting {name}")
                    if name in dead:
                        continue
                    try:
                        target, server = stack.enter_context(
                            serving(name, peer, Path(directory), provider, more)
                        )
                    except servers.BenchmarkError as error:
                        dead.add(name)
                        problems.append(Problem(name, number, "start", 1, str(error)))
                        continue
                    targets[name] = target
                    cells.add(name, number, READY, "s", server.start_to_listening)
                    cells.add(name, number, START, "s", server.start_to_answer)
                for turn, scenario in enumerate(scenarios):
                    shift = (number + turn) % len(order)  # nobody always comes first
                    for name in order[shift:] + order[:shift]:
                        progress(f"round {number + 1}: {name}, {scenario.name}")
                        if name not in targets:
                            continue
                        target = targets[name]
                        try:
                            measured = generator.measure(target.job(scenario, duration, rate))
                        except servers.BenchmarkError as error:
                            problems.append(Problem(name, number, scenario.name, 1, str(error)))
                            continue
                        if measured.errors:
                            problems.append(
                                Problem(name, number, scenario.name, measured.errors, measured.error)
                            )
                        for figure, unit, value in figures_of(scenario, measured, target, rate):
                            cells.add(name, number, figure, unit, value)
                        memory[name] = max(memory.get(name, 0), measured.rss)
                        passes.append(
                            {"round": number, "peer": name, "scenario": scenario.name}
                            | {field: getattr(measured, field) for field in measured.__struct_fields__}
                        )
                for name, rss in memory.items():
                    if rss:
                        cells.add(name, number, MEMORY, "MiB", rss / 2**20)
    return Report(reference, order, cells.figures(reference, order), problems, passes)

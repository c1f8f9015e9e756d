"""What the benchmarks of growth, of many streams and of several workers share."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import crowd, load, overhead, servers


class Progress:
    """A line on a terminal that says how far it is; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def __call__(self, what: str) -> None:
        self.done += 1
        if sys.stderr.isatty():
            print(f"\r\x1b[K[{self.done}/{self.total}] {what}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)


class Crowd:
    """The process that holds streams, seen from here."""

    def __init__(self, pid: int, orders: Any, reports: Any) -> None:
        self.pid = pid
        self._orders = orders
        self._reports = reports

    def open(self, server: servers.Server, model: str, streams: int, over: float) -> None:
        self._ask(crowd.Open(server.port, model, streams, over, servers.CLIENT_KEY))

    def watch(self, duration: float) -> crowd.Watched:
        report = self._ask(crowd.Watch(duration))
        assert isinstance(report, crowd.Watched)
        return report

    def close(self) -> None:
        self._ask(crowd.Close())

    def _ask(self, order: crowd.Order) -> crowd.Report:
        self._orders.write(msgspec.json.encode(order) + b"\n")
        self._orders.flush()
        report: crowd.Report = msgspec.json.decode(self._reports.readline(), type=crowd.Report)
        if isinstance(report, load.Refusal):
            raise servers.BenchmarkError(report.why)
        return report


@contextlib.contextmanager
def crowds() -> Iterator[Crowd]:
    with servers.helper("benchmarks.crowd") as process:
        yield Crowd(process.pid, process.stdin, process.stdout)


def tables(found: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]) -> None:
    """Each with its title, its head and its rows."""
    for number, (title, head, rows) in enumerate(found):
        if not sys.stdout.isatty():
            print(("\n" if number else "") + title)
        overhead.show(head, rows, title)


def write(path: Path | None, figures: dict[str, Any]) -> None:
    """Write ``figures`` and what they were measured on, if a file is wanted."""
    if path is not None:
        path.write_text(json.dumps({"machine": overhead.machine(), **figures}, indent=1) + "\n")

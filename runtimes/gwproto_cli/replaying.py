"""``gwproto replay``: a journal through fresh machines, or through those of another policy."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from gwproto.failures import ConfigurationError
from gwproto.journal.entries import LineError
from gwproto.journal.replaying import Replay, Report

_SHOWN = 10_000_000  # bytes: shorter files are replayed before anyone looks


def replay(path: str, policy: str | None, *, as_json: bool) -> None:
    """Print what came of it. Raises ``ConfigurationError`` for divergences, and for a journal that is damaged."""
    if policy is not None:
        from gwproto_cli.whatif import what_if

        what_if(path, policy, as_json=as_json)
        return
    machines = Replay()
    damage = ""
    with lines_of(path) as lines:
        try:
            for line in lines:
                machines.feed(line)
            machines.end()
        except LineError as error:
            damage = str(error)
    report = machines.report
    if as_json:
        about = {**msgspec.structs.asdict(report), "problem": {"line": machines.line, "what": damage}}
        if not damage:
            del about["problem"]
        print(msgspec.json.encode(about).decode())
    else:
        print(_summary(report))
    problems: list[tuple[str, str]] = []
    if report.first is not None:
        first = report.first
        of = f"exchange {first.exchange}" if first.exchange else "the gateway"
        said = f"{of}, {first.event}: expected {first.expected}; came {first.came}"
        problems.append((f"{path}:{first.line}", said))
    if damage:
        problems.append((f"{path}:{machines.line}", damage))
    if problems:
        raise ConfigurationError(tuple(problems))


def _summary(report: Report) -> str:
    entries = "1 entry" if report.entries == 1 else f"{report.entries} entries"
    text = (
        f"{entries}, {_counted(report.exchanges, 'exchange')}, {_counted(report.divergences, 'divergence')}"
    )
    return text + (f" in {_counted(report.diverged, 'exchange')}" if report.divergences else "")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@contextmanager
def lines_of(path: str) -> Iterator[Iterator[bytes]]:
    """A file's lines, with a progress bar on a terminal if it is a long one."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise ConfigurationError(((path, error.strerror or str(error)),)) from None
        advanced = stack.enter_context(_progress(os.fstat(file.fileno()).st_size))

        def lines() -> Iterator[bytes]:
            try:
                for line in file:
                    yield line
                    advanced(len(line))
            except OSError as error:  # a folder, for one
                raise ConfigurationError(((path, error.strerror or str(error)),)) from None

        yield lines()


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], None]]:
    if size < _SHOWN or not sys.stderr.isatty():
        yield lambda advance: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:  # the extra "cli" is not installed
        yield lambda advance: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replay", total=size)
        waiting = 0

        def advanced(advance: int) -> None:
            nonlocal waiting
            waiting += advance
            if waiting > size // 200:
                progress.advance(task, waiting)
                waiting = 0

        yield advanced

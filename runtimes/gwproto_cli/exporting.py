"""``gwproto export``: the store's records, as lines of JSON or a table."""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TextIO

import msgspec

from gwproto.failures import ConfigurationError
from gwproto_cli.environment import environment
from gwproto_ops import deployment
from gwproto_ops.records.database import Database, Unavailable, Unfit
from gwproto_ops.records.lines import Line, Record
from gwproto_ops.records.locating import SETTING, locate
from gwproto_ops.records.reading import count, records

#: A spreadsheet takes a cell that begins so for a formula, and its maker for whoever opens the file.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
_TOLD = 100_000  # records between two lines about progress where there is no terminal

_encode = msgspec.json.Encoder().encode


def add_flags(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--jsonl", action="store_true", help="lines of JSON (default)")
    form.add_argument("--csv", action="store_true", help="a table; attempts are JSON inside a cell")
    parser.add_argument("--database", metavar="URL", help="instead of the configured one")
    parser.add_argument("--days", type=int, metavar="N", help="records of the last N days (default: all)")
    parser.add_argument(
        "--project-id", action="append", default=[], metavar="ID", help="of this project; may be repeated"
    )
    parser.add_argument("--output", metavar="FILE", help="where to (default: standard output)")


def run(options: argparse.Namespace) -> None:
    """Write the records, oldest first. Raises ``ConfigurationError`` for what cannot be read or written."""
    if options.days is not None and options.days < 1:
        raise ConfigurationError((("--days", "is less than one"),))
    environ = environment(options.env_file)
    path = options.config or environ.get("GWPROTO_CONFIG") or None
    settings = deployment.read(path, environ=environ).settings
    url = settings.analytics.database if options.database is None else options.database
    source = locate(url, settings.server.state_dir, environ)
    if source is None:
        raise ConfigurationError(((SETTING, "is empty: there are no records"),))
    since = 0.0 if options.days is None else time.time() - options.days * 86400
    try:
        database = source.connect(readonly=True)
        with ExitStack() as stack:
            stack.callback(database.close)
            total = count(database, since, options.project_id)
            file = stack.enter_context(_output(options.output))
            told = stack.enter_context(_progress(total))
            write = _table(file) if options.csv else _lines(file)
            _export(database, since, options.project_id, write, told)
    except (Unavailable, Unfit) as error:
        raise ConfigurationError(((str(source), str(error)),)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigurationError(
            ((options.output or "standard output", error.strerror or str(error)),)
        ) from None


def _export(
    database: Database,
    since: float,
    projects: Sequence[str],
    write: Callable[[Sequence[Record]], None],
    told: Callable[[int], None],
) -> None:
    for page in records(database, since, projects):
        write(page)
        told(len(page))


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="") as file:
        yield file


def _lines(file: TextIO) -> Callable[[Sequence[Record]], None]:
    def write(page: Sequence[Record]) -> None:
        file.writelines([f"{_encode(record).decode()}\n" for record in page])

    return write


def _table(file: TextIO) -> Callable[[Sequence[Record]], None]:
    names = Line.__struct_fields__
    table = csv.writer(file)
    table.writerow(names)

    def write(page: Sequence[Record]) -> None:
        table.writerows([[cell(getattr(record, name)) for name in names] for record in page])

    return write


def cell(value: object) -> object:
    """What stands for ``value`` in a table: text, and never a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        value = _encode(value).decode()
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error if that is a terminal, else a line now and then and at the end."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ModuleNotFoundError:  # the extra "cli" is not installed
            pass
        else:
            columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task("", total=total)
                yield lambda number: bar.advance(task, number)
            return
    done = 0

    def told(number: int) -> None:
        nonlocal done
        before, done = done, done + number
        if done // _TOLD > before // _TOLD:
            print(f"{done} of {total} records", file=sys.stderr)

    yield told
    print(f"{done} records" if done != 1 else "1 record", file=sys.stderr)

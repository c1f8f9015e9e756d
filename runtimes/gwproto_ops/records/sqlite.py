"""SQLite in WAL mode: readers and the one writer do not wait for each other."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from gwproto_ops.records.database import Corrupt, Database, Row, Unavailable, Unfit
from gwproto_ops.records.figures import merged

#: Seconds to wait for another process's lock. Who waits longer tries again later; nothing is lost meanwhile.
LOCK_WAIT = 0.1
#: Seconds that a page may take to be read.
READ_LIMIT = 10.0
#: Rows that one statement inserts, while there are as many; times their columns, at most the 999 parameters that old
#: releases take.
ROWS = (64, 8, 1)
#: Bytes that the write-ahead log keeps when it has been longer.
WAL_KEPT = 16 * 1024 * 1024
#: Pages in it that are moved to the file together: the last ones are written again with every batch.
WAL_PAGES = 4000

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SQLite(Database):
    begin = "BEGIN IMMEDIATE"
    begin_snapshot = "BEGIN"
    types: ClassVar[Mapping[str, str]] = {
        "id": "INTEGER PRIMARY KEY",
        "blob": "BLOB",
        "clustered": "WITHOUT ROWID",
    }

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        with _in_words():
            self._connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode={'ro' if readonly else 'rw'}",
                uri=True,
                timeout=LOCK_WAIT,
                isolation_level=None,  # transactions begin where they are said to
                check_same_thread=False,  # used by one thread at a time
            )
        try:
            self._file = _identity(path)
            if readonly:
                self._limit()
            else:
                self._connection.create_function("gwproto_merged", 2, merged, deterministic=True)
                self.run("PRAGMA journal_mode=WAL")
                # A commit is in the system's hands, not on the disk: safe from our death, not from a power cut.
                self.run("PRAGMA synchronous=NORMAL")
                self.run(f"PRAGMA journal_size_limit={WAL_KEPT}")
                self.run(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        except BaseException:
            self.close()
            raise

    def _limit(self) -> None:
        until = time.monotonic() + READ_LIMIT
        self._connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        with _in_words():
            return self._connection.execute(sql, parameters).fetchall()

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        with _in_words():
            self._connection.executemany(sql, rows)

    def insert(self, into: str, rows: Sequence[Sequence[object]]) -> None:
        # Each statement gives the interpreter's lock away and takes it again, from an event loop that is busy: one of
        # them for many rows.
        start = 0
        for at_once in ROWS:
            statement = _insert(into, len(rows[0]), at_once)
            while len(rows) - start >= at_once:
                self.run(statement, list(chain.from_iterable(rows[start : start + at_once])))
                start += at_once

    def prepare(self) -> None:
        pass  # the function is the connection's

    @property
    def stale(self) -> bool:
        return _identity(self._path) != self._file

    def verify(self) -> None:
        ((found,),) = self.run("PRAGMA quick_check(1)")
        if found != "ok":
            raise Corrupt(str(found))

    def close(self) -> None:
        try:
            self._connection.close()
        except sqlite3.Error:
            pass


class SQLiteFile:
    """``path`` is asked for at each connection: a folder may have gone, or come."""

    def __init__(self, path: Callable[[], Path], name: str) -> None:
        self._path = path
        self._name = name

    def __str__(self) -> str:
        return self._name

    def connect(self, *, readonly: bool = False) -> SQLite:
        with _in_words():
            path = self._path()
            if not readonly:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # SQLite would make it readable for everybody.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return SQLite(path, readonly=readonly)

    def set_aside(self) -> str:
        with _in_words():
            path = self._path()
            stem = f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            aside = path.with_name(stem)
            number = 1
            while aside.exists():
                number += 1
                aside = path.with_name(f"{stem}-{number}")
            os.replace(path, aside)
            for suffix in ("-wal", "-shm"):
                beside = path.with_name(path.name + suffix)
                if beside.exists():
                    os.replace(beside, aside.with_name(aside.name + suffix))
        return str(aside)


@cache
def _insert(into: str, columns: int, rows: int) -> str:
    one = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {into} VALUES {', '.join([one] * rows)}"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what is only more detailed
        if code in _DAMAGED:
            raise Corrupt(str(error)) from error
        if code == sqlite3.SQLITE_INTERRUPT:
            raise Unavailable(f"it took more than {READ_LIMIT:.0f} seconds") from error
        if isinstance(error, sqlite3.OperationalError | sqlite3.InternalError) or "closed" in str(error):
            raise Unavailable(str(error)) from error
        raise Unfit(str(error)) from error
    except OSError as error:
        raise Unavailable(error.strerror or str(error)) from error
    except RuntimeError as error:  # nobody's home directory
        raise Unavailable(str(error)) from error
    except (ValueError, OverflowError, TypeError) as error:
        raise Unfit(str(error)) from error

"""A connection to a database, whichever it is, and where it is found."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

Row = tuple[Any, ...]


class Unavailable(Exception):
    """The database cannot be used now; later it may. Its words are for people, and hold no secret."""


class Corrupt(Unavailable):
    """What is there is no database, or a damaged one."""


class Unfit(Exception):
    """The database is well, but will never take this."""


class Database(ABC):
    """A connection. All its methods raise :class:`Unavailable` or :class:`Unfit`, and block.

    SQL has ``?`` for each parameter, and neither ``?`` nor ``%`` for anything else.
    """

    #: What the two call things in a table's definition.
    types: ClassVar[Mapping[str, str]]

    @abstractmethod
    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Execute a statement; the rows it gave."""

    @abstractmethod
    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute a statement for each of ``rows``."""

    def insert(self, into: str, rows: Sequence[Sequence[object]]) -> None:
        """Insert ``rows`` of one width; ``into``: the table, and its columns in parentheses."""
        marks = ", ".join("?" * len(rows[0]))
        self.run_many(f"INSERT INTO {into} VALUES ({marks})", rows)

    @abstractmethod
    def prepare(self) -> None:
        """Make what the tables' SQL needs beside tables; in the transaction that makes them."""

    @property
    @abstractmethod
    def stale(self) -> bool:
        """Whether what it is connected to is not what one would connect to now."""

    @abstractmethod
    def verify(self) -> None:
        """Look for damage, however long it takes."""

    @abstractmethod
    def close(self) -> None:
        """Never raises."""

    #: How to begin what :meth:`transaction` and :meth:`snapshot` are.
    begin: ClassVar[str]
    begin_snapshot: ClassVar[str]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing. After an exception nothing is pending."""
        with self._within(self.begin):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment."""
        with self._within(self.begin_snapshot):
            yield

    @contextmanager
    def _within(self, begin: str) -> Iterator[None]:
        self.run(begin)
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            try:
                self.run("ROLLBACK")
            except (Unavailable, Unfit):
                self.close()  # which rolls back, too
            raise


class Source(Protocol):
    """Where a database is. Its ``str`` is for people: no password stands in it."""

    def connect(self, *, readonly: bool = False) -> Database:
        """Raises :class:`Unavailable`."""

    def set_aside(self) -> str:
        """Move a damaged database out of the way; where to. Raises :class:`Unavailable` where that cannot be done."""

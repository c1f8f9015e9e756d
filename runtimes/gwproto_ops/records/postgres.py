"""PostgreSQL, by psycopg, which is imported when a configuration asks for it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import ClassVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gwproto_ops.records.database import Database, Row, Unavailable, Unfit

#: Seconds. Metrics and traces wait as long.
CONNECT_LIMIT = 3
STATEMENT_LIMIT = 10

_LOCK = 0x67777072  # the number of our advisory lock: "gwpr"

# Numbers by name are added as gwproto_ops.records.figures.merged does.
_MERGED = """
CREATE OR REPLACE FUNCTION gwproto_merged(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT json_object_agg(name, total)::text FROM (
        SELECT name, sum(number::numeric) AS total FROM (
            SELECT key AS name, value AS number FROM json_each_text($1::json)
            UNION ALL SELECT key, value FROM json_each_text($2::json)
        ) AS both_of_them GROUP BY name
    ) AS sums
$$
"""


class Postgres(Database):
    begin = "BEGIN"
    begin_snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ"
    types: ClassVar[Mapping[str, str]] = {
        "id": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "blob": "BYTEA",
        "clustered": "",
    }

    def __init__(self, url: str, *, readonly: bool = False) -> None:
        with _in_words():
            self._connection = psycopg.connect(
                url, autocommit=True, connect_timeout=CONNECT_LIMIT, application_name="gwproto"
            )
        try:
            self.run(f"SET statement_timeout = '{STATEMENT_LIMIT}s'")
            if readonly:
                self.run("SET default_transaction_read_only = on")
        except BaseException:
            self.close()
            raise

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        with _in_words():
            cursor = self._connection.execute(_marked(sql), parameters or None)
            return [] if cursor.description is None else cursor.fetchall()

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        with _in_words(), self._connection.cursor() as cursor:
            cursor.executemany(_marked(sql), rows)

    def prepare(self) -> None:
        self.run(f"SELECT pg_advisory_xact_lock({_LOCK})")  # several processes may start at once
        self.run(_MERGED)

    @property
    def stale(self) -> bool:
        return self._connection.closed

    def verify(self) -> None:
        pass  # the server's business

    def close(self) -> None:
        try:
            self._connection.close()
        except psycopg.Error:
            pass


class PostgresServer:
    def __init__(self, url: str) -> None:
        """Raises ``ValueError`` for what is no such URL; without words, which would hold the password."""
        try:
            parts = conninfo_to_dict(url)
        except psycopg.Error:
            raise ValueError from None
        self._url = url
        self._name = f"postgresql://{parts.get('host', '')}/{parts.get('dbname', '')}"

    def __str__(self) -> str:
        return self._name

    def connect(self, *, readonly: bool = False) -> Postgres:
        return Postgres(self._url, readonly=readonly)

    def set_aside(self) -> str:
        raise Unavailable("a server's database cannot be moved aside")


@cache
def _marked(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise Unfit(_first_line(error)) from error
    except psycopg.Error as error:
        raise Unavailable(_first_line(error)) from error
    except (UnicodeError, ValueError, TypeError) as error:
        raise Unfit(str(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__

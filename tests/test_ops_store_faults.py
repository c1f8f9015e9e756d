"""A store that is full, locked, gone, damaged, read-only or stopped: records wait and are counted, and it recovers.

Times are arguments, so that what waits for seconds is tried again at once.
"""

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gwproto import Outcome
from gwproto.queries import RequestsQuery
from gwproto_ops.records import keeping, reading, sqlite
from gwproto_ops.records.database import Corrupt, Database, Source, Unavailable
from gwproto_ops.records.keeping import LONGEST_PAUSE, Keeper
from gwproto_ops.records.locating import locate
from support.outcomes import NOON, PLAIN, finished, ids, random_outcomes
from support.postgres import Server, postgres

__all__ = ["postgres"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCK_WAIT", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "records.db"


@pytest.fixture
def source(path: Path) -> Source:
    found = locate(f"sqlite:///{path}")
    assert found is not None
    return found


@pytest.fixture
def keeper(source: Source) -> Iterator[Keeper]:
    found = Keeper(source, retention_days=30, limit=1000)
    yield found
    found.close()


def stored(source: Source) -> list[str]:
    """The ids of what is in the store, oldest first."""
    database = source.connect(readonly=True)
    try:
        return [record.request_id for record in reading.requests(database, RequestsQuery(limit=500)).data][
            ::-1
        ]
    finally:
        database.close()


def try_again(keeper: Keeper, now: float) -> float:
    """Work until it is well, for at most a minute of its time; when it was."""
    until = now + 60.0
    while True:
        due = keeper.work(now, NOON)
        if not keeper.failed:
            return now
        now = due
        assert now < until, keeper.failed


FIRST, SECOND, THIRD = (random_outcomes(20, seed=seed) for seed in (1, 2, 3))
FIRST = [replace(one, request_id=f"a{one.request_id[1:]}") for one in FIRST]
SECOND = [replace(one, request_id=f"b{one.request_id[1:]}") for one in SECOND]
THIRD = [replace(one, request_id=f"c{one.request_id[1:]}") for one in THIRD]


class Troubled:
    """A source whose writers meet a trouble, as long as there is one."""

    def __init__(self, source: Source, trouble: str) -> None:
        self._source = source
        self.trouble = trouble

    def connect(self, *, readonly: bool = False) -> Database:
        database = self._source.connect(readonly=readonly)
        if self.trouble and not readonly:
            database.run(self.trouble)
        return database

    def set_aside(self) -> str:
        return self._source.set_aside()


def work_and_see(keeper: Keeper, outcomes: list[Outcome], now: float) -> None:
    keeper.take(finished(outcomes))
    keeper.work(now, NOON)
    assert keeper.failed == ""
    assert keeper.waiting == 0


def test_locked_for_five_seconds(keeper: Keeper, source: Source, path: Path) -> None:
    work_and_see(keeper, FIRST, 0.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    now = 1.0
    tries = []
    while now < 6.0:
        tries.append(now)
        keeper.take(finished(SECOND if now == 1.0 else []))
        assert keeper.work(now + 0.01, NOON) == keeper.work(now, NOON)  # not before its time
        now = keeper.work(now, NOON)
        assert keeper.failed == "database is locked"
        assert (keeper.waiting, keeper.written, keeper.dropped) == (20, 20, 0)
        assert stored(source) == ids(FIRST)  # readers are not locked out
    other.execute("ROLLBACK")
    other.close()
    assert try_again(keeper, now) <= 6.0 + LONGEST_PAUSE
    assert stored(source) == ids(FIRST) + ids(SECOND)
    assert (keeper.waiting, keeper.written, keeper.dropped) == (0, 40, 0)


def test_pauses_grow_and_begin_anew(keeper: Keeper, source: Source, path: Path) -> None:
    work_and_see(keeper, FIRST, 0.0)
    for _ in range(2):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        keeper.take(finished(SECOND))
        now = 100.0
        pauses = []
        for _ in range(8):
            then = keeper.work(now, NOON)
            pauses.append(then - now)
            now = then
        assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
        other.close()
        try_again(keeper, now)


def test_a_full_disk(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    troubled = Troubled(source, "")
    keeper = Keeper(troubled, retention_days=30, limit=50)
    work_and_see(keeper, FIRST, 0.0)
    troubled.trouble = "PRAGMA max_page_count=1"  # as many as there are
    keeper._disconnect()
    for number in range(4):
        keeper.take(finished(random_outcomes(20, seed=10 + number)))
        keeper.work(100.0 * (number + 1), NOON)
    assert keeper.failed == "database or disk is full"
    assert (keeper.waiting, keeper.written, keeper.dropped) == (50, 20, 30)
    assert stored(source) == ids(FIRST)
    troubled.trouble = ""
    keeper.work(1000.0, NOON)
    assert keeper.failed == ""
    assert (keeper.waiting, keeper.written, keeper.dropped) == (0, 70, 30)
    assert len(stored(source)) == 70
    keeper.close()
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 2  # once when it begins, once when it is over
    assert told[0].endswith("wait: database or disk is full")
    assert told[1].endswith("are written to " + str(troubled) + " again; 30 were dropped")


def test_read_only(source: Source) -> None:
    troubled = Troubled(source, "")
    keeper = Keeper(troubled, retention_days=30, limit=50)
    work_and_see(keeper, FIRST, 0.0)
    troubled.trouble = "PRAGMA query_only=1"
    keeper._disconnect()
    keeper.take(finished(SECOND))
    now = keeper.work(1.0, NOON)
    assert keeper.failed == "attempt to write a readonly database"
    assert keeper.waiting == 20
    troubled.trouble = ""
    try_again(keeper, now)
    assert stored(source) == ids(FIRST) + ids(SECOND)
    keeper.close()


@pytest.mark.parametrize("what", ["file", "all three files", "folder"])
def test_deleted_while_running(keeper: Keeper, source: Source, path: Path, what: str) -> None:
    work_and_see(keeper, FIRST, 0.0)
    if what == "folder":
        shutil.rmtree(path.parent)
    else:
        for suffix in ("",) if what == "file" else ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
    work_and_see(keeper, SECOND, 1.0)
    assert stored(source) == ids(SECOND)
    work_and_see(keeper, THIRD, 2.0)
    assert stored(source) == ids(SECOND) + ids(THIRD)
    assert (keeper.written, keeper.dropped) == (60, 0)
    assert path.stat().st_mode & 0o777 == 0o600


def test_replaced_while_running(keeper: Keeper, source: Source, path: Path, tmp_path: Path) -> None:
    other = locate(f"sqlite:///{tmp_path}/other.db")
    assert other is not None
    another = Keeper(other, retention_days=30, limit=1000)
    work_and_see(another, SECOND, 0.0)
    another.close()
    work_and_see(keeper, FIRST, 0.0)
    (tmp_path / "other.db").replace(path)
    path.with_name("records.db-wal").unlink()
    path.with_name("records.db-shm").unlink()
    work_and_see(keeper, THIRD, 1.0)
    assert stored(source) == ids(SECOND) + ids(THIRD)


def test_a_folder_that_cannot_be_made_yet(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    source = locate("sqlite:///records.db", str(tmp_path / "state"))
    assert source is not None
    keeper = Keeper(source, retention_days=30, limit=1000)
    keeper.take(finished(FIRST))
    now = keeper.work(0.0, NOON)
    assert keeper.failed == "File exists"
    (tmp_path / "state").unlink()
    try_again(keeper, now)
    assert stored(source) == ids(FIRST)
    keeper.close()


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8000])
def test_damaged_at_the_start(
    keeper: Keeper, source: Source, path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    work_and_see(keeper, FIRST, 0.0)
    assert stored(source) == ids(FIRST)
    (aside,) = path.parent.glob("records.db.corrupt-*Z")
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text
    assert keeper.dropped == 0


def test_damaged_twice_in_a_second_keeps_both(keeper: Keeper, source: Source, path: Path) -> None:
    for content in (b"first" * 1000, b"second" * 1000, b"third" * 1000):
        keeper._disconnect()
        path.parent.mkdir(exist_ok=True)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(content)
        work_and_see(keeper, FIRST, 0.0)
    kept = {aside.read_bytes()[:5] for aside in path.parent.glob("records.db.corrupt-*")}
    assert kept == {b"first", b"secon", b"third"}


def spoil(path: Path) -> None:
    """Write noise over what is in the file, as a failing disk would."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.write(b"\xa5" * size)


def test_damaged_while_running_is_found_by_a_reader(keeper: Keeper, source: Source, path: Path) -> None:
    work_and_see(keeper, FIRST, 0.0)
    assert keeper._writer is not None
    keeper._writer.database.run("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(path)
    with pytest.raises(Corrupt):
        stored(source)
    keeper.distrust()
    work_and_see(keeper, SECOND, 1.0)
    assert stored(source) == ids(SECOND)
    assert len(list(path.parent.glob("records.db.corrupt-*Z"))) == 1


def test_damaged_while_running_is_found_by_the_writer(keeper: Keeper, source: Source, path: Path) -> None:
    work_and_see(keeper, FIRST, 0.0)
    assert keeper._writer is not None
    keeper._writer.database.run("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(path)
    keeper._writer.database.run("PRAGMA shrink_memory")  # or it would write what it still remembers
    work_and_see(keeper, SECOND, 1.0)
    work_and_see(keeper, THIRD, 2.0)
    assert stored(source)[-20:] == ids(THIRD)
    assert keeper.dropped == 0


def test_distrust_without_a_reason_moves_nothing(keeper: Keeper, source: Source, path: Path) -> None:
    work_and_see(keeper, FIRST, 0.0)
    keeper.distrust()
    work_and_see(keeper, SECOND, 1.0)
    assert stored(source) == ids(FIRST) + ids(SECOND)
    assert {one.name for one in path.parent.iterdir()} <= {"records.db", "records.db-wal", "records.db-shm"}


def test_damage_that_a_new_file_does_not_end(source: Source) -> None:
    class Cursed(Troubled):
        aside = 0

        def connect(self, *, readonly: bool = False) -> Database:
            raise Corrupt("database disk image is malformed")

        def set_aside(self) -> str:
            self.aside += 1
            return "elsewhere"

    cursed = Cursed(source, "")
    keeper = Keeper(cursed, retention_days=30, limit=1000)
    keeper.take(finished(FIRST))
    keeper.work(0.0, NOON)
    assert keeper.failed == "database disk image is malformed"
    assert (keeper.waiting, cursed.aside) == (20, 1)


def test_a_newer_version_is_waited_for(keeper: Keeper, source: Source, path: Path) -> None:
    work_and_see(keeper, FIRST, 0.0)
    database = source.connect()
    database.run("UPDATE gwproto_schema SET version = 7")
    keeper._disconnect()
    keeper.take(finished(SECOND))
    now = keeper.work(1.0, NOON)
    assert keeper.failed.startswith("made by a newer gwproto: its schema has version 7")
    database.run("UPDATE gwproto_schema SET version = 1")
    database.close()
    try_again(keeper, now)
    assert stored(source) == ids(FIRST) + ids(SECOND)


def test_what_no_store_takes_is_dropped_alone(
    keeper: Keeper, source: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "BATCH", 1)
    work_and_see(keeper, [PLAIN, replace(PLAIN, status=2**70), replace(PLAIN, request_id="d" * 32)], 0.0)
    assert stored(source) == [PLAIN.request_id, "d" * 32]
    assert (keeper.written, keeper.dropped) == (2, 1)
    assert "1 records were dropped" in caplog.text


@pytest.mark.sockets
def test_what_a_server_does_not_take_is_dropped_alone(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = locate(postgres.url())
    assert source is not None
    monkeypatch.setattr(keeping, "BATCH", 1)
    keeper = Keeper(source, retention_days=30, limit=1000)
    work_and_see(keeper, [PLAIN, replace(PLAIN, status=2**40), replace(PLAIN, request_id="d" * 32)], 0.0)
    assert stored(source) == [PLAIN.request_id, "d" * 32]
    assert (keeper.written, keeper.dropped) == (2, 1)
    keeper.close()


def test_a_mistake_of_ours_is_logged_and_waited_for(
    keeper: Keeper, source: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def migrate(_: Database) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "migrate", migrate)
        keeper.take(finished(FIRST))
        now = keeper.work(0.0, NOON)
        assert keeper.failed == "ZeroDivisionError"
        assert "Traceback" in caplog.text
    try_again(keeper, now)
    assert stored(source) == ids(FIRST)


def test_at_the_end_there_is_one_more_try(keeper: Keeper, source: Source, path: Path) -> None:
    work_and_see(keeper, FIRST, 0.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    keeper.take(finished(SECOND))
    keeper.work(1.0, NOON)
    assert keeper.failed
    other.close()
    keeper.work(1.1, NOON, last=True)  # although it is not due
    assert stored(source) == ids(FIRST) + ids(SECOND)
    keeper.take(finished(THIRD))
    keeper.close()
    assert keeper.dropped == 20


def test_sums_are_rolled_up_now_and_then_and_at_the_end(
    keeper: Keeper, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting() -> int:
        database = source.connect(readonly=True)
        ((number,),) = database.run("SELECT count(*) FROM gwproto_pending")
        database.close()
        return int(number)

    work_and_see(keeper, FIRST, 0.0)
    assert waiting() == 0  # another process may have left some
    keeper.take(finished(SECOND))
    assert keeper.work(10.0, NOON) == 30.0
    assert waiting() == 1
    work_and_see(keeper, [], 30.0)
    assert waiting() == 0
    work_and_see(keeper, THIRD, 31.0)
    assert waiting() == 1
    monkeypatch.setattr(keeping, "WAITING_SUMS", 5)
    work_and_see(keeper, THIRD, 32.0)
    assert waiting() == 0
    work_and_see(keeper, FIRST[:1], 33.0)
    keeper.work(33.0, NOON, last=True)
    assert waiting() == 0


def test_old_records_go_while_others_come(keeper: Keeper, source: Source) -> None:
    old = [replace(one, at=NOON - 40 * 86400) for one in FIRST]
    work_and_see(keeper, [*old, *SECOND], 0.0)
    assert keeper.work(0.5, NOON) == 60.5
    assert stored(source) == ids(SECOND)
    assert keeper.work(10.0, NOON) == 60.5


@pytest.mark.sockets
def test_a_server_that_stops_and_starts_again(postgres: Server) -> None:
    source = locate(postgres.url())
    assert source is not None
    keeper = Keeper(source, retention_days=30, limit=30)
    work_and_see(keeper, FIRST, 0.0)
    postgres.stop()
    try:
        keeper.take(finished(SECOND))
        now = keeper.work(1.0, NOON)
        assert keeper.failed
        keeper.take(finished(THIRD))
        now = keeper.work(now, NOON)
        assert "canary" not in keeper.failed
        assert (keeper.waiting, keeper.dropped) == (30, 10)
        with pytest.raises(Unavailable):
            stored(source)
    finally:
        postgres.start()
    try_again(keeper, now)
    assert stored(source) == ids(FIRST) + ids(SECOND) + ids(THIRD)[:10]
    keeper.close()


@pytest.mark.sockets
def test_a_servers_tables_that_are_gone(postgres: Server) -> None:
    source = locate(postgres.url())
    assert source is not None
    keeper = Keeper(source, retention_days=30, limit=1000)
    work_and_see(keeper, FIRST, 0.0)
    database = source.connect()
    for table in ("records", "pending", "decisions", "rollups", "schema"):
        database.run(f"DROP TABLE gwproto_{table}")
    database.close()
    keeper.take(finished(SECOND))
    now = keeper.work(1.0, NOON)
    assert "gwproto_" in keeper.failed
    try_again(keeper, now)
    assert stored(source) == ids(SECOND)
    keeper.close()


def test_what_another_process_has_begun_stays(
    keeper: Keeper, source: Source, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have met the damage; the other one was faster."""
    work_and_see(keeper, FIRST, 0.0)
    other = Keeper(source, retention_days=30, limit=1000)
    writer = keeper._writer
    assert writer is not None

    def write(outcomes: object) -> None:
        path.rename(path.with_name("records.db.damaged"))
        work_and_see(other, SECOND, 0.0)
        raise Corrupt("it is damaged")

    monkeypatch.setattr(writer, "write", write, raising=True)
    work_and_see(keeper, THIRD, 1.0)
    assert stored(source) == [*ids(SECOND), *ids(THIRD)]
    assert list(path.parent.glob("records.db.corrupt-*")) == []
    other.close()

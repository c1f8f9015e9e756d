"""The recorder: a queue in front of a thread, which feeds metrics, traces and the store."""

import io
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gwproto import ConfigurationError, Outcome
from gwproto_ops import access
from gwproto_ops.records import Recorder, recorder, sqlite
from support.outcomes import NOON, PLAIN, ids, random_outcomes


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "PAUSE", 0.0)
    monkeypatch.setattr(sqlite, "LOCK_WAIT", 0.0)


def at_noon() -> float:
    return NOON + 60.0


class Sink:
    """Remembers, and tells who waits for it."""

    def __init__(self, expected: int) -> None:
        self.batches: list[list[Outcome]] = []
        self._expected = expected
        self.full = threading.Event()

    def __call__(self, batch: Sequence[Outcome]) -> None:
        self.batches.append(list(batch))
        if sum(map(len, self.batches)) >= self._expected:
            self.full.set()


def asked(records: Recorder, query: str = "{}", *, status: int = 200) -> Any:
    got, headers, body = records.requests(query)
    assert got == status
    assert dict(headers) == {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
    return json.loads(body)


def stored(path: Path) -> int:
    connection = sqlite3.connect(path)
    ((number,),) = connection.execute("SELECT count(*) FROM gwproto_records")
    connection.close()
    return int(number)


def test_all_that_was_put_is_kept_at_the_end(tmp_path: Path) -> None:
    outcomes = random_outcomes(1234)
    sink = Sink(1234)
    records = Recorder(f"sqlite:///{tmp_path}/r.db", sinks=(sink,), wall=at_noon)
    for outcome in outcomes:
        records.put(outcome)
    records.close()
    assert [o.request_id for batch in sink.batches for o in batch] == ids(outcomes)
    assert max(map(len, sink.batches)) <= recorder.PIECE
    assert (records.written, records.dropped, records.waiting, records.failed) == (1234, 0, 0, "")
    assert stored(tmp_path / "r.db") == 1234
    assert json.loads(records.analytics('{"days":7}')[2])["total_requests"] == 1234


def test_answers(tmp_path: Path) -> None:
    records = Recorder("sqlite:///r.db", state_dir=str(tmp_path), wall=at_noon)
    for number in range(3):
        records.put(replace(PLAIN, request_id=str(number)))
    records.close()
    page = asked(records, '{"limit":2}')
    assert [one["request_id"] for one in page["data"]] == ["2", "1"]
    rest = asked(records, json.dumps({"limit": 2, "before": page["next"]}))
    assert [one["request_id"] for one in rest["data"]] == ["0"]
    assert asked(records, '{"before":"nonsense"}', status=400) == {
        "error": {
            "message": "Invalid value for 'before': expected the next of an earlier page.",
            "type": "invalid_request_error",
            "param": "before",
            "code": "invalid_value",
        }
    }
    status, _, body = records.stats('{"days":1}', [], 0.0, NOON + 60.0)
    assert status == 200
    assert json.loads(body)["providers"]["beta"]["successes"] == 3


def test_without_a_store_only_sinks_are_fed() -> None:
    sink = Sink(2)
    records = Recorder("", sinks=(sink,))
    records.put(PLAIN)
    records.put(PLAIN)
    assert sink.full.wait(20)
    records.close()
    assert (records.written, records.dropped, records.failed) == (0, 0, "")
    for status, _, body in (
        records.analytics("{}"),
        records.requests("{}"),
        records.stats("{}", [], 0.0, 0.0),
    ):
        assert status == 503
        error = json.loads(body)["error"]
        assert (error["type"], error["code"]) == ("service_unavailable", "not_available")
        assert error["message"] == "No records are kept: analytics.database is empty."


def test_a_sink_that_fails_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(batch: Sequence[Outcome]) -> None:
        raise RuntimeError("a sink's own")

    sink = Sink(1)
    records = Recorder(f"sqlite:///{tmp_path}/r.db", sinks=(broken, sink), wall=at_noon)
    records.put(PLAIN)
    assert sink.full.wait(20)
    records.put(PLAIN)
    records.close()
    assert sum(map(len, sink.batches)) == 2
    assert records.written == 2
    assert "a sink's own" in caplog.text


def test_the_store_keeps_chats_and_rejections_and_sinks_see_all(tmp_path: Path) -> None:
    sink = Sink(4)
    records = Recorder(f"sqlite:///{tmp_path}/r.db", sinks=(sink,), wall=at_noon)
    records.put(PLAIN)
    records.put(replace(PLAIN, endpoint="/livez"))
    records.put(
        replace(PLAIN, endpoint="/v1/analytics", rejected="missing", client="10.0.0.1", request_id="x")
    )
    records.put(replace(PLAIN, endpoint="/v1/models"))
    records.close()
    assert sum(map(len, sink.batches)) == 4
    assert (records.written, records.dropped) == (2, 0)
    page = asked(records)
    assert [one["client"] for one in page["data"]] == ["10.0.0.1", ""]


def test_a_queue_that_is_full_drops_and_counts() -> None:
    reached, go = threading.Event(), threading.Event()

    def slow(batch: Sequence[Outcome]) -> None:
        reached.set()
        go.wait()

    records = Recorder("", limit=3, sinks=(slow,))
    records.put(PLAIN)
    assert reached.wait(20)
    for _ in range(5):
        records.put(PLAIN)
    assert (records.waiting, records.dropped) == (3, 2)
    go.set()
    records.close()
    assert (records.waiting, records.dropped) == (0, 2)


class Stream(io.StringIO):
    """A log's output that takes a line only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go, self.flushed = threading.Event(), threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.go.wait()
        return super().write(text)

    def flush(self) -> None:
        self.flushed.set()


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    monkeypatch.setattr(access.Writer, "PAUSE", 0.0)
    return Stream()


def test_a_log_that_blocks_does_not_hold_up_the_store(tmp_path: Path, stream: Stream) -> None:
    sink = Sink(3)
    with access.enabled(stream) as log:
        records = Recorder(f"sqlite:///{tmp_path}/r.db", sinks=(sink,), log=log, wall=at_noon)
        for number in range(3):
            records.put(replace(PLAIN, request_id=str(number)))
            assert stream.reached.wait(20)
        assert sink.full.wait(20)
        records.close()
        assert [one["request_id"] for one in asked(records)["data"]] == ["2", "1", "0"]
        assert stream.getvalue() == ""
        stream.go.set()
    assert [json.loads(text)["request_id"] for text in stream.getvalue().splitlines()] == ["0", "1", "2"]


def test_a_store_that_hangs_does_not_hold_up_the_log(stream: Stream) -> None:
    reached, go = threading.Event(), threading.Event()

    def slow(batch: Sequence[Outcome]) -> None:
        reached.set()
        go.wait()

    stream.go.set()
    with access.enabled(stream) as log:
        records = Recorder("", limit=3, sinks=(slow,), log=log)
        records.put(PLAIN)
        assert reached.wait(20)
        for number in range(5):
            stream.flushed.clear()
            records.put(replace(PLAIN, request_id=str(number)))
            while f'"request_id":"{number}"' not in stream.getvalue():
                assert stream.flushed.wait(20)
                stream.flushed.clear()
        assert (records.waiting, records.dropped, log.dropped) == (3, 2, 0)
        go.set()
        records.close()
    assert len(stream.getvalue().splitlines()) == 6


def test_what_nobody_has_looked_at_is_missing_in_the_log_as_well(stream: Stream) -> None:
    with access.enabled(stream) as log:
        records = Recorder("", limit=2, sinks=(), log=log)
        records._pulling.acquire()  # both threads are busy
        for _ in range(5):
            records.put(PLAIN)
        assert (records.waiting, records.dropped, log.dropped) == (2, 3, 3)
        records._pulling.release()
        stream.go.set()
        records.close()
    assert stream.getvalue().splitlines()[2:] == ["access log: 3 lines dropped, the output was too slow"]


def test_what_no_record_can_be_made_of_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = Recorder(f"sqlite:///{tmp_path}/r.db", wall=at_noon)
    records.put(replace(PLAIN, duration=None))
    records.pull()  # so that they are no batch
    records.put(PLAIN)
    records.close()
    assert (records.written, records.dropped) == (1, 1)
    assert "1 records could not be made inside the gateway" in caplog.text


def test_a_locked_store_holds_up_neither_requests_nor_sinks_nor_readers(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    records = Recorder(f"sqlite:///{path}", wall=at_noon)
    records.put(PLAIN)
    records.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first, last = Sink(30), Sink(60)
    records = Recorder(f"sqlite:///{path}", limit=40, sinks=(first, last), wall=at_noon)
    outcomes = random_outcomes(60)
    for outcome in outcomes[:30]:
        records.put(outcome)
    assert first.full.wait(20)
    for outcome in outcomes[30:]:
        records.put(outcome)
    assert last.full.wait(20)
    assert len(asked(records)["data"]) == 1
    other.execute("ROLLBACK")
    other.close()
    records.close()
    assert (records.written, records.dropped) == (40, 20)
    assert stored(path) == 41


def test_what_could_not_be_written_by_the_end_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    sink = Sink(2)
    records = Recorder(f"sqlite:///{tmp_path}/file/r.db", sinks=(sink,), wall=at_noon)
    records.put(PLAIN)
    records.put(PLAIN)
    assert sink.full.wait(20)
    error = asked(records, status=503)["error"]
    assert error["message"] == "The records cannot be read: unable to open database file."
    records.close()
    assert (records.written, records.dropped, records.waiting) == (0, 2, 0)
    assert records.failed == "File exists"
    begun, ended = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert begun.endswith("wait: File exists")
    assert ended == "2 records were lost: File exists"


def test_a_damaged_store_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    records = Recorder(f"sqlite:///{path}", wall=at_noon)
    records.put(PLAIN)
    records.close()
    path.write_bytes(b"\xa5" * path.stat().st_size)
    path.with_name("r.db-wal").unlink(missing_ok=True)
    records = Recorder(f"sqlite:///{path}", wall=at_noon)
    records.put(PLAIN)
    records.close()
    assert len(list(tmp_path.glob("r.db.corrupt-*"))) == 1
    assert len(asked(records)["data"]) == 1


def test_a_wrong_url_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match=r"^analytics\.database: expected sqlite:///FILE"):
        Recorder("redis://x:canary@y")


def test_no_password_is_in_any_words(caplog: pytest.LogCaptureFixture) -> None:
    url = "postgresql://me:canary@127.0.0.1:1/x?connect_timeout=1"
    sink = Sink(1)
    records = Recorder(url, sinks=(sink,), wall=at_noon)
    records.put(PLAIN)
    assert sink.full.wait(20)
    _, _, body = records.requests("{}")
    records.close()
    assert records.failed
    assert "canary" not in f"{records.failed}{body!r}{caplog.text}{records!r}{vars(records)}"
    assert b"cannot be read" in body


KILLED = """
import sys, threading
from gwproto_ops.records import Recorder
from support.outcomes import NOON, random_outcomes

records = Recorder(f"sqlite:///{sys.argv[1]}", wall=lambda: NOON)
for outcome in random_outcomes(600):
    records.put(outcome)
while records.written < 600:
    threading.Event().wait(0.01)
print("written", flush=True)
sys.stdin.read()
"""


def test_a_process_that_is_killed_has_kept_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    process = subprocess.Popen(
        (sys.executable, "-c", KILLED, str(path)),
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert stored(path) == 600
    records = Recorder(f"sqlite:///{path}", wall=at_noon)
    records.close()
    assert json.loads(records.analytics('{"days":7}')[2])["total_requests"] == 600
    page = asked(records, '{"limit":500}')
    assert [one["request_id"] for one in page["data"]] == ids(random_outcomes(600))[:99:-1]


def test_a_question_before_the_store_is_there_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are made by the thread that writes."""
    asking, connect = threading.Event(), sqlite.SQLiteFile.connect

    def slowly(self: sqlite.SQLiteFile, *, readonly: bool = False) -> sqlite.SQLite:
        assert readonly or asking.wait(10)
        return connect(self, readonly=readonly)

    monkeypatch.setattr(sqlite.SQLiteFile, "connect", slowly)
    records = Recorder(f"sqlite:///{tmp_path}/a.db")
    answers: list[Any] = []
    page = threading.Thread(target=lambda: answers.append(asked(records)))
    page.start()
    asking.set()
    page.join(10)
    records.close()
    assert [one["data"] for one in answers] == [[]]

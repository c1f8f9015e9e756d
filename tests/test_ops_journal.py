"""The journal's file: who may read it, and what becomes of it when the disk or the time does not suffice."""

import errno
import json
import logging
import os
import threading
from pathlib import Path

import pytest

from gwproto import ConfigurationError, Gateway
from gwproto.journal.entries import LineError
from gwproto.journal.replaying import Replay
from gwproto.journal.scribe import Scribe
from gwproto_ops.deployment import Deployment
from gwproto_ops.journal import Journal, opened
from scenarios.model import SECRET, configuration, credentials
from scenarios.parts import STREAM, get, row
from support.journals import replayed

SCENARIO = row("any", STREAM)
DEPLOYMENT = Deployment(configuration(SCENARIO), credentials(SCENARIO))


def visited(gateway: Gateway, times: int = 1) -> None:
    for number in range(times):
        gateway.begin(get("/v1/models").head, float(number)).start(float(number))


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_journal_is_written_for_its_owner_and_ends_in_good_order(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened(str(path)) as journal:
        visited(journal.gateway(DEPLOYMENT, epoch=1e9), 3)
    assert path.stat().st_mode & 0o777 == 0o600
    report = replayed(lines_of(path))
    assert (report.exchanges, report.first) == (3, None)
    assert SECRET not in path.read_text("utf-8")


def test_gateways_one_after_another_are_replayed_each_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened(str(path), bodies=True) as journal:
        visited(journal.gateway(DEPLOYMENT, epoch=1e9), 2)
        visited(journal.gateway(DEPLOYMENT, epoch=2e9), 2)
    lines = lines_of(path)
    seeds = {json.loads(line)["seed"] for line in lines if line.startswith(b'{"journal"')}
    assert len(seeds) == 2
    assert replayed(lines).first is None


def test_a_file_that_is_there_or_cannot_be_made_is_said(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened(str(path)):
        pass
    for wrong, problem in ((path, "written over"), (tmp_path / "no" / "journal", "No such file")):
        with pytest.raises(ConfigurationError, match=problem):
            Journal(str(wrong))
    assert path.read_bytes() == b""  # no gateway ever began


def test_what_comes_too_fast_ends_the_journal_and_not_the_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Journal, "LIMIT", 20_000)
    monkeypatch.setattr(Journal, "PAUSE", 60.0)  # until it is closed
    path = tmp_path / "journal"
    with caplog.at_level(logging.WARNING), opened(str(path)) as journal:
        gateway = journal.gateway(DEPLOYMENT, epoch=1e9)
        visited(gateway, 100)
        assert gateway.statistics(0.0).begun == 100
    assert caplog.messages == [
        f"the journal {path} ends here: it could not be written as fast as requests came"
    ]
    replay = Replay()
    *lines, last = lines_of(path)
    for line in lines:
        replay.feed(line)
    assert 0 < replay.report.exchanges < 100
    assert replay.report.first is None
    with pytest.raises(LineError, match="a hole from here on: it could not be written"):
        replay.feed(last)


def test_a_disk_that_is_full_ends_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal(str(tmp_path / "journal"))
    visited(journal.gateway(DEPLOYMENT, epoch=1e9))
    monkeypatch.setattr(os, "write", write)
    with caplog.at_level(logging.WARNING):
        journal.close()
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["No space left on device"]
    visited(journal.gateway(DEPLOYMENT, epoch=1e9))  # goes on without


def test_an_error_of_our_own_ends_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def line(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Scribe, "line", line)
    path = tmp_path / "journal"
    with caplog.at_level(logging.WARNING), opened(str(path)) as journal:
        visited(journal.gateway(DEPLOYMENT, epoch=1e9))
    assert "ZeroDivisionError while it was written" in caplog.messages[-1]
    assert "journal" not in [thread.name for thread in threading.enumerate()]

"""``gwproto replay``: what it prints and how it exits."""

import json
import sys
from pathlib import Path

import msgspec
import pytest

from gwproto.journal import entries
from gwproto_cli import replaying
from gwproto_cli.command import main
from scenarios.parts import RESET, STREAM, ask, one_after_another, row
from support.journals import decoded, recorded, resealed

SCENARIO = row("two", RESET, STREAM, arrivals=one_after_another(ask(stream=True), ask(stream=True)))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return written(tmp_path, recorded(SCENARIO))


def written(folder: Path, lines: list[bytes]) -> Path:
    path = folder / "journal.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def diverging() -> list[bytes]:
    read = decoded(recorded(SCENARIO))
    first = next(i for i, line in enumerate(read) if isinstance(line, entries.Entry) and line.did)
    read[first] = msgspec.structs.replace(read[first], commands="0" * 24)
    return resealed(*read)


def test_a_journal_that_replays(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(journal)]) == 0
    assert capsys.readouterr() == ("26 entries, 2 exchanges, 0 divergences\n", "")
    assert main(["replay", str(journal), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {"entries": 26, "exchanges": 2, "divergences": 0, "diverged": 0, "first": None}


def test_the_first_divergence_is_shown_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, diverging())
    assert main(["replay", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == "26 entries, 2 exchanges, 1 divergence in 1 exchange\n"
    same = "expected open upstream; came open upstream, but not the same"
    assert err == f"{path}:5: exchange 1, client end: {same}\n"


def test_damage_is_shown_with_its_line_and_what_came_before_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = recorded(SCENARIO)
    lines[10] = lines[10].replace(b'"t":5', b'"t":6')
    path = written(tmp_path, lines)
    assert main(["replay", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == "9 entries, 1 exchange, 0 divergences\n"
    assert err == f"{path}:11: the line was changed, or one before it is missing\n"
    assert main(["replay", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problem"]["line"] == 11


def test_a_journal_without_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, recorded(SCENARIO)[:6])
    assert main(["replay", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"{path}:7: the last line is missing")


def test_what_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "none", tmp_path):
        assert main(["replay", str(path)]) == 1
        assert capsys.readouterr().err.startswith(f"{path}: ")


def test_a_long_journal_shows_how_far_it_is(
    journal: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replaying, "_SHOWN", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["replay", str(journal)]) == 0
    assert capsys.readouterr().out == "26 entries, 2 exchanges, 0 divergences\n"


def test_another_policy_is_compared(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = journal.with_name("policy.toml")
    policy.write_text("[retry]\nmax_attempts = 1\n", "utf-8")
    assert main(["replay", str(journal), "--policy", str(policy)]) == 0
    table = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:]]
    rows = {row[0]: [cell.strip() for cell in row[1:] if cell] for row in table}
    assert rows["completed"] == ["2", "1"]
    assert rows["attempts"] == ["3", "2"]
    assert main(["replay", str(journal), "--policy", str(policy), "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["recorded"]["failed"] == 0
    assert comparison["estimated"]["failed"] == 1


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("[server]\nport = 1\n", "server: is no policy; those are health"),
        ("[retry]\nmax_attempts = 0\n", ": Expected `int` >= 1 - at `$.retry.max_attempts`"),
        ("retry = 1\n", ": Expected `object`"),
        ("[retry]\nmax_attemps = 2\n", "max_attemps"),
        ("[retry\n", ": "),
        (None, ": No such file"),
    ],
)
def test_a_policy_that_is_none(
    journal: Path, policy: str | None, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = journal.with_name("policy.toml")
    if policy is not None:
        path.write_text(policy, "utf-8")
    assert main(["replay", str(journal), "--policy", str(path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(str(path))
    assert problem in err


def test_a_journal_that_does_not_replay_cannot_be_estimated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, diverging())
    policy = tmp_path / "policy.toml"
    policy.write_text("", "utf-8")
    assert main(["replay", str(path), "--policy", str(policy)]) == 1
    assert capsys.readouterr().err.startswith(f"{path}:5: the journal does not replay")


def test_bodies_without_a_journal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--journal-bodies"]) == 1
    assert capsys.readouterr().err == "--journal-bodies: says nothing without --journal\n"


@pytest.mark.parametrize("runtime", ["quart", "trio", "asyncio"])
def test_a_journal_that_is_there_already_is_never_written_over(
    journal: Path, runtime: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = journal.with_name("gateway.toml")
    config.write_text(
        '[[providers]]\nname = "one"\nbase_url = "http://127.0.0.1:9/v1"\n[[providers.models]]\nid = "m"\n',
        "utf-8",
    )
    monkeypatch.setenv("GATEWAY_API_KEY", "a-key")
    monkeypatch.setenv("XDG_STATE_HOME", str(journal.parent))
    before = journal.read_bytes()
    flags = ["--config", str(config), "--port", "0", "--runtime", runtime, "--journal", str(journal)]
    assert main(["serve", *flags]) == 1
    expected = f"{journal}: exists already, and a journal is never written over"
    assert expected in capsys.readouterr().err.splitlines()
    assert journal.read_bytes() == before

"""``gwproto export`` from outside: lines, tables, filters, progress, and how it says what is wrong."""

import csv
import io
import json
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from gwproto import Outcome
from gwproto_cli import exporting, main
from gwproto_ops.records import Line, Recorder, line
from support.outcomes import NOON, PLAIN, ids, random_outcomes


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return f"sqlite:///{tmp_path}/r.db"


def fill(url: str, outcomes: list[Outcome]) -> None:
    records = Recorder(url, wall=lambda: NOON)
    for outcome in outcomes:
        records.put(outcome)
    records.close()
    assert records.written == len(outcomes)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(("export", *arguments)) == code
    said = capsys.readouterr()
    return said.out, said.err


def test_lines_of_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = random_outcomes(1500)
    fill(url, outcomes)
    out, err = told(capsys, "--database", url)
    lines = [json.loads(text) for text in out.splitlines()]
    assert [entry["request_id"] for entry in lines] == ids(outcomes)
    assert set(lines[0]) == {*Line.__struct_fields__, "candidates"}
    assert err == "1500 records\n"


def test_a_table(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(url, [PLAIN])
    out, err = told(capsys, "--csv", "--database", url)
    (row,) = csv.DictReader(io.StringIO(out))
    assert list(row) == list(Line.__struct_fields__)
    assert row["request_id"] == PLAIN.request_id
    assert (row["at"], row["ms"], row["stream"], row["shared"], row["error"]) == (
        str(NOON),
        "2000.0",
        "true",
        "false",
        "",
    )
    assert json.loads(row["dropped_params"]) == ["seed", "user"]
    assert [attempt["failure"] for attempt in json.loads(row["attempts"])] == ["server", None]
    assert err == "1 record\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_is_never_a_formula(start: str) -> None:
    assert exporting.cell(f"{start}HYPERLINK(1)") == f"'{start}HYPERLINK(1)"
    assert exporting.cell(f"a{start}b") == f"a{start}b"


def test_formulas_and_separators_come_through_a_table(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = '=cmd|"/c calc"!A1,x'
    fill(url, [replace(PLAIN, model_asked=hostile, error='"quoted", and more', key="-2+3", cost=-1.0)])
    out, _ = told(capsys, "--csv", "--database", url)
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["model_asked"], row["error"], row["key"], row["cost"]) == (
        f"'{hostile}",
        '"quoted", and more',
        "'-2+3",
        "-1.0",
    )
    lines, _ = told(capsys, "--database", url)
    assert json.loads(lines)["model_asked"] == hostile  # what is no table needs no apostrophe


def test_some_days_and_projects_into_a_file(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = random_outcomes(300, start=NOON - 5 * 86400, end=NOON)
    fill(url, outcomes)
    monkeypatch.setattr(time, "time", lambda: NOON)
    file = tmp_path / "out.jsonl"
    file.write_text("what was there before\n" * 10_000)
    flags = ("--days", "2", "--project-id", "p1", "--project-id", "p2", "--output", str(file))
    out, err = told(capsys, "--jsonl", "--database", url, *flags)
    wanted = [o for o in outcomes if o.at >= NOON - 2 * 86400 and o.project_id in ("p1", "p2")]
    assert [json.loads(text)["request_id"] for text in file.read_text().splitlines()] == ids(wanted)
    assert (out, err) == ("", f"{len(wanted)} records\n")
    told(capsys, "--database", url, "--output", str(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_the_configured_store_is_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(f"sqlite:///{tmp_path}/state/mine.db", [PLAIN])
    config = tmp_path / "c.toml"
    config.write_text(
        f'[analytics]\ndatabase = "sqlite:///mine.db"\n[server]\nstate_dir = "{tmp_path}/state"\n'
    )
    out, _ = told(capsys, "--config", str(config))
    assert json.loads(out)["request_id"] == PLAIN.request_id
    variables = tmp_path / ".env"
    variables.write_text("GWPROTO_ANALYTICS__DATABASE=sqlite:///none.db\n")
    _, err = told(capsys, "--config", str(config), "--env-file", str(variables), code=1)
    assert err == "sqlite:///none.db: unable to open database file\n"


def test_nothing_to_export_is_no_error(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(url, [])
    assert told(capsys, "--database", url) == ("", "0 records\n")
    out, _ = told(capsys, "--database", url, "--csv")
    assert out.splitlines() == [",".join(Line.__struct_fields__)]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--days", "0"), "--days: is less than one"),
        (("--database", ""), "analytics.database: is empty: there are no records"),
        (("--database", "mysql://canary"), "analytics.database: expected sqlite:///FILE"),
        (("--output", "/nowhere/at/all"), "/nowhere/at/all: No such file or directory"),
    ],
)
def test_problems(url: str, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], problem: str) -> None:
    fill(url, [PLAIN])
    out, err = told(capsys, "--database", url, *flags, code=1)
    assert out == ""
    assert err.startswith(problem)
    assert "canary" not in err


def test_what_is_no_store(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.db").write_bytes(b"something else" * 100)
    _, err = told(capsys, "--database", url, code=1)
    assert err == f"{url}: file is not a database\n"
    (tmp_path / "empty.db").touch()
    _, err = told(capsys, "--database", f"sqlite:///{tmp_path}/empty.db", code=1)
    assert err == f"sqlite:///{tmp_path}/empty.db: no such table: gwproto_records\n"


def test_progress(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fill(url, random_outcomes(2100))
    monkeypatch.setattr(exporting, "_TOLD", 1000)
    _, err = told(capsys, "--database", url)
    assert err.splitlines() == ["1000 of 2100 records", "2000 of 2100 records", "2100 records"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    out, err = told(capsys, "--database", url)
    assert len(out.splitlines()) == 2100
    assert "2100 records" not in err


def test_a_row_is_the_access_logs_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(url, [PLAIN])
    out, _ = told(capsys, "--database", url)
    found = json.loads(out)
    found.pop("candidates")
    assert found == json.loads(json.dumps(asdict(line(PLAIN)), default=asdict))

"""``gwproto simulate`` from outside: what it prints and writes, and how it says what is wrong."""

import json
import sys
from pathlib import Path

import pytest

from gwproto_cli import main
from gwproto_cli.simulating import _counts, _scenario

SMALL = """
name = "small"
description = "Two providers, one of them in trouble."
[load]
requests = 60
rate = 3.0
[[providers]]
name = "alpha"
troubles = [{ start = 5, until = 10, errors = 1.0 }]
[[providers]]
name = "beta"
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(("simulate", *arguments)) == code
    said = capsys.readouterr()
    return said.out, said.err


def test_a_file(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = told(capsys, str(small))
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:4] == ["scenario", "policy", "requests", "ok"]
    assert lines[1][:4] == ["small", "gwproto", "60", "100.00"]
    assert lines[2][:3] == ["small", "round-robin", "60"]
    assert lines[4] == ["provider", "gwproto", "%", "round-robin", "%"]
    assert [line[0] for line in lines[5:]] == ["alpha", "beta"]
    assert err == ""  # no bar where there is no terminal


def test_the_same_seed_gives_the_same_files(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def files(name: str, seed: str) -> tuple[bytes, bytes]:
        figures, picture = small.with_name(f"{name}.json"), small.with_name(f"{name}.svg")
        told(capsys, str(small), "--seed", seed, "--json", str(figures), "--plot", str(picture))
        return figures.read_bytes(), picture.read_bytes()

    assert files("a", "1") == files("b", "1")
    assert files("a", "1") != files("b", "2")
    assert json.loads(files("a", "1")[0])["scenarios"][0]["seed"] == 1


def test_json_alone_and_pictures_in_a_directory(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = told(capsys, str(small), "--json", "-", "--plot", str(small.parent / "pictures"))
    (result,) = json.loads(out)["scenarios"]
    assert [policy["policy"] for policy in result["policies"]] == ["gwproto", "round-robin"]
    assert result["policies"][0]["course"]["shares"].keys() == {"alpha", "beta"}
    assert (small.parent / "pictures" / "small.svg").read_text().startswith("<svg ")


def test_policies_are_chosen(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = small.with_name("quick.toml")
    policy.write_text("[health]\ncooldown = 1.0\n")
    out, _ = told(capsys, str(small), "--policy", str(policy), "--policy", "gwproto", "--json", "-")
    found = json.loads(out)["scenarios"][0]["policies"]
    assert [one["policy"] for one in found] == ["quick", "gwproto"]
    assert found[0]["shares"]["alpha"] > found[1]["shares"]["alpha"]


def test_the_library_and_a_number_of_requests(capsys: pytest.CaptureFixture[str]) -> None:
    listed, _ = told(capsys, "--list")
    names = [line.split()[0] for line in listed.splitlines()[1:]]
    assert len(names) == 12
    assert "dead-provider" in names
    out, _ = told(capsys, "--requests", "240", "--json", "-")
    results = json.loads(out)["scenarios"]
    assert [result["scenario"] for result in results] == names
    assert sum(policy["requests"] for result in results for policy in result["policies"]) == 240


@pytest.mark.parametrize("wanted", [24, 25, 1000, 100_001, 1_000_000])
def test_requests_are_shared_out(wanted: int) -> None:
    scenarios = [_scenario(name) for name in ("steady", "outage", "flapping")]
    counts = _counts(scenarios, 2, wanted)
    assert 2 * sum(counts) in (wanted, wanted - 1)
    assert min(counts) >= 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("steadi",), "steadi: is no scenario; the nearest known one is steady\n"),
        (("{}/none.toml",), "{}/none.toml: No such file or directory\n"),
        (("{}",), "{}: Is a directory\n"),
        (("{}/wrong.toml",), "{}/wrong.toml: load.rat: unknown key; the nearest known one is rate\n"),
        (("steady", "--policy", "fast"), "fast: is no policy; there are gwproto, round-robin, and files\n"),
        (("steady", "--policy", "{}/wrong.toml"), "{}/wrong.toml: name: unknown key; the nearest known"),
        (("--requests", "3"), "--requests: is less than one for each of 24 runs\n"),
        (("{}/small.toml", "--json", "{}"), "{}: Is a directory\n"),
        (("{}/small.toml", "--plot", "{}/small.toml/a.svg"), "{}/small.toml/a.svg: File exists\n"),
        (("{}/small.toml", "--policy", "{}/lost.toml"), "small: aliases.x: there is no model 'y'\n"),
    ],
)
def test_what_is_wrong(
    arguments: tuple[str, ...], problem: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(small.parent)
    (small.parent / "wrong.toml").write_text('name = "wrong"\n[load]\nrequests = 1\nrate = 1\nrat = 2\n')
    (small.parent / "lost.toml").write_text('[aliases]\nx = ["y"]\n')
    _, err = told(capsys, *[one.replace("{}", place) for one in arguments], code=1)
    assert err.startswith(problem.replace("{}", place))


def test_a_bar_on_a_terminal(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, err = told(capsys, str(small))
    assert "120/120" in err

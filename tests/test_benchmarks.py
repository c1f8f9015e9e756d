"""The benchmark harness measures, and refuses to measure what answers wrongly. No figure is judged here."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import answers, codecs, load, micro, overhead, provider
from gwproto.wire.dialects import DIALECTS


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


PLAIN = body_of(provider.PLAIN)
STREAM = answers.unchunked(body_of(provider.burst(3, False)), 0) or b""


def test_a_whole_answer_passes() -> None:
    answers.check(STREAM, 3)
    answers.check(PLAIN, 0)


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (STREAM, 2),
        (STREAM, 4),
        (STREAM.replace(b"data: [DONE]\n\n", b""), 2),
        (STREAM + b"data: [DONE]\n\n", 4),
        (STREAM + b": trailing\n\n", 3),
        (b'{"error":{"message":"no"}}', 0),
        (PLAIN[:-1], 0),
    ],
)
def test_a_wrong_answer_does_not(body: bytes, events: int) -> None:
    with pytest.raises(answers.Wrong):
        answers.check(body, events)


def test_a_chunked_body_is_whole_only_with_its_last_chunk() -> None:
    data = provider.burst(5, True)
    start = data.index(b"\r\n\r\n") + 4
    whole = answers.unchunked(data, start)
    assert whole is not None
    assert whole.count(b"data: ") == 7
    assert {answers.unchunked(data[:end], start) for end in range(start, len(data))} == {None}


async def measure_provider(model: str, events: int) -> load.Measurement:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(provider.Provider, "127.0.0.1", 0)
    try:
        job = load.Job(
            port=server.sockets[0].getsockname()[1],
            pid=os.getpid(),
            model=model,
            connections=3,
            events=events,
            duration=0.0,
            warm_up=0.0,
        )
        return await load.measure(job)
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.sockets
@pytest.mark.parametrize(("model", "events"), [("mock-plain", 0), ("mock-burst-50", 50), ("mock-paced-3", 3)])
def test_every_kind_of_answer_is_measured(model: str, events: int) -> None:
    measured = asyncio.run(measure_provider(model, events))
    assert measured.answers == 3  # no time for a second request on any of the connections
    assert measured.cpu > 0
    assert measured.rss > 0
    assert 0 < measured.p50 <= measured.p99 <= measured.elapsed


@pytest.mark.sockets
@pytest.mark.parametrize(("model", "events"), [("mock-burst-50", 49), ("mock-burst-50", 0), ("other", 0)])
def test_a_job_with_wrong_answers_has_no_figures(model: str, events: int) -> None:
    with pytest.raises(answers.Wrong):
        asyncio.run(measure_provider(model, events))


@pytest.mark.sockets
def test_the_whole_harness_runs(tmp_path: Path) -> None:
    """Both runtimes under the real command, beside the relay, each scenario once."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.overhead", "--reference", "relay", "--rounds", "1"]
    ran = subprocess.run(
        [*command, "--duration", "0.01", "--json", str(report)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(report.read_text())["figures"]
    names = [scenario.name for scenario in overhead.SCENARIOS]
    for server in ("relay", *overhead.RUNTIMES):
        rows = {figure["name"]: figure for figure in figures if figure["server"] == server}
        assert set(rows) == {*names, overhead.MEMORY, overhead.START, overhead.LISTENING}
        assert all(row["median"] > 0 for row in rows.values())
        assert f" {server}" in ran.stdout
    assert all(name in ran.stdout for name in names)


def test_the_core_is_measured_in_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "micro.json"
    assert micro.main(["--seconds", "0.0001", "--repeats", "1", "--json", str(report)]) == 0
    figures = json.loads(report.read_text())
    assert len(capsys.readouterr().out.splitlines()) == len(figures) == 19 + 3 * len(micro.CODECS)
    assert all(value > 0 for value in figures.values())


def test_every_format_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "codecs.json"
    assert codecs.main(["--seconds", "0.0001", "--repeats", "1", "--json", str(report)]) == 0
    figures = json.loads(report.read_text())
    assert list(figures) == ["json.loads", *DIALECTS]
    assert len(capsys.readouterr().out.splitlines()) == len(figures) + 1
    assert all(value is None or value > 0 for row in figures.values() for value in row.values())
    # Which gear a format's text is in, is no matter of the machine's.
    assert [name for name in DIALECTS if figures[name]["relay"]] == ["openai"]
    assert {name for name in DIALECTS if figures[name]["splice"]} == set(DIALECTS) - {
        "gemini",
        "ollama",
        "bedrock",
    }

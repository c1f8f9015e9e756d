"""The comparison of gateways: peers as data, an open loop that hides no queueing, and reports of what was measured.

No figure of a real server is judged here.
"""

import asyncio
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import answers, load, overhead, provider, servers
from benchmarks.compare import __main__ as command
from benchmarks.compare import peers, plot, report, run
from benchmarks.compare.peers import Peer, PeersError
from support.virtual_loop import START, VirtualLoop, run_virtually

# Peers as data


def test_what_is_shipped_is_complete() -> None:
    known = peers.load()
    assert {
        "nginx",
        "gwproto-trio",
        "litellm",
        "portkey",
        "tensorzero",
        "sglang-router",
        "vllm-router",
        "smg",
        "lm-proxy",
    } <= set(known)
    for peer in known.values():
        assert peer.about
        assert peer.install
        assert peer.source
        assert peer.executable or peer.module or peer.package  # else it would seem to be everywhere
        if peer.command:
            told = " ".join([*peer.command, *peer.files.values(), *peer.headers.values()])
            assert "{port}" in told
            assert "{provider}" in told


def test_a_peer_is_here_when_all_it_needs_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "gateway-of-test"
    program.parent.mkdir()
    program.touch(0o755)
    (tmp_path / "node_modules" / "@test" / "gateway").mkdir(parents=True)
    (tmp_path / "module_of_test.py").touch()
    here = Peer(
        executable=["other-gateway-of-test", "gateway-of-test"],
        module="module_of_test",
        package="@test/gateway",
        command=["other-gateway-of-test", "{package}", "--port={port}"],
    )
    assert here.missing() == "no other-gateway-of-test on PATH"
    monkeypatch.setenv("PATH", str(program.parent))
    assert here.missing() == "no Python module module_of_test"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert here.missing() == "no npm package @test/gateway"
    monkeypatch.chdir(tmp_path)
    assert here.missing() == ""
    values = values_of(here)
    assert here.argv(values) == [str(program), str(tmp_path / "node_modules/@test/gateway"), "--port=1001"]
    assert not peers.importable("no_such_package.module")


def values_of(peer: Peer) -> dict[str, str]:
    return peers.values(
        peer, port=1001, spare_port=1002, provider_port=1003, directory=Path("/tmp/there"), key="secret"
    )


def test_a_compiled_gateway_is_here_when_it_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "COMPILED_PATH", tmp_path / "compiled")
    compiled = peers.load()["gwproto-asyncio-compiled"]
    assert compiled.missing() == "no build/compiled"
    (tmp_path / "compiled").mkdir()
    assert compiled.missing() == ""


def test_placeholders_are_replaced_and_other_braces_left_alone() -> None:
    values = values_of(Peer())
    assert set(values) == peers.NAMES
    template = (
        'http {{ listen {port}; }} {"a": {}} {Port} { port } {provider}/v1 {provider_port} {directory} {key}'
    )
    assert peers.expanded(template, values) == (
        'http {{ listen 1001; }} {"a": {}} {Port} { port } http://127.0.0.1:1003/v1 1003 /tmp/there secret'
    )
    assert peers.expanded("{python} {spare_port} {model}", values) == f"{sys.executable} 1002 mock-plain"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[peers.a]\ncommand = ["a"]\ncomand = ["a"]',
            "peers.a.comand: unknown key; known are about, install",
        ),
        ('[peers.nginx]\nexecutables = ["x"]', "peers.nginx.executables: unknown key; known are"),
        ('[peers.a]\ncommand = "a"', "peers.a.command: expected array, got str"),
        ('[peers.a]\ncommand = ["a", 1]', "peers.a.command[1]: expected str, got int"),
        ('[peers.a]\ncommand = ["a", "{prot}"]', "peers.a.command[1]: unknown placeholder {prot}; known are"),
        ('[peers.a]\ncommand = ["a"]\nfiles.c = "{portt}"', "peers.a.files.c: unknown placeholder {portt}"),
        ('[peers.a]\ncommand = ["a"]\nheaders.x = "{kee}"', "peers.a.headers.x: unknown placeholder {kee}"),
        ('[peers.a]\nserver = "a"\nmodel = "{modell}"', "peers.a.model: unknown placeholder {modell}"),
        ('[peers.a]\nabout = "nothing to start"', "peers.a.command: either a command or a server is needed"),
        ('[peers.a]\ncommand = ["a"]\nserver = "trio"', "peers.a.command: either a command or a server"),
        ('[peer.a]\ncommand = ["a"]', "peers.toml: peer: unknown key; all peers are in [peers.NAME]"),
        ("peers = 1", "peers.toml: peers: expected tables [peers.NAME]"),
        ("peers.a = 1", "peers.toml: peers.a: expected a table"),
        ("[peers", "peers.toml: "),
    ],
)
def test_what_is_wrong_in_a_file_is_named_by_its_path(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "peers.toml"
    file.write_text(text)
    with pytest.raises(PeersError) as raised:
        peers.load(file)
    assert str(raised.value).removeprefix(f"{tmp_path}/").startswith(problem)


def test_every_problem_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "peers.toml"
    file.write_text('[peers.a]\ncommand = ["{x}"]\nb = 1\nc = 1\n[peers.d]\ncommand = ["d"]\ne = 1')
    assert command.main(["--list", "--peers", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "peers.a.b",
        "peers.a.c",
        "peers.a.command[0]",
        "peers.d.e",
    ]
    assert command.main(["--list", "--peers", str(tmp_path / "none.toml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/none.toml: No such file or directory\n"


def test_ones_own_file_goes_over_what_is_shipped_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "peers.toml"
    file.write_text('[peers.litellm]\nexecutable = ["/opt/litellm"]\n[peers.mine]\ncommand = ["mine"]')
    shipped, known = peers.load(), peers.load(file)
    assert set(known) == {*shipped, "mine"}
    assert known["litellm"].executable == ["/opt/litellm"]
    assert known["litellm"].files == shipped["litellm"].files
    assert known["mine"].headers == {"authorization": "Bearer {key}"}


def test_the_list_tells_how_to_get_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("litellm           no litellm on PATH")
    assert any("install: pip install 'litellm[proxy]==" in line for line in lines[at : at + 4])
    assert any(line.strip().startswith("tried: 1.82.6") for line in lines[at : at + 6])
    assert "gwproto-trio      installed" in lines


def test_whom_to_measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    known = {
        "nginx": Peer(executable=["no-such-nginx"], server="nginx"),
        "relay": Peer(server="relay"),
        "a": Peer(command=["a"]),
        "b": Peer(command=["b"]),
        "c": Peer(executable=["no-such-c"], command=["c"], install="npm install c"),
    }

    def chosen(*argv: str) -> tuple[str, list[str]]:
        reference, names = command.choose(known, command.arguments(argv))
        return reference, list(names)

    assert chosen() == ("relay", ["relay", "a", "b"])
    assert chosen("--peer", "b") == ("relay", ["relay", "b"])
    assert chosen("--peer", "b", "--reference", "a") == ("a", ["a", "b"])
    assert chosen("--reference", "none") == ("", ["a", "b"])
    assert chosen("--url", "http://x") == ("", [])
    assert chosen("--url", "http://x", "--peer", "a", "--reference", "relay") == ("relay", ["relay", "a"])
    known["nginx"] = Peer(server="nginx")
    assert chosen("--peer", "relay") == ("nginx", ["nginx", "relay"])
    with pytest.raises(PeersError, match=r"^c: no no-such-c on PATH; npm install c$"):
        chosen("--peer", "c")
    with pytest.raises(PeersError, match=r"^d: unknown peer; known are nginx, relay, a, b, c$"):
        chosen("--peer", "d")
    for wrong in (["--rate", "0"], ["--model", "m"], ["--rounds", "-1"]):
        with pytest.raises(SystemExit):
            command.arguments(wrong)
    assert command.main(["--scenario", "no such"]) == 1
    assert "nothing to measure; scenarios are 16 connections" in capsys.readouterr().err


# What is sent, and what must come back


@pytest.mark.parametrize(
    ("url", "at"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080, False, "/v1/chat/completions")),
        ("http://127.0.0.1:8080/v1/", ("127.0.0.1", 8080, False, "/v1/chat/completions")),
        ("https://api.test/openai/v1", ("api.test", 443, True, "/openai/v1/chat/completions")),
        ("http://a.test/v2/chat/completions?a=b", ("a.test", 80, False, "/v2/chat/completions?a=b")),
    ],
)
def test_a_url_is_a_target(url: str, at: tuple[str, int, bool, str]) -> None:
    target = run.at_url(url, "", "", "", 0)
    assert (target.host, target.port, target.tls, target.path) == at
    job = target.job(run.SCENARIOS[2], 1.0, 50.0)
    assert (job.model, job.expect, job.rate, job.pid) == ("mock-plain", "text", 50.0, 0)
    assert b"authorization" not in load.request(job)
    named = run.at_url(url, "mine", "real", "k", 7)
    job = named.job(run.SCENARIOS[0], 1.0, 50.0)
    assert (named.name, job.model, job.expect, job.rate, job.pid) == ("mine", "real", "any", 0.0, 7)
    head = load.request(job).decode().partition("\r\n\r\n")[0].split("\r\n")
    assert head[0] == f"POST {at[3]} HTTP/1.1"
    assert f"host: {url.split('/')[2]}" in head
    assert "authorization: Bearer k" in head


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://a.test", "http://", "http://a.test:port"])
def test_what_is_no_url_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--url", url]) == 1
    assert capsys.readouterr().err


STREAM = answers.unchunked(provider.burst(5, False).partition(b"\r\n\r\n")[2], 0) or b""


def test_streams_in_other_frames_have_the_same_text() -> None:
    spaced = STREAM.replace(b'":', b'": ').replace(b"data: {", b"data: {}\n\ndata: {", 1)
    assert answers.check(STREAM, 5, "text") == 5
    assert answers.check(spaced, 5, "text") == 6
    assert answers.check(spaced, 99, "any") == 6
    for wrong in (spaced.replace(b'" word3"', b'""'), spaced.removesuffix(b"data: [DONE]\n\n")):
        with pytest.raises(answers.Wrong):
            answers.check(wrong, 5, "text")
    other = b'{"choices": []}\n'
    assert answers.check(other, 0, "any") == 0
    for wrong, expect in ((other, "text"), (b"<html></html>", "any"), (b'{"choices": [', "any")):
        with pytest.raises(answers.Wrong):
            answers.check(wrong, 0, expect)


# The open loop, on virtual time

SERVICE = 0.001  # seconds


class Stalling(asyncio.Transport):
    """A connection to a server that does one thing after another, and nothing at all for a while."""

    def __init__(self, server: "Server", protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.server = server
        self.protocol = protocol
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.server.asked(self)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.server.loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def answer(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)


class Server:
    """``odd``: what other than an answer a request gets, by its number."""

    def __init__(self, stall: tuple[float, float], odd: dict[int, bytes | None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.stall = stall
        self.odd = odd
        self.requests = self.connections = 0
        self.free_at = 0.0

    def finish(self, now: float) -> float:
        begin = max(now, self.free_at)
        if self.stall[0] <= begin < self.stall[1]:
            begin = self.stall[1]
        self.free_at = begin + SERVICE
        return self.free_at

    def asked(self, connection: Stalling) -> None:
        self.requests += 1
        data = self.odd.get(self.requests, provider.PLAIN)
        at = self.finish(self.loop.time())
        if data is None:
            self.loop.call_at(at, connection.close)
        else:
            self.loop.call_at(at, connection.answer, data)

    async def connect(self, factory: Callable[[], asyncio.Protocol], *_: object, **__: object) -> None:
        self.connections += 1
        protocol = factory()
        protocol.connection_made(Stalling(self, protocol))


def measured(
    *,
    rate: float,
    duration: float,
    stall: tuple[float, float] = (0, 0),
    odd: dict[int, bytes | None] | None = None,
    hold_up: tuple[float, float] | None = None,
) -> tuple[load.Measurement, Server]:
    """Four connections; the clock begins at START. ``hold_up``: when, and how long, the generator does not run."""

    async def main() -> tuple[load.Measurement, Server]:
        server = Server(stall, odd or {})
        loop = server.loop
        assert isinstance(loop, VirtualLoop)
        if hold_up is not None:
            loop.call_at(hold_up[0], loop.pass_time, hold_up[1])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(loop, "create_connection", server.connect)
            job = load.Job(1, 0, "mock-plain", 4, 0, duration, warm_up=0.0, rate=rate, tolerant=True)
            return await load.measure(job), server

    return run_virtually("asyncio", main)


BEGIN = START + 4 * SERVICE + load.SETTLING  # of the measured phase: each connection has had an answer
STALL = (BEGIN + 0.995, BEGIN + 1.995)  # begins when nothing is due


def test_the_open_loop_charges_a_stall_to_all_who_would_have_come() -> None:
    found, _ = measured(rate=100.0, duration=4.0, stall=STALL)
    assert (found.answers, found.errors) == (400, 0)
    assert found.late == pytest.approx(0.0, abs=1e-6)
    # The same by hand: requests are due every 10 ms, and wait for each other.
    expected, free_at = [], 0.0
    for number in range(400):
        due = BEGIN + number / 100.0
        start = max(due, free_at)
        free_at = (STALL[1] if STALL[0] <= start < STALL[1] else start) + SERVICE
        expected.append(free_at - due)
    expected.sort()
    assert (found.p50, found.p90, found.p99, found.max) == pytest.approx(
        (expected[200], expected[360], expected[396], expected[399]), abs=1e-6
    )
    assert found.max > 0.99
    assert found.p90 > 0.6  # more than a tenth of the requests were due in the stall
    assert found.elapsed == pytest.approx(3.99 + SERVICE)


def test_the_generators_own_lateness_is_charged_too_and_told() -> None:
    found, _ = measured(rate=100.0, duration=2.0, hold_up=(BEGIN + 0.995, 0.5))
    assert found.answers == 200
    assert found.late == pytest.approx(0.495)  # of the request due at 1.0
    assert found.max == pytest.approx(0.495 + SERVICE)
    assert found.p90 > 0.25


def test_the_closed_loop_would_have_hidden_it() -> None:
    found, _ = measured(rate=0.0, duration=4.0, stall=STALL)
    assert found.answers > 2900
    assert found.p99 == pytest.approx(4 * SERVICE)
    assert found.max == pytest.approx(1.0 + 3 * SERVICE, abs=2 * SERVICE)


def test_who_gets_no_answer_has_waited_all_the_same() -> None:
    found, server = measured(rate=10.0, duration=2.0, stall=(BEGIN + 0.995, math.inf))
    assert (found.answers, found.errors) == (10, 10)
    assert found.error == "no answer within 20 s"
    assert found.max == pytest.approx(
        load.PATIENCE + 1.0
    )  # waiting since a second before the end of the pass
    assert found.p90 > load.PATIENCE
    assert server.requests == 4 + 10 + 4  # the others never had a connection


REFUSED = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("rate", [0.0, 50.0])
def test_errors_are_counted_and_end_nothing(rate: float) -> None:
    odd = {
        6: REFUSED,
        8: None,
        9: b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        10: b"HTTP/1.1 200 OK\r\n\r\n",
    }
    found, server = measured(rate=rate, duration=1.0, odd=odd)
    assert found.errors == 4
    assert found.error == f"answer begins {REFUSED!r}"
    assert server.connections == 8  # each of them cost one
    assert found.answers + found.errors == server.requests - 4
    if rate:
        assert found.answers == 46
    assert found.max < 0.05  # an error is no answer, and no latency


def test_only_errors_are_no_measurement() -> None:
    with pytest.raises(answers.Wrong, match="500 Oops"):
        measured(rate=50.0, duration=0.2, odd=dict.fromkeys(range(1, 100), REFUSED))


# What the passes say

PASS = load.Measurement(
    answers=200,
    elapsed=2.0,
    cpu=0.1,
    waited=0.0,
    rss=2**20,
    p50=0.001,
    p90=0.002,
    p99=0.003,
    max=0.004,
    events=5000,
    errors=0,
    error="",
    late=0.0,
)


def figures(scenario: int, target: run.Target) -> dict[str, object]:
    found = run.figures_of(run.SCENARIOS[scenario], PASS, target, 100.0)
    return {f"{name} [{unit}]": pytest.approx(value) for name, unit, value in found}


def test_figures_of_a_pass() -> None:
    ours, foreign = run.Target("a", 1, 7), run.Target("b", 1, 0)
    assert figures(0, ours) == {
        "throughput, 16 connections [1/s]": 100.0,
        "CPU per request, 16 connections [ms]": 0.5,
    }
    assert figures(0, foreign) == {"throughput, 16 connections [1/s]": 100.0}
    assert figures(2, ours) == {
        "latency at 100/s, p50 [ms]": 1.0,
        "latency at 100/s, p90 [ms]": 2.0,
        "latency at 100/s, p99 [ms]": 3.0,
        "latency at 100/s, max [ms]": 4.0,
    }
    assert figures(3, ours) == {"streams, 50 at once [1/s]": 100.0, "CPU per chunk, 50 at once [µs]": 10.0}
    assert figures(4, foreign) == {"stream p99, paced 10 ms [ms]": 3.0}
    real = ours._replace(expect="any")
    assert figures(4, real)["CPU per chunk, paced 10 ms [µs]"] == 20.0  # of the events that came


@pytest.fixture
def example() -> run.Report:
    cells = run.Cells()
    for peer, values in {"nginx": [1.0, 2.0, 4.0], "<b>": [3.0, 8.0], "c": []}.items():
        for number, value in enumerate(values):
            cells.add(peer, number, "start to ready", "s", value)
            cells.add(peer, number, "CPU per request, 16 connections", "ms", value * 1000)
    order = ["nginx", "<b>", "c"]
    problems = [
        run.Problem("c", 0, "start", 1, "ended at its start"),
        run.Problem("<b>", 1, "latency", 7, "why"),
    ]
    passes = [
        {"round": 0, "peer": "<b>", "cpu": 1.0, "elapsed": 1.0, "waited": 0.5, "late": 0.01, "p50": 0.001}
    ]
    return run.Report("nginx", order, cells.figures("nginx", order), problems, passes)


def test_ratios_are_those_within_a_round(example: run.Report) -> None:
    found = {(figure.peer, figure.name): figure for figure in example.figures}
    assert found["<b>", "start to ready"].ratios == [3.0, 4.0]
    assert found["<b>", "start to ready"].ratio == 3.5
    assert found["nginx", "start to ready"].ratio is None
    assert found["nginx", "start to ready"].median == 2.0
    assert ("c", "start to ready") not in found
    assert [figure.name for figure in example.figures][-1] == "start to ready"


def test_the_table_and_what_its_reader_must_know(example: run.Report) -> None:
    head, rows = report.table(example)
    assert head == ["median of the rounds", "nginx", "<b>", "c"]
    assert rows == [
        ["CPU per request, 16 connections [ms]", "2000", "5500 (3.5)", "-"],
        ["start to ready [s]", "2", "5.5 (3.5)", "-"],
        ["errors", "0", "7", "1"],
    ]
    remarks = report.remarks(example)
    assert remarks[:2] == ["c, round 1, start: ended at its start", "<b>, round 2, latency (7 times): why"]
    assert "1 of 1 passes were disturbed" in remarks[2]
    assert remarks[3].startswith("<b>, round 1: the load generator itself was up to 10.0 ms behind")
    assert len(remarks) == 4


def test_units_are_shown_on_a_terminal(
    example: run.Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    overhead.show(*report.table(example), "title")
    shown = capsys.readouterr().out
    assert "CPU per request, 16 connections [ms]" in shown
    assert "┃" in shown


def test_plots_have_a_bar_for_each_figure(example: run.Report, tmp_path: Path) -> None:
    written = plot.write(example, tmp_path / "plots")
    assert [path.name for path in written] == ["cpu.svg", "resources.svg"]
    for path in written:
        document = ElementTree.fromstring(path.read_text())
        texts = [element.text for element in document.iter("{http://www.w3.org/2000/svg}text")]
        bars = [
            float(element.attrib["width"])
            for element in document.iter("{http://www.w3.org/2000/svg}rect")
            if "bar" in element.attrib["class"].split()
        ]
        assert "<b>" in texts
        assert len(bars) == 2
        assert bars[1] / bars[0] == pytest.approx(5.5 / 2.0, rel=0.01)
        assert "3.5 ×" in texts  # noqa: RUF001 - as it is shown


@pytest.mark.parametrize("name", ["throughput, 16 connections", "CPU per request, 64 connections"])
def test_the_best_comes_first_and_ours_stands_out(name: str) -> None:
    medians = {"b": 2.0, "gwproto-x": 3.0}
    figures = [run.Figure(peer, name, "", [value], []) for peer, value in medians.items()]
    document = ElementTree.fromstring(plot.bars("title", figures, ""))
    texts = list(document.iter("{http://www.w3.org/2000/svg}text"))
    names = [text.text for text in texts if text.text in medians]
    assert names == (["gwproto-x", "b"] if name.startswith("throughput") else ["b", "gwproto-x"])
    assert [text.text for text in texts if text.attrib.get("class") == "end name"] == ["gwproto-x"]


def test_values_far_apart_are_on_a_logarithmic_scale() -> None:
    scale = plot.Scale([0.03, 0.4, 8.0])
    assert scale.ticks() == pytest.approx([0.01, 0.1, 1.0, 10.0])
    assert [scale(value) for value in (0.01, 1.0, 10.0)] == pytest.approx([0.0, 2 / 3, 1.0])
    near = plot.Scale([0.4, 8.0])
    assert near.ticks() == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert near(8.0) == pytest.approx(0.8)
    assert plot.Scale([0.0, 8.0]).ticks()[0] == 0.0


def test_the_bar_of_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command.progress_bar(2)("unseen")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    step = command.progress_bar(2)
    step("first")
    step("second")
    first, second = capsys.readouterr().err.split("\r\x1b[K")[1:]
    assert first == "·" * 24 + " 0/2 first"
    assert second == "█" * 12 + "·" * 12 + " 1/2 second"


# Whole runs

SCHEMA: dict[str, Any] = {
    "schema": int,
    "machine": {"system": str, "python": str, "cores": int, "server_cores": [int], "other_cores": [int]},
    "options": {
        "rounds": int,
        "duration": float,
        "rate": float,
        "serve_option": [str],
        "url": (str, type(None)),
        "model": str,
        "provider_port": int,
        "awake": bool,
        "scenarios": [str],
    },
    "reference": (str, type(None)),
    "peers": [{"name": str, "about": str, "source": str, "tried": str, "command": str, "errors": int}],
    "figures": [
        {
            "peer": str,
            "name": str,
            "unit": str,
            "median": float,
            "min": float,
            "max": float,
            "values": [float],
            "ratio": (float, type(None)),
            "ratios": [float],
        }
    ],
    "problems": [{"peer": str, "round": int, "scenario": str, "times": int, "error": str}],
    "passes": [
        {
            **dict.fromkeys(["round", "answers", "rss", "events", "errors"], int),
            **dict.fromkeys(["elapsed", "cpu", "waited", "p50", "p90", "p99", "max", "late"], float),
            **dict.fromkeys(["peer", "scenario", "error"], str),
        }
    ],
}


def fits(value: Any, schema: Any, path: str = "$") -> None:
    if isinstance(schema, dict):
        assert set(value) == set(schema), path
        for key, inner in schema.items():
            fits(value[key], inner, f"{path}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), path
        for index, item in enumerate(value):
            fits(item, schema[0], f"{path}[{index}]")
    else:
        assert isinstance(value, schema), path


BROKEN = """
[peers.broken]
executable = ["{python}"]
command = ["{python}", "-c", "raise SystemExit('out of order')"]

[peers.stand-in]
about = "the relay, as a command"
command = ["{{python}}", "{relay}", "{{port}}", "{{provider_port}}"]
files = {{ "seen" = "{{provider}}" }}
environment = {{ PYTHONPATH = "{path}" }}
ready = "/ready"
"""


@pytest.mark.sockets
def test_peers_are_compared_and_a_broken_one_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[1]
    more = tmp_path / "peers.toml"
    more.write_text(BROKEN.format(python=sys.executable, relay=root / "benchmarks" / "relay.py", path=root))
    chosen = ["--peer", "broken", "--peer", "stand-in", "--peer", "gwproto-trio", "--reference", "relay"]
    passes = ["--rounds", "1", "--duration", "0.05", "--scenario", "16", "--scenario", "latency"]
    output = ["--json", str(tmp_path / "report.json"), "--plot", str(tmp_path / "plots")]
    assert command.main([*chosen, *passes, *output, "--peers", str(more)]) == 0
    told = json.loads((tmp_path / "report.json").read_text())
    fits(told, SCHEMA)
    assert told["reference"] == "relay"
    names = {
        "throughput, 16 connections",
        "CPU per request, 16 connections",
        *(f"latency at 100/s, {percentile}" for percentile in ("p50", "p90", "p99", "max")),
        *(run.MEMORY, run.READY, run.START),
    }
    for peer in ("relay", "stand-in", "gwproto-trio"):
        rows = {figure["name"]: figure for figure in told["figures"] if figure["peer"] == peer}
        assert set(rows) == names
        assert all(row["median"] > 0 for row in rows.values())
        assert all((row["ratio"] is None) == (peer == "relay") for row in rows.values())
    assert [(one["peer"], one["scenario"]) for one in told["problems"]] == [("broken", "start")]
    assert "out of order" in told["problems"][0]["error"]
    assert {one["name"]: one["errors"] for one in told["peers"]}["broken"] == 1
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{kind}.svg" for kind in ("throughput", "latency", "cpu", "resources")
    }
    out, err = capsys.readouterr()
    assert "errors" in out
    assert "broken, round 1, start: ended at its start" in err


@contextlib.contextmanager
def mock_provider() -> Iterator[str]:
    with servers.provider() as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.mark.sockets
@pytest.mark.parametrize("model", ["", "mock-burst-7"])
def test_whatever_runs_at_a_url(tmp_path: Path, model: str) -> None:
    """With the mock provider's own models its answers are checked; with another the scenarios ask for that."""
    wanted = ["--scenario", "50 at once"] + ([] if model else ["--scenario", "16", "--scenario", "latency"])
    with mock_provider() as url:
        argv = ["--url", url, "--name", "mock", "--rounds", "1", "--duration", "0.05", *wanted]
        argv += ["--model", model, "--key", "k"] if model else []
        assert command.main([*argv, "--json", str(tmp_path / "report.json")]) == 0
    told = json.loads((tmp_path / "report.json").read_text())
    fits(told, SCHEMA)
    assert told["reference"] is None
    assert told["problems"] == []
    assert {figure["peer"] for figure in told["figures"]} == {"mock"}
    assert not any("CPU" in figure["name"] or figure["name"] == run.MEMORY for figure in told["figures"])
    assert len(told["figures"]) == (1 if model else 1 + 4 + 1)
    if model:
        assert all(one["events"] == 7 * one["answers"] for one in told["passes"])


@pytest.mark.sockets
def test_nobody_listens_at_the_url(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{servers.free_port()}"
    assert command.main(["--url", url, "--rounds", "1", "--duration", "0.01", "--scenario", "16"]) == 1
    assert "cannot connect" in capsys.readouterr().err

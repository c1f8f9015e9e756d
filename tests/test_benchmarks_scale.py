"""The benchmarks of growth, of many streams and of several workers reckon rightly. No figure is judged here."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from benchmarks import crowd, growth, load, meter, prompts, provider, servers, streams, workers

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", get_args(prompts.Kind))
@pytest.mark.parametrize("size", growth.SIZES)
def test_prompts_have_the_size_asked_for(kind: prompts.Kind, size: int) -> None:
    text = "".join(message["content"] for message in prompts.messages(kind, size)[1:])
    assert 0.9 * size < len(text.encode()) < 1.1 * size
    body = load.request(growth.long_job(servers.Server(0, 0, 0, 0), 0, kind, size)).partition(b"\r\n\r\n")[2]
    assert msgspec.json.decode(body)["messages"] == prompts.messages(kind, size)


def cost(part: str, size: int, seconds: float, server: str = "asyncio", kind: str = "") -> growth.Cost:
    return growth.Cost(part, server, kind, size, [seconds, seconds, 1.0])


def test_what_grows_is_compared_with_its_smallest() -> None:
    costs = [cost("targets", 1, 100e-6), cost("targets", 10, 105e-6), cost("targets", 1000, 130e-6)]
    head, rows = growth.flat_table(costs)
    assert head == ["CPU per request", "asyncio [µs]", "ratio"]
    assert [row[0] for row in rows] == ["1 target", "10 targets", "1000 targets"]
    assert [row[2] for row in rows] == ["1.00", "1.05", "1.30"]
    assert growth.missed(costs) == ["asyncio, 1000 targets: +30%, more than 10%"]


def test_the_cost_of_a_byte_is_a_slope() -> None:
    sizes = {2000: 100e-6, 66_000: 420e-6, 262_000: 1400e-6, 1_052_000: 10_600e-6}
    costs = [
        cost("prompts", size, seconds, name, kind)
        for kind in growth.KINDS
        for name in ("nginx", "asyncio")
        for size, seconds in sizes.items()
    ]
    _, rows = growth.slope_table(costs)
    assert rows[1] == ["prose, asyncio", "100.0", "5.00", "5.00", "11.65", "10.00"]
    assert growth.missed(costs) == [
        f"asyncio, {kind}: 10.00 ns per byte, more than 5" for kind in growth.KINDS
    ]


def test_rounds_are_put_together() -> None:
    rounds = [growth.Cost("targets", "asyncio", "", 1, values) for values in ([1.0], [2.0, 9.0])]
    (one,) = growth.merged(rounds)
    assert (one.values, one.median) == ([1.0, 2.0, 9.0], 2.0)


def test_events_say_when_they_were_sent() -> None:
    first, middle, last = provider.stream(3, True, True)
    assert provider.UNSENT in middle
    assert provider.UNSENT not in first + last
    stamped = middle.replace(provider.UNSENT, b"%017.6f" % 12.5)
    assert len(stamped) == len(middle)
    assert crowd._EVENT.findall(stamped) == [(b"2", b"0000000012.500000")]


def test_a_long_body_may_come_in_pieces() -> None:
    """As it does; the provider answers when it has all of it."""

    async def exchange() -> bytes:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        await loop.create_connection(provider.Provider, sock=theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        request = load.request(growth.long_job(servers.Server(0, 0, 0, 0), 0, "prose", 20_000))
        for at in range(0, len(request), 7000):
            writer.write(request[at : at + 7000])
            await asyncio.sleep(0)
        answer = await reader.readexactly(len(provider.PLAIN))
        writer.write(request)
        assert await reader.readexactly(len(provider.PLAIN)) == answer
        writer.close()
        return answer

    assert asyncio.run(exchange()) == provider.PLAIN


def watched(times: list[list[float]]) -> crowd.Watched:
    report = crowd.watched(times, 2.0)
    assert isinstance(report, crowd.Watched)
    return report


def test_transit_is_of_all_events_and_of_the_worst_stream() -> None:
    report = watched([[0.001] * 99, [0.002, 0.004]])
    assert (report.events, report.fewest, report.most) == (101, 2, 99)
    assert (report.p50, report.max) == (0.001, 0.004)
    assert report.worst == pytest.approx(0.003)
    assert isinstance(crowd.watched([[], []], 2.0), load.Refusal)


class Transport(asyncio.Transport):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


def stream_of(*reads: bytes) -> tuple[crowd.Crowd, crowd.Stream]:
    everybody = crowd.Crowd()
    stream = crowd.Stream(everybody, b"")
    stream.connection_made(Transport())
    for read in reads:
        stream.data_received(read)
    return everybody, stream


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def event(number: int) -> bytes:
    return b'10\r\ndata: " word%d at %017.6f"\n\n\r\n' % (number, time.monotonic())


@pytest.mark.parametrize("cut", [1, 10, 25, 40])
def test_events_are_counted_however_they_are_cut(cut: int) -> None:
    first = b"5\r\ndata: Once\n\n\r\n"
    two = event(2) + event(3)
    everybody, stream = stream_of(HEAD, first, two[:cut], two[cut:])
    assert (everybody.begun, everybody.problem) == (1, "")
    assert len(stream.times) == 2
    assert all(0 <= taken < 60 for taken in stream.times)


def test_a_stream_that_fails_has_no_figures() -> None:
    assert "answer begins b'HTTP/1.1 503" in stream_of(b"HTTP/1.1 503 Busy\r\n\r\n")[0].problem
    assert stream_of(HEAD + event(3))[0].problem == "event 3 in place of 2"
    everybody, stream = stream_of(HEAD)
    stream.connection_lost(None)
    assert "a stream ended" in everybody.problem
    everybody, stream = stream_of(HEAD)
    everybody.closing = True
    stream.connection_lost(None)
    assert everybody.problem == ""


ALL_WELL = streams.Pass(
    "asyncio", 2000, 20_000.0, 10.0, 50_000, 24, 26, 0.001, 0.01, 0.02, 0.002, 0.3, 0.2, 0.2, 0.0
)


def test_goals_of_streams() -> None:
    assert streams.problems([ALL_WELL]) == []
    bad = ALL_WELL._replace(memory=70_000.0, p99=0.06, fewest=23, client=0.7, waited=0.1)
    assert len(streams.problems([bad])) == 5
    assert len(streams.problems([bad._replace(server="nginx")])) == 2  # what spoils the figures
    worst = streams.of_all([ALL_WELL, ALL_WELL, bad])
    assert (worst.fewest, worst.p99, worst.memory) == (23, 0.01, 20_000.0)


def one_pass(name: str, count: int, throughput: float, cpu: float, connections: list[int]) -> workers.Pass:
    busy = [throughput * cpu / count] * count
    rest = throughput * 40e-6
    return workers.Pass(
        name, count, throughput, cpu, busy, 0.0, rest, rest, 0.0, 0.0, connections, 0.01, 0.0, 1.0
    )


def test_scaling_takes_client_and_provider_into_account() -> None:
    """A gateway that needs 120 µs beside 80 of client and provider, on two cores; of two workers each needs no more."""
    alone = one_pass(workers.ALONE, 1, 1 / 120e-6, 120e-6, [64])
    many = one_pass(workers.MANY, 2, 2 / 200e-6, 120e-6, [40, 24])
    rounds = [
        {workers.ALONE: alone, workers.ONE: alone._replace(arrangement=workers.ONE), workers.MANY: many}
    ]
    found = workers.scaling(rounds, 2)
    assert found.workers == 2
    assert (found.same, found.alone) == pytest.approx((2.0, 2.0))
    assert found.uneven == pytest.approx(
        1.6
    )  # 64 of 80 that there would be if all had as many as the busiest
    assert found.measured == found.possible == pytest.approx(1.2)
    assert workers.disturbances(rounds) == []
    # Workers that need a fifth more in each other's company serve less.
    dearer = one_pass(workers.MANY, 2, 2 / 224e-6, 144e-6, [32, 32])
    found = workers.scaling([{**rounds[0], workers.MANY: dearer}], 2)
    assert found.same == pytest.approx(2 / 1.2)
    assert found.measured < found.possible == pytest.approx(1.2)
    idle = [{**rounds[0], workers.MANY: many._replace(idle=0.3, others=0.2)}]
    assert len(workers.disturbances(idle)) == 2


def test_shares_are_of_the_time_between_two_looks() -> None:
    first = workers.Sample(10.0, 1.0, [2.0, 3.0], 4.0, 5.0, 0.0, [1, 1])
    last = workers.Sample(12.0, 1.2, [3.0, 4.5], 4.4, 5.2, 0.1, [3, 1])
    measured = load.Measurement(1000, 2.0, 0.3, 0.0, 0, 0.1, 0.1, 0.1, 0.1, 0, 0, "", 0.0)
    one = workers.passed(workers.MANY, measured, first, last, 2)
    assert (one.workers, one.throughput, one.cpu) == pytest.approx((2, 500.0, 0.0003))
    assert one.busy == pytest.approx([0.5, 0.75])
    assert (one.supervisor, one.client, one.provider) == pytest.approx((0.1, 0.2, 0.1))
    assert (one.idle, one.others) == pytest.approx((0.05, 0.3))
    assert one.connections == [3, 1]


@pytest.mark.sockets
def test_whose_connections_they_are() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        workers.await_listeners(port, 1)
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            assert workers.owners(port, [os.getpid()]) == [1]
    assert workers.idle({0}) >= 0
    assert meter.tree(os.getpid())[0] == os.getpid()


@pytest.mark.sockets
def test_the_streams_benchmark_runs(tmp_path: Path) -> None:
    report = tmp_path / "streams.json"
    command = [sys.executable, "-m", "benchmarks.streams", "--streams", "4", "--rounds", "1"]
    ran = subprocess.run(
        [*command, "--duration", "0.5", "--runtime", "asyncio", "--json", str(report)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    passes = json.loads(report.read_text())["passes"]
    assert (passes[0]["server"], passes[-1]["server"]) == (streams.DIRECT, "asyncio")
    assert all(one["events"] > 0 for one in passes)
    assert "asyncio" in ran.stdout

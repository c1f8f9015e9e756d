"""Many clients, each with a stream that stays open: how long every event took from the provider to here.

A process of its own, given one order per line on standard input and answering each with a line. The mock provider's
``mock-every`` streams number their events and say when each was sent; an event that is missing, or a stream that ends,
makes every later answer a :class:`load.Refusal`.
"""

import asyncio
import re
import sys
import time
from collections.abc import Sequence

import msgspec

from benchmarks import load
from benchmarks.provider import UNSENT
from gwproto_cli.process import raise_descriptors

PATIENCE = 60.0  # seconds that streams have to begin
_EVENT = re.compile(rb'" word(\d+) at (\d{%d}\.\d{6})"' % UNSENT.index(b"."))


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Have ``streams`` more begin within ``over`` seconds, evenly. Answered once each has had its first event."""

    port: int
    model: str
    streams: int
    over: float
    key: str = ""


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """Tell of the events that come within ``duration`` seconds."""

    duration: float


class Close(msgspec.Struct, frozen=True, tag="close"):
    """End all streams, as a client that leaves."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    streams: int  # open


class Watched(msgspec.Struct, frozen=True, tag="watched"):
    """``worst`` is of the one stream that has waited longest for all its events together, on average."""

    elapsed: float  # seconds
    events: int
    fewest: int  # events of one stream
    most: int
    p50: float  # seconds an event was under way
    p99: float
    max: float
    worst: float


Order = Open | Watch | Close
Report = Done | Watched | load.Refusal


def percentile(ranked: Sequence[float], of: int) -> float:
    """``ranked`` in order, not empty."""
    return ranked[min(len(ranked) - 1, len(ranked) * of // 100)]


class Stream(asyncio.Protocol):
    def __init__(self, crowd: "Crowd", request: bytes) -> None:
        self.crowd = crowd
        self.request = request
        self.received = b""
        self.answered = False  # with a 200
        self.begun = False
        self.number = 1  # of the last event; the first has no instant
        self.times: list[float] = []  # how long each event was under way, since the watching began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.fail(f"a stream ended after {self.received[-300:]!r}: {exc!r}")

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self.received:
            data = self.received + data
        if not data.endswith(b"\r\n"):
            self.received = data
            return
        self.received = b""
        if not self.answered:
            if not data.startswith(b"HTTP/1.1 200 "):
                self.crowd.fail(f"answer begins {data[:300]!r}")
                return
            self.answered = True
        if not self.begun and b"data: " in data:
            self.begun = True
            self.crowd.began()
        for number, sent in _EVENT.findall(data):
            self.number += 1
            if int(number) != self.number:
                self.crowd.fail(f"event {number.decode()} in place of {self.number}")
                return
            self.times.append(now - float(sent))


class Crowd:
    """All streams of the process."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.begun = 0
        self.closing = False
        self.problem = ""
        self.news = asyncio.Event()

    def fail(self, problem: str) -> None:
        if not self.closing:
            self.problem = self.problem or problem
            self.news.set()

    def began(self) -> None:
        self.begun += 1
        self.news.set()

    async def do(self, order: Order) -> Report:
        if isinstance(order, Close):
            return self.close()
        report = await (self.open(order) if isinstance(order, Open) else self.watch(order))
        return load.Refusal(self.problem) if self.problem else report

    async def open(self, order: Open) -> Report:
        # A stream without events would be asked for an answer without any; how many come is not looked at here.
        job = load.Job(order.port, 0, order.model, 1, 1, 0.0, key=order.key)
        request = load.request(job)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(order.streams):
            await asyncio.sleep(started + number * order.over / order.streams - loop.time())
            stream = Stream(self, request)
            self.streams.append(stream)
            await loop.create_connection(lambda stream=stream: stream, "127.0.0.1", order.port)  # type: ignore[misc]  # mypy cannot infer it
        try:
            async with asyncio.timeout(PATIENCE):
                while self.begun < len(self.streams) and not self.problem:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            self.problem = f"{self.begun} of {len(self.streams)} streams have begun within {PATIENCE:.0f} s"
        return Done(len(self.streams))

    async def watch(self, order: Watch) -> Report:
        for stream in self.streams:
            stream.times = []
        started = time.monotonic()
        await asyncio.sleep(order.duration)
        elapsed = time.monotonic() - started
        return watched([stream.times for stream in self.streams], elapsed)

    def close(self) -> Report:
        self.closing = True
        for stream in self.streams:
            stream.transport.abort()
        self.streams.clear()
        return Done(0)


def watched(times: Sequence[Sequence[float]], elapsed: float) -> Report:
    """``times``: of each stream's events."""
    ranked = sorted(time for of_stream in times for time in of_stream)
    if not ranked:
        return load.Refusal("no event came")
    return Watched(
        elapsed=elapsed,
        events=len(ranked),
        fewest=min(map(len, times)),
        most=max(map(len, times)),
        p50=percentile(ranked, 50),
        p99=percentile(ranked, 99),
        max=ranked[-1],
        worst=max(sum(of_stream) / len(of_stream) for of_stream in times if of_stream),
    )


async def main() -> None:
    """Follow the orders of standard input, one at a time, until it ends."""
    raise_descriptors()
    decoder = msgspec.json.Decoder(Order)
    crowd = Crowd()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        order = decoder.decode(line)
        if crowd.closing:
            crowd = Crowd()
        try:
            report = await crowd.do(order)
        except OSError as error:
            report = load.Refusal(f"cannot connect: {error}")
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(main())

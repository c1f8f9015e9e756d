"""The load generator: closed-loop clients on kept-alive connections, every answer checked.

A process of its own, given one :class:`Job` per line on standard input and answering each with a line: a
:class:`Measurement` or a :class:`Refusal`. An answer with a wrong status, a wrong number of events or no single
``[DONE]`` ends the job, so that a broken gateway cannot look fast.
"""

import asyncio
import contextlib
import sys
import time

import msgspec

from benchmarks import meter
from benchmarks.provider import WORDS

SETTLING = 0.02  # seconds after the last answer, in which a server finishes what it does behind it

PROMPT = (
    "You are a careful assistant. Answer in plain sentences, name no source, and do not repeat the question. "
    * 15
)


class Job(msgspec.Struct, frozen=True, tag="job"):
    port: int
    pid: int  # whose CPU and memory are read
    model: str
    connections: int
    events: int  # of each stream; 0: a plain JSON answer is expected
    duration: float  # seconds during which requests are started
    warm_up: float = 0.2
    stagger: float = 0.0  # seconds between the first requests of two connections
    key: str = ""
    settling: float = SETTLING  # for servers that do more behind their answers


class Measurement(msgspec.Struct, frozen=True, tag="measurement"):
    answers: int
    elapsed: float  # seconds
    cpu: float  # seconds of the server, from before the first request to after the last answer
    waited: float  # seconds the server was ready to run while its core served others
    rss: int  # bytes, under load
    p50: float  # seconds from request to end of answer
    p99: float


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The job was ended by a wrong answer, or none."""

    why: str


class Wrong(Exception):
    """An answer was not what it must be."""


def request(job: Job) -> bytes:
    """The one request a job sends again and again: about 2 kB."""
    fields = {
        "model": job.model,
        "messages": [
            {"role": "system", "content": PROMPT},
            {"role": "user", "content": "What does the quick brown fox do, and where is the band?"},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
    }
    if job.events:
        fields["stream"] = True
    body = msgspec.json.encode(fields)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        f"authorization: Bearer {job.key}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def unchunked(data: bytes, position: int) -> bytes | None:
    """The body of a chunked message whose first chunk begins at ``position``; None when it is not whole."""
    pieces: list[bytes] = []
    while (line_end := data.find(b"\r\n", position)) >= 0:
        size = int(data[position:line_end].partition(b";")[0], 16)
        position = line_end + 2 + size + 2
        if position > len(data):
            return None
        if size == 0:
            return b"".join(pieces)
        pieces.append(data[line_end + 2 : position - 2])
    return None


def check(body: bytes, events: int) -> None:
    """Raise :class:`Wrong` unless ``body`` is the provider's answer, whole, and ends as it must."""
    if events:
        if body.count(b"data: ") != events + 1:
            raise Wrong(f"{body.count(b'data: ') - 1} events instead of {events}: …{body[-300:]!r}")
        if body.count(b"[DONE]") != 1 or not body.endswith(b"data: [DONE]\n\n"):
            raise Wrong(f"not one [DONE] at the end: …{body[-300:]!r}")
    elif WORDS.encode() not in body or not body.rstrip().endswith(b"}"):
        raise Wrong(f"not the provider's answer: {body[:300]!r}")


class Run:
    """All connections of one job. A phase ends when each connection has its last answer."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = request(job)
        self.latencies: list[float] = []
        self.stop_at = 0.0
        self.active = 0
        self.over: asyncio.Future[None]

    async def phase(self, clients: list["Client"], duration: float) -> float:
        """Let ``clients`` start requests for ``duration``; return the seconds until the last answer."""
        loop = asyncio.get_running_loop()
        self.latencies = []
        self.over = loop.create_future()
        self.active = len(clients)
        started = time.perf_counter()
        self.stop_at = started + duration
        for number, client in enumerate(clients):
            loop.call_later(number * self.job.stagger, client.send)
        await self.over
        return time.perf_counter() - started

    def fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(Wrong(why))

    def answered(self, client: "Client", now: float) -> None:
        self.latencies.append(now - client.sent_at)
        if now < self.stop_at:
            client.send()
        else:
            self.active -= 1
            if self.active == 0 and not self.over.done():
                self.over.set_result(None)


class Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.received = b""
        self.sent_at = 0.0
        self.waiting = False
        self.last = False  # the server announced that it closes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.last = False
        if self.waiting:
            self.transport.write(self.run.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting and not self.last:
            self.run.fail(f"connection lost after {self.received[-300:]!r}: {exc!r}")

    def send(self) -> None:
        self.waiting = True
        self.sent_at = time.perf_counter()
        if self.last:
            self.dial = asyncio.ensure_future(connect(self))
        else:
            self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if self.received:
            data = self.received + data
        try:
            body = self.whole_body(data)
            if body is None:
                self.received = data
                return
            check(body, self.run.job.events)
        except Wrong as error:
            self.run.fail(str(error))
            return
        self.received = b""
        self.waiting = False
        if self.last:
            self.transport.close()
        self.run.answered(self, time.perf_counter())

    def whole_body(self, data: bytes) -> bytes | None:
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        if not data.startswith(b"HTTP/1.1 200 "):
            raise Wrong(f"answer begins {data[:300]!r}")
        head = data[:head_end].lower()
        chunked = b"transfer-encoding: chunked" in head
        if chunked and not data.endswith(b"0\r\n\r\n"):
            return None
        self.last = b"connection: close" in head
        if chunked:
            return unchunked(data, head_end + 4)
        _, found, rest = head.partition(b"content-length:")
        if not found:
            raise Wrong(f"an answer of unknown length: {head!r}")
        body = data[head_end + 4 :]
        return None if len(body) < int(rest.partition(b"\r\n")[0]) else body


async def connect(client: Client) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(lambda: client, "127.0.0.1", client.run.job.port)
    except OSError as error:
        client.run.fail(f"cannot connect: {error}")


async def measure(job: Job) -> Measurement:
    """Do ``job``; raises :class:`Wrong` for a wrong answer and TimeoutError for none."""
    run = Run(job)
    run.over = asyncio.get_running_loop().create_future()
    clients = [Client(run) for _ in range(job.connections)]
    rss = 0

    def sample() -> None:
        nonlocal rss
        rss = meter.rss_bytes(job.pid)

    try:
        async with asyncio.timeout(job.warm_up + job.duration + 20):
            await asyncio.gather(*(connect(client) for client in clients))
            if run.over.done():
                run.over.result()
            await run.phase(clients, job.warm_up)
            await asyncio.sleep(job.settling)
            before = meter.usage(job.pid)
            asyncio.get_running_loop().call_later(job.duration * 0.9, sample)
            elapsed = await run.phase(clients, job.duration)
            await asyncio.sleep(job.settling)
            after = meter.usage(job.pid)
    finally:
        for client in clients:
            client.waiting = False
            with contextlib.suppress(AttributeError):  # never connected
                client.transport.abort()
    ranked = sorted(run.latencies)
    return Measurement(
        answers=len(ranked),
        elapsed=elapsed,
        cpu=after.cpu - before.cpu,
        waited=after.waited - before.waited,
        rss=rss,
        p50=ranked[len(ranked) // 2],
        p99=ranked[len(ranked) * 99 // 100],
    )


def main() -> None:
    """Do the jobs of standard input, one at a time, until it ends."""
    decoder = msgspec.json.Decoder(Job)
    for line in sys.stdin.buffer:
        report: Measurement | Refusal
        try:
            report = asyncio.run(measure(decoder.decode(line)))
        except Wrong as error:
            report = Refusal(str(error))
        except TimeoutError:
            report = Refusal("no answer in time")
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

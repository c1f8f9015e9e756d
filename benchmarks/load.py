"""The load generator: clients on kept-alive connections, every answer checked.

A process of its own, given one :class:`Job` per line on standard input and answering each with a line: a
:class:`Measurement` or a :class:`Refusal`. An answer with a wrong status, a wrong number of events or no single
``[DONE]`` ends the job, so that a broken gateway cannot look fast; a tolerant job counts it and goes on.

The loop is closed (each connection sends its next request when it has an answer) or, with a rate, open: requests are
due at fixed instants whatever the server does, wait here for a free connection, and their latency counts from the
instant they were due. A server that stalls is charged for all who would have come meanwhile, not for one request per
connection ("coordinated omission").
"""

import asyncio
import sys
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from benchmarks import meter, prompts
from benchmarks.answers import Wrong, check, whole

SETTLING = 0.02  # seconds after the last answer, in which a server finishes what it does behind it
PATIENCE = 20.0  # seconds that a job waits for answers after its last request was due
PAUSE = 0.01  # seconds after an error before its connection goes on

PROMPT = (
    "You are a careful assistant. Answer in plain sentences, name no source, and do not repeat the question. "
    * 15
)


class Job(msgspec.Struct, frozen=True, tag="job"):
    port: int
    pid: int  # whose CPU and memory are read; 0: nobody's
    model: str
    connections: int
    events: int  # of each stream; 0: a plain JSON answer is expected
    duration: float  # seconds during which requests are started
    warm_up: float = 0.2
    stagger: float = 0.0  # seconds between the first requests of two connections
    key: str = ""
    settling: float = SETTLING  # for servers that do more behind their answers
    rate: float = (
        0.0  # requests per second, on a fixed schedule; 0: a connection's next when it has an answer
    )
    host: str = "127.0.0.1"
    authority: str = "127.0.0.1"  # as the request names the host
    tls: bool = False
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}  # beside those of every request
    # What an answer must be: the provider's bytes, the same text in whatever frames, or any chat completion.
    expect: Literal["exact", "text", "any"] = "exact"
    tolerant: bool = False  # errors are counted and do not end the job
    prompt: prompts.Kind = "prose"
    size: int = 0  # bytes of the prompt; 0: the short one that everybody sends


class Measurement(msgspec.Struct, frozen=True, tag="measurement"):
    answers: int
    elapsed: float  # seconds
    cpu: float  # seconds of the server, from before the first request to after the last answer
    waited: float  # seconds the server was ready to run while its core served others
    rss: int  # bytes, under load
    p50: float  # seconds to the end of the answer, from the request or the instant it was due
    p90: float
    p99: float
    max: float
    events: int  # of all streams
    errors: int  # wrong answers, lost connections, and requests without an answer
    error: str  # the first of them
    late: float  # seconds, the most that the generator was behind its own schedule


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The job was ended by a wrong answer, or none."""

    why: str


def request(job: Job) -> bytes:
    """The one request a job sends again and again: about 2 kB unless the job has a size."""
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
    if job.size:
        fields["messages"] = prompts.messages(job.prompt, job.size)
    body = msgspec.json.encode(fields)
    more = {"authorization": f"Bearer {job.key}"} | job.headers if job.key else job.headers
    head = (
        f"POST {job.path} HTTP/1.1\r\nhost: {job.authority}\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in more.items())
        + f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Run:
    """All connections of one job. A phase ends when each connection has its last answer."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = request(job)
        self.loop = asyncio.get_running_loop()
        self.latencies: list[float] = []
        self.answers = self.events = self.errors = 0
        self.error = ""
        self.late = 0.0
        self.stop_at = 0.0
        self.active: set[Client] = set()
        self.over: asyncio.Future[None]

    async def phase(self, clients: Sequence["Client"], duration: float) -> float:
        """Let ``clients`` start requests for ``duration``; return the seconds until the last answer."""
        self.latencies = []
        self.answers = self.events = self.errors = 0
        self.error = ""
        self.late = 0.0
        self.over = self.loop.create_future()
        started = self.loop.time()
        self.stop_at = started + duration
        patience = self.loop.call_at(self.stop_at + PATIENCE, self.give_up)
        try:
            self.begin(clients, started)
            await self.over
        finally:
            patience.cancel()
        return self.loop.time() - started

    def begin(self, clients: Sequence["Client"], started: float) -> None:
        self.active = set(clients)
        for number, client in enumerate(clients):
            at = started + number * self.job.stagger
            self.loop.call_at(at, client.send, at)

    def next(self, client: "Client", now: float) -> None:
        """``client`` is free again."""
        if now < self.stop_at:
            client.send(now)
        else:
            self.active.discard(client)
            if not self.active:
                self.end()

    def missing(self) -> list[float]:
        """The instants from which requests without an answer count."""
        return [client.since for client in self.active if client.waiting]

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def give_up(self) -> None:
        """Nobody waits any longer. Who has waited counts as having been served now: no latency can be less."""
        if self.over.done():
            return
        if not self.job.tolerant or not self.answers:
            self.over.set_exception(Wrong(self.error or "no answer in time"))
            return
        now = self.loop.time()
        missing = self.missing()
        self.latencies += [now - since for since in missing]
        self.errors += len(missing)
        self.error = self.error or f"no answer within {PATIENCE:.0f} s"
        self.end()

    def fail(self, client: "Client", why: str) -> None:
        if self.over.done():
            return
        if not self.job.tolerant:
            self.over.set_exception(Wrong(why))
            return
        self.errors += 1
        self.error = self.error or why
        client.drop()
        self.loop.call_later(PAUSE, self.free, client)

    def free(self, client: "Client") -> None:
        if not self.over.done():
            self.next(client, self.loop.time())

    def answered(self, client: "Client", events: int) -> None:
        now = self.loop.time()
        self.latencies.append(now - client.since)
        self.answers += 1
        self.events += events
        self.next(client, now)


class OpenRun(Run):
    """Requests are due at a fixed rate. A phase ends when as many as were due have an answer, or failed."""

    def begin(self, clients: Sequence["Client"], started: float) -> None:
        self.active = set()
        self.idle = deque(clients)
        self.due: deque[float] = deque()  # instants, of those who wait for a connection
        self.started = started
        self.total = max(1, round((self.stop_at - started) * self.job.rate))
        self.left = self.total
        self.tick(0)

    def tick(self, number: int) -> None:
        """Send the request of that number, and whatever else is due."""
        if self.over.done():
            return
        now = self.loop.time()
        while number < self.total:
            at = self.started + number / self.job.rate
            if at > now:
                self.loop.call_at(at, self.tick, number)
                return
            self.late = max(self.late, now - at)
            number += 1
            if self.idle:
                self.send(self.idle.popleft(), at)
            else:
                self.due.append(at)

    def send(self, client: "Client", since: float) -> None:
        self.active.add(client)
        client.send(since)

    def next(self, client: "Client", now: float) -> None:
        self.active.discard(client)
        self.left -= 1
        if self.left == 0:
            self.end()
        elif self.due:
            self.send(client, self.due.popleft())
        else:
            self.idle.append(client)

    def missing(self) -> list[float]:
        return [*super().missing(), *self.due]


class Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    transport: asyncio.Transport | None = None

    def __init__(self, run: Run) -> None:
        self.run = run
        self.received = b""
        self.since = 0.0  # the instant from which the latency counts
        self.waiting = False
        self.last = False  # the connection is not good for another request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.last = False
        if self.waiting:
            transport.write(self.run.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.last:
            return
        self.last = True
        if self.waiting:
            self.run.fail(self, f"connection lost after {self.received[-300:]!r}: {exc!r}")

    def send(self, since: float) -> None:
        self.waiting = True
        self.since = since
        if self.last or self.transport is None:
            self.dial = asyncio.ensure_future(connect(self))
        else:
            self.transport.write(self.run.request)

    def drop(self) -> None:
        """End the connection; the next request takes a new one."""
        self.waiting = False
        self.last = True
        self.received = b""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self.waiting:
            return  # more than an answer, or one that nobody waits for any longer
        if self.received:
            data = self.received + data
        job = self.run.job
        try:
            answer = whole(data)
            if answer is None:
                self.received = data
                return
            events = check(answer.body, job.events, job.expect)
        except (Wrong, ValueError) as error:
            self.run.fail(self, str(error))
            return
        self.received = b""
        self.waiting = False
        if answer.last and self.transport is not None:
            self.last = True
            self.transport.close()
        self.run.answered(self, events)


async def connect(client: Client) -> None:
    job = client.run.job
    try:
        await client.run.loop.create_connection(lambda: client, job.host, job.port, ssl=job.tls or None)
    except OSError as error:
        client.last = True
        client.run.fail(client, f"cannot connect: {error}")


async def measure(job: Job) -> Measurement:
    """Do ``job``; raises :class:`Wrong` for a wrong answer, and when there was none at all or none in time."""
    run = Run(job)
    clients = [Client(run) for _ in range(job.connections)]
    rss = 0

    def sample() -> None:
        nonlocal rss
        if job.pid:
            rss = meter.rss_bytes(job.pid)

    try:
        await run.phase(clients, job.warm_up)  # never open: every connection is to have had a request
        await asyncio.sleep(job.settling)
        if job.rate:
            run = OpenRun(job)
            for client in clients:
                client.run = run
        before = meter.usage(job.pid) if job.pid else meter.Usage(0.0, 0.0)
        run.loop.call_later(job.duration * 0.9, sample)
        elapsed = await run.phase(clients, job.duration)
        await asyncio.sleep(job.settling)
        after = meter.usage(job.pid) if job.pid else before
    finally:
        for client in clients:
            client.drop()
    if not run.answers:
        raise Wrong(run.error)
    ranked = sorted(run.latencies)
    return Measurement(
        answers=run.answers,
        elapsed=elapsed,
        cpu=after.cpu - before.cpu,
        waited=after.waited - before.waited,
        rss=rss,
        p50=ranked[len(ranked) // 2],
        p90=ranked[len(ranked) * 90 // 100],
        p99=ranked[len(ranked) * 99 // 100],
        max=ranked[-1],
        events=run.events,
        errors=run.errors,
        error=run.error,
        late=run.late,
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
        except OSError as error:  # the server's process is gone, or another user's
            report = Refusal(f"cannot measure the server: {error}")
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

"""One client's connection on the asyncio server: raw bytes in, raw bytes out, on virtual time."""

import asyncio
import json
import math
import random
from collections.abc import Awaitable, Callable

import anyio
import pytest
from test_trio_connection import (
    AUTHORIZED,
    BODY,
    CONTENT,
    GET,
    JSON_ANSWER,
    STREAM_ANSWER,
    STREAM_BODY,
    STREAM_HEAD,
    framed,
    post,
    statuses,
)

from gwproto import Ending, Origin, Outcome
from gwproto.config import ServerSettings, SingleFlightSettings
from gwproto_asyncio import Server
from gwproto_asyncio.loops import Loop
from gwproto_ops.deployment import Deployment
from gwproto_raw.connection import (
    HEAD_TIMEOUT,
    IDLE_TIMEOUT,
    LINGER_TIMEOUT,
    MAX_BUFFERED,
    WRITE_TIMEOUT,
)
from gwproto_raw.upstream import Pool
from support.conversation import DONE, STOP, completion, configuration
from support.memory import MemoryStream, connected
from support.transports import MemoryTransport
from support.virtual_loop import run_virtually


class World:
    """A server whose provider answers each request with ``answer`` and then stands still."""

    def __init__(self, answer: bytes = JSON_ANSWER, *, single_flight: bool = False, **server: float) -> None:
        self.answer = answer
        self.outcomes: list[Outcome] = []
        self.theirs: list[MemoryStream] = []
        self.upstreams: list[MemoryTransport] = []
        self.clients: list[MemoryTransport] = []
        self.providing: list[asyncio.Task[None]] = []
        deployment = Deployment(
            configuration(
                server=ServerSettings(**server),  # type: ignore[arg-type]  # all of them are floats
                single_flight=SingleFlightSettings(enabled=single_flight),
            ),
            {"a": (b"authorization", b"Bearer upstream")},
        )
        self.pool = Pool(deployment.credentials, dial=self.dial, loop=Loop())
        self.server = Server(deployment, record=self.outcomes.append, pool=self.pool, rng=random.Random(1))

    async def dial(self, origin: Origin, protocol: asyncio.Protocol) -> None:
        ours, theirs = connected()
        self.theirs.append(theirs)
        self.upstreams.append(MemoryTransport(protocol, ours))
        self.providing.append(asyncio.create_task(self._provide(theirs)))

    async def _provide(self, stream: MemoryStream) -> None:
        try:
            while True:
                request = await stream.receive()
                while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                    request += await stream.receive()
                if self.answer:
                    await stream.send(self.answer)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    def connect(self, room: float = math.inf) -> MemoryStream:
        ours, theirs = connected()
        self.clients.append(MemoryTransport(self.server.connection(), theirs, room=room))
        return ours

    @property
    def open(self) -> int:
        return sum(not transport.stream.closed for transport in self.upstreams)


Test = Callable[[World], Awaitable[None]]


def virtually(test: Test) -> Callable[[], None]:
    async def main() -> None:
        world = World()
        await test(world)
        await ended(world)

    def run() -> None:
        run_virtually("asyncio", main)

    return run


async def ended(world: World) -> None:
    """Stop, and see that nothing is left."""
    await world.server.aclose()
    await turns()
    assert not world.server.connections
    assert world.pool.leases.leased == 0
    assert world.open == 0
    for task in world.providing:
        task.cancel()


async def turns() -> None:
    """Everything that can happen now."""
    for _ in range(20):
        await asyncio.sleep(0)


async def receive(stream: MemoryStream, seconds: float = 0.01) -> bytes:
    """What comes within that time; to the end if that comes first."""
    data = b""
    with anyio.move_on_after(seconds):
        try:
            while True:
                data += await stream.receive()
        except anyio.EndOfStream:
            pass
    return data


async def until_end(stream: MemoryStream) -> bytes:
    with anyio.fail_after(10_000):
        data = b""
        try:
            while True:
                data += await stream.receive()
        except anyio.EndOfStream:
            return data


def now() -> float:
    return asyncio.get_running_loop().time()


@virtually
async def test_requests_on_one_connection(world: World) -> None:
    client = world.connect()
    for body in (BODY, BODY):
        await client.send(post(body))
        answer = await receive(client)
        assert statuses(answer) == [200]
        assert b"connection:" not in answer
        assert answer.endswith(completion())
    assert len(world.upstreams) == 1
    assert [outcome.ending for outcome in world.outcomes] == [Ending.COMPLETED] * 2
    assert len(world.clients[0].written) == 2  # head and body in one write


@virtually
async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    client = world.connect()
    await client.send(GET + post() + b"GET /nowhere HTTP/1.1\r\nhost: h\r\n\r\n" + post(STREAM_BODY) + GET)
    assert statuses(await receive(client, 1.0)) == [200, 200, 404, 200, 200]


@virtually
async def test_requests_of_one_client_do_not_hold_up_others(world: World) -> None:
    """Each takes its turn."""
    greedy, other = world.connect(), world.connect()
    await greedy.send(GET * 500)
    await turns()
    assert 0 < len(world.clients[0].written) < 100
    await other.send(GET)
    assert statuses(await receive(other, 0.0001)) == [200]
    assert statuses(await receive(greedy)) == [200] * 500


@virtually
async def test_a_request_byte_by_byte(world: World) -> None:
    client = world.connect()
    for byte in post():
        await client.send(bytes([byte]))
        await turns()
    assert statuses(await receive(client)) == [200]


@virtually
async def test_a_chunked_request(world: World) -> None:
    client = world.connect()
    head = b"POST /v1/chat/completions HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % AUTHORIZED
    await client.send(head + framed(BODY[:7]) + framed(BODY[7:]))
    assert await receive(client) == b""
    await client.send(b"0\r\n\r\n")
    assert statuses(await receive(client)) == [200]


@virtually
async def test_a_stream_comes_in_one_chunk_and_one_write_per_read_of_the_provider(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    client = world.connect()
    await client.send(post(STREAM_BODY))
    head, _, body = (await receive(client)).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body.count(b"\r\n") == 2
    await world.theirs[0].send(CONTENT * 3)
    assert (await receive(client)).count(b"\r\n") == 2
    await world.theirs[0].send(framed(STOP + DONE) + b"0\r\n\r\n")
    assert (await receive(client)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert len(world.clients[0].written) == 3
    assert world.pool.leases.idle == 1


@virtually
async def test_the_body_is_asked_for_when_it_is_wanted(world: World) -> None:
    client = world.connect()
    head, body = post(fields=AUTHORIZED + b"expect: 100-continue\r\n").split(b"\r\n\r\n")
    await client.send(head + b"\r\n\r\n")
    assert await receive(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(body)
    assert statuses(await receive(client)) == [200]
    await client.send(head + b"\r\n\r\n" + body)  # who does not wait is not asked
    assert statuses(await receive(client)) == [200]


@virtually
async def test_the_body_is_not_asked_for_when_it_is_not_wanted(world: World) -> None:
    client = world.connect()
    await client.send(post(fields=b"host: h\r\nexpect: 100-continue\r\n").split(b"{")[0])
    answer = await until_end(client)
    assert statuses(answer) == [401]
    assert b"connection: close\r\n" in answer


@virtually
async def test_a_short_body_that_is_not_wanted_is_skipped(world: World) -> None:
    client = world.connect()
    data = post(fields=b"host: h\r\n")
    await client.send(data[:-5])
    assert statuses(await receive(client)) == [401]
    await client.send(data[-5:] + GET)
    assert statuses(await receive(client)) == [200]
    await client.send(data[:-5])
    assert statuses(await receive(client)) == [401]
    await client.send_eof()
    assert await until_end(client) == b""


@virtually
async def test_a_short_body_that_never_comes(world: World) -> None:
    client = world.connect()
    await client.send(post(fields=b"host: h\r\n")[:-5])
    assert statuses(await receive(client)) == [401]
    started = now()
    assert await until_end(client) == b""
    assert now() - started == pytest.approx(HEAD_TIMEOUT, abs=0.02)


@pytest.mark.parametrize("framing", [b"content-length: 33554433\r\n", b"transfer-encoding: chunked\r\n"])
def test_a_long_body_that_is_not_wanted_is_not_read(framing: bytes) -> None:
    @virtually
    async def run(world: World) -> None:
        client = world.connect()
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n" + framing + b"\r\n")
        answer = await receive(client)
        assert statuses(answer) == [401]
        assert b"connection: close\r\n" in answer
        await client.send(b"x" * 1_000_000)  # it can read the answer while it goes on sending
        assert await until_end(client) == b""
        await client.send(b"x" * 1_000_000)
        await asyncio.sleep(LINGER_TIMEOUT + 0.1)
        with pytest.raises(anyio.BrokenResourceError):
            await client.send(b"x")

    run()


@virtually
async def test_who_ends_after_an_early_answer_is_not_waited_for(world: World) -> None:
    client = world.connect()
    await client.send(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    assert statuses(await until_end(client)) == [405]
    await client.send_eof()
    await turns()
    assert not world.server.connections


@virtually
async def test_too_large_by_its_length(world: World) -> None:
    client = world.connect()
    fields = AUTHORIZED + b"content-length: 33554433\r\n\r\n"
    await client.send(b"POST /v1/chat/completions HTTP/1.1\r\n" + fields)
    assert statuses(await until_end(client)) == [413]


@virtually
async def test_too_large_as_it_comes(world: World) -> None:
    client = world.connect()
    await client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % AUTHORIZED
    )
    piece = framed(b" " * 1_000_000)
    for _ in range(34):
        await client.send(piece)
    answer = await until_end(client)
    assert statuses(answer) == [413]
    assert world.upstreams == []


@virtually
async def test_head_and_old_clients(world: World) -> None:
    client = world.connect()
    await client.send(b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n")
    assert (await receive(client)).endswith(b"\r\n\r\n")
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert b"</html>" in await until_end(client)
    client = world.connect()
    world.answer = STREAM_ANSWER
    await client.send(post(STREAM_BODY, version=b"1.0"))
    answer = await until_end(client)
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nhost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n folded\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/9.9\r\nhost: h\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (post(fields=AUTHORIZED + b"transfer-encoding: chunked\r\n"), 400),
        (post(fields=AUTHORIZED + b"transfer-encoding: gzip\r\n"), 501),
    ],
)
def test_a_request_that_two_could_read_differently_is_answered_once(data: bytes, status: int) -> None:
    @virtually
    async def run(world: World) -> None:
        client = world.connect()
        await client.send(data + GET)
        answer = await until_end(client)
        assert statuses(answer) == [status]
        assert b"connection: close\r\n" in answer
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert len(world.outcomes) == 1

    run()


@pytest.mark.parametrize("body", [b"5\nhello", b"zz\r\n", b"1\r\nab\r\n"])
def test_a_malformed_chunked_body(body: bytes) -> None:
    @virtually
    async def run(world: World) -> None:
        client = world.connect()
        head = b"POST /v1/chat/completions HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % AUTHORIZED
        await client.send(head + body + b"0\r\n\r\n" + GET)
        assert statuses(await until_end(client)) == [400]
        assert world.upstreams == []
        assert [outcome.ending for outcome in world.outcomes] == [Ending.CLIENT_CLOSED]

    run()


@virtually
async def test_a_malformed_rest_of_a_body_that_nobody_wants(world: World) -> None:
    client = world.connect()
    await client.send(b"POST /nowhere HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    assert statuses(await until_end(client)) == [404]
    client = world.connect()
    await client.send(b"GET /livez HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nGE" + b"T /" + GET)
    assert statuses(await receive(client)) == [200, 400]


@virtually
async def test_a_client_that_is_gone_before_its_answer(world: World) -> None:
    client = world.connect()
    await client.send(post(fields=b"host: h\r\n"))
    await client.aclose()
    await turns()
    assert [outcome.status for outcome in world.outcomes] == [401]


@virtually
async def test_a_request_that_was_pipelined_before_the_end(world: World) -> None:
    client = world.connect()
    await client.send(GET + post() + GET)
    await client.send_eof()
    assert statuses(await until_end(client)) == [200]
    assert world.open == 0


@virtually
async def test_a_request_on_a_connection_that_drains(world: World) -> None:
    client = world.connect()
    await client.send(post()[:20])
    await turns()
    world.server.drain()
    await client.send(post()[20:] + GET)
    answer = await until_end(client)
    assert statuses(answer) == [200]
    assert b"connection: close\r\n" in answer


@virtually
async def test_a_head_has_its_time(world: World) -> None:
    client = world.connect()
    await asyncio.sleep(IDLE_TIMEOUT - 1.0)
    started = now()
    for byte in b"GET /livez HTTP":
        await client.send(bytes([byte]))
        if await receive(client, 1.0) or now() - started >= HEAD_TIMEOUT:
            break
    assert await until_end(client) == b""
    assert now() - started == pytest.approx(HEAD_TIMEOUT, abs=0.1)


@virtually
async def test_an_idle_connection_has_its_time(world: World) -> None:
    client = world.connect()
    await asyncio.sleep(10.0)
    await client.send(GET)
    await turns()
    started = now()
    assert statuses(await until_end(client)) == [200]
    assert now() - started == pytest.approx(IDLE_TIMEOUT)


@virtually
async def test_the_time_of_an_answer_is_nobodys_idleness(world: World) -> None:
    world.answer = b""
    client = world.connect()
    await client.send(post())
    assert await receive(client, 3 * IDLE_TIMEOUT) == b""
    await world.theirs[0].send(JSON_ANSWER)
    assert statuses(await receive(client)) == [200]


@pytest.mark.parametrize("answer", [b"", STREAM_HEAD, STREAM_HEAD + CONTENT])
@pytest.mark.parametrize("orderly", [False, True])
def test_the_client_leaves(answer: bytes, orderly: bool) -> None:
    @virtually
    async def run(world: World) -> None:
        world.answer = answer
        client = world.connect()
        await client.send(post(STREAM_BODY))
        await receive(client)
        assert world.open == 1
        if orderly:
            await client.send_eof()
        else:
            await client.aclose()
        await turns()
        assert world.open == 0
        (outcome,) = world.outcomes
        assert outcome.ending is Ending.CLIENT_CLOSED

    run()


@virtually
async def test_the_client_leaves_in_its_body(world: World) -> None:
    client = world.connect()
    await client.send(post()[:-5])
    await receive(client)
    await client.aclose()
    await turns()
    assert [outcome.ending for outcome in world.outcomes] == [Ending.CLIENT_CLOSED]


# Back-pressure


@virtually
async def test_a_client_that_does_not_read_stops_its_provider(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    client = world.connect(room=2000)
    await client.send(post(STREAM_BODY))
    await turns()
    upstream = world.upstreams[0]
    assert upstream.reading
    sent = 0
    while upstream.reading:
        await world.theirs[0].send(CONTENT)
        await turns()
        sent += 1
    for _ in range(100):  # and nothing more is taken from it
        await world.theirs[0].send(CONTENT)
    await turns()
    held = world.clients[0].get_write_buffer_size()
    assert 0 < held < 2 * len(CONTENT)
    world.clients[0].take(held)
    await turns()
    assert not upstream.reading  # the next read was too much again
    assert 10_000 < world.clients[0].get_write_buffer_size() < 100 * len(CONTENT)
    world.clients[0].take(math.inf)
    await world.theirs[0].send(framed(STOP + DONE) + b"0\r\n\r\n")
    answer = await receive(client)
    assert answer.count(b'"Hello"') == sent + 101
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert upstream.reading


@virtually
async def test_a_client_that_never_reads_is_given_up(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    client = world.connect(room=100)
    await client.send(post(STREAM_BODY))
    await asyncio.sleep(WRITE_TIMEOUT - 1.0)
    assert world.outcomes == []
    await asyncio.sleep(2.0)
    assert world.outcomes[0].ending is Ending.CLIENT_CLOSED
    await turns()
    assert world.open == 0
    assert not world.server.connections


@virtually
async def test_a_client_that_reads_slowly_is_not_given_up(world: World) -> None:
    client = world.connect(room=100)
    await client.send(post() + GET)
    await turns()
    for _ in range(10):
        await asyncio.sleep(0.9 * WRITE_TIMEOUT)
        world.clients[0].take(10)
    assert len(world.outcomes) == 1
    world.clients[0].take(math.inf)
    assert statuses(await receive(client)) == [200, 200]


@virtually
async def test_a_client_that_has_not_read_its_answer_asks_in_vain(world: World) -> None:
    client = world.connect(room=100)
    await client.send(GET + GET)
    await turns()
    assert len(world.outcomes) == 1
    world.clients[0].take(math.inf)
    assert statuses(await receive(client)) == [200, 200]
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert b"</html>" in await until_end(client)


@virtually
async def test_a_last_answer_has_its_time_too(world: World) -> None:
    client = world.connect(room=100)
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    await asyncio.sleep(WRITE_TIMEOUT / 2)
    assert world.server.connections
    world.clients[0].take(math.inf)
    await asyncio.sleep(LINGER_TIMEOUT / 2)
    assert world.server.connections
    await asyncio.sleep(LINGER_TIMEOUT)
    assert not world.server.connections
    client = world.connect(room=100)
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    await asyncio.sleep(WRITE_TIMEOUT + 1)
    assert not world.server.connections


@virtually
async def test_a_client_that_leaves_without_having_read(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    client = world.connect(room=100)
    await client.send(post(STREAM_BODY))
    await turns()
    await client.send_eof()
    await turns()
    assert [outcome.ending for outcome in world.outcomes] == [Ending.CLIENT_CLOSED]
    assert world.open == 0


def test_a_leader_that_leaves_without_having_read_serves_its_followers_on() -> None:
    async def main() -> None:
        world = World(STREAM_HEAD + CONTENT, single_flight=True)
        body = STREAM_BODY.replace(b"{", b'{"temperature": 0, ', 1)
        leader, follower = world.connect(room=100), world.connect()
        await leader.send(post(body))
        await turns()
        await follower.send(post(body))
        assert (await receive(follower)).count(b'"Hello"') == 1
        await leader.aclose()
        await turns()
        assert world.outcomes == []
        await world.theirs[0].send(CONTENT + framed(STOP + DONE) + b"0\r\n\r\n")
        answer = await receive(follower, 1.0)
        assert answer.count(b'"Hello"') == 1
        assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert len(world.theirs) == 1
        endings = {outcome.ending for outcome in world.outcomes}
        assert endings == {Ending.CLIENT_CLOSED, Ending.COMPLETED}
        assert len(world.server.connections) == 1
        await ended(world)

    run_virtually("asyncio", main)


@virtually
async def test_only_so_much_is_read_ahead(world: World) -> None:
    world.answer = b""
    client = world.connect()
    await client.send(post())
    await turns()
    transport = world.clients[0]
    sent = 0
    while transport.reading:
        await client.send(GET * 100)
        await turns()
        sent += 100
    assert len(GET) * (sent - 100) <= MAX_BUFFERED
    await world.theirs[0].send(JSON_ANSWER)
    assert statuses(await receive(client, 1.0)) == [200] * (sent + 1)
    assert transport.reading


# Ends


@virtually
async def test_stopped_with_everything_under_way(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    client, waiting, idle = world.connect(), world.connect(), world.connect()
    await client.send(post(STREAM_BODY))
    await receive(client)
    await waiting.send(post()[:-5])
    await turns()
    world.server.stop()
    await turns()
    answer = await until_end(client)
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert await until_end(idle) == await until_end(waiting) == b""
    assert world.open == 0
    assert [outcome.ending for outcome in world.outcomes] == [Ending.ABANDONED] * 2


@virtually
async def test_an_error_of_ours_costs_one_connection(world: World) -> None:
    def fail(outcome: Outcome) -> None:
        raise RuntimeError("disk full")

    world.server.record = fail
    client = world.connect()
    await client.send(GET + GET)
    assert statuses(await until_end(client)) == [200]
    world.server.record = world.outcomes.append
    client = world.connect()
    await client.send(GET)
    assert statuses(await receive(client)) == [200]


@virtually
async def test_draining(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    idle, asking, streaming = world.connect(), world.connect(), world.connect()
    await asking.send(b"GET /readyz HTTP/1.1\r\n")
    await streaming.send(post(STREAM_BODY))
    assert statuses(await receive(streaming)) == [200]
    world.server.drain()
    await turns()
    assert await until_end(idle) == b""
    late = world.connect()
    assert await until_end(late) == b""
    await asking.send(b"host: h\r\n\r\n")
    answer = await until_end(asking)
    assert statuses(answer) == [503]
    assert b"connection: close\r\n" in answer
    await world.theirs[0].send(framed(STOP + DONE) + b"0\r\n\r\n")
    assert (await until_end(streaming)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_draining_has_its_time() -> None:
    async def main() -> None:
        world = World(STREAM_HEAD + CONTENT, drain_timeout=30.0)
        client = world.connect()
        await client.send(post(STREAM_BODY))
        await receive(client)
        started = now()
        world.server.drain()
        rest = await until_end(client)
        assert now() - started == pytest.approx(30.0)
        assert b'data: {"error":' in rest
        assert b"[DONE]" not in rest
        assert rest.endswith(b"0\r\n\r\n")
        await ended(world)

    run_virtually("asyncio", main)

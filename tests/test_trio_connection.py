"""One client's connection on the trio server: raw bytes in, raw bytes out, on virtual time."""

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from gwproto import Ending, Origin, Outcome
from gwproto.config import ServerSettings
from gwproto_ops.deployment import Deployment
from gwproto_raw.connection import HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT, MAX_BUFFERED, WRITE_TIMEOUT
from gwproto_raw.loops import Receiver
from gwproto_raw.upstream import Pool
from gwproto_trio import Server
from gwproto_trio.loops import Loop
from gwproto_trio.streams import StreamTransport
from support.codecs import with_each_codec
from support.conversation import DONE, KEY, ROLE, STOP, chunk, completion, configuration
from support.memory import MemoryStream, connected
from support.trio_streams import OverMemory
from support.virtual_loop import run_virtually

codec = with_each_codec(globals(), "Pool", "Server")

BODY = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
STREAM_BODY = json.dumps({"stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
AUTHORIZED = b"host: h\r\nauthorization: Bearer %b\r\n" % KEY.encode()
GET = b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n"

JSON_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(completion()),
    completion(),
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CONTENT = framed(ROLE + chunk({"content": "Hello"}))
STREAM_ANSWER = STREAM_HEAD + CONTENT + framed(STOP + DONE) + b"0\r\n\r\n"


def post(body: bytes = BODY, fields: bytes = AUTHORIZED, version: bytes = b"1.1") -> bytes:
    head = b"POST /v1/chat/completions HTTP/%b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (version, fields, len(body)) + body


class World:
    """A server whose provider answers each request with ``answer`` and then stands still."""

    def __init__(self, nursery: trio.Nursery, answer: bytes = JSON_ANSWER, **server: float) -> None:
        self.nursery = nursery
        self.answer = answer
        self.outcomes: list[Outcome] = []
        self.ours: list[MemoryStream] = []
        self.theirs: list[MemoryStream] = []
        deployment = Deployment(
            configuration(server=ServerSettings(**server)),  # type: ignore[arg-type]  # all of them are floats
            {"a": (b"authorization", b"Bearer upstream")},
        )
        self.pool = Pool(deployment.credentials, loop=Loop(), dial=self.dial)
        self.server = Server(deployment, record=self.outcomes.append, pool=self.pool, rng=random.Random(1))

    async def dial(self, origin: Origin, receiver: Receiver) -> None:
        ours, theirs = connected()
        self.ours.append(ours)
        self.theirs.append(theirs)
        self.nursery.start_soon(self._provide, theirs)
        StreamTransport(OverMemory(ours), receiver).start()

    async def _provide(self, stream: MemoryStream) -> None:
        try:
            while True:
                request = await stream.receive()
                while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                    request += await stream.receive()
                await stream.send(self.answer)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    def connect(self) -> trio.StapledStream[Any, Any]:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.server.serve_stream, theirs, "192.0.2.1")
        return ours

    @property
    def open(self) -> int:
        return sum(not stream.closed for stream in self.ours)


Test = Callable[[World], Awaitable[None]]


def virtually(test: Test) -> Callable[[], None]:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery)
            await test(world)
            nursery.cancel_scope.cancel()
        assert world.pool.leases.leased == 0
        world.pool.close()
        await trio.testing.wait_all_tasks_blocked()
        assert world.open == 0

    def run() -> None:
        run_virtually("trio", main)

    return run


async def receive(stream: trio.abc.ReceiveStream, seconds: float = 0.01) -> bytes:
    """What comes within that time; to the end if that comes first."""
    data = b""
    with trio.move_on_after(seconds):
        while some := await stream.receive_some():
            data += some
    return data


async def until_end(stream: trio.abc.ReceiveStream) -> bytes:
    with trio.fail_after(10_000):
        data = b""
        while some := await stream.receive_some():
            data += some
    return data


def statuses(data: bytes) -> list[int]:
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


@virtually
async def test_requests_on_one_connection(world: World) -> None:
    client = world.connect()
    for body in (BODY, BODY):
        await client.send_all(post(body))
        answer = await receive(client)
        assert statuses(answer) == [200]
        assert b"connection:" not in answer
        assert answer.endswith(completion())
    assert len(world.ours) == 1
    assert [outcome.ending for outcome in world.outcomes] == [Ending.COMPLETED] * 2


@virtually
async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    client = world.connect()
    await client.send_all(
        GET + post() + b"GET /nowhere HTTP/1.1\r\nhost: h\r\n\r\n" + post(STREAM_BODY) + GET
    )
    assert statuses(await receive(client, 1.0)) == [200, 200, 404, 200, 200]


@virtually
async def test_a_request_byte_by_byte(world: World) -> None:
    client = world.connect()
    for byte in post():
        await client.send_all(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    assert statuses(await receive(client)) == [200]


@virtually
async def test_a_chunked_request(world: World) -> None:
    client = world.connect()
    head = b"POST /v1/chat/completions HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % AUTHORIZED
    await client.send_all(head + framed(BODY[:7]) + framed(BODY[7:]))
    assert await receive(client) == b""
    await client.send_all(b"0\r\n\r\n")
    assert statuses(await receive(client)) == [200]


@virtually
async def test_a_stream_comes_in_one_chunk_per_read_of_the_provider(world: World) -> None:
    world.answer = STREAM_ANSWER
    client = world.connect()
    await client.send_all(post(STREAM_BODY))
    head, _, body = (await receive(client)).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert body.count(b"\r\n") == 4


@virtually
async def test_the_body_is_asked_for_when_it_is_wanted(world: World) -> None:
    client = world.connect()
    head, body = post(fields=AUTHORIZED + b"expect: 100-continue\r\n").split(b"\r\n\r\n")
    await client.send_all(head + b"\r\n\r\n")
    assert await receive(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send_all(body)
    assert statuses(await receive(client)) == [200]
    await client.send_all(head + b"\r\n\r\n" + body)  # who does not wait is not asked
    assert statuses(await receive(client)) == [200]


@virtually
async def test_the_body_is_not_asked_for_when_it_is_not_wanted(world: World) -> None:
    client = world.connect()
    await client.send_all(post(fields=b"host: h\r\nexpect: 100-continue\r\n").split(b"{")[0])
    answer = await until_end(client)
    assert statuses(answer) == [401]
    assert b"connection: close\r\n" in answer


@virtually
async def test_a_short_body_that_is_not_wanted_is_skipped(world: World) -> None:
    client = world.connect()
    data = post(fields=b"host: h\r\n")
    await client.send_all(data[:-5])
    assert statuses(await receive(client)) == [401]
    await client.send_all(data[-5:] + GET)
    assert statuses(await receive(client)) == [200]
    await client.send_all(data[:-5])
    assert statuses(await receive(client)) == [401]
    await client.send_eof()
    assert await until_end(client) == b""


@virtually
async def test_a_short_body_that_never_comes(world: World) -> None:
    client = world.connect()
    await client.send_all(post(fields=b"host: h\r\n")[:-5])
    assert statuses(await receive(client)) == [401]
    started = trio.current_time()
    assert await until_end(client) == b""
    assert trio.current_time() - started == pytest.approx(HEAD_TIMEOUT, abs=0.02)


@pytest.mark.parametrize("framing", [b"content-length: 33554433\r\n", b"transfer-encoding: chunked\r\n"])
def test_a_long_body_that_is_not_wanted_is_not_read(framing: bytes) -> None:
    @virtually
    async def run(world: World) -> None:
        client = world.connect()
        await client.send_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n" + framing + b"\r\n")
        answer = await receive(client)
        assert statuses(answer) == [401]
        assert b"connection: close\r\n" in answer
        await client.send_all(b"x" * 1_000_000)  # it can read the answer while it goes on sending
        assert await until_end(client) == b""
        await client.send_all(b"x" * 1_000_000)
        await trio.sleep(LINGER_TIMEOUT + 0.1)
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"x")

    run()


@virtually
async def test_too_large_by_its_length(world: World) -> None:
    client = world.connect()
    fields = AUTHORIZED + b"content-length: 33554433\r\n\r\n"
    await client.send_all(b"POST /v1/chat/completions HTTP/1.1\r\n" + fields)
    assert statuses(await until_end(client)) == [413]


@virtually
async def test_too_large_as_it_comes(world: World) -> None:
    client = world.connect()
    await client.send_all(
        b"POST /v1/chat/completions HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % AUTHORIZED
    )
    piece = framed(b" " * 1_000_000)
    for _ in range(34):
        await client.send_all(piece)
    answer = await until_end(client)
    assert statuses(answer) == [413]
    assert world.ours == []


@virtually
async def test_head_and_old_clients(world: World) -> None:
    client = world.connect()
    await client.send_all(b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n")
    assert (await receive(client)).endswith(b"\r\n\r\n")
    await client.send_all(b"GET / HTTP/1.0\r\n\r\n")
    assert b"</html>" in await until_end(client)
    client = world.connect()
    world.answer = STREAM_ANSWER
    await client.send_all(post(STREAM_BODY, version=b"1.0"))
    answer = await until_end(client)
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nhost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n folded\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/9.9\r\nhost: h\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: h\r\n" + b"x: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: h\r\n\r\n", 414),
        (b"CONNECT h:1 HTTP/1.1\r\nhost: h\r\n\r\n", 405),
        (b"FROB / HTTP/1.1\r\nhost: h\r\n\r\n", 501),
        (b"GET * HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (post(fields=AUTHORIZED + b"transfer-encoding: chunked\r\n"), 400),
        (post(fields=AUTHORIZED + b"transfer-encoding: gzip\r\n"), 501),
        (b"POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
def test_a_request_that_two_could_read_differently_is_answered_once(data: bytes, status: int) -> None:
    @virtually
    async def run(world: World) -> None:
        client = world.connect()
        await client.send_all(data + GET)
        answer = await until_end(client)
        assert statuses(answer) == [status]
        assert b"connection: close\r\n" in answer
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert len(world.outcomes) == 1

    run()


@pytest.mark.parametrize(
    "body", [b"5\nhello", b"zz\r\n", b"1;\r\na\r\n", b"f" * 17 + b"\r\n", b"1\r\nab\r\n"]
)
def test_a_malformed_chunked_body(body: bytes) -> None:
    @virtually
    async def run(world: World) -> None:
        client = world.connect()
        head = b"POST /v1/chat/completions HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % AUTHORIZED
        await client.send_all(head + body + b"0\r\n\r\n" + GET)
        assert statuses(await until_end(client)) == [400]
        assert world.ours == []
        assert [outcome.ending for outcome in world.outcomes] == [Ending.CLIENT_CLOSED]

    run()


@virtually
async def test_a_malformed_body_that_nobody_wants(world: World) -> None:
    client = world.connect()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n"
    await client.send_all(head + b"{}" + GET)
    assert statuses(await receive(client)) == [401, 200]


@virtually
async def test_a_malformed_rest_of_a_body_that_nobody_wants(world: World) -> None:
    client = world.connect()
    await client.send_all(b"POST /nowhere HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    assert statuses(await until_end(client)) == [404]
    client = world.connect()
    await client.send_all(b"GET /livez HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nGE" + b"T /" + GET)
    assert statuses(await receive(client)) == [200, 400]


@virtually
async def test_a_client_that_is_gone_before_its_answer(world: World) -> None:
    client = world.connect()
    await client.send_all(post(fields=b"host: h\r\n"))
    await client.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert [outcome.status for outcome in world.outcomes] == [401]


@virtually
async def test_a_request_that_was_pipelined_before_the_end(world: World) -> None:
    client = world.connect()
    await client.send_all(GET + post() + GET)
    await client.send_eof()
    assert statuses(await until_end(client)) == [200]
    assert world.open == 0


@virtually
async def test_a_request_on_a_connection_that_drains(world: World) -> None:
    client = world.connect()
    await client.send_all(post()[:20])
    await trio.testing.wait_all_tasks_blocked()
    world.server.drain()
    await client.send_all(post()[20:] + GET)
    answer = await until_end(client)
    assert statuses(answer) == [200]
    assert b"connection: close\r\n" in answer


@virtually
async def test_a_head_has_its_time(world: World) -> None:
    client = world.connect()
    await trio.sleep(IDLE_TIMEOUT - 1.0)
    started = trio.current_time()
    for byte in b"GET /livez HTTP":
        await client.send_all(bytes([byte]))
        if await receive(client, 1.0) or trio.current_time() - started >= HEAD_TIMEOUT:
            break
    assert await until_end(client) == b""
    assert trio.current_time() - started == pytest.approx(HEAD_TIMEOUT, abs=0.1)


@virtually
async def test_an_idle_connection_has_its_time(world: World) -> None:
    client = world.connect()
    await client.send_all(GET)
    assert statuses(await receive(client, 0.0)) == []
    started = trio.current_time()
    assert statuses(await until_end(client)) == [200]
    assert trio.current_time() - started == IDLE_TIMEOUT


@virtually
async def test_the_time_of_an_answer_is_nobodys_idleness(world: World) -> None:
    world.answer = b""
    client = world.connect()
    await client.send_all(post())
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
        await client.send_all(post(STREAM_BODY))
        await receive(client)
        assert world.open == 1
        if orderly:
            await client.send_eof()
        else:
            await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert world.open == 0
        (outcome,) = world.outcomes
        assert outcome.ending is Ending.CLIENT_CLOSED

    run()


@virtually
async def test_the_client_leaves_in_its_body(world: World) -> None:
    client = world.connect()
    await client.send_all(post()[:-5])
    await receive(client)
    await client.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert [outcome.ending for outcome in world.outcomes] == [Ending.CLIENT_CLOSED]


@virtually
async def test_a_client_that_does_not_read(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    ours, theirs = trio.testing.lockstep_stream_pair()
    world.nursery.start_soon(world.server.serve_stream, theirs)
    started = trio.current_time()
    await ours.send_all(post(STREAM_BODY))
    recorded = trio.Event()

    def record(outcome: Outcome) -> None:
        world.outcomes.append(outcome)
        recorded.set()

    world.server.record = record
    await recorded.wait()
    assert trio.current_time() - started == WRITE_TIMEOUT
    await trio.testing.wait_all_tasks_blocked()
    assert world.outcomes[0].ending is Ending.CLIENT_CLOSED
    assert world.open == 0


@virtually
async def test_only_so_much_is_read_ahead(world: World) -> None:
    world.answer = b""
    taken = 0
    ours, theirs = trio.testing.lockstep_stream_pair()
    world.nursery.start_soon(world.server.serve_stream, theirs)

    async def flood() -> None:
        nonlocal taken
        await ours.send_all(post())
        while True:
            await ours.send_all(GET * 100)
            taken += len(GET) * 100

    world.nursery.start_soon(flood)
    await trio.sleep(1.0)
    assert 0 < taken <= MAX_BUFFERED + 65536


@virtually
async def test_cancelled_with_everything_under_way(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.server.serve_stream, theirs)
        await ours.send_all(post(STREAM_BODY))
        await receive(ours)
        nursery.cancel_scope.cancel()
    answer = await until_end(ours)
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert world.open == 0
    assert [outcome.ending for outcome in world.outcomes] == [Ending.ABANDONED]


@virtually
async def test_an_error_of_ours_costs_one_connection(world: World) -> None:
    def fail(outcome: Outcome) -> None:
        raise RuntimeError("disk full")

    world.server.record = fail
    client = world.connect()
    await client.send_all(GET)
    assert statuses(await until_end(client)) == [200]
    world.server.record = world.outcomes.append
    client = world.connect()
    await client.send_all(GET)
    assert statuses(await receive(client)) == [200]


@virtually
async def test_draining(world: World) -> None:
    world.answer = STREAM_HEAD + CONTENT
    idle, asking, streaming = world.connect(), world.connect(), world.connect()
    await asking.send_all(b"GET /readyz HTTP/1.1\r\n")
    await streaming.send_all(post(STREAM_BODY))
    assert statuses(await receive(streaming)) == [200]
    world.server.drain()
    await trio.testing.wait_all_tasks_blocked()
    assert await receive(idle, 0.0) == b""
    await asking.send_all(b"host: h\r\n\r\n")
    answer = await until_end(asking)
    assert statuses(answer) == [503]
    assert b"connection: close\r\n" in answer
    await world.theirs[0].send(framed(STOP + DONE) + b"0\r\n\r\n")
    assert (await until_end(streaming)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_draining_has_its_time() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery, STREAM_HEAD + CONTENT, drain_timeout=30.0)
            client = world.connect()
            await client.send_all(post(STREAM_BODY))
            await receive(client)
            started = trio.current_time()
            world.server.drain()
            rest = await until_end(client)
            assert trio.current_time() - started == 30.0
            assert b'data: {"error":' in rest
            assert b"[DONE]" not in rest
            assert rest.endswith(b"0\r\n\r\n")
            nursery.cancel_scope.cancel()

    run_virtually("trio", main)

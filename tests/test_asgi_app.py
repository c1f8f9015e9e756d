"""The gateway as an ASGI application, on asyncio and on trio."""

import json
from collections.abc import AsyncIterator

import anyio
import asgi_harness
import pytest
from asgi_harness import AUTHORIZED, CHAT, PLAIN, STREAM, Call, Running, call, chat, running

from gwproto import Ending
from gwproto.testing import Knobs
from gwproto_asgi import GatewayApp
from gwproto_asgi.scope import Message

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as it:
        yield it


@pytest.fixture
async def stalling() -> AsyncIterator[Running]:
    """Every stream stands still after two chunks, every other answer before its head."""
    async with running(Knobs(stall_after=2)) as it:
        yield it


async def test_a_chat_completion(gateway: Running) -> None:
    answer = await chat(gateway.app)
    assert answer.status == 200
    assert answer.complete
    assert answer.headers[b"x-gateway-provider"] == b"local"
    assert json.loads(answer.body)["object"] == "chat.completion"
    (outcome,) = gateway.outcomes
    assert (outcome.ending, outcome.status, outcome.provider) == (Ending.COMPLETED, 200, "local")


async def test_a_stream(gateway: Running) -> None:
    answer = await chat(gateway.app, STREAM)
    assert answer.status == 200
    assert answer.headers[b"content-type"].startswith(b"text/event-stream")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.body.count(b"[DONE]") == 1


async def test_an_answer_takes_two_sends(gateway: Running) -> None:
    answer = await chat(gateway.app)
    assert [message["type"] for message in answer.sent] == ["http.response.start", "http.response.body"]


async def test_connections_to_providers_are_kept(gateway: Running) -> None:
    for _ in range(3):
        assert (await chat(gateway.app)).status == 200
    assert gateway.provider.connections == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/v1/models", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/livez", 405),
        ("POST", CHAT, 401),
    ],
)
async def test_immediate_answers(gateway: Running, method: str, path: str, status: int) -> None:
    answer = await call(gateway.app, method, path)
    assert (answer.status, answer.complete) == (status, True)
    assert len(gateway.outcomes) == 1


async def test_a_refusal_reads_no_body_first(gateway: Running) -> None:
    request = Call("POST", CHAT, body=[b"x" * 1000] * 5)
    sent_after: list[int] = []

    async def receive() -> Message:
        sent_after.append(len(request.sent))
        return await request.receive()

    await gateway.app(request.scope, receive, request.send)
    assert request.status == 401
    assert request.complete
    assert sent_after == [2] * 5  # head and body were out already


async def test_a_body_in_pieces(gateway: Running) -> None:
    pieces = [PLAIN[index : index + 1] for index in range(len(PLAIN))]
    answer = await call(gateway.app, "POST", CHAT, headers=AUTHORIZED, body=pieces)
    assert answer.status == 200


async def test_a_client_that_leaves_while_uploading(gateway: Running) -> None:
    request = Call("POST", CHAT, headers=AUTHORIZED, body=[PLAIN])

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await gateway.app(request.scope, receive, request.send)
    assert request.sent == []
    assert [outcome.ending for outcome in gateway.outcomes] == [Ending.CLIENT_CLOSED]
    assert gateway.provider.connections == 0


async def test_a_client_that_leaves_while_waiting(stalling: Running) -> None:
    request = Call("POST", CHAT, headers=AUTHORIZED, body=[PLAIN])
    stalling.tasks.start_soon(request.run, stalling.app)
    await anyio.wait_all_tasks_blocked()
    request.gone.set()
    await request.returned.wait()
    await stalling.provider.departed.wait()
    assert request.sent == []
    assert [outcome.ending for outcome in stalling.outcomes] == [Ending.CLIENT_CLOSED]


async def test_a_client_that_leaves_while_streaming(stalling: Running) -> None:
    request = Call("POST", CHAT, headers=AUTHORIZED, body=[STREAM])
    stalling.tasks.start_soon(request.run, stalling.app)
    await request.until_body()
    request.gone.set()
    await request.returned.wait()
    await stalling.provider.departed.wait()
    assert not request.complete
    assert [outcome.ending for outcome in stalling.outcomes] == [Ending.CLIENT_CLOSED]


async def test_stop_breaks_off_what_runs(stalling: Running) -> None:
    request = Call("POST", CHAT, headers=AUTHORIZED, body=[STREAM])
    stalling.tasks.start_soon(request.run, stalling.app)
    await request.until_body()
    stalling.app.stop()
    await request.returned.wait()
    await stalling.provider.departed.wait()
    assert not request.complete
    assert [outcome.ending for outcome in stalling.outcomes] == [Ending.ABANDONED]


async def test_a_cancelled_request_leaves_nothing_open(stalling: Running) -> None:
    request = Call("POST", CHAT, headers=AUTHORIZED, body=[STREAM])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request.run, stalling.app)
        await request.until_body()
        tasks.cancel_scope.cancel()
    await stalling.provider.departed.wait()
    assert [outcome.ending for outcome in stalling.outcomes] == [Ending.ABANDONED]


async def test_unready_is_seen_by_probes_and_by_nobody_else(gateway: Running) -> None:
    gateway.app.unready()
    assert (await call(gateway.app, "GET", "/readyz")).status == 503
    assert (await call(gateway.app, "GET", "/livez")).status == 200
    assert (await chat(gateway.app)).status == 200


async def test_draining_ends_streams_with_an_error_event() -> None:
    async with running(Knobs(stall_after=2), server="drain_timeout = 0.0") as gateway:
        request = Call("POST", CHAT, headers=AUTHORIZED, body=[STREAM])
        gateway.tasks.start_soon(request.run, gateway.app)
        await request.until_body()
        gateway.app.drain()
        await request.returned.wait()
        assert request.complete
        assert b'"error"' in request.body
        assert b"[DONE]" not in request.body
        await gateway.provider.departed.wait()
        later = await chat(gateway.app)
        assert later.status == 503


async def test_the_prefix_of_a_mount_is_taken_off(gateway: Running) -> None:
    answer = await call(gateway.app, "GET", "/llm/v1/models", root_path="/llm")
    assert answer.status == 200


async def test_a_websocket_is_refused(gateway: Running) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await gateway.app({"type": "websocket", "path": "/"}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_an_unknown_scope_is_an_error(gateway: Running) -> None:
    request = Call()
    with pytest.raises(ValueError, match="telepathy"):
        await gateway.app({"type": "telepathy"}, request.receive, request.send)


async def test_lifespan(gateway: Running) -> None:
    given: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return given.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    assert (await chat(gateway.app)).status == 200
    await gateway.app({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_closing_what_never_started() -> None:
    app = GatewayApp(asgi_harness.deployment())
    await app.aclose()


def test_every_event_loop_gets_connections_of_its_own() -> None:
    """Test clients run each request on a loop of its own, and so do processes that restart theirs."""
    app = GatewayApp(asgi_harness.deployment())

    async def one() -> int:
        return (await call(app, "GET", "/readyz")).status

    assert [anyio.run(one, backend=backend) for backend in ("asyncio", "asyncio", "trio")] == [200] * 3

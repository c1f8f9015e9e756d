"""Simulated providers: their answers, their faults, and their socket host seen through the official client."""

import argparse
import json
import random
from typing import Any

import anyio
import httpx2
import msgspec
import openai
import pytest

from gwproto.testing import Data, End, Head, Knobs, Reset, SimulatedProvider, Stall, Step
from gwproto.testing.answers import example, tokens
from gwproto_cli.knobs import add_knob_flags, knobs_from
from gwproto_cli.simulated import demo_providers, hosted

NOW = 1_790_000_000.0


def provider(**knobs: Any) -> SimulatedProvider:
    return SimulatedProvider("sim", models=("m",), rng=random.Random(7), knobs=Knobs(**knobs))


def ask(
    sim: SimulatedProvider, path: str = "/v1/chat/completions", method: str = "POST", **fields: Any
) -> list[Step]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello there"}], **fields}
    return sim.respond(method, path, (), json.dumps(body).encode(), NOW)


def played(steps: list[Step]) -> tuple[int, bytes, type]:
    """Status, body, last action."""
    status = next((s.action.status for s in steps if isinstance(s.action, Head)), 0)
    return (
        status,
        b"".join(s.action.data for s in steps if isinstance(s.action, Data)),
        type(steps[-1].action),
    )


def message(sim: SimulatedProvider, **fields: Any) -> dict[str, Any]:
    status, body, _ = played(ask(sim, **fields))
    assert status == 200
    choice: dict[str, Any] = json.loads(body)["choices"][0]
    return choice


def chunks(body: bytes) -> list[Any]:
    events = body.decode().split("\n\n")
    assert events.pop() == ""
    return [e if e == "data: [DONE]" else json.loads(e.removeprefix("data: ")) for e in events]


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert ask(provider(), stream=True) == ask(provider(), stream=True)


def test_a_plain_answer_echoes_the_last_user_message() -> None:
    choice = message(provider())
    assert choice["message"]["content"] == 'You said "hello there", and sim heard you.'
    assert choice["finish_reason"] == "stop"


def test_a_stream_has_the_order_of_the_real_api() -> None:
    status, body, last = played(ask(provider(), stream=True, stream_options={"include_usage": True}))
    events = chunks(body)
    assert (status, last, events.pop()) == (200, End, "data: [DONE]")
    counts = events.pop()
    assert counts["choices"] == []
    assert counts["usage"]["completion_tokens"] == len(events) - 2
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all(event["usage"] is None for event in events)
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert said == 'You said "hello there", and sim heard you.'


def test_tools_are_called_with_arguments_their_schema_admits() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}, "days": {"type": "integer"}},
        "required": ["city", "unit"],
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    asked: dict[str, Any] = {
        "tools": [tool],
        "messages": [{"role": "user", "content": "Is it warm in Oslo now?"}],
    }
    choice = message(provider(), **asked)
    call = choice["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo", "unit": "c"}
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)

    _, body, _ = played(ask(provider(), stream=True, **asked))
    fragments = [f for e in chunks(body)[:-1] for c in e["choices"] for f in c["delta"].get("tool_calls", ())]
    assert "".join(f["function"].get("arguments", "") for f in fragments) == call["function"]["arguments"]
    assert [f.get("id") for f in fragments][1:] == [None] * (len(fragments) - 1)

    assert message(provider(), tool_choice="none", **asked)["message"]["content"]
    asked["messages"].append({"role": "tool", "tool_call_id": "x", "content": "12 C"})
    assert "12 C" in message(provider(), **asked)["message"]["content"]


def test_tool_choice_names_the_tool() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    choice = {"type": "function", "function": {"name": "b"}}
    call = message(provider(), tools=tools, tool_choice=choice)["message"]["tool_calls"][0]
    assert call["function"]["name"] == "b"


def test_json_is_answered_when_json_is_asked_for() -> None:
    free = message(provider(), response_format={"type": "json_object"})
    assert json.loads(free["message"]["content"])["echo"] == "hello there"
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 9}, "ok": {"type": "boolean"}},
    }
    bound = message(
        provider(), response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    )
    assert json.loads(bound["message"]["content"]) == {"n": 9, "ok": True}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["t", "t"]),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": ["string", "null"], "maxLength": 0}, ""),
        ({"type": "string", "minLength": 3}, "t.."),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"const": 3}, 3),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"examples": ["e"]}}}, "e"),
        ({"type": "number", "maximum": 1}, 1),
        (None, {}),
    ],
)
def test_examples_of_schemas(schema: object, value: object) -> None:
    assert example(schema, "t") == value


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert "next" in json.dumps(example(schema, "t"))


@pytest.mark.parametrize(
    ("fields", "text", "finish"),
    [
        ({"max_tokens": 2}, "You said", "length"),
        ({"max_completion_tokens": 1, "max_tokens": 9}, "You", "length"),
        ({"stop": " said"}, "You", "stop"),
        ({"stop": ["nowhere", " and"]}, 'You said "hello there",', "stop"),
    ],
)
def test_limits_on_the_text(fields: dict[str, Any], text: str, finish: str) -> None:
    choice = message(provider(), **fields)
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, finish)


def test_reasoning_logprobs_and_several_choices() -> None:
    status, body, _ = played(ask(provider(), reasoning_effort="high", logprobs=True, n=2))
    answer = json.loads(body)
    assert status == 200
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    first = answer["choices"][0]
    assert "high effort" in first["message"]["reasoning_content"]
    assert "".join(item["token"] for item in first["logprobs"]["content"]) == first["message"]["content"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    assert "reasoning_content" not in message(provider(), reasoning_effort="none")["message"]


def test_tokens_join_to_the_text() -> None:
    text = " Zwölf  Boxkämpfer,\njagen… Viktor! "
    assert "".join(tokens(text)) == text


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"\xff", 400, None),
        (b"[]", 400, None),
        (b'{"model":"m"}', 400, None),
        (b'{"model":"m","messages":[]}', 400, None),
        (b'{"model":"other","messages":[{"role":"user","content":"x"}]}', 404, None),
    ],
)
def test_bad_requests_get_the_real_kind_of_error(body: bytes, status: int, param: str | None) -> None:
    steps = provider().respond("POST", "/v1/chat/completions", (), body, NOW)
    seen, answer, _ = played(steps)
    assert seen == status
    assert set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}


def test_other_paths() -> None:
    sim = provider()
    assert played(ask(sim, path="/v1/nothing"))[0] == 404
    assert played(ask(sim, method="GET"))[0] == 405
    status, body, _ = played(ask(sim, path="/v1/models", method="GET"))
    assert (status, [m["id"] for m in json.loads(body)["data"]]) == (200, ["m"])


def test_faults() -> None:
    assert played(ask(provider(status=503)))[0] == 503
    assert played(ask(provider(failure_rate=1.0)))[0] == 500
    assert played(ask(provider(failure_rate=0.0, status=500)))[0] == 200
    assert [s.action for s in ask(provider(reset_after=0))] == [Reset()]
    assert [s.action for s in ask(provider(stall_after=0))] == [Stall()]
    _, body, last = played(ask(provider(reset_after=2), stream=True))
    assert (len(chunks(body)), last) == (3, Reset)  # the role and two of content
    assert played(ask(provider(stall_after=2), stream=True))[2] is Stall
    assert played(ask(provider(reset_after=1)))[2] is Reset
    assert "error" in chunks(played(ask(provider(first_event_error=True), stream=True))[1])[0]
    events = chunks(played(ask(provider(no_done=True, no_finish=True), stream=True))[1])
    assert all(event["choices"][0]["finish_reason"] is None for event in events)


@pytest.mark.parametrize("kind", ["html", "empty", "not_json", "truncated_json", "invalid_utf8", "binary"])
def test_garbage_is_no_answer(kind: Any) -> None:
    status, body, _ = played(ask(provider(garbage=kind)))
    assert status == 200
    with pytest.raises(ValueError, match=r".*"):
        json.loads(body)


def test_a_share_of_answers_fails() -> None:
    sim = provider(failure_rate=0.3)
    failed = sum(played(ask(sim))[0] == 500 for _ in range(1000))
    assert 250 < failed < 350


def test_requests_per_minute_are_limited_and_said() -> None:
    sim = provider(requests_per_minute=2)
    seen = [ask(sim) for _ in range(3)]
    assert [played(steps)[0] for steps in seen] == [200, 200, 429]
    assert isinstance(seen[2][0].action, Head)
    assert dict(seen[2][0].action.headers)[b"retry-after"] == b"60"
    assert isinstance(seen[0][0].action, Head)
    assert dict(seen[0][0].action.headers)[b"x-ratelimit-remaining-requests"] == b"1"
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    assert played(sim.respond("POST", "/v1/chat/completions", (), body, NOW + 60))[0] == 200


def test_latency_and_pace() -> None:
    steps = ask(provider(latency=2.0, pace=0.5, words=3), stream=True)
    assert [s.after for s in steps] == [2.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0]
    sim = provider(latency=1.0, latency_spread=0.5)
    assert len({ask(sim)[0].after for _ in range(5)}) == 5


def test_keys_are_checked_when_there_is_one() -> None:
    sim = provider(api_key="secret")
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    assert played(sim.respond("POST", "/v1/chat/completions", (), body, NOW))[0] == 401
    held = ((b"authorization", b"Bearer secret"),)
    assert played(sim.respond("POST", "/v1/chat/completions", held, body, NOW))[0] == 200


def test_flags_become_knobs() -> None:
    parser = argparse.ArgumentParser()
    add_knob_flags(parser)
    line = ["--latency", "0.5", "--reset-after", "3", "--no-done", "--garbage", "html"]
    assert knobs_from(parser.parse_args(line)) == Knobs(
        latency=0.5, reset_after=3, no_done=True, garbage="html"
    )
    with pytest.raises(msgspec.ValidationError, match="latency"):
        knobs_from(parser.parse_args(["--latency=-1"]))


# The socket host


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# On trio the client's own async generators are left to the garbage collector, which trio warns of.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.sockets
@pytest.mark.anyio
async def test_the_official_client_is_pleased() -> None:
    async with hosted(demo_providers()) as urls, openai.AsyncOpenAI(api_key="x", base_url=urls[0]) as client:
        said = [{"role": "user", "content": "hi"}]
        plain = await client.chat.completions.create(model="gpt-demo", messages=said)  # type: ignore[arg-type] # a literal's type
        assert "demo-openai" in (plain.choices[0].message.content or "")
        stream = client.chat.completions.stream(model="gpt-demo", messages=said)  # type: ignore[arg-type] # a literal's type
        async with stream as events:
            final = await events.get_final_completion()
        assert final.choices[0].message.content == plain.choices[0].message.content
        assert [model.id async for model in client.models.list()] == ["gpt-demo"]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.chat.completions.create(model="none", messages=said)  # type: ignore[arg-type] # a literal's type


@pytest.mark.sockets
@pytest.mark.anyio
async def test_knobs_change_while_it_runs() -> None:
    async with hosted([provider()]) as urls, httpx2.AsyncClient(trust_env=False) as http:
        knobs = urls[0].removesuffix("/v1") + "/knobs"
        changed = await http.put(knobs, json={"status": 503, "retry_after": 7})
        assert (changed.status_code, changed.json()["status"]) == (200, 503)
        assert (await http.get(knobs)).json() == changed.json()
        wrong = await http.put(knobs, json={"latencies": 1})
        assert (wrong.status_code, "latencies" in wrong.text) == (400, True)
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        failed = await http.post(urls[0] + "/chat/completions", json=body)
        assert (failed.status_code, failed.headers["retry-after"]) == (503, "7")
        await http.put(knobs, json={"status": 0, "reset_after": 0})
        with pytest.raises(httpx2.ReadError):
            await http.post(urls[0] + "/chat/completions", json=body)
        await http.put(knobs, json={"reset_after": 2})
        received = bytearray()
        with pytest.raises(httpx2.ReadError):
            await _collect(http, urls[0], {**body, "stream": True}, received)
        assert received.count(b"data:") == 3


async def _collect(http: httpx2.AsyncClient, url: str, body: dict[str, Any], received: bytearray) -> None:
    async with http.stream("POST", url + "/chat/completions", json=body) as answer:
        async for piece in answer.aiter_bytes():
            received += piece


@pytest.mark.sockets
@pytest.mark.anyio
async def test_a_peer_that_leaves_is_noticed() -> None:
    left, seen = anyio.create_memory_object_stream[str](8)
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with left, seen:
        async with hosted(
            [provider(stall_after=1)], on_departure=lambda who: left.send_nowait(who.name)
        ) as urls:
            port = int(urls[0].removesuffix("/v1").rpartition(":")[2])
            async with await anyio.connect_tcp("127.0.0.1", port) as peer:
                await peer.send(head + body)
                assert (await peer.receive()).startswith(b"HTTP/1.1 200")
            with anyio.fail_after(5):
                assert await seen.receive() == "sim"

"""Cohere's own format, towards providers and towards clients."""

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from strategies import CHUNKS, JSON, TEXT
from wirestream import ENVELOPE, check_chunks, translate

from gwproto.config import Quirks
from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse import Decoder
from gwproto.testing.answers import Answer, Ask, Call, answers
from gwproto.testing.formats.cohere import FORMAT
from gwproto.testing.formats.format import Stamp
from gwproto.values import Usage
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.cohere import DIALECT
from gwproto.wire.conversation import (
    Media,
    options_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.neutral import (
    UNREAD,
    ChatRequest,
    Chunk,
    Completion,
    CompletionChoice,
    Delta,
    EncodedRequest,
    Rendering,
    ToolFragment,
)
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.request import parse_request
from gwproto.wire.openai.stream import encode_chunk

_GOLDENS = json.loads((Path(__file__).parent / "goldens" / "cohere.json").read_text())
STREAMS = {one["name"]: one for one in _GOLDENS if isinstance(one["expected"], list)}
REQUESTS = {one["name"]: one for one in _GOLDENS if isinstance(one["expected"], dict)}


def lines(reads: Iterable[bytes]) -> list[bytes]:
    return translate(reads, dialect=DIALECT)


@pytest.mark.golden
@pytest.mark.parametrize("name", REQUESTS)
def test_request(name: str) -> None:
    golden = REQUESTS[name]
    request = parse_request(golden["input"].encode())
    assert isinstance(request, ChatRequest)
    encoded = DIALECT.encode_request(request, Rendering(model="m"))
    assert encoded.path == "/chat"
    assert encoded.dropped == ("parallel_tool_calls", "user", "store")
    assert json.loads(encoded.body) == golden["expected"]


PLAIN = Rendering(model="up")


def accept(**fields: Any) -> ChatRequest:
    request = parse_request(json.dumps({"messages": [{"role": "user", "content": "Hi"}], **fields}).encode())
    assert isinstance(request, ChatRequest), request
    return request


def encode(rendering: Rendering = PLAIN, **fields: Any) -> tuple[dict[str, Any], EncodedRequest]:
    encoded = DIALECT.encode_request(accept(**fields), rendering)
    body: dict[str, Any] = json.loads(encoded.body)
    FORMAT.decode(encoded.body, encoded.path)  # the service takes it
    return body, encoded


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def test_the_least_request() -> None:
    body, encoded = encode()
    assert body == {"model": "up", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert encoded.dropped == ()


def test_effort_and_configuration_go_last() -> None:
    effort = DIALECT.efforts["low"]
    body, _ = encode(Rendering(model="up", effort=effort, body={"safety_mode": "STRICT", "stream": True}))
    assert body["thinking"] == {"type": "enabled", "token_budget": 1024}
    assert (body["safety_mode"], body["stream"]) == ("STRICT", True)


def test_quirks() -> None:
    quirks = Quirks(drop=frozenset(("temperature", "seed", "tool_choice")))
    body, encoded = encode(
        Rendering(model="up", quirks=quirks), temperature=2, seed=1, tools=[tool("f")], tool_choice="required"
    )
    assert {"temperature", "seed", "tool_choice"}.isdisjoint(body)
    assert set(encoded.dropped) == {"temperature", "seed", "tool_choice"}
    clamped, _ = encode(Rendering(model="up", quirks=Quirks(max_temperature=1.0)), temperature=2)
    assert clamped["temperature"] == 1.0


@pytest.mark.parametrize(
    ("choice", "names", "word"),
    [
        ("auto", ["f", "g"], None),
        ("none", ["f", "g"], "NONE"),
        ("required", ["f", "g"], "REQUIRED"),
        ({"type": "function", "function": {"name": "g"}}, ["g"], "REQUIRED"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("f")]}}, ["f"], None),
    ],
)
def test_tool_choice(choice: object, names: list[str], word: str | None) -> None:
    body, encoded = encode(tools=[tool("f", description="d"), tool("g")], tool_choice=choice)
    assert [one["function"]["name"] for one in body["tools"]] == names
    assert body.get("tool_choice") == word
    assert encoded.dropped == ()


def test_a_choice_of_an_unknown_tool_is_none() -> None:
    body, _ = encode(tools=[tool("f")], tool_choice={"type": "function", "function": {"name": "x"}})
    assert {"tools", "tool_choice"}.isdisjoint(body)


def test_strict_tools() -> None:
    all_strict, _ = encode(tools=[tool("f", strict=True), tool("g", strict=True)])
    assert all_strict["strict_tools"] is True
    assert all("strict" not in one["function"] for one in all_strict["tools"])
    some, _ = encode(tools=[tool("f", strict=True), tool("g")])
    assert "strict_tools" not in some


def test_legacy_functions() -> None:
    body, encoded = encode(functions=[{"name": "f"}], function_call={"name": "f"})
    assert body["tools"] == [tool("f", parameters={"type": "object", "properties": {}})]
    assert body["tool_choice"] == "REQUIRED"
    assert encoded.dropped == ()


def test_json_and_tools_exclude_each_other() -> None:
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    alone, _ = encode(response_format=wanted)
    assert alone["response_format"] == {"type": "json_object", "json_schema": schema}
    free, _ = encode(response_format={"type": "json_object"})
    assert free["response_format"] == {"type": "json_object"}
    beside, encoded = encode(response_format=wanted, tools=[tool("f")])
    assert "response_format" not in beside
    assert encoded.dropped == ()
    said = beside["messages"][0]
    assert said["role"] == "system"
    assert "JSON object alone" in said["content"]
    assert said["content"].endswith(json.dumps(schema))


def test_options_are_brought_into_range() -> None:
    body, encoded = encode(
        top_p=0, top_k=1000, presence_penalty=1.5, frequency_penalty=-0.5, seed=-1, logprobs=True
    )
    assert body["p"] == 0.01
    assert body["k"] == 500
    assert body["presence_penalty"] == 1.0
    assert body["logprobs"] is True
    assert {"frequency_penalty", "seed"}.isdisjoint(body)
    assert set(encoded.dropped) == {"frequency_penalty", "seed"}
    body, encoded = encode(top_p=1, top_k=-1, logprobs=True, top_logprobs=2, min_p=0.1)
    assert (body["p"], body["k"]) == (0.99, 0)
    assert encoded.dropped == ("top_logprobs", "min_p")


CALLS = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]
THOUGHTFUL = [
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A", "reasoning_content": "hm"},
    {"role": "assistant", "content": "", "reasoning_content": "oh"},
    {"role": "assistant", "content": "B", "reasoning_content": "so", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "a", "content": "1"},
]


@pytest.mark.parametrize("replay", [None, "tools", "all", "nothing"])
def test_earlier_reasoning(replay: Any) -> None:
    body, _ = encode(Rendering(model="up", quirks=Quirks(replay=replay)), messages=THOUGHTFUL)
    question, *said, result = body["messages"]
    assert question == {"role": "user", "content": "Q"}
    assert result == {"role": "tool", "tool_call_id": "a", "content": "1"}
    arguments = '{"value":[1]}'
    called = {
        "role": "assistant",
        "content": "B",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}],
    }
    if replay != "nothing":
        called["tool_plan"] = "so"
    if replay == "all":
        thoughts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}]
        alone = [{"type": "thinking", "thinking": "oh"}]
        assert said == [
            {"role": "assistant", "content": thoughts},
            {"role": "assistant", "content": alone},
            called,
        ]
    else:
        assert said == [{"role": "assistant", "content": "A"}, called]


def test_parts() -> None:
    parts = [
        {"type": "text", "text": "A"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "text", "text": "B"},
    ]
    body, _ = encode(messages=[{"role": "user", "content": parts}])
    assert body["messages"][0]["content"] == [parts[0], parts[1], parts[3]]


def parse(document: object) -> ChatRequest:
    request = DIALECT.parse_request(json.dumps(document).encode(), "/v2/chat")
    assert isinstance(request, ChatRequest), request
    return request


def native(**fields: Any) -> ChatRequest:
    return parse({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields})


def field(request: ChatRequest, name: str) -> Any:
    return json.loads(bytes(request.fields[name])) if name in request.fields else None


def test_a_native_request_is_not_streamed_unless_it_says_so() -> None:
    assert not native().stream
    assert native(stream=True).stream
    assert native(stream=True).include_usage


def test_native_fields() -> None:
    request = native(
        max_tokens=5,
        temperature=0.5,
        stop_sequences=["x"],
        k=3,
        p=0.5,
        seed=1,
        logprobs=True,
        tools=[tool("f", parameters={"type": "object"})],
        strict_tools=True,
        tool_choice="REQUIRED",
        safety_mode="STRICT",
        documents=[],
        priority=1,
    )
    assert (request.max_tokens, request.temperature) == (5, 0.5)
    options = options_of(request)
    assert (options.stop, options.top_k, options.top_p, options.seed) == (("x",), 3, 0.5, 1)
    assert [(one.name, one.strict) for one in tools_of(request)] == [("f", True)]
    assert field(request, "tool_choice") == "required"
    assert set(request.fields).isdisjoint(("safety_mode", "priority", "documents", "strict_tools", "k", "p"))
    assert request.needs == {"tools", "logprobs"}


def test_native_fields_that_say_nothing() -> None:
    request = native(tools=[], logprobs=False, response_format={"type": "text"}, seed=None)
    assert set(request.fields) == {"model", "messages", "logprobs", "response_format"}
    assert response_format_of(request) is None


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"type": "disabled"}, "none"),
        ({"type": "enabled"}, "high"),
        ({"type": "enabled", "token_budget": 100}, "low"),
        ({"type": "enabled", "token_budget": 4096}, "medium"),
        ({"type": "enabled", "token_budget": 5000}, "high"),
    ],
)
def test_native_thinking(thinking: object, effort: str) -> None:
    assert native(thinking=thinking).effort == effort


def test_every_effort_is_understood_as_it_was_meant() -> None:
    for level, fields in DIALECT.efforts.items():
        assert native(**fields).effort == level


def test_native_json() -> None:
    wanted = response_format_of(native(response_format={"type": "json_object", "json_schema": {"a": 1}}))
    assert wanted is not None
    assert wanted.schema == Raw(b'{"a":1}')
    assert field(native(response_format={"type": "json_object"}), "response_format") == {
        "type": "json_object"
    }


def test_native_contents() -> None:
    turns = turns_of(
        parse(
            {
                "model": "m",
                "messages": [
                    {"role": "system", "content": [{"type": "text", "text": "S"}]},
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}],
                    },
                    {
                        "role": "assistant",
                        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}],
                    },
                    {"role": "assistant", "tool_plan": "so", "tool_calls": CALLS},
                    {
                        "role": "tool",
                        "tool_call_id": "a",
                        "content": [
                            {"type": "text", "text": "1"},
                            {"type": "document", "document": {"id": "d", "data": {"x": 1}}},
                        ],
                    },
                ],
            }
        )
    )
    assert [turn.text for turn in turns] == ["S", "", "A", "", '1\n{"x": 1}']
    assert [turn.reasoning for turn in turns] == ["", "", "hm", "so", ""]
    assert turns[1].parts == (Media("image", url="https://example.com/a.png"),)
    assert (turns[4].call_id, turns[4].name) == ("a", "f")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_type"),
        (b'{"model":1}', "invalid_type"),
        (b'{"model":"m"}', "invalid_type"),
        (b'{"model":"m","messages":[{"role":"robot","content":"x"}]}', "invalid_type"),
        (b'{"model":"m","messages":[]}', "empty_array"),
        (b'{"model":"m","messages":[{"role":"user"}]}', "invalid_type"),
        (b'{"model":"m","messages":[{"role":"tool","content":"x"}]}', "missing_required_parameter"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (
            b'{"model":"m","messages":[{"role":"user","content":"x"}],"documents":["d"]}',
            "unsupported_parameter",
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":3}',
            "decimal_above_max_value",
        ),
        (b'{"model":"m","documents":' + b"[" * 3000 + b"]" * 3000 + b"}", "invalid_json"),
    ],
)
def test_refused_requests(body: bytes, code: str) -> None:
    failure = DIALECT.parse_request(body, "")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.type) == (
        FailureClass.INVALID,
        400,
        "invalid_request_error",
    )
    assert failure.code == code
    assert 0 < len(failure.message) <= 300


def test_invalid_utf8_in_a_document_is_repaired() -> None:
    content = b'[{"type":"document","document":{"data":"\xff"}}]'
    body = b'{"model":"m","messages":[{"role":"tool","tool_call_id":"a","content":%s}]}' % content
    request = DIALECT.parse_request(body, "")
    assert isinstance(request, ChatRequest)
    assert turns_of(request)[0].text == '"\ufffd"'


# What the format can say of OpenAI's requests.
NAMES = st.sampled_from(("f", "g", "h"))
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
SAID = TEXT.filter(bool)
PARTS = st.sampled_from(
    (
        {"type": "text", "text": "A"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
    )
)


@st.composite
def exchanges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few messages that belong together."""
    kind = draw(st.sampled_from(("text", "parts", "answer", "calls")))
    if kind == "text":
        return [{"role": draw(st.sampled_from(("system", "developer", "user"))), "content": draw(TEXT)}]
    if kind == "parts":
        return [{"role": "user", "content": draw(st.lists(PARTS, min_size=1, max_size=3))}]
    thought = {"reasoning_content": draw(SAID)} if draw(st.booleans()) else {}
    if kind == "answer":
        return [{"role": "assistant", "content": draw(SAID), **thought}]
    names = draw(st.lists(NAMES, min_size=1, max_size=3))
    calls = [
        {
            "id": f"id{n}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(draw(OBJECTS))},
        }
        for n, name in enumerate(names)
    ]
    content = draw(st.none() | SAID)
    results = [{"role": "tool", "tool_call_id": f"id{n}", "content": draw(TEXT)} for n in range(len(names))]
    return [{"role": "assistant", "content": content, "tool_calls": calls, **thought}, *results]


SCHEMAS = st.dictionaries(TEXT, JSON, min_size=1, max_size=2)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 1000),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0.01, 0.99),
    "top_k": st.integers(0, 500),
    "seed": st.integers(0, 2**31),
    "presence_penalty": st.floats(0, 1),
    "frequency_penalty": st.floats(0, 1),
    "stop": SAID | st.lists(SAID, min_size=1, max_size=4),
    "stream": st.booleans(),
    "logprobs": st.booleans(),
}
FORMATS = st.just({"type": "json_object"}) | SCHEMAS.map(
    lambda schema: {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
)


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    body = draw(st.fixed_dictionaries({}, optional=OPTIONS))
    body["messages"] = list(chain(*draw(st.lists(exchanges(), min_size=1, max_size=4))))
    names = draw(st.lists(NAMES, unique=True))
    strict = draw(st.booleans())
    if names:
        body["tools"] = [
            tool(name, description=draw(TEXT), parameters=draw(OBJECTS), strict=strict) for name in names
        ]
        body["tool_choice"] = draw(st.sampled_from(("auto", "none", "required")))
    elif draw(st.booleans()):
        body["response_format"] = draw(FORMATS)
    return accept(**body)


def meaning(request: ChatRequest) -> list[Any]:
    """What a request says, in values that compare."""
    turns = []
    for turn in turns_of(request):
        calls = [(call.id, call.name, json.loads(call.arguments)) for call in turn.calls]
        turns.append((turn.role, turn.parts, calls, turn.call_id, turn.name, turn.reasoning))
    choice = tool_choice_of(request)
    mode = "auto" if choice is None else choice.mode
    tools = [
        (one.name, one.description, json.loads(bytes(one.parameters or b"")), one.strict)
        for one in tools_of(request)
    ]
    wanted = response_format_of(request)
    schema = wanted and wanted.schema and json.loads(bytes(wanted.schema))
    return [turns, tools, mode, wanted is not None, schema, options_of(request), request.stream]


@given(requests())
def test_requests_keep_their_meaning(request_: ChatRequest) -> None:
    encoded = DIALECT.encode_request(request_, Rendering(model="up", quirks=Quirks(replay="all")))
    assert encoded.dropped == ()
    again = DIALECT.parse_request(encoded.body, encoded.path)
    assert isinstance(again, ChatRequest), again
    assert again.model == "up"
    assert meaning(again) == meaning(request_)


def normalised(chunks: Iterable[Chunk]) -> list[Chunk]:
    normaliser = Normaliser(include_usage=True)
    out = [one for chunk in chunks for one in normaliser.receive(chunk)]
    assert normaliser.failure is None
    return [*out, *normaliser.end(complete=True)]


def decoded(stream: bytes) -> list[Chunk]:
    decode = DIALECT.stream_decoder(UNREAD)
    return [decode(frame.data) for frame in Decoder().receive(stream)]


def usage_of(prompt: int, completion: int, cached: int | None) -> Usage:
    return Usage(prompt, completion, prompt + completion, cached)


USAGES = st.none() | st.builds(usage_of, st.integers(1, 9), st.integers(0, 9), st.none() | st.integers(0, 9))


@given(st.lists(CHUNKS, max_size=6), USAGES)
def test_streams_keep_their_meaning(chunks: list[Chunk], usage: Usage | None) -> None:
    said = normalised([*chunks, Chunk((Delta(content="!"),), usage=usage)])
    encode_ = DIALECT.stream_encoder(ENVELOPE)
    stream = b"".join(map(encode_, [*said, Chunk(done=True)]))
    again = normalised(decoded(stream))
    check_chunks(again, complete=True)
    check_answer(assemble(again), assemble(said), said)


def check_answer(answer: Completion, original: Completion, said: Iterable[Chunk] = ()) -> None:
    """Are these the same, as far as the format can say it: the first choice, refusals as text?"""
    (choice,), first = answer.choices, original.choices[0]
    deltas = [delta for chunk in said for delta in chunk.deltas if delta.choice == 0]
    texts = [(delta.content or "") + (delta.refusal or "") for delta in deltas]
    assert choice.content == ("".join(texts) if said else first.content)
    assert choice.reasoning == first.reasoning
    assert [(call.id, call.name or "", call.arguments) for call in choice.tools] == [
        (call.id, call.name or "", call.arguments) for call in first.tools
    ]
    assert choice.finish == first.finish
    assert answer.usage == original.usage
    assert answer.id == ENVELOPE.id


LOGPROBS = Raw(b'{"content":[{"token":"A","logprob":-0.5,"bytes":[65],"top_logprobs":[]}],"refusal":null}')
ANSWERS = [
    CompletionChoice(content="A\n\u2028"),
    CompletionChoice(content="A", reasoning="hm", finish="length"),
    CompletionChoice(reasoning="hm", finish="content_filter"),
    CompletionChoice(content="A", choice_extra={"logprobs": LOGPROBS}),
    CompletionChoice(
        tools=(ToolFragment(0, "a", "f", '{"x":\n1}'), ToolFragment(1, "b", "f", "{}")), finish="tool_calls"
    ),
]


@pytest.mark.parametrize("choice", ANSWERS)
@pytest.mark.parametrize("usage", [None, Usage(3, 4, 7), Usage(3, 4, 7, 0)])
def test_answers_keep_their_meaning(choice: CompletionChoice, usage: Usage | None) -> None:
    original = Completion((choice,), usage=usage)
    again = DIALECT.decode_completion(DIALECT.encode_completion(original, ENVELOPE), UNREAD)
    assert isinstance(again, Completion)
    check_answer(again, original)
    assert again.choices[0].choice_extra == choice.choice_extra
    encode_ = DIALECT.stream_encoder(ENVELOPE)
    streamed = assemble(normalised(decoded(b"".join(map(encode_, to_chunks(original))))))
    check_answer(streamed, original)
    assert streamed.choices[0].choice_extra == choice.choice_extra


def written(chunks: Iterable[Chunk]) -> list[Any]:
    """The types of the events, each with what is in its message."""
    encode_ = DIALECT.stream_encoder(ENVELOPE)
    out: list[Any] = []
    for frame in Decoder().receive(b"".join(map(encode_, chunks))):
        if frame.data == b"[DONE]":
            out.append("[DONE]")
            continue
        event = json.loads(frame.data)
        assert event["type"] == frame.event
        out.append((frame.event, event.get("index"), event.get("delta", {}).get("message")))
    return out


def test_what_a_client_gets() -> None:
    def content(**said: str) -> dict[str, Any]:
        return {"content": said}

    def calls(**call: Any) -> dict[str, Any]:
        return {"tool_calls": call}

    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    chunks = [
        Chunk((Delta(role=True),)),
        Chunk((Delta(reasoning="hm"),)),
        Chunk((Delta(content="A"), Delta(1, content="B"))),
        Chunk((Delta(content="C"),)),
        Chunk((Delta(tools=(ToolFragment(0, "a", "f", "{"),)),)),
        Chunk((Delta(tools=(ToolFragment(0, arguments="}"), ToolFragment(1, "b", "g", "{}"))),)),
        Chunk((Delta(finish="tool_calls"),)),
        Chunk(done=True),
    ]
    f, g = {"name": "f", "arguments": ""}, {"name": "g", "arguments": ""}
    assert written(chunks) == [
        ("message-start", None, empty),
        ("content-start", 0, content(type="thinking", thinking="")),
        ("content-delta", 0, content(thinking="hm")),
        ("content-end", 0, None),
        ("content-start", 1, content(type="text", text="")),
        ("content-delta", 1, content(text="A")),
        ("content-delta", 1, content(text="C")),
        ("content-end", 1, None),
        ("tool-call-start", 0, calls(id="a", type="function", function=f)),
        ("tool-call-delta", 0, calls(function={"arguments": "{"})),
        ("tool-call-delta", 0, calls(function={"arguments": "}"})),
        ("tool-call-end", 0, None),
        ("tool-call-start", 1, calls(id="b", type="function", function=g)),
        ("tool-call-delta", 1, calls(function={"arguments": "{}"})),
        ("tool-call-end", 1, None),
        ("message-end", None, None),
        "[DONE]",
    ]
    assert DIALECT.encode_error(404, "Not here.", "t", "c", None) == b'{"message":"Not here."}'


def test_log_probabilities_go_with_their_text() -> None:
    frames = Decoder().receive(STREAMS["logprobs"]["input"].encode())
    decode = DIALECT.stream_decoder(UNREAD)
    assert [delta for frame in frames for delta in decode(frame.data).deltas if delta.choice_extra] == [
        Delta(content="A", choice_extra={"logprobs": LOGPROBS})
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FailureClass.EMPTY),
        (b"  \n", FailureClass.EMPTY),
        (b"{}", FailureClass.EMPTY),
        (b'{"id":"x","message":{}}', FailureClass.EMPTY),
        (b"<html><title>502</title>Bad gateway</html>", FailureClass.SERVER),
        (b'{"message":{"content":"A"},"fini', FailureClass.SERVER),
        (b'{"id":"x","message":"internal server error"}', FailureClass.SERVER),
        (b'{"message":{"content":[]},"finish_reason":"TIMEOUT"}', FailureClass.TIMEOUT),
        (b"[" * 500, FailureClass.SERVER),
        (b'{"message":' + b"[" * 500, FailureClass.SERVER),
        (bytes(range(256)), FailureClass.SERVER),
    ],
)
def test_what_is_no_answer(body: bytes, kind: FailureClass) -> None:
    failure = DIALECT.decode_completion(body, UNREAD)
    assert isinstance(failure, Failure), failure
    assert failure.kind is kind


def test_a_tool_call_that_is_none() -> None:
    decode = DIALECT.stream_decoder(UNREAD)
    assert decode(b'{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":null}}}') == Chunk()


def test_an_event_of_nothing() -> None:
    assert DIALECT.stream_decoder(UNREAD)(b" ") == Chunk()


def test_odd_answers() -> None:
    answer = DIALECT.decode_completion(
        b'{"id":7,"message":{"content":"A\xff","tool_plan":"so","tool_calls":[{"function":{"name":7}},1]},'
        b'"logprobs":[1,{"text":"A"}],"usage":{"tokens":null}}',
        UNREAD,
    )
    assert isinstance(answer, Completion)
    (choice,) = answer.choices
    assert (choice.content, choice.reasoning, choice.finish) == ("A\ufffd", "so", "stop")
    assert (choice.tools, choice.choice_extra, answer.usage) == ((), {}, None)


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (401, "invalid api token", FailureClass.AUTH),
        (404, "model 'm' not found, make sure the correct model ID was used", FailureClass.MODEL_GONE),
        (422, "invalid request: p must be at most 0.99", FailureClass.INVALID),
        (
            429,
            "You are using a Trial key, which is limited to 20 API calls / minute.",
            FailureClass.RATE_MINUTE,
        ),
        (
            429,
            "You are using a Trial key, which is limited to 1000 API calls / month.",
            FailureClass.RATE_DAY,
        ),
        (500, "internal server error", FailureClass.SERVER),
        (504, "gateway timeout", FailureClass.TIMEOUT),
    ],
)
def test_errors(status: int, words: str, kind: FailureClass) -> None:
    body = DIALECT.encode_error(status, words, "t", None, None)
    failure = DIALECT.decode_error(status, (), body, UNREAD)
    assert (failure.kind, failure.message) == (kind, words)


@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize(
    "ask",
    [
        Ask(model="m", text="Hi", stream=True),
        Ask(model="m", text="Hi", effort="high", max_tokens=20),
        Ask(model="m", text="Hi", logprobs=True),
    ],
)
def test_the_service_is_understood(ask: Ask, words: int) -> None:
    check_service(ask, answers(ask, "p")[0], words)


def test_calls_of_the_service_are_understood() -> None:
    calls = (Call("f", '{"x":1}'), Call("f", "{}"))
    check_service(Ask(model="m", text="Hi"), Answer(reasoning=("hm",), calls=calls, finish="tool_calls"), 1)


def check_service(ask: Ask, answer: Answer, words: int) -> None:
    stamp = Stamp("0123456789abcdef", 1, "m")
    whole = DIALECT.decode_completion(FORMAT.whole(ask, (answer,), stamp), UNREAD)
    assert isinstance(whole, Completion)
    (choice,) = whole.choices
    assert (choice.content or "", choice.reasoning or "") == (answer.text, "".join(answer.reasoning))
    assert [(call.name, call.arguments) for call in choice.tools] == [
        (call.name, call.arguments) for call in answer.calls
    ]
    assert choice.finish == answer.finish
    assert ("logprobs" in choice.choice_extra) is ask.logprobs
    stream = FORMAT.stream(ask, (answer,), stamp, words)
    data = b"".join((*stream.preamble, *stream.content, *stream.finish, *stream.usage, stream.done))
    (streamed,) = assemble(normalised(decoded(data))).choices
    assert (streamed.content, streamed.reasoning, streamed.tools, streamed.finish) == (
        choice.content,
        choice.reasoning,
        choice.tools,
        choice.finish,
    )


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with something else somewhere in it."""
    if not value or not isinstance(value, (dict, list)) or draw(st.integers(0, 4)) == 0:
        return draw(JSON | st.sampled_from(("f", 0, 1, -1, 1e300, True, {}, [], "ERROR", "content-delta")))
    key: Any = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    copy: Any = value.copy()
    copy[key] = draw(mutated(value[key]))
    return copy


EVENTS = [
    json.loads(frame.data)
    for one in STREAMS.values()
    for frame in Decoder().receive(one["input"].encode())
    if frame.data.startswith(b"{")
]
BAD_EVENTS = st.lists(
    st.sampled_from(EVENTS).flatmap(mutated).map(json.dumps).map(str.encode) | st.binary(), max_size=4
)


@given(BAD_EVENTS)
def test_any_stream_is_survived(stream: list[bytes]) -> None:
    decode = DIALECT.stream_decoder(UNREAD)
    normaliser = Normaliser(include_usage=True)
    for data in stream:
        try:
            chunk = decode(data)
        except WireError:
            continue
        for one in normaliser.receive(chunk):
            json.loads(encode_chunk(one, ENVELOPE)[6:])


WHOLE = {
    "id": "x",
    "finish_reason": "COMPLETE",
    "message": {
        "role": "assistant",
        "tool_plan": "so",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}],
        "tool_calls": CALLS,
    },
    "usage": {"tokens": {"input_tokens": 1, "output_tokens": 2}, "billed_units": {}, "cached_tokens": 1},
    "logprobs": [{"text": "A", "token_ids": [1], "logprobs": [-0.5]}],
}


@given(mutated(WHOLE).map(json.dumps).map(str.encode) | st.binary())
def test_any_body_is_survived(body: bytes) -> None:
    answer = DIALECT.decode_completion(body, UNREAD)
    if isinstance(answer, Completion):
        DIALECT.encode_completion(answer, ENVELOPE)


NATIVE = [
    REQUESTS["request"]["expected"],
    {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "thinking": {"type": "enabled", "token_budget": 5},
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "logprobs": True,
        "presence_penalty": 0.5,
    },
]


@given(st.sampled_from(NATIVE).flatmap(mutated).map(json.dumps).map(str.encode) | st.binary())
def test_any_request_is_survived(body: bytes) -> None:
    request = DIALECT.parse_request(body, "")
    if isinstance(request, ChatRequest):
        DIALECT.encode_request(request, Rendering(model="m"))
    else:
        assert request.kind is FailureClass.INVALID

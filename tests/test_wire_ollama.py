"""Ollama's own format, towards providers and towards clients."""

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
from gwproto.testing.answers import Answer, Ask, Call, answers
from gwproto.testing.formats.format import Stamp
from gwproto.testing.formats.ollama import FORMAT
from gwproto.values import Usage
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.conversation import (
    Media,
    arguments_object,
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
from gwproto.wire.ollama import DIALECT
from gwproto.wire.openai.request import parse_request
from gwproto.wire.openai.stream import encode_chunk

_GOLDENS = json.loads((Path(__file__).parent / "goldens" / "ollama.json").read_text())
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
    assert encoded.path == "/api/chat"
    assert encoded.dropped == ("parallel_tool_calls", "user", "store", "tool_choice")
    assert json.loads(encoded.body) == golden["expected"]


def accept(**fields: Any) -> ChatRequest:
    request = parse_request(json.dumps({"messages": [{"role": "user", "content": "Hi"}], **fields}).encode())
    assert isinstance(request, ChatRequest), request
    return request


PLAIN = Rendering(model="up")


def encode(rendering: Rendering = PLAIN, **fields: Any) -> tuple[dict[str, Any], EncodedRequest]:
    encoded = DIALECT.encode_request(accept(**fields), rendering)
    body: dict[str, Any] = json.loads(encoded.body)
    FORMAT.decode(encoded.body, encoded.path)  # a real server takes it
    return body, encoded


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def test_the_least_request() -> None:
    body, encoded = encode()
    assert body == {"model": "up", "stream": False, "messages": [{"role": "user", "content": "Hi"}]}
    assert encoded.dropped == ()


def test_effort_and_configuration_go_last() -> None:
    effort = DIALECT.efforts["low"]
    rendering = Rendering(
        model="up", effort=effort, body={"options": {"num_ctx": 8192}, "keep_alive": "5m", "stream": True}
    )
    body, _ = encode(rendering, temperature=0.5)
    assert body["think"] is True
    assert body["options"] == {"temperature": 0.5, "num_ctx": 8192}
    assert (body["keep_alive"], body["stream"]) == ("5m", True)
    assert DIALECT.efforts["none"] == {"think": False}


def test_quirks() -> None:
    quirks = Quirks(drop=frozenset(("temperature", "seed", "max_tokens", "tool_choice")), max_temperature=1.0)
    rendering = Rendering(model="up", quirks=quirks)
    body, encoded = encode(
        rendering, temperature=2, seed=1, max_tokens=5, top_p=0.5, tools=[tool("f")], tool_choice="required"
    )
    assert body["options"] == {"top_p": 0.5}
    assert set(encoded.dropped) == {"temperature", "seed", "max_tokens", "tool_choice"}
    clamped, _ = encode(Rendering(model="up", quirks=Quirks(max_temperature=1.0)), temperature=2)
    assert clamped["options"] == {"temperature": 1.0}
    limited, _ = encode(rendering, max_completion_tokens=5)
    assert limited["options"] == {"num_predict": 5}


@pytest.mark.parametrize(
    ("choice", "names", "dropped"),
    [
        ("auto", ["f", "g"], ()),
        ("none", None, ()),
        ("required", ["f", "g"], ("tool_choice",)),
        ({"type": "function", "function": {"name": "g"}}, ["g"], ("tool_choice",)),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("f")]}}, ["f"], ()),
    ],
)
def test_tool_choice(choice: object, names: list[str] | None, dropped: tuple[str, ...]) -> None:
    body, encoded = encode(tools=[tool("f", description="d"), tool("g")], tool_choice=choice)
    shown = [one["function"]["name"] for one in body["tools"]] if "tools" in body else None
    assert shown == names
    assert encoded.dropped == dropped


def test_legacy_functions() -> None:
    body, encoded = encode(functions=[{"name": "f"}], function_call={"name": "f"})
    assert body["tools"] == [tool("f", parameters={"type": "object", "properties": {}})]
    assert encoded.dropped == ("function_call",)


def test_other_fields() -> None:
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body, encoded = encode(response_format=wanted, logprobs=True, top_logprobs=2, top_k=5, min_p=0.1)
    assert (body["format"], body["logprobs"], body["top_logprobs"]) == (schema, True, 2)
    assert body["options"] == {"top_k": 5}
    assert encoded.dropped == ("min_p",)
    body, _ = encode(response_format={"type": "json_object"}, logprobs=True)
    assert body["format"] == "json"
    assert "top_logprobs" not in body


THOUGHTFUL = [
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A", "reasoning_content": "hm"},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "so",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "a", "content": "1"},
]


@pytest.mark.parametrize(
    ("replay", "thought"), [(None, ["hm", "so"]), ("all", ["hm", "so"]), ("tools", ["so"]), ("nothing", [])]
)
def test_earlier_reasoning(replay: Any, thought: list[str]) -> None:
    body, _ = encode(Rendering(model="up", quirks=Quirks(replay=replay)), messages=THOUGHTFUL)
    assert [message["thinking"] for message in body["messages"] if "thinking" in message] == thought


def test_attachments_without_words_are_left_out() -> None:
    parts = [
        {"type": "text", "text": "A"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "text", "text": "B"},
    ]
    body, _ = encode(messages=[{"role": "user", "content": parts}])
    assert body["messages"] == [{"role": "user", "content": "A\nB"}]


def parse(document: object) -> ChatRequest:
    request = DIALECT.parse_request(json.dumps(document).encode(), "/api/chat")
    assert isinstance(request, ChatRequest), request
    return request


def native(**fields: Any) -> ChatRequest:
    return parse({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields})


def field(request: ChatRequest, name: str) -> Any:
    return json.loads(bytes(request.fields[name])) if name in request.fields else None


def test_a_native_request_is_streamed_unless_it_says_no() -> None:
    assert native().stream
    assert native().include_usage
    assert native(stream=None).stream
    assert not native(stream=False).stream


def test_native_fields() -> None:
    request = native(
        options={"num_predict": 5, "temperature": 0.5, "stop": ["x"], "num_ctx": 1, "top_k": 3, "seed": None},
        think="high",
        format="json",
        logprobs=True,
        top_logprobs=2,
        tools=[tool("f", parameters={"type": "object"})],
        keep_alive="5m",
    )
    assert (request.max_tokens, request.temperature, request.effort) == (5, 0.5, "high")
    assert options_of(request).stop == ("x",)
    assert options_of(request).top_k == 3
    assert options_of(request).top_logprobs == 2
    assert field(request, "response_format") == {"type": "json_object"}
    assert set(request.fields).isdisjoint(("options", "think", "format", "keep_alive", "num_ctx", "seed"))
    assert request.needs == {"tools", "json", "logprobs"}


def test_native_fields_that_say_nothing() -> None:
    request = native(options={"num_predict": -1}, tools=[], format="", think=None, logprobs=False)
    assert set(request.fields) == {"model", "messages", "stream", "stream_options"}
    assert native(options=None).max_tokens is None


@pytest.mark.parametrize(("think", "effort"), [(True, "medium"), (False, "none"), ("low", "low")])
def test_native_thinking(think: object, effort: str) -> None:
    assert native(think=think).effort == effort


def test_native_schema() -> None:
    wanted = response_format_of(native(format={"type": "object"}))
    assert wanted is not None
    assert wanted.schema == Raw(b'{"type":"object"}')


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        ("iVBO", "image/png"),
        ("/9j/4A", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGRg", "image/webp"),
        ("AAAA", "image/png"),
    ],
)
def test_native_images(data: str, media_type: str) -> None:
    (with_text,) = turns_of(
        parse({"model": "m", "messages": [{"role": "user", "content": "Q", "images": [data]}]})
    )
    assert with_text.parts == ("Q", Media("image", media_type, data))
    (alone,) = turns_of(parse({"model": "m", "messages": [{"role": "user", "images": [data]}]}))
    assert alone.parts == (Media("image", media_type, data),)


def test_native_tools_are_answered_by_id_name_or_order() -> None:
    def call(name: str, **more: Any) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {}}, **more}

    request = parse(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "Q"},
                {
                    "role": "assistant",
                    "thinking": "hm",
                    "tool_calls": [call("f"), call("g"), call("f", id="c")],
                },
                {"role": "tool", "content": "3", "tool_call_id": "c"},
                {"role": "tool", "content": "2", "tool_name": "g"},
                {"role": "tool", "content": "1"},
                {"role": "tool", "content": "?", "tool_name": "h"},
                {"role": "tool", "content": "?"},
            ],
        }
    )
    turns = turns_of(request)
    assert turns[1].reasoning == "hm"
    assert [call.id for call in turns[1].calls] == ["call_1_0", "call_1_1", "c"]
    assert [(turn.call_id, turn.name, turn.text) for turn in turns[2:]] == [
        ("c", "f", "3"),
        ("call_1_1", "g", "2"),
        ("call_1_0", "f", "1"),
        ("call_5", "h", "?"),
        ("call_6", "", "?"),
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_type"),
        (b'{"model":1}', "invalid_type"),
        (b'{"messages":[{"content":"x"}]}', "invalid_type"),
        (
            b'{"messages":[{"role":"user","content":"x","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]}',
            "invalid_type",
        ),
        (b'{"messages":[]}', "empty_array"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (b'{"messages":[{"role":"user","content":"x"}],"format":{"a":"\xff"}}', "invalid_json"),
        (b'{"messages":[{"role":"user","content":"x"}],"options":{"temperature":"hot"}}', "invalid_type"),
        (b'{"messages":[{"role":"user","content":"x"}],"options":{"num_predict":"x"}}', "invalid_type"),
        (b'{"messages":[{"role":"user","content":"x"}],"think":"very"}', "invalid_value"),
        (b'{"format":' + b"[" * 3000 + b"]" * 3000 + b"}", "invalid_type"),
        (
            b'{"format":{"a":' + b"[" * 200 + b"]" * 200 + b'},"messages":[{"role":"user","content":"x"}]}',
            "invalid_json",
        ),
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


# What the format can say of OpenAI's requests.
NAMES = st.sampled_from(("f", "g", "h"))
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
SAID = TEXT.filter(bool)
IMAGES = st.sampled_from(
    ("data:image/png;base64,iVBO", "data:image/jpeg;base64,/9j/", "data:image/webp;base64,UklG")
)


@st.composite
def exchanges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few messages that belong together."""
    kind = draw(st.sampled_from(("text", "image", "answer", "calls")))
    if kind == "text":
        return [{"role": draw(st.sampled_from(("system", "developer", "user"))), "content": draw(TEXT)}]
    if kind == "image":
        parts = [{"type": "text", "text": draw(SAID)}] * draw(st.integers(0, 1))
        images = [
            {"type": "image_url", "image_url": {"url": url}}
            for url in draw(st.lists(IMAGES, min_size=1, max_size=2))
        ]
        return [{"role": "user", "content": [*parts, *images]}]
    thought = {"reasoning_content": draw(SAID)} if draw(st.booleans()) else {}
    if kind == "answer":
        return [{"role": "assistant", "content": draw(TEXT), **thought}]
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
    "top_p": st.floats(0, 1),
    "top_k": st.integers(0, 100),
    "seed": st.integers(-(2**31), 2**31),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "stop": SAID | st.lists(SAID, min_size=1, max_size=4),
    "stream": st.booleans(),
    "response_format": st.just({"type": "json_object"})
    | SCHEMAS.map(
        lambda schema: {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    ),
}


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    body = draw(st.fixed_dictionaries({}, optional=OPTIONS))
    body["messages"] = list(chain(*draw(st.lists(exchanges(), min_size=1, max_size=4))))
    names = draw(st.lists(NAMES, unique=True))
    body["tools"] = [tool(name, description=draw(TEXT), parameters=draw(OBJECTS)) for name in names]
    choice = draw(st.sampled_from((None, "auto", "none")))
    if names and choice:
        body["tool_choice"] = choice
    if draw(st.booleans()):
        body |= {"logprobs": True, "top_logprobs": draw(st.integers(1, 20))}
    return accept(**body)


def meaning(request: ChatRequest) -> list[Any]:
    """What a request says, in values that compare. Calls are known by their order alone."""
    turns = []
    for turn in turns_of(request):
        calls = [(call.name, json.loads(call.arguments)) for call in turn.calls]
        images = [part for part in turn.parts if isinstance(part, Media)]
        turns.append((turn.role, turn.text, images, calls, turn.name, turn.reasoning))
    choice = tool_choice_of(request)
    unusable = choice is not None and choice.mode == "none"
    tools = (
        []
        if unusable
        else [
            (one.name, one.description, json.loads(bytes(one.parameters or b""))) for one in tools_of(request)
        ]
    )
    wanted = response_format_of(request)
    schema = wanted and wanted.schema and json.loads(bytes(wanted.schema))
    return [turns, tools, wanted is not None, schema, options_of(request), request.stream]


@given(requests())
def test_requests_keep_their_meaning(request_: ChatRequest) -> None:
    encoded = DIALECT.encode_request(request_, Rendering(model="up"))
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
    return [decode(line) for line in stream.splitlines()]


USAGES = st.none() | st.builds(lambda a, b: Usage(a, b, a + b), st.integers(1, 9), st.integers(0, 9))


@given(st.lists(CHUNKS, max_size=6), USAGES)
def test_streams_keep_their_meaning(chunks: list[Chunk], usage: Usage | None) -> None:
    said = normalised([*chunks, Chunk((Delta(content="!"),), usage=usage)])
    encode_ = DIALECT.stream_encoder(ENVELOPE)
    stream = b"".join(map(encode_, [*said, Chunk(done=True)]))
    assert stream.count(b"\n") == len(stream.splitlines())
    again = normalised(decoded(stream))
    check_chunks(again, complete=True)
    check_answer(assemble(again), assemble(said), said)


def check_answer(answer: Completion, original: Completion, said: Iterable[Chunk] = ()) -> None:
    """Are these the same, as far as the format can say it: the first choice, refusals as text, JSON arguments?"""
    (choice,), first = answer.choices, original.choices[0]
    deltas = [delta for chunk in said for delta in chunk.deltas if delta.choice == 0]
    texts = [(delta.content or "") + (delta.refusal or "") for delta in deltas]
    assert choice.content == ("".join(texts) if said else first.content)
    assert choice.reasoning == first.reasoning
    named = [call for call in first.tools if call.name]
    assert [(call.id, call.name, json.loads(call.arguments)) for call in choice.tools] == [
        (call.id, call.name, json.loads(bytes(arguments_object(call.arguments)))) for call in named
    ]
    reason = "stop" if first.finish == "tool_calls" else first.finish
    assert choice.finish == ("tool_calls" if reason == "stop" and choice.tools else reason)
    assert answer.usage == original.usage
    assert answer.model == ENVELOPE.model


LOGPROBS = Raw(
    b'{"content":[{"token":"A","logprob":-0.5,"bytes":[65],"top_logprobs":[{"token":"B","logprob":-1.0,"bytes":null}]}],"refusal":null}'
)
ANSWERS = [
    CompletionChoice(content="A\n\u2028"),
    CompletionChoice(content="A", reasoning="hm", finish="length"),
    CompletionChoice(reasoning="hm", finish="content_filter"),
    CompletionChoice(content="A", choice_extra={"logprobs": LOGPROBS}),
    CompletionChoice(
        tools=(
            ToolFragment(0, "a", "f", '{"x":\n1}'),
            ToolFragment(1, "b", "f", "{}"),
        ),
        finish="tool_calls",
    ),
]


@pytest.mark.parametrize("choice", ANSWERS)
@pytest.mark.parametrize("usage", [None, Usage(3, 4, 7)])
def test_answers_keep_their_meaning(choice: CompletionChoice, usage: Usage | None) -> None:
    original = Completion((choice,), usage=usage)
    again = DIALECT.decode_completion(DIALECT.encode_completion(original, ENVELOPE), UNREAD)
    assert isinstance(again, Completion)
    check_answer(again, original)
    assert again.choices[0].choice_extra == choice.choice_extra
    encode_ = DIALECT.stream_encoder(ENVELOPE)
    stream = b"".join(map(encode_, to_chunks(original)))
    check_answer(assemble(normalised(decoded(stream))), original)
    from_lines = DIALECT.decode_completion(stream, UNREAD)
    assert isinstance(from_lines, Completion)
    check_answer(from_lines, original)
    assert from_lines.choices[0].choice_extra == choice.choice_extra


def test_what_a_client_gets() -> None:
    encode_ = DIALECT.stream_encoder(ENVELOPE)
    head = {"model": "m", "created_at": "1970-01-01T00:00:01Z"}

    def written(chunk: Chunk) -> list[Any]:
        return [json.loads(line) for line in encode_(chunk).splitlines()]

    assert written(Chunk((Delta(role=True),))) == []
    assert written(Chunk((Delta(content="A"), Delta(1, content="B")))) == [
        {**head, "message": {"role": "assistant", "content": "A"}, "done": False}
    ]
    assert written(Chunk((Delta(tools=(ToolFragment(0, "a", "f", '{"x"'),)),))) == []
    assert written(Chunk((Delta(tools=(ToolFragment(0, arguments=":1}"),)),))) == []
    call = {"id": "a", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    assert written(Chunk((Delta(finish="tool_calls"),))) == [
        {**head, "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False}
    ]
    assert written(Chunk(usage=Usage(3, 4, 7))) == []
    assert written(Chunk(done=True)) == [
        {
            **head,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 3,
            "eval_count": 4,
        }
    ]
    assert DIALECT.encode_error(404, "Not here.", "t", "c", None) == b'{"error":"Not here."}'


def test_logprobs_that_are_none_are_left_out() -> None:
    decode = DIALECT.stream_decoder(UNREAD)
    chunk = decode(b'{"message":{"content":"A"},"logprobs":[{"token":"A"}],"done":false}')
    assert chunk.deltas == (Delta(content="A"),)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FailureClass.EMPTY),
        (b"  \n", FailureClass.EMPTY),
        (b"{}", FailureClass.EMPTY),
        (b'{"message":{},"done":true}', FailureClass.EMPTY),
        (b"<html><title>502</title>Bad gateway</html>", FailureClass.SERVER),
        (b'{"message":{"content":"A"},"done"', FailureClass.SERVER),
        (b'{"message":{"content":"A"},"done":false}', FailureClass.TRUNCATED),
        (b'{"message":{"content":"A"},"done":false}\n{"mess', FailureClass.SERVER),
        (b'{"message":{"content":"A"},"done":false}\n{"error":"server busy"}\n', FailureClass.OVERLOADED),
        (b'{"message":{"content":""},"done":true,"done_reason":"unload"}', FailureClass.OVERLOADED),
        (b'{"error":"something broke"}', FailureClass.SERVER),
        (b'{"message":"something broke"}', FailureClass.SERVER),
        (b"[" * 500, FailureClass.SERVER),
        (b'{"message":' + b"[" * 500, FailureClass.SERVER),
        (bytes(range(256)), FailureClass.SERVER),
    ],
)
def test_what_is_no_answer(body: bytes, kind: FailureClass) -> None:
    failure = DIALECT.decode_completion(body, UNREAD)
    assert isinstance(failure, Failure), failure
    assert failure.kind is kind


def test_invalid_utf8_in_a_body_is_repaired() -> None:
    answer = DIALECT.decode_completion(b'{\n"message":{"content":"A\xff"},\n"done":true}', UNREAD)
    assert isinstance(answer, Completion)
    assert answer.choices == (CompletionChoice(content="A\ufffd"),)


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, '"m" does not support tools', FailureClass.INVALID),
        (403, "this model requires a subscription, upgrade for access", FailureClass.FORBIDDEN),
        (404, 'model "m" not found, try pulling it first', FailureClass.MODEL_GONE),
        (410, "m was retired", FailureClass.MODEL_GONE),
        (503, "server busy, please try again.  maximum pending requests exceeded", FailureClass.OVERLOADED),
        (500, "an error was encountered while running the model: unexpected EOF", FailureClass.SERVER),
    ],
)
def test_errors(status: int, words: str, kind: FailureClass) -> None:
    body = DIALECT.encode_error(status, words, "t", None, None)
    failure = DIALECT.decode_error(status, (), body, UNREAD)
    assert failure.kind is kind
    assert failure.message == " ".join(words.split())


@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize(
    "ask",
    [
        Ask(model="m", text="Hi", stream=True),
        Ask(model="m", text="Hi", effort="high", max_tokens=20),
        Ask(model="m", text="Hi", logprobs=True),
    ],
)
def test_a_real_server_is_understood(ask: Ask, words: int) -> None:
    check_server(ask, answers(ask, "p")[0], words)


def test_calls_of_a_real_server_are_understood() -> None:
    calls = (Call("f", '{"x":1}'), Call("f", "{}"))
    check_server(Ask(model="m", text="Hi"), Answer(reasoning=("hm",), calls=calls, finish="tool_calls"), 1)


def check_server(ask: Ask, answer: Answer, words: int) -> None:
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
    assert assemble(normalised(decoded(data))).choices == whole.choices


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with something else somewhere in it."""
    if not value or not isinstance(value, (dict, list)) or draw(st.integers(0, 4)) == 0:
        return draw(JSON | st.sampled_from(("f", 0, 1, -1, 1e300, True, {}, [])))
    key: Any = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    copy: Any = value.copy()
    copy[key] = draw(mutated(value[key]))
    return copy


LINES = [
    json.loads(line)
    for one in STREAMS.values()
    if one["name"] != "odd"
    for line in one["input"].split("\n")
    if line.strip()
]
BAD_LINES = st.lists(
    st.sampled_from(LINES).flatmap(mutated).map(json.dumps).map(str.encode) | st.binary(), max_size=4
)


@given(BAD_LINES)
def test_any_stream_is_survived(stream: list[bytes]) -> None:
    decode = DIALECT.stream_decoder(UNREAD)
    normaliser = Normaliser(include_usage=True)
    for line in stream:
        try:
            chunk = decode(line)
        except WireError:
            continue
        for one in normaliser.receive(chunk):
            json.loads(encode_chunk(one, ENVELOPE)[6:])


@given(st.sampled_from(LINES).flatmap(mutated).map(json.dumps).map(str.encode) | st.binary())
def test_any_body_is_survived(body: bytes) -> None:
    answer = DIALECT.decode_completion(body, UNREAD)
    if isinstance(answer, Completion):
        DIALECT.encode_completion(answer, ENVELOPE)


NATIVE = [
    REQUESTS["Q4"]["expected"],
    {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "think": "low",
        "format": {"type": "object"},
        "logprobs": True,
    },
]


@given(st.sampled_from(NATIVE).flatmap(mutated).map(json.dumps).map(str.encode) | st.binary())
def test_any_request_is_survived(body: bytes) -> None:
    request = DIALECT.parse_request(body, "")
    if isinstance(request, ChatRequest):
        DIALECT.encode_request(request, Rendering(model="m"))
    else:
        assert request.kind is FailureClass.INVALID

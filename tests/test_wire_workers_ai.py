"""Cloudflare Workers AI's format: recorded shapes, both directions, and bad input."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON, TEXT, cut
from wirestream import ENVELOPE, translate

from gwproto.config import Quirks
from gwproto.failures import Failure, FailureClass, WireError
from gwproto.values import Usage
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.conversation import (
    Media,
    options_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.neutral import (
    ChatRequest,
    Chunk,
    Completion,
    CompletionChoice,
    Delta,
    Reading,
    Rendering,
    ToolFragment,
)
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.request import parse_request as parse_openai
from gwproto.wire.strict import MAX_DEPTH
from gwproto.wire.workers_ai import DIALECT
from gwproto.wire.workers_ai.answer import decode_completion, stream_decoder
from gwproto.wire.workers_ai.request import encode_request, parse_request

GOLDENS = {
    one["name"]: one
    for one in json.loads((Path(__file__).parent / "goldens" / "workers_ai.json").read_text())
}
STREAMS = [name for name in GOLDENS if name.startswith("W")]
# Half a day before the neurons come back.
READING = Reading(provider="workers_ai", max_tokens=8, wall=1_789_992_000.0)
MODEL = "@cf/meta/llama-3.1-8b-instruct"
USAGE = Usage(5, 6, 11)
PLAIN = Rendering(model=MODEL)


def heard(reads: list[bytes], reading: Reading = READING) -> list[bytes]:
    return translate(reads, dialect=DIALECT, reading=reading)


def asked(**fields: Any) -> ChatRequest:
    body = {"messages": [{"role": "user", "content": "Q"}], **fields}
    request = parse_openai(json.dumps(body).encode())
    assert isinstance(request, ChatRequest), request
    return request


def written(rendering: Rendering = PLAIN, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    encoded = encode_request(asked(**fields), rendering)
    return json.loads(encoded.body), encoded.dropped


def parsed(body: Any, path: str = f"/run/{MODEL}") -> ChatRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = parse_request(data, path)
    assert isinstance(request, ChatRequest), request
    return request


def whole(result: Any, reading: Reading = READING, **more: Any) -> Any:
    return decode_completion(json.dumps({"result": result, "success": True, **more}).encode(), reading)


@pytest.mark.golden("G57")
def test_a_whole_call() -> None:
    golden = GOLDENS["G57"]
    completion = decode_completion(golden["input"].encode(), READING)
    assert isinstance(completion, Completion)
    (choice,) = completion.choices
    (call,) = choice.tools
    assert call.id is not None
    assert call.id.startswith("call_")
    assert (choice.content, call.name, call.arguments) == (None, "f", '{"x":1}')
    assert choice.finish == "tool_calls"
    assert completion.usage == USAGE


@pytest.mark.golden("G58")
def test_a_failure_envelope() -> None:
    body = GOLDENS["G58"]["input"].encode()
    for failure in (decode_completion(body, READING), DIALECT.decode_error(429, (), body, READING)):
        assert isinstance(failure, Failure)
        assert failure.kind is FailureClass.RATE_DAY
        assert failure.code == "4006"


# Requests


def test_a_request() -> None:
    source = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "S"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Q"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"x":1}'},
                    },
                    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "7"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "8"}]},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": [{"type": "text", "text": "Go"}, {"type": "text", "text": "on"}]},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_completion_tokens": 50,
        "stop": "END",
        "temperature": 1.5,
        "top_k": 5,
        "reasoning_effort": None,
        "user": "u1",
        "seed": 7,
        "stream": True,
    }
    body, dropped = written(Rendering(model=MODEL, quirks=Quirks(max_temperature=1.0)), **source)
    assert set(dropped) == {"parallel_tool_calls", "stop", "user", "tool_choice"}
    assert body == {
        "messages": [
            {"role": "system", "content": "S"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Q"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                ],
            },
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"x":1}'},
                    },
                    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "content": "7", "tool_call_id": "call_1", "name": "f"},
            {"role": "tool", "content": "8", "tool_call_id": "call_2", "name": "g"},
            {"role": "user", "content": "Go\non"},
        ],
        "stream": True,
        "max_tokens": 50,
        "temperature": 1.0,
        "top_k": 5,
        "seed": 7,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
                },
            },
            {
                "type": "function",
                "function": {
                    "name": "g",
                    "description": "",
                    "parameters": {"type": "object", "properties": {}},
                },
            },
        ],
    }


def test_the_model_stands_in_the_path() -> None:
    assert encode_request(asked(), Rendering(model=MODEL)).path == f"/run/{MODEL}"
    assert encode_request(asked(), Rendering(model="@cf/a b?c")).path == "/run/@cf/a%20b%3Fc"


@pytest.mark.parametrize(("max_output", "expected"), [(0, 2048), (1000, 1000), (16384, 4096)])
def test_the_services_256_tokens_are_never_left_to_it(max_output: int, expected: int) -> None:
    body, _ = written(Rendering(model=MODEL, max_output=max_output))
    assert body["max_tokens"] == expected


@pytest.mark.parametrize(
    ("choice", "names", "dropped"),
    [
        ("auto", ["f", "g"], ()),
        ("none", None, ()),
        ("required", ["f", "g"], ("tool_choice",)),
        ({"type": "function", "function": {"name": "g"}}, ["g"], ("tool_choice",)),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"name": "f"}]}},
            ["f"],
            (),
        ),
    ],
)
def test_tool_choice(choice: Any, names: list[str] | None, dropped: tuple[str, ...]) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "fg"]
    body, left_out = written(tools=tools, tool_choice=choice)
    assert left_out == dropped
    offered = body.get("tools")
    assert (offered and [tool["function"]["name"] for tool in offered]) == names


def test_legacy_functions() -> None:
    body, dropped = written(functions=[{"name": "f"}], function_call={"name": "f"})
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]
    assert dropped == ("function_call",)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
            {"type": "json_schema", "json_schema": {"type": "object"}},
        ),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, {"type": "json_object"}),
    ],
)
def test_response_format(wanted: Any, expected: Any) -> None:
    body, dropped = written(response_format=wanted)
    assert body.get("response_format") == expected
    assert dropped == ()


def test_what_a_model_refuses_is_left_out() -> None:
    quirks = Quirks(drop=frozenset(("temperature", "max_tokens", "seed")))
    body, dropped = written(
        Rendering(model=MODEL, quirks=quirks), temperature=1.0, seed=1, max_tokens=5, top_p=0.5
    )
    assert set(body) == {"messages", "top_p"}
    assert set(dropped) == {"temperature", "seed", "max_tokens"}


def test_effort_and_configured_fields_go_over_the_rest() -> None:
    rendering = Rendering(
        model=MODEL,
        effort={"reasoning": {"effort": "low"}},
        body={"reasoning": {"summary": "auto"}, "seed": 3},
    )
    body, _ = written(rendering, seed=1)
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["seed"] == 3


def test_sounds_between_images_are_left_out() -> None:
    parts = [
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    body, _ = written(messages=[{"role": "user", "content": parts}])
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert body["messages"][0]["content"] == [image]


def test_a_native_request() -> None:
    request = parsed(
        {
            "messages": [
                {"role": "user", "content": "Q"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"name": "f", "arguments": {"x": 1}},
                        {"id": "t2", "name": "g", "arguments": '{"y":2}'},
                        {"name": "h", "arguments": None},
                    ],
                },
                {"role": "tool", "name": "h", "content": "3"},
                {"role": "tool", "content": "1"},
                {"role": "tool", "tool_call_id": "t2", "content": "2"},
                {"role": "tool", "tool_call_id": "t9", "name": "z", "content": "9"},
                {"role": "tool", "content": "10"},
            ],
            "tools": [{"name": "f", "description": "d", "parameters": {"type": "object"}}],
            "stream": True,
            "max_tokens": 5,
            "lora": "x",
        },
        "/client/v4/accounts/acc/ai/run/%40cf/meta/m?x=1",
    )
    assert request.model == "@cf/meta/m"
    assert request.stream
    assert request.include_usage
    assert request.max_tokens == 5
    turns = turns_of(request)
    assert [(call.id, call.name, call.arguments) for call in turns[1].calls] == [
        ("call_1_0", "f", '{"x": 1}'),
        ("t2", "g", '{"y":2}'),
        ("call_1_2", "h", "{}"),
    ]
    assert [(turn.call_id, turn.name, turn.text) for turn in turns[2:]] == [
        ("call_1_2", "h", "3"),
        ("call_1_0", "f", "1"),
        ("t2", "g", "2"),
        ("t9", "z", "9"),
        ("call_6", "", "10"),
    ]
    (tool,) = tools_of(request)
    assert (tool.name, tool.description) == ("f", "d")


def test_a_call_in_openais_words() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    request = parsed({"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]})
    assert [(call.id, call.name, call.arguments) for call in turns_of(request)[0].calls] == [
        ("t1", "f", "{}")
    ]


def test_a_prompt_is_a_message() -> None:
    request = parsed({"prompt": "Q", "response_format": {"type": "text"}}, "/run/")
    assert request.model == "auto"
    assert [turn.text for turn in turns_of(request)] == ["Q"]
    assert response_format_of(request) is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"prompt":"\xff"}', "invalid_json"),
        (b"[" * 200, "invalid_json"),
        (b"[]", "invalid_type"),
        (b'{"messages":"x"}', "invalid_type"),
        (b'{"messages":[{"role":"assistant","tool_calls":[{}]}]}', "invalid_type"),
        (b'{"messages":[],"tools":[{}]}', "invalid_type"),
        (b'{"response_format":{"type":"xml"}}', "invalid_type"),
        (b"{}", "missing_required_parameter"),
    ],
)
def test_refused_requests(body: bytes, code: str) -> None:
    failure = parse_request(body, "/run/m")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.code) == (FailureClass.INVALID, 400, code)


LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    (
        None,
        True,
        False,
        0,
        1,
        -7,
        2**70,
        1e300,
        "",
        "x",
        "tool",
        "user",
        [],
        {},
        [[]],
        [{}],
        [None],
        {"name": 1},
    )
)
NAMES = st.sampled_from(("f", "g", "get_weather"))
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=2).map(json.dumps)
SCHEMAS = st.dictionaries(st.sampled_from(("type", "properties", "x")), JSON, max_size=2)
IMAGES = st.sampled_from(("iVBO", "AAAA")).map(
    lambda data: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
)
PARTS = st.lists(TEXT.filter(bool).map(lambda text: {"type": "text", "text": text}) | IMAGES, min_size=1)


@st.composite
def histories(draw: st.DrawFn) -> list[Any]:
    messages: list[Any] = []
    for turn in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            messages.append({"role": "system", "content": draw(TEXT)})
        messages.append({"role": "user", "content": draw(TEXT | PARTS)})
        calls = [
            {
                "id": f"call_{turn}_{number}",
                "type": "function",
                "function": {"name": draw(NAMES), "arguments": draw(OBJECTS)},
            }
            for number in range(draw(st.integers(0, 2)))
        ]
        text = draw(TEXT)
        if calls:
            messages.append({"role": "assistant", "content": text or None, "tool_calls": calls})
            for call in draw(st.permutations(calls)):
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)})
        elif text:
            messages.append({"role": "assistant", "content": text})
    return messages


REQUESTS = st.fixed_dictionaries(
    {"messages": histories()},
    optional={
        "max_tokens": st.integers(1, 10**6),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(1, 100),
        "seed": st.integers(0, 2**31),
        "frequency_penalty": st.floats(-2, 2),
        "presence_penalty": st.floats(-2, 2),
        "stream": st.booleans(),
        "tools": st.lists(
            st.fixed_dictionaries({"name": NAMES, "parameters": SCHEMAS}, optional={"description": TEXT}).map(
                lambda function: {"type": "function", "function": function}
            ),
            min_size=1,
            max_size=2,
        ),
        "response_format": st.sampled_from(
            (
                {"type": "json_object"},
                {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                },
            )
        ),
    },
)


def meaning(request: ChatRequest) -> Any:
    """What is asked for. Texts count as joined, as a message without images sends them; a name that a tool's
    answer lacked is there after it was looked up."""
    turns = []
    for turn in turns_of(request):
        pictured = any(isinstance(part, Media) for part in turn.parts)
        turns.append((turn.role, turn.parts if pictured else turn.text, turn.calls, turn.call_id, turn.name))
    tools = [msgspec.structs.replace(tool, strict=False) for tool in tools_of(request)]
    return turns, tools, response_format_of(request), options_of(request), request.stream


@given(REQUESTS)
def test_requests_survive_the_round_trip(source: Any) -> None:
    request = asked(**source)
    encoded = encode_request(request, Rendering(model=MODEL, quirks=Quirks(drop=frozenset())))
    assert encoded.dropped == ()
    again = parsed(encoded.body, encoded.path)
    if request.max_tokens is None:
        again = msgspec.structs.replace(again, max_tokens=None)
    assert again.model == MODEL
    assert meaning(again) == meaning(request)
    assert tool_choice_of(again) is None


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    assert isinstance(parse_request(body, "/run/m"), (ChatRequest, Failure))


@given(
    st.dictionaries(
        st.sampled_from(("messages", "prompt", "tools", "stream", "response_format", "max_tokens")),
        LEAVES
        | st.lists(
            st.dictionaries(
                st.sampled_from(("role", "content", "tool_calls", "name", "function", "arguments")), LEAVES
            ),
            max_size=2,
        ),
    )
)
def test_any_object_is_a_request_or_refused(body: Any) -> None:
    assert isinstance(parse_request(json.dumps(body).encode(), "/run/m"), (ChatRequest, Failure))


# Whole answers


def test_a_whole_answer() -> None:
    completion = whole({"response": "Hi", "usage": {"prompt_tokens": 5, "completion_tokens": 6}})
    assert completion.choices == (CompletionChoice(0, "Hi"),)
    assert completion.usage == USAGE
    assert not completion.verbatim


@pytest.mark.parametrize(
    ("response", "text"),
    [({"a": [1, 2.50]}, '{"a":[1,2.5]}'), (1, "1"), (False, "false"), ("", None), ("x", "x")],
)
def test_json_as_a_response(response: Any, text: str | None) -> None:
    completion = whole({"response": response, "tool_calls": [{"name": "f"}]})
    assert completion.choices[0].content == text


def test_used_up_tokens_are_a_finish_reason() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 8}
    assert whole({"response": "Hi", "usage": usage}).choices[0].finish == "length"
    unlimited = whole({"response": "Hi", "usage": usage}, Reading())
    assert unlimited.choices[0].finish == "stop"
    called = whole({"response": "", "tool_calls": [{"name": "f"}], "usage": usage})
    assert called.choices[0].finish == "tool_calls"


def test_openais_shape_with_and_without_envelope() -> None:
    answer = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "reasoning_content": "hm"},
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
        "response": "Hi",
        "tool_calls": [],
        "kept": 1,
    }
    for completion in (whole(answer), decode_completion(json.dumps(answer).encode(), READING)):
        assert isinstance(completion, Completion)
        assert completion.choices == (CompletionChoice(0, "Hi", "hm", finish="length"),)
        assert (completion.id, completion.usage) == ("c", USAGE)
        assert list(completion.extra) == ["kept"]
        assert not completion.verbatim


def test_responses_shape() -> None:
    completion = whole(
        {
            "id": "resp_1",
            "created_at": 7,
            "model": "m",
            "output": [
                {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}], "summary": []},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"x": 1}, 5]},
                {"type": "function_call", "call_id": "t1", "name": "f", "arguments": "{}"},
                {"type": "function_call", "id": "t2", "name": "g"},
                {"type": "web_search_call"},
                7,
            ],
            "usage": {
                "input_tokens": 5,
                "output_tokens": 6,
                "input_tokens_details": {"cached_tokens": 2},
                "output_tokens_details": {"reasoning_tokens": 3},
            },
        }
    )
    assert completion == Completion(
        (
            CompletionChoice(
                0,
                "Hi",
                "hmso",
                None,
                (ToolFragment(0, "t1", "f", "{}"), ToolFragment(1, "t2", "g", "{}")),
                "tool_calls",
            ),
        ),
        "resp_1",
        7,
        "m",
        Usage(5, 6, 11, 2, 3),
    )


def test_a_response_cut_short() -> None:
    completion = whole(
        {
            "output": [{"type": "message", "content": [{"text": "Hi"}]}],
            "incomplete_details": {"reason": "max_output_tokens"},
            "usage": {"input_tokens": -1, "output_tokens": True},
        }
    )
    assert completion.choices[0].finish == "length"
    assert completion.usage is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "EMPTY"),
        (b"<html>502</html>", "SERVER"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "SERVER"),
        (b'{"result":', "SERVER"),
        (b'"text"', "SERVER"),
        (b"{}", "EMPTY"),
        (b'{"result":{},"success":true}', "EMPTY"),
        (b'{"success":true,"errors":[]}', "EMPTY"),
        (b'{"result":{"response":null},"success":true}', "EMPTY"),
        (b'{"result":{"response":null,"tool_calls":[]},"success":true}', "EMPTY"),
        (b'{"result":{"output":[]},"success":true}', "EMPTY"),
        (b'{"errors":[{"code":5007,"message":"No such model"}]}', "MODEL_GONE"),
        (b'{"success":false,"errors":[]}', "SERVER"),
        (b'{"result":{"error":{"message":"overloaded","code":503}},"success":true}', "OVERLOADED"),
        (b'[{"error":{"message":"x","code":429}}]', "RATE_MINUTE"),
        (b'{"result":{"choices":[]},"success":true}', "EMPTY"),
    ],
)
def test_bodies_that_are_no_answer(body: bytes, kind: str) -> None:
    failure = decode_completion(body, READING)
    assert isinstance(failure, Failure)
    assert failure.kind.name == kind


def test_almost_json_is_repaired() -> None:
    completion = decode_completion(b'{"result":{"response":"a\xffb","x":NaN},"success":true}', READING)
    assert isinstance(completion, Completion)
    assert completion.choices[0].content == "a\ufffdb"


# Events


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"  ", Chunk()),
        (b" [DONE] ", Chunk(done=True)),
        (b'{"response":"a","x":1}', Chunk((Delta(content="a"),))),
        (b'{"response":"a\xff","x":1}', Chunk((Delta(content="a\ufffd"),))),
        (b'{"response":"","x":NaN}', Chunk((Delta(content=""),))),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":6}}', Chunk(usage=USAGE)),
        (b'{"usage":7}', Chunk()),
        (b'{"result":{"response":"a"},"success":true}', Chunk((Delta(content="a"),))),
        (b'{"tool_calls":7}', Chunk()),
        (b'{"tool_calls":[7,{},{"id":null,"name":null,"arguments":null}]}', Chunk()),
        (
            b'{"tool_calls":[{"name":"f","arguments":"{}"}]}',
            Chunk((Delta(tools=(ToolFragment(None, None, "f", "{}"),)),)),
        ),
    ],
)
def test_events(event: bytes, expected: Chunk) -> None:
    assert stream_decoder(READING)(event) == expected


@pytest.mark.parametrize("event", [b"x", b"7", b"[]", b"[" * 200, b'{"response":'])
def test_events_that_are_none(event: bytes) -> None:
    with pytest.raises(WireError):
        stream_decoder(READING)(event)


def test_clean_openai_chunks_stay_as_they_are() -> None:
    fields = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
    }
    decode = stream_decoder(READING)
    assert decode(json.dumps(fields).encode()).verbatim
    padded = decode(json.dumps({**fields, "p": "xxxx", "kept": 1}).encode())
    assert not padded.verbatim
    assert list(padded.extra) == ["kept"]


def test_a_finish_in_words_counts_more_than_tokens() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 8}
    decode = stream_decoder(READING)
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    decode(json.dumps({"choices": [choice], "usage": usage}).encode())
    assert decode(b"[DONE]") == Chunk(done=True)


REAL = [
    json.loads(line.removeprefix("data: "))
    for golden in GOLDENS.values()
    for line in golden["input"].split("\n\n")
    if line.removeprefix("data: ").startswith("{")
]
SHAPES = st.sampled_from((*REAL, {"output": [{"type": "message", "content": [{"text": "A"}]}]}))


@st.composite
def bent(draw: st.DrawFn, real: st.SearchStrategy[Any] = SHAPES) -> bytes:
    """A real document with one value, somewhere inside it, that does not belong there."""
    document = json.loads(json.dumps(draw(real)))
    at: Any = document
    while True:
        key = draw(st.sampled_from(range(len(at)) if isinstance(at, list) else sorted(at)))
        if isinstance(at[key], (dict, list)) and at[key] and draw(st.booleans()):
            at = at[key]
        else:
            at[key] = draw(LEAVES)
            return json.dumps(document).encode()


BYTES = st.binary(max_size=60) | bent()


@given(st.lists(BYTES, max_size=4))
def test_any_events_are_decoded_or_refused(data: list[bytes]) -> None:
    decode = stream_decoder(READING)
    for event in (*data, b"[DONE]"):
        try:
            assert isinstance(decode(event), Chunk)
        except WireError:
            pass


@given(BYTES | bent(SHAPES.map(lambda result: {"result": result, "success": True})))
def test_any_body_is_decoded_or_refused(body: bytes) -> None:
    assert isinstance(decode_completion(body, READING), (Completion, Failure))


# Towards a client


CALLS = st.lists(st.tuples(NAMES, OBJECTS), max_size=2)
COMPLETIONS = st.builds(
    lambda text, calls, usage: Completion(
        (
            CompletionChoice(
                0,
                text,
                tools=tuple(
                    ToolFragment(number, f"t{number}", name, arguments)
                    for number, (name, arguments) in enumerate(calls)
                ),
                finish="tool_calls" if calls else "stop",
            ),
        ),
        usage=usage,
    ),
    TEXT.filter(bool),
    CALLS,
    st.none() | st.just(USAGE) | st.just(Usage(5, 6, 11, 2, 3)),
)


@given(COMPLETIONS)
def test_whole_answers_survive_the_round_trip(completion: Completion) -> None:
    body = DIALECT.encode_completion(completion, ENVELOPE)
    assert decode_completion(body, Reading()) == completion


@given(COMPLETIONS, st.data())
def test_streams_survive_the_round_trip(completion: Completion, data: st.DataObject) -> None:
    normaliser = Normaliser(include_usage=True)
    chunks = [one for chunk in to_chunks(completion) for one in normaliser.receive(chunk)]
    chunks += [*normaliser.end(complete=True), Chunk(done=True)]
    encode = DIALECT.stream_encoder(ENVELOPE)
    stream = b"".join(map(encode, chunks))
    _, reads = data.draw(cut(st.just(stream)))
    out = heard(reads, Reading())
    assert out == heard([stream], Reading())
    decode = DIALECT.stream_decoder(Reading())
    again = Normaliser(include_usage=True)
    lines = [line.removeprefix(b"data: ") for line in stream.split(b"\n\n") if line]
    received = [one for line in lines for one in again.receive(decode(line))]
    assert again.done
    assert assemble([*received, *again.end(complete=True)]) == completion


def test_a_call_is_sent_once_it_is_whole() -> None:
    encode = DIALECT.stream_encoder(ENVELOPE)
    assert encode(Chunk((Delta(role=True, tools=(ToolFragment(0, "t", "f", '{"x"'),)),))) == b""
    assert encode(Chunk((Delta(tools=(ToolFragment(0, arguments=":1}"),)),))) == b""
    assert encode(Chunk((Delta(1, content="of another choice"),))) == b""
    finish = encode(Chunk((Delta(finish="tool_calls"),)))
    assert finish == b'data: {"response":"","tool_calls":[{"id":"t","name":"f","arguments":{"x":1}}]}\n\n'
    assert encode(Chunk((Delta(refusal="no"),))) == b'data: {"response":"no"}\n\n'
    assert encode(Chunk(done=True)) == b"data: [DONE]\n\n"


def test_an_answer_of_text() -> None:
    body = DIALECT.encode_completion(Completion((CompletionChoice(0, "A"),)), ENVELOPE)
    assert body == b'{"result":{"response":"A"},"success":true,"errors":[],"messages":[]}'


def test_an_answer_without_choices() -> None:
    body = DIALECT.encode_completion(Completion(), ENVELOPE)
    assert body == b'{"result":{"response":null},"success":true,"errors":[],"messages":[]}'


@pytest.mark.parametrize(("status", "code"), [(404, 5007), (500, 500)])
def test_errors(status: int, code: int) -> None:
    body = DIALECT.encode_error(status, "m", "t", "c", None)
    expected = {
        "result": None,
        "success": False,
        "errors": [{"code": code, "message": "m"}],
        "messages": [],
    }
    assert json.loads(body) == expected


def test_the_limit_that_the_client_left_to_us_is_known_when_the_answer_comes() -> None:
    request = parse_openai(b'{"messages":[{"role":"user","content":"Q"}]}')
    assert isinstance(request, ChatRequest)
    assert DIALECT.encode_request(request, Rendering(model="m", max_output=7)).max_tokens == 7
    assert DIALECT.encode_request(request, Rendering(model="m", body={"max_tokens": "x"})).max_tokens is None

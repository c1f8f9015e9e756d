"""Requests in Google's format for Gemini: both directions, and what the simulated provider makes of them."""

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON, TEXT
from test_wire_gemini import NAMES, OBJECTS, READING, heard, mutated, plain
from wirestream import events

from gwproto.config import Quirks
from gwproto.failures import Failure, FailureClass
from gwproto.testing import Data, Head, Knobs, SimulatedProvider
from gwproto.wire.conversation import (
    Media,
    Turn,
    options_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.gemini import DIALECT
from gwproto.wire.gemini.answer import decode_completion
from gwproto.wire.gemini.details import signature_of
from gwproto.wire.gemini.incoming import parse_request
from gwproto.wire.gemini.request import ANY_SIGNATURE, encode_request
from gwproto.wire.gemini.schema import json_schema
from gwproto.wire.neutral import (
    ChatRequest,
    Completion,
    Rendering,
)
from gwproto.wire.openai.request import parse_request as parse_openai

PATH = "/v1beta/models/m:generateContent"
PLAIN = Rendering(model="m")
GEMINI_3 = Rendering(model="m", quirks=Quirks(signatures=True))


def asked(**fields: Any) -> ChatRequest:
    body = {"messages": [{"role": "user", "content": "Q"}], **fields}
    request = parse_openai(json.dumps(body).encode())
    assert isinstance(request, ChatRequest), request
    return request


def written(rendering: Rendering = PLAIN, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    encoded = encode_request(asked(**fields), rendering)
    return json.loads(encoded.body), encoded.dropped


def contents(*messages: Any, rendering: Rendering = PLAIN) -> Any:
    return written(rendering, messages=list(messages))[0]["contents"]


def parsed(body: Any, path: str = PATH) -> ChatRequest:
    request = parse_request(json.dumps({"contents": [{"parts": [{"text": "Q"}]}], **body}).encode(), path)
    assert isinstance(request, ChatRequest), request
    return request


# Requests

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "description": "d",
            "parameters": {
                "type": "object",
                "properties": {"x": {"type": "integer"}},
                "additionalProperties": False,
            },
            "strict": True,
        },
    },
    {"type": "function", "function": {"name": "g"}},
]
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}},
]


@pytest.mark.golden("Q2")
def test_a_request() -> None:
    body, dropped = written(
        GEMINI_3,
        messages=[
            {"role": "system", "content": "S"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Q"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            {"role": "tool", "tool_call_id": "call_1", "content": "7"},
            {"role": "tool", "tool_call_id": "call_2", "content": '{"ok":true}'},
            {"role": "user", "content": "Go"},
        ],
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        max_completion_tokens=50,
        stop="END",
        temperature=1.5,
        reasoning_effort=None,
        user="u1",
        store=False,
        seed=7,
    )
    assert set(dropped) == {"parallel_tool_calls", "user", "store"}
    assert body == {
        "systemInstruction": {"parts": [{"text": "S"}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"text": "Q"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}],
            },
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": ANY_SIGNATURE},
                    {"functionCall": {"name": "g", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "f", "response": {"result": "7"}}},
                    {"functionResponse": {"name": "g", "response": {"ok": True}}},
                    {"text": "Go"},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "f",
                        "description": "d",
                        "parametersJsonSchema": {
                            "type": "object",
                            "properties": {"x": {"type": "integer"}},
                            "additionalProperties": False,
                        },
                    },
                    {"name": "g"},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 50, "stopSequences": ["END"], "temperature": 1.5, "seed": 7},
    }


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-3", False, "/models/gemini-3:generateContent"),
        ("gemini-3", True, "/models/gemini-3:streamGenerateContent?alt=sse"),
        ("models/gemini-3", False, "/models/gemini-3:generateContent"),
        ("a/b c?d:e", False, "/models/a/b%20c%3Fd%3Ae:generateContent"),
    ],
)
def test_the_path_says_model_and_method(model: str, stream: bool, path: str) -> None:
    encoded = encode_request(asked(stream=stream), Rendering(model=model))
    assert encoded.path == path
    request = parse_request(encoded.body, "/v1beta" + path)
    assert isinstance(request, ChatRequest)
    assert (request.model, request.stream) == (model.removeprefix("models/"), stream)
    assert request.include_usage is stream


def test_options() -> None:
    body, dropped = written(
        Rendering(model="m", quirks=Quirks(max_temperature=1.0), max_output=100),
        temperature=1.5,
        top_p=0.5,
        top_k=40,
        max_tokens=200,
        n=2,
        seed=-(1 << 40) + 5,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logprobs=True,
        top_logprobs=0,
        stop=["a", "b"],
    )
    assert dropped == ()
    assert body["generationConfig"] == {
        "temperature": 1.0,
        "topP": 0.5,
        "topK": 40,
        "maxOutputTokens": 100,
        "candidateCount": 2,
        "seed": 5,
        "presencePenalty": 0.5,
        "frequencyPenalty": 0.25,
        "responseLogprobs": True,
        "logprobs": 0,
        "stopSequences": ["a", "b"],
    }


def test_what_a_model_refuses_is_left_out() -> None:
    refused = ("temperature", "max_tokens", "n", "tools", "user", "top_p")
    body, dropped = written(
        Rendering(model="m", quirks=Quirks(drop=frozenset(refused))),
        temperature=1.0,
        max_tokens=5,
        n=2,
        tools=TOOLS,
        user="u",
        seed=1,
    )
    assert set(dropped) == {"temperature", "max_tokens", "n", "tools", "user"}
    assert len(dropped) == 5
    assert set(body) == {"contents", "generationConfig"}
    assert body["generationConfig"] == {"seed": 1}
    body, dropped = written(
        Rendering(model="m", quirks=Quirks(drop=frozenset({"seed"}))), max_tokens=5, seed=1
    )
    assert (body["generationConfig"], dropped) == ({"maxOutputTokens": 5}, ("seed",))


def test_effort_and_configured_fields_go_over_the_rest() -> None:
    rendering = Rendering(
        model="m",
        effort=DIALECT.efforts["low"],
        body={"generationConfig": {"seed": 3}, "safetySettings": [{"category": "C", "threshold": "OFF"}]},
    )
    body, _ = written(rendering, seed=1, top_p=0.5)
    assert body["generationConfig"] == {
        "topP": 0.5,
        "seed": 3,
        "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
    }
    assert body["safetySettings"] == [{"category": "C", "threshold": "OFF"}]


def test_system_texts() -> None:
    messages: list[Any] = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "developer", "content": [{"type": "text", "text": "T"}, {"type": "text", "text": "U"}]},
        {"role": "system", "content": ""},
    ]
    body, _ = written(messages=messages)
    assert body["systemInstruction"] == {"parts": [{"text": "S\n\nT\nU"}]}
    body, _ = written(Rendering(model="m", quirks=Quirks(system_role=False)), messages=messages)
    assert body == {"contents": [{"role": "user", "parts": [{"text": "S\n\nT\nU"}, {"text": "Q"}]}]}


FILLER = {"role": "user", "parts": [{"text": "."}]}


def test_turns_alternate_and_the_user_begins() -> None:
    model = {"role": "model", "parts": [{"text": "A"}, {"text": "B"}]}
    assert contents(
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "B"},
    ) == [FILLER, model]
    assert contents({"role": "system", "content": "S"}) == [FILLER]


def test_answers_stand_in_the_order_of_their_calls() -> None:
    calls = [{**call, "function": {"name": "f", "arguments": "{}"}} for call in CALLS]
    answered = contents(
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "?", "content": "[3]"},
        {"role": "tool", "tool_call_id": "call_2", "content": "2"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "1"}]},
    )[-1]
    assert answered == {
        "role": "user",
        "parts": [
            {"functionResponse": {"name": "f", "response": {"result": "1"}}},
            {"functionResponse": {"name": "f", "response": {"result": "2"}}},
            {"functionResponse": {"name": "?", "response": {"result": "[3]"}}},
        ],
    }


def test_signatures_are_sent_back() -> None:
    def signed(signature: str) -> Any:
        return {"extra_content": {"google": {"thought_signature": signature}}}

    history: list[Any] = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": None, "tool_calls": [{**CALLS[0], **signed("one")}, CALLS[1]]},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
        {"role": "tool", "tool_call_id": "call_2", "content": "2"},
        {"role": "assistant", "content": "A", **signed("two")},
    ]
    for rendering in (PLAIN, GEMINI_3):
        _, called, _, said = contents(*history, rendering=rendering)
        assert [part.get("thoughtSignature") for part in called["parts"]] == ["one", None]
        assert said["parts"] == [{"text": "A"}, {"text": "", "thoughtSignature": "two"}]
    history[1]["tool_calls"] = [{**CALLS[0], "extra_content": {"other": 1}}, {**CALLS[1], **signed("late")}]
    _, called, _, _ = contents(*history, rendering=GEMINI_3)
    assert [part["thoughtSignature"] for part in called["parts"]] == [ANY_SIGNATURE, "late"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": "https://e.com/a.PNG?x=1"},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://e.com/a.PNG?x=1"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a"}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://e.com/a"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBE"}},
        ),
        (
            {"type": "file", "file": {"file_data": "YSxi", "filename": "a.csv"}},
            {"inlineData": {"mimeType": "text/csv", "data": "YSxi"}},
        ),
        (
            {"type": "file", "file": {"file_id": "https://x/files/1"}},
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x/files/1"}},
        ),
        ({"type": "file", "file": {}}, None),
    ],
)
def test_media(part: Any, expected: Any) -> None:
    (turn,) = contents({"role": "user", "content": [{"type": "text", "text": "Q"}, part]})
    assert turn["parts"][1:] == ([] if expected is None else [expected])


def test_an_image_among_a_tools_answers() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    turn = contents(
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": None, "tool_calls": CALLS[:1]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "seen"}, image]},
    )[-1]
    assert turn["parts"] == [
        {"functionResponse": {"name": "f", "response": {"result": "seen"}}},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
    ]


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ({"type": "object", "properties": {}}, False),
        ({"type": "object", "properties": {}, "required": [], "additionalProperties": False}, False),
        ({}, False),
        ({"type": "object", "additionalProperties": True}, True),
        ({"$ref": "#/$defs/x", "$defs": {"x": {}}}, True),
        ({"type": "object", "properties": {"x": {}}}, True),
    ],
)
def test_functions_without_parameters(parameters: Any, kept: bool) -> None:
    body, _ = written(tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    (declared,) = body["tools"][0]["functionDeclarations"]
    assert declared == ({"name": "f", "parametersJsonSchema": parameters} if kept else {"name": "f"})


def only(*names: str) -> Any:
    return [{"type": "function", "function": {"name": name}} for name in names]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (only("f")[0], {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": only("f", "g")}},
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": only("f")}},
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    body, dropped = written(tools=TOOLS, tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": expected}
    assert dropped == ()


def test_legacy_functions() -> None:
    body, dropped = written(functions=[{"name": "f"}], function_call={"name": "f"})
    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["f"]}
    assert dropped == ()


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
WANTED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def test_json() -> None:
    body, _ = written(response_format={"type": "json_object"})
    assert body["generationConfig"] == {"responseMimeType": "application/json"}
    body, _ = written(response_format=WANTED)
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    body, _ = written(response_format={"type": "text"})
    assert "generationConfig" not in body


def test_json_and_functions_exclude_each_other_before_gemini_3() -> None:
    body, _ = written(GEMINI_3, response_format=WANTED, tools=TOOLS)
    assert body["generationConfig"]["responseJsonSchema"] == SCHEMA
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    body, dropped = written(response_format=WANTED, tools=TOOLS, messages=messages)
    assert dropped == ()
    assert "generationConfig" not in body
    (part,) = body["systemInstruction"]["parts"]
    assert part["text"].startswith("S\n\nUnless you call a tool, answer with a JSON object alone")
    assert json.loads(part["text"].partition("schema: ")[2]) == SCHEMA
    body, _ = written(response_format={"type": "json_object"}, tools=TOOLS)
    assert body["systemInstruction"]["parts"][0]["text"].endswith("no code fence.")


# Requests of this format's clients


def test_a_native_request() -> None:
    request = parsed(
        {
            "system_instruction": {"parts": {"text": "S"}},
            "contents": [
                {"parts": [{"text": "Q"}, {"text": "R"}]},
                {"role": "model", "parts": [{"text": "Hm", "thought": True}, {"text": "A"}, {"text": "B"}]},
                {"role": "user", "parts": [{"text": ""}]},
                {
                    "role": "model",
                    "parts": [
                        {"function_call": {"name": "f", "args": {"x_y": 1.0}}, "thought_signature": "one"},
                        {"functionCall": {"name": "f"}},
                        {"functionCall": {"name": "g", "id": "t3"}},
                    ],
                },
                {
                    "role": "function",
                    "parts": [
                        {"functionResponse": {"name": "g", "id": "t3", "response": {"result": "three"}}},
                        {"functionResponse": {"name": "f", "response": {"a_b": 1}}},
                        {"functionResponse": {"name": "f", "id": "?", "response": {"result": 2}}},
                        {"functionResponse": {"name": "z"}},
                    ],
                },
                {"role": "model", "parts": [{"text": "", "thoughtSignature": "two"}]},
                {"role": "model", "parts": []},
                {"role": "model", "parts": [{"text": "Hm", "thought": True}]},
            ],
            "safetySettings": [],
            "labels": None,
        }
    )
    assert request.model == "m"
    assert not request.stream
    system, first, second, called, *answers, signed, thought = turns_of(request)
    assert (system.role, system.text) == ("system", "S")
    assert first.parts == ("Q", "R")
    assert (second.parts, second.reasoning) == (("AB",), "Hm")
    assert [(call.id, call.name, call.arguments) for call in called.calls] == [
        ("call_1", "f", '{"x_y": 1.0}'),
        ("call_2", "f", "{}"),
        ("t3", "g", "{}"),
    ]
    assert [signature_of(call.extra) for call in called.calls] == ["one", "", ""]
    assert [(turn.call_id, turn.name, turn.text) for turn in answers] == [
        ("t3", "g", "three"),
        ("call_1", "f", '{"a_b": 1}'),
        ("call_2", "f", '{"result": 2}'),
        ("z", "", "{}"),
    ]
    assert signature_of(signed.extra) == "two"
    assert (thought.text, thought.reasoning) == ("", "Hm")


def test_native_media() -> None:
    (turn,) = turns_of(
        parsed(
            {
                "contents": {
                    "parts": [
                        {"inlineData": {"mimeType": "image/png", "data": "-_8="}},
                        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
                        {"inlineData": {"mimeType": "audio/mpeg", "data": "SUQz"}},
                        {"inline_data": {"mime_type": "application/pdf", "data": "JVBE"}},
                        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://e.com/a"}},
                        {"fileData": {"fileUri": "https://x/files/1"}},
                    ]
                }
            }
        )
    )
    assert turn.parts == (
        Media("image", "image/png", "+/8="),
        Media("audio", "audio/wav", "AAAA"),
        Media("audio", "audio/mp3", "SUQz"),
        Media("file", "application/pdf", "JVBE"),
        Media("image", url="https://e.com/a"),
        Media("file", url="https://x/files/1"),
    )


def test_an_image_of_the_models_own() -> None:
    parts = [{"text": "A"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]
    request = parsed({"contents": [{"parts": [{"text": "Q"}]}, {"role": "model", "parts": parts}]})
    assert turns_of(request)[1].parts == ("A", Media("image", "image/png", "iVBO"))


@pytest.mark.parametrize(
    ("config", "effort"),
    [
        ({"thinkingLevel": "MINIMAL"}, "minimal"),
        ({"thinking_level": "high"}, "high"),
        ({"thinkingBudget": 0}, "none"),
        ({"thinkingBudget": 500}, "low"),
        ({"thinkingBudget": 2048}, "medium"),
        ({"thinkingBudget": 32768}, "high"),
        ({"thinkingBudget": -1}, "auto"),
        ({"includeThoughts": True}, "auto"),
    ],
)
def test_native_thinking(config: Any, effort: str) -> None:
    assert parsed({"generationConfig": {"thinkingConfig": config}}).effort == effort


def test_native_options() -> None:
    request = parsed({"generationConfig": {"topK": 40, "logprobs": 3, "stopSequences": []}})
    options = options_of(request)
    assert (options.top_k, options.logprobs, options.top_logprobs) == (40, False, None)
    options = options_of(parsed({"generationConfig": {"logprobs": 3, "responseLogprobs": True}}))
    assert (options.logprobs, options.top_logprobs) == (True, 3)


@pytest.mark.parametrize(
    ("calling", "mode", "names"),
    [
        ({"mode": "AUTO"}, "auto", ()),
        ({"mode": "NONE", "allowedFunctionNames": ["f"]}, "none", ()),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, "required", ("f",)),
        ({"mode": "ANY", "allowed_function_names": ["f", "g"]}, "required", ("f", "g")),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, "auto", ("f",)),
    ],
)
def test_native_tool_choice(calling: Any, mode: str, names: tuple[str, ...]) -> None:
    tools = {"functionDeclarations": {"name": "f", "description": "d"}}
    choice = tool_choice_of(parsed({"tools": tools, "toolConfig": {"functionCallingConfig": calling}}))
    assert choice is not None
    assert (choice.mode, choice.names) == (mode, names)


def test_native_schemas() -> None:
    own = {"type": "OBJECT", "properties": {"a_b": {"type": "STRING"}}}
    standard = {"type": "object", "properties": {"a_b": {"type": "string"}}}
    tools = [
        {"functionDeclarations": [{"name": "f", "parameters": own}]},
        {"function_declarations": [{"name": "g", "parameters_json_schema": standard}, {"name": "h"}]},
    ]
    request = parsed({"tools": tools})
    assert [plain(tool.parameters) for tool in tools_of(request)] == [standard, standard, None]
    assert tool_choice_of(request) is None
    for schema in ({"responseSchema": own}, {"response_json_schema": standard}):
        wanted = response_format_of(
            parsed({"generationConfig": {"responseMimeType": "application/json", **schema}})
        )
        assert wanted is not None
        assert plain(wanted.schema) == standard
    assert response_format_of(parsed({"generationConfig": {"responseMimeType": "text/plain"}})) is None


@pytest.mark.parametrize(
    ("own", "standard"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "STRING", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"any_of": [{"type": "INTEGER"}, {"type": "NUMBER"}], "nullable": True},
            {"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]},
        ),
        (
            {
                "type": "ARRAY",
                "items": {"type": "BOOLEAN"},
                "minItems": "1",
                "max_items": 3,
                "propertyOrdering": ["a"],
            },
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        ),
        ({"type": 5, "properties": 5, "anyOf": 5, "items": 5, "minLength": "x"},) * 2,
    ],
)
def test_googles_schemas(own: Any, standard: Any) -> None:
    assert json_schema(own) == standard


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"contents":"\xff"}', "invalid_json", None),
        (b'{"a":' * 200, "invalid_json", None),
        (b"[]", "invalid_type", None),
        (b"{}", "missing_required_parameter", "contents"),
        (b'{"contents":[]}', "missing_required_parameter", "contents"),
        (b'{"contents":"x"}', "invalid_type", "contents"),
        (b'{"contents":["x"]}', "invalid_type", "contents[0]"),
        (b'{"contents":[{"parts":[{"text":5}]}]}', "invalid_type", "contents[0].parts[0].text"),
        (b'{"contents":[{"role":"tool"}]}', "invalid_value", "contents[0].role"),
        (b'{"contents":[{}],"generationConfig":5}', "invalid_type", "generationConfig"),
        (b'{"contents":[{"parts":{"text":"Q"}}],"generationConfig":{"topP":"x"}}', "invalid_type", "top_p"),
        (
            b'{"contents":[{}],"tools":[{"googleSearch":{}}]}',
            "unsupported_parameter",
            "tools[0].googleSearch",
        ),
        (
            b'{"contents":[{}],"tools":[{"functionDeclarations":[{"name":"f"}]}],'
            b'"toolConfig":{"functionCallingConfig":{"mode":"SOME"}}}',
            "invalid_value",
            "toolConfig.functionCallingConfig.mode",
        ),
    ],
)
def test_refused_requests(body: bytes, code: str, param: str | None) -> None:
    failure = parse_request(body, PATH)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.code) == (FailureClass.INVALID, 400, code)
    assert failure.param == param


def test_a_path_that_names_no_model() -> None:
    assert parsed({}, "/v1beta/models").model == "auto"


SIGNATURES = st.sampled_from(({}, {"extra_content": {"google": {"thought_signature": "c2ln"}}}))
MEDIA = st.sampled_from(
    (
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "file", "file": {"file_id": "https://example.com/files/1"}},
    )
)
PARTS = st.lists(TEXT.filter(bool).map(lambda text: {"type": "text", "text": text}) | MEDIA, min_size=1)


@st.composite
def histories(draw: st.DrawFn) -> list[Any]:
    messages: list[Any] = []
    ids = (f"id_{number}" for number in itertools.count())
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            messages.append({"role": "system", "content": draw(TEXT)})
        if draw(st.booleans()):
            messages.append({"role": "user", "content": draw(TEXT | PARTS)})
        calls = [
            {
                "id": next(ids),
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            | draw(SIGNATURES)
            for name, arguments in draw(st.lists(st.tuples(NAMES, OBJECTS), max_size=3))
        ]
        said = draw(TEXT)
        messages.append({"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})})
        messages[-1] |= draw(SIGNATURES)
        for call in draw(st.permutations(calls)):
            content = draw(TEXT | OBJECTS.map(json.dumps))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    return messages


def meaning(request: ChatRequest) -> list[Any]:
    """A conversation without what this format has no words for: ids, and how the turns of one speaker are divided."""
    turns = turns_of(request)
    out: list[Any] = ["\n\n".join(turn.text for turn in turns if turn.role == "system" and turn.text)]
    spoken = [turn for turn in turns if turn.role != "system" and not _silent(turn)]
    if not spoken or spoken[0].role == "assistant":
        spoken.insert(0, Turn("user", (".",)))
    ids: list[str] = []
    for model, group in itertools.groupby(spoken, key=lambda turn: turn.role == "assistant"):
        block = list(group)
        if model:
            calls = [call for turn in block for call in turn.calls]
            signatures = [signature_of(turn.extra) for turn in block]
            ids = [call.id for call in calls]
            out += [
                "".join(turn.text for turn in block),
                next(filter(None, reversed(signatures)), ""),
                [(call.name, json.loads(call.arguments), _signature(call.extra)) for call in calls],
            ]
        else:
            answers = sorted(
                (turn for turn in block if turn.call_id), key=lambda turn: ids.index(turn.call_id)
            )
            others = [part for turn in block if not turn.call_id for part in turn.parts if part]
            out += [[(turn.name, _response(turn.text)) for turn in answers], list(map(_part, others))]
    return out


def _silent(turn: Turn) -> bool:
    return not (any(turn.parts) or turn.calls or turn.call_id or signature_of(turn.extra))


def _signature(extra: Any) -> str:
    return signature_of(extra).replace(ANY_SIGNATURE, "")


def _response(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return text
    return value["result"] if list(value) == ["result"] and isinstance(value["result"], str) else value


def _part(part: Any) -> Any:
    return part if isinstance(part, str) else (part.kind, part.data, part.url)


@given(histories(), st.booleans(), st.sampled_from((PLAIN, GEMINI_3)))
def test_conversations_there_and_back(messages: list[Any], stream: bool, rendering: Rendering) -> None:
    request = asked(messages=messages, stream=stream)
    encoded = encode_request(request, rendering)
    back = parse_request(encoded.body, encoded.path)
    assert isinstance(back, ChatRequest), back
    assert meaning(back) == meaning(request)
    assert (back.model, back.stream) == ("m", stream)
    again = encode_request(back, rendering)
    assert again.path == encoded.path


SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("object"),
        "properties": st.dictionaries(st.sampled_from("ab"), st.just({"type": "string"}), max_size=2),
        "x": JSON,
        "additionalProperties": JSON,
    },
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(1, 100),
        "max_tokens": st.integers(1, 1000),
        "seed": st.integers(-(2**31), 2**31 - 1),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "stop": st.lists(TEXT.filter(bool), min_size=1, max_size=4),
        "n": st.integers(1, 8),
        "response_format": st.one_of(
            st.just({"type": "json_object"}),
            SCHEMAS.map(
                lambda schema: {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
            ),
        ),
        "tools": st.lists(
            st.builds(
                lambda name, description, schema: {
                    "type": "function",
                    "function": {"name": name, "description": description, "parameters": schema},
                },
                NAMES,
                TEXT,
                SCHEMAS,
            ),
            min_size=1,
            max_size=2,
        ),
        "tool_choice": st.sampled_from(("auto", "none", "required", only("f")[0])),
    },
)


@given(OPTIONS, st.none() | st.integers(0, 20))
def test_options_there_and_back(fields: dict[str, Any], logprobs: int | None) -> None:
    if logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": logprobs}
    request = asked(**fields)
    encoded = encode_request(request, GEMINI_3)
    assert encoded.dropped == ()
    back = parse_request(encoded.body, encoded.path)
    assert isinstance(back, ChatRequest), back
    assert options_of(back) == options_of(request)
    assert tool_choice_of(back) == tool_choice_of(request)
    wanted, asked_for = response_format_of(back), response_format_of(request)
    assert plain(wanted and wanted.schema) == plain(asked_for and asked_for.schema)
    assert (wanted is None) == (asked_for is None)
    declared = [(tool.name, tool.description, plain(tool.parameters)) for tool in tools_of(back)]
    offered = [(tool.name, tool.description, plain(tool.parameters)) for tool in tools_of(request)]
    for known, sent in zip(declared, offered, strict=True):
        assert known[:2] == sent[:2]
        assert known[2] == sent[2] or (
            known[2] is None and not (sent[2].get("properties") or sent[2].get("x"))
        )


REQUEST = {
    "systemInstruction": {"parts": [{"text": "S"}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Q"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "1"}}}]},
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "u"}}]},
    ],
    "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parameters": SCHEMA}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "responseMimeType": "application/json",
        "responseSchema": SCHEMA,
        "responseLogprobs": True,
        "logprobs": 2,
        "thinkingConfig": {"thinkingBudget": 5},
    },
}


@given(
    st.binary()
    | JSON.map(lambda e: json.dumps(e).encode())
    | mutated(REQUEST).map(lambda e: json.dumps(e).encode())
)
def test_any_request_is_read_or_refused(body: bytes) -> None:
    request = parse_request(body, PATH)
    if isinstance(request, Failure):
        assert request.kind is FailureClass.INVALID
    else:
        encode_request(request, GEMINI_3)


# The simulated provider takes what is written here, and its answers are read here


def exchanged(model: str, quirks: Quirks, knobs: Knobs | None = None, **fields: Any) -> tuple[int, bytes]:
    models = ("gemini-2.5", "gemini-3")
    provider = SimulatedProvider("sim", models=models, rng=random.Random(1), knobs=knobs, format="gemini")
    encoded = encode_request(asked(**fields), Rendering(model=model, quirks=quirks))
    steps = provider.respond("POST", "/v1beta" + encoded.path, (), encoded.body, 0.0)
    head = steps[0].action
    assert isinstance(head, Head)
    return head.status, b"".join(step.action.data for step in steps if isinstance(step.action, Data))


MODELS = [("gemini-2.5", Quirks()), ("gemini-3", Quirks(signatures=True))]


@pytest.mark.parametrize(("model", "quirks"), MODELS)
def test_a_conversation_with_tools(model: str, quirks: Quirks) -> None:
    question: Any = {"role": "user", "content": "Weather in Paris?"}
    status, body = exchanged(model, quirks, messages=[question], tools=TOOLS, tool_choice=only("g")[0])
    assert status == 200
    completion = decode_completion(body, READING)
    assert isinstance(completion, Completion)
    (call,) = completion.choices[0].tools
    assert bool(call.extra) is (model == "gemini-3")
    again = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
        **plain(call.extra),
    }
    history = [
        question,
        {"role": "assistant", "content": None, "tool_calls": [again]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    status, body = exchanged(model, quirks, messages=history, tools=TOOLS, stream=True, logprobs=True)
    assert status == 200
    got = events(heard([body]))
    assert got[1] == ["C", 0, "The tool answered sunny, says sim."]
    assert got[-3][0] == "F"
    # Another model's calls have no signature.
    history[1]["tool_calls"] = CALLS
    history[2:] = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in CALLS]
    status, _ = exchanged(model, quirks, messages=history, tools=TOOLS)
    assert status == 200
    if model == "gemini-3":
        status, body = exchanged(model, Quirks(), messages=history, tools=TOOLS)
        assert status == 400
        assert b"missing a thought_signature" in body


@pytest.mark.parametrize(("model", "quirks"), MODELS)
def test_json_from_the_simulated_provider(model: str, quirks: Quirks) -> None:
    status, body = exchanged(model, quirks, response_format=WANTED)
    assert status == 200
    completion = decode_completion(body, READING)
    assert isinstance(completion, Completion)
    assert completion.choices[0].content is not None
    assert json.loads(completion.choices[0].content) == {"a": "Q"}
    assert exchanged(model, quirks, response_format=WANTED, tools=TOOLS)[0] == 200
    if model == "gemini-2.5":
        assert exchanged(model, Quirks(signatures=True), response_format=WANTED, tools=TOOLS)[0] == 400


def test_a_stream_that_breaks_off() -> None:
    _, body = exchanged("gemini-3", Quirks(), Knobs(no_finish=True), stream=True, n=2)
    assert events(heard([body]))[-1] == ["X", "TRUNCATED"]
    _, body = exchanged("gemini-3", Quirks(), Knobs(first_event_error=True), stream=True)
    (failure,) = heard([body])
    assert failure.startswith(b"SERVER An internal error")


USER = {"role": "user", "parts": [{"text": "Q"}]}
CALLING = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}
ANSWERING = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "1"}}}]}
DECLARED = [{"functionDeclarations": [{"name": "f"}]}]


def refusal(model: str = "gemini-2.5", **body: Any) -> tuple[int, str]:
    """What a raw request gets from the simulated provider: the status, and the message of an error."""
    models = ("gemini-2.5", "gemini-3", "gemma-3")
    provider = SimulatedProvider("sim", models=models, rng=random.Random(1), format="gemini")
    data = json.dumps({"contents": [USER], **body}).encode()
    head, *rest = provider.respond("POST", f"/v1beta/models/{model}:generateContent", (), data, 0.0)
    assert isinstance(head.action, Head)
    answer = json.loads(b"".join(step.action.data for step in rest if isinstance(step.action, Data)))
    return head.action.status, answer["error"]["message"] if "error" in answer else ""


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [USER, CALLING, ANSWERING], "tools": DECLARED},
        {"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "iVBO"}}]}]},
        {"generation_config": {"max_output_tokens": 5, "response_mime_type": "application/json"}},
        {"system_instruction": {"parts": [{"text": "S"}]}, "safety_settings": [], "cached_content": None},
    ],
)
def test_the_simulated_provider_takes(body: Any) -> None:
    assert refusal(**body) == (200, "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"stream": True}, 'Invalid JSON payload received. Unknown name "stream": Cannot find field.'),
        (
            {"generationConfig": {"maxTokens": 5}},
            "Unknown name \"max_tokens\" at 'generation_config': Cannot find",
        ),
        ({"generationConfig": {"temperature": "hot"}}, "Invalid value at 'generation_config.temperature'"),
        ({"generationConfig": {"seed": 1 << 40}}, "Invalid value at 'generation_config.seed'"),
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{**USER, "role": "assistant"}]}, "Please use a valid role: user, model."),
        ({"contents": [{"role": "user"}]}, "contents.parts must not be empty"),
        ({"contents": [{"parts": [{"text": ""}]}]}, "required oneof field 'data'"),
        ({"contents": [CALLING]}, "function call turn comes immediately after a user turn"),
        (
            {"contents": [USER, ANSWERING]},
            "function response turn comes immediately after a function call turn",
        ),
        ({"contents": [USER, CALLING, USER]}, "number of function response parts is equal"),
        ({"tools": [{"functionDeclarations": [{"name": "1"}]}]}, "Invalid function name"),
        (
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "f", "parameters": {"type": "OBJECT", "properties": {}}}
                        ]
                    }
                ]
            },
            "should be non-empty for OBJECT type",
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "without function_declarations"),
        (
            {
                "tools": DECLARED,
                "toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}},
            },
            "only when function calling mode is ANY or VALIDATED",
        ),
        ({"generationConfig": {"logprobs": 5}}, "logprobs may only be set when response_logprobs is true"),
        ({"generationConfig": {"stopSequences": list("abcdef")}}, "must not exceed 5"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW", "thinkingBudget": 5}}},
            "only one of thinking budget and thinking level",
        ),
        (
            {"generationConfig": {"responseSchema": {"type": "OBJECT"}}},
            "only supported with response mime type",
        ),
    ],
)
def test_the_simulated_provider_refuses(body: Any, words: str) -> None:
    status, message = refusal(**body)
    assert status == 400
    assert words in message


def test_models_of_the_simulated_provider_differ() -> None:
    instruction = {"systemInstruction": {"parts": [{"text": "S"}]}}
    assert refusal("gemma-3", **instruction)[0] == 400
    assert refusal("gemini-3", **instruction)[0] == 200
    both: Any = {"tools": DECLARED, "generationConfig": {"responseMimeType": "application/json"}}
    assert refusal("gemini-2.5", **both)[0] == 400
    assert refusal("gemini-3", **both)[0] == 200

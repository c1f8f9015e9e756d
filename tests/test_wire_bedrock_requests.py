"""Bedrock's requests: towards its service, which must take them all, and from its clients."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_wire_bedrock import mutated

from gwproto.config import Quirks
from gwproto.failures import Failure, FailureClass
from gwproto.testing.formats.bedrock import FORMAT
from gwproto.testing.formats.bedrock_requests import signature
from gwproto.wire.bedrock import DIALECT
from gwproto.wire.conversation import options_of, response_format_of, tool_choice_of, tools_of, turns_of
from gwproto.wire.neutral import ChatRequest, Rendering
from gwproto.wire.openai import request as openai

GOLDENS = {
    one["name"]: one
    for one in json.loads((Path(__file__).parent / "goldens" / "bedrock.json").read_text("utf-8"))
}
MODEL = "us.anthropic.claude-x-v1:0"
PATH = "/model/us.anthropic.claude-x-v1%3A0/converse"
MORE = "additionalModelRequestFields"


def asked(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Q"}], **fields}
    request = openai.parse_request(json.dumps(body, separators=(",", ":")).encode())
    assert isinstance(request, ChatRequest), request
    return request


def encoded(
    *,
    effort: dict[str, object] | None = None,
    quirks: Quirks | None = None,
    max_output: int = 0,
    **fields: Any,
) -> tuple[Any, tuple[str, ...]]:
    """The body for a request, which the real service would take, and what was dropped."""
    rendering = Rendering(model=MODEL, effort=effort or {}, quirks=quirks or Quirks(), max_output=max_output)
    request = DIALECT.encode_request(asked(**fields), rendering)
    FORMAT.decode(request.body, request.path)
    return json.loads(request.body), request.dropped


def messages_of(*messages: dict[str, Any], **more: Any) -> Any:
    return encoded(messages=list(messages), **more)[0]["messages"]


def call(id_: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def part(kind: str, **fields: str) -> dict[str, Any]:
    return {"type": kind, "text" if kind == "text" else kind: fields.get("text") or fields}


USER: dict[str, Any] = {"role": "user", "content": "Q"}
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]
NO_SCHEMA = {"type": "object", "properties": {}}
BUDGET: dict[str, object] = {MORE: {"thinking": {"type": "enabled", "budget_tokens": 2048}}}
ADAPTIVE: dict[str, object] = {MORE: {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}}
CALLED: list[dict[str, Any]] = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": [call("a")]},
    {"role": "tool", "tool_call_id": "a", "content": "1"},
]


@pytest.mark.golden
@pytest.mark.parametrize("name", ["Q5"])
def test_a_request_with_everything(name: str) -> None:
    request = openai.parse_request(GOLDENS[name]["input"].encode())
    assert isinstance(request, ChatRequest)
    done = DIALECT.encode_request(request, Rendering(model=MODEL))
    assert json.loads(done.body) == GOLDENS[name]["expected"]
    assert done.dropped == ("parallel_tool_calls", "user", "store", "seed")
    assert done.path == PATH
    FORMAT.decode(done.body, done.path)


def test_the_least_request() -> None:
    assert encoded() == ({"messages": [{"role": "user", "content": [{"text": "Q"}]}]}, ())
    model = "arn:aws:bedrock:us-east-1:1:inference-profile/a.b"
    streamed = DIALECT.encode_request(asked(stream=True), Rendering(model=model))
    assert streamed.path == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fa.b/converse-stream"
    )


def test_system_texts() -> None:
    said = [
        {"role": "system", "content": "One."},
        {"role": "developer", "content": [part("text", text="Two."), part("text", text="Three.")]},
        {"role": "system", "content": " "},
        USER,
    ]
    assert encoded(messages=said)[0]["system"] == [{"text": "One."}, {"text": "Two.\nThree."}]
    body, _ = encoded(messages=said, quirks=Quirks(system_role=False))
    assert "system" not in body
    content = [{"text": "One."}, {"text": "Two.\nThree."}, {"text": "Q"}]
    assert body["messages"] == [{"role": "user", "content": content}]


def test_json_is_asked_for_in_words() -> None:
    body, _ = encoded(response_format={"type": "json_object"})
    assert "JSON object" in body["system"][0]["text"]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body, _ = encoded(response_format=wanted)
    text = body["system"][0]["text"]
    assert json.loads(text[text.index("{") :]) == schema


def test_roles_take_turns() -> None:
    assert messages_of(
        {"role": "assistant", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
        {"role": "user", "content": [part("text", text="D"), part("text", text=" ")]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "E \n"},
    ) == [
        {"role": "user", "content": [{"text": "."}]},
        {"role": "assistant", "content": [{"text": "A"}, {"text": "B"}]},
        {"role": "user", "content": [{"text": "C"}, {"text": "D"}]},
        {"role": "assistant", "content": [{"text": "."}]},
        {"role": "user", "content": [{"text": "."}]},
        {"role": "assistant", "content": [{"text": "E"}]},
    ]
    assert messages_of({"role": "system", "content": "S"}) == [{"role": "user", "content": [{"text": "."}]}]


def result(id_: str, *content: dict[str, Any], status: str = "success") -> dict[str, Any]:
    return {"toolResult": {"toolUseId": id_, "content": list(content), "status": status}}


def used(id_: str, name: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": id_, "name": name, "input": {}}}


def test_calls_and_results_are_paired() -> None:
    got = messages_of(
        USER,
        {"role": "assistant", "content": "Wait.", "tool_calls": [call("a b"), call("c.1:2")]},
        {"role": "assistant", "content": None, "tool_calls": [call("c.1:2", "g")]},
        {"role": "user", "content": "Hurry!"},
        {"role": "tool", "tool_call_id": "nobody", "content": "lost"},
        {"role": "tool", "tool_call_id": "a b", "content": ""},
        {
            "role": "tool",
            "tool_call_id": "c.1:2",
            "content": [part("text", text="1"), part("text", text="2")],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("x" * 65), call("y" * 64), call("y" * 64)],
        },
        tools=TOOLS,
    )
    mapped = got[1]["content"][1]["toolUse"]["toolUseId"]
    assert mapped.startswith("tooluse_")
    long, *twice = [block["toolUse"]["toolUseId"] for block in got[3]["content"]]
    assert long.startswith("tooluse_")
    assert twice == ["y" * 64, "y" * 56 + "_2"]
    missing = {"text": "The tool gave no result."}
    assert got[1] == {
        "role": "assistant",
        "content": [{"text": "Wait."}, used(mapped, "f"), used("c.1:2", "f"), used("c.1:2_2", "g")],
    }
    assert got[2]["content"] == [
        result(mapped),
        result("c.1:2", {"text": "1\n2"}),
        result("c.1:2_2", missing, status="error"),
        {"text": "Hurry!"},
        {"text": "lost"},
    ]
    assert got[4]["content"] == [result(id_, missing, status="error") for id_ in (long, *twice)]


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ('{"a": 1}', [{"json": {"a": 1}}]),
        (' {"a":1}\n', [{"json": {"a": 1}}]),
        ("[1]", [{"text": "[1]"}]),
        ('{"a"', [{"text": '{"a"'}]),
        ("{" * 5000, [{"text": "{" * 5000}]),
        ('{"a":' * 1500 + "1" + "}" * 1500, [{"text": '{"a":' * 1500 + "1" + "}" * 1500}]),
        ('{"a":NaN}', [{"text": '{"a":NaN}'}]),
        (" ", []),
        (
            [part("text", text="A"), part("image_url", url="data:image/png;base64,iVBO")],
            [{"text": "A"}, {"image": {"format": "png", "source": {"bytes": "iVBO"}}}],
        ),
    ],
)
def test_results(said: Any, content: list[Any]) -> None:
    got = messages_of(*CALLED[:2], {**CALLED[2], "content": said}, tools=TOOLS)
    assert got[2]["content"] == [result("a", *content)]


def image(data: str, kind: str = "") -> dict[str, Any]:
    return part("image_url", url=f"data:{kind};base64,{data}")


def file(data: str, name: str = "") -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, **({"filename": name} if name else {})}}


def test_media() -> None:
    (message,) = messages_of(
        {
            "role": "user",
            "content": [
                image("AAAA", "image/jpg"),
                image("AAAA"),
                part("image_url", url="https://example.com/a.png"),
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                file("data:image/gif;base64,AAAA"),
                file("data:application/pdf;base64,AAAA", "a_b (1).pdf"),
                file("data:application/pdf;base64,AAAA", "a..b (1)"),
                file("AAAA", "x.csv"),
                file("AAAA"),
                file("data:text/x-rust;base64,AAAA"),
                file("data:text/markdown;base64,AAAA", "é"),
            ],
        }
    )
    source = {"source": {"bytes": "AAAA"}}
    assert message["content"] == [
        {"image": {"format": "jpeg", **source}},
        {"image": {"format": "png", **source}},
        {"image": {"format": "gif", **source}},
        {"document": {"format": "pdf", "name": "a b (1)", **source}},
        {"document": {"format": "pdf", "name": "a b (1) 2", **source}},
        {"document": {"format": "csv", "name": "x", **source}},
        {"document": {"format": "pdf", "name": "document", **source}},
        {"document": {"format": "txt", "name": "document 2", **source}},
        {"document": {"format": "md", "name": "document 3", **source}},
        {"text": "."},
    ]
    (message,) = messages_of({"role": "user", "content": [file("AAAA"), part("text", text="Read")]})
    assert [next(iter(block)) for block in message["content"]] == ["document", "text"]


@pytest.mark.parametrize(
    ("choice", "names", "native", "dropped"),
    [
        (None, "fgh", None, ()),
        ("auto", "fgh", {"auto": {}}, ()),
        ("none", "", None, ()),
        ("required", "fgh", {"any": {}}, ()),
        (TOOLS[1], "fgh", {"tool": {"name": "g"}}, ()),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": TOOLS[:2]}},
            "fg",
            {"auto": {}},
            (),
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": TOOLS[:2]}},
            "fg",
            {"any": {}},
            (),
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "x"}}]},
            },
            "fgh",
            {"auto": {}},
            (),
        ),
    ],
)
def test_tool_choice(choice: Any, names: str, native: Any, dropped: tuple[str, ...]) -> None:
    body, left_out = encoded(tools=TOOLS, **({"tool_choice": choice} if choice else {}))
    config = body.get("toolConfig", {"tools": []})
    assert [tool["toolSpec"]["name"] for tool in config["tools"]] == list(names)
    assert config.get("toolChoice") == native
    assert left_out == dropped


def test_tools_stay_where_some_were_called() -> None:
    """Even where none may be called, which cannot be said then; undeclared ones are declared."""
    body, dropped = encoded(messages=CALLED, tools=TOOLS, tool_choice="none")
    assert len(body["toolConfig"]["tools"]) == 3
    assert "toolChoice" not in body["toolConfig"]
    assert dropped == ("tool_choice",)
    body, dropped = encoded(messages=CALLED)
    spec = {"name": "f", "description": "f", "inputSchema": {"json": NO_SCHEMA}}
    assert body["toolConfig"] == {"tools": [{"toolSpec": spec}]}
    assert dropped == ()


def test_schemas_of_tools() -> None:
    def schema(parameters: object, **quirks: Any) -> Any:
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        body, _ = encoded(tools=[tool], quirks=Quirks(**quirks))
        return body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]

    assert schema({"type": "object", "x": 1}) == {"type": "object", "x": 1}
    assert schema({"properties": {}}) == NO_SCHEMA
    refused = frozenset(("additionalProperties",))
    assert schema({"type": "object", "additionalProperties": False}, schema_drop=refused) == {
        "type": "object"
    }


def test_a_schema_with_a_number_that_none_can_hold_stays_as_it_is() -> None:
    tool = b'{"type":"function","function":{"name":"f","parameters":{"type":"object","maximum":1e999}}}'
    request = openai.parse_request(b'{"messages":[{"role":"user","content":"Q"}],"tools":[%b]}' % tool)
    assert isinstance(request, ChatRequest)
    quirks = Quirks(schema_drop=frozenset(("minimum",)))
    assert b'"maximum":1e999' in DIALECT.encode_request(request, Rendering(model="m", quirks=quirks)).body


def test_legacy_functions() -> None:
    body, dropped = encoded(functions=[{"name": "f"}], function_call={"name": "f"})
    assert body["toolConfig"]["toolChoice"] == {"tool": {"name": "f"}}
    assert dropped == ()


def test_options() -> None:
    body, dropped = encoded(max_tokens=5, temperature=0.5, top_p=0.9, stop=["a", " "], top_k=3, n=1)
    assert body["inferenceConfig"] == {
        "maxTokens": 5,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["a"],
    }
    assert dropped == ("top_k", "stop")
    body, dropped = encoded(stop=[" "])
    assert body.keys() == {"messages"}
    assert dropped == ("stop",)


def test_quirks() -> None:
    quirks = Quirks(drop=frozenset(("temperature", "top_p", "max_tokens", "tool_choice")))
    body, dropped = encoded(
        temperature=1, top_p=0.5, max_tokens=5, tools=TOOLS, tool_choice="required", quirks=quirks
    )
    assert body.keys() == {"messages", "toolConfig"}
    assert body["toolConfig"].keys() == {"tools"}
    assert set(dropped) == {"temperature", "top_p", "max_tokens", "tool_choice"}
    cooler, _ = encoded(temperature=1, quirks=Quirks(max_temperature=0.5))
    assert cooler["inferenceConfig"] == {"temperature": 0.5}


def test_configuration_goes_last() -> None:
    more: dict[str, object] = {"inferenceConfig": {"topP": 0.5}, "toolConfig": 7, MORE: {"top_k": 5}}
    rendering = Rendering(model="m", effort=ADAPTIVE, body=more)
    body = json.loads(DIALECT.encode_request(asked(max_tokens=9), rendering).body)
    assert body["inferenceConfig"] == {"maxTokens": 9}  # thinking goes with none so low
    assert body["toolConfig"] == 7
    assert body[MORE] == {"top_k": 5, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}


# Claude's thinking.


@pytest.mark.parametrize(
    ("limit", "max_output", "sent", "budget"),
    [
        (None, 0, None, 2048),
        (5000, 0, 5000, 2048),
        (2048, 0, 4096, 2048),
        (100, 0, 2148, 2048),
        (100, 2000, 2000, 1999),
        (100, 1025, 1025, 1024),
        (100, 1024, 100, None),
    ],
)
def test_budgets_fit(limit: int | None, max_output: int, sent: int | None, budget: int | None) -> None:
    options: Any = {} if limit is None else {"max_tokens": limit}
    body, _ = encoded(effort=BUDGET, max_output=max_output, **options)
    assert body.get("inferenceConfig", {}).get("maxTokens") == sent
    assert body.get(MORE) == (budget and {"thinking": {"type": "enabled", "budget_tokens": budget}})


@pytest.mark.parametrize("effort", [BUDGET, ADAPTIVE])
def test_what_goes_with_thinking(effort: dict[str, object]) -> None:
    body, dropped = encoded(effort=effort, temperature=0.5, top_p=0.5, tools=TOOLS, tool_choice="required")
    assert "inferenceConfig" not in body
    assert body["toolConfig"]["toolChoice"] == {"auto": {}}
    assert dropped == ("tool_choice", "temperature", "top_p")
    body, dropped = encoded(effort=effort, top_p=0.95, tools=TOOLS, tool_choice="auto")
    assert body["inferenceConfig"] == {"topP": 0.95}
    assert dropped == ()
    off: dict[str, object] = {MORE: {"thinking": {"type": "disabled"}}}
    body, dropped = encoded(effort=off, temperature=0.5)
    assert body["inferenceConfig"] == {"temperature": 0.5}


def thinking(*blocks: object) -> list[dict[str, Any]]:
    extra = {"extra_content": {"bedrock": {"reasoning": list(blocks)}}}
    return [CALLED[0], {**CALLED[1], "content": "A", **extra}, CALLED[2]]


SIGNED = {"reasoningText": {"text": "hm", "signature": signature("hm")}}


@pytest.mark.parametrize("block", [SIGNED, {"redactedContent": "ZA=="}])
def test_reasoning_comes_back(block: dict[str, Any]) -> None:
    body, _ = encoded(effort=ADAPTIVE, messages=thinking({"index": 0, **block}), tools=TOOLS)
    assert body[MORE] == ADAPTIVE[MORE]
    assert body["messages"][1]["content"] == [{"reasoningContent": block}, {"text": "A"}, used("a", "f")]


@pytest.mark.parametrize(
    "blocks", [(), (7,), ({"reasoningText": {"text": "hm"}},), ({"index": 0},), ({"redactedContent": 7},)]
)
def test_without_its_reasoning_a_tool_loop_goes_on_without_any(blocks: Any) -> None:
    body, _ = encoded(effort=ADAPTIVE, messages=thinking(*blocks), tools=TOOLS)
    assert body[MORE] == {"output_config": {"effort": "low"}}
    body, _ = encoded(effort=BUDGET, messages=thinking(*blocks), tools=TOOLS)
    assert MORE not in body
    body, _ = encoded(
        effort=BUDGET, messages=[*thinking(*blocks), {"role": "assistant", "content": "B"}, USER]
    )
    assert MORE in body  # that loop is over


# Requests from clients.


def parse(body: object, path: str = PATH) -> ChatRequest:
    request = DIALECT.parse_request(json.dumps(body).encode(), path)
    assert isinstance(request, ChatRequest), request
    return request


def native(*content: object, **fields: Any) -> Any:
    """The messages in OpenAI's words for one of a user's, and the other fields."""
    request = parse({"messages": [{"role": "user", "content": content or [{"text": "Q"}]}], **fields})
    return {name: json.loads(bytes(raw)) for name, raw in request.fields.items()}


def test_the_path_names_the_model() -> None:
    body = {"messages": [{"role": "user", "content": [{"text": "Q"}]}]}
    whole, streamed = parse(body), parse(body, "https://host" + PATH + "-stream?x")
    assert (whole.model, whole.stream) == (MODEL, False)
    assert (streamed.model, streamed.stream, streamed.include_usage) == (MODEL, True, True)
    assert parse(body, "").model == "auto"
    assert parse(body, PATH + "-not").model == "auto"


def test_native_fields() -> None:
    fields = native(
        system=[{"text": "S"}, {"cachePoint": {"type": "default"}}],
        inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["x"]},
        requestMetadata={"a": "b"},
        guardrailConfig={"guardrailIdentifier": "g"},
    )
    assert fields == {
        "model": MODEL,
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["x"],
    }
    assert native(inferenceConfig={"stopSequences": []}).keys() == {"model", "messages"}


def test_native_tools() -> None:
    spec = {"name": "f", "description": "d", "inputSchema": {"json": NO_SCHEMA}, "strict": True}
    tools = [{"toolSpec": spec}, {"toolSpec": {"name": "g", "inputSchema": {}}}, {"cachePoint": {}}]
    function = {"name": "f", "description": "d", "parameters": NO_SCHEMA, "strict": True}
    declared = [{"type": "function", "function": one} for one in (function, {"name": "g"})]
    assert native(toolConfig={"tools": tools})["tools"] == declared

    def chosen(choice: object) -> Any:
        return native(toolConfig={"tools": tools, "toolChoice": choice})["tool_choice"]

    assert chosen({"auto": {}}) == "auto"
    assert chosen({"any": {}}) == "required"
    assert chosen({"tool": {"name": "f"}}) == {"type": "function", "function": {"name": "f"}}
    assert "tools" not in native(toolConfig={"tools": []})


def test_native_formats() -> None:
    def output(schema: str, **more: str) -> Any:
        structure = {"jsonSchema": {"schema": schema, **more}}
        return {"textFormat": {"type": "json_schema", "structure": structure}}

    fields = native(outputConfig=output('{"type":"object"}', name="n"))
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    assert fields["response_format"] == wanted
    for schema in ("{", "[]", '{"a":' * 200 + "1" + "}" * 200):
        body = {"messages": [{"role": "user", "content": [{"text": "Q"}]}], "outputConfig": output(schema)}
        failure = DIALECT.parse_request(json.dumps(body).encode(), PATH)
        assert isinstance(failure, Failure)
        assert failure.code == "unsupported_value"


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"outputConfig": {"effort": "max"}}, "max"),
        ({MORE: {"thinking": {"type": "disabled"}}}, "none"),
        ({MORE: {"thinking": {"type": "adaptive"}}}, "high"),
        ({MORE: {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}}, "low"),
        ({MORE: {"output_config": {"effort": "low"}}}, "low"),
        ({MORE: {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, "low"),
        ({MORE: {"thinking": {"type": "enabled", "budget_tokens": 5000}}}, "high"),
        ({MORE: {"thinking": {"type": "enabled", "budget_tokens": -1}}}, None),
        ({MORE: {"thinking": True}}, None),
        ({}, None),
    ],
)
def test_native_effort(fields: dict[str, Any], effort: str | None) -> None:
    assert native(**fields).get("reasoning_effort") == effort


def test_native_content() -> None:
    data = {"bytes": "AAAA"}
    content = native(
        {"text": "A"},
        {"guardContent": {"text": {"text": "B"}}},
        {"image": {"format": "png", "source": data}},
        {"document": {"format": "pdf", "name": "a", "source": data}},
        {"document": {"name": "b", "source": {"text": "C"}}},
        {"document": {"name": "c", "source": {"content": [{"text": "D"}]}}},
        {"cachePoint": {"type": "default"}},
    )["messages"][0]["content"]
    pdf = {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}
    assert content == [
        part("text", text="A"),
        part("text", text="B"),
        part("image_url", url="data:image/png;base64,AAAA"),
        {"type": "file", "file": pdf},
        part("text", text="C"),
        part("text", text="D"),
    ]


def test_native_turns() -> None:
    request = parse(
        {
            "messages": [
                {"role": "user", "content": [{"text": "Q"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "h", "signature": "s"}}},
                        {"reasoningContent": {"redactedContent": "ZA=="}},
                        {"reasoningContent": {"reasoningText": {"text": "m"}}},
                        {"citationsContent": {"content": [{"text": "A"}]}},
                        {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"text": "Go"},
                        {"toolResult": {"toolUseId": "a", "content": [{"json": {"ok": True}}]}},
                    ],
                },
                {"role": "system", "content": [{"text": "S"}]},
                {"role": "assistant", "content": [{"toolUse": {"toolUseId": "b", "name": "f"}}]},
                {"role": "user", "content": [{"toolResult": {"toolUseId": "b", "content": []}}]},
                {"role": "user", "content": []},
                {"role": "assistant", "content": [{"text": "B"}]},
            ]
        }
    )
    assert json.loads(bytes(request.fields["messages"])) == [
        USER,
        {
            "role": "assistant",
            "content": "A",
            "tool_calls": [call("a", "f", '{"x": 1}')],
            "reasoning_content": "hm",
            "extra_content": {
                "bedrock": {
                    "reasoning": [
                        {"reasoningText": {"text": "h", "signature": "s"}},
                        {"redactedContent": "ZA=="},
                    ]
                }
            },
        },
        {"role": "tool", "tool_call_id": "a", "content": '{"ok": true}'},
        {"role": "user", "content": "Go"},
        {"role": "system", "content": "S"},
        {"role": "assistant", "content": None, "tool_calls": [call("b", "f", "{}")]},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "B"},
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_type"),
        (b'{"messages":[{"role":"robot","content":[]}]}', "invalid_type"),
        (b'{"messages":[{"role":"user","content":"Q"}]}', "invalid_type"),
        (b'{"messages":[{"role":"user","content":[{"text":"\xff"}]}]}', "invalid_json"),
        (b'{"a":' * 200, "invalid_json"),
        (b"{}", "empty_array"),
        (b'{"messages":[{"role":"user","content":[{"video":{}}]}]}', "unsupported_value"),
        (
            b'{"messages":[{"role":"user","content":[{"image":{"format":"png","source":{"s3Location":{}}}}]}]}',
            "unsupported_value",
        ),
        (
            b'{"messages":[{"role":"user","content":[{"text":"Q"}]}],'
            b'"toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}}',
            "unsupported_value",
        ),
    ],
)
def test_refused_requests(body: bytes, code: str) -> None:
    failure = DIALECT.parse_request(body, PATH)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.type) == (
        FailureClass.INVALID,
        400,
        "invalid_request_error",
    )
    assert failure.code == code
    assert 0 < len(failure.message) <= 300


@given(mutated(GOLDENS["Q5"]["expected"]))
def test_any_native_request(body: Any) -> None:
    request = DIALECT.parse_request(json.dumps(body).encode(), "")
    if isinstance(request, ChatRequest):
        DIALECT.encode_request(request, Rendering(model="m"))


PARTS = st.lists(
    st.sampled_from(
        [
            part("text", text="A"),
            part("text", text="hé"),
            image("AAAA", "image/png"),
            image("AAAA", "image/webp"),
        ]
    ),
    min_size=2,
    max_size=4,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Messages in the order that both formats have them."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "S"}] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(st.just("Q") | PARTS)})
        calls = [call(f"call_{number}_{at}", "fg"[at], '{"x":1}') for at in range(draw(st.integers(0, 2)))]
        signed = {"reasoning_content": "hm", "extra_content": {"bedrock": {"reasoning": [SIGNED]}}}
        thought = signed if draw(st.booleans()) else {}
        messages.append(
            {"role": "assistant", "content": "A", **({"tool_calls": calls} if calls else {}), **thought}
        )
        for one in calls:
            said = draw(st.sampled_from(("1", '{"x": 1}')))
            messages.append({"role": "tool", "tool_call_id": one["id"], "content": said})
    pdf = file("data:application/pdf;base64,AAAA", "a.pdf")
    return [*messages, {"role": "user", "content": [part("text", text="Go"), pdf]}]


@given(
    conversations(),
    st.fixed_dictionaries(
        {"max_tokens": st.just(9)},
        optional={
            "temperature": st.sampled_from((0.0, 0.5, 1.0)),
            "top_p": st.just(0.5),
            "stop": st.just(["END"]),
            "stream": st.booleans(),
            "tool_choice": st.sampled_from(
                ("auto", "required", {"type": "function", "function": {"name": "g"}})
            ),
        },
    ),
)
def test_requests_there_and_back(messages: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    tools = [
        {"type": "function", "function": {"name": name, "description": "d", "parameters": NO_SCHEMA}}
        for name in "fg"
    ]
    sent = asked(messages=messages, tools=tools, **fields)
    there = DIALECT.encode_request(sent, Rendering(model=MODEL))
    FORMAT.decode(there.body, there.path)
    assert there.dropped == ()
    back = DIALECT.parse_request(there.body, there.path)
    assert isinstance(back, ChatRequest)
    assert turns_of(back) == turns_of(sent)
    assert options_of(back) == options_of(sent)
    assert tools_of(back) == tools_of(sent)
    assert response_format_of(back) == response_format_of(sent)
    assert tool_choice_of(back) == tool_choice_of(sent)
    assert (back.model, back.stream, back.needs) == (MODEL, sent.stream, sent.needs)

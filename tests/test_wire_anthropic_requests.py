"""Anthropic's requests: towards its service, which must take them all, and from its clients."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_wire_anthropic import SIGNED, mutated

from gwproto.config import Quirks
from gwproto.failures import Failure, FailureClass
from gwproto.testing.formats.anthropic import FORMAT
from gwproto.wire.anthropic import DIALECT
from gwproto.wire.anthropic.request import EFFORTS
from gwproto.wire.conversation import (
    options_of,
    parallel_calls_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.neutral import ChatRequest, Rendering
from gwproto.wire.openai import request as openai

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "anthropic.json").read_text("utf-8"))


# Requests towards Anthropic.


def asked(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Q"}], **fields}
    request = openai.parse_request(json.dumps(body).encode())
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
    rendering = Rendering(
        model="claude", effort=effort or {}, quirks=quirks or Quirks(), max_output=max_output
    )
    request = DIALECT.encode_request(asked(**fields), rendering)
    assert request.path == "/messages"
    return json.loads(request.body), request.dropped


def messages_of(*messages: dict[str, Any], **more: Any) -> Any:
    return encoded(messages=list(messages), **more)[0]["messages"]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def call(id_: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


USER: dict[str, Any] = {"role": "user", "content": "Q"}
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]
NO_SCHEMA = {"type": "object", "properties": {}}
BUDGET: dict[str, object] = {"thinking": {"type": "enabled", "budget_tokens": 2048}}


@pytest.mark.golden("Q1")
def test_a_request_with_everything() -> None:
    (golden,) = [one for one in GOLDENS if one["name"] == "Q1"]
    request = openai.parse_request(golden["input"].encode())
    assert isinstance(request, ChatRequest)
    done = DIALECT.encode_request(request, Rendering(model="m"))
    assert json.loads(done.body) == golden["expected"]
    assert done.dropped == ("store", "seed")
    FORMAT.decode(done.body, "/v1/messages")


def test_max_tokens_is_always_sent() -> None:
    assert encoded()[0]["max_tokens"] == 4096
    assert encoded(max_output=8000)[0]["max_tokens"] == 8000
    assert encoded(max_output=8000, max_tokens=5)[0]["max_tokens"] == 5


def test_system_and_developer_are_joined() -> None:
    body, _ = encoded(
        messages=[
            {"role": "system", "content": "One."},
            {"role": "developer", "content": [text("Two."), text("Three.")]},
            {"role": "system", "content": " "},
            USER,
        ]
    )
    assert body["system"] == "One.\n\nTwo.\nThree."


def test_roles_take_turns() -> None:
    assert messages_of(
        {"role": "assistant", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
        {"role": "user", "content": [text("D"), text(" ")]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "E \n"},
    ) == [
        {"role": "user", "content": [text(".")]},
        {"role": "assistant", "content": [text("A"), text("B")]},
        {"role": "user", "content": [text("C"), text("D")]},
        {"role": "assistant", "content": [text(".")]},
        {"role": "user", "content": [text(".")]},
        {"role": "assistant", "content": [text("E")]},
    ]
    assert messages_of({"role": "system", "content": "S"}) == [{"role": "user", "content": [text(".")]}]


def test_calls_and_results_are_paired() -> None:
    got = messages_of(
        USER,
        {"role": "assistant", "content": "Wait.", "tool_calls": [call("a b"), call("c")]},
        {"role": "assistant", "content": None, "tool_calls": [call("c", "g")]},
        {"role": "user", "content": "Hurry!"},
        {"role": "tool", "tool_call_id": "nobody", "content": "lost"},
        {"role": "tool", "tool_call_id": "a b", "content": ""},
        {"role": "tool", "tool_call_id": "c", "content": [text("1"), text("2")]},
        {"role": "assistant", "content": None, "tool_calls": [call("c", "h")]},
        tools=TOOLS,
    )
    mapped = got[1]["content"][1]["id"]
    assert mapped.startswith("toolu_")
    assert got[1:] == [
        {
            "role": "assistant",
            "content": [
                text("Wait."),
                {"type": "tool_use", "id": mapped, "name": "f", "input": {}},
                {"type": "tool_use", "id": "c", "name": "f", "input": {}},
                {"type": "tool_use", "id": "c_2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": mapped},
                {"type": "tool_result", "tool_use_id": "c", "content": "1\n2"},
                {
                    "type": "tool_result",
                    "tool_use_id": "c_2",
                    "content": "The tool gave no result.",
                    "is_error": True,
                },
                text("Hurry!"),
                text("lost"),
            ],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c_3", "name": "h", "input": {}}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c_3",
                    "content": "The tool gave no result.",
                    "is_error": True,
                }
            ],
        },
    ]


def test_attachments() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:image/png;base64,AAAA", "filename": "a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "AAAA"}},
        {"type": "file", "file": {"file_data": "data:text/markdown;base64,SGk="}},
        {"type": "file", "file": {"file_data": "data:application/json;base64,/w=="}},
        {"type": "file", "file": {"file_id": "file_1"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
    assert messages_of({"role": "user", "content": parts})[0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": pdf},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/json", "data": "/w=="},
        },
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    ]


def test_a_result_with_an_image() -> None:
    got = messages_of(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call("a")]},
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": [
                text("seen"),
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
    )
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    assert got[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [text("seen"), image]}
    ]


def test_sampling() -> None:
    both: dict[str, Any] = {
        "temperature": 2.0,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["END", " "],
        "logit_bias": {"1": 1},
    }
    body, dropped = encoded(**both)
    assert (body["temperature"], body["top_k"], body["stop_sequences"]) == (1.0, 3, ["END"])
    assert "top_p" not in body
    assert dropped == ("logit_bias", "top_p", "stop")
    assert encoded(quirks=Quirks(max_temperature=0.5), temperature=0.7)[0]["temperature"] == 0.5
    body, dropped = encoded(quirks=Quirks(drop=frozenset(("temperature",))), **both)
    assert body["top_p"] == 0.5
    assert "temperature" not in body
    assert dropped == ("temperature", "logit_bias", "stop")
    assert encoded(top_k="many")[1] == ("top_k",)
    body, dropped = encoded(stop=" ", safety_identifier="u2", stream=True)
    assert "stop_sequences" not in body
    assert dropped == ("stop",)
    assert (body["metadata"], body["stream"]) == ({"user_id": "u2"}, True)


def test_tools() -> None:
    schema = {"properties": {"a": {"type": "string", "format": "x"}}}
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "strict": True}},
        {"type": "function", "function": {"name": "g", "parameters": schema}},
    ]
    assert encoded(tools=tools)[0]["tools"] == [
        {"name": "f", "description": "d", "strict": True, "input_schema": NO_SCHEMA},
        {"name": "g", "input_schema": {"type": "object", **schema}},
    ]
    (one,) = encoded(tools=tools[1:], quirks=Quirks(schema_drop=frozenset(("format",))))[0]["tools"]
    assert one["input_schema"]["properties"] == {"a": {"type": "string"}}
    legacy = encoded(functions=[{"name": "f"}], function_call={"name": "f"})[0]
    assert legacy["tool_choice"] == {"type": "tool", "name": "f"}


@pytest.mark.parametrize(
    ("sent", "choice", "names"),
    [
        ({}, None, "fgh"),
        ({"tool_choice": "auto"}, {"type": "auto"}, "fgh"),
        ({"tool_choice": "required"}, {"type": "any"}, "fgh"),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}, "fgh"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "g"}}, "parallel_tool_calls": False},
            {"type": "tool", "name": "g", "disable_parallel_tool_use": True},
            "fgh",
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}, "fgh"),
        ({"parallel_tool_calls": True}, None, "fgh"),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": TOOLS[1:2]},
                }
            },
            {"type": "auto"},
            "g",
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [{"name": "x"}, {"name": "y"}]},
                }
            },
            {"type": "any"},
            "fgh",
        ),
    ],
)
def test_tool_choice(sent: dict[str, Any], choice: dict[str, Any] | None, names: str) -> None:
    body, _ = encoded(tools=TOOLS, **sent)
    assert body.get("tool_choice") == choice
    assert "".join(tool["name"] for tool in body["tools"]) == names


def test_earlier_calls_need_declared_tools() -> None:
    body, _ = encoded(messages=[USER, {"role": "assistant", "tool_calls": [call("a"), call("b")]}])
    assert body["tools"] == [{"name": "f", "input_schema": NO_SCHEMA}]
    assert body["tool_choice"] == {"type": "none"}


def test_json() -> None:
    assert "JSON object" in encoded(response_format={"type": "json_object"})[0]["system"]
    schema = {
        "type": "object",
        "properties": {"a": {"anyOf": [{"type": ["object", "null"]}, {"minLength": 1}]}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body, _ = encoded(
        response_format=wanted, effort=EFFORTS["low"], quirks=Quirks(schema_drop=frozenset(("minLength",)))
    )
    assert body["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {
                    "a": {"anyOf": [{"type": ["object", "null"], "additionalProperties": False}, {}]}
                },
                "additionalProperties": False,
            },
        },
    }
    raw = json.dumps({"messages": [USER], "response_format": wanted}).replace(
        json.dumps(schema), '{"const":1e999}'
    )
    request = openai.parse_request(raw.encode())
    assert isinstance(request, ChatRequest)
    assert b'"schema":{"const":1e999}' in DIALECT.encode_request(request, Rendering(model="m")).body


def test_configured_fields_come_last() -> None:
    rendering = Rendering(model="m", body={"metadata": {"x": 1}, "service_tier": "auto"})
    body = json.loads(DIALECT.encode_request(asked(user="u", service_tier="flex"), rendering).body)
    assert body["metadata"] == {"user_id": "u", "x": 1}
    assert body["service_tier"] == "auto"


# Thinking.


def test_thinking_goes_with_little_else() -> None:
    sent: dict[str, Any] = {"temperature": 0.5, "top_k": 3, "tools": TOOLS, "tool_choice": TOOLS[0]}
    body, dropped = encoded(effort=EFFORTS["high"], **sent)
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "high"}
    assert body["tool_choice"] == {"type": "auto"}
    assert dropped == ("temperature", "top_k", "tool_choice")
    assert encoded(effort=EFFORTS["high"], top_p=0.5)[1] == ("top_p",)
    assert encoded(effort=EFFORTS["high"], top_p=0.95)[0]["top_p"] == 0.95
    body, dropped = encoded(effort=EFFORTS["none"], **sent)
    assert body["temperature"] == 0.5
    assert dropped == ()


@pytest.mark.parametrize(
    ("max_tokens", "max_output", "limit", "budget"),
    [
        (4096, 0, 4096, 2048),
        (100, 0, 2148, 2048),
        (100, 2100, 2100, 2048),
        (1500, 2000, 2000, 1999),
        (100, 1025, 1025, 1024),
        (100, 1024, 100, None),
    ],
)
def test_budgets_of_thinking(max_tokens: int, max_output: int, limit: int, budget: int | None) -> None:
    body, _ = encoded(effort=BUDGET, max_tokens=max_tokens, max_output=max_output)
    assert body["max_tokens"] == limit
    assert body.get("thinking", {}).get("budget_tokens") == budget


@pytest.mark.parametrize(
    ("thinking", "kept"),
    [
        ([{"type": "thinking", "thinking": "hm", "signature": "s", "index": 0}], 1),
        ([{"type": "redacted_thinking", "data": "d"}], 1),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "redacted_thinking"}, {"type": "other"}], 0),
        ("nonsense", 0),
    ],
)
def test_thinking_is_replayed_or_given_up(thinking: Any, kept: int) -> None:
    said = {
        "role": "assistant",
        "content": "A",
        "tool_calls": [call("a")],
        "extra_content": {"anthropic": {"thinking_blocks": thinking}, "google": 1},
    }
    result = {"role": "tool", "tool_call_id": "a", "content": "1"}
    body, _ = encoded(messages=[USER, said, result], effort=EFFORTS["low"], tools=TOOLS)
    content = body["messages"][1]["content"]
    assert ("thinking" in body) is bool(kept)
    assert body["output_config"] == {"effort": "low"}
    assert [block["type"] for block in content[kept:]] == ["text", "tool_use"]
    if kept:
        (block,) = thinking
        assert content[0] == {name: value for name, value in block.items() if name != "index"}


def test_only_the_loop_under_way_needs_its_thinking() -> None:
    loop: list[dict[str, Any]] = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": "Done."},
    ]
    assert "thinking" in encoded(messages=[*loop, USER], effort=EFFORTS["low"], tools=TOOLS)[0]
    assert "thinking" not in encoded(messages=loop, effort=EFFORTS["low"], tools=TOOLS)[0]
    assert "thinking" in encoded(messages=[USER, loop[3]], effort=EFFORTS["low"])[0]


# Any conversation is one that the service takes.

CALLS = st.lists(
    st.builds(call, st.sampled_from(("a", "b", "c d", "")), st.sampled_from("fg"), st.just('{"x":1}')),
    max_size=3,
)
WORDS = st.sampled_from(("", " ", "A", "hé", "B \n"))
EXTRA = json.loads(SIGNED)["content"][:1]
TURNS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda words: {"role": "user", "content": words}, WORDS),
    st.builds(lambda words: {"role": "system", "content": words}, WORDS),
    st.builds(
        lambda words, id_: {"role": "tool", "tool_call_id": id_, "content": words},
        WORDS,
        st.sampled_from(("a", "b", "c d", "z")),
    ),
    st.builds(
        lambda words, calls, signed: {
            "role": "assistant",
            "content": words,
            **({"tool_calls": calls} if calls else {}),
            **({"extra_content": {"anthropic": {"thinking_blocks": EXTRA}}} if signed else {}),
        },
        WORDS,
        CALLS,
        st.booleans(),
    ),
)


@given(
    st.lists(TURNS, min_size=1, max_size=8),
    st.sampled_from(tuple(EFFORTS.values())) | st.just(BUDGET) | st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.sampled_from((0, 0.5, 1, 2)),
            "top_p": st.sampled_from((0, 0.5, 1)),
            "top_k": st.just(2),
            "max_tokens": st.sampled_from((1, 1024, 5000)),
            "tools": st.just(TOOLS),
            "tool_choice": st.sampled_from(("auto", "none", "required", TOOLS[0])),
            "parallel_tool_calls": st.booleans(),
            "stop": st.sampled_from((" ", "END")),
            "response_format": st.sampled_from(
                (
                    {"type": "json_object"},
                    {"type": "json_schema", "json_schema": {"name": "x", "schema": NO_SCHEMA}},
                )
            ),
        },
    ),
    st.sampled_from((0, 1000, 2000, 8000)),
)
def test_any_request_is_taken(
    messages: list[dict[str, Any]], effort: dict[str, object], fields: dict[str, Any], max_output: int
) -> None:
    rendering = Rendering(model="m", effort=effort, max_output=max_output)
    done = DIALECT.encode_request(asked(messages=messages, **fields), rendering)
    FORMAT.decode(done.body, "/v1/messages")
    again = DIALECT.parse_request(done.body, "")
    assert isinstance(again, ChatRequest), again
    # What has been through it once says the same for ever after; only that a result is an error has no other words.
    body = done.body.replace(b',"is_error":true', b"")
    assert DIALECT.encode_request(again, rendering).body == body


# Requests of Anthropic's own clients.


def parsed(**fields: Any) -> Any:
    """The request, in OpenAI's words, for a native one."""
    body = {"model": "m", "max_tokens": 5, "messages": [USER], **fields}
    request = DIALECT.parse_request(json.dumps(body).encode(), "/v1/messages")
    assert isinstance(request, ChatRequest), request
    return {name: msgspec.json.decode(value) for name, value in request.fields.items()}


def test_a_native_request() -> None:
    request = DIALECT.parse_request(
        b'{"max_tokens":5,"messages":[{"role":"user","content":"Q"}],"stream":true}', ""
    )
    assert isinstance(request, ChatRequest)
    assert (request.model, request.max_tokens, request.stream, request.include_usage) == (
        "auto",
        5,
        True,
        True,
    )
    assert parsed(
        system=[text("S") | {"cache_control": {"type": "ephemeral"}}, text("T")],
        temperature=0.5,
        top_p=0.5,
        top_k=3,
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        service_tier="auto",
    ) == {
        "model": "m",
        "max_completion_tokens": 5,
        "messages": [{"role": "system", "content": [text("S"), text("T")]}, USER],
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["END"],
        "user": "u",
    }


def test_native_messages() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    redacted = {"type": "redacted_thinking", "data": "d"}
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    messages = parsed(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": source},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/"}},
                    {"type": "image"},
                    {"type": "later"},
                ],
            },
            {
                "role": "assistant",
                "content": [thinking, {**thinking, "signature": ""}, redacted, text("A"), use],
            },
            {
                "role": "user",
                "content": [
                    text("Go"),
                    {"type": "tool_result", "tool_use_id": "a", "content": [text("1")], "is_error": True},
                    {"type": "tool_result", "tool_use_id": "b"},
                ],
            },
            {"role": "assistant", "content": [use | {"input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "2"}]},
            {"role": "system", "content": "S"},
            {"role": "assistant", "content": []},
        ]
    )["messages"]
    assert messages == [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/"}},
            ],
        },
        {
            "role": "assistant",
            "content": "A",
            "tool_calls": [call("a", arguments='{"x": 1}')],
            "reasoning_content": "hmhm",
            "extra_content": {"anthropic": {"thinking_blocks": [thinking, redacted]}},
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": None, "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
        {"role": "system", "content": "S"},
        {"role": "assistant", "content": ""},
    ]


def test_native_documents() -> None:
    sources: list[dict[str, Any]] = [
        {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
        {"type": "text", "media_type": "text/plain", "data": "Hi"},
        {"type": "file", "file_id": "file_1"},
        {"type": "content", "content": "inside"},
        {"type": "content", "content": [text("and")]},
    ]
    blocks = [{"type": "document", "source": source} for source in sources]
    blocks[0]["title"] = "a.pdf"
    (message,) = parsed(messages=[{"role": "user", "content": blocks}])["messages"]
    assert message["content"] == [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,SGk="}},
        {"type": "file", "file": {"file_id": "file_1"}},
        text("inside"),
        text("and"),
    ]


def test_native_tools() -> None:
    tools = [
        {"name": "f", "type": "custom", "description": "d", "input_schema": NO_SCHEMA, "strict": True},
        {"name": "g"},
    ]
    got = parsed(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert got["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": NO_SCHEMA, "strict": True},
        },
        {"type": "function", "function": {"name": "g"}},
    ]
    assert got["tool_choice"] == "required"
    assert got["parallel_tool_calls"] is False
    named = parsed(tools=tools, tool_choice={"type": "tool", "name": "g"})
    assert named["tool_choice"] == {"type": "function", "function": {"name": "g"}}
    assert "parallel_tool_calls" not in named


@pytest.mark.parametrize(
    ("thinking", "output", "effort"),
    [
        (None, None, None),
        (None, {"effort": "max"}, "max"),
        ({"type": "disabled"}, {"effort": "max"}, "none"),
        ({"type": "adaptive"}, {}, "high"),
        ({"type": "adaptive"}, {"effort": "xhigh"}, "xhigh"),
        ({"type": "enabled", "budget_tokens": 1024}, None, "low"),
        ({"type": "enabled", "budget_tokens": 5000}, None, "high"),
        ({"type": "enabled", "budget_tokens": 99999}, None, "max"),
    ],
)
def test_native_effort(thinking: Any, output: Any, effort: str | None) -> None:
    assert parsed(thinking=thinking, output_config=output).get("reasoning_effort") == effort


def test_native_json() -> None:
    got = parsed(output_config={"format": {"type": "json_schema", "schema": NO_SCHEMA}})
    assert got["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": NO_SCHEMA},
    }


@pytest.mark.parametrize(
    ("body", "code", "param", "message"),
    [
        (b"", "invalid_json", None, "could not be parsed"),
        (b"{", "invalid_json", None, "could not be parsed"),
        (b'{"messages":"\xff"}', "invalid_json", None, "utf-8"),
        (b"[" * 1000, "invalid_json", None, "nested more than 128"),
        (b"[]", "invalid_type", None, "Expected `object`, got `array`"),
        (b'{"messages":[{"role":"tool","content":""}]}', "invalid_type", "messages[0].role", "'tool'"),
        (b'{"messages":[],"max_tokens":"5"}', "invalid_type", "max_tokens", "max_tokens: Expected"),
        (b'{"messages":[]}', "empty_array", "messages", "length"),
        (b'{"messages":[],"tools":[{"name":"w","type":"later"}]}', "unsupported_value", None, "later"),
        (
            b'{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file"}}]}]}',
            "unsupported_value",
            None,
            "Images",
        ),
        (
            b'{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"url"}}]}]}',
            "unsupported_value",
            None,
            "Documents",
        ),
    ],
)  # fmt: skip
def test_refused_requests(body: bytes, code: str, param: str | None, message: str) -> None:
    failure = DIALECT.parse_request(body, "")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.type) == (
        FailureClass.INVALID,
        400,
        "invalid_request_error",
    )
    assert (failure.code, failure.param) == (code, param)
    assert message in failure.message


NATIVE = {
    "model": "m",
    "messages": [
        USER,
        {"role": "assistant", "content": [text("A"), {"type": "tool_use", "id": "a", "input": {}}]},
    ],
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "stop_sequences": ["x"],
}


@given(mutated(NATIVE))
def test_any_native_request(body: Any) -> None:
    request = DIALECT.parse_request(json.dumps(body).encode(), "")
    if isinstance(request, ChatRequest):
        DIALECT.encode_request(request, Rendering(model="m"))


IMAGES = [
    {"type": "image_url", "image_url": {"url": url}} for url in ("data:image/png;base64,AAAA", "https://x/")
]
FILES = [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}]
PARTS = st.lists(st.sampled_from([text("A"), text("hé"), *IMAGES, *FILES]), min_size=2, max_size=4)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Messages in the order that both formats have them."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "S"}] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(st.just("Q") | PARTS)})
        calls = [call(f"call_{number}_{at}", "fg"[at], '{"x":1}') for at in range(draw(st.integers(0, 2)))]
        messages.append({"role": "assistant", "content": "A", **({"tool_calls": calls} if calls else {})})
        for one in calls:
            messages.append(
                {"role": "tool", "tool_call_id": one["id"], "content": draw(st.sampled_from("12"))}
            )
    return [*messages, {"role": "user", "content": "Go"}]


@given(
    conversations(),
    st.fixed_dictionaries(
        {"max_tokens": st.just(9)},
        optional={
            "temperature": st.sampled_from((0.0, 0.5, 1.0)),
            "top_k": st.just(2),
            "stop": st.just(["END"]),
            "user": st.just("u"),
            "stream": st.booleans(),
            "parallel_tool_calls": st.just(False),
            "tool_choice": st.sampled_from(
                ("auto", "none", "required", {"type": "function", "function": {"name": "g"}})
            ),
            "response_format": st.just(
                {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {**NO_SCHEMA, "additionalProperties": False}},
                }
            ),
        },
    ),
)
def test_requests_there_and_back(messages: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": NO_SCHEMA}},
        {"type": "function", "function": {"name": "g", "parameters": NO_SCHEMA, "strict": True}},
    ]
    if fields.get("tool_choice") == "none":
        fields.pop("parallel_tool_calls", None)  # without calls there are no parallel ones
    sent = asked(messages=messages, tools=tools, **fields)
    back = DIALECT.parse_request(DIALECT.encode_request(sent, Rendering(model="m")).body, "")
    assert isinstance(back, ChatRequest)
    assert turns_of(back) == turns_of(sent)
    assert options_of(back) == options_of(sent)
    assert tools_of(back) == tools_of(sent)
    wanted = response_format_of(back)
    assert (wanted is not None) is ("response_format" in fields)
    if wanted is not None:
        assert wanted.schema is not None
        assert msgspec.json.decode(wanted.schema) == {**NO_SCHEMA, "additionalProperties": False}
    assert parallel_calls_of(back) == parallel_calls_of(sent)
    if "tool_choice" in fields:
        assert tool_choice_of(back) == tool_choice_of(sent)
    assert back.stream == sent.stream
    assert back.needs == sent.needs

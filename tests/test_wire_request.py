"""Clients' requests: what is understood, what is refused and how, what goes on to a provider."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from strategies import JSON

from gwproto.config import Quirks
from gwproto.failures import Failure, FailureClass
from gwproto.wire.neutral import ChatRequest, Rendering
from gwproto.wire.openai import request as request_module
from gwproto.wire.openai.request import encode_request, parse_request
from gwproto.wire.openai.schema import DOCUMENTED

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def accept(document: dict[str, Any] | None = None, **fields: Any) -> ChatRequest:
    body = json.dumps({"messages": [USER], **(document or {}), **fields}).encode()
    result = parse_request(body)
    assert isinstance(result, ChatRequest), result
    return result


def refuse(body: bytes) -> Failure:
    result = parse_request(body)
    assert isinstance(result, Failure)
    assert result.kind is FailureClass.INVALID
    assert result.status == 400
    assert result.type == "invalid_request_error"
    assert len(result.message) <= 300
    return result


def sent(request: ChatRequest, **rendering: Any) -> dict[str, Any]:
    result = json.loads(encode_request(request, Rendering(model="up", **rendering)).body)
    assert isinstance(result, dict)
    return result


def test_defaults() -> None:
    body = b'{"messages":[{"role":"user","content":"Hi"}]}'
    request = parse_request(body)
    assert request == ChatRequest(
        fields={"messages": Raw(b'[{"role":"user","content":"Hi"}]')}, prompt_tokens=8
    )


def test_everything_routing_needs() -> None:
    request = accept(
        model="m",
        stream=True,
        stream_options={"include_usage": True},
        temperature=0.5,
        max_tokens=7,
        n=2,
        reasoning_effort="high",
        project_id="a.b:c-d_e",
        x_gateway={"require_params": True},
        prompt_cache_key="k",
    )
    assert (request.model, request.stream, request.include_usage) == ("m", True, True)
    assert (request.temperature, request.max_tokens, request.n) == (0.5, 7, 2)
    assert (request.effort, request.project_id) == ("high", "a.b:c-d_e")
    assert (request.require_params, request.cache_key) == (True, "k")
    assert not {"project_id", "x_gateway"} & set(request.fields)


@pytest.mark.parametrize("model", ["", None])
def test_no_model_is_auto(model: str | None) -> None:
    assert accept(model=model).model == "auto"


def test_null_is_absent() -> None:
    document = dict.fromkeys((*DOCUMENTED, "project_id", "prompt", "x_gateway", "unheard_of"))
    request = accept({**document, "messages": [USER]})
    assert set(request.fields) == {"messages"}
    assert request == accept()


def test_effort_auto_is_not_sent() -> None:
    request = accept(reasoning_effort="auto")
    assert request.effort == "auto"
    assert "reasoning_effort" not in request.fields


def test_second_token_limit_wins() -> None:
    request = accept(max_tokens=5, max_completion_tokens=9)
    assert request.max_tokens == 9
    assert "max_tokens" not in request.fields


def test_prompt_instead_of_messages() -> None:
    request = parse_request(b'{"prompt":"H\\u00e9 \\"x\\""}')
    assert isinstance(request, ChatRequest)
    assert sent(request) == {"messages": [{"role": "user", "content": 'Hé "x"'}], "model": "up"}
    assert "prompt" not in accept(prompt="x").fields


@pytest.mark.parametrize(
    ("stop", "kept"),
    [("", None), ([""], None), ([], None), (["a", ""], ["a"]), ("a", "a"), (["a", "b"], ["a", "b"])],
)
def test_empty_stops_are_dropped(stop: Any, kept: Any) -> None:
    assert sent(accept(stop=stop)).get("stop") == kept


def test_tool_options_without_tools_are_dropped() -> None:
    request = accept(
        tools=[], functions=[], tool_choice="auto", function_call="auto", parallel_tool_calls=True
    )
    assert set(request.fields) == {"messages"}
    assert request.needs == frozenset()


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools"}),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, {"tools", "custom_tools"}),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_object"}}, {"json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, {"json_schema"}),
        ({"n": 1}, set()),
        ({"n": 2}, {"n"}),
        ({"logprobs": False}, set()),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs"}),
        ({"modalities": ["text"]}, set()),
        ({"modalities": ["text", "audio"]}, {"audio"}),
    ],
)
def test_needs(fields: dict[str, Any], needs: set[str]) -> None:
    assert accept(fields).needs == needs


@pytest.mark.parametrize(
    ("part", "needs", "tokens"),
    [
        ({"type": "text", "text": "x"}, set(), 0),
        ({"type": "image_url", "image_url": {"url": "data:" + "x" * 9999}}, {"vision"}, 800),
        ({"type": "image_url", "image_url": "data:" + "x" * 9999}, {"vision"}, 800),
        ({"type": "input_audio", "input_audio": {"data": "x" * 9999, "format": "wav"}}, {"audio"}, 800),
        ({"type": "input_audio", "input_audio": "x" * 9999}, {"audio"}, 800),
        ({"type": "file", "file": {"file_data": "x" * 9999}}, {"files"}, 800),
        ({"type": "file", "file": {"file_id": "x"}}, {"files"}, 0),
        ({"type": "refusal", "refusal": "no"}, set(), 0),
        ({"type": "video_url", "video_url": {"url": "x"}}, set(), 0),
    ],
)
def test_content_parts(part: dict[str, Any], needs: set[str], tokens: int) -> None:
    request = accept(messages=[{"role": "user", "content": [part]}])
    assert request.needs == needs
    assert tokens <= request.prompt_tokens < tokens + 40


def test_estimate_grows_with_text_and_tools() -> None:
    assert accept(messages=[{"role": "user", "content": "x" * 4000}]).prompt_tokens in range(1000, 1020)
    assert accept(tools=[{**TOOL, "pad": "x" * 4000}]).prompt_tokens in range(1000, 1050)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "x", "name": "n"},
        {"role": "developer", "content": [{"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}],
        },
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": None, "audio": {"id": "a"}},
        {"role": "assistant", "content": None, "reasoning_content": "hm"},
        {"role": "assistant", "content": "", "tool_calls": []},
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "7"}]},
        {"role": "function", "name": "f", "content": None},
    ],
)
def test_message_grammar(message: dict[str, Any]) -> None:
    assert sent(accept(messages=[USER, message]))["messages"] == [USER, message]


@pytest.mark.parametrize(
    ("document", "code", "param"),
    [
        ([], "invalid_type", None),
        ({}, "missing_required_parameter", "messages"),
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": "x"}, "invalid_type", "messages"),
        ({"messages": [1]}, "invalid_type", "messages[0]"),
        ({"messages": [{}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": 1}]}, "invalid_type", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "invalid_type", "messages[0].content"),
        ({"messages": [USER, {"role": "assistant"}]}, "invalid_type", "messages[1].content"),
        ({"messages": [{"role": "assistant", "tool_calls": []}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "invalid_type", "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{}]}]},
            "missing_required_parameter",
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "missing_required_parameter",
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "missing_required_parameter",
            "messages[0].content[0].image_url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "missing_required_parameter",
            "messages[0].content[0].input_audio",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "function", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].name",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "missing_required_parameter",
            "messages[0].tool_calls[0].function",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": CALL["function"]}]}]},
            "missing_required_parameter",
            "messages[0].tool_calls[0].id",
        ),
        ({"model": 1}, "invalid_type", "model"),
        ({"model": "m" * 257}, "string_above_max_length", "model"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"temperature": 2.1}, "decimal_above_max_value", "temperature"),
        ({"temperature": -0.1}, "decimal_below_min_value", "temperature"),
        ({"top_p": 1.1}, "decimal_above_max_value", "top_p"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"max_completion_tokens": 1.5}, "invalid_type", "max_completion_tokens"),
        ({"n": 0}, "integer_below_min_value", "n"),
        ({"n": 10**9}, "integer_above_max_value", "n"),
        ({"presence_penalty": 3}, "decimal_above_max_value", "presence_penalty"),
        ({"logit_bias": {"1": 101}}, "decimal_above_max_value", "logit_bias"),
        ({"logit_bias": {"1": "x"}}, "invalid_type", "logit_bias"),
        ({"stop": ["a"] * 5}, "array_above_max_length", "stop"),
        ({"stop": [1]}, "invalid_type", "stop[0]"),
        ({"reasoning_effort": "huge"}, "invalid_value", "reasoning_effort"),
        ({"project_id": "no spaces"}, "invalid_value", "project_id"),
        ({"project_id": "line\n"}, "invalid_value", "project_id"),
        ({"project_id": ""}, "invalid_value", "project_id"),
        ({"project_id": "x" * 65}, "invalid_value", "project_id"),
        ({"x_gateway": True}, "invalid_type", "x_gateway"),
        ({"tools": {}}, "invalid_type", "tools"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
        (
            {"tools": [{"type": "function", "function": {}}]},
            "missing_required_parameter",
            "tools[0].function.name",
        ),
        ({"tool_choice": 1}, "invalid_type", "tool_choice"),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_required_parameter",
            "response_format.json_schema",
        ),
        ({"response_format": "json"}, "invalid_type", "response_format"),
        ({"top_logprobs": 3}, "invalid_value", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "integer_above_max_value", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"stream": False, "stream_options": {}}, "invalid_value", "stream_options"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "invalid_type",
            "stream_options.include_usage",
        ),
        ({"seed": "x"}, "invalid_type", "seed"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata"),
        ({"user": 1}, "invalid_type", "user"),
    ],
)
def test_refusals(document: Any, code: str, param: str | None) -> None:
    if isinstance(document, dict) and document and "messages" not in document:
        document = {"messages": [USER], **document}
    failure = refuse(json.dumps(document).encode())
    assert (failure.code, failure.param) == (code, param)
    if param is not None:
        assert f"'{param}'" in failure.message


# Everything but null; each documented field refuses at least the types it is not.
SAMPLES: tuple[Any, ...] = (True, 1, 1.5, "\x00", ["\x00"], {"a": ["\x00"]})


def test_the_characters_of_a_project_are_said_in_words() -> None:
    failure = parse_request(b'{"prompt":"x","project_id":"a b"}')
    assert isinstance(failure, Failure)
    assert failure.message == (
        "Invalid value for 'project_id': 1 to 64 of the characters A-Z a-z 0-9 . _ : - are allowed."
    )


@pytest.mark.parametrize("name", sorted(DOCUMENTED | {"project_id", "prompt", "x_gateway"}))
def test_every_documented_field_is_checked(name: str) -> None:
    refused = 0
    for value in SAMPLES:
        result = parse_request(json.dumps({"messages": [USER], name: value}).encode())
        if isinstance(result, Failure):
            refused += 1
            assert (result.param or "").split(".")[0].split("[")[0] == name
    assert refused >= 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "parsed as JSON"),
        (b"hello", "parsed as JSON"),
        (b'{"messages":[{"role":"user","content":"Hi"}],"x":NaN}', "parsed as JSON"),
        (b'{"temperature":Infinity}', "parsed as JSON"),
        (b'{"a":1}x', "parsed as JSON"),
        (b'\xef\xbb\xbf{"a":1}', "parsed as JSON"),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', "parsed as JSON"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "UTF-8"),
        (b'{"messages":[{"role":"user","content":"Hi"}],"x":"\xc3"}', "UTF-8"),
        (b'{"x":' + b"[" * 128 + b"]" * 128 + b"}", "nested"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    ],
)
def test_not_json(body: bytes, words: str) -> None:
    failure = refuse(body)
    assert failure.code == "invalid_json"
    assert words in failure.message


def test_depth_of_128_is_enough() -> None:
    deep = b"[" * 127 + b"]" * 127
    request = parse_request(b'{"messages":[{"role":"user","content":"Hi"}],"x":' + deep + b"}")
    assert isinstance(request, ChatRequest)


def test_brackets_in_text_are_not_depth() -> None:
    assert accept(messages=[{"role": "user", "content": '[{"' * 500 + "\\"}]).needs == frozenset()


def either_way(body: bytes) -> ChatRequest | Failure:
    """What becomes of ``body``, which is the same whether it counts as a long one or not."""
    with pytest.MonkeyPatch.context() as patch:
        results = []
        for length in (0, len(body)):
            patch.setattr(request_module, "_LONG", length)
            results.append(parse_request(body))
    assert results[0] == results[1]
    return results[0]


TEXT = {"type": "text", "text": "Hi [1]"}


@pytest.mark.parametrize(
    "message",
    [
        USER,
        {"role": "user", "content": [TEXT, {"type": "image_url", "image_url": "https://a/b"}]},
        {
            "role": "user",
            "content": [TEXT, {"type": "image_url", "image_url": {"url": "data:x", "more": [[]]}}],
        },
        {"role": "user", "content": [{**TEXT, "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "abc"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "abc"}}]},
        {"role": "user", "content": "Hi", "unknown": [1]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "extra_content": {"google": {}}}]},
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "extra_content": None}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "custom": {"name": "f"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]},
        {"role": "assistant", "content": None, "audio": {"id": "a"}},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "content": "Hi", "extra_content": None},
        {"role": "tool", "content": "Hi"},
        {"role": "nobody", "content": "Hi"},
        {"role": "user", "content": 5},
        5,
    ],
)
def test_long_requests_are_understood_like_short_ones(message: Any) -> None:
    either_way(json.dumps({"messages": [USER, message], "temperature": 1, "model": "m"}).encode())
    refused = either_way(json.dumps({"messages": [message], "temperature": "high"}).encode())
    assert isinstance(refused, Failure)


@pytest.mark.parametrize("start", [b'{"messages":[],', b'{"messages":null,', b"{", b'{"messages":["\\q"],'])
def test_without_messages_long_requests_are_refused_like_short_ones(start: bytes) -> None:
    assert isinstance(either_way(start + b'"model":"m"}'), Failure)


@pytest.mark.parametrize("levels", [127, 128])
def test_how_deep_long_requests_may_be(levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    text = b" " * 20000
    outside = parse_request(b'{"messages":[{"role":"user","content":"%b"}],"x":%b}' % (text, deep))
    assert isinstance(outside, ChatRequest) == (levels == 127)
    inside = parse_request(b'{"messages":[{"role":"user","content":"%b","x":%b}]}' % (text, deep[3:-3]))
    assert isinstance(inside, ChatRequest)
    inside = parse_request(b'{"messages":[{"role":"user","content":"%b","x":%b}]}' % (text, deep))
    assert isinstance(inside, Failure)
    assert "nested" in inside.message


def test_number_out_of_range() -> None:
    failure = refuse(b'{"messages":[{"role":"user","content":"Hi"}],"temperature":1e999}')
    assert (failure.code, failure.param) == ("invalid_value", "temperature")


def test_refusals_are_short() -> None:
    failure = refuse(json.dumps({"messages": [{"role": "x" * 10_000, "content": "y"}]}).encode())
    assert failure.param == "messages[0].role"


def test_fields_survive_byte_for_byte() -> None:
    body = (
        b'{"model":"auto","messages":[ {"role":"user","content":"\\u0048i", "x":1e2} ],'
        b'"seed":12345678901234567890,"temperature":1.0E+0,"unheard_of":{"a" : 1.50}}'
    )
    request = parse_request(body)
    assert isinstance(request, ChatRequest)
    encoded = encode_request(request, Rendering(model='u"p'))
    assert encoded.path == "/chat/completions"
    assert encoded.dropped == ()
    assert encoded.body == body.replace(b'"auto"', b'"u\\"p"')


def test_model_is_added() -> None:
    assert sent(accept()) == {"messages": [USER], "model": "up"}


def test_effort_is_the_renderings() -> None:
    assert (
        sent(accept(reasoning_effort="high"), effort={"reasoning_effort": "low"})["reasoning_effort"] == "low"
    )
    assert sent(accept(), effort={"reasoning_effort": "low"})["reasoning_effort"] == "low"
    assert "reasoning_effort" not in sent(accept(reasoning_effort="high"))


def test_usage_is_asked_for_in_streams() -> None:
    assert "stream_options" not in sent(accept())
    assert sent(accept(stream=True))["stream_options"] == {"include_usage": True}
    for asked in (
        {"include_usage": True, "x": 1},
        {"x": 1},
        {"include_usage": False, "x": 1},
        {"include_usage": None, "x": 1},
    ):
        request = accept(stream=True, stream_options=asked)
        assert sent(request)["stream_options"] == {"include_usage": True, "x": 1}
        assert request.include_usage is (asked.get("include_usage") is True)


def test_usage_is_not_asked_for_where_it_is_refused() -> None:
    for rendering in (
        Rendering(model="up", quirks=Quirks(stream_usage=False)),
        Rendering(model="up", quirks=Quirks(drop=frozenset(("stream_options",)))),
    ):
        encoded = encode_request(accept(stream=True, stream_options={"include_usage": True}), rendering)
        assert b"stream_options" not in encoded.body
        assert encoded.dropped == ("stream_options",)
        assert encode_request(accept(stream=True), rendering).dropped == ()


def test_dropped_fields_are_named() -> None:
    request = accept(user="u", seed=1, unheard_of=2)
    encoded = encode_request(request, Rendering(model="up", quirks=Quirks(drop=frozenset(("user", "store")))))
    assert encoded.dropped == ("user",)
    assert json.loads(encoded.body) == {"messages": [USER], "seed": 1, "unheard_of": 2, "model": "up"}
    particular = Quirks(drop=frozenset(("user",)), open=False)
    closed = encode_request(request, Rendering(model="up", quirks=particular))
    assert closed.dropped == ("user", "unheard_of")
    assert "unheard_of" in request.fields


def test_a_temperature_over_the_providers_highest_is_lowered() -> None:
    assert sent(accept(temperature=1.5), quirks=Quirks(max_temperature=1.0))["temperature"] == 1.0
    assert sent(accept(temperature=0.5), quirks=Quirks(max_temperature=1.0))["temperature"] == 0.5
    assert "temperature" not in sent(accept(), quirks=Quirks(max_temperature=1.0))
    cold = Quirks(max_temperature=1.0, drop=frozenset({"temperature"}))
    assert "temperature" not in sent(accept(temperature=1.5), quirks=cold)


def test_what_says_the_effort_joins_what_the_client_sent() -> None:
    effort = {"chat_template_kwargs": {"enable_thinking": True}}
    body = sent(accept(chat_template_kwargs={"a": 1}), effort=effort)
    assert body["chat_template_kwargs"] == {"a": 1, "enable_thinking": True}
    assert sent(accept(chat_template_kwargs=7), effort=effort)["chat_template_kwargs"] == {
        "enable_thinking": True
    }
    assert sent(accept(), effort=effort)["chat_template_kwargs"] == {"enable_thinking": True}


def test_configured_fields_are_added() -> None:
    assert sent(accept(seed=1), body={"seed": 2, "x": []}) == {
        "messages": [USER],
        "model": "up",
        "seed": 2,
        "x": [],
    }


@given(st.dictionaries(st.sampled_from((*sorted(DOCUMENTED), "x")), JSON, max_size=4))
def test_any_document_is_understood_or_refused(document: dict[str, Any]) -> None:
    body = json.dumps({"messages": [USER], **document}).encode()
    request = parse_request(body)
    if isinstance(request, Failure):
        assert request.status == 400
        return
    again = parse_request(encode_request(request, Rendering(model=request.model)).body)
    assert isinstance(again, ChatRequest)
    assert again.needs == request.needs


@given(st.binary(max_size=40))
def test_any_bytes_are_refused(body: bytes) -> None:
    refuse(body)

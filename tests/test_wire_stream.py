"""Chunks: one event's data decoded, one whole event encoded."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from strategies import JSON, WORDS

from gwproto.failures import FailureClass, WireError
from gwproto.sse import DONE, Decoder
from gwproto.values import Usage
from gwproto.wire.neutral import Chunk, Delta, Envelope, ToolFragment
from gwproto.wire.openai.stream import decode_chunk, encode_chunk

ENVELOPE = Envelope("c1", 1, "m")
HEAD: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def document(*choices: Any, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": list(choices), **more}


def choice(delta: Any = None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {} if delta is None else delta, "finish_reason": None, **more}


def decode(value: Any) -> Chunk:
    return decode_chunk(json.dumps(value).encode())


def one(delta: Any, **more: Any) -> tuple[Delta, bool]:
    chunk = decode(document(choice(delta, **more)))
    assert chunk.failure is None
    assert not chunk.done
    return chunk.deltas[0], chunk.verbatim


def encoded(chunk: Chunk) -> dict[str, Any]:
    data = encode_chunk(chunk, ENVELOPE)
    (frame,) = Decoder().receive(data)
    assert frame.raw == data
    result = json.loads(frame.data)
    assert isinstance(result, dict)
    return result


def test_plain_chunk() -> None:
    assert decode(document(choice({"content": "A"}))) == Chunk(
        (Delta(content="A"),), "c1", 1, "m", verbatim=True
    )


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"role": "assistant", "content": "", "refusal": None}, Delta(role=True, content="")),
        ({"reasoning_content": "hm", "content": None}, Delta(reasoning="hm")),
        ({"refusal": "no"}, Delta(refusal="no")),
        (
            {
                "tool_calls": [
                    {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
                ]
            },
            Delta(tools=(ToolFragment(0, "a", "f"),)),
        ),
        (
            {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
            Delta(tools=(ToolFragment(1, arguments="{}"),)),
        ),
    ],
)
@pytest.mark.parametrize("unknown", [{}, {"x": 1}])
def test_verbatim_deltas(delta: dict[str, Any], expected: Delta, unknown: dict[str, int]) -> None:
    """With keys nobody documented the slow path decides, and says the same."""
    extra = {name: Raw(b"1") for name in unknown}
    got, verbatim = one({**delta, **unknown})
    assert got == msgspec.structs.replace(expected, extra=extra)
    assert verbatim
    got, verbatim = one(delta, **unknown)
    assert got == msgspec.structs.replace(expected, choice_extra=extra)
    assert verbatim
    chunk = decode(document(choice(delta), **unknown))
    assert chunk == Chunk((expected,), "c1", 1, "m", extra=extra, verbatim=True)


@pytest.mark.parametrize("unknown", [{}, {"x": 1}])
def test_null_usage_is_noticed(unknown: dict[str, int]) -> None:
    assert decode(document(choice({"content": "A"}), usage=None, **unknown)).null_usage
    assert not decode(document(choice({"content": "A"}), **unknown)).null_usage
    assert not decode(document(choice({"reasoning": "A"}), usage=None, **unknown)).null_usage


def test_documented_extras_survive() -> None:
    chunk = decode(
        document(
            choice({"content": "A"}, logprobs={"content": []}),
            system_fingerprint="fp",
            service_tier="default",
            obfuscation="x",
            usage=None,
        )
    )
    assert chunk.verbatim
    assert chunk.deltas[0].choice_extra == {"logprobs": Raw(b'{"content": []}')}
    assert encoded(chunk) == {
        **document({**choice({"content": "A"}), "logprobs": {"content": []}}),
        "system_fingerprint": "fp",
        "service_tier": "default",
        "obfuscation": "x",
    }


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"role": None, "content": "A"}, Delta(content="A")),
        ({"role": "model", "content": "A"}, Delta(role=True, content="A")),
        ({"content": 7}, Delta()),
        ({"content": [{"type": "text", "text": "A"}, {"type": "x"}, 1]}, Delta(content="A")),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "x"}]}]},
            Delta(reasoning="h"),
        ),
        ({"content": [{"type": "thinking", "thinking": "h"}]}, Delta(reasoning="h")),
        ({"content": []}, Delta()),
        ({"reasoning": "hm"}, Delta(reasoning="hm")),
        ({"reasoning": "hm", "reasoning_content": "hm"}, Delta(reasoning="hm")),
        ({"tool_calls": None, "content": None, "index": 0}, Delta()),
        ({"tool_calls": 1}, Delta()),
        (
            {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "", "arguments": "x"}}]},
            Delta(tools=(ToolFragment(0, None, "", "x"),)),
        ),
        (
            {
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
                ]
            },
            Delta(tools=(ToolFragment(None, "a", "f", '{"x": 1}'),)),
        ),
        (
            {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": None}}]},
            Delta(tools=(ToolFragment(0, "a", "f"),)),
        ),
        ({"tool_calls": [{"index": "0", "function": None}]}, Delta(tools=(ToolFragment(),))),
        ({"tool_calls": [{"index": 0}]}, Delta(tools=(ToolFragment(0),))),
        (
            {"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": ""}}]},
            Delta(tools=(ToolFragment(0, "a"),)),
        ),
        (
            {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f"}}]},
            Delta(
                tools=(
                    ToolFragment(
                        0, "a", "f", "", {"type": Raw(b'"custom"'), "custom": Raw(b'{"name": "f"}')}
                    ),
                )
            ),
        ),
    ],
)
def test_deltas_no_client_may_get(delta: dict[str, Any], expected: Delta) -> None:
    got, verbatim = one(delta)
    assert got == expected
    assert not verbatim


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (document(choice(finish_reason="eos")), Delta(finish="eos")),
        (document(choice(finish_reason="")), Delta()),
        (document({"index": 0, "delta": {"content": "A"}}), Delta(content="A")),
        (document({"delta": {"content": "A"}, "finish_reason": None}), Delta(content="A")),
        (document({"index": 0, "delta": None, "finish_reason": "stop"}), Delta(finish="stop")),
        (document({"index": 0, "finish_reason": "stop"}), Delta(finish="stop")),
        ({**document(choice({"content": "A"})), "id": ""}, Delta(content="A")),
        ({**document(choice({"content": "A"})), "created": 1.5}, Delta(content="A")),
        ({**document(choice({"content": "A"})), "created": "now"}, Delta(content="A")),
        ({**document(choice({"content": "A"})), "model": None}, Delta(content="A")),
        ({**document(choice({"content": "A"})), "object": "chunk"}, Delta(content="A")),
        ({**document(choice({"content": "A"})), "error": {}, "x": 1}, Delta(content="A")),
        (document(choice({"content": "A"}), usage={"prompt_tokens": 1}), Delta(content="A")),
    ],
)
def test_chunks_no_client_may_get(value: dict[str, Any], expected: Delta) -> None:
    chunk = decode(value)
    assert chunk.deltas == (expected,)
    assert not chunk.verbatim
    assert "error" not in chunk.extra


def test_created_may_be_a_fraction() -> None:
    assert decode({**document(), "created": 1.5}).created == 1


def test_numbers_beyond_floats() -> None:
    chunk = decode_chunk(b'{"created":1e999,"choices":[],"x":1e999}')
    assert (chunk.created, chunk.extra) == (0, {"x": Raw(b"1e999")})
    failure = decode_chunk(b'{"error":{"message":"m","code":429,"x":1e999}}').failure
    assert failure is not None
    assert failure.kind is FailureClass.RATE_MINUTE


def test_malformed_fragment_beside_unknown_keys() -> None:
    got, verbatim = one({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "x"}}], "y": 1})
    assert got.tools == (ToolFragment(0, "a", None, "x"),)
    assert not verbatim


def test_missing_choice_index_is_the_position() -> None:
    chunk = decode(document({"delta": {"content": "A"}}, {"delta": {"content": "B"}}))
    assert [delta.choice for delta in chunk.deltas] == [0, 1]


@pytest.mark.parametrize("index", [-1, 128, "0", 1.5, True])
def test_impossible_choice_index(index: object) -> None:
    with pytest.raises(WireError):
        decode(document(choice({"content": "A"}, index=index)))


@pytest.mark.parametrize("choices", [None, {}, "x", []])
def test_no_choices(choices: object) -> None:
    chunk = decode({**HEAD, "choices": choices})
    assert chunk.deltas == ()
    assert chunk.failure is None


@pytest.mark.parametrize(
    ("sent", "usage", "as_sent"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "x": 1}, Usage(1, 2, 3), True),
        (
            {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            Usage(1, 2, 3, 1, 1),
            True,
        ),
        ({"prompt_tokens": 1, "completion_tokens": 2}, Usage(1, 2, 3), False),
        ({"prompt_tokens": 1, "total_tokens": 1}, Usage(1, 0, 1), False),
        (
            {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6, "reasoning_tokens": 1},
            Usage(4, 2, 6, None, 1),
            False,
        ),
        (
            {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6, "prompt_cache_hit_tokens": 3},
            Usage(4, 2, 6, 3),
            False,
        ),
        (
            {
                "prompt_tokens": 4,
                "completion_tokens": 2,
                "total_tokens": 9,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(4, 5, 9, None, 3),
            False,
        ),
        ({}, None, False),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None, False),
        ({"prompt_tokens": "many"}, None, False),
        ("many", None, False),
    ],
)
def test_usage(sent: Any, usage: Usage | None, as_sent: bool) -> None:
    chunk = decode(document(usage=sent))
    assert chunk.usage == usage
    assert (chunk.raw_usage is not None) is as_sent
    assert not chunk.verbatim
    if usage is not None and as_sent:
        assert encoded(chunk)["usage"] == sent
    elif usage is not None:
        again = decode_chunk(encode_chunk(chunk, ENVELOPE)[6:-2])
        assert again.usage == usage


def test_usage_in_groqs_own_place() -> None:
    chunk = decode(
        document(choice(), x_groq={"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
    )
    assert chunk.usage == Usage(1, 2, 3)
    assert not chunk.verbatim
    assert decode(document(choice(), x_groq={"id": "r"})).verbatim


@pytest.mark.parametrize("data", [b"[DONE]", b"[DONE] ", b" [DONE]", b"[DONE]x"])
def test_end_marker(data: bytes) -> None:
    chunk = decode_chunk(data)
    assert chunk.done
    assert encode_chunk(chunk, ENVELOPE) == DONE


def test_blank_data_says_nothing() -> None:
    assert decode_chunk(b" \n") == Chunk()


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ({"error": "boom"}, FailureClass.SERVER, "boom"),
        ({"error": {"message": "slow", "code": 429}}, FailureClass.RATE_MINUTE, "slow"),
        ({"error": {"message": "slow"}, "status_code": 429}, FailureClass.RATE_MINUTE, "slow"),
        ({"error": {"message": "bad", "type": "invalid_request_error"}}, FailureClass.INVALID, "bad"),
        (document(choice(), error={"message": "gone", "code": 503}), FailureClass.OVERLOADED, "gone"),
        (document(choice(), x_groq={"error": "over capacity"}), FailureClass.OVERLOADED, "over capacity"),
        (
            {"error": {"message": '{"error":{"code":429,"message":"inner"}}', "code": 500}},
            FailureClass.RATE_MINUTE,
            "inner",
        ),
        ([{"error": {"code": 429, "message": "listed"}}], FailureClass.RATE_MINUTE, "listed"),
        ({"message": "flat", "type": "overloaded_error"}, FailureClass.OVERLOADED, "flat"),
        ({"detail": "flat"}, FailureClass.SERVER, "flat"),
        ({"success": False, "errors": [{"code": 7, "message": "flat"}]}, FailureClass.SERVER, "flat"),
    ],
)
def test_errors_in_the_stream(value: Any, kind: FailureClass, message: str) -> None:
    failure = decode(value).failure
    assert failure is not None
    assert (failure.kind, failure.message) == (kind, message)


@pytest.mark.parametrize("empty", [None, "", {}, False])
def test_an_empty_error_is_none(empty: object) -> None:
    chunk = decode(document(choice({"content": "A"}), error=empty, x_groq={"error": empty}))
    assert chunk.failure is None
    assert chunk.deltas == (Delta(content="A"),)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"7",
        b'"x"',
        b"[1]",
        b"[]",
        b"null",
        b"{",
        b'{"a":}',
        b"<html>",
        b'{"choices":[{"delta":{}}',
        b'{"choices":' + b"[" * 200 + b"]" * 200 + b"}",
        b"[" * 100_000,
        b'{"a":1}}',
        b'{"a":NaN,"b":' + b"9" * 5000 + b"}",
        b'{"choices":[7,{"index":"x"}]}',
    ],
)
def test_not_a_chunk(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_chunk(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'"content":"A","x":NaN', Delta(content="A")),
        (
            b'"content":"A","x":1e999,"y":-Infinity',
            Delta(content="A", extra={"x": Raw(b"1e999"), "y": Raw(b"1")}),
        ),
        (b'"content":"a\\ud800b"', Delta(content="a\ufffdb")),
        (b'"content":"\\ud83d\\ude00"', Delta(content="😀")),
        (b'"content":"a\tb"', Delta(content="a\tb")),
        (b'"content":"A","content":"B"', Delta(content="B")),
    ],
)
def test_almost_json(data: bytes, expected: Delta) -> None:
    chunk = decode_chunk(b'{"id":"c1","choices":[{"index":0,"delta":{%s},"finish_reason":null}]}' % data)
    (delta,) = chunk.deltas
    assert delta.content == expected.content
    strict = json.loads(
        encode_chunk(chunk, ENVELOPE)[6:-2], parse_constant=lambda _: pytest.fail("not strict")
    )
    assert strict["choices"][0]["delta"]["content"] == expected.content


def test_encoded_key_order() -> None:
    chunk = Chunk(
        (Delta(content="A", extra={"x": Raw(b"1")}, choice_extra={"y": Raw(b"2")}),),
        usage=Usage(1, 2, 3),
        extra={"z": Raw(b"3")},
    )
    assert encode_chunk(chunk, Envelope("i", 5, "m")) == (
        b'data: {"id":"i","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,'
        b'"delta":{"content":"A","x":1},"finish_reason":null,"y":2}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3},"z":3}\n\n'
    )


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (Delta(role=True), {"role": "assistant", "content": ""}),
        (Delta(role=True, content="A"), {"role": "assistant", "content": "A"}),
        (
            Delta(role=True, tools=(ToolFragment(0, "a", "f"),)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
                ],
            },
        ),
        (
            Delta(tools=(ToolFragment(0, None, None, "x", {"y": Raw(b"1")}),)),
            {"tool_calls": [{"index": 0, "function": {"arguments": "x"}, "y": 1}]},
        ),
        (
            Delta(
                tools=(
                    ToolFragment(
                        0, "a", "f", "", {"type": Raw(b'"custom"'), "custom": Raw(b'{"input":"x"}')}
                    ),
                )
            ),
            {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"input": "x"}}]},
        ),
        (
            Delta(tools=(ToolFragment(0, None, None, "", {"custom": Raw(b'{"input":"x"}')}),)),
            {"tool_calls": [{"index": 0, "custom": {"input": "x"}}]},
        ),
        (Delta(reasoning="a", refusal="b"), {"reasoning_content": "a", "refusal": "b"}),
    ],
)
def test_encoded_deltas(delta: Delta, expected: dict[str, Any]) -> None:
    assert encoded(Chunk((delta,)))["choices"] == [choice(expected)]


def test_encoded_chunks_are_one_line() -> None:
    chunk = decode_chunk(b'{"choices":[{"delta":{"content":"A","x":[1,\n2,\r\n3]}}]}')
    assert encoded(chunk)["choices"][0]["delta"] == {"content": "A", "x": [1, 2, 3]}


@given(
    st.builds(
        Chunk,
        deltas=st.lists(
            st.builds(
                Delta,
                choice=st.integers(0, 3),
                role=st.booleans(),
                content=WORDS,
                reasoning=st.none() | WORDS.filter(bool),
                tools=st.lists(
                    st.builds(
                        ToolFragment,
                        index=st.integers(0, 3),
                        id=st.just("a"),
                        name=st.just("f"),
                        arguments=WORDS,
                    ),
                    max_size=2,
                ).map(tuple),
                finish=st.sampled_from((None, "stop", "length")),
                extra=st.dictionaries(
                    st.just("x"), JSON.filter(lambda one: one is not None).map(msgspec.json.encode).map(Raw)
                ),
            ),
            max_size=2,
        ).map(tuple),
        id=st.just("c1"),
        created=st.just(1),
        model=st.just("m"),
        usage=st.none()
        | st.builds(
            Usage,
            prompt_tokens=st.just(1),
            completion_tokens=st.just(2),
            total_tokens=st.just(3),
            cached_tokens=st.none() | st.just(1),
        ),
    )
)
def test_round_trip(chunk: Chunk) -> None:
    again = decode_chunk(encode_chunk(chunk, ENVELOPE)[6:-2])
    assert msgspec.structs.replace(again, verbatim=False, raw_usage=None) == chunk
    assert again.verbatim is (chunk.usage is None)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_data_is_decoded_or_refused(data: bytes) -> None:
    try:
        chunk = decode_chunk(data)
    except WireError:
        return
    assert chunk.failure is not None or chunk.done or not chunk.verbatim


MESSY = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "object": st.just("chat.completion.chunk") | JSON,
        "created": JSON,
        "model": JSON,
        "usage": JSON | st.dictionaries(st.sampled_from(("prompt_tokens", "total_tokens")), JSON),
        "error": JSON,
        "x_groq": JSON,
        "choices": JSON
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.integers(-1, 200) | JSON,
                    "finish_reason": JSON,
                    "delta": JSON
                    | st.dictionaries(
                        st.sampled_from(
                            ("role", "content", "tool_calls", "reasoning", "refusal", "function_call")
                        ),
                        JSON,
                    ),
                },
            ),
            max_size=2,
        ),
    },
)


@given(MESSY)
def test_any_object_is_decoded_or_refused(value: dict[str, Any]) -> None:
    try:
        chunk = decode(value)
    except WireError:
        return
    if chunk.failure is None:
        encoded(chunk)


def test_reasoning_in_openrouters_details() -> None:
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "s"},
        {"type": "reasoning.summary", "summary": "m."},
        {"type": "reasoning.encrypted", "data": "x"},
    ]

    def said(**delta: object) -> Delta:
        document = {"choices": [{"index": 0, "delta": {"reasoning_details": details, **delta}}]}
        (only,) = decode_chunk(json.dumps(document).encode()).deltas
        assert json.loads(bytes(memoryview(only.extra["reasoning_details"]))) == details  # to come back
        return only

    assert said().reasoning == "Hmm."
    assert said(reasoning="Hmm.").reasoning == "Hmm."
    assert said(reasoning="Hmm.", reasoning_content="Hm?").reasoning == "Hmm."

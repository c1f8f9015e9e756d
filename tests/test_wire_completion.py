"""Whole answers: decoded, judged, encoded."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from strategies import JSON, WORDS

from gwproto.failures import Failure, FailureClass
from gwproto.values import Usage
from gwproto.wire.neutral import Completion, CompletionChoice, Envelope, ToolFragment
from gwproto.wire.normalise import call_id
from gwproto.wire.openai.completion import decode_completion, encode_completion

ENVELOPE = Envelope("c1", 1, "m")
HEAD: dict[str, Any] = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def document(message: Any, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def decode(value: Any) -> Completion:
    completion = decode_completion(json.dumps(value).encode())
    assert isinstance(completion, Completion), completion
    return completion


def one(message: Any, finish: str | None = "stop") -> tuple[CompletionChoice, bool]:
    completion = decode(document(message, finish))
    return completion.choices[0], completion.verbatim


def fail(body: bytes) -> Failure:
    failure = decode_completion(body)
    assert isinstance(failure, Failure), failure
    return failure


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"role": "assistant", "content": "A"}, "stop", CompletionChoice(0, "A")),
        (
            {"role": "assistant", "content": None, "refusal": "no"},
            "stop",
            CompletionChoice(0, None, None, "no"),
        ),
        (
            {"role": "assistant", "content": "A", "reasoning_content": "hm"},
            "length",
            CompletionChoice(0, "A", "hm", finish="length"),
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            "tool_calls",
            CompletionChoice(0, tools=(ToolFragment(0, "a", "f", "{}"),), finish="tool_calls"),
        ),
        (
            {"role": "assistant", "content": "A", "annotations": [], "audio": {"id": "x"}},
            "stop",
            CompletionChoice(0, "A", extra={"annotations": Raw(b"[]"), "audio": Raw(b'{"id": "x"}')}),
        ),
    ],
)
def test_answers_passed_on_as_they_are(
    message: dict[str, Any], finish: str, expected: CompletionChoice
) -> None:
    assert one(message, finish) == (expected, True)


@pytest.mark.parametrize(("depth", "fits"), [(100, True), (124, True), (125, False), (5000, False)])
@pytest.mark.parametrize("text", ["A", "[{" * 100])
def test_what_an_answer_may_nest(depth: int, fits: bool, text: str) -> None:
    body = json.dumps(document({"role": "assistant", "content": text, "annotations": "?"})).encode()
    body = body.replace(b'"?"', b"[" * depth + b"]" * depth)
    if fits:
        completion = decode_completion(body)
        assert isinstance(completion, Completion)
        assert completion.choices[0].content == text
    else:
        assert "nested too deeply" in fail(body).message


def test_code_is_no_nesting() -> None:
    assert one({"role": "assistant", "content": "[" * 200})[0].content == "[" * 200


def test_documented_extras() -> None:
    value = document(
        {"role": "assistant", "content": "A"}, usage=USAGE, system_fingerprint="fp", service_tier="x"
    )
    value["choices"][0]["logprobs"] = {"content": []}
    completion = decode(value)
    assert completion.verbatim
    assert completion.usage == Usage(1, 2, 3)
    again = json.loads(encode_completion(completion, ENVELOPE))
    value["choices"][0]["message"]["refusal"] = None
    assert again == value


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": "A", "x": 1}, "stop", CompletionChoice(0, "A", extra={"x": Raw(b"1")})),
        ({"content": "A"}, None, CompletionChoice(0, "A")),
        ({"content": "A"}, "", CompletionChoice(0, "A")),
        ({"content": "A"}, "eos", CompletionChoice(0, "A")),
        ({"content": ""}, "MAX_TOKENS", CompletionChoice(0, "", finish="length")),
        ({"content": None}, "content_filter", CompletionChoice(0, finish="content_filter")),
        ({"content": "A", "reasoning": "hm"}, "stop", CompletionChoice(0, "A", "hm")),
        (
            {"content": "A", "reasoning": "hm", "reasoning_content": "hm"},
            "stop",
            CompletionChoice(0, "A", "hm"),
        ),
        ({"reasoning": "hm"}, None, CompletionChoice(0, None, "hm")),
        ({"refusal": "no"}, None, CompletionChoice(0, None, None, "no")),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "h"}]},
                    {"type": "text", "text": "A"},
                ]
            },
            "stop",
            CompletionChoice(0, "A", "h"),
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            "stop",
            CompletionChoice(0, tools=(ToolFragment(0, "a", "f", "{}"),), finish="tool_calls"),
        ),
        (
            {
                "tool_calls": [
                    {"id": "null", "function": {"name": "f", "arguments": {"x": 1}}},
                    {"function": {"name": "g"}},
                ]
            },
            None,
            CompletionChoice(
                0,
                tools=(
                    ToolFragment(0, call_id("c1", 1, 0, 0, "f"), "f", '{"x": 1}'),
                    ToolFragment(1, call_id("c1", 1, 0, 1, "g"), "g", "{}"),
                ),
                finish="tool_calls",
            ),
        ),
        (
            {"tool_calls": [{"id": "a", "function": {"arguments": ""}}]},
            "stop",
            CompletionChoice(0, tools=(ToolFragment(0, "a", "", "{}"),), finish="tool_calls"),
        ),
        (
            {"function_call": {"name": "f", "arguments": "{}"}},
            "stop",
            CompletionChoice(
                0, finish="function_call", extra={"function_call": Raw(b'{"name": "f", "arguments": "{}"}')}
            ),
        ),
    ],
)
def test_answers_put_right(message: dict[str, Any], finish: str | None, expected: CompletionChoice) -> None:
    assert one(message, finish) == (expected, False)


def test_usage_that_must_be_folded_is_not_passed_on() -> None:
    usage = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 6,
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    completion = decode(document({"role": "assistant", "content": "A"}, usage=usage))
    assert not completion.verbatim
    assert completion.usage == Usage(1, 5, 6, None, 3)
    assert json.loads(encode_completion(completion, ENVELOPE))["usage"]["completion_tokens"] == 5


def test_usage_in_groqs_own_place() -> None:
    assert decode(document({"content": "A"}, x_groq={"usage": USAGE})).usage == Usage(1, 2, 3)
    assert decode(document({"content": "A"}, x_groq={"id": "r"})).usage is None


def test_head_that_is_missing_or_odd() -> None:
    choices = document({"content": "A"})["choices"]
    assert decode({"choices": choices}) == Completion((CompletionChoice(0, "A"),))
    odd = decode(
        {"id": 7, "created": "now", "model": [], "object": "x", "error": None, "choices": choices, "y": 1}
    )
    assert odd == Completion((CompletionChoice(0, "A"),), extra={"y": Raw(b"1")})


def test_choices_without_index() -> None:
    completion = decode({"choices": [{"message": {"content": "A"}}, {"message": {"content": "B"}}]})
    assert [choice.index for choice in completion.choices] == [0, 1]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FailureClass.EMPTY),
        (b" \n", FailureClass.EMPTY),
        (b"{}", FailureClass.EMPTY),
        (b"[]", FailureClass.EMPTY),
        (b'{"choices":null}', FailureClass.EMPTY),
        (b'{"choices":[]}', FailureClass.EMPTY),
        (b'{"choices":[{}]}', FailureClass.EMPTY),
        (b'{"choices":[{"message":null}]}', FailureClass.EMPTY),
        (
            b'{"choices":[{"message":{"role":"assistant","content":""},"finish_reason":null}]}',
            FailureClass.EMPTY,
        ),
        (b'{"choices":[{"index":-1,"message":{"content":"A"}}]}', FailureClass.SERVER),
        (b'{"choices":[{"message":{"content":"A"},"finish_reason":"network_error"}]}', FailureClass.SERVER),
        (b'{"choices":[{"message":{},"finish_reason":"malformed_tool_use"}]}', FailureClass.TOOL_GENERATION),
        (b"hello", FailureClass.SERVER),
        (b'"hello"', FailureClass.SERVER),
        (b"<html><script>x</script><b>Bad</b></html>", FailureClass.SERVER),
        (b'{"choices":[', FailureClass.SERVER),
        (b"[" * 100_000, FailureClass.SERVER),
        (b'{"error":"boom"}', FailureClass.SERVER),
        (b'{"error":{"message":"x","code":429}}', FailureClass.RATE_MINUTE),
        (b'[{"error":{"message":"x","code":429}}]', FailureClass.RATE_MINUTE),
        (b'{"message":"x","type":"overloaded_error"}', FailureClass.OVERLOADED),
    ],
)
def test_no_answer(body: bytes, kind: FailureClass) -> None:
    failure = fail(body)
    assert failure.kind is kind
    assert failure.message
    assert "<" not in failure.message


def test_almost_json() -> None:
    completion = decode_completion(
        b'{"choices":[{"message":{"content":"a\\ud800"},"logprobs":NaN}],"x":Infinity}'
    )
    assert completion == Completion((CompletionChoice(0, "a\ufffd"),))


def test_encoded_calls() -> None:
    choice = CompletionChoice(
        0,
        None,
        "hm",
        None,
        (
            ToolFragment(0, "a", "f", "{}", {"extra_content": Raw(b"1")}),
            ToolFragment(1, "b", "g", "", {"type": Raw(b'"custom"'), "custom": Raw(b'{"name":"g"}')}),
        ),
        "tool_calls",
    )
    body = json.loads(encode_completion(Completion((choice,), usage=Usage(1, 2, 3)), ENVELOPE))
    assert body == {
        **HEAD,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {**CALL, "extra_content": 1},
                        {"id": "b", "type": "custom", "custom": {"name": "g"}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": USAGE,
    }


@given(
    st.builds(
        Completion,
        choices=st.lists(
            st.builds(
                CompletionChoice,
                content=WORDS,
                reasoning=st.none() | WORDS.filter(bool),
                refusal=st.none() | WORDS.filter(bool),
                tools=st.sampled_from(
                    ((), (ToolFragment(0, "a", "f", "{}"), ToolFragment(1, "b", "g", "[]")))
                ),
                extra=st.dictionaries(
                    st.just("x"), JSON.filter(lambda one: one is not None).map(msgspec.json.encode).map(Raw)
                ),
            ),
            min_size=1,
            max_size=1,
        ).map(tuple),
        id=st.just("c1"),
        created=st.just(1),
        model=st.just("m"),
        usage=st.none() | st.just(Usage(1, 2, 3, None, 1)),
    )
)
def test_round_trip(completion: Completion) -> None:
    again = decode_completion(encode_completion(completion, ENVELOPE))
    assert isinstance(again, Completion)
    finish = "tool_calls" if completion.choices[0].tools else "stop"
    choices = (msgspec.structs.replace(completion.choices[0], finish=finish),)
    assert msgspec.structs.replace(again, verbatim=False, raw_usage=None) == msgspec.structs.replace(
        completion, choices=choices
    )


MESSY = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "created": JSON,
        "usage": JSON,
        "error": JSON,
        "message": JSON,
        "choices": JSON
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.integers(-1, 200),
                    "finish_reason": JSON,
                    "message": JSON
                    | st.dictionaries(
                        st.sampled_from(("role", "content", "tool_calls", "reasoning", "refusal")), JSON
                    ),
                },
            ),
            max_size=2,
        ),
    },
)


@given(MESSY)
def test_any_object_is_an_answer_or_a_failure(value: dict[str, Any]) -> None:
    completion = decode_completion(json.dumps(value).encode())
    if isinstance(completion, Completion):
        json.loads(encode_completion(completion, ENVELOPE))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_failure(body: bytes) -> None:
    fail(body)

"""Anthropic's format: recorded streams, both directions there and back, and what nobody should send."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from strategies import CHUNKS, JSON
from wirestream import check_chunks, translate

from gwproto.exchange.gears import StreamBody
from gwproto.failures import Failure, WireError
from gwproto.sse import Decoder
from gwproto.testing.answers import Answer as Said
from gwproto.testing.answers import Ask, Call, answers
from gwproto.testing.formats.anthropic import FORMAT
from gwproto.testing.formats.format import Stamp
from gwproto.values import Usage
from gwproto.wire.anthropic import DIALECT
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.neutral import (
    Chunk,
    Completion,
    CompletionChoice,
    Delta,
    Envelope,
    Reading,
    ToolFragment,
)
from gwproto.wire.normalise import Normaliser

GOLDENS = {
    one["name"]: one
    for one in json.loads((Path(__file__).parent / "goldens" / "anthropic.json").read_text("utf-8"))
}
STREAMS = [name for name in GOLDENS if not name.startswith("Q")]
ENVELOPE = Envelope("msg_1", 0, "claude")
READING = Reading()


def stream(reads: list[bytes]) -> list[bytes]:
    return translate(reads, dialect=DIALECT)


def test_thinking_is_kept_for_replay() -> None:
    lines = stream([GOLDENS["G52"]["input"].encode()])
    kept = [
        json.loads(line[6:])["choices"][0]["delta"]["extra_content"]
        for line in lines
        if b"extra_content" in line
    ]
    assert kept == [
        {
            "anthropic": {
                "thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "c2ln"}]
            }
        },
        {"anthropic": {"thinking_blocks": [{"index": 1, "type": "redacted_thinking", "data": "ZGF0YQ=="}]}},
    ]


def test_thinking_is_kept_whole_by_a_relay() -> None:
    """Every piece of it passes the decoder, however alike the frames are."""
    ask = Ask(model="m", text="Think", effort="high", stream=True)
    answer = answers(ask, "p")
    parts = FORMAT.stream(ask, answer, Stamp("msg_1", 1, "m"), 1)
    body = StreamBody(DIALECT, ENVELOPE, include_usage=True, legacy_functions=False, reading=READING)
    out = body.receive(b"".join([*parts.preamble, *parts.content, *parts.finish, parts.done]))
    assert body.complete
    chunks = [json.loads(event[6:]) for event in out.split(b"\n\n") if event.startswith(b"data: {")]
    (kept,) = [
        chunk["choices"][0]["delta"]["extra_content"]
        for chunk in chunks
        if chunk["choices"] and "extra_content" in chunk["choices"][0]["delta"]
    ]
    assert kept["anthropic"]["thinking_blocks"][0]["thinking"] == "".join(answer[0].reasoning)


SIGNED = FORMAT.whole(Ask(model="m"), (Said(reasoning=("hm",), tokens=("A",)),), Stamp("msg_1", 1, "m"))


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """``document`` with anything at all in some places."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    if isinstance(document, dict):
        return {name: draw(mutated(value)) for name, value in document.items() if draw(st.integers(0, 9))}
    if isinstance(document, list):
        return [draw(mutated(value)) for value in document]
    return document


# Answers, there and back.


def there_and_back(chunks: list[Chunk]) -> Completion:
    """What is left of a client's stream once it was Anthropic's."""
    encode = DIALECT.stream_encoder(ENVELOPE)
    decode = DIALECT.stream_decoder(READING)
    decoder = Decoder()
    normaliser = Normaliser(include_usage=True)
    out: list[Chunk] = []
    for chunk in [*chunks, Chunk(done=True)]:
        for frame in decoder.receive(encode(chunk)):
            assert json.loads(frame.data)["type"].encode() in frame.raw.partition(b"\n")[0]
            out += normaliser.receive(decode(frame.data))
            assert normaliser.failure is None
    assert normaliser.done
    out += normaliser.end(complete=True)
    check_chunks(out, complete=True)
    return assemble(out)


def normal(chunks: list[Chunk]) -> list[Chunk]:
    normaliser = Normaliser(include_usage=True)
    out = [one for chunk in chunks for one in normaliser.receive(chunk)]
    return [*out, *normaliser.end(complete=True)]


USAGES = st.builds(
    lambda fresh, output, read, thinking, written: Usage(
        fresh + (read or 0) + (written or 0),
        output,
        fresh + (read or 0) + (written or 0) + output,
        read,
        thinking,
        written,
    ),
    st.integers(1, 9),
    st.integers(0, 9),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 9),
)
TEXTS = st.none() | st.sampled_from(("A", "hé😀", "a\u2028b", '"\\\n'))
COMPLETIONS = st.builds(
    lambda content, reasoning, names, finish, usage: Completion(
        (
            CompletionChoice(
                0,
                content,
                reasoning,
                None,
                tuple(ToolFragment(at, f"toolu_{at}", name, '{"x": 1}') for at, name in enumerate(names)),
                "tool_calls" if names and finish == "stop" else finish,
            ),
        ),
        "msg_1",
        0,
        "claude",
        usage,
    ),
    TEXTS,
    TEXTS,
    st.lists(st.sampled_from("fg"), max_size=3),
    st.sampled_from(("stop", "length", "content_filter")),
    st.none() | USAGES,
)
BLOCKS = [
    {"index": 0, "type": "thinking", "thinking": "h", "signature": "s"},
    {"index": 1, "type": "redacted_thinking", "data": "d"},
    {"index": 2, "type": "thinking", "thinking": "m", "signature": "t"},
]
SEALED = {"extra_content": Raw(json.dumps({"anthropic": {"thinking_blocks": BLOCKS}}).encode())}


@given(COMPLETIONS)
def test_completions_there_and_back(completion: Completion) -> None:
    assert there_and_back(normal(to_chunks(completion))) == completion
    assert DIALECT.decode_completion(DIALECT.encode_completion(completion, ENVELOPE), READING) == completion


def plain(completion: Any) -> Any:
    (choice,) = completion.choices
    return msgspec.json.decode(choice.extra.get("extra_content", b"{}")), replace(choice, extra={})


@pytest.mark.parametrize("reasoning", [None, "hm"])
def test_thinking_there_and_back(reasoning: str | None) -> None:
    choice = CompletionChoice(0, "A", reasoning, extra=SEALED)
    completion = Completion((choice,), "msg_1", 0, "claude")
    expected = plain(replace(completion, choices=(replace(choice, reasoning="hm"),)))
    assert plain(there_and_back(normal(to_chunks(completion)))) == expected
    body = DIALECT.encode_completion(completion, ENVELOPE)
    assert plain(DIALECT.decode_completion(body, READING)) == expected


def test_reasoning_beside_redacted_thinking() -> None:
    extra = {"extra_content": Raw(json.dumps({"anthropic": {"thinking_blocks": BLOCKS[1:2]}}).encode())}
    completion = Completion((CompletionChoice(0, "A", "hm", extra=extra),), "msg_1", 0, "claude")
    assert there_and_back(normal(to_chunks(completion))).choices[0].reasoning == "hm"
    content = json.loads(DIALECT.encode_completion(completion, ENVELOPE))["content"]
    assert [block["type"] for block in content] == ["thinking", "redacted_thinking", "text"]


def test_streamed_thinking_is_sealed_where_it_ends() -> None:
    """A client of the format gets what the provider sent, block by block."""
    data = GOLDENS["G52"]["input"].encode()
    decode = DIALECT.stream_decoder(READING)
    chunks = normal([decode(frame.data) for frame in Decoder().receive(data)])
    encode = DIALECT.stream_encoder(ENVELOPE)
    out = b"".join(map(encode, [*chunks, Chunk(done=True)]))
    fields = [json.loads(frame.data) for frame in Decoder().receive(out)]
    sent = [json.loads(frame.data) for frame in Decoder().receive(data)]
    assert fields[1:-2] == [event for event in sent[1:-2] if event["type"] != "ping"]
    assert [event["type"] for event in fields[-2:]] == ["message_delta", "message_stop"]
    assert fields[-2]["delta"]["stop_reason"] == "max_tokens"
    assert fields[-2]["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 5,
        "output_tokens": 7,
    }


@given(st.lists(CHUNKS, max_size=8))
def test_any_stream_there_and_back(chunks: list[Chunk]) -> None:
    only = [
        replace(
            chunk, deltas=tuple([delta for delta in chunk.deltas if delta.choice == 0 and not delta.refusal])
        )
        for chunk in chunks
    ]
    normal_ = normal([Chunk((Delta(role=True, content="A"),)), *only])
    (expected,) = assemble(normal_).choices
    (choice,) = there_and_back(normal_).choices
    assert named(choice) == named(replace(expected, extra={}, choice_extra={}))


def named(choice: CompletionChoice) -> CompletionChoice:
    """The choice; a call without a name has none, in whatever words."""
    return replace(
        choice, tools=tuple([replace(tool, name=tool.name or "", extra={}) for tool in choice.tools])
    )


def test_every_count_of_tokens_is_written() -> None:
    usage = Usage(9, 5, 14, cached_tokens=3, reasoning_tokens=2, cache_write_tokens=1)
    completion = Completion((CompletionChoice(0, "A"),), "msg_1", 0, "claude", usage)
    assert json.loads(DIALECT.encode_completion(completion, ENVELOPE))["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 1,
        "cache_read_input_tokens": 3,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_a_refusal_is_text() -> None:
    completion = Completion((CompletionChoice(0, None, None, "No."),), "msg_1", 0, "claude")
    back = there_and_back(normal(to_chunks(completion)))
    assert back.choices == (CompletionChoice(0, "No."),)
    assert json.loads(DIALECT.encode_completion(completion, ENVELOPE))["content"] == [
        {"type": "text", "text": "No."}
    ]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "EMPTY", "The provider's answer was empty."),
        (b"<html>502 Bad Gateway</html>", "SERVER", "The provider's answer is not JSON: 502 Bad Gateway"),
        (b"[1]", "EMPTY", "The provider's answer has no choices."),
        (b'{"type":', "SERVER", "The provider's answer cannot be read: not JSON."),
        (b'{"a":' * 200, "SERVER", "The provider's answer is cut short or nested too deeply."),
        (b"{}", "EMPTY", "The provider's answer has neither content nor a finish reason."),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            "OVERLOADED",
            "Overloaded",
        ),
    ],
)
def test_bodies_that_are_no_answers(body: bytes, kind: str, message: str) -> None:
    failure = DIALECT.decode_completion(body, READING)
    assert isinstance(failure, Failure)
    assert (failure.kind.name, failure.message) == (kind, message)


def test_a_body_that_is_almost_json() -> None:
    body = b'{"id":"msg_1","content":[{"type":"text","text":"\\ud800A\xff"}],"usage":{"input_tokens":NaN}}'
    answer = DIALECT.decode_completion(body, READING)
    assert isinstance(answer, Completion)
    assert answer.choices == (CompletionChoice(0, "�A�"),)
    assert answer.usage is None


# Events that nobody should send.

EVENTS: list[dict[str, Any]] = [
    json.loads(frame.data) for name in STREAMS for frame in Decoder().receive(GOLDENS[name]["input"].encode())
]


@given(st.lists(st.sampled_from(EVENTS).flatmap(mutated) | JSON, max_size=8))
def test_any_events(sent: list[Any]) -> None:
    decode = DIALECT.stream_decoder(READING)
    normaliser = Normaliser(include_usage=True)
    out = []
    for event in sent:
        try:
            out += normaliser.receive(decode(json.dumps(event).encode()))
        except WireError:
            assert not isinstance(event, dict)
    out += normaliser.end(complete=True)
    check_chunks(out, complete=True)


@given(mutated(json.loads(SIGNED)))
def test_any_completion(body: Any) -> None:
    DIALECT.decode_completion(json.dumps(body).encode(), READING)


@given(st.binary(max_size=40))
def test_any_bytes(data: bytes) -> None:
    DIALECT.decode_completion(data, READING)
    DIALECT.parse_request(data, "")
    try:
        DIALECT.stream_decoder(READING)(data)
    except WireError:
        pass


@pytest.mark.parametrize(
    ("data", "chunk"),
    [
        (b" ", Chunk()),
        (b'{"type":"ping"}', Chunk()),
        (b'{"type":"content_block_stop","index":"x"}', Chunk()),
        (b'{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}', Chunk()),
        (b'{"type":"content_block_delta","index":0,"delta":{"type":"later"}}', Chunk()),
        (b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"A"}}', Chunk((Delta(0, False, "A"),))),
        (
            b'{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"A"}}',
            Chunk((Delta(reasoning="A"),), remembered=True),
        ),
        (b'{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"A"}}', Chunk()),
        (
            b'{"type":"content_block_start","content_block":{"type":"text","text":"\xff"}}',
            Chunk((Delta(0, False, "�"),)),
        ),
        (b'{"type":"message_delta","delta":{},"usage":{"output_tokens":-1}}', Chunk((Delta(),))),
    ],
)  # fmt: skip
def test_odd_events(data: bytes, chunk: Chunk) -> None:
    assert DIALECT.stream_decoder(READING)(data) == chunk


def test_a_deep_event() -> None:
    with pytest.raises(WireError, match="nested"):
        DIALECT.stream_decoder(READING)(b'{"a":' * 200)


def test_an_index_that_is_none() -> None:
    """A call is followed by its arguments even where its place is not told."""
    decode = DIALECT.stream_decoder(READING)
    start = decode(
        b'{"type":"content_block_start","content_block":{"type":"tool_use","id":"a","name":"f","input":1}}'
    )
    more = decode(b'{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{}"}}')
    assert start.deltas[0].tools == (ToolFragment(-1, "a", "f"),)
    assert more.deltas[0].tools == (ToolFragment(-1, arguments="{}"),)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b'{"type":"error"}', "SERVER", "The provider sent no message."),
        (b'{"type":"error","error":{"type":"api_error","message":"Oh"}}', "SERVER", "Oh"),
        (b'{"error":{"message":"Oh"}}', "SERVER", "Oh"),
        (b'{"type":"later","error":{"message":"Oh"}}', "SERVER", "Oh"),
        (b'{"message":"Oh"}', "SERVER", "Oh"),
    ],
)
def test_errors_in_streams(data: bytes, kind: str, message: str) -> None:
    failure = DIALECT.stream_decoder(READING)(data).failure
    assert failure is not None
    assert (failure.kind.name, failure.message) == (kind, message)


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (400, "invalid_request_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "api_error"),
    ],
)
def test_errors(status: int, type_: str) -> None:
    body = DIALECT.encode_error(status, "Oh", "provider_error", "upstream_error", "x")
    assert json.loads(body) == {"type": "error", "error": {"type": type_, "message": "Oh"}}
    failure = DIALECT.decode_error(status, (), body, READING)
    assert (failure.status, failure.message, failure.type) == (status, "Oh", type_)


@pytest.mark.parametrize(
    ("status", "message", "details", "kind"),
    [
        (400, "prompt is too long: 210000 tokens > 200000 maximum", {}, "CONTEXT"),
        (400, "Your credit balance is too low to access the API.", {}, "CREDITS"),
        (429, "…", {"error_code": "enforced_spend_limit_reached"}, "CREDITS"),
        (529, "Overloaded", {}, "OVERLOADED"),
    ],
)
def test_recorded_errors(status: int, message: str, details: Any, kind: str) -> None:
    error = {"type": "rate_limit_error" if details else "invalid_request_error", "message": message}
    body = json.dumps({"type": "error", "error": {**error, "details": details}}).encode()
    assert DIALECT.decode_error(status, (), body, READING).kind.name == kind


def test_an_answer_of_the_simulation() -> None:
    ask = Ask(model="m", text="Think", effort="high")
    said = (Said(reasoning=("h", "m"), tokens=("A", " b"), calls=(Call("f", '{"x":1}'), Call("g", "{}"))),)
    stamp = Stamp("msg_1", 1, "m")
    parts = FORMAT.stream(ask, said, stamp, 1)
    data = b"".join([*parts.preamble, *parts.content, *parts.finish, parts.done])
    whole = DIALECT.decode_completion(FORMAT.whole(ask, said, stamp), READING)
    assert isinstance(whole, Completion)
    assert whole.choices[0].tools[1].arguments == "{}"
    decode = DIALECT.stream_decoder(READING)
    streamed = assemble(normal([decode(frame.data) for frame in Decoder().receive(data)]))
    assert plain(streamed) == plain(whole)
    assert streamed.usage == whole.usage

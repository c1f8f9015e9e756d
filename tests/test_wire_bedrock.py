"""Bedrock's format: recorded streams, both directions there and back, and what nobody should send."""

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

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse import EventStreamDecoder
from gwproto.sse.eventstream import encode_message
from gwproto.testing.answers import Answer as Said
from gwproto.testing.answers import Ask, Call
from gwproto.testing.formats.bedrock import FORMAT
from gwproto.testing.formats.format import Stamp
from gwproto.values import Usage
from gwproto.wire import openai
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.bedrock import DIALECT
from gwproto.wire.neutral import (
    UNREAD,
    Chunk,
    Completion,
    CompletionChoice,
    Delta,
    Envelope,
    ToolFragment,
)
from gwproto.wire.normalise import Normaliser
from gwproto.wire.translate import StreamTranslator

GOLDENS = {
    one["name"]: one
    for one in json.loads((Path(__file__).parent / "goldens" / "bedrock.json").read_text("utf-8"))
}
STREAMS = [name for name in GOLDENS if name != "Q5"]
ENVELOPE = Envelope("", 0, "")
STAMP = Stamp("0" * 24, 1, "m")


def framed(*said: dict[str, Any]) -> bytes:
    """Events in short as the frames they are."""
    return b"".join(encode_message("event", one["e"], json.dumps(one["p"]).encode()) for one in said)


def recorded(name: str) -> bytes:
    """A golden's bytes: written as hexadecimal, or as the events that its frames decode to."""
    text = GOLDENS[name]["input"]
    if not text.startswith("{"):
        return bytes.fromhex(text)
    return framed(*map(json.loads, text.splitlines()))


def stream(reads: list[bytes]) -> list[bytes]:
    return translate(reads, dialect=DIALECT)


def test_reasoning_is_kept_for_replay() -> None:
    kept = [
        json.loads(line[6:])["choices"][0]["delta"]["extra_content"]
        for line in stream([recorded("reasoning")])
        if b"extra_content" in line
    ]
    assert kept == [
        {"bedrock": {"reasoning": [{"index": 0, "reasoningText": {"text": "hm", "signature": "c2ln"}}]}},
        {"bedrock": {"reasoning": [{"index": 1, "redactedContent": "ZGF0YQ=="}]}},
    ]


def test_nothing_follows_the_metadata() -> None:
    more = framed({"e": "contentBlockDelta", "p": {"contentBlockIndex": 0, "delta": {"text": "Z"}}})
    whole = stream([recorded("G64")])
    assert stream([recorded("G64") + more]) == whole


def decoded(data: bytes) -> list[Chunk]:
    decode = DIALECT.stream_decoder(UNREAD)
    return [decode(frame.data) for frame in EventStreamDecoder().receive(data)]


def normal(chunks: list[Chunk]) -> list[Chunk]:
    normaliser = Normaliser(include_usage=True)
    out = [one for chunk in chunks for one in normaliser.receive(chunk)]
    assert normaliser.failure is None
    return [*out, *normaliser.end(complete=True)]


def encoded(chunks: list[Chunk]) -> bytes:
    """A client's stream as this format's."""
    return b"".join(map(DIALECT.stream_encoder(ENVELOPE), [*chunks, Chunk(done=True)]))


def there_and_back(chunks: list[Chunk]) -> Completion:
    """What is left of a client's stream once it was Bedrock's."""
    sent = decoded(encoded(chunks))
    assert [chunk.done for chunk in sent] == [False] * (len(sent) - 1) + [True]
    out = normal(sent)
    check_chunks(out, complete=True)
    return assemble(out)


USAGES = st.builds(
    lambda fresh, output, read, written: Usage(
        fresh + (read or 0) + (written or 0),
        output,
        fresh + (read or 0) + (written or 0) + output,
        read,
        None,
        written,
    ),
    st.integers(1, 9),
    st.integers(0, 9),
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
                tuple(ToolFragment(at, f"tu_{at}", name, '{"x": 1}') for at, name in enumerate(names)),
                "tool_calls" if names and finish == "stop" else finish,
            ),
        ),
        usage=usage,
    ),
    TEXTS,
    TEXTS,
    st.lists(st.sampled_from("fg"), max_size=3),
    st.sampled_from(("stop", "length", "content_filter")),
    st.none() | USAGES,
)
BLOCKS = [
    {"index": 0, "reasoningText": {"text": "h", "signature": "s"}},
    {"index": 1, "redactedContent": "ZA=="},
    {"index": 2, "reasoningText": {"text": "m", "signature": "t"}},
]


def sealed(*blocks: dict[str, object]) -> dict[str, Raw]:
    return {"extra_content": Raw(json.dumps({"bedrock": {"reasoning": blocks}}).encode())}


@given(COMPLETIONS)
def test_completions_there_and_back(completion: Completion) -> None:
    assert there_and_back(normal(to_chunks(completion))) == completion
    assert DIALECT.decode_completion(DIALECT.encode_completion(completion, ENVELOPE), UNREAD) == completion
    # A stream where one object was asked for.
    assert DIALECT.decode_completion(encoded(normal(to_chunks(completion))), UNREAD) == completion


def plain(completion: Any) -> Any:
    (choice,) = completion.choices
    return msgspec.json.decode(choice.extra.get("extra_content", b"{}")), replace(choice, extra={})


@pytest.mark.parametrize("reasoning", [None, "hm"])
def test_reasoning_there_and_back(reasoning: str | None) -> None:
    choice = CompletionChoice(0, "A", reasoning, extra=sealed(*BLOCKS))
    completion = Completion((choice,))
    expected = plain(replace(completion, choices=(replace(choice, reasoning="hm"),)))
    assert plain(there_and_back(normal(to_chunks(completion)))) == expected
    assert (
        plain(DIALECT.decode_completion(DIALECT.encode_completion(completion, ENVELOPE), UNREAD)) == expected
    )


def test_reasoning_beside_what_is_redacted() -> None:
    completion = Completion((CompletionChoice(0, "A", "hm", extra=sealed(BLOCKS[1])),))
    assert there_and_back(normal(to_chunks(completion))).choices[0].reasoning == "hm"
    answer = json.loads(DIALECT.encode_completion(completion, ENVELOPE))
    assert answer["output"]["message"]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm"}}},
        {"reasoningContent": {"redactedContent": "ZA=="}},
        {"text": "A"},
    ]


def test_a_client_gets_what_the_provider_sent() -> None:
    """Block by block, reasoning sealed where it ends."""
    for name in ("G64", "reasoning"):
        out = encoded(normal(decoded(recorded(name))))
        sent = [json.loads(line) for line in GOLDENS[name]["input"].splitlines()]
        got = [json.loads(frame.data) for frame in EventStreamDecoder().receive(out)]
        for one in (*sent, *got):
            one["p"].pop("p", None)
            one["p"].pop("metrics", None)
            if "usage" in one["p"]:
                one["p"]["usage"].pop("totalTokens")
        assert got == sent


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


def test_a_refusal_is_text() -> None:
    completion = Completion((CompletionChoice(0, None, None, "No."),))
    assert there_and_back(normal(to_chunks(completion))).choices == (CompletionChoice(0, "No."),)
    answer = json.loads(DIALECT.encode_completion(completion, ENVELOPE))
    assert answer == {
        "output": {"message": {"role": "assistant", "content": [{"text": "No."}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
        "metrics": {"latencyMs": 0},
    }


@pytest.mark.parametrize("body", ["provider", "client"])
def test_errors_inside_a_stream_are_exceptions(body: str) -> None:
    source, target = (DIALECT, openai.DIALECT) if body == "provider" else (openai.DIALECT, DIALECT)
    translator = StreamTranslator(source, target, ENVELOPE)
    if body == "provider":
        out = translator.receive(FORMAT.error_event(429))
        assert (
            json.loads(out[6:])["error"]["message"] == "Too many requests, please wait before trying again."
        )
    else:
        out = translator.receive(b'data: {"error":{"message":"slow down","code":429}}\n\n')
        (frame,) = EventStreamDecoder().receive(out)
        said = json.loads(frame.data)
        assert (said["x"], said["p"]["message"]) == ("throttlingException", "slow down")
    assert translator.failure is not None
    assert translator.failure.kind is FailureClass.RATE_MINUTE


CITED = {"citationsContent": {"content": [{"text": "A"}, {"text": "B"}], "citations": []}}


def whole(*content: object, **more: object) -> bytes:
    message = {"role": "assistant", "content": content}
    return json.dumps({"output": {"message": message}, "stopReason": "end_turn", **more}).encode()


def test_blocks_of_whole_answers() -> None:
    answer = DIALECT.decode_completion(
        whole(CITED, {"text": "C"}, {"image": {}}, {"toolUse": {"type": "server_tool_use"}}, 7), UNREAD
    )
    assert isinstance(answer, Completion)
    assert answer.choices == (CompletionChoice(0, "ABC"),)
    called = DIALECT.decode_completion(
        whole({"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1.50}}}), UNREAD
    )
    assert isinstance(called, Completion)
    assert called.choices[0].tools == (ToolFragment(0, "a", "f", '{"x": 1.5}'),)
    assert called.choices[0].finish == "tool_calls"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "EMPTY", "The provider's answer was empty."),
        (b"<html>502 Bad Gateway</html>", "SERVER", "The provider's answer is not JSON: 502 Bad Gateway"),
        (b"[1]", "EMPTY", None),
        (b'{"output":', "SERVER", None),
        (b'{"a":' * 200, "SERVER", None),
        (b"{}", "EMPTY", "The provider's answer has neither content nor a finish reason."),
        (
            b'{"message":"Too many requests","__type":"ThrottlingException"}',
            "RATE_MINUTE",
            "Too many requests",
        ),
        (b"\0" * 11, "SERVER", "The provider's answer cannot be read: the stream ends inside a frame."),
        (
            b"\0" * 12,
            "SERVER",
            "The provider's answer cannot be read: a frame's lengths do not match their checksum.",
        ),
        (framed({"e": "messageStart", "p": {}}), "TRUNCATED", "The provider's answer was cut off."),
        (framed({"e": "metadata", "p": {}}), "EMPTY", None),
        (FORMAT.error_event(429), "RATE_MINUTE", "Too many requests, please wait before trying again."),
    ],
)
def test_bodies_that_are_no_answers(body: bytes, kind: str, message: str | None) -> None:
    failure = DIALECT.decode_completion(body, UNREAD)
    assert isinstance(failure, Failure)
    assert failure.kind.name == kind
    assert message is None or failure.message == message


def test_streams_without_metadata_are_answers() -> None:
    answer = DIALECT.decode_completion(recorded("no metadata"), UNREAD)
    assert isinstance(answer, Completion)
    assert answer.choices == (CompletionChoice(0, "A"),)


def test_a_body_that_is_almost_json() -> None:
    body = b'{"output":{"message":{"content":[{"text":"\\ud800A\xff"}]}},"usage":{"inputTokens":NaN}}'
    answer = DIALECT.decode_completion(body, UNREAD)
    assert isinstance(answer, Completion)
    assert answer.choices == (CompletionChoice(0, "�A�"),)
    assert answer.usage is None


def event(kind: str, **payload: object) -> bytes:
    return json.dumps({"e": kind, "p": payload}).encode()


@pytest.mark.parametrize(
    ("data", "chunk"),
    [
        (b"{}", Chunk()),
        (b'{"e":"initial-response","p":""}', Chunk()),
        (event("contentBlockStop", contentBlockIndex="x"), Chunk()),
        (event("contentBlockStart", start={"image": {"format": "png"}}), Chunk()),
        (event("contentBlockDelta", delta={"citation": {"title": "T"}}), Chunk()),
        (event("contentBlockDelta", delta={"text": 7}), Chunk()),
        (event("contentBlockDelta", delta={"toolUse": {"input": "{}"}}), Chunk()),
        (event("contentBlockDelta", delta={"reasoningContent": {"signature": "s"}}), Chunk()),
        (
            event("contentBlockDelta", delta={"reasoningContent": {"text": "A"}}),
            Chunk((Delta(reasoning="A"),)),
        ),
        (
            b'{"e":"contentBlockDelta","p":{"delta":{"text":"\\ud800"}}}',
            Chunk((Delta(0, False, "�"),)),
        ),
        (event("messageStop"), Chunk((Delta(),))),
        (event("metadata", usage={"outputTokens": -1}), Chunk(done=True)),
    ],
)
def test_odd_events(data: bytes, chunk: Chunk) -> None:
    assert DIALECT.stream_decoder(UNREAD)(data) == chunk


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"a":' * 200, "nested"),
        (b'{"w":"a frame of sorts"}', "a frame of sorts"),
        (b'{"w":7}', "^$"),
    ],
)
def test_events_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        DIALECT.stream_decoder(UNREAD)(data)


def test_an_index_that_is_none() -> None:
    """A call is followed by its arguments even where its place is not told."""
    decode = DIALECT.stream_decoder(UNREAD)
    start = decode(event("contentBlockStart", start={"toolUse": {"toolUseId": "a", "input": 7}}))
    more = decode(event("contentBlockDelta", delta={"toolUse": {"input": "{}"}}))
    none = decode(event("contentBlockDelta", delta={"toolUse": {"input": 7}}))
    assert start.deltas[0].tools == (ToolFragment(-1, "a", ""),)
    assert more.deltas[0].tools == (ToolFragment(-1, arguments="{}"),)
    assert none.deltas[0].tools == (ToolFragment(-1),)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b'{"x":"throttlingException","p":{"message":"Oh"}}', "RATE_MINUTE", "Oh"),
        (b'{"x":"internalServerException","p":{"message":"Oh"}}', "SERVER", "Oh"),
        (b'{"x":"modelStreamErrorException","p":{"message":"Oh"}}', "SERVER", "Oh"),
        (
            b'{"x":"validationException","p":{"message":"Input is too long for requested model."}}',
            "CONTEXT",
            None,
        ),
        (b'{"x":"throttlingException","m":"Oh","p":""}', "RATE_MINUTE", "Oh"),
        (b'{"x":"throttlingException","p":"Oh"}', "RATE_MINUTE", "Oh"),
        (b'{"x":7,"p":{}}', "SERVER", "The provider sent no message."),
    ],
)
def test_exceptions(data: bytes, kind: str, message: str | None) -> None:
    failure = DIALECT.stream_decoder(UNREAD)(data).failure
    assert failure is not None
    assert failure.kind.name == kind
    assert message is None or failure.message == message


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "ValidationException", FailureClass.INVALID),
        (401, "UnrecognizedClientException", FailureClass.AUTH),
        (403, "AccessDeniedException", FailureClass.FORBIDDEN),
        (404, "ResourceNotFoundException", FailureClass.MODEL_GONE),
        (424, "ModelErrorException", FailureClass.SERVER),
        (429, "ThrottlingException", FailureClass.RATE_MINUTE),
        (500, "InternalServerException", FailureClass.SERVER),
        (503, "ServiceUnavailableException", FailureClass.OVERLOADED),
        (504, "ModelTimeoutException", FailureClass.TIMEOUT),
    ],
)
def test_errors(status: int, name: str, kind: FailureClass) -> None:
    body = DIALECT.encode_error(status, "Oh", "t", "c", None)
    assert json.loads(body) == {"message": "Oh", "__type": name}
    for one in (body, FORMAT.error(status, None, None, None)):
        failure = DIALECT.decode_error(status, (), one, UNREAD)
        assert (failure.kind, failure.type) == (kind, name)


CALLED = (Said(reasoning=("hm",), tokens=("A",), calls=(Call("f", '{"x":1}'),), finish="tool_calls"),)


def test_a_stream_and_a_whole_answer_say_the_same() -> None:
    parts = FORMAT.stream(Ask(model="m", prompt="Q"), CALLED, STAMP, 1)
    streamed = DIALECT.decode_completion(
        b"".join([*parts.preamble, *parts.content, *parts.finish, *parts.usage]), UNREAD
    )
    assert streamed == DIALECT.decode_completion(
        FORMAT.whole(Ask(model="m", prompt="Q"), CALLED, STAMP), UNREAD
    )


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


EVENTS: list[dict[str, Any]] = [
    json.loads(frame.data) for name in STREAMS for frame in EventStreamDecoder().receive(recorded(name))
]


@given(st.lists(st.sampled_from(EVENTS).flatmap(mutated) | JSON, max_size=8))
def test_any_events(sent: list[Any]) -> None:
    decode = DIALECT.stream_decoder(UNREAD)
    normaliser = Normaliser(include_usage=True)
    out = []
    for one in sent:
        try:
            out += normaliser.receive(decode(json.dumps(one).encode()))
        except WireError:
            assert not isinstance(one, dict)
    out += normaliser.end(complete=True)
    check_chunks(out, complete=True)


@given(mutated(json.loads(FORMAT.whole(Ask(model="m"), CALLED, STAMP))))
def test_any_completion(body: Any) -> None:
    answer = DIALECT.decode_completion(json.dumps(body).encode(), UNREAD)
    if isinstance(answer, Completion):
        DIALECT.encode_completion(answer, ENVELOPE)


@given(st.binary(max_size=40))
def test_any_bytes(data: bytes) -> None:
    for body in (data, b"\0" + data):
        DIALECT.decode_completion(body, UNREAD)
        DIALECT.parse_request(body, "")
    try:
        DIALECT.stream_decoder(UNREAD)(data)
    except WireError:
        pass

"""Google's format for Gemini: recorded shapes, both directions, and bad input."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from strategies import JSON, TEXT, cut
from wirestream import ENVELOPE, translate

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse import Decoder
from gwproto.values import Usage
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.gemini import DIALECT
from gwproto.wire.gemini.answer import decode_completion, stream_decoder
from gwproto.wire.neutral import (
    Chunk,
    Completion,
    CompletionChoice,
    Delta,
    Reading,
    ToolFragment,
)
from gwproto.wire.normalise import Normaliser
from gwproto.wire.strict import MAX_DEPTH

GOLDENS = {
    one["name"]: one for one in json.loads((Path(__file__).parent / "goldens" / "gemini.json").read_text())
}
STREAMS = [name for name in GOLDENS if name != "B01"]
READING = Reading(provider="gemini")
NAMES = st.sampled_from(("f", "g", "get_weather"))
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=2)


def heard(reads: list[bytes]) -> list[bytes]:
    return translate(reads, dialect=DIALECT, reading=READING)


def one(event: Any) -> Delta:
    chunk = stream_decoder(READING)(json.dumps(event).encode())
    (delta,) = chunk.deltas
    return delta


def candidate(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **more}]}


def plain(value: Any) -> Any:
    """With raw JSON decoded, so that its spelling does not matter."""
    return json.loads(msgspec.json.encode(value))


# Answers


@pytest.mark.golden("B01")
def test_an_array_of_events() -> None:
    golden = GOLDENS["B01"]
    completion = decode_completion(golden["input"].encode(), READING)
    assert isinstance(completion, Completion)
    (choice,) = completion.choices
    usage = plain(completion.usage)
    assert [choice.content, choice.finish, usage] == golden["expected"]
    assert completion.id == "r"


def test_signatures_go_where_googles_compatible_endpoint_has_them() -> None:
    delta = one(candidate({"text": "A"}, {"text": "", "thoughtSignature": "c2ln"}))
    assert plain(delta.extra) == {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    assert delta.content == "A"
    call = {"functionCall": {"name": "f"}, "thoughtSignature": "c2ln"}
    (fragment,) = one(candidate(call)).tools
    assert plain(fragment.extra) == {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    assert (fragment.index, fragment.id, fragment.name, fragment.arguments) == (None, None, "f", "{}")


def test_signatures_are_written_where_they_were_read() -> None:
    signed: Any = {"extra_content": Raw(b'{"google":{"thought_signature":"c2ln"}}')}
    choice = CompletionChoice(
        content="A", tools=(ToolFragment(0, "call_0", "f", "{}", signed),), extra=signed
    )
    answer = json.loads(DIALECT.encode_completion(Completion((choice,)), ENVELOPE))
    assert answer["candidates"][0]["content"]["parts"] == [
        {"text": "A"},
        {"text": "", "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "call_0", "name": "f", "args": {}}, "thoughtSignature": "c2ln"},
    ]


def test_images_and_what_is_none() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    assert plain(one(candidate(image, sound)).extra) == {"images": [url]}


def test_arguments_become_compact_but_keep_their_numbers() -> None:
    data = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{ "x" : 1.00 }}}]}}]}'
    (fragment,) = stream_decoder(READING)(data).deltas[0].tools
    assert fragment.arguments == '{"x":1.00}'


LOGPROBS = {
    "chosenCandidates": [{"token": "A", "tokenId": 5, "logProbability": -0.5}, {"token": "é"}],
    "topCandidates": [{"candidates": [{"token": "A", "logProbability": -0.5}]}],
}


def test_logprobs() -> None:
    delta = one(candidate({"text": "Aé"}, logprobsResult=LOGPROBS))
    first = {"token": "A", "logprob": -0.5, "bytes": [65]}
    second = {"token": "é", "logprob": 0.0, "bytes": [195, 169], "top_logprobs": []}
    content = [{**first, "top_logprobs": [first]}, second]
    assert plain(delta.choice_extra) == {"logprobs": {"content": content, "refusal": None}}
    assert one(candidate({"text": "A"}, logprobsResult="?")).choice_extra == {}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (candidate({"text": 5}, {"text": "A"}, "?", {"text": "B", "thought": "yes"}), Delta(content="AB")),
        ({"candidates": [{"content": None, "finishReason": "STOP"}]}, Delta(finish="STOP")),
        ({"candidates": [{"content": "?", "finishReason": 5, "index": 3}]}, Delta(3)),
        (candidate({"text": "A", "thought": True}, {"text": 5}), Delta(reasoning="A")),
        (candidate({"functionCall": {"name": 5}}, {"text": "A"}), Delta(content="A")),
        (candidate({"functionCall": {}}, {"text": "A"}), Delta(content="A")),
        (
            candidate({"functionCall": {"name": "f", "args": 5}}),
            Delta(tools=(ToolFragment(name="f", arguments="{}"),)),
        ),
        (
            candidate({"functionCall": {"name": "f", "args": None, "id": 5}}),
            Delta(tools=(ToolFragment(name="f", arguments="{}"),)),
        ),
        (candidate({"inlineData": {"mimeType": 5, "data": "A"}}), Delta()),
        ({"candidates": [{"finishReason": ""}], "error": None}, Delta()),
        ({**candidate({"text": "A"}), "error": {}, "message": "no error"}, Delta(content="A")),
    ],
)
def test_wrong_types_are_as_good_as_absent(event: Any, expected: Delta) -> None:
    assert one(event) == expected


@pytest.mark.parametrize("usage", ["?", {"promptTokenCount": "5"}, {}, None, {"totalTokenCount": 0}])
def test_no_usage(usage: Any) -> None:
    chunk = stream_decoder(READING)(json.dumps({**candidate({"text": "A"}), "usageMetadata": usage}).encode())
    assert chunk.usage is None
    assert chunk.deltas == (Delta(content="A"),)


def test_a_count_that_is_none_costs_no_other() -> None:
    usage = {
        "promptTokenCount": 4,
        "candidatesTokenCount": None,
        "thoughtsTokenCount": "?",
        "totalTokenCount": 4,
    }
    chunk = stream_decoder(READING)(json.dumps({**candidate({"text": "A"}), "usageMetadata": usage}).encode())
    assert chunk.usage == Usage(4, 0, 4)


def test_json_that_only_python_reads() -> None:
    data = b'{"candidates":[{"content":{"parts":[{"text":"A\xff"}]},"avgLogprobs":NaN}]}'
    assert stream_decoder(READING)(data).deltas == (Delta(content="A\ufffd"),)


@pytest.mark.parametrize("data", [b"[DONE]", b"5", b"[]", b'"x"', b"{", b"<html>", b"[" * (MAX_DEPTH + 1)])
def test_events_that_are_none(data: bytes) -> None:
    with pytest.raises(WireError):
        stream_decoder(READING)(data)


def test_an_impossible_choice() -> None:
    with pytest.raises(WireError):
        one(candidate({"text": "A"}, index=-1))


def test_an_error_beside_an_answer() -> None:
    event = {
        **candidate({"text": "A"}),
        "error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"},
    }
    chunk = stream_decoder(READING)(json.dumps(event).encode())
    assert chunk.failure is not None
    assert chunk.failure.kind is FailureClass.OVERLOADED


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", FailureClass.EMPTY, "The provider's answer was empty."),
        (b"<html>Bad gateway</html>", FailureClass.SERVER, "The provider's answer is not JSON: Bad gateway"),
        (b'{"candidates":[', FailureClass.SERVER, "The provider's answer cannot be read: not JSON."),
        (b"[" * 200, FailureClass.SERVER, "The provider's answer is cut short or nested too deeply."),
        (b'{"usageMetadata":{}}', FailureClass.EMPTY, None),
        (b"[]", FailureClass.EMPTY, None),
        (b'{"candidates":[{"finishReason":"OTHER"}]}', FailureClass.SERVER, None),
        (b'[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]', FailureClass.OVERLOADED, "m"),
    ],
)
def test_bodies_that_are_no_answer(body: bytes, kind: FailureClass, message: str | None) -> None:
    failure = decode_completion(body, READING)
    assert isinstance(failure, Failure)
    assert failure.kind is kind
    assert message in (None, failure.message)


def test_an_array_that_only_python_reads() -> None:
    body = b'[{"candidates":[{"content":{"parts":[{"text":"A"}]},"finishReason":"STOP","avgLogprobs":NaN}]}]'
    completion = decode_completion(body, READING)
    assert isinstance(completion, Completion)
    assert completion.choices == (CompletionChoice(content="A"),)


def test_errors() -> None:
    quota = b"""[{"error":{"code":429,"message":"You exceeded your current quota. Please retry in 20.0s.",
        "status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure",
        "violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"20"}]},
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"20.04466179s"}]}}]"""
    assert DIALECT.decode_error(429, (), quota, READING).kind is FailureClass.RATE_DAY
    bad_key = b"""{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",
        "status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo",
        "reason":"API_KEY_INVALID"}]}}"""
    assert DIALECT.decode_error(400, (), bad_key, READING).kind is FailureClass.AUTH


# Answers for this format's clients

GOOGLE = {"extra_content": Raw(b'{"google":{"thought_signature":"c2ln"}}')}
IMAGES = {"images": Raw(b'[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]')}
TOKEN = st.builds(
    lambda text, value: {"token": text, "logprob": value, "bytes": list(text.encode())},
    TEXT,
    st.floats(-9, 0),
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        calls = draw(st.lists(st.tuples(NAMES, OBJECTS, st.sampled_from(({}, GOOGLE))), max_size=3))
        tools = tuple(
            ToolFragment(
                number, f"id_{index}_{number}", name, json.dumps(arguments, separators=(",", ":")), extra
            )
            for number, (name, arguments, extra) in enumerate(calls)
        )
        tokens = [{**token, "top_logprobs": [token]} for token in draw(st.lists(TOKEN, max_size=2))]
        logprobs = {"logprobs": Raw(json.dumps({"content": tokens, "refusal": None}).encode())}
        choices.append(
            CompletionChoice(
                index,
                draw(st.none() | TEXT.filter(bool)),
                draw(st.none() | TEXT.filter(bool)),
                None,
                tools,
                "tool_calls" if tools else draw(st.sampled_from(("stop", "length", "content_filter"))),
                {**draw(st.sampled_from(({}, GOOGLE))), **draw(st.sampled_from(({}, IMAGES)))},
                logprobs if tokens else {},
            )
        )
    counts = st.integers(1, 1000)
    prompt, completion = draw(counts), draw(counts)
    cached, reasoning = draw(st.none() | counts), draw(st.none() | st.integers(0, completion))
    usage = draw(st.sampled_from((None, Usage(prompt, completion, prompt + completion, cached, reasoning))))
    return Completion(tuple(choices), ENVELOPE.id, 0, ENVELOPE.model, usage)


def canonical(completion: Completion | Failure) -> Any:
    assert isinstance(completion, Completion), completion
    return [plain(replace(completion, raw_usage=None))]


@given(completions())
def test_whole_answers_there_and_back(completion: Completion) -> None:
    body = DIALECT.encode_completion(completion, ENVELOPE)
    assert canonical(decode_completion(body, READING)) == canonical(completion)


def normalised(chunks: list[Chunk]) -> list[Chunk]:
    normaliser = Normaliser(include_usage=True)
    out = [normal for chunk in chunks for normal in normaliser.receive(chunk)]
    assert normaliser.failure is None
    assert normaliser.done or normaliser.finished
    return [*out, *normaliser.end(complete=True)]


def pieces(chunk: Chunk) -> Iterator[Chunk]:
    """A chunk's text and arguments letter by letter, all else at once."""
    for delta in chunk.deltas:
        yield replace(chunk, deltas=(replace(delta, content=None, tools=()),))
        for letter in delta.content or "":
            yield replace(chunk, deltas=(Delta(delta.choice, content=letter),))
        for tool in delta.tools:
            yield replace(chunk, deltas=(Delta(delta.choice, tools=(replace(tool, arguments=""),)),))
            for letter in tool.arguments:
                yield replace(
                    chunk, deltas=(Delta(delta.choice, tools=(ToolFragment(tool.index, arguments=letter),)),)
                )
    if not chunk.deltas:
        yield chunk


@given(completions(), st.booleans())
def test_streams_there_and_back(completion: Completion, slowly: bool) -> None:
    chunks = to_chunks(completion)
    if slowly:
        chunks = [piece for chunk in chunks for piece in pieces(chunk)]
    encode = DIALECT.stream_encoder(ENVELOPE)
    stream = b"".join(map(encode, [*normalised(chunks), Chunk(done=True)]))
    decode = stream_decoder(READING)
    decoded = [decode(frame.data) for frame in Decoder().receive(stream)]
    assert canonical(assemble(normalised(decoded))) == canonical(completion)
    assert all(chunk.usage is None for chunk in decoded[:-1])
    assert decoded[-1].deltas[-1].finish is not None


def test_an_encoded_stream() -> None:
    encode = DIALECT.stream_encoder(ENVELOPE)
    assert encode(Chunk((Delta(role=True),))) == b""
    assert encode(Chunk((Delta(content="A"),))) == (
        b'data: {"candidates":[{"content":{"parts":[{"text":"A"}],"role":"model"},"index":0}],'
        b'"modelVersion":"m","responseId":"c1"}\r\n\r\n'
    )
    assert encode(Chunk((Delta(tools=(ToolFragment(0, "t", "f", '{"x":'),)),))) == b""
    assert encode(Chunk((Delta(tools=(ToolFragment(0, arguments="1}"),)),))) == b""
    assert encode(Chunk((Delta(finish="tool_calls"),))) == b""
    usage = Usage(1, 5, 6, None, 4)
    assert encode(Chunk(usage=usage)) == (
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"x":1},"id":"t"}}],'
        b'"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,'
        b'"candidatesTokenCount":1,"thoughtsTokenCount":4,"totalTokenCount":6},"modelVersion":"m","responseId":"c1"}'
        b"\r\n\r\n"
    )
    assert encode(Chunk(done=True)) == b""


def test_a_finish_without_usage() -> None:
    encode = DIALECT.stream_encoder(ENVELOPE)
    assert encode(Chunk((Delta(finish="length"),))) == b""
    assert b'"parts":[{"text":""}],"role":"model"},"finishReason":"MAX_TOKENS"' in encode(Chunk(done=True))


def test_what_the_format_has_no_words_for() -> None:
    images: Any = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    choice = CompletionChoice(
        content="A",
        refusal="No.",
        tools=(ToolFragment(0, None, "f", "5"),),
        finish="function_call",
        extra={"images": Raw(json.dumps(images).encode()), "annotations": Raw(b"[]")},
        choice_extra={"logprobs": Raw(b'{"content":"?"}')},
    )
    answer = json.loads(DIALECT.encode_completion(Completion((choice,)), ENVELOPE))
    assert answer["candidates"] == [
        {
            "content": {
                "parts": [
                    {"text": "A"},
                    {"text": "No."},
                    {"functionCall": {"name": "f", "args": {"value": 5}}},
                ],
                "role": "model",
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ]
    nothing: Any = {"logprobs": Raw(b'{"content":[]}')}
    answer = json.loads(
        DIALECT.encode_completion(Completion((CompletionChoice(choice_extra=nothing),)), ENVELOPE)
    )
    assert answer["candidates"][0]["content"]["parts"] == [{"text": ""}]
    assert "logprobsResult" not in answer["candidates"][0]


def test_encoded_errors() -> None:
    assert json.loads(
        DIALECT.encode_error(400, "No.", "invalid_request_error", "invalid_type", "contents")
    ) == {
        "error": {
            "code": 400,
            "message": "No.",
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "INVALID_TYPE",
                    "domain": "gwproto",
                },
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{"field": "contents", "description": "No."}],
                },
            ],
        }
    }
    body = DIALECT.encode_error(500, "Oh.", "api_error", None, None)
    assert json.loads(body) == {"error": {"code": 500, "message": "Oh.", "status": "INTERNAL"}}
    failure = DIALECT.decode_error(429, (), DIALECT.encode_error(429, "Slow down.", "t", None, None), READING)
    assert failure.kind is FailureClass.RATE_MINUTE


# Bad input

FULL = {
    **candidate(
        {"text": "A", "thought": True, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "f", "id": "i", "args": {"x": 1}}, "thoughtSignature": "c2ln"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
        index=0,
        finishReason="STOP",
        logprobsResult=LOGPROBS,
    ),
    "promptFeedback": {"blockReason": "SAFETY"},
    "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1},
    "error": {"code": 500, "message": "m", "status": "s", "details": []},
    "responseId": "r",
    "modelVersion": "m",
}
SOURCES = [
    FULL,
    *(
        json.loads(line[5:])
        for golden in GOLDENS.values()
        for line in golden["input"].splitlines()
        if line.startswith("data:")
    ),
]


@st.composite
def mutated(draw: st.DrawFn, *documents: Any) -> Any:
    """A real document, some of whose values are replaced, or gone."""
    noise = random.Random(draw(st.integers(0, 1 << 32)))
    replacements = draw(st.lists(JSON, min_size=1, max_size=4))

    def changed(value: Any) -> Any:
        if noise.random() < 0.1:
            return noise.choice(replacements)
        if isinstance(value, dict):
            return {name: changed(inner) for name, inner in value.items() if noise.random() > 0.05}
        if isinstance(value, list):
            return [changed(inner) for inner in value]
        return value

    return changed(draw(st.sampled_from(documents)))


@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | mutated(*SOURCES).map(lambda e: json.dumps(e).encode())
)
def test_any_event_is_read_or_refused(data: bytes) -> None:
    try:
        chunk = stream_decoder(READING)(data)
    except WireError:
        chunk = Chunk()
    for delta in chunk.deltas:
        assert 0 <= delta.choice < 128
    assert isinstance(decode_completion(data, READING), (Completion, Failure))


@given(
    cut(
        st.lists(mutated(*SOURCES), max_size=4).map(
            lambda all: b"".join(b"data: %s\r\n\r\n" % json.dumps(e).encode() for e in all)
        )
    )
)
def test_any_stream_however_cut(stream: tuple[bytes, list[bytes]]) -> None:
    whole, reads = stream
    assert heard(reads) == heard([whole])

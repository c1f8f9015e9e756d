"""Whatever a provider of any format sends: a classified failure or a repaired answer, strict JSON in valid UTF-8 to the
client, and never an exception. ``make deep`` tries 10,000 examples of each."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON

from gwproto.exchange.body import MAX_BODY, choose
from gwproto.exchange.gears import Body
from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse.eventstream import encode_message
from gwproto.wire.dialects import DIALECTS, Dialect
from gwproto.wire.neutral import Completion, Envelope, Reading
from gwproto.wire.translate import frames_of
from support.formats import answered, requested

ENVELOPE = Envelope("id", 1, "model")
READING = Reading(provider="", max_tokens=50, wall=1.7e9)
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}},
}
REQUESTS: list[dict[str, Any]] = [
    {},
    {"tools": [TOOL], "tool_choice": "required"},
    {"reasoning_effort": "high", "max_tokens": 4000},
    {"response_format": {"type": "json_object"}},
]


STREAMS = {
    name: [b"".join(answered(name, requested(stream=True, **fields))) for fields in REQUESTS]
    for name in DIALECTS
}
ANSWERS = {name: [b"".join(answered(name, requested(**fields))) for fields in REQUESTS] for name in DIALECTS}


def strict(document: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    # As JSON has no limit on digits, and Python's parser has one.
    value = json.loads(
        document.decode("utf-8", "strict"), parse_constant=refuse, parse_int=lambda text: int(text[:9])
    )
    json.dumps(value, ensure_ascii=False).encode()  # raises for a lone surrogate
    return value


def passed_on(dialect: Dialect, pieces: list[bytes], *, stream: bool) -> tuple[bytes, Failure | None]:
    """What a client gets of a provider's body, checked; and why it is not all of an answer."""
    out = b""
    body: Body | None = None
    for piece in pieces:
        if body is None:
            body = choose(piece, dialect, ENVELOPE, READING, stream=stream, include_usage=True, legacy=False)
        if body is not None and not body.complete and body.failure is None:
            out += body.receive(piece)
    if body is None:
        return b"", None
    if not body.complete and body.failure is None:
        out += body.end()
    assert body.complete != (body.failure is not None)
    if stream:
        *events, rest = out.split(b"\n\n")
        assert rest == b""
        for event in events:
            assert event.startswith(b"data: ")
            if event != b"data: [DONE]":
                strict(event[6:])
        assert (events[-1:] == [b"data: [DONE]"]) == body.complete
    elif body.complete:
        assert strict(out)["choices"]
    else:
        assert out == b""
    return out, body.failure


NAMES = pytest.mark.parametrize("name", DIALECTS)
CUTS = st.lists(st.integers(0, 4000), max_size=4)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    ends = sorted({min(point, len(data)) for point in points})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A real answer with some of its bytes replaced, removed, doubled or added."""
    data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + draw(st.sampled_from((0, 1, 4, 60))))))
        middle = draw(
            st.binary(max_size=4)
            | st.sampled_from(
                (
                    b"null",
                    b"NaN",
                    b"1e999",
                    b"[]",
                    b"{}",
                    b'"',
                    b"\\ud800",
                    b"\xff",
                    b"\n\n",
                    b"\r",
                    b"[DONE]",
                    data[start:end] * 2,
                )
            )
        )
        data = data[:start] + middle + data[end:]
    return data


@st.composite
def retyped(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A real answer in which values of its JSON were replaced by anything, keys left out or doubled."""
    lines = draw(st.sampled_from(originals)).split(b"\n")
    chosen = draw(st.sets(st.integers(0, len(lines) - 1), min_size=1, max_size=3))
    for number in chosen:
        prefix, brace, text = lines[number].partition(b"{")
        try:
            document = json.loads(brace + text)
        except ValueError:
            continue
        lines[number] = prefix + json.dumps(_retype(draw, document)).encode()
    return b"\n".join(lines)


def _retype(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 9)) == 0:
            return {name: one for name, one in value.items() if name != key}
        return value | {key: _retype(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], _retype(draw, value[index]), *value[index + 1 :]]
    return draw(JSON)


@NAMES
@given(data=st.data(), points=CUTS, stream=st.booleans())
def test_damaged_answers(name: str, data: st.DataObject, points: list[int], stream: bool) -> None:
    body = data.draw(damaged(STREAMS[name] + ANSWERS[name]) | retyped(STREAMS[name] + ANSWERS[name]))
    whole = passed_on(DIALECTS[name], [body], stream=stream)
    pieces = [piece for piece in cut(body, points) if piece]
    assert passed_on(DIALECTS[name], pieces or [body], stream=stream) == whole


@NAMES
@given(body=st.binary(max_size=200), stream=st.booleans())
def test_any_bytes(name: str, body: bytes, stream: bool) -> None:
    passed_on(DIALECTS[name], [body], stream=stream)


@NAMES
@given(data=st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_event(name: str, data: bytes) -> None:
    decode = DIALECTS[name].stream_decoder(READING)
    for _ in range(2):  # the second finds what the first left behind
        try:
            decode(data)
        except WireError:
            pass


@NAMES
@given(
    status=st.sampled_from((400, 401, 429, 500, 503, 599)),
    body=st.binary(max_size=100) | JSON.map(lambda value: json.dumps({"error": value}).encode()),
    provider=st.sampled_from(("", "zai", "mistral", "gemini", "openrouter", "workers_ai", "anthropic")),
    header=st.sampled_from(
        (b"retry-after", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests", b"date")
    ),
    value=st.binary(max_size=12),
)
def test_any_error(name: str, status: int, body: bytes, provider: str, header: bytes, value: bytes) -> None:
    reading = Reading(provider=provider, wall=1.7e9)
    failure = DIALECTS[name].decode_error(status, ((header, value),), body, reading)
    assert failure.status == status
    assert len(failure.message) <= 300
    failure.message.encode()
    assert failure.retry_after is None or 0 < failure.retry_after <= 31 * 86400


@NAMES
@given(body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_request(name: str, body: bytes) -> None:
    understood = DIALECTS[name].parse_request(body, "")
    if isinstance(understood, Failure):
        assert understood.status == 400
        assert understood.kind is FailureClass.INVALID


TEXT = {
    "openai": b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    b'"delta":{"content":%b},"finish_reason":null}]}\n\n',
    "gemini": b'data: {"candidates":[{"content":{"parts":[{"text":%b}],"role":"model"},"index":0}]}\r\n\r\n',
    "anthropic": b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    b'{"type":"text","text":%b}}\n\n',
    "workers_ai": b'data: {"response":%b}\n\n',
    "cohere": b'data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":%b}}}}\n\n',
    "ollama": b'{"model":"m","created_at":"x","message":{"role":"assistant","content":%b},"done":false}\n',
    "bedrock": b'{"contentBlockIndex":0,"delta":{"text":%b}}',
}


def saying(name: str, text: bytes) -> bytes:
    """An event of this text, a JSON string that may be none, and may have more beside it."""
    event = TEXT[name] % text
    return encode_message("event", "contentBlockDelta", event) if name == "bedrock" else event


@NAMES
@pytest.mark.parametrize(
    ("text", "content"),
    [
        (b'"a\\ud800b"', "a\ufffdb"),
        (b'"a\xffb"', "a\ufffdb"),
        (b'"a\nb"', None),  # an event of its own, or a broken one
        (b'"a\\u0000b"', "a\0b"),
        ('"a\u2028b"'.encode(), "a\u2028b"),
    ],
)
def test_almost_a_text(name: str, text: bytes, content: str | None) -> None:
    out, failure = passed_on(DIALECTS[name], [saying(name, text)], stream=True)
    if content is None:
        return
    assert failure is not None  # there is no end
    assert failure.kind is FailureClass.TRUNCATED
    said = [strict(event[6:])["choices"][0]["delta"].get("content") for event in out.split(b"\n\n")[:-1]]
    assert "".join(filter(None, said)) == content


@NAMES
@pytest.mark.parametrize(
    "value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"{}", b"[1]", b"7", b"true"]
)
def test_values_of_no_use_beside_the_text(name: str, value: bytes) -> None:
    """Unknown keys with values that strict JSON does not have, or that nobody expects."""
    event = saying(name, b'"A","unheard_of":' + value)
    out, _ = passed_on(DIALECTS[name], [event], stream=True)
    if out:
        assert b'"A"' in out


@NAMES
def test_duplicate_keys(name: str) -> None:
    """The last one counts, as in every JSON parser that clients use."""
    event = saying(name, b'"Z","twice":1,"twice":2')
    out, _ = passed_on(DIALECTS[name], [event], stream=True)
    assert b'"Z"' in out


@NAMES
@pytest.mark.parametrize("stream", [False, True])
def test_too_deep(name: str, stream: bool) -> None:
    for deep in (b"[" * 100_000, b'{"a":' * 100_000, saying(name, b"[" * 200 + b"]" * 200)):
        _, failure = passed_on(DIALECTS[name], [deep], stream=stream)
        assert failure is not None
        assert failure.kind in (FailureClass.SERVER, FailureClass.TRUNCATED, FailureClass.EMPTY)


@NAMES
@pytest.mark.parametrize("stream", [False, True])
def test_a_line_over_a_mebibyte(name: str, stream: bool) -> None:
    line = saying(name, b'"' + b"x" * (1 << 20) + b'"')
    _, failure = passed_on(
        DIALECTS[name], [line[i : i + 65536] for i in range(0, len(line), 65536)], stream=stream
    )
    if stream or DIALECTS[name].framing == "sse":
        assert failure is not None
        assert failure.kind is FailureClass.SERVER


@NAMES
def test_a_body_over_its_limit(name: str) -> None:
    body = choose(
        b'{"a":"', DIALECTS[name], ENVELOPE, READING, stream=False, include_usage=True, legacy=False
    )
    assert body is not None
    piece = b"x" * (1 << 20)
    for _ in range(MAX_BODY >> 20):
        assert body.receive(piece) == b""
    body.receive(piece)
    assert body.failure is not None
    assert body.failure.message == "The provider's answer is too large."


@NAMES
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n",
        b"<!DOCTYPE html><html><title>502</title></html>",
        b"upstream connect error",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"data: null\n\n",
        b"data: []\n\n",
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
        b"event: x\n\n",
        bytes(range(256)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_no_answer_at_all(name: str, body: bytes, stream: bool) -> None:
    out, failure = passed_on(DIALECTS[name], [body], stream=stream)
    assert out == b""
    assert body.strip() == b"" or failure is not None


@pytest.mark.unmeasured
@NAMES
def test_real_answers_survive_every_single_cut(name: str) -> None:
    for body in STREAMS[name][:1]:
        whole = passed_on(DIALECTS[name], [body], stream=True)
        assert whole[1] is None
        for point in range(1, len(body)):
            assert passed_on(DIALECTS[name], [body[:point], body[point:]], stream=True) == whole


@NAMES
def test_a_stream_and_a_whole_answer_say_the_same(name: str) -> None:
    """Metamorphic: the same request, streamed or not, for a client that streams or does not."""
    for stream, whole in zip(STREAMS[name], ANSWERS[name], strict=True):
        one = strict(passed_on(DIALECTS[name], [stream], stream=False)[0])
        other = strict(passed_on(DIALECTS[name], [whole], stream=False)[0])
        for answer in (one, other):
            for message in (choice["message"] for choice in answer["choices"]):
                message.pop("extra_content", None)
                for call in message.get("tool_calls", ()):
                    call.pop("id")
                    call.pop("extra_content", None)
        assert one["choices"][0]["message"] == other["choices"][0]["message"]
        assert one["choices"][0]["finish_reason"] == other["choices"][0]["finish_reason"]


@NAMES
def test_asking_for_usage_changes_no_other_chunk(name: str) -> None:
    dialect = DIALECTS[name]
    for body in STREAMS[name]:

        def events(include_usage: bool, body: bytes = body) -> list[Any]:
            made = choose(
                body, dialect, ENVELOPE, READING, stream=True, include_usage=include_usage, legacy=False
            )
            assert made is not None
            out = made.receive(body)
            out += b"" if made.complete else made.end()
            return [_said(strict(event[6:])) for event in out.split(b"\n\n")[:-2]]

        asked = events(True)
        assert asked[-1]["choices"] == []
        assert events(False) == asked[:-1]


def _said(value: Any) -> Any:
    """Without keys that say nothing."""
    if isinstance(value, dict):
        return {key: _said(one) for key, one in value.items() if one is not None}
    return [_said(one) for one in value] if isinstance(value, list) else value


def test_frames_are_what_decoders_are_given() -> None:
    """The frames of a real stream decode one by one, in every format."""
    for name, dialect in DIALECTS.items():
        for stream in STREAMS[name]:
            decode = dialect.stream_decoder(READING)
            frames = frames_of(dialect).receive(stream)
            assert len(frames) > 1
            assert any(chunk.deltas for chunk in (decode(frame.data) for frame in frames))


def test_answers_are_answers() -> None:
    for name, dialect in DIALECTS.items():
        for body in ANSWERS[name]:
            assert isinstance(dialect.decode_completion(body, READING), Completion)

"""Relay and Splice never differ from Transcode, wherever the bytes are cut."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gwproto.exchange import gears
from gwproto.exchange.body import MAX_BODY, choose
from gwproto.exchange.gears import MAX_PREAMBLE, MAX_TAIL, Body, StreamBody
from gwproto.exchange.shapes import learn, texts_of
from gwproto.failures import FailureClass
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import Chunk, Envelope, Reading
from support.conversation import DONE, ROLE, STOP, chunk, text

OURS = Envelope(id="ours", created=7, model="m")


def stream_body(*, include_usage: bool = False) -> StreamBody:
    return StreamBody(DIALECTS["openai"], OURS, include_usage=include_usage, legacy_functions=False)


def run(
    pieces: Iterable[bytes], *, cut: bool = False, body: StreamBody | None = None
) -> tuple[bytes, bool, FailureClass | None]:
    """Everything a client gets, whether that is complete, and what went wrong."""
    body = body or stream_body()
    out = bytearray()
    for piece in pieces:
        if body.complete or body.failure is not None:
            break
        out += body.receive(piece)
    if not body.complete and body.failure is None:
        out += body.cut() if cut else body.end()
    return bytes(out), body.complete, None if body.failure is None else body.failure.kind


def transcoded(pieces: Iterable[bytes], *, cut: bool = False) -> tuple[bytes, bool, FailureClass | None]:
    with patch.object(gears, "learn", lambda *_: None):
        return run(pieces, cut=cut)


def events(data: bytes) -> list[object]:
    """What a client reads, so that two spellings of one event are equal."""
    found = []
    for event in data.split(b"\n\n"):
        if event:
            payload = event.removeprefix(b"data: ")
            found.append(payload if payload == b"[DONE]" else json.loads(payload))
    return found


WORDS = [
    "Hello",
    " ",
    "日本",
    "😀",
    "a\nb",
    'say "x"',
    "\\",
    "/",
    "\x7f",
    "id",
    "m",
    "chatcmpl",
    "}",
    "\u2028",
]
ODD = [
    b": comment\n\n",
    b"\n",
    b"event: x\n\n",
    b"data: {nonsense\n\n",
    b'data: {"error":{"message":"boom"}}\n\n',
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n',
    chunk({"content": "crlf"}).replace(b"\n", b"\r\n"),
    chunk({"content": "cr"}).replace(b"\n", b"\r"),
    chunk({"content": "split"}).replace(b',"choices"', b',\ndata: "choices"'),
    chunk({"content": "no space"}).replace(b"data: ", b"data:"),
    chunk({"content": "ab"}).replace(b"ab", b"a\xffb"),
    chunk({"content": "ab"}).replace(b"ab", b"a\\ud800b"),
    chunk({"content": "ab"}).replace(b"ab", b"\\ud83d\\ude00"),
    chunk({"content": "ab"}).replace(b"ab", b"a\x01b"),
    chunk({"content": "ab"}).replace(b"ab", b"a\\qb"),
    chunk({"content": "ab"}).replace(b"ab", b'a"b'),
    chunk({"content": ""}),
    chunk({"role": "assistant", "content": "again"}),
    chunk({"reasoning": "why"}),
    chunk({"reasoning_content": "why"}),
    chunk({"content": "other id"}, id="c2"),
    chunk({"content": "with usage"}, usage=None),
    *[
        chunk({"content": word}, usage=None, obfuscation=padding)
        for word, padding in (
            ("p", "xyz"),
            ("q", "v"),
            ("日", "w"),
            ("m", "m"),
            ("o", ""),
            ("p", "a\n"),
            ("", "x"),
        )
    ],
    chunk({"content": "padded"}, usage=None, obfuscation="xx").replace(b"xx", b'x"x'),
    chunk({"content": "padded"}, usage=None, obfuscation="xx").replace(b"xx", b"x\xffx"),
    chunk({"content": "padded"}, usage=None, obfuscation=1),
    chunk({"content": "padded"}, obfuscation="n", usage=None),
    chunk({"content": "x"}, "stop"),
    chunk({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f"}}]}),
    STOP,
    DONE,
]

frames = st.lists(
    st.one_of(st.sampled_from(WORDS).map(text), st.sampled_from(WORDS).map(text), st.sampled_from(ODD)),
    max_size=12,
)


def splits(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    points = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(points)]


@settings(max_examples=400, deadline=None)
@given(frames, st.lists(st.integers(0, 1 << 16), max_size=6), st.booleans())
@example([b"\n"], [], False)
@example([chunk({"content": "ab"}).replace(b"ab", b"a\xffb")], [], False)
@example([text("a"), text("b"), chunk({"content": "ab"}).replace(b"ab", b"a\xffb")], [], False)
@example([text("a"), text("b"), ODD[4], text("c")], [], False)
@example([text("日本"), text("日本"), text("日本")], [420], False)
def test_relaying_and_splitting_change_nothing(
    made: list[bytes], cuts: list[int], include_usage: bool
) -> None:
    data = ROLE + b"".join(made) + STOP + DONE
    reference, *end = transcoded([data])
    relayed, *relayed_end = run([data])
    assert events(relayed) == events(reference)
    assert relayed_end == end
    split, *split_end = run(splits(data, cuts))
    assert split == relayed
    assert split_end == end


@settings(max_examples=400, deadline=None)
@given(frames, st.lists(st.integers(0, 1 << 16), max_size=6), st.integers(1, 1 << 16), st.booleans())
@example([STOP, text("a"), text("b")], [300, 500], 8, True)
def test_relaying_changes_nothing_about_streams_that_break_off(
    made: list[bytes], cuts: list[int], missing: int, cut: bool
) -> None:
    data = ROLE + text("a") + b"".join(made)
    data = data[: -(missing % len(data)) or None]
    reference, *end = transcoded([data], cut=cut)
    split, *split_end = run(splits(data, cuts), cut=cut)
    assert events(split) == events(reference)
    assert split_end == end


def test_every_single_cut_and_byte_by_byte() -> None:
    data = ROLE + text("日本") + text("日本") + text("a\n") + ODD[7] + text("😀") + STOP + DONE
    whole = run([data])
    assert whole[1]
    for cut in range(len(data)):
        assert run([data[:cut], data[cut:]]) == whole
    assert run([data[i : i + 1] for i in range(len(data))]) == whole


def test_a_clean_stream_is_forwarded_untouched() -> None:
    data = ROLE + text("Hel") + text("lo") + text('"\\\n') + STOP + DONE
    assert run([data]) == (data, True, None)


@pytest.mark.interpreted
def test_relaying_returns_the_very_read() -> None:
    """Nothing is copied frame by frame once the shape is known."""
    body = stream_body()
    body.receive(ROLE + text("a"))
    read = (text("b") + text('say "x"') + text("c\\") + text("d\n")) * 50
    with patch.object(StreamBody, "_take", lambda *_: pytest.fail("transcoded")):
        assert body.receive(read) is read
    assert body.progress


def test_an_escape_does_not_end_in_the_next_text() -> None:
    body = stream_body()
    body.receive(ROLE + text("a"))
    assert body.receive(text("b") + text("c?").replace(b"?", b"\\") + text("n")) == text("b")
    assert body.failure is not None
    assert body.failure.kind is FailureClass.SERVER


@pytest.mark.interpreted
@pytest.mark.parametrize("usage", [{}, {"usage": None}])
def test_a_frame_that_reads_have_cut_is_passed_on_without_a_look(usage: dict[str, None]) -> None:
    """Once the shape is known: wherever the cut is, and in however many pieces the frame comes."""
    first, second = chunk({"content": "b"}, **usage), chunk({"content": "日本\\n"}, **usage)
    body = stream_body()
    body.receive(ROLE + chunk({"content": "a"}, **usage))
    with patch.object(body._decoder, "receive", lambda data: pytest.fail("transcoded")):
        whole = body.receive(first + second)
        assert whole == text("b") + text("日本\\n")
        for cut in range(1, len(second)):
            assert body.receive(first + second[:cut]) == text("b")
            assert body.progress
            assert not body.finished
            assert body.receive(second[cut:] + first) == text("日本\\n") + text("b")
        for at in range(len(second) - 1):
            assert body.receive(second[at : at + 1]) == b""
            assert not body.progress
        assert body.receive(second[-1:]) == text("日本\\n")


@pytest.mark.interpreted
@pytest.mark.parametrize(
    "part",
    [
        text("x" * MAX_TAIL)[:-1],  # too long to be kept
        b": a comment",
        text("b")[:-2] + b"\r",  # may have ended the frame
    ],
)
def test_only_what_may_fit_is_kept_from_the_decoder(part: bytes) -> None:
    body = stream_body()
    body.receive(ROLE + text("a"))
    with patch.object(body._decoder, "receive", wraps=body._decoder.receive) as receive:
        body.receive(part)
        receive.assert_called_once_with(part)
        assert body._within


def test_what_is_not_utf8_is_repaired_among_frames_that_fit() -> None:
    body = stream_body()
    body.receive(ROLE + text("a"))
    assert body.receive(text("b") + text("c?d").replace(b"?", b"\xff")) == text("b") + text("c\ufffdd")
    assert body.receive(text("日本")) == text("日本")


@pytest.mark.interpreted
def test_splicing_moves_the_text_into_the_clients_shape() -> None:
    """The provider counts usage in every chunk because we asked for it; this client did not ask."""
    body = stream_body()
    body.receive(ROLE + chunk({"content": "a"}, usage=None))
    with patch.object(body._decoder, "receive", lambda data: pytest.fail("transcoded")):
        out = body.receive(chunk({"content": "b\\"}, usage=None))
    assert out == text("b\\")


@pytest.mark.parametrize("usage", [{}, {"usage": None}])
def test_padding_that_hides_how_long_a_text_is_may_vary(usage: dict[str, None]) -> None:
    def came(word: str, padding: str) -> bytes:
        return chunk({"content": word}, **usage, obfuscation=padding)

    def goes(word: str, padding: str) -> bytes:
        return chunk({"content": word}, obfuscation=padding)

    texts = [("b", "xyz"), ("日本\n", "w"), ("d", "a\\")]
    body = stream_body()
    body.receive(ROLE + came("a", "x"))
    with patch.object(gears.StreamBody, "_take", lambda *_: pytest.fail("transcoded")):
        for word, padding in texts:
            assert body.receive(came(word, padding)) == goes(word, padding)
        read = b"".join([came(*both) for both in texts])
        assert body.receive(read) == b"".join([goes(*both) for both in texts])
        assert body.progress
    assert json.loads(body.receive(came("e", ""))[6:])["obfuscation"] == ""


def test_a_frame_whose_text_cannot_be_located_teaches_nothing() -> None:
    for word in ("id", "m"):
        frame = text(word)
        assert learn(frame, frame, word) is None
    escaped = text('"')
    assert learn(escaped, escaped, '"') is None
    for raw, sent in ((text("a"), text("b")), (chunk({}, x="a"), text("a") * 2)):
        assert learn(raw, sent, "a") is None


SHOWN = ["b", 'say \\"x\\"', "日本", "c\\n", "d" * 300, 'e\\"}\\n']


@pytest.mark.parametrize("words", [["b"], ["b", "c"], SHOWN, SHOWN[::-1], ["b", *SHOWN, "c", "d"]])
def test_texts_are_found_wherever_what_follows_ends(words: list[str]) -> None:
    shape = learn(text("a"), text("a"), "a")
    assert shape is not None
    frames = shape.prefix + shape.between.join([word.encode() for word in words]) + shape.suffix
    following = text("z")
    found = [word.encode() for word in words]
    for tail in (b"", STOP, DONE, STOP + following, ROLE + following, text("")):
        assert texts_of(shape, frames + tail, 0) == (found, len(frames))
        assert texts_of(shape, ROLE + frames + tail, len(ROLE)) == (found, len(ROLE + frames))
    for cut in range(len(following)):
        assert texts_of(shape, frames + following[:cut], 0) == (found, len(frames))
    assert texts_of(shape, frames + following, 0) == ([*found, b"z"], len(frames + following))
    assert texts_of(shape, frames + ROLE + following * 9, 0) == (found, len(frames))  # another one among them
    assert texts_of(shape, frames + text("") + following, 0) == (found, len(frames))
    for none in (text(""), text("") + frames, following[:-1], shape.prefix):
        assert texts_of(shape, none, 0) == ([], 0)


def test_padding_that_cannot_be_located_teaches_nothing() -> None:
    frame = chunk({"content": "a"}, obfuscation="b")
    assert learn(frame, frame, "a", b'"b"') is not None
    for padding in (b'"a"', b'"c"', b'"id"', b"null", b'"', b"{}"):
        assert learn(frame, frame, "a", padding) is None
    assert learn(frame, text("a"), "a", b'"b"') is None


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", FailureClass.EMPTY),
        (b": ping\n\n", FailureClass.EMPTY),
        (ROLE, FailureClass.TRUNCATED),
        (ROLE + text("a"), FailureClass.TRUNCATED),
        (ROLE + text("a") + STOP + b"data: {", FailureClass.TRUNCATED),
        (ROLE + text("a") + text("b")[:-2], FailureClass.TRUNCATED),
        (ROLE + text("a") + STOP + text("b") + text("c")[:-9], FailureClass.TRUNCATED),
        (ROLE + text("a") + STOP[:-1], None),
        (ROLE + text("a") + STOP, None),
        (ROLE + text("a") + b"data: [DONE]", None),
        (ROLE + DONE, FailureClass.EMPTY),
        (ROLE + chunk({}, "error"), FailureClass.SERVER),
        (ROLE + chunk({"content": "x" * (1 << 20)}), FailureClass.SERVER),
    ],
)
def test_how_a_stream_may_end(data: bytes, kind: FailureClass | None, cut: bool) -> None:
    out, complete, failed = run([data], cut=cut)
    if cut and kind is FailureClass.EMPTY and not data.endswith(DONE):
        kind = FailureClass.TRUNCATED
    if cut and kind is None and not data.endswith(b"\n\n"):
        kind = FailureClass.TRUNCATED  # broken off in the middle of an event
    assert failed is kind
    assert complete is (kind is None)
    assert out.endswith(DONE) is complete


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(("last", "kind"), [(DONE, None), (chunk({}, "error"), FailureClass.SERVER)])
def test_nothing_follows_the_end(line_end: bytes, last: bytes, kind: FailureClass | None) -> None:
    data = (ROLE + text("a") + last + text("b") + DONE).replace(b"\n", line_end)
    out, complete, failed = run([data])
    assert (complete, failed) == (kind is None, kind)
    assert b'"b"' not in out
    assert out.count(DONE) == complete


def test_names_that_the_provider_leaves_out_are_ours() -> None:
    anonymous = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    out, complete, _ = run([anonymous])
    assert complete
    first = json.loads(out.split(b"\n\n")[0][6:])
    assert (first["id"], first["created"], first["model"]) == ("ours", 7, "m")
    assert first["object"] == "chat.completion.chunk"


def whole_body(*, stream: bool = False) -> Body:
    body = choose(b" \n{", DIALECTS["openai"], OURS, stream=stream, include_usage=False, legacy=False)
    assert body is not None
    return body


def test_nothing_is_chosen_before_something_came() -> None:
    for blank in (b"", b"\r\n \t", b"\xef\xbb\xbf"):
        assert choose(blank, DIALECTS["openai"], OURS, stream=True, include_usage=False, legacy=False) is None


@pytest.mark.parametrize("stream", [False, True])
def test_an_oversized_answer_is_a_failure(stream: bool) -> None:
    body = whole_body(stream=stream)
    piece = b" " * (1 << 20)
    for _ in range(MAX_BODY >> 20):
        assert body.receive(piece) == b""
    assert body.failure is None
    body.receive(b"x")
    assert body.failure is not None
    assert body.failure.code == "bad_upstream_response"


@pytest.mark.parametrize("late", [False, True])
def test_an_oversized_stream_for_one_object_is_a_failure(late: bool) -> None:
    body = choose(b"d", DIALECTS["openai"], OURS, stream=False, include_usage=False, legacy=False)
    assert body is not None
    piece = b":\n\n" + chunk({"content": "x" * 1000}) + b":" * (1 << 20) + b"\n\n"
    size = 0
    while size + len(piece) <= MAX_BODY - len(DONE):
        assert body.receive(piece[: 1 << 19]) == body.receive(piece[1 << 19 :]) == b""
        size += len(piece)
    body.receive(b":" * (MAX_BODY - len(DONE) - size - (not late)) + b"\n" * (not late))
    assert body.failure is None
    answer = body.receive(b":" + DONE if late else DONE + b"more")
    assert (body.failure is not None) == late
    assert (b"xxx" in answer) != late


def test_a_preamble_without_end_is_a_failure() -> None:
    """Some fields the gateway does not know are passed on, but are no content."""
    body = stream_body()
    piece = chunk({"x": "y" * 10_000})
    for _ in range(MAX_PREAMBLE // len(piece)):
        assert body.receive(piece) == b""
    assert body.failure is None
    assert body.receive(piece + text("late")) == b""
    assert body.failure is not None
    assert body.failure.code == "bad_upstream_response"


def test_a_connection_that_breaks_in_an_object_is_a_failure() -> None:
    body = whole_body()
    body.receive(b'{"id":')
    assert body.cut() == b""
    assert body.failure is not None
    assert body.failure.kind is FailureClass.TRUNCATED


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a", "reasoning_content": "b"},
        {"refusal": "no"},
        {
            "tool_calls": [
                {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
    ],
)
def test_only_frames_of_nothing_but_text_teach_a_shape(delta: dict[str, object]) -> None:
    body = stream_body()
    body.receive(ROLE + text("a"))
    assert body._shape is not None
    assert body.receive(chunk(delta)) != b""
    assert body._shape is None


def test_an_object_that_is_not_fit_as_it_is_is_written_anew() -> None:
    body = whole_body()
    body.receive(b'{"choices":[{"message":{"content":[{"type":"text","text":"hi"}]},"finish_reason":"eos"}]}')
    answer = json.loads(body.end())
    assert answer["id"] == "ours"
    assert answer["choices"][0]["message"]["content"] == "hi"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_an_assembled_stream_that_fails_after_its_last_read_fails() -> None:
    body = choose(b"data:", DIALECTS["openai"], OURS, stream=False, include_usage=False, legacy=False)
    assert body is not None
    body.receive(b'data: {"error":{"message":"boom"}}')
    assert body.end() == b""
    assert body.failure is not None
    assert body.failure.message == "boom"


@pytest.mark.parametrize("remembered", [False, True])
def test_a_decoder_that_remembers_sees_every_event(remembered: bool) -> None:
    seen: list[bytes] = []

    def stream_decoder(reading: Reading) -> ChunkDecoder:
        decode = DIALECTS["openai"].stream_decoder(reading)

        def decode_and_note(data: bytes) -> Chunk:
            seen.append(data)
            return replace(decode(data), remembered=remembered)

        return decode_and_note

    dialect = replace(DIALECTS["openai"], stream_decoder=stream_decoder)
    body = StreamBody(dialect, OURS, include_usage=False, legacy_functions=False)
    sent = body.receive(ROLE + text("a") + text("b") + text("c"))
    assert sent.count(b'"content"') == 4
    assert len(seen) == (4 if remembered else 2)


def test_named_events_are_spliced_too() -> None:
    """What a client gets has no names, whatever a provider's events are called."""
    body = StreamBody(DIALECTS["anthropic"], OURS, include_usage=False, legacy_functions=False)

    def said(word: bytes) -> bytes:
        data = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}' % word
        return b"event: content_block_delta\ndata: %b\n\n" % data

    first = body.receive(said(b"a") + said(b"b"))
    assert body._shape is not None
    assert not body._shape.relay
    assert body.receive(said(b"c")) == first.split(b"\n\n")[1].replace(b'"b"', b'"c"') + b"\n\n"
    assert b"event:" not in first

"""The SSE codec against the WHATWG grammar, however its input is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SSE_PIECES, bytewise, cut, single_cuts

from gwproto.failures import WireError
from gwproto.sse import DONE, KEEP_ALIVE, Decoder, Frame, encode

BOM = b"\xef\xbb\xbf"

# web-platform-tests, eventsource/: input, data of the events. Events with empty data, which browsers do fire, are left
# out of the expectations: the decoder does not deliver them.
WPT = {
    "format-bom": (BOM + b"data:1\n\n" + BOM + b"data:2\n\ndata:3\n\n", [b"1", b"3"]),
    "format-bom-2": (BOM + BOM + b"data:1\n\ndata:2\n\ndata:3\n\n", [b"2", b"3"]),
    "format-comments": (
        b"data:1\r:\0\n:\r\ndata:2\n:"
        + b"x" * 2048
        + b"\rdata:3\n:data:fail\r:"
        + b"x" * 2048
        + b"\ndata:4\n\n",
        [b"1\n2\n3\n4"],
    ),
    "format-data-before-final-empty-line": (b"retry:1000\ndata:test1\n\nid:test\ndata:test2", [b"test1"]),
    "format-field-data": (b"data:\n\ndata\ndata\n\ndata:test\n\n", [b"\n", b"test"]),
    "format-field-event-empty": (b"event: \ndata:data\n\n", [b"data"]),
    "format-field-id": (b"id: 1\ndata:x\n\ndata:2\n\n", [b"x", b"2"]),
    "format-field-id-null": (b"id:\0\0\ndata:x\n\n", [b"x"]),
    "format-field-parsing": (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\r"
        b"data_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
        [b"\0\n 2\n1\n3\n\n4"],
    ),
    "format-field-retry": (b"retry:02000\ndata:x\n\n", [b"x"]),
    "format-field-retry-bogus": (b"retry:2000\nretry:1000x\ndata:x\n\n", [b"x"]),
    "format-field-retry-empty": (b"retry\ndata:test\n\n", [b"test"]),
    "format-field-unknown": (
        b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
        [b"test\n\ntest"],
    ),
    "format-leading-space": (b"data:\ttest\rdata: \ndata:test\n\n", [b"\ttest\n\ntest"]),
    "format-newlines": (b"data:test\r\ndata\ndata:test\r\n\r", [b"test\n\ntest"]),
    "format-null-character": (b"data:\0\n\n", [b"\0"]),
    "format-utf-8": ("data:ok…\n\n".encode(), ["ok…".encode()]),
    "event-data": (
        b"data:msg\ndata: msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
        [b"msg\nmsg", b"end"],
    ),
    "id-only block": (b"id: 7\n\ndata:x\n\n", [b"x"]),
}

STREAMS = {name: stream for name, (stream, _) in WPT.items()} | {
    "canonical": b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n',
    "three line ends": b"data: a\n\n\ndata: b\n\n",
    "comment, then canonical": b": ping\n\ndata: a\n\n",
    "comment inside": b": ping\ndata: a\n\ndata: b\n: c\n\n",
    "two data lines": b"data: {\ndata: }\n\n",
    "crlf": b"data: a\r\n\r\ndata: b\n\n",
    "blank line by crlf": b"data: a\n\r\ndata: b\n\n",
    "carriage return at the very end": b"data: a\r\r",
    "bom and canonical": BOM + b"data: a\n\n",
    "named": b"event: error\ndata: a\n\n",
    "utf-8": "data: hé😀\u2028x\n\n".encode(),
    "bad utf-8": b"data: h\xc3\n\ndata: \xff\ndata: x\n\n",
    "empty data": b"data: \n\ndata: a\n\n",
    "named and numbered": b"event: a\ndata: b\n\nevent: a\nid: 1\ndata: b\n\ndata: b\nevent: a\n\nevent: a\n\n",
    "named, in bad utf-8": b"event: \xff\ndata: b\n\nevent: \ndata: c\n\nevent: d\nevent: e\ndata: f\n\n",
    "bare error": b'data: a\n\n{\n  "error": {\n    "code": 500\n  }\n}\n',
    "bare error between": b'{"error":1}\n\ndata: a\n{"error":2}\n\n: x\n[{"error":\n3}]\n\ndata: b\n\n',
}


def decode(pieces: list[bytes], **limits: int) -> list[Frame]:
    """The frames, one read after the other; an error stands at the end as a frame of its name."""
    decoder = Decoder(**limits)
    frames: list[Frame] = []
    try:
        for piece in pieces:
            frames += decoder.receive(piece)
        last = decoder.end()
        if last is not None:
            frames.append(Frame(b"(unfinished) " + last.data, last.event, last.raw))
    except WireError:
        frames.append(Frame(b"(too long)"))
    return frames


@pytest.mark.parametrize("name", WPT)
def test_browsers_events(name: str) -> None:
    stream, expected = WPT[name]
    assert [frame.data for frame in Decoder().receive(stream)] == expected


@pytest.mark.parametrize("name", STREAMS)
def test_cuts_do_not_matter(name: str) -> None:
    stream = STREAMS[name]
    whole = decode([stream])
    assert decode(bytewise(stream)) == whole
    for pieces in single_cuts(stream):
        assert decode(pieces) == whole


@given(cut(SSE_PIECES))
def test_cuts_do_not_matter_for_anything(example: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = example
    assert decode(pieces) == decode([stream]) == decode(bytewise(stream))


@given(cut(SSE_PIECES), st.integers(1, 12))
def test_cuts_do_not_matter_at_the_limit(example: tuple[bytes, list[bytes]], limit: int) -> None:
    stream, pieces = example
    assert (
        decode(pieces, max_line=limit)
        == decode([stream], max_line=limit)
        == decode(bytewise(stream), max_line=limit)
    )


@pytest.mark.parametrize("name", STREAMS)
def test_every_prefix_gives_a_prefix(name: str) -> None:
    stream = STREAMS[name]
    whole = Decoder().receive(stream)
    for end in range(len(stream)):
        frames = Decoder().receive(stream[:end])
        assert frames == whole[: len(frames)]


@given(st.binary(max_size=60).filter(lambda data: not set(data) & set(b"\r\n")))
def test_round_trip(data: bytes) -> None:
    frames = Decoder().receive(encode(data))
    if not data:
        assert frames == []
        return
    (frame,) = frames
    assert frame.data == data.decode(errors="replace").encode()
    assert frame.raw == (encode(data) if frame.data == data else b"")


def test_canonical_frames_keep_their_bytes() -> None:
    frames = Decoder().receive(STREAMS["canonical"])
    assert frames == [
        Frame(b'{"a":1}', "", b'data: {"a":1}\n\n'),
        Frame(b'{"b":2}', "", b'data: {"b":2}\n\n'),
        Frame(b"[DONE]", "", DONE),
    ]


@pytest.mark.parametrize(
    "stream",
    [
        b"data:a\n\n",
        b"data: a\r\n\r\n",
        b"data: a\n\r\n",
        b"data: a\rdata: b\n\n",
        b": c\ndata: a\n\n",
        b"data: a\n: c\n\n",
        b"event: e\ndata: a\n\r\n",
        b"data: a\ndata: b\n\n",
        b"data: \xff\n\n",
    ],
)
def test_other_frames_have_no_raw_bytes(stream: bytes) -> None:
    for pieces in ([stream], bytewise(stream)):
        frames = list(itertools.chain.from_iterable(map(Decoder().receive, pieces)))
        assert [frame.raw for frame in frames] == [b""]


def test_event_names_last_for_one_event() -> None:
    frames = Decoder().receive(
        b"event: error\ndata: a\n\ndata: b\n\nevent: x\n\ndata: c\n\nevent: \xff\ndata: d\n\n"
    )
    assert [frame.event for frame in frames] == ["error", "", "", "\ufffd"]


def test_invalid_utf8_is_repaired() -> None:
    assert [frame.data for frame in Decoder().receive(b"data: h\xc3\n\n")] == ["h\ufffd".encode()]


def test_carriage_return_ends_a_line_at_once() -> None:
    decoder = Decoder()
    assert decoder.receive(b"data: a\r\r") == [Frame(b"a")]
    assert not decoder.pending
    assert decoder.receive(b"\ndata: b\r\n") == []
    assert decoder.pending
    assert decoder.receive(b"\r") == [Frame(b"b")]
    assert decoder.end() is None


def test_pending_means_an_event_has_begun() -> None:
    decoder = Decoder()
    assert not decoder.pending
    decoder.receive(b"d")
    assert decoder.pending
    decoder.receive(b"ata: a\n")
    assert decoder.pending
    decoder.receive(b"\n")
    assert not decoder.pending


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a", Frame(b"a")),
        (b"data: a\n", Frame(b"a")),
        (b"event: e\ndata: a\ndata: b", Frame(b"a\nb", "e")),
        (BOM + b"data: a", Frame(b"a")),
        (b": c", None),
        (b"dat", None),
        (b"", None),
        (b"data: a\n\n", None),
    ],
)
def test_the_end(stream: bytes, expected: Frame | None) -> None:
    decoder = Decoder()
    decoder.receive(stream)
    assert decoder.end() == expected


@pytest.mark.parametrize(
    "stream",
    [
        b"data: 12345\n\n",
        b"data: 12345",
        b": 123456789",
        b"data:1234\ndata:123456\n\n",
        b"data:123\n" * 3 + b"\n",
    ],
)
def test_limits(stream: bytes) -> None:
    for pieces in ([stream], bytewise(stream)):
        assert decode(pieces, max_line=10) == [Frame(b"(too long)")]


def test_at_the_limit() -> None:
    for stream, data in ((b"data: 1234\n\n", b"1234"), (b"data:1234\ndata:12345\n\n", b"1234\n12345")):
        for pieces in ([stream], bytewise(stream)):
            assert [frame.data for frame in decode(pieces, max_line=10)] == [data]


def test_frames_before_the_limit_are_delivered_first() -> None:
    decoder = Decoder(max_line=10)
    assert decoder.receive(b"data: a\n\ndata: 123456789\n\ndata: b\n\n") == [Frame(b"a", "", b"data: a\n\n")]
    with pytest.raises(WireError):
        decoder.receive(b"")
    with pytest.raises(WireError):
        decoder.end()


def test_endless_line_is_not_kept() -> None:
    decoder = Decoder(max_line=1000)
    for _ in range(1000):
        decoder.receive(b"x")
    with pytest.raises(WireError):
        decoder.receive(b"x")


def test_encoder_writes_one_line() -> None:
    assert encode(b'{\r\n"a":1}') == b'data: {  "a":1}\n\n'


def test_comments_are_nothing() -> None:
    assert Decoder().receive(KEEP_ALIVE * 3 + DONE) == [Frame(b"[DONE]", "", DONE)]

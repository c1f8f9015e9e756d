"""Binary frames, however they are cut, and as botocore writes and reads them."""

import json
import zlib
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped] # it has no types
from hypothesis import given
from hypothesis import strategies as st
from strategies import TEXT, bytewise, cut, single_cuts

from gwproto.failures import WireError
from gwproto.sse import EventStreamDecoder
from gwproto.sse.eventstream import MAX_HEADERS, encode_error, encode_frame, encode_message

SLOW_DOWN = bytes.fromhex(
    "0000008800000061de0175f40f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e"
    "0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070009"
    "657863657074696f6e7b226d657373616765223a22736c6f7720646f776e227d832ee072"
)
CUT = "(cut)"


def event(payload: bytes, name: str = "e") -> bytes:
    return encode_message("event", name, payload)


def decode(pieces: list[bytes], limit: int = 1 << 20) -> list[Any]:
    """What the frames say; an end inside one stands there as ``CUT``."""
    decoder = EventStreamDecoder(limit)
    said: list[Any] = []
    for piece in pieces:
        frames = decoder.receive(piece)
        assert all(not frame.raw for frame in frames)
        said += [json.loads(frame.data) for frame in frames]
    try:
        decoder.end()
    except WireError:
        said.append(CUT)
    return said


def raw(block: bytes, payload: bytes = b"{}") -> bytes:
    """A frame with these bytes for headers."""
    prelude = (16 + len(block) + len(payload)).to_bytes(4) + len(block).to_bytes(4)
    frame = prelude + zlib.crc32(prelude).to_bytes(4) + block + payload
    return frame + zlib.crc32(frame).to_bytes(4)


def test_events_and_exceptions() -> None:
    stream = event(b'{"a":1}') + event(b' {"b":2}\n') + event(b'{"c":3}', "f") + SLOW_DOWN
    said = [
        {"e": "e", "p": {"a": 1}},
        {"e": "e", "p": {"b": 2}},
        {"e": "f", "p": {"c": 3}},
        {"x": "throttlingException", "p": {"message": "slow down"}},
    ]
    assert decode([stream]) == decode(bytewise(stream)) == said
    for pieces in single_cuts(stream):
        assert decode(pieces) == said


def test_an_error_says_all_in_its_headers() -> None:
    headers = {":message-type": "error", ":error-code": "Gone", ":error-message": 'it "went"'}
    assert decode([encode_frame(headers, b"")]) == [{"x": "Gone", "m": 'it "went"', "p": ""}]
    assert decode([encode_frame({":message-type": "error"}, b"")]) == [{"x": "", "m": "", "p": ""}]


@pytest.mark.parametrize(
    ("payload", "said"), [(b"", ""), (b"text", "text"), (b"a\xffb", "a\ufffdb"), (b'"quoted"', '"quoted"')]
)
def test_payloads_that_are_no_objects_are_texts(payload: bytes, said: str) -> None:
    assert decode([event(payload)]) == [{"e": "e", "p": said}]


def test_invalid_utf8_is_repaired() -> None:
    assert decode([event(b'{"a":"\xff"}')]) == [{"e": "e", "p": {"a": "\ufffd"}}]


def test_headers_of_every_type() -> None:
    values = (b"", b"", b"1", b"12", b"1234", b"12345678", b"\0\3abc", b"\0\1e", b"12345678", b"x" * 16)
    block = b"".join([b"\x0b:event-type%c%b" % (kind, value) for kind, value in enumerate(values)])
    assert decode([raw(block)]) == [{"e": "e", "p": {}}]
    assert decode([raw(b"")]) == [{"e": "", "p": {}}]
    assert decode([raw(b"\x0b:event-type\x07\0\1\xff")]) == [{"e": "\ufffd", "p": {}}]


@pytest.mark.parametrize(
    "block",
    [b"\1", b"\1a", b"\1a\x0a", b"\1a\xff", b"\1a\7", b"\1a\7\0", b"\1a\7\0\5abc", b"\1a\4abc", b"\xffa\0"],
)
def test_headers_that_are_none(block: bytes) -> None:
    assert decode([raw(block)]) == [{"w": "a frame's headers cannot be read"}, CUT]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_any_bit_that_is_wrong_breaks_the_stream_after_the_frames_before() -> None:
    first, second = event(b"{}"), event(b'{"a":1}')
    for at in range(len(second)):
        *said, why, end = decode([first + flipped(second, at) + first])
        assert said == [{"e": "e", "p": {}}]
        assert list(why) == ["w"]
        assert end == CUT
    assert "lengths" in decode([flipped(first, 3)])[0]["w"]
    assert "match its checksum" in decode([flipped(first, len(first) - 1)])[0]["w"]


def test_nothing_follows_what_was_no_frame() -> None:
    decoder = EventStreamDecoder()
    assert len(decoder.receive(b"x" * 12)) == 1
    assert not decoder.pending
    assert decoder.receive(event(b"{}")) == []
    with pytest.raises(WireError):
        decoder.end()


def test_lengths_are_limited() -> None:
    impossible = {"w": "a frame has an impossible length"}
    assert decode([event(b'{"a":12}')], 8) == [{"e": "e", "p": {"a": 12}}]
    assert decode([event(b'{"a":123}')], 8) == [impossible, CUT]
    for total, headers in ((15, 0), (16, 1), (MAX_HEADERS + 17, MAX_HEADERS + 1), (1 << 31, 0)):
        lengths = total.to_bytes(4) + headers.to_bytes(4)
        assert decode([lengths + zlib.crc32(lengths).to_bytes(4)]) == [impossible, CUT]


def test_a_frame_that_has_begun() -> None:
    decoder = EventStreamDecoder()
    frame = event(b"{}")
    assert not decoder.pending
    assert decoder.receive(frame + frame[:1])[0].data == b'{"e":"e","p":{}}'
    assert decoder.pending
    with pytest.raises(WireError, match="inside a frame"):
        decoder.end()
    assert len(decoder.receive(frame[1:])) == 1
    assert not decoder.pending
    decoder.end()


def test_blanks_before_the_first_frame() -> None:
    """Keep-alives in a read of their own never come here, so those in the same read must not matter either."""
    frame = event(b"{}")
    stream = b"\xef\xbb\xbf \r\n" + frame
    assert decode([stream]) == decode(bytewise(stream)) == [{"e": "e", "p": {}}]
    assert decode([b" \n"]) == []
    assert decode([frame + b" " * 12])[1:] == [{"w": "a frame's lengths do not match their checksum"}, CUT]


PIECES = st.lists(
    st.sampled_from(
        (SLOW_DOWN, event(b"{}"), event(b"\xc3\xa9"), raw(b"\1a"), b"\0\0\0\x10", b" ", b"x" * 12)
    ),
    max_size=6,
).map(b"".join)


@given(cut(PIECES), st.sampled_from((1, 8, 1 << 20)))
def test_cuts_do_not_matter(example: tuple[bytes, list[bytes]], limit: int) -> None:
    stream, pieces = example
    assert decode(pieces, limit) == decode([stream], limit) == decode(bytewise(stream), limit)


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    decode([data])
    decode([raw(data)])


def test_frames_are_written_as_recorded() -> None:
    assert encode_message("exception", "throttlingException", b'{"message":"slow down"}') == SLOW_DOWN
    error = b'{"message":"slow down","__type":"ThrottlingException"}'
    assert decode([encode_error(error)]) == [{"x": "throttlingException", "p": json.loads(error)}]


@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=3), st.binary(max_size=40))
def test_frames_are_botocores(headers: dict[str, str], payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_frame(headers, payload))
    (message,) = buffer
    assert (message.headers, message.payload) == (headers, payload)

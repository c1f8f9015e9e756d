"""Lines of JSON, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import bytewise, cut, single_cuts

from gwproto.failures import WireError
from gwproto.sse import Frame, LineDecoder

PIECES = st.lists(
    st.sampled_from((b'{"a":1}', b"\n", b"\r\n", b"\n\n", b" ", b"\xc3", b"\xa9", b"\xff", b"x" * 9)),
    max_size=20,
).map(b"".join)


def decode(pieces: list[bytes], limit: int = 1 << 20) -> list[Frame]:
    """The frames; an error stands at the end as one of its name."""
    decoder = LineDecoder(limit)
    frames: list[Frame] = []
    try:
        for piece in pieces:
            frames += decoder.receive(piece)
        last = decoder.end()
        if last is not None:
            frames.append(last)
    except WireError:
        frames.append(Frame(b"(too long)"))
    return frames


def test_one_document_to_a_line() -> None:
    stream = b'{"a":1}\n\r\n  {"b":2} \r\n\n{"c":3}'
    frames = [Frame(b'{"a":1}'), Frame(b'{"b":2}'), Frame(b'{"c":3}')]
    assert decode([stream]) == decode(bytewise(stream)) == frames
    for pieces in single_cuts(stream):
        assert decode(pieces) == frames


def test_invalid_utf8_is_repaired() -> None:
    assert decode([b'"\xff\xc3"\n']) == [Frame('"\ufffd\ufffd"'.encode())]


def test_a_line_that_has_begun() -> None:
    decoder = LineDecoder()
    assert not decoder.pending
    decoder.receive(b"{}\n ")
    assert not decoder.pending
    decoder.receive(b"{")
    assert decoder.pending
    assert decoder.receive(b"}\n") == [Frame(b"{}")]
    assert not decoder.pending
    assert decoder.end() is None


def test_frames_before_the_limit_are_delivered_first() -> None:
    decoder = LineDecoder(5)
    assert decoder.receive(b"[1]\n[1234567]\n[2]\n") == [Frame(b"[1]")]
    for call in (lambda: decoder.receive(b"[3]\n"), decoder.end):
        with pytest.raises(WireError):
            call()


def test_an_endless_line_is_not_kept() -> None:
    decoder = LineDecoder(1000)
    for _ in range(10):
        assert decoder.receive(b"x" * 100) == []
    with pytest.raises(WireError):
        decoder.receive(b"x")
    assert decode([b"x" * 1001], 1000) == [Frame(b"(too long)")]


@given(cut(PIECES), st.sampled_from((4, 8, 1 << 20)))
def test_cuts_do_not_matter(example: tuple[bytes, list[bytes]], limit: int) -> None:
    stream, pieces = example
    assert decode(pieces, limit) == decode([stream], limit) == decode(bytewise(stream), limit)

"""The chunked coding: strict, split anywhere, and never other than h11 reads it."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwproto_io.chunked import MAX_LINE, MAX_TRAILER, ChunkedDecoder, ChunkedError

WHOLE = b"3\r\nabc\r\n0A;name=value;flag\r\n0123456789\r\n000\r\nx-trailer: ignored\r\n\r\nrest"


def decode(*pieces: bytes, padding: bool = False) -> tuple[bytes, bool, bytes]:
    decoder = ChunkedDecoder(padding=padding)
    body = b""
    after = b""
    for piece in pieces:
        if decoder.complete:
            after += piece
        else:
            body += decoder.receive(piece)
    return body, decoder.complete, decoder.rest + after


def test_a_body() -> None:
    assert decode(WHOLE) == (b"abc0123456789", True, b"rest")


@pytest.mark.parametrize("cut", range(len(WHOLE) + 1))
def test_every_cut(cut: int) -> None:
    assert decode(WHOLE[:cut], WHOLE[cut:]) == (b"abc0123456789", True, b"rest")


def test_chunks_of_any_size_in_reads_of_their_own_or_together() -> None:
    sizes = [1, 15, 16, 255, 256, 4095, 4096, 70000, 300, 301, 9, 0xABC]
    chunks = [b"%b\r\n" % (b"x" * (size - 2)) if size > 2 else b"x" for size in sizes]
    coded = [
        form % len(chunk) + b"\r\n" + chunk + b"\r\n" for chunk in chunks for form in (b"%x", b"%X", b"0%x")
    ]
    end = b"0\r\n\r\n"
    body = b"".join([chunk for chunk in chunks for _ in range(3)])
    assert decode(b"".join(coded) + end) == decode(*coded, end) == (body, True, b"")


def test_byte_by_byte() -> None:
    assert decode(*[bytes([byte]) for byte in WHOLE]) == (b"abc0123456789", True, b"rest")


@pytest.mark.parametrize("end", range(len(WHOLE) - len(b"rest")))
def test_every_prefix_is_incomplete(end: int) -> None:
    assert decode(WHOLE[:end])[1:] == (False, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\r\na\r\n",
        b"1\r\na\n",
        b"1\r\nab\r\n",
        b"1\r\na\rb",
        b"100\r\n" + b"a" * 256 + b"\rb",
        b"100\r\n" + b"a" * 257 + b"\r\n",
        b"100\r\n" + b"a" * 256 + b"\r\n100\r\n" + b"a" * 256 + b"\n\n",
        b"1;\r\na\r\n",
        b"1;a b\r\na\r\n",
        b"1;a=\r\na\r\n",
        b'1;a="b\r\na\r\n',
        b"1;a=b\x00\r\na\r\n",
        b"1;a=b\nc\r\na\r\n",
        b"1" * 16 + b"\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nx: a\x00b\r\n\r\n",
        b"0\r\nx: a\n\r\n",
        b"0\r\n\n",
        b"1;" + b"a" * MAX_LINE + b"\r\n",
        b"0\r\n" + b"x: " + b"a" * MAX_LINE + b"\r\n\r\n",
        b"0\r\n" + (b"x: " + b"a" * 1000 + b"\r\n") * (MAX_TRAILER // 1000 + 1) + b"\r\n",
    ],
)
@pytest.mark.parametrize("padding", [False, True])
def test_malformed(data: bytes, padding: bool) -> None:
    with pytest.raises(ChunkedError):
        decode(data, padding=padding)
    with pytest.raises(ChunkedError):
        decode(*[bytes([byte]) for byte in data], padding=padding)


@pytest.mark.parametrize("header", [b"1 ", b"1\t;a", b"1;a=b "])
def test_white_space_is_for_responses_only(header: bytes) -> None:
    data = header + b"\r\na\r\n0\r\n\r\n"
    assert decode(data, padding=True)[0] == b"a"
    with pytest.raises(ChunkedError):
        decode(data)


@pytest.mark.parametrize("extension", [b";a", b";a=b", b';a="b c"', b';a="\\"";b', b";a=b;c=d"])
def test_extensions_are_read_over(extension: bytes) -> None:
    assert decode(b"1" + extension + b"\r\na\r\n0" + extension + b"\r\n\r\n") == (b"a", True, b"")


def through_h11(data: bytes) -> bytes | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + data)
    body = b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError:
        return None
    return body


@given(
    st.lists(
        st.sampled_from([b"0", b"1", b"a", b"\r\n", b"\n", b"\r", b";", b"=", b'"', b":", b" "]), max_size=14
    )
)
def test_what_is_accepted_h11_reads_alike(parts: list[bytes]) -> None:
    data = b"".join(parts)
    try:
        body, complete, _ = decode(data)
    except ChunkedError:
        return
    if complete:
        assert through_h11(data) == body


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(1, 9), max_size=60))
def test_any_chunks_in_any_pieces(chunks: list[bytes], sizes: list[int]) -> None:
    data = b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]) + b"0\r\n\r\n"
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    assert decode(*pieces, data)[:2] == (b"".join(chunks), True)

"""The codecs in the client's role: whatever a provider answers, split anyhow, both read the same or refuse alike."""

from collections.abc import Sequence
from typing import NamedTuple

import h11
import pytest
from hypothesis import given

from gwproto import Event, Headers, LossReason, UpstreamData, UpstreamEnd, UpstreamHead, UpstreamLost
from gwproto_io.chunked import MAX_LINE, MAX_TRAILER
from gwproto_io.codec import Codec, H11Codec
from gwproto_io.codec.heads import MAX_HEAD
from gwproto_io.http1 import MAX_HEADERS, MAX_INTERIM, ResponseParser
from support.codecs import CODECS, FAST, H11, OTHERS, needs_httptools
from support.messages import altered, byte_by_byte, every_split, pieces_of

if FAST is not None:
    import httptools


class Answer(NamedTuple):
    """A response as it was read: ``status`` 0 without a head, ``lost`` None if it is complete."""

    status: int
    fields: Headers
    body: bytes | None  # None of what was lost: how much of it came before depends on the pieces
    lost: LossReason | None
    reusable: bool


def read(codec: Codec, pieces: Sequence[bytes], *, method: str = "POST", eof: bool = True) -> Answer | None:
    """The response in ``pieces``; None while it is incomplete and the connection has no end (``eof``)."""
    parser = ResponseParser(1, method, reused=False, codec=codec)
    events: list[Event] = []
    unasked = False
    for piece in pieces:
        if parser.complete:
            unasked = unasked or bool(piece)
        else:
            events += parser.receive(piece)
    if not parser.complete:
        if not eof:
            return None
        events.append(parser.receive_eof())
    head = next((event for event in events if isinstance(event, UpstreamHead)), UpstreamHead(1, 0, ()))
    body = b"".join([event.data for event in events if isinstance(event, UpstreamData)])
    last = events[-1]
    if isinstance(last, UpstreamLost):
        assert not parser.reusable
        return Answer(head.status, head.headers, None, last.why, False)
    assert isinstance(last, UpstreamEnd)
    return Answer(head.status, head.headers, body, None, parser.reusable and not unasked)


def answer(fields: bytes = b"", body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return line + b"\r\n" + fields + b"\r\n" + body


def chunked(body: bytes, fields: bytes = b"") -> bytes:
    return answer(b"Transfer-Encoding: chunked\r\n" + fields, body)


NOTHING = b"Content-Length: 0\r\n"
HELLO = answer(b"Content-Length: 5\r\n", b"hello")
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
BARE_LF = b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"

# Each with its status, its body and whether the connection may be used again. The first ones are plain: httptools needs
# no help with them.
PLAIN: dict[str, tuple[bytes, tuple[int, bytes, bool]]] = {
    "a length": (HELLO, (200, b"hello", True)),
    "a length of zero": (answer(NOTHING), (200, b"", True)),
    "chunked": (chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), (200, b"hello", True)),
    "chunked until the connection ends": (
        chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Connection: close\r\n"),
        (200, b"hello", False),
    ),
    "until the connection ends": (answer(b"", b"hello"), (200, b"hello", False)),
    "nothing until the connection ends": (answer(), (200, b"", False)),
    "until the end of HTTP/1.0": (answer(b"", b"hello", b"HTTP/1.0 200 OK"), (200, b"hello", False)),
    "a length in HTTP/1.0": (
        answer(b"Content-Length: 5\r\nConnection: keep-alive\r\n", b"hello", b"HTTP/1.0 200 OK"),
        (200, b"hello", False),
    ),
    "close": (answer(b"Connection: close\r\n" + NOTHING), (200, b"", False)),
    "close among other options": (answer(b"Connection: a, CLOSE ,b\r\n" + NOTHING), (200, b"", False)),
    "close in a second field": (
        answer(b"Connection: x\r\nConnection: close\r\n" + NOTHING),
        (200, b"", False),
    ),
    "an option that only resembles close": (answer(b"Connection: x-close\r\n" + NOTHING), (200, b"", True)),
    "no reason": (answer(NOTHING, line=b"HTTP/1.1 503 "), (503, b"", True)),
    "no reason and no space": (answer(NOTHING, line=b"HTTP/1.1 503"), (503, b"", True)),
    "an odd reason": (answer(NOTHING, line=b"HTTP/1.1 200 \t a: \xc3\xa9 b, 12 "), (200, b"", True)),
    "an odd status": (answer(NOTHING, line=b"HTTP/1.1 799 x"), (799, b"", True)),
    "no content": (answer(line=b"HTTP/1.1 204 No Content"), (204, b"", True)),
    "no content with a length": (answer(b"Content-Length: 5\r\n", line=b"HTTP/1.1 204 x"), (204, b"", True)),
    "not modified": (answer(b"Content-Length: 5\r\n", line=b"HTTP/1.1 304 x"), (304, b"", True)),
    "not modified, chunked": (
        answer(b"Transfer-Encoding: chunked\r\n", line=b"HTTP/1.1 304 x"),
        (304, b"", True),
    ),
    "an interim response": (INTERIM + HELLO, (200, b"hello", True)),
    "continue": (b"HTTP/1.1 100\r\n\r\n" + HELLO, (200, b"hello", True)),
    "many interim responses": (INTERIM * MAX_INTERIM + answer(NOTHING), (200, b"", True)),
    "an interim response with a length": (
        b"HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n" + HELLO,
        (200, b"hello", True),
    ),
    "an interim response with another coding": (
        b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: gzip\r\n\r\n" + HELLO,
        (200, b"hello", True),
    ),
    "white space around values": (answer(b"a:b\r\nc: \t d e\t \r\nf:\r\n" + NOTHING), (200, b"", True)),
    "bytes over 127 in a value": (answer(b"x: \xff\xc3\xa9\r\n" + NOTHING), (200, b"", True)),
    "fields more than once": (
        answer(b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n" + NOTHING),
        (200, b"", True),
    ),
    "a hundred fields": (answer(b"x: y\r\n" * (MAX_HEADERS - 1) + NOTHING), (200, b"", True)),
    "trailers": (chunked(b"0\r\nx: y\r\nset-cookie: a\r\n\r\n"), (200, b"", True)),
    "a trailer that would frame": (chunked(b"0\r\nContent-Length: 3\r\n\r\n"), (200, b"", True)),
    "chunk extensions": (chunked(b'1;a;b=c;d="e;\\"f"\r\na\r\n0;g\r\n\r\n'), (200, b"a", True)),
    "padded sizes": (chunked(b"1 \r\na\r\n1\t;x\r\nb\r\n0  \r\n\r\n"), (200, b"ab", True)),
    "more than the length": (HELLO + b"x", (200, b"hello", False)),
    "another response": (HELLO + HELLO, (200, b"hello", False)),
    "more than the chunks": (chunked(b"0\r\n\r\nx"), (200, b"", False)),
    "a body of no content": (answer(b"", b"hello", b"HTTP/1.1 204 No Content"), (204, b"", False)),
    "an upgrade that is offered": (answer(b"Upgrade: h2c\r\n" + NOTHING), (200, b"", True)),
}
ODD: dict[str, tuple[bytes, tuple[int, bytes, bool]]] = {
    "equal lengths": (answer(b"Content-Length: 5\r\n" * 2, b"hello"), (200, b"hello", True)),
    "equal lengths in a list": (answer(b"Content-Length: 5, 5\r\n", b"hello"), (200, b"hello", True)),
    "chunked in another case": (
        answer(b"Transfer-Encoding: Chunked\r\n", b"1\r\na\r\n0\r\n\r\n"),
        (200, b"a", True),
    ),
}
# What llhttp and h11's own connection see otherwise, on purpose or not.
OURS = frozenset((
    "an interim response with another coding",  # interim heads are skipped unread
    "a length in HTTP/1.0",
    "padded sizes",
    "a trailer that would frame",
))  # fmt: skip

PROTOCOL, TRUNCATED, RESET = LossReason.PROTOCOL, LossReason.TRUNCATED, LossReason.RESET
LOST: dict[str, tuple[bytes, LossReason]] = {
    # What two readers could frame differently
    "a length and chunked": (chunked(b"0\r\n\r\n", b"Content-Length: 5\r\n"), PROTOCOL),
    "a length before chunked": (
        answer(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        PROTOCOL,
    ),
    "different lengths": (answer(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"), PROTOCOL),
    "different lengths in a list": (answer(b"Content-Length: 5, 6\r\n", b"hello"), PROTOCOL),
    "a length with a plus": (answer(b"Content-Length: +5\r\n", b"hello"), PROTOCOL),
    "a length with a minus": (answer(b"Content-Length: -5\r\n", b"hello"), PROTOCOL),
    "a hexadecimal length": (answer(b"Content-Length: 0x5\r\n", b"hello"), PROTOCOL),
    "a length with an underscore": (answer(b"Content-Length: 1_0\r\n", b"0123456789"), PROTOCOL),
    "a length of other digits": (answer(b"Content-Length: \xd9\xa5\r\n", b"hello"), PROTOCOL),
    "a length that is empty": (answer(b"Content-Length:\r\n"), PROTOCOL),
    "a length of 21 digits": (answer(b"Content-Length: 100000000000000000000\r\n"), PROTOCOL),
    "a length over 64 bits": (answer(b"Content-Length: 18446744073709551617\r\n", b"a"), TRUNCATED),
    "another coding": (answer(b"Transfer-Encoding: gzip\r\n", b"hello"), PROTOCOL),
    "another coding before chunked": (answer(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), PROTOCOL),
    "identity": (answer(b"Transfer-Encoding: identity\r\n", b"hello"), PROTOCOL),
    "xchunked": (answer(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), PROTOCOL),
    "chunked twice in a list": (answer(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), PROTOCOL),
    "chunked twice": (answer(b"Transfer-Encoding: chunked\r\n" * 2, b"0\r\n\r\n"), PROTOCOL),
    "chunked in HTTP/1.0": (
        answer(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HTTP/1.0 200 OK"),
        PROTOCOL,
    ),
    "chunked with a space before the colon": (answer(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), PROTOCOL),
    "chunked on a continued line": (answer(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), PROTOCOL),
    # Line ends
    "bare LF": (BARE_LF, PROTOCOL),
    "bare LF after the first line": (b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", PROTOCOL),
    "bare LF at the end": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", PROTOCOL),
    "bare CR in a value": (answer(b"x: a\rb\r\n" + NOTHING), PROTOCOL),
    "bare CR in the reason": (answer(NOTHING, line=b"HTTP/1.1 200 O\rK"), PROTOCOL),
    "a continued line": (answer(b"x: a\r\n b\r\n" + NOTHING), PROTOCOL),
    "an empty line first": (b"\r\n" + HELLO, PROTOCOL),
    "a space first": (b" " + HELLO, PROTOCOL),
    # The status line
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", PROTOCOL),
    "HTML": (b"<html></html>\r\n\r\n", PROTOCOL),
    "no status": (answer(NOTHING, line=b"HTTP/1.1 OK"), PROTOCOL),
    "a status of two digits": (answer(NOTHING, line=b"HTTP/1.1 99 x"), PROTOCOL),
    "a status of four digits": (answer(NOTHING, line=b"HTTP/1.1 2000 x"), PROTOCOL),
    "a status under 100": (answer(NOTHING, line=b"HTTP/1.1 099 x"), PROTOCOL),
    "two spaces before the status": (answer(NOTHING, line=b"HTTP/1.1  200 OK"), PROTOCOL),
    "a tab after the status": (answer(NOTHING, line=b"HTTP/1.1 200\tOK"), PROTOCOL),
    "a NUL in the reason": (answer(NOTHING, line=b"HTTP/1.1 200 \x00"), PROTOCOL),
    "a control character in the reason": (answer(NOTHING, line=b"HTTP/1.1 200 \x01"), PROTOCOL),
    "HTTP/2.0": (answer(NOTHING, line=b"HTTP/2.0 200 OK"), PROTOCOL),
    "HTTP/0.9": (answer(NOTHING, line=b"HTTP/0.9 200 OK"), PROTOCOL),
    "HTTP/1.10": (answer(NOTHING, line=b"HTTP/1.10 200 OK"), PROTOCOL),
    "http/1.1": (answer(NOTHING, line=b"http/1.1 200 OK"), PROTOCOL),
    "HTTP/1": (answer(NOTHING, line=b"HTTP/1 200 OK"), PROTOCOL),
    "ICY": (answer(NOTHING, line=b"ICY 200 OK"), PROTOCOL),
    "a request": (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", PROTOCOL),
    # Interim responses
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", PROTOCOL),
    "interim responses without end": (INTERIM * (MAX_INTERIM + 1) + HELLO, PROTOCOL),
    "an interim response alone": (INTERIM, RESET),
    "a malformed interim response": (b"HTTP/1.1 103 x\r\na b: c\r\n\r\n" + HELLO, PROTOCOL),
    # Fields
    "a space before the colon": (answer(b"x : y\r\n" + NOTHING), PROTOCOL),
    "a space in a name": (answer(b"x y: z\r\n" + NOTHING), PROTOCOL),
    "no name": (answer(b": x\r\n" + NOTHING), PROTOCOL),
    "no colon": (answer(b"no colon\r\n" + NOTHING), PROTOCOL),
    "a NUL in a value": (answer(b"x: a\x00b\r\n" + NOTHING), PROTOCOL),
    "a control character in a value": (answer(b"x: a\x01b\r\n" + NOTHING), PROTOCOL),
    "DEL in a value": (answer(b"x: a\x7fb\r\n" + NOTHING), PROTOCOL),
    "a hundred and one fields": (answer(b"x: y\r\n" * MAX_HEADERS + NOTHING), LossReason.TOO_LARGE),
    # Bodies
    "nothing": (b"", RESET),
    "less than a head": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", RESET),
    "less than the length": (HELLO[:-1], TRUNCATED),
    "less than a chunk": (chunked(b"5\r\nhell"), TRUNCATED),
    "no last chunk": (chunked(b"5\r\nhello\r\n"), TRUNCATED),
    "no end of the trailers": (chunked(b"0\r\nx: y\r\n"), TRUNCATED),
    "a size with a plus": (chunked(b"+1\r\na\r\n0\r\n\r\n"), PROTOCOL),
    "a size with 0x": (chunked(b"0x1\r\na\r\n0\r\n\r\n"), PROTOCOL),
    "a size with an underscore": (chunked(b"1_0\r\n0123456789012345\r\n0\r\n\r\n"), PROTOCOL),
    "a size with a space before": (chunked(b" 1\r\na\r\n0\r\n\r\n"), PROTOCOL),
    "a size over 64 bits": (chunked(b"10000000000000001\r\na\r\n0\r\n\r\n"), PROTOCOL),
    "bare LF after a size": (chunked(b"1\na\r\n0\r\n\r\n"), PROTOCOL),
    "bare LF after a chunk": (chunked(b"1\r\na\n0\r\n\r\n"), PROTOCOL),
    "nothing after a chunk": (chunked(b"1\r\na0\r\n\r\n"), PROTOCOL),
    "an extension with a space": (chunked(b"1;a b\r\na\r\n0\r\n\r\n"), PROTOCOL),
    "an extension with bare LF": (chunked(b"1;a\nb\r\na\r\n0\r\n\r\n"), PROTOCOL),
    "a trailer without a colon": (chunked(b"0\r\nx\r\n\r\n"), PROTOCOL),
    "a trailer that is continued": (chunked(b"0\r\nx: y\r\n z\r\n\r\n"), PROTOCOL),
}  # fmt: skip

LARGE: dict[str, tuple[bytes, LossReason | None]] = {
    "the largest head": (answer(b"x: " + b"a" * (MAX_HEAD - 43) + b"\r\n" + NOTHING), None),
    "a head one byte too large": (answer(b"x: " + b"a" * (MAX_HEAD - 42) + b"\r\n" + NOTHING), LossReason.TOO_LARGE),
    "a head that never ends": (answer(b"x: " + b"a" * MAX_HEAD), LossReason.TOO_LARGE),
    "a line that never ends": (b"HTTP/1.1 200 " + b"a" * 2 * MAX_HEAD, LossReason.TOO_LARGE),
    "many fields": (answer(b"x:\r\n" * 10_000), LossReason.TOO_LARGE),
    "an irregular line in a head that is too large": (b"x\n" + b"a" * MAX_HEAD, PROTOCOL),
    "a long size line": (chunked(b"1;" + b"a" * MAX_LINE + b"\r\na\r\n0\r\n\r\n"), PROTOCOL),
    "a size line that never ends": (chunked(b"1;" + b"a" * MAX_LINE), PROTOCOL),
    "many trailers": (chunked(b"0\r\n" + b"x: %b\r\n" % (b"a" * 1000) * (MAX_TRAILER // 1000 + 1)), PROTOCOL),
}  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_what_is_read(codec: Codec, name: str) -> None:
    data, (status, body, reusable) = (PLAIN | ODD)[name]
    whole = read(codec, [data])
    assert whole is not None
    assert (whole.status, whole.body, whole.lost, whole.reusable) == (status, body, None, reusable)
    assert whole == read(H11, [data])
    for pieces in every_split(data):
        assert read(codec, pieces) == whole


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", LOST)
def test_what_is_lost(codec: Codec, name: str) -> None:
    data, why = LOST[name]
    whole = read(codec, [data])
    assert whole is not None
    assert whole.lost is why
    assert whole == read(H11, [data])
    for pieces in every_split(data):
        assert read(codec, pieces) == whole


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large(codec: Codec, name: str) -> None:
    data, why = LARGE[name]
    for size in (len(data), 1000, 4096, 65535, 65536):
        whole = read(codec, [data[i : i + size] for i in range(0, len(data), size)])
        assert whole is not None
        assert whole.lost is why


@pytest.mark.parametrize("codec", CODECS)
def test_every_prefix_of_a_response_is_incomplete(codec: Codec) -> None:
    for name in ("a length", "chunked", "no content", "an interim response", "trailers"):
        data = PLAIN[name][0]
        for end in range(len(data)):
            assert read(codec, [data[:end]], eof=False) is None


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fields", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_the_answer_to_head_has_no_body(codec: Codec, fields: bytes) -> None:
    for pieces in every_split(answer(fields)):
        whole = read(codec, pieces, method="HEAD", eof=False)
        assert whole is not None
        assert (whole.status, whole.body, whole.reusable) == (200, b"", True)


def test_what_is_said_of_a_response() -> None:
    whole = read(H11, [answer(b"X-A: \tb \r\nTransfer-Encoding: CHUNKED\r\nx-a:\r\n", b"0\r\n\r\n")])
    assert whole is not None
    assert whole.fields == ((b"x-a", b"b"), (b"transfer-encoding", b"chunked"), (b"x-a", b""))


ALL = [data for data, _ in (PLAIN | ODD).values()] + [data for data, _ in LOST.values()]
VOCABULARY = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\x00", b"\x01", b"\x7f", b"\xff", b"0", b"1"),
    *(b"HTTP/1.1 100 x\r\n\r\n", b"HTTP/1.0 ", b" 204 ", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"chunked", b"\r\n\r\n", b"2", b"9"),
]  # fmt: skip


@given(altered(ALL, VOCABULARY), pieces_of())
def test_all_codecs_read_whatever_comes_alike(data: bytes, sizes: list[int]) -> None:
    whole = read(H11, [data])
    for codec in OTHERS:
        assert read(codec, [data]) == whole
        assert read(codec, byte_by_byte(data)) == whole
    pieces = []
    rest = data
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    for codec in (H11, *OTHERS):
        assert read(codec, [*pieces, rest]) == whole


# What is accepted must mean the same to parsers of others, which read the whole message in their own way.

Seen = tuple[int, Headers, bytes]


def through_h11(data: bytes) -> Seen | None:
    """What h11's own connection makes of a response that ends with the connection; None: nothing."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "h"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, fields, body = 0, (), b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status, fields = event.status_code, tuple(event.headers)  # type: ignore[assignment]  # not empty now
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    return status, fields, body


class _Whole:
    """What llhttp makes of the first response that is final."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.seen: Seen | None = None
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.in_body = False

    def on_message_begin(self) -> None:
        self.fields = []
        self.body = b""
        self.in_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_body:  # later ones are trailers
            name = name.lower()
            coding = name == b"transfer-encoding"  # in lower case everywhere else
            self.fields.append((name, value.lower() if coding else value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.seen is None and self.parser.get_status_code() >= 200:
            self.seen = (self.parser.get_status_code(), tuple(self.fields), self.body)


def through_llhttp(data: bytes) -> Seen | None:
    whole = _Whole()
    try:
        whole.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        pass
    return whole.seen


def seen(data: bytes) -> Seen | None:
    whole = read(H11, [data])
    assert whole is not None
    return None if whole.body is None else (whole.status, whole.fields, whole.body)


@pytest.mark.parametrize("name", sorted(PLAIN.keys() - OURS))
def test_h11_itself_reads_plain_responses_alike(name: str) -> None:
    data = PLAIN[name][0]
    assert through_h11(data) == seen(data)


@needs_httptools
@pytest.mark.parametrize("name", sorted(PLAIN.keys() - OURS))
def test_llhttp_reads_plain_responses_alike(name: str) -> None:
    data = PLAIN[name][0]
    if b"ength" in data or b"chunked" in data:  # it is not told of the connection's end
        assert through_llhttp(data) == seen(data)


def test_what_is_accepted_others_read_alike_if_they_do() -> None:
    for data in ALL:
        compare(data)


@given(altered(ALL, VOCABULARY))
def test_whatever_is_accepted_others_read_alike_if_they_do(data: bytes) -> None:
    compare(data)


def compare(data: bytes) -> None:
    ours = seen(data)
    if ours is not None:
        assert through_h11(data) in (None, ours)
        assert FAST is None or through_llhttp(data) in (None, ours)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_plain_responses_need_no_reference(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(self: H11Codec, head: bytes) -> Headers:
        raise AssertionError(head)

    monkeypatch.setattr(H11Codec, "response_fields", judge)
    for data, (status, _, _) in PLAIN.values():
        whole = read(codec, [data])
        assert whole is not None
        assert whole.status == status
    for data, _ in ODD.values():
        with pytest.raises(AssertionError):
            read(codec, [data])

"""The server's role of HTTP/1.1: requests from raw bytes, refusals included, and framed responses."""

import re

import pytest

from gwproto import RequestHead
from gwproto.policy.guard import guard
from gwproto_io.codec.heads import MAX_HEAD
from gwproto_io.http1_server import BadRequest, RequestParser, ResponseWriter
from support.codecs import with_each_codec

codec = with_each_codec(globals(), "RequestParser")

GET = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"POST /y HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"


def requests(*pieces: bytes) -> list[tuple[RequestHead, bytes]]:
    """Every complete request in these bytes."""
    parser = RequestParser("peer")
    done: list[tuple[RequestHead, bytes]] = []
    head: RequestHead | None = None
    body = b""
    for piece in pieces:
        parser.receive(piece)
        while True:
            if head is None:
                head = parser.next_head()
                body = b""
            if head is None:
                break
            if not parser.complete:
                body += parser.next_data()
            if not parser.complete:
                break
            done.append((head, body))
            head = None
    return done


def test_requests_one_after_the_other_however_split() -> None:
    data = GET + POST + b"\r\n" + CHUNKED + GET
    whole = requests(data)
    assert [(head.method, head.target, body) for head, body in whole] == [
        ("GET", "/livez", b""),
        ("POST", "/x", b"hello"),
        ("POST", "/y", b"hello"),
        ("GET", "/livez", b""),
    ]
    assert whole[0][0] == RequestHead("GET", "/livez", ((b"host", b"h"),), "1.1", "peer")
    assert requests(*[data[i : i + 1] for i in range(len(data))]) == whole
    for cut in range(len(data)):
        assert requests(data[:cut], data[cut:]) == whole


def test_a_body_is_taken_as_it_arrives() -> None:
    parser = RequestParser()
    parser.receive(POST[:-2])
    assert parser.next_head() is not None
    assert (parser.next_data(), parser.complete, parser.left) == (b"hel", False, 2)
    assert (parser.next_data(), parser.complete) == (b"", False)
    parser.receive(b"lo" + GET)
    assert (parser.next_data(), parser.complete, parser.buffered) == (b"lo", True, len(GET))


def test_how_much_of_a_chunked_body_is_left_is_unknown() -> None:
    parser = RequestParser()
    parser.receive(CHUNKED)
    parser.next_head()
    assert [parser.left, parser.next_data(), parser.complete, parser.left] == [None, b"hello", True, 0]


@pytest.mark.parametrize(
    ("fields", "version", "persistent", "expects"),
    [
        (b"", b"1.1", True, False),
        (b"", b"1.0", False, False),
        (b"connection: close\r\n", b"1.1", False, False),
        (b"connection: upgrade, Close\r\n", b"1.1", False, False),
        (b"connection: keep-alive\r\n", b"1.1", True, False),
        (b"expect: 100-Continue\r\ncontent-length: 1\r\n", b"1.1", True, True),
        (b"expect: 100-continue\r\ncontent-length: 1\r\n", b"1.0", False, False),
    ],
)
def test_what_a_head_says(fields: bytes, version: bytes, persistent: bool, expects: bool) -> None:
    parser = RequestParser()
    parser.receive(b"POST / HTTP/%b\r\nhost: h\r\n%b\r\n" % (version, fields))
    assert parser.next_head() is not None
    assert (parser.persistent, parser.expects_continue) == (persistent, expects)


# What h11 lets through, or reads in its own way.
LAX = [
    b"GET / HTTP/1.1\nHost: h\n\n",
    b"GET / HTTP/1.1\r\nHost: h\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nx: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nx: a\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nx: a\r\n\tfolded\r\n\r\n",
    b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]
MALFORMED = [
    b"GET /\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    b"GET / http/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.10\r\nHost: h\r\n\r\n",
    b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nx: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nx: a\x01b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\nhello",
]


@pytest.mark.parametrize("data", LAX + MALFORMED)
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        requests(data)
    assert refused.value.status == 400
    with pytest.raises(BadRequest):
        requests(*[data[i : i + 1] for i in range(len(data))])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 501),
        (b"GET /" + b"a" * MAX_HEAD, 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nx: " + b"a" * MAX_HEAD + b"\r\n\r\n", 431),
    ],
)
def test_other_refusals(data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        requests(data)
    assert (refused.value.status, bool(refused.value.message)) == (status, True)


@pytest.mark.parametrize(
    "fields",
    [
        b"Host: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Host: a@b\r\n",
        b"Host: \r\n",
        b"Host: h\r\nContent-Length: " + b"1" * 20 + b"\r\n",
    ],
)
def test_the_rest_is_the_guards(fields: bytes) -> None:
    parser = RequestParser()
    parser.receive(b"POST / HTTP/1.1\r\n" + fields + b"\r\n")
    head = parser.next_head()
    assert head is not None
    assert guard(head) is not None


@pytest.mark.parametrize(
    "body", [b"5\nhello", b"g\r\n", b"1\r\nab", b"1 \r\na\r\n", b"1;\r\na\r\n", b"f" * 17]
)
def test_a_malformed_chunked_body(body: bytes) -> None:
    parser = RequestParser()
    parser.receive(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"\r\n")
    parser.next_head()
    with pytest.raises(BadRequest):
        parser.next_data()


def written(
    method: str, version: str, status: int, *headers: tuple[bytes, bytes], close: bool = False
) -> bytes:
    writer = ResponseWriter(method, version)
    data = writer.head(status, headers, close=close) + writer.data(b"hello") + writer.data(b"") + writer.end()
    assert writer.until_close == (data.endswith(b"\r\n\r\nhello") and b"content-length" not in data)
    return re.sub(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", b"", data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            written("GET", "1.1", 200, (b"content-length", b"5")),
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            written("POST", "1.1", 200),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (written("POST", "1.0", 200, close=True), b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"),
        (
            written("HEAD", "1.1", 200, (b"content-length", b"5")),
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        ),
        (written("HEAD", "1.1", 200), b"HTTP/1.1 200 OK\r\n\r\n"),
        (written("GET", "1.1", 204), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            written("GET", "1.1", 599, (b"content-length", b"5")),
            b"HTTP/1.1 599 \r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            written("GET", "1.1", 400, (b"connection", b"close"), (b"content-length", b"5"), close=True),
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
        ),
    ],
)
def test_responses(data: bytes, expected: bytes) -> None:
    assert data == expected


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb"])
def test_a_response_field_cannot_break_its_line(value: bytes) -> None:
    with pytest.raises(ValueError, match="response head"):
        ResponseWriter("GET", "1.1").head(200, ((b"x", value),), close=False)

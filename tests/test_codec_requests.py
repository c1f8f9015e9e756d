"""The codecs in the server's role: whatever a client sends, however it is split, both read the same or refuse alike."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwproto import Headers, RequestHead
from gwproto.policy.guard import guard
from gwproto_io.chunked import MAX_LINE, MAX_TRAILER
from gwproto_io.codec import Codec, H11Codec
from gwproto_io.codec.heads import MAX_HEAD
from gwproto_io.http1_server import BadRequest, RequestParser
from support.codecs import CODECS, FAST, H11, OTHERS, SPLIT, needs_httptools
from support.messages import altered, byte_by_byte, every_split, pieces_of

if FAST is not None:
    import httptools


class Read(NamedTuple):
    """A request as it was read."""

    head: RequestHead
    body: bytes
    persistent: bool
    expects_continue: bool


def read(codec: Codec, pieces: Iterable[bytes]) -> tuple[list[Read], RequestHead | None, int]:
    """The complete requests, the head of an incomplete one, and with what status the connection was refused (0: it was
    not). As a server does, it stops after a request that is the connection's last."""
    parser = RequestParser("peer", codec)
    done: list[Read] = []
    head: RequestHead | None = None
    body = b""
    try:
        for piece in pieces:
            parser.receive(piece)
            while True:
                if head is None:
                    head = parser.next_head()
                    body = b""
                    if head is None:
                        break
                    refused = guard(head)
                    if refused is not None:
                        return done, head, refused.status
                if not parser.complete:
                    body += parser.next_data()
                if not parser.complete:
                    break
                done.append(Read(head, body, parser.persistent, parser.expects_continue))
                if not parser.persistent:
                    return done, None, 0
                head = None
    except BadRequest as bad:
        return done, head, bad.status
    return done, head, 0


def post(fields: bytes = b"", body: bytes = b"", line: bytes = b"POST /v1 HTTP/1.1") -> bytes:
    return line + b"\r\nHost: h\r\n" + fields + b"\r\n" + body


def sized(body: bytes = b"hello") -> bytes:
    return post(b"Content-Length: %d\r\n" % len(body), body)


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


GET = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
HELLO = chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")

HEADLIKE = b"GET / HTTP/1.1\r\n\r\n"

# Each with the bodies of the requests that it holds. The first ones are plain: httptools needs no help with them.
PLAIN: dict[str, tuple[bytes, list[bytes]]] = {
    "no body": (GET, [b""]),
    "a length": (sized(), [b"hello"]),
    "a length of zero": (sized(b""), [b""]),
    "a length with leading zeros": (post(b"Content-Length: 005\r\n", b"hello"), [b"hello"]),
    "chunked": (HELLO, [b"hello"]),
    "pipelined": (GET + sized() + HELLO + GET, [b"", b"hello", b"hello", b""]),
    "an empty line between requests": (sized() + b"\r\n" + GET, [b"hello", b""]),
    "pipelined after close": (post(b"Connection: close\r\n") + GET, [b""]),
    "close among other options": (post(b"Connection: keep-alive, x , CLOSE\r\n") + GET, [b""]),
    "close in a second field": (post(b"Connection: x\r\nConnection: close\r\n") + GET, [b""]),
    "an option that only resembles close": (post(b"Connection: closed, x-close\r\n") + GET, [b"", b""]),
    "empty options": (post(b"Connection: ,, ,\r\n") + GET, [b"", b""]),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n" + GET, [b""]),
    "HTTP/1.0 that would go on": (b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n" + GET, [b""]),
    "continue expected": (post(b"Expect: 100-Continue\r\nContent-Length: 2\r\n", b"hi"), [b"hi"]),
    "something else expected": (post(b"Expect: x, 100-continue\r\nContent-Length: 2\r\n", b"hi"), [b"hi"]),
    "white space around values": (post(b"a:b\r\nc: \t d e\t \r\nf:\r\ng: \t\r\n"), [b""]),
    "bytes over 127 in a value": (post(b"x: \xff\xc3\xa9\r\n"), [b""]),
    "fields more than once": (post(b"x: 1\r\nX: 2\r\nx: 1\r\n"), [b""]),
    "every character of a token": (post(b"!#$%&'*+-.^_`|~09azAZ: x\r\n"), [b""]),
    "a query": (b"GET /a?b=c%20d&e=[f] HTTP/1.1\r\nHost: h\r\n\r\n", [b""]),
    "the absolute form": (b"GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n", [b""]),
    "the absolute form in capitals": (b"GET HTTP://h HTTP/1.1\r\nHost: h\r\n\r\n", [b""]),
    "upgrade without its connection option": (post(b"Upgrade: h2c\r\n") + GET, [b"", b""]),
    "a hundred fields": (post(b"x: y\r\n" * 99), [b""]),
    "trailers": (chunked(b"0\r\nx: y\r\nHost: z\r\n\r\n") + GET, [b"", b""]),
    "a trailer that would frame": (chunked(b"0\r\nContent-Length: 3\r\n\r\n") + GET, [b"", b""]),
    "chunk extensions": (chunked(b'1;a;b=c;d="e;\\"f"\r\na\r\n0;g\r\n\r\n'), [b"a"]),
    "chunk sizes in either case": (chunked(b"0a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n"), [b"0123456789" * 2]),
    "a chunk that looks like a head": (chunked(b"12\r\n%b\r\n0\r\n\r\n" % HEADLIKE), [HEADLIKE]),
}  # fmt: skip
ODD: dict[str, tuple[bytes, list[bytes]]] = {
    "equal lengths": (post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"hi"), [b"hi"]),
    "equal lengths in a list": (post(b"Content-Length: 2, 2\r\n", b"hi"), [b"hi"]),
    "chunked in another case": (post(b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n"), [b""]),
    "an upgrade": (post(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n") + GET, [b"", b""]),
    "an upgrade with a body": (
        post(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n", b"hi") + GET,
        [b"hi", b""],
    ),
    "HTTP/1.0 without a host": (b"GET / HTTP/1.0\r\n\r\n" + GET, [b""]),
}

REFUSED: dict[str, tuple[bytes, int]] = {
    # What two readers could frame differently
    "a length and chunked": (post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    "chunked and a length": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), 400),
    "a length and another coding": (post(b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", b"hello"), 501),
    "different lengths": (post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"), 400),
    "different lengths in a list": (post(b"Content-Length: 5, 6\r\n", b"hello"), 400),
    "lengths that differ in zeros": (post(b"Content-Length: 5\r\nContent-Length: 05\r\n", b"hello"), 400),
    "a length with a plus": (post(b"Content-Length: +5\r\n", b"hello"), 400),
    "a length with a minus": (post(b"Content-Length: -5\r\n", b"hello"), 400),
    "a hexadecimal length": (post(b"Content-Length: 0x5\r\n", b"hello"), 400),
    "a length with an underscore": (post(b"Content-Length: 1_0\r\n", b"hello"), 400),
    "a length with a space": (post(b"Content-Length: 5 5\r\n", b"hello"), 400),
    "a length of other digits": (post(b"Content-Length: \xd9\xa5\r\n", b"hello"), 400),
    "a length that is empty": (post(b"Content-Length:\r\n"), 400),
    "a length that is a list of nothing": (post(b"Content-Length: ,\r\n"), 400),
    "a length of 19 digits": (post(b"Content-Length: 1000000000000000000\r\n"), 400),
    "a length over 64 bits": (post(b"Content-Length: 18446744073709551617\r\n"), 400),
    "a length of 21 digits": (post(b"Content-Length: 100000000000000000000\r\n"), 400),
    "another coding": (post(b"Transfer-Encoding: gzip\r\n"), 501),
    "another coding before chunked": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501),
    "another coding after chunked": (post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), 501),
    "identity": (post(b"Transfer-Encoding: identity\r\n"), 501),
    "identity before chunked": (post(b"Transfer-Encoding: identity, chunked\r\n", b"0\r\n\r\n"), 501),
    "xchunked": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), 501),
    "chunkedx": (post(b"Transfer-Encoding: chunkedx\r\n", b"0\r\n\r\n"), 501),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), 501),
    "chunked with a parameter": (post(b"Transfer-Encoding: chunked;a=b\r\n", b"0\r\n\r\n"), 501),
    "chunked twice in a list": (post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), 501),
    "chunked twice": (post(b"Transfer-Encoding: chunked\r\n" * 2, b"0\r\n\r\n"), 501),
    "chunked, then another coding": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), 501),
    "chunked with a comma": (post(b"Transfer-Encoding: chunked,\r\n", b"0\r\n\r\n"), 501),
    "no coding": (post(b"Transfer-Encoding:\r\n"), 501),
    "chunked with a vertical tab": (post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), 400),
    "chunked in HTTP/1.0": (post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"POST / HTTP/1.0"), 400),
    "chunked with a space before the colon": (post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), 400),
    "chunked on a continued line": (post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), 400),
    # Line ends
    "bare LF": (b"GET / HTTP/1.1\nHost: h\n\n", 400),
    "bare LF after the first line": (b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: h\nx: y\r\n\r\n", 400),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
    "LF CR": (b"GET / HTTP/1.1\n\rHost: h\n\r\n\r", 400),
    "bare CR after the first line": (b"GET / HTTP/1.1\rHost: h\r\n\r\n", 400),
    "bare CR in a value": (post(b"x: a\rb\r\n"), 400),
    "bare CR in a name": (post(b"x\ry: a\r\n"), 400),
    "CR CR LF": (b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", 400),
    "a continued line": (post(b"x: a\r\n b\r\n"), 400),
    "a line continued with a tab": (post(b"x: a\r\n\tb\r\n"), 400),
    "a continued line that is empty": (post(b"x: a\r\n \r\n"), 400),
    "a first field that is continued": (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    "two empty lines first": (b"\r\n\r\n" + GET, 400),
    "an empty line first that is bare": (b"\n" + GET, 400),
    "a space first": (b" " + GET, 400),
    # The request line
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no version": (b"GET /\r\nHost: h\r\n\r\n", 400),
    "no target": (b"GET HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "HTTP/2.0": (post(line=b"GET / HTTP/2.0"), 505),
    "HTTP/0.9": (post(line=b"GET / HTTP/0.9"), 505),
    "HTTP/1.2": (post(line=b"GET / HTTP/1.2"), 505),
    "HTTP/9.9": (post(line=b"GET / HTTP/9.9"), 505),
    "HTTP/9.9 without a host": (b"GET / HTTP/9.9\r\n\r\n", 505),
    "HTTP/1.10": (post(line=b"GET / HTTP/1.10"), 400),
    "HTTP/01.1": (post(line=b"GET / HTTP/01.1"), 400),
    "HTTP/1": (post(line=b"GET / HTTP/1"), 400),
    "HTTP/1,1": (post(line=b"GET / HTTP/1,1"), 400),
    "http/1.1": (post(line=b"GET / http/1.1"), 400),
    "RTSP": (post(line=b"GET / RTSP/1.0"), 400),
    "ICE": (post(line=b"SOURCE / ICE/1.0"), 400),
    "two spaces after the method": (post(line=b"GET  / HTTP/1.1"), 400),
    "two spaces before the version": (post(line=b"GET /  HTTP/1.1"), 400),
    "a tab after the method": (post(line=b"GET\t/ HTTP/1.1"), 400),
    "a space after the version": (post(line=b"GET / HTTP/1.1 "), 400),
    "a space in the target": (post(line=b"GET /a b HTTP/1.1"), 400),
    "a control character in the target": (post(line=b"GET /a\x01b HTTP/1.1"), 400),
    "a NUL in the target": (post(line=b"GET /a\x00b HTTP/1.1"), 400),
    "DEL in the target": (post(line=b"GET /a\x7fb HTTP/1.1"), 400),
    "a byte over 127 in the target": (post(line=b"GET /\xc3\xa9 HTTP/1.1"), 400),
    "a fragment": (post(line=b"GET /a#b HTTP/1.1"), 400),
    "an angle bracket in the target": (post(line=b"GET /<a> HTTP/1.1"), 400),
    "a backslash in the target": (post(line=b"GET /a\\b HTTP/1.1"), 400),
    "a target that is a name": (post(line=b"GET a HTTP/1.1"), 400),
    "another scheme": (post(line=b"GET ftp://h/ HTTP/1.1"), 400),
    "an asterisk": (post(line=b"OPTIONS * HTTP/1.1"), 400),
    "no token for a method": (post(line=b"G(T / HTTP/1.1"), 400),
    "a method in small letters": (post(line=b"get / HTTP/1.1"), 400),
    "no method": (post(line=b" / HTTP/1.1"), 400),
    "an unknown method": (post(line=b"FROB / HTTP/1.1"), 501),
    "a method that llhttp knows": (post(line=b"PROPFIND / HTTP/1.1"), 501),
    "CONNECT": (post(line=b"CONNECT h:1 HTTP/1.1"), 405),
    "CONNECT of a path": (post(line=b"CONNECT / HTTP/1.1"), 405),
    "TRACE": (post(line=b"TRACE / HTTP/1.1"), 405),
    # Fields
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no host, but others": (b"GET / HTTP/1.1\r\nx: y\r\n\r\n", 400),
    "two hosts": (post(b"Host: h\r\n"), 400),
    "two hosts in HTTP/1.0": (post(b"host: h\r\n", line=b"GET / HTTP/1.0"), 400),
    "an empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "a host with a user": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "two hosts in a list": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "a space before the colon": (post(b"x : y\r\n"), 400),
    "a tab before the colon": (post(b"x\t: y\r\n"), 400),
    "a space before the host's colon": (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    "a space in a name": (post(b"x y: z\r\n"), 400),
    "no name": (post(b": x\r\n"), 400),
    "no colon": (post(b"no colon\r\n"), 400),
    "a separator in a name": (post(b"x(y): z\r\n"), 400),
    "a byte over 127 in a name": (post(b"\xc3\xa9: z\r\n"), 400),
    "a NUL in a name": (post(b"x\x00: z\r\n"), 400),
    "a NUL in a value": (post(b"x: a\x00b\r\n"), 400),
    "a control character in a value": (post(b"x: a\x01b\r\n"), 400),
    "a form feed in a value": (post(b"x: a\x0cb\r\n"), 400),
    "a vertical tab after a value": (post(b"x: a\x0b\r\n"), 400),
    "a unit separator in a value": (post(b"x: a\x1fb\r\n"), 400),
    "DEL in a value": (post(b"x: a\x7fb\r\n"), 400),
    "a hundred and one fields": (post(b"x: y\r\n" * 100), 431),
    # Chunks
    "a size with a plus": (chunked(b"+1\r\na\r\n0\r\n\r\n"), 400),
    "a size with a minus": (chunked(b"-1\r\na\r\n0\r\n\r\n"), 400),
    "a size with 0x": (chunked(b"0x1\r\na\r\n0\r\n\r\n"), 400),
    "a size with an underscore": (chunked(b"1_0\r\n0123456789012345\r\n0\r\n\r\n"), 400),
    "a size with a space before": (chunked(b" 1\r\na\r\n0\r\n\r\n"), 400),
    "a size with a space after": (chunked(b"1 \r\na\r\n0\r\n\r\n"), 400),
    "a size with a tab after": (chunked(b"1\t\r\na\r\n0\r\n\r\n"), 400),
    "no size": (chunked(b"\r\na\r\n0\r\n\r\n"), 400),
    "a size that is no number": (chunked(b"g\r\na\r\n0\r\n\r\n"), 400),
    "a size over 64 bits": (chunked(b"10000000000000001\r\na\r\n0\r\n\r\n"), 400),
    "a size with many zeros": (chunked(b"0000000000000001\r\na\r\n0\r\n\r\n"), 400),
    "bare LF after a size": (chunked(b"1\na\r\n0\r\n\r\n"), 400),
    "bare CR after a size": (chunked(b"1\ra\r\n0\r\n\r\n"), 400),
    "bare LF after a chunk": (chunked(b"1\r\na\n0\r\n\r\n"), 400),
    "bare CR after a chunk": (chunked(b"1\r\na\rb0\r\n\r\n"), 400),
    "nothing after a chunk": (chunked(b"1\r\na0\r\n\r\n"), 400),
    "a chunk longer than its size": (chunked(b"1\r\nab\r\n0\r\n\r\n"), 400),
    "bare LF after the last size": (chunked(b"0\n\r\n"), 400),
    "bare LF at the end of chunks": (chunked(b"0\r\n\n"), 400),
    "an extension without a name": (chunked(b"1;\r\na\r\n0\r\n\r\n"), 400),
    "an extension with a space": (chunked(b"1;a b\r\na\r\n0\r\n\r\n"), 400),
    "an extension with bare LF": (chunked(b"1;a\nb\r\na\r\n0\r\n\r\n"), 400),
    "an extension with bare CR": (chunked(b"1;a\rb\r\na\r\n0\r\n\r\n"), 400),
    "an extension with a NUL": (chunked(b"1;a=\x00\r\na\r\n0\r\n\r\n"), 400),
    "an extension whose quotes stay open": (chunked(b'1;a="b\r\na\r\n0\r\n\r\n'), 400),
    "an extension without a value": (chunked(b"1;a=\r\na\r\n0\r\n\r\n"), 400),
    "a trailer without a colon": (chunked(b"0\r\nx\r\n\r\n"), 400),
    "a trailer with a space before the colon": (chunked(b"0\r\nx : y\r\n\r\n"), 400),
    "a trailer that is continued": (chunked(b"0\r\nx: y\r\n z\r\n\r\n"), 400),
    "a trailer with bare LF": (chunked(b"0\r\nx: y\nz: a\r\n\r\n"), 400),
    "a trailer with a NUL": (chunked(b"0\r\nx: \x00\r\n\r\n"), 400),
    # After a request that is complete
    "nonsense after a body": (sized() + b"xyz\r\n\r\n", 400),
    "a body longer than its length": (post(b"Content-Length: 4\r\n", b"hello") + GET, 400),
}

LARGE: dict[str, tuple[bytes, int]] = {
    "the largest head": (post(b"x: " + b"a" * (MAX_HEAD - 35) + b"\r\n"), 0),
    "a head one byte too large": (post(b"x: " + b"a" * (MAX_HEAD - 34) + b"\r\n"), 431),
    "a head that never ends": (post(b"x: " + b"a" * MAX_HEAD), 431),
    "a line that never ends": (b"GET /" + b"a" * 2 * MAX_HEAD, 431),
    "a long target": (post(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414),
    "a long method": (post(line=b"A" * 9000 + b" / HTTP/1.1"), 400),
    "many fields": (post(b"x:\r\n" * 10_000), 431),
    "an irregular line in a head that is too large": (b"x\n" + b"a" * MAX_HEAD, 400),
    "an irregular line after a head that is too large": (b"a" * MAX_HEAD + b"\n", 431),
    "a long size line": (chunked(b"1;" + b"a" * MAX_LINE + b"\r\na\r\n0\r\n\r\n"), 400),
    "a size line that never ends": (chunked(b"1;" + b"a" * MAX_LINE), 400),
    "a long trailer": (chunked(b"0\r\nx: " + b"a" * MAX_LINE + b"\r\n\r\n"), 400),
    "many trailers": (chunked(b"0\r\n" + b"x: %b\r\n" % (b"a" * 1000) * (MAX_TRAILER // 1000 + 1) + b"\r\n"), 400),
}  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_what_is_read(codec: Codec, name: str) -> None:
    data, bodies = (PLAIN | ODD)[name]
    whole = read(codec, [data])
    assert ([request.body for request in whole[0]], whole[1:]) == (bodies, (None, 0))
    assert whole == read(H11, [data])
    for pieces in every_split(data):
        assert read(codec, pieces) == whole


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(codec: Codec, name: str) -> None:
    data, status = REFUSED[name]
    whole = read(codec, [data])
    assert whole[2] == status
    assert whole == read(H11, [data])
    for pieces in every_split(data):
        assert read(codec, pieces) == whole


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large(codec: Codec, name: str) -> None:
    data, status = LARGE[name]
    assert read(codec, [data])[2] == status
    for size in (1000, 4096, 65535, 65536):
        assert read(codec, [data[i : i + size] for i in range(0, len(data), size)])[2] == status


@pytest.mark.parametrize("codec", CODECS)
def test_a_head_may_be_just_so_large(codec: Codec) -> None:
    head = LARGE["the largest head"][0]
    assert len(head) == MAX_HEAD
    assert len(read(codec, [head + GET])[0]) == 2


def test_what_is_said_of_a_request() -> None:
    data = post(b"Expect: 100-continue\r\nX-A:  b \r\nContent-Length: 2\r\n", b"hi", b"POST /v1?a=b HTTP/1.1")
    fields: Headers = (
        (b"host", b"h"), (b"expect", b"100-continue"), (b"x-a", b"b"), (b"content-length", b"2")
    )  # fmt: skip
    head = RequestHead("POST", "/v1?a=b", fields, "1.1", "peer")
    assert read(H11, [data]) == ([Read(head, b"hi", True, True)], None, 0)


ALL = [data for data, _ in (PLAIN | ODD).values()] + [data for data, _ in REFUSED.values()]
VOCABULARY = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\x00", b"\x01", b"\x7f", b"\xff", b"0", b"1"),
    *(b"GET / HTTP/1.1\r\n", b"Host: h\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n"),
    *(b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"chunked", b"HTTP/1.0", b"CONNECT", b"PUT"),
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


def is_one_of_many(data: bytes) -> bool:
    """A complete request that leaves its connection open."""
    done, head, refused = read(H11, [data])
    return (len(done), head, refused) == (1, None, 0) and done[0].persistent


REPEATED = [data for data, _ in (PLAIN | ODD).values() if is_one_of_many(data)]


@given(st.sampled_from(REPEATED).flatmap(lambda data: st.tuples(st.just(data), altered([data], VOCABULARY))))
def test_what_came_before_changes_nothing(requests: tuple[bytes, bytes]) -> None:
    before, data = requests
    first = read(H11, [before])[0]
    done, head, refused = read(H11, [data])
    for codec in (SPLIT, H11):
        assert read(codec, [before + data]) == (first + done, head, refused)
        assert read(codec, [before, *byte_by_byte(data)]) == (first + done, head, refused)
        assert read(codec, [before, before, data]) == (first + first + done, head, refused)


@pytest.mark.parametrize("field", [b"Content-Length: %b", b"CONTENT-LENGTH:%b \t"])
@pytest.mark.parametrize(
    ("length", "refused"),
    [(b"2", 0), (b"002", 0), (b"0" * 17 + b"2", 0), (b"0" * 18 + b"2", 400), (b"+2", 400)],
)
def test_a_head_that_differs_in_its_length(field: bytes, length: bytes, refused: int) -> None:
    data = post(field % b"12" + b"\r\nx: y\r\n", b"hello, world") + post(
        field % length + b"\r\nx: y\r\n", b"hi"
    )
    done, _, status = read(SPLIT, [data])
    assert [request.body for request in done] == [b"hello, world", b"hi"][: 1 if refused else 2]
    assert status == refused


# What is accepted must mean the same to parsers of others, which read the whole message in their own way.

Seen = tuple[bytes, bytes, Headers, bytes]  # method, target, fields, body


def seen(requests: Sequence[Read]) -> list[Seen]:
    return [(head.method.encode(), head.target.encode(), head.headers, body) for head, body, _, _ in requests]


def through_h11(data: bytes) -> list[Seen]:
    """What h11's own connection makes of these bytes."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(data)
    requests: list[Seen] = []
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request = event
                body = b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                requests.append((request.method, request.target, tuple(request.headers), body))
                connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                return requests
    except h11.ProtocolError:
        return requests


class _Whole:
    """What llhttp makes of whole requests."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.requests: list[Seen] = []
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.in_body = False

    def on_message_begin(self) -> None:
        self.target = self.body = b""
        self.fields = []
        self.in_body = False

    def on_url(self, url: bytes) -> None:
        self.target += url

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
        self.requests.append((self.parser.get_method(), self.target, tuple(self.fields), self.body))


def through_llhttp(data: bytes) -> list[Seen]:
    whole = _Whole()
    try:
        whole.parser.feed_data(data)
    except httptools.HttpParserError:
        pass
    except httptools.HttpParserUpgrade:  # it reads no body then
        del whole.requests[-1]
    return whole.requests


@pytest.mark.parametrize("name", sorted(PLAIN.keys() - {"an empty line between requests"}))
def test_h11_itself_reads_plain_requests_alike(name: str) -> None:
    data = PLAIN[name][0]
    assert through_h11(data) == seen(read(H11, [data])[0])


@needs_httptools
@pytest.mark.parametrize("name", sorted(PLAIN.keys() - {"a trailer that would frame"}))
def test_llhttp_reads_plain_requests_alike(name: str) -> None:
    data = PLAIN[name][0]
    requests = seen(read(H11, [data])[0])
    assert through_llhttp(data)[: len(requests)] == requests


def test_what_is_accepted_others_read_alike_as_far_as_they_read() -> None:
    for data in ALL:
        compare(data)


@given(altered(ALL, VOCABULARY))
def test_whatever_is_accepted_others_read_alike_as_far_as_they_read(data: bytes) -> None:
    compare(data)


def compare(data: bytes) -> None:
    requests = seen(read(H11, [data])[0])
    for theirs in (through_h11(data), through_llhttp(data) if FAST is not None else []):
        both = min(len(theirs), len(requests))
        assert theirs[:both] == requests[:both]


@pytest.mark.parametrize("codec", CODECS[1:])
def test_plain_requests_need_no_reference(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(self: H11Codec, head: bytes) -> Headers:
        raise AssertionError(head)

    monkeypatch.setattr(H11Codec, "request_fields", judge)
    for data, bodies in PLAIN.values():
        assert [request.body for request in read(codec, [data])[0]] == bodies
    for name, (data, _) in ODD.items():
        if codec is FAST or "upgrade" not in name:  # only llhttp stops there
            with pytest.raises(AssertionError):
                read(codec, [data])

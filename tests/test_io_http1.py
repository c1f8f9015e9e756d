"""The client's role of HTTP/1.1: what goes out, and what any bytes that come back mean."""

import gzip
import zlib
from collections.abc import Sequence

import pytest

from gwproto import (
    Event,
    LossReason,
    Origin,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamRequest,
)
from gwproto_io.codec.heads import MAX_HEAD
from gwproto_io.http1 import MAX_HEADERS, MAX_INTERIM, ResponseParser, encode_request, host_header
from support.codecs import with_each_codec

codec = with_each_codec(globals(), "ResponseParser")

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
BODY = b"hello world"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n"
Result = tuple[int, bytes, Event, bool]


def read(pieces: Sequence[bytes], *, eof: bool = False, method: str = "POST", reused: bool = False) -> Result:
    """Status, body, last event, reusable; what follows the last event is not fed."""
    parser = ResponseParser(7, method, reused=reused)
    events: list[Event] = []
    for piece in pieces:
        if not parser.complete:
            new = parser.receive(piece)
            assert sum(isinstance(event, UpstreamData) for event in new) <= 1, "one read, one event"
            events += new
    if eof and not parser.complete:
        events.append(parser.receive_eof())
    assert events
    assert all(event.attempt == 7 for event in events if not isinstance(event, str))  # type: ignore[union-attr]
    heads = [event for event in events if isinstance(event, UpstreamHead)]
    body = b"".join([event.data for event in events if isinstance(event, UpstreamData)])
    return heads[0].status if heads else 0, body, events[-1], parser.reusable


def lost(why: LossReason) -> UpstreamLost:
    return UpstreamLost(7, why)


END = UpstreamEnd(7)

SIZED = b"content-length: 11\r\n\r\n" + BODY
NOTHING = b"content-length: 0\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
ZIPPED = gzip.compress(BODY, mtime=0)
DEFLATED = zlib.compress(BODY)
COMPLETE: dict[str, tuple[bytes, Result]] = {
    "length": (OK + SIZED, (200, BODY, END, True)),
    "chunked": (OK + CHUNKED + b"\r\n", (200, BODY, END, True)),
    "trailers": (OK + CHUNKED + b"set-cookie: x\r\ncontent-length: 3\r\n\r\n", (200, BODY, END, True)),
    "close": (OK + b"connection: close\r\n" + SIZED, (200, BODY, END, False)),
    "close among others": (OK + b"connection: x, Close\r\n" + SIZED, (200, BODY, END, False)),
    "1.0": (b"HTTP/1.0 200 OK\r\n" + SIZED, (200, BODY, END, False)),
    "empty": (OK + NOTHING, (200, b"", END, True)),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", END, True)),
    "304": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 11\r\n\r\n", (304, b"", END, True)),
    "interim": (INTERIM + OK + NOTHING, (200, b"", END, True)),
    "no reason": (b"HTTP/1.1 503\r\n" + NOTHING, (503, b"", END, True)),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n" + NOTHING,
        (302, b"", END, True),
    ),
    "gzip": (
        OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(ZIPPED) + ZIPPED,
        (200, BODY, END, True),
    ),
    "deflate": (
        OK + b"content-encoding: deflate\r\ncontent-length: %d\r\n\r\n" % len(DEFLATED) + DEFLATED,
        (200, BODY, END, True),
    ),
    "identity": (OK + b"content-encoding: identity\r\n" + SIZED, (200, BODY, END, True)),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_every_split_reads_the_same(name: str) -> None:
    data, expected = COMPLETE[name]
    assert read([data]) == expected
    assert read([data[i : i + 1] for i in range(len(data))]) == expected
    for cut in range(1, len(data)):
        assert read([data[:cut], data[cut:]]) == expected


@pytest.mark.parametrize("name", COMPLETE)
def test_the_end_at_every_prefix(name: str) -> None:
    data, _ = COMPLETE[name]
    head = (
        data.rindex(b"\r\n\r\n", 0, data.rindex(b"\r\n") + 4) + 4
        if name == "interim"
        else data.index(b"\r\n\r\n") + 4
    )
    for end in range(1, len(data)):
        why = LossReason.RESET if end < head else LossReason.TRUNCATED
        _, _, last, reusable = read([data[:end]], eof=True)
        assert (last, reusable) == (lost(why), False)


def test_an_undelimited_body_ends_with_the_connection() -> None:
    data = OK + b"\r\n" + BODY
    assert read([data], eof=True) == (200, BODY, END, False)
    assert read([data[i : i + 1] for i in range(len(data))], eof=True) == (200, BODY, END, False)
    packed = OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(BODY)
    assert read([packed], eof=True) == (200, BODY, END, False)
    assert read([packed[:-1]], eof=True)[2:] == (lost(LossReason.TRUNCATED), False)


def test_a_reset_is_no_end() -> None:
    parser = ResponseParser(1, "POST", reused=False)
    parser.receive(OK + b"\r\n" + BODY)
    assert parser.receive_eof(reset=True) == UpstreamLost(1, LossReason.RESET)


@pytest.mark.parametrize("reset", [False, True])
def test_stale_is_a_reused_connection_without_a_byte(reset: bool) -> None:
    assert ResponseParser(1, "POST", reused=True).receive_eof(reset=reset) == UpstreamLost(
        1, LossReason.STALE
    )
    assert ResponseParser(1, "POST", reused=False).receive_eof(reset=reset) == UpstreamLost(
        1, LossReason.RESET
    )
    begun = ResponseParser(1, "POST", reused=True)
    begun.receive(b"H")
    assert begun.receive_eof(reset=reset) == UpstreamLost(1, LossReason.RESET)


def test_head_has_no_body() -> None:
    assert read([OK + b"content-length: 11\r\n\r\n"], method="HEAD") == (200, b"", END, True)


@pytest.mark.parametrize("after", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])
@pytest.mark.parametrize("framing", [b"content-length: 11\r\n\r\n" + BODY, CHUNKED + b"\r\n"])
def test_a_connection_with_more_than_the_answer_is_not_reused(framing: bytes, after: bytes) -> None:
    assert read([OK + framing + after]) == (200, BODY, END, False)


def test_what_was_unpacked_has_no_coding_and_no_length() -> None:
    parser = ResponseParser(1, "POST", reused=False)
    packed = gzip.compress(BODY)
    (head, *_) = parser.receive(
        OK + b"content-encoding: GZIP\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
    )
    assert head == UpstreamHead(1, 200, ((b"content-type", b"text/plain"),))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"garbage\r\n\r\n", LossReason.PROTOCOL),
        (b"\x16\x03\x01\x00\x00", LossReason.PROTOCOL),
        (b"<html>nope</html>\r\n\r\n", LossReason.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", LossReason.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\na: b\x00c\r\n\r\n", LossReason.PROTOCOL),
        (OK + b"content-length: -1\r\n\r\n", LossReason.PROTOCOL),
        (OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", LossReason.PROTOCOL),
        (OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", LossReason.PROTOCOL),
        (OK + b"transfer-encoding: gzip\r\n\r\n", LossReason.PROTOCOL),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", LossReason.PROTOCOL),
        (OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n", LossReason.PROTOCOL),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n", LossReason.PROTOCOL),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_INTERIM + 1), LossReason.PROTOCOL),
        (OK + b"x: " + b"a" * MAX_HEAD, LossReason.TOO_LARGE),
        (OK + b"x: y\r\n" * MAX_HEADERS + b"\r\n", LossReason.TOO_LARGE),
        (OK + b"content-encoding: br\r\n\r\n", LossReason.PROTOCOL),
        (OK + b"content-encoding: gzip, gzip\r\n\r\n", LossReason.PROTOCOL),
        (OK + b"content-encoding: gzip\r\n\r\nnot gzip at all", LossReason.PROTOCOL),
        (OK + b"content-encoding: deflate\r\n\r\n" + zlib.compress(BODY)[2:-4], LossReason.PROTOCOL),
        (OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(BODY) + b"x", LossReason.PROTOCOL),
        (OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(bytes(1 << 24)), LossReason.PROTOCOL),
        (
            OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\n" + gzip.compress(BODY),
            LossReason.TRUNCATED,
        ),
    ],
)
def test_what_is_not_an_answer(data: bytes, why: LossReason) -> None:
    assert read([data])[2:] == (lost(why), False)


def test_a_large_compressed_body_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gwproto_io.http1.MAX_DECOMPRESSED", 1000)
    packed = gzip.compress(b"".join([b"%d" % i for i in range(500)]))
    assert read([OK + b"content-encoding: gzip\r\n\r\n" + packed])[2] == lost(LossReason.PROTOCOL)


def test_one_read_is_one_event() -> None:
    parser = ResponseParser(1, "POST", reused=False)
    parser.receive(OK + b"transfer-encoding: chunked\r\n\r\n")
    assert parser.receive(b"1\r\na\r\n" * 500) == [UpstreamData(1, b"a" * 500)]


def request(**changes: object) -> UpstreamRequest:
    fields: dict[str, object] = {
        "origin": Origin("http", "h.example", 80),
        "method": "POST",
        "target": "/v1/chat/completions",
        "headers": ((b"content-type", b"application/json"),),
        "body": b"{}",
    }
    return UpstreamRequest(**{**fields, **changes})  # type: ignore[arg-type]  # the table's values vary


def test_a_request() -> None:
    assert encode_request(request(), (b"authorization", b"Bearer s")) == (
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        b"host: h.example\r\n"
        b"content-type: application/json\r\n"
        b"user-agent: gwproto\r\n"
        b"accept-encoding: identity\r\n"
        b"authorization: Bearer s\r\n"
        b"content-length: 2\r\n"
        b"\r\n"
        b"{}"
    )


def test_configured_fields_take_the_place_of_ours() -> None:
    data = encode_request(request(headers=((b"user-agent", b"mine"),)), None)
    assert b"user-agent: mine\r\n" in data
    assert data.count(b"user-agent") == 1


@pytest.mark.parametrize(
    ("method", "body", "sized"), [("GET", b"", False), ("POST", b"", True), ("PUT", b"x", True)]
)
def test_a_length_where_one_belongs(method: str, body: bytes, sized: bool) -> None:
    assert (b"content-length" in encode_request(request(method=method, body=body), None)) is sized


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": ((b"x", b"a\r\nb: c"),)},
        {"headers": ((b"x", b"a\nb"),)},
        {"headers": ((b"x", b"a\0b"),)},
        {"headers": ((b"x\r\ny", b"z"),)},
        {"target": "/a b"},
        {"target": "/a HTTP/1.1\r\nx: y"},
    ],
)
def test_nothing_breaks_out_of_its_line(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="request head"):
        encode_request(request(**changes), None)
    with pytest.raises(ValueError, match="request head"):
        encode_request(request(), (b"authorization", b"Bearer a\r\nb: c"))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("http", "h", 80), b"h"),
        (Origin("https", "h", 443), b"h"),
        (Origin("https", "h", 80), b"h:80"),
        (Origin("http", "::1", 8080), b"[::1]:8080"),
        (Origin("https", "bücher.example", 443), b"xn--bcher-kva.example"),
    ],
)
def test_host(origin: Origin, host: bytes) -> None:
    assert host_header(origin) == host

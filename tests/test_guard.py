"""The request guard refuses what two parties could read differently (RFC 9112, 3.2, 6.1, 6.3)."""

import pytest

from gwproto import RequestHead
from gwproto.policy.guard import guard, path_of

HOST = (b"host", b"gateway.example:8080")


def head(
    *headers: tuple[bytes, bytes],
    method: str = "POST",
    target: str = "/v1/chat/completions",
    version: str = "1.1",
) -> RequestHead:
    return RequestHead(method, target, headers, version)


@pytest.mark.parametrize(
    "good",
    [
        head(HOST),
        head(HOST, (b"content-length", b"12"), (b"authorization", b"Bearer k\tx")),
        head(HOST, (b"transfer-encoding", b"chunked")),
        head(HOST, (b"transfer-encoding", b" Chunked ")),
        head((b"host", b"[::1]:80")),
        head((b"host", b"127.0.0.1")),
        head((b"host", b"h:")),
        head(HOST, target="http://gateway.example/v1/models?x=1", method="GET"),
        head(HOST, target="/v1/models/a%2Fb:free"),
        head(version="1.0"),
        head(version="2"),
        head(HOST, (b"x-note", "naïve".encode())),
        head(HOST, *[(b"x", b"1")] * 99),
        head(HOST, method="OPTIONS"),
    ],
)
def test_lets_proper_heads_through(good: RequestHead) -> None:
    assert guard(good) is None


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (head(), 400),
        (head(HOST, HOST), 400),
        (head((b"host", b"")), 400),
        (head((b"host", b"user@h")), 400),
        (head((b"host", b"a,b")), 400),
        (head((b"host", b"h/path")), 400),
        (head((b"host", b"h:80:80")), 400),
        (head((b"host", b"h:x")), 400),
        (head((b"host", b"h\n")), 400),
        (head(HOST, version="9.9"), 505),
        (head(HOST, version="0.9"), 505),
        (head(HOST, method="CONNECT", target="h:443"), 405),
        (head(HOST, method="TRACE"), 405),
        (head(HOST, method="BREW"), 501),
        (head(HOST, method="post"), 400),
        (head(HOST, method=""), 400),
        (head(HOST, method="G\nT"), 400),
        (head(HOST, target="*", method="GET"), 400),
        (head(HOST, target=""), 400),
        (head(HOST, target="/a b"), 400),
        (head(HOST, target="/a#b"), 400),
        (head(HOST, target='/a"b'), 400),
        (head(HOST, target="/é"), 400),
        (head(HOST, target="/a\x00"), 400),
        (head(HOST, target="ftp://h/x"), 400),
        (head(HOST, target="/" + "a" * 8192), 414),
        (head(HOST, (b"content-length", b"1"), (b"content-length", b"1")), 400),
        (head(HOST, (b"content-length", b"+1")), 400),
        (head(HOST, (b"content-length", b"1_0")), 400),
        (head(HOST, (b"content-length", b"")), 400),
        (head(HOST, (b"content-length", b"9" * 19)), 400),
        (head(HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")), 400),
        (head(HOST, (b"transfer-encoding", b"chunked"), version="1.0"), 400),
        (head(HOST, (b"transfer-encoding", b"chunked"), version="2"), 400),
        (head(HOST, (b"transfer-encoding", b"gzip, chunked")), 501),
        (head(HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")), 501),
        (head(HOST, (b"x", b"a\x00b")), 400),
        (head(HOST, (b"x", b"a\rb")), 400),
        (head(HOST, (b"x", b"a\x7fb")), 400),
        (head(HOST, (b"x y", b"1")), 400),
        (head(HOST, (b"x\xe9", b"1")), 400),
        (head(HOST, *[(b"x", b"1")] * 100), 431),
        (head(HOST, (b"x", b"a" * 65536)), 431),
    ],
)
def test_refuses(bad: RequestHead, status: int) -> None:
    refused = guard(bad)
    assert refused is not None
    assert refused.status == status


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/models?x=1", "/v1/models?x=1"),
        ("http://h:1/v1/models", "/v1/models"),
        ("HTTPS://h", "/"),
        ("http://h?x", "/?x"),
        ("//evil/v1", "//evil/v1"),
    ],
)
def test_path_of(target: str, path: str) -> None:
    assert path_of(target) == path

"""The request guard: what is wrong with a request's head that an HTTP parser may let through.

One function for every server, since the parsers differ: a head that two parties could read differently is refused and
its connection closed (RFC 9112, 3.2, 6.1, 6.3, 9.6; RFC 9110, 5.5, 7.2). What only raw bytes show (obs-fold, junk in
chunk extensions) is the server's own business.
"""

import re
from collections.abc import Container, Iterable, Mapping

from gwproto.policy.values import Refused
from gwproto.values import Headers, RequestHead

MAX_HEADERS = 100
MAX_HEAD = 65536
MAX_TARGET = 8192
MAX_LENGTH_DIGITS = 18  # what a signed 64-bit length holds for certain

_METHOD = re.compile(r"[A-Z]{1,16}\Z")
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"})
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})
_VERSIONS = frozenset({"1.1", "1.0", "2", "3"})
# Visible ASCII without the delimiters that never occur in a request target (RFC 3986, 2).
_TARGET = re.compile(r"""[!$-;=?-\[\]_a-z~]+\Z""")
_ABSOLUTE = re.compile(r"https?://[^/?]+", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z")
_CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Fields that decide how a request is read.
_FRAMING = (b"host", b"content-length", b"transfer-encoding")


def guard(head: RequestHead) -> Refused | None:
    """Return why ``head`` must be refused, or None."""
    headers = head.headers
    if len(headers) > MAX_HEADERS:
        return Refused(431, f"More than {MAX_HEADERS} header fields.")
    fields = dict(headers)
    repeated: Container[bytes] = ()
    if len(fields) == len(headers):
        names = b"".join(fields)
        values = b"".join(fields.values())
    else:
        names = b"".join([name for name, _ in headers])
        values = b"".join([value for _, value in headers])
        repeated = twice(headers, _FRAMING)
    if len(names) + len(values) > MAX_HEAD:
        return Refused(431, f"Header fields over {MAX_HEAD} bytes.")
    # What is left without the characters that may be there, and with those that must not: faster than a search.
    if names.translate(None, _TOKEN) or len(values.translate(None, _CONTROLS)) < len(values):
        return Refused(400, "Invalid character in a header field.")
    return _line(head) or _framing(head.http_version, fields, repeated)


def twice(headers: Headers, names: Iterable[bytes]) -> list[bytes]:
    """Which of ``names`` are there more than once."""
    return [name for name in names if sum([one == name for one, _ in headers]) > 1]


def path_of(target: str) -> str:
    """The path and query of a request target in origin or absolute form (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith("/") else "/" + rest


def _line(head: RequestHead) -> Refused | None:
    if head.http_version not in _VERSIONS:
        return Refused(505, "Unsupported HTTP version.")
    method = head.method
    if method not in _KNOWN_METHODS:
        if not _METHOD.match(method):
            return Refused(400, "Malformed method.")
        if method in _REFUSED_METHODS:
            return Refused(405, f"Method {method} is not allowed.")
        return Refused(501, "Unknown method.")
    target = head.target
    if len(target) > MAX_TARGET:
        return Refused(414, f"Request target over {MAX_TARGET} characters.")
    if not _TARGET.match(target) or not (target[0] == "/" or _ABSOLUTE.match(target)):
        return Refused(400, "Malformed request target.")
    return None


def _framing(version: str, fields: Mapping[bytes, bytes], repeated: Container[bytes]) -> Refused | None:
    host = fields.get(b"host")
    if b"host" in repeated or (host is None and version == "1.1"):
        return Refused(400, "Exactly one Host header field is needed.")
    if host is not None and not _HOST.match(host):
        return Refused(400, "Malformed Host header field.")
    length = fields.get(b"content-length")
    if length is not None and (
        b"content-length" in repeated or not length.isdigit() or len(length) > MAX_LENGTH_DIGITS
    ):
        return Refused(400, "Malformed Content-Length header field.")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            return Refused(400, "Both Content-Length and Transfer-Encoding.")
        if version != "1.1":
            return Refused(400, f"Transfer-Encoding in HTTP/{version}.")
        if b"transfer-encoding" in repeated or coding.strip().lower() != b"chunked":
            return Refused(501, "Unknown transfer coding.")
    return None

"""The request guard: what is wrong with a request's head that an HTTP parser may let through.

One function for every server, since the parsers differ: a head that two parties could read differently is refused and
its connection closed (RFC 9112, 3.2, 6.1, 6.3, 9.6; RFC 9110, 5.5, 7.2). What only raw bytes show (obs-fold, junk in
chunk extensions) is the server's own business.
"""

import re

from gwproto.policy.values import Refused
from gwproto.values import RequestHead

MAX_HEADERS = 100
MAX_HEAD = 65536
MAX_TARGET = 8192
MAX_LENGTH_DIGITS = 18  # what a signed 64-bit length holds for certain

_METHOD = re.compile(r"[A-Z]{1,16}\Z")
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"})
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})
# Visible ASCII without the delimiters that never occur in a request target (RFC 3986, 2).
_TARGET = re.compile(r"""[!$-;=?-\[\]_a-z~]+\Z""")
_ABSOLUTE = re.compile(r"https?://[^/?]+", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_TOKEN = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_DIGITS = re.compile(rb"[0-9]+\Z")


def guard(head: RequestHead) -> Refused | None:
    """Return why ``head`` must be refused, or None."""
    headers = head.headers
    if len(headers) > MAX_HEADERS:
        return Refused(431, f"More than {MAX_HEADERS} header fields.")
    names = b"".join([name for name, _ in headers])
    values = b"".join([value for _, value in headers])
    if len(names) + len(values) > MAX_HEAD:
        return Refused(431, f"Header fields over {MAX_HEAD} bytes.")
    if _NOT_TOKEN.search(names) or _CONTROL.search(values):
        return Refused(400, "Invalid character in a header field.")
    return _line(head) or _framing(head)


def path_of(target: str) -> str:
    """The path and query of a request target in origin or absolute form (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith("/") else "/" + rest


def _line(head: RequestHead) -> Refused | None:
    if head.http_version not in ("1.1", "1.0", "2", "3"):
        return Refused(505, "Unsupported HTTP version.")
    if not _METHOD.match(head.method):
        return Refused(400, "Malformed method.")
    if head.method in _REFUSED_METHODS:
        return Refused(405, f"Method {head.method} is not allowed.")
    if head.method not in _KNOWN_METHODS:
        return Refused(501, "Unknown method.")
    target = head.target
    if len(target) > MAX_TARGET:
        return Refused(414, f"Request target over {MAX_TARGET} characters.")
    if not _TARGET.match(target) or not (target[0] == "/" or _ABSOLUTE.match(target)):
        return Refused(400, "Malformed request target.")
    return None


def _framing(head: RequestHead) -> Refused | None:
    hosts = lengths = codings = 0
    host = length = coding = b""
    for name, value in head.headers:
        if name == b"host":
            hosts += 1
            host = value
        elif name == b"content-length":
            lengths += 1
            length = value
        elif name == b"transfer-encoding":
            codings += 1
            coding = value
    version = head.http_version
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return Refused(400, "Exactly one Host header field is needed.")
    if hosts and not _HOST.match(host):
        return Refused(400, "Malformed Host header field.")
    if lengths and (lengths > 1 or not _DIGITS.match(length) or len(length) > MAX_LENGTH_DIGITS):
        return Refused(400, "Malformed Content-Length header field.")
    if codings:
        if lengths:
            return Refused(400, "Both Content-Length and Transfer-Encoding.")
        if version != "1.1":
            return Refused(400, f"Transfer-Encoding in HTTP/{version}.")
        if codings > 1 or coding.strip().lower() != b"chunked":
            return Refused(501, "Unknown transfer coding.")
    return None

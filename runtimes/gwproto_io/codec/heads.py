"""The heads of HTTP/1.1 messages: their ends found, their syntax held to the letter (RFC 9112, 2 to 5; RFC 9110, 5).

What parsers forgive differs from one to the next, and what two parsers on one path read differently is how requests
are smuggled. So nothing is left for them to forgive: no line end but CRLF, no continued line, no white space before a
colon, no control character, no method, target or field name with a character that does not belong there.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from gwproto import Headers

MAX_HEAD = 65536  # bytes

_END = b"\r\n\r\n"
_MAX_LENGTH_DIGITS = 18
_FRAMING = frozenset((b"content-length", b"host", b"transfer-encoding"))
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELDS = rb"(?:" + _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+\r\n"
# Method, target, version. Which versions there are, and what a target may be, is the core's guard's business.
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([!-~]++) HTTP/([0-9]\.[0-9])\r\n" + _FIELDS)
# Version, status. Some servers leave out the reason, and the space before it.
_RESPONSE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*+)?\r\n" + _FIELDS)
# A line end that is not CRLF, or a line that continues the one before: the end of such a head might never be seen.
_IRREGULAR = re.compile(rb"(?<!\r)\n|\r[^\n]|\n[ \t]")


class HeadError(Exception):
    """Not the head of an HTTP/1.1 message. To a request the answer is ``status``: 400, 431 or 501."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Codec(Protocol):
    """Takes heads apart that :func:`request_line` or :func:`status_line` have passed.

    Both methods return the fields in their order, names in lower case, values without the white space around them.
    Fields that say where the message ends cannot contradict themselves: there is at most one ``content-length``, of at
    most 20 digits, and one ``transfer-encoding``, which is ``chunked`` (RFC 9112, 6). Both raise :class:`HeadError`,
    with 501 for another transfer coding. All implementations return and raise the same.
    """

    @property
    def name(self) -> str: ...

    def request_fields(self, head: bytes) -> Headers:
        """Of a request, which has one ``host``, or none in HTTP/1.0 (RFC 9112, 3.2)."""
        ...

    def response_fields(self, head: bytes) -> Headers:
        """Of a final response; interim ones are skipped unread."""
        ...


def head_length(data: bytes | bytearray, scanned: int) -> int:
    """How many bytes of ``data`` are the head it begins with; 0: its end is yet to come.

    ``scanned``: bytes that an earlier call has seen. Raises :class:`HeadError` for what is too long, and for what
    cannot become a head any more. However the bytes are split, the status is the same.
    """
    end = data.find(_END, max(0, scanned - len(_END)), MAX_HEAD)
    if end >= 0:
        return end + len(_END)
    length = min(len(data), MAX_HEAD)
    # The first byte tells TLS, and other lines that are none, before they are complete.
    if (length and data[0] <= 32) or _IRREGULAR.search(data, max(0, scanned - 1), length):
        raise HeadError(400)
    if len(data) >= MAX_HEAD:
        raise HeadError(431)
    return 0


def request_line(head: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and version (``1.1``) of a request's ``head``. Raises :class:`HeadError`."""
    match = _REQUEST.fullmatch(head)
    if match is None:
        raise HeadError(400)
    return match[1], match[2], match[3]


def status_line(head: bytes) -> tuple[bytes, int]:
    """Version (``1.1`` or ``1.0``) and status of a response's ``head``. Raises :class:`HeadError`."""
    match = _RESPONSE.fullmatch(head)
    if match is None:
        raise HeadError(400)
    return match[1], int(match[2])


def plain(fields: Sequence[tuple[bytes, bytes]], *, hosts: int | None = None) -> bool:
    """Is the framing said once, and in the plainest way? ``hosts``: how many fields of that name there have to be."""
    framed = False
    found = 0
    for name, value in fields:
        if name not in _FRAMING:
            continue
        if name == b"host":
            found += 1
        elif framed:
            return False
        elif name == b"content-length":
            if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                return False
            framed = True
        elif value != b"chunked":
            return False
        else:
            framed = True
    return hosts is None or found == hosts

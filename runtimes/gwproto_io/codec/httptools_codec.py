"""httptools, which is llhttp: the fields of a head in a sixth of the time that h11 takes (extra ``fast``).

llhttp has its own views: it takes ``gzip, chunked`` for chunked, knows no method that is not in its list, and stops
at an upgrade. So it answers for plain heads only, which leave nothing to interpret. Whatever it refuses, and whatever
is not plain, is the reference's to judge.
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from gwproto import Headers
from gwproto_io.codec.h11_codec import H11Codec

_MAX_LENGTH_DIGITS = 18


class _Fields:
    """What llhttp calls while it reads."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))


class HttptoolsCodec:
    """See :class:`gwproto_io.codec.heads.Codec`."""

    __slots__ = ("_reference",)
    name = "httptools"

    def __init__(self) -> None:
        self._reference = H11Codec()

    def request_fields(self, head: bytes) -> Headers:
        taken = _Fields()
        try:
            HttpRequestParser(taken).feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            return self._reference.request_fields(head)
        fields = taken.fields
        if [name for name, _ in fields].count(b"host") != 1 or not _plain(fields):
            return self._reference.request_fields(head)
        return tuple(fields)

    def response_fields(self, head: bytes) -> Headers:
        taken = _Fields()
        try:
            HttpResponseParser(taken).feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            return self._reference.response_fields(head)
        if not _plain(taken.fields):
            return self._reference.response_fields(head)
        return tuple(taken.fields)


def _plain(fields: list[tuple[bytes, bytes]]) -> bool:
    """Is the framing said once, and in the plainest way?"""
    framed = False
    for name, value in fields:
        if name == b"content-length":
            if framed or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                return False
            framed = True
        elif name == b"transfer-encoding":
            if framed or value != b"chunked":
                return False
            framed = True
    return True

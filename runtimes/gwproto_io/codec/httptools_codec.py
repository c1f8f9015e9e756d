"""httptools, which is llhttp: the fields of a head in a sixth of the time that h11 takes (extra ``fast``).

llhttp has its own views: it takes ``gzip, chunked`` for chunked, knows no method that is not in its list, and stops
at an upgrade. So it answers for plain heads only, which leave nothing to interpret. Whatever it refuses, and whatever
is not plain, is the reference's to judge.
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from gwproto import Headers
from gwproto_io.codec.h11_codec import H11Codec
from gwproto_io.codec.heads import plain


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
        if not plain(taken.fields, hosts=1):
            return self._reference.request_fields(head)
        return tuple(taken.fields)

    def response_fields(self, head: bytes) -> Headers:
        taken = _Fields()
        try:
            HttpResponseParser(taken).feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            return self._reference.response_fields(head)
        if not plain(taken.fields):
            return self._reference.response_fields(head)
        return tuple(taken.fields)

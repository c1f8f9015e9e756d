"""Plain heads, split at their line ends and colons: half of what httptools takes, since nothing is called back.

Their syntax has been held to the letter before, so of a plain head there is nothing left to know. Any other is the
library's to read.
"""

from gwproto import Headers
from gwproto_io.codec.heads import Codec, plain


class PlainCodec:
    """See :class:`gwproto_io.codec.heads.Codec`. What is not plain goes to ``library``."""

    __slots__ = ("_library", "name")

    def __init__(self, library: Codec) -> None:
        self._library = library
        self.name = f"plain+{library.name}"

    def request_fields(self, head: bytes) -> Headers:
        fields = _fields(head)
        if not plain(fields, hosts=1):
            return self._library.request_fields(head)
        return tuple(fields)

    def response_fields(self, head: bytes) -> Headers:
        fields = _fields(head)
        if not plain(fields):
            return self._library.response_fields(head)
        return tuple(fields)


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    lines = head.split(b"\r\n")
    for line in lines[1:-2]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip()))
    return fields

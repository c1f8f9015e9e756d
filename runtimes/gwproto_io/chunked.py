"""The chunked transfer coding (RFC 9112, 7.1), strict and incremental.

h11 reads it too, but drops chunk extensions unseen, and what one reader drops another may take for something else:
that is how requests are smuggled. One event per chunk would also cost more than everything else that is done with a
provider's stream.
"""

import re

MAX_LINE = 4096  # bytes of a chunk's header or a trailer; extensions have no use here
MAX_TRAILER = 16384  # bytes of all trailers together, which are read over (RFC 9110, 6.5.1)

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*"'
# 15 digits: far over any body, and no reader's integer overflows.
_SIZE = rb"([0-9A-Fa-f]{1,15})"
_EXTENSIONS = rb"(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
_HEADER = re.compile(_SIZE + _EXTENSIONS)
# Some servers pad the size with spaces.
_PADDED_HEADER = re.compile(_SIZE + rb"[ \t]*" + _EXTENSIONS + rb"[ \t]*")
# What nearly all chunks begin with. Those of streams are small, and looked up together with the end of the one before.
_BARE_HEADER = re.compile(_SIZE + rb"\r\n").match
_SIZES = {b"\r\n%x\r\n" % size: size for size in range(1, 4096)}
_TRAILER = re.compile(_TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*")

_ENDS = (b"", b"\n", b"\r\n")  # of a chunk, by what is missing of it


class ChunkedError(Exception):
    """Not the chunked coding."""


class ChunkedDecoder:
    """Takes bytes, gives the body's. ``padding`` allows white space around a chunk's size, as responses may have it.

    After ``complete``, ``rest`` is what followed the body.
    """

    __slots__ = (
        "_begins",
        "_footer",
        "_header",
        "_left",
        "_pending",
        "_trailer",
        "_width",
        "complete",
        "rest",
    )

    def __init__(self, *, padding: bool) -> None:
        self._header = _PADDED_HEADER if padding else _HEADER
        self._begins = True  # the next byte is a chunk's first
        self._width = 5  # of the header of the last chunk that came whole: mostly the next one's too
        self._pending = b""  # an incomplete line
        self._left = 0  # bytes of the current chunk yet to come
        self._footer = 0  # bytes of its CRLF yet to come
        self._trailer = -1  # bytes of trailers read over; -1: not that far
        self.complete = False
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """The body bytes in ``data``. Raises :class:`ChunkedError`, after which nothing may be fed."""
        if self._begins:
            width = self._width
            if _SIZES.get(b"\r\n" + data[:width]) == len(data) - width - 2 and data.endswith(b"\r\n"):
                return data[width:-2]  # one chunk: what a stream brings that is not in a hurry
            parts: list[bytes] = []
            position = self._whole(data, 0, parts)
        else:
            parts = []
            position = 0
        if position < len(data):
            self._rest(data, position, parts)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _whole(self, data: bytes, position: int, parts: list[bytes]) -> int:
        """Take the chunks that came whole, from the one at ``position`` on, and say where the next one begins."""
        length = len(data)
        width = self._width
        size = _SIZES.get(b"\r\n" + data[position : position + width])
        while position < length:
            if size is None:
                bare = _BARE_HEADER(data, position)
                if bare is None:
                    break
                size = int(bare[1], 16)
                if not size:
                    break
                self._width = width = len(bare[0])
            start = position + width
            end = start + size
            following = data[end : end + 2 + width]
            size = _SIZES.get(following)
            if size is None and not following.startswith(b"\r\n"):
                break
            parts.append(data[start:end])
            position = end + 2
        return position

    def _rest(self, data: bytes, position: int, parts: list[bytes]) -> None:
        """Take what did not come in whole chunks."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        length = len(data)
        while position < length:
            if self._left:
                part = data[position : position + self._left]
                parts.append(part)
                position += len(part)
                self._left -= len(part)
            elif self._footer:
                footer = data[position : position + self._footer]
                if not _ENDS[self._footer].startswith(footer):
                    raise ChunkedError("a chunk that does not end with CRLF")
                position += len(footer)
                self._footer -= len(footer)
                if not self._footer:
                    position = self._whole(data, position, parts)
            else:
                newline = data.find(b"\n", position, position + MAX_LINE)
                if newline < 0:
                    if length - position >= MAX_LINE:
                        raise ChunkedError("a line that is too long")
                    self._pending = data[position:]
                    break
                if newline == position or data[newline - 1] != 13:
                    raise ChunkedError("a line that does not end with CRLF")
                self._line(data[position : newline - 1])
                position = newline + 1
                if self.complete:
                    self.rest = data[position:]
                    break
        self._begins = not (self._left or self._footer or self._pending) and self._trailer < 0

    def _line(self, line: bytes) -> None:
        if self._trailer < 0:
            match = self._header.fullmatch(line)
            if match is None:
                raise ChunkedError("a malformed chunk header")
            self._left = int(match[1], 16)
            if self._left:
                self._footer = 2
            else:
                self._trailer = 0
        elif not line:
            self.complete = True
        else:
            self._trailer += len(line)
            if self._trailer > MAX_TRAILER or _TRAILER.fullmatch(line) is None:
                raise ChunkedError("malformed or oversized trailers")

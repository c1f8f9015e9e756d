"""The server's role of HTTP/1.1: requests read, responses written, no I/O.

What only the raw bytes show (bare line ends, folded fields, chunk extensions) is refused here, the rest by the core's
guard (RFC 9112, 2.2, 5.2, 7.1, 11.2).
"""

import functools
import time
from http import HTTPStatus

from gwproto import Headers, RequestHead
from gwproto_io.chunked import ChunkedDecoder, ChunkedError
from gwproto_io.codec import DEFAULT, Codec, HeadError
from gwproto_io.codec.heads import MAX_HEAD, head_length, request_line

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED = b"\r\ntransfer-encoding: chunked"
_CLOSE = b"\r\nconnection: close"
MAX_UNREAD = 65536  # bytes of an unwanted body that are read to keep the connection
MAX_KNOWN = 4096  # bytes of a head that is worth remembering: one per connection is

_LENGTH = b"\r\ncontent-length:"
_LENGTH_DIGITS = 18  # of a length that needs no second look
_FRAMING = frozenset((b"connection", b"content-length", b"expect", b"transfer-encoding"))

_REFUSALS = {
    400: "Malformed HTTP request.",
    431: f"The request head is larger than {MAX_HEAD} bytes.",
    501: "Unknown transfer coding.",
}


class BadRequest(Exception):
    """What a client sent is not HTTP/1.1: answer with ``status`` and close."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
        self.message = _REFUSALS.get(status, _REFUSALS[400])


class _Known:
    """A head that was read, as the bytes before and after its content-length; without one, ``before`` is all of it.

    Clients send the same head with every request, but for the length.
    """

    __slots__ = ("after", "before", "head", "length")

    def __init__(self, raw: bytes, head: RequestHead, length: bytes) -> None:
        self.head = head
        self.before = raw
        self.after = b""
        self.length = length or b"0"
        if length:
            start = raw.index(length, raw.lower().index(_LENGTH) + len(_LENGTH))
            self.before, self.after = raw[:start], raw[start + len(length) :]

    def end(self, data: bytes) -> int:
        """Where this head, with any length, ends in ``data``; 0: it does not begin with it."""
        start = len(self.before)
        if not data.startswith(self.before):
            return 0
        if not self.after:
            return start
        end = data.find(b"\r", start, start + _LENGTH_DIGITS + 1)
        if end < 0:
            return 0
        length = data[start:end]
        if not length.isdigit() or not data.startswith(self.after, end):
            return 0
        if length != self.length:
            self.length = length
            head, field = self.head, (b"content-length", length)
            headers = tuple([field if one[0] == b"content-length" else one for one in head.headers])
            self.head = RequestHead(head.method, head.target, headers, head.http_version, head.client)
        return end + len(self.after)


class RequestParser:
    """The requests of one connection, in their order: :meth:`next_head`, then :meth:`next_data` until ``complete``.

    What has arrived beyond the present request stays ``buffered`` until its turn.
    """

    __slots__ = (
        "_blank",
        "_buffer",
        "_chunks",
        "_client",
        "_codec",
        "_known",
        "_left",
        "_scanned",
        "complete",
        "expects_continue",
        "persistent",
    )

    def __init__(self, client: str = "", codec: Codec = DEFAULT) -> None:
        self._client = client
        self._codec = codec
        self._buffer = b""
        self._scanned = 0  # bytes at the buffer's beginning in which no head ends
        self._blank = False  # an empty line before the present head was skipped
        self._known: _Known | None = None
        self._chunks: ChunkedDecoder | None = None
        self._left = 0  # bytes of a body of known length yet to be taken
        self.complete = True  # the present request's body has been taken; there is none yet
        self.expects_continue = False  # the client waits for 100 (Continue) with its body
        self.persistent = True  # the client wants the connection to go on

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def ready(self) -> bool:
        """Is there certainly more of the present request, or its end?"""
        return self.complete or (self._chunks is None and bool(self._buffer))

    @property
    def left(self) -> int | None:
        """How many bytes of the body are yet to be taken; None: unknown."""
        return None if self._chunks is not None and not self.complete else self._left

    @property
    def gives_up(self) -> bool:
        """Does an answer now end the connection? Of a body that nobody wants a short rest is read, no long one."""
        if self.complete:
            return False
        left = self.left
        return self.expects_continue or left is None or left > MAX_UNREAD

    def receive(self, data: bytes | bytearray) -> None:
        self._buffer = self._buffer + data if self._buffer else bytes(data)

    def next_head(self) -> RequestHead | None:
        """The next request's head, or None while it is incomplete. Raises :class:`BadRequest`."""
        buffer = self._buffer
        if not self._blank:  # some clients end a body with an empty line, which is skipped (RFC 9112, 2.2)
            if buffer == b"\r":
                return None
            if buffer.startswith(b"\r\n"):
                buffer = self._buffer = buffer[2:]
                self._blank = True
        known = self._known
        if known is not None and (end := known.end(buffer)):
            self._blank = False
            self._scanned = 0
            self._buffer = buffer[end:]
            self._chunks = None
            self._left = int(known.length)
            self.expects_continue = False
            self.complete = not self._left
            return known.head
        try:
            length = head_length(buffer, self._scanned)
            if not length:
                self._scanned = len(buffer)
                return None
            self._buffer = buffer[length:]
            self._scanned = 0
            self._blank = False
            return self._parse(buffer[:length])
        except HeadError as error:
            raise BadRequest(error.status) from error

    def next_data(self) -> bytes:
        """The bytes of the body that have arrived. Raises :class:`BadRequest`."""
        data = self._buffer
        if self._chunks is None:
            left = self._left
            if len(data) > left:
                data = data[:left]
                self._buffer = self._buffer[left:]
            else:
                self._buffer = b""
            self._left = left = left - len(data)
            self.complete = not left
            return data
        try:
            data = self._chunks.receive(data)
        except ChunkedError as error:
            raise BadRequest(400) from error
        self._buffer = self._chunks.rest
        self.complete = self._chunks.complete
        return data

    def _parse(self, raw: bytes) -> RequestHead:
        method, target, number = request_line(raw)
        headers = self._codec.request_fields(raw)
        version = number.decode()
        self._chunks = None
        self._left = 0
        self.expects_continue = False
        self.persistent = version == "1.1"
        length = b""
        for name, value in headers:
            if name not in _FRAMING:
                continue
            if name == b"content-length":
                length = value
                self._left = int(value)  # digits, says the codec
            elif name == b"transfer-encoding":
                self._chunks = ChunkedDecoder(padding=False)  # and no other coding
            elif name == b"expect":
                self.expects_continue = version == "1.1" and value.lower() == b"100-continue"
            elif b"close" in [option.strip() for option in value.lower().split(b",")]:
                self.persistent = False
        self.complete = self._chunks is None and not self._left
        head = RequestHead(method.decode(), target.decode(), headers, version, self._client)
        known = self.persistent and self._chunks is None and not self.expects_continue
        # Each line is a field, so there is one length at most: h11 makes one field of several that say the same.
        if known and len(raw) <= MAX_KNOWN and raw.count(b"\r\n") == len(headers) + 2:
            self._known = _Known(raw, head, length)
        else:
            self._known = None
        return head


class ResponseWriter:
    """Frames the response to one request (RFC 9112, 6): by its content-length, chunked, or by the connection's end."""

    __slots__ = ("_bodiless", "_chunked", "_version", "closes", "until_close")

    def __init__(self, method: str, http_version: str) -> None:
        self._version = http_version
        self._bodiless = method == "HEAD"
        self._chunked = False
        self.closes = False  # the connection ends with this response, says its head
        self.until_close = False  # only the connection's end will tell that the body is complete

    def head(self, status: int, headers: Headers, *, close: bool) -> bytes:
        """The response head. ``close``, or a field that says so: the connection ends with this response."""
        sized = self._bodiless or status == 204 or status == 304
        self._bodiless = sized
        parts = [_opening(status, int(time.time()))]
        lines = 3  # the two of the opening, and the empty one
        for name, value in headers:
            if name == b"connection":  # it is the connection's business; of all that it may say only this
                close = close or value == b"close"
                continue
            sized = sized or name == b"content-length"
            parts += (b"\r\n", name, b": ", value)
            lines += 1
        self.closes = close
        if not sized:
            self._chunked = self._version != "1.0"
            self.until_close = not self._chunked
        if self._chunked:
            parts.append(_CHUNKED)
            lines += 1
        if close:
            parts.append(_CLOSE)
            lines += 1
        parts.append(b"\r\n\r\n")
        head = b"".join(parts)
        if len(head) - len(head.translate(None, b"\r\n")) != 2 * lines:
            raise ValueError("a response head with a line break where none may be")
        return head

    def data(self, data: bytes) -> bytes:
        if self._bodiless:
            return b""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    def end(self) -> bytes:
        return _LAST_CHUNK if self._chunked else b""


_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


@functools.lru_cache(maxsize=16)
def _opening(status: int, second: int) -> bytes:
    """The first two lines: the status, and the wall clock as RFC 9110, 5.6.7 writes it."""
    return b"HTTP/1.1 %d %b\r\ndate: %b" % (status, _REASONS.get(status, b""), _format_date(second))


def _format_date(second: int) -> bytes:
    t = time.gmtime(second)  # strftime would speak the locale's language
    return b"%b, %02d %b %d %02d:%02d:%02d GMT" % (
        _DAYS[t.tm_wday], t.tm_mday, _MONTHS[t.tm_mon - 1], t.tm_year, t.tm_hour, t.tm_min, t.tm_sec
    )  # fmt: skip

"""The client's role of HTTP/1.1: requests written, responses read, no I/O.

Bodies are framed here (RFC 9112, 6.3): what one read delivered becomes one event, which is most of what a streamed
chunk costs.
"""

import functools
import zlib

from gwproto import (
    Event,
    Headers,
    LossReason,
    Origin,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamRequest,
)
from gwproto_io.chunked import ChunkedDecoder, ChunkedError
from gwproto_io.codec import DEFAULT, Codec, HeadError
from gwproto_io.codec.heads import MAX_HEAD, head_length, status_line

MAX_HEADERS = 100
MAX_INTERIM = 10  # 1xx heads before a final one; more is an attack, not a hint
MAX_DECOMPRESSED = 64 * 1024 * 1024  # bytes of a body that was sent compressed
MAX_RATIO = 100  # JSON compresses 10 to 40 times; zlib's own limit is 1032

_FRAMING = frozenset((b"connection", b"content-encoding", b"content-length", b"transfer-encoding"))
_USER_AGENT = (b"user-agent", b"gwproto")
# Nobody here wants to unpack what a provider packed; some compress regardless.
_ACCEPT_ENCODING = (b"accept-encoding", b"identity")


@functools.lru_cache(maxsize=1024)
def host_header(origin: Origin) -> bytes:
    """The value of ``host``: without the scheme's own port (RFC 9110, 4.2.3, 7.2)."""
    host = origin.host
    name = host.encode() if host.isascii() else host.encode("idna")
    if b":" in name:
        name = b"[%b]" % name
    return (
        name if origin.port == (443 if origin.scheme == "https" else 80) else b"%b:%d" % (name, origin.port)
    )


def encode_request(request: UpstreamRequest, credential: tuple[bytes, bytes] | None) -> bytes:
    """``request`` as bytes, head and body, with its credential's header field. Raises like :func:`encode_head`."""
    return joined(encode_head(request, credential), request)


def encode_head(request: UpstreamRequest, credential: tuple[bytes, bytes] | None) -> bytes:
    """The head of ``request`` without what depends on its body.

    A field that ``request`` has takes the place of the one that would be added here. Raises :class:`ValueError` for
    what would break out of its field or line.
    """
    named = {name for name, _ in request.headers}
    fields = [(b"host", host_header(request.origin)), *request.headers]
    for field in (_USER_AGENT, _ACCEPT_ENCODING):
        if field[0] not in named:
            fields.append(field)
    if credential is not None:
        fields.append(credential)
    lines = [b"%b: %b\r\n" % field for field in fields]
    head = b"%b %b HTTP/1.1\r\n%b" % (request.method.encode(), request.target.encode(), b"".join(lines))
    breaks = len(lines) + 1
    spaces = head.count(b" ", 0, head.index(b"\r"))
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or spaces != 2 or b"\0" in head:
        raise ValueError("a request head with a line break, a NUL or a space where none may be")
    return head


def joined(head: bytes, request: UpstreamRequest) -> bytes:
    """``head``, what ``request`` adds to it, and the body."""
    body = request.body
    if body or request.method == "POST":
        return b"".join((head, b"content-length: %d\r\n\r\n" % len(body), body))
    return head + b"\r\n"


class ResponseParser:
    """Reads the response to one request of method ``method`` from whatever the reads deliver.

    ``reused`` says that the connection had served a request before: when it ends without a byte, it was stale. The
    last event is ``UpstreamEnd`` or ``UpstreamLost``; after it ``complete`` is true and nothing may be fed.
    """

    __slots__ = (
        "_attempt",
        "_bodiless",
        "_chunks",
        "_codec",
        "_decompressor",
        "_head",
        "_interim",
        "_left",
        "_persistent",
        "_reused",
        "_scanned",
        "_started",
        "complete",
        "reusable",
    )

    def __init__(self, attempt: int, method: str, *, reused: bool, codec: Codec = DEFAULT) -> None:
        self._attempt = attempt
        self._codec = codec
        self._bodiless = method == "HEAD"
        self._reused = reused
        self._head: bytes | None = b""  # what has come of it; None once it is read
        self._scanned = 0  # bytes of it in which no head ends
        self._interim = 0
        self._started = False
        self._chunks: ChunkedDecoder | None = None
        self._left = 0  # bytes of a body of known length yet to come; -1: all until the connection ends
        self._decompressor: _Decompressor | None = None
        self._persistent = False
        self.complete = False
        self.reusable = False  # may the connection serve another request, once this response is complete?

    def receive(self, data: bytes) -> list[Event]:
        """What ``data``, the bytes of one read, means."""
        events: list[Event] = []
        try:
            head = self._head
            if head is not None:
                self._started = True
                data = self._read_head(head, data, events)
                if self._head is not None:
                    return events
            chunks = self._chunks
            if chunks is not None:
                body, ended, rest = chunks.receive(data), chunks.complete, chunks.rest
            else:
                body, ended, rest = self._sized(data)
            if self._decompressor is not None:
                body = self._decompressor.receive(body)
            if body:
                events.append(UpstreamData(self._attempt, body))
            if ended:
                events.append(self._end(rest))
        except _Lost as lost:
            events.append(self._lose(lost.why))
        except HeadError as error:
            events.append(self._lose(LossReason.TOO_LARGE if error.status == 431 else LossReason.PROTOCOL))
        except (ChunkedError, zlib.error):
            events.append(self._lose(LossReason.PROTOCOL))
        return events

    def receive_eof(self, *, reset: bool = False) -> Event:
        """What it means that the connection ended, orderly or by a reset, before the response was complete."""
        if self._head is not None:
            stale = self._reused and not self._started
            return self._lose(LossReason.STALE if stale else LossReason.RESET)
        if reset:
            return self._lose(LossReason.RESET)
        if self._left < 0 and (self._decompressor is None or self._decompressor.complete):
            self.complete = True
            return UpstreamEnd(self._attempt)
        return self._lose(LossReason.TRUNCATED)

    def _lose(self, why: LossReason) -> Event:
        self.complete = True
        self.reusable = False
        return UpstreamLost(self._attempt, why)

    def _read_head(self, begun: bytes, data: bytes, events: list[Event]) -> bytes:
        if begun:
            data = begun + data
        while True:
            length = head_length(data, self._scanned)
            if not length:
                self._head = data
                self._scanned = len(data)
                return b""
            head = data[:length]
            data = data[length:]
            self._scanned = 0
            version, status = status_line(head)
            if status >= 200:
                break
            self._interim += 1
            if self._interim > MAX_INTERIM or status == 101:  # nobody asked for another protocol
                raise _Lost(LossReason.PROTOCOL)
        headers = self._codec.response_fields(head)
        if len(headers) > MAX_HEADERS:
            raise _Lost(LossReason.TOO_LARGE)
        self._head = None
        self._frame(status, version, headers)
        if self._decompressor is not None:
            headers = tuple([field for field in headers if field[0] not in _CODED])
        events.append(UpstreamHead(self._attempt, status, headers))
        return data

    def _frame(self, status: int, version: bytes, headers: Headers) -> None:
        """How the body will end (RFC 9112, 6.3) and whether the connection outlives it (9.3)."""
        persistent = version == b"1.1"
        chunked = False
        length = -1
        coding = b""
        for name, value in headers:
            if name not in _FRAMING:
                continue
            if name == b"content-length":
                length = int(value)  # there is one, of digits, says the codec
            elif name == b"transfer-encoding":
                chunked = True  # the codec refuses every other coding
            elif name == b"connection":
                options = [option.strip().lower() for option in value.split(b",")]
                persistent = persistent and b"close" not in options
            else:
                coding = value.strip().lower()
        if chunked and (length >= 0 or version != b"1.1"):
            # Two readers could take such a body for different ones (RFC 9112, 6.1).
            raise _Lost(LossReason.PROTOCOL)
        self._persistent = persistent
        if self._bodiless or status == 204 or status == 304:
            return
        if chunked:
            self._chunks = ChunkedDecoder(padding=True)
        else:
            self._left = length
        if coding not in (b"", b"identity"):
            self._decompressor = _Decompressor(coding)

    def _sized(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """What ``data`` has of a body that is not chunked, whether that was its end, and what follows."""
        if self._left < 0:
            return data, False, b""
        body = data[: self._left]
        self._left -= len(body)
        return body, not self._left, data[len(body) :]

    def _end(self, rest: bytes) -> Event:
        if self._decompressor is not None and not self._decompressor.complete:
            raise _Lost(LossReason.TRUNCATED)
        self.complete = True
        self.reusable = self._persistent and not rest  # what nobody asked for is never read as an answer
        return UpstreamEnd(self._attempt)


class _Lost(Exception):
    def __init__(self, why: LossReason) -> None:
        self.why = why


_CODED = frozenset((b"content-encoding", b"content-length"))  # what a body whose coding is undone has no more
_WINDOW_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's names for these containers


class _Decompressor:
    """Undoes a content coding nobody asked for, within bounds."""

    __slots__ = ("_size", "_zlib")

    def __init__(self, coding: bytes) -> None:
        if coding not in _WINDOW_BITS:
            raise _Lost(LossReason.PROTOCOL)
        self._zlib = zlib.decompressobj(_WINDOW_BITS[coding])
        self._size = 0

    @property
    def complete(self) -> bool:
        return self._zlib.eof

    def receive(self, data: bytes) -> bytes:
        if not data:
            return b""
        plain = self._zlib.decompress(data, MAX_RATIO * len(data) + MAX_HEAD)
        self._size += len(plain)
        if self._zlib.unconsumed_tail or self._zlib.unused_data or self._size > MAX_DECOMPRESSED:
            raise _Lost(LossReason.PROTOCOL)
        return plain

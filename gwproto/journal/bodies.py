"""Bodies with their texts replaced: whatever framing an answer has, its first byte tells.

As :func:`gwproto.exchange.body.choose` sees it: a bracket or a quote begins JSON, a zero a frame of AWS's event stream,
``<`` a page, anything else lines of an event stream.
"""

import zlib
from collections.abc import Callable
from struct import Struct as Layout

from gwproto.journal.characters import Fold
from gwproto.journal.redaction import TAGS, Json, Marks
from gwproto.journal.rules import ANSWER, REQUEST, SAID, Rules

Redact = Callable[[bytes], bytes]

_BLANK = b" \t\r\n\xef\xbb\xbf"
_PAGE_TAGS = (b"<script", b"</script", b"<style", b"</style", b"<!doctype html", b"<html", *TAGS)
_FIELDS = (b"data", b"event", b"id", b"retry")
_PRELUDE = Layout(">III")


class Page:
    """What is neither JSON nor an event stream: mostly HTML, whose tags that hide text are kept."""

    __slots__ = ("_fold", "_marks")

    def __init__(self) -> None:
        self._fold = Fold()
        self._marks = Marks(_PAGE_TAGS)

    def __call__(self, data: bytes) -> bytes:
        return self._marks(data, self._fold(data))


class Lines:
    """An event stream (HTML standard, 9.2.6), and lines of JSON that stand in it without a field's name."""

    __slots__ = ("_after_cr", "_bare", "_json", "_line", "_place", "_text")

    def __init__(self, rules: Rules, mask: Redact) -> None:
        self._json = Json(rules, mask)
        self._text = Page()
        self._bare = False  # since the last blank line there was JSON without a name
        self._after_cr = False
        self._line = b""  # the field's name so far
        self._place = "name"  # in it; then data, event, other

    def __call__(self, data: bytes) -> bytes:
        out: list[bytes] = []
        position = 0
        while position < len(data):
            if data[position] in b"\r\n":
                position = self._end_line(data, position, out)
            elif self._place == "name":
                out.append(self._name(data[position : position + 1]))
                position += 1
            else:
                ends = [at for at in (data.find(b"\n", position), data.find(b"\r", position)) if at >= 0]
                end = min(ends, default=len(data))
                out.append(self._value(data[position:end]))
                position = end
        return b"".join(out)

    def _end_line(self, data: bytes, position: int, out: list[bytes]) -> int:
        byte = data[position : position + 1]
        out.append(byte)
        if byte == b"\n" and self._after_cr:
            self._after_cr = False
            return position + 1
        self._after_cr = byte == b"\r"
        if self._place == "name" and not self._line:  # blank: the event is over
            self._json.restart()
            self._bare = False
        self._line, self._place = b"", "name"
        return position + 1

    def _name(self, letter: bytes) -> bytes:
        """One more byte at the beginning of a line."""
        self._after_cr = False
        if not self._line and (self._bare or letter in (b"{", b"[")):
            self._bare = True
            self._place = "data"
            return self._json(letter)
        longer = self._line + letter
        if letter == b":":
            self._place = self._line.decode() if self._line in (b"data", b"event") else "other"
            self._line = longer
            return letter
        if any(field.startswith(longer) for field in _FIELDS):
            self._line = longer
            return letter
        self._line, self._place = b"?", "other"
        return self._text(letter)

    def _value(self, data: bytes) -> bytes:
        if self._place == "data":
            return self._json(data)
        return data if self._place == "event" else self._text(data)


class Frames:
    """``application/vnd.amazon.eventstream``: payloads replaced, checksums made true, if they were, of the new ones."""

    __slots__ = ("_check", "_head", "_headers", "_json", "_left", "_page", "_sum", "_tail")

    def __init__(self, rules: Rules, mask: Redact) -> None:
        self._json = Json(rules, mask)
        self._page: Redact | None = None  # no frames, or none any more
        self._begin()

    def _begin(self) -> None:
        self._head = b""
        self._headers = self._left = 0
        self._sum = self._check = 0  # of what came, of what goes
        self._tail = 0

    def __call__(self, data: bytes) -> bytes:
        out = bytearray()
        position = 0
        while position < len(data):
            if self._page is not None:
                return bytes(out) + self._page(data[position:])
            if len(self._head) < _PRELUDE.size:
                piece = data[position : position + _PRELUDE.size - len(self._head)]
                self._head += piece
                self._pass(piece, piece, out)
                if len(self._head) == _PRELUDE.size:
                    self._measure()
            elif self._headers:
                piece = data[position : position + self._headers]
                self._headers -= len(piece)
                self._pass(piece, piece, out)
            elif self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                self._pass(piece, self._json(piece), out)
            else:
                piece = data[position : position + 4 - self._tail]
                self._end(piece, out)
            position += len(piece)
        return bytes(out)

    def _measure(self) -> None:
        total, headers, check = _PRELUDE.unpack(self._head)
        left = total - headers - _PRELUDE.size - 4
        if zlib.crc32(self._head[:8]) != check or left < 0:
            self._page = Page()
        self._headers, self._left = headers, left
        self._json.restart()

    def _pass(self, came: bytes, goes: bytes, out: bytearray) -> None:
        self._sum = zlib.crc32(came, self._sum)
        self._check = zlib.crc32(goes, self._check)
        out += goes

    def _end(self, piece: bytes, out: bytearray) -> None:
        """Bytes of the checksum: what was wrong with it stays wrong."""
        difference = (self._sum ^ self._check).to_bytes(4)
        for byte in piece:
            out.append(byte ^ difference[self._tail])
            self._tail += 1
        if self._tail == 4:
            self._begin()


class Answer:
    """The body of a provider's answer that is no error; or what a client is sent."""

    __slots__ = ("_chosen", "_mask", "_rules")

    def __init__(self, mask: Redact, rules: Rules = ANSWER) -> None:
        self._rules = rules
        self._mask = mask
        self._chosen: Redact | None = None

    def __call__(self, data: bytes) -> bytes:
        if self._chosen is not None:
            return self._chosen(data)
        rest = data.lstrip(_BLANK)
        if not rest:
            return data
        self._chosen = self._choose(rest[:1])
        return data[: len(data) - len(rest)] + self._chosen(rest)

    def _choose(self, first: bytes) -> Redact:
        if first in b'{["':
            return Json(self._rules, self._mask)
        if first == b"\0":
            return Frames(self._rules, self._mask)
        if first == b"<":
            return Page()
        return Lines(self._rules, self._mask)


def request_body(mask: Redact) -> Redact:
    """For a client's request."""
    return Json(REQUEST, mask)


def said(mask: Redact) -> Redact:
    """For what the gateway sends to a client, or asks of a provider."""
    return Answer(mask, SAID)

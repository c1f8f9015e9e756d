"""Frames in: the WHATWG EventSource grammar (HTML standard, 9.2.6) on bytes, cut anywhere.

Two paths give the same frames. Almost every read of a healthy stream is a few whole events of the form
``data: …\\n\\n``, some with a line ``event: …`` before it; those are found with ``bytes.find`` and never taken apart.
Everything else (CR, CRLF, a BOM, comments, fields, events cut by the network) goes line by line. Lines are cut before
UTF-8 is decoded, so a character split over two reads needs no care.

Beyond the standard: lines of JSON that stand in the stream without any field name (Google breaks off with an error
like that) are delivered as if they were data.
"""

import re

from gwproto.failures import WireError
from gwproto.sse.frame import Frame

MAX_EVENT = 1 << 20  # bytes

_LF, _CR = 0x0A, 0x0D  # numbers: "in" looks for one ten times as fast as for a byte string

_LINE_END = re.compile(rb"\r\n?|\n")
_BOM = b"\xef\xbb\xbf"


def repaired(data: bytes) -> bytes:
    """``data`` with U+FFFD for invalid UTF-8; the very object if there is none."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="replace").encode()
    return data


class Decoder:
    """Bytes of one stream in, frames out; the frames do not depend on how the bytes were cut.

    Events without data, or whose data is empty, are not delivered: nothing that speaks JSON can use them. ``id:`` and
    ``retry:`` are ignored, for a gateway never reconnects.
    """

    def __init__(self, max_line: int = MAX_EVENT) -> None:
        """``max_line`` limits, in bytes, a line without its end as well as the data of an event."""
        self._max = max_line
        self._pending = bytearray()  # an unfinished line
        self._after_cr = False  # a LF that comes next belongs to the line that the CR ended
        self._started = False
        self._broken = False
        self._forget()

    def _forget(self) -> None:
        self._data: list[bytes] = []
        self._size = 0
        self._event = b""
        self._fields = 0  # lines since the last blank one
        self._canonical = False  # the lines so far are as ``Frame.raw`` has them
        self._bare: list[bytes] = []  # lines of JSON

    @property
    def pending(self) -> bool:
        """Is an event begun and not yet ended by a blank line?"""
        return bool(self._pending or self._fields)

    def receive(self, data: bytes) -> list[Frame]:
        """The events completed by ``data``.

        Raises :class:`WireError` when a line or an event is over the limit; if events were completed before that in
        the same read, they are returned and the next call raises.
        """
        broken = self._broken
        if broken:
            raise WireError("an event is over the size limit")
        frames: list[Frame] = []
        pos = 0
        if not (self._pending or self._fields or self._after_cr) and _CR not in data:
            while (end := data.find(b"\n\n", pos) + 2) > 1:
                frame = self.whole(data, pos, end)
                if frame is not None:
                    frames.append(frame)
                else:
                    self._lines(data[pos:end], frames)
                    if self._broken:
                        break
                pos = end
            data = data[pos:]
        if data and not self._broken:
            self._lines(data, frames)
        if self._broken and not frames:
            raise WireError("an event is over the size limit")
        return frames

    def whole(self, data: bytes, start: int, end: int) -> Frame | None:
        """The event that ``data[start:end]`` is, blank line included; None when its lines have to be looked at.

        Nothing may be ``pending``.
        """
        raw = data[start:end]
        name = b""
        first = 0
        if raw.startswith(b"event: "):
            first = raw.find(b"\n") + 1
            name = raw[7 : first - 1]
        if len(raw) <= first + 8:
            return None
        payload = raw[first + 6 : -2]
        if (
            not raw.startswith(b"data: ", first)
            or _LF in payload
            or _CR in raw
            or len(raw) > self._max + 2
            or (not raw.isascii() and repaired(payload) is not payload)
        ):
            return None
        self._started = True
        return Frame(payload, name.decode(errors="replace") if name else "", raw)

    def end(self) -> Frame | None:
        """The event the stream ended in, if it has data: the standard discards it, the caller judges it.

        Raises :class:`WireError` when the stream was over the limit.
        """
        if self._broken:
            raise WireError("an event is over the size limit")
        if self._pending:
            line = bytes(self._pending)
            self._pending.clear()
            self._line(line if self._started else line.removeprefix(_BOM), b"")
        self._canonical = False
        return self._dispatch()

    def _lines(self, data: bytes, frames: list[Frame]) -> None:
        pos = 0
        if self._after_cr:
            self._after_cr = False
            if data[0] == _LF:
                pos = 1
        for match in _LINE_END.finditer(data, pos):
            line = data[pos : match.start()]
            pos = match.end()
            if self._pending:
                self._pending += line
                line = bytes(self._pending)
                self._pending.clear()
            line_end = match.group()
            self._after_cr = line_end == b"\r" and pos == len(data)
            if len(line) > self._max:
                self._broken = True
                return
            if not self._started:
                self._started = True
                line = line.removeprefix(_BOM)
            if line:
                self._line(line, line_end)
                if self._broken:
                    return
            else:
                if line_end != b"\n":
                    self._canonical = False
                frame = self._dispatch()
                if frame is not None:
                    frames.append(frame)
        self._pending += data[pos:]
        if len(self._pending) > self._max:
            self._broken = True

    def _line(self, line: bytes, line_end: bytes) -> None:
        self._fields += 1
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            first = self._fields == 1 or (self._fields == 2 and self._canonical)
            self._canonical = first and not self._data and line_end == b"\n" and line.startswith(b"data: ")
            self._data.append(value)
            self._grow(len(value))
        elif name == b"event":
            self._canonical = self._fields == 1 and line_end == b"\n" and line.startswith(b"event: ")
            self._event = value
        else:
            self._canonical = False
            if self._bare or (line[:1] in (b"{", b"[") and not self._data):
                self._bare.append(line)
                self._grow(len(line))

    def _grow(self, length: int) -> None:
        self._size += length + 1
        if self._size > self._max + 1:
            self._broken = True

    def _dispatch(self) -> Frame | None:
        data = b"\n".join(self._data or self._bare)
        event, canonical = self._event, self._canonical and bool(self._data)
        named = self._fields == 2
        self._forget()
        if not data:
            return None
        valid = repaired(data)
        raw = b""
        if canonical and valid is data:
            raw = b"data: " + data + b"\n\n"
            if named:
                raw = b"event: " + event + b"\n" + raw
        return Frame(valid, event.decode(errors="replace"), raw)

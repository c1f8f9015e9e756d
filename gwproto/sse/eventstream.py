"""Frames of ``application/vnd.amazon.eventstream``, cut anywhere, and frames out (AWS: event stream encoding).

A frame is binary: its length, its headers' length, a checksum of both, headers, payload, a checksum of all before.
"""

import zlib
from collections.abc import Mapping
from struct import Struct as Layout

import msgspec
from msgspec import Struct, field

from gwproto.failures import WireError
from gwproto.sse.decoder import MAX_EVENT, repaired
from gwproto.sse.frame import Frame

MAX_HEADERS = 128 * 1024  # bytes, as AWS has it

_PRELUDE = Layout(">III")
_CHECKSUM = Layout(">I")
_AROUND = _PRELUDE.size + _CHECKSUM.size  # what a frame has beside headers and payload
_TEXT = 7  # the type of headers that matter here
# Bytes of a header's value by its type: true false byte short integer long bytes text timestamp uuid.
_SIZES: tuple[int | None, ...] = (0, 0, 1, 2, 4, 8, None, None, 8, 16)
_BLANK = b" \t\r\n\xef\xbb\xbf"

_encode = msgspec.json.Encoder().encode


class EventStreamDecoder:
    """Bytes of one stream in, frames out, whose data is a JSON object.

    ``{"e": type, "p": payload}`` is an event, ``{"x": type, "p": payload}`` an exception, ``{"x": code, "m": message,
    "p": {}}`` an error. What can be no frame is one nevertheless, the last, after those before it however the bytes
    were cut: ``{"w": why}``. White space before the first frame is passed over.

    ``max_payload`` in bytes; a frame over it can be none.
    """

    __slots__ = ("_block", "_broken", "_max", "_opening", "_pending", "_started")

    def __init__(self, max_payload: int = MAX_EVENT) -> None:
        self._max = max_payload
        self._pending = bytearray()
        self._started = False
        self._broken = False
        self._block: bytes | None = None  # the last frame's headers: mostly the next one's too
        self._opening = b""  # what they become

    @property
    def pending(self) -> bool:
        """Has a frame begun that has not ended?"""
        return bool(self._pending)

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes; none after what was no frame."""
        frames: list[Frame] = []
        if self._broken:
            return frames
        if not self._started:
            data = data.lstrip(_BLANK)
            self._started = bool(data)
        self._pending += data
        position = 0
        try:
            while end := self._end(position):
                frames.append(self._frame(bytes(memoryview(self._pending)[position:end])))
                position = end
        except WireError as error:
            self._broken = True
            frames.append(Frame(_encode({"w": str(error)})))
            position = len(self._pending)
        del self._pending[:position]
        return frames

    def end(self) -> None:
        """Raises :class:`WireError` where the stream ended inside a frame, or in what is none."""
        if self._pending or self._broken:
            raise WireError("the stream ends inside a frame")

    def _end(self, start: int) -> int:
        """Where the frame that begins at ``start`` ends; 0: not all of it is there."""
        pending = self._pending
        if len(pending) - start < _PRELUDE.size:
            return 0
        total, headers, checksum = _PRELUDE.unpack_from(pending, start)
        if zlib.crc32(pending[start : start + 8]) != checksum:
            raise WireError("a frame's lengths do not match their checksum")
        payload = total - headers - _AROUND
        if headers > MAX_HEADERS or not 0 <= payload <= self._max:
            raise WireError("a frame has an impossible length")
        end: int = start + total
        return end if end <= len(pending) else 0

    def _frame(self, frame: bytes) -> Frame:
        (checksum,) = _CHECKSUM.unpack_from(frame, len(frame) - _CHECKSUM.size)
        if zlib.crc32(memoryview(frame)[: -_CHECKSUM.size]) != checksum:
            raise WireError("a frame does not match its checksum")
        start = _PRELUDE.size + _PRELUDE.unpack_from(frame)[1]
        block = frame[_PRELUDE.size : start]
        if block != self._block:
            self._opening = _opening(headers_of(block))
            self._block = block
        payload = repaired(frame[start : -_CHECKSUM.size]).strip()
        if not payload.startswith(b"{"):
            payload = _encode(payload.decode())
        return Frame(b"%b%b}" % (self._opening, payload))


def _opening(headers: Mapping[str, str]) -> bytes:
    """All that comes before the payload."""
    kind = headers.get(":message-type", "event")
    fields = {"e": headers.get(f":{kind}-type", "")}
    if kind == "exception":
        fields = {"x": fields["e"]}
    elif kind == "error":
        fields = {"x": headers.get(":error-code", ""), "m": headers.get(":error-message", "")}
    return _encode(fields)[:-1] + b',"p":'


def headers_of(block: bytes) -> dict[str, str]:
    """The headers that are text. Raises :class:`WireError`."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            start = at + 1 + block[at]  # behind the name
            name, kind = block[at + 1 : start], block[start]
            at = start + 1
            size = _SIZES[kind]
            if size is None:
                size = int.from_bytes(block[at : at + 2])
                at += 2
            if kind == _TEXT:
                headers[name.decode(errors="replace")] = block[at : at + size].decode(errors="replace")
            at += size
    except IndexError:
        at = -1
    if at != len(block):
        raise WireError("a frame's headers cannot be read")
    return headers


def encode_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame; headers of text are all that is written."""
    block = b"".join([_header(name.encode(), value.encode()) for name, value in headers.items()])
    lengths = _PRELUDE.pack(len(block) + len(payload) + _AROUND, len(block), 0)[:8]
    frame = b"%b%b%b%b" % (lengths, _CHECKSUM.pack(zlib.crc32(lengths)), block, payload)
    return frame + _CHECKSUM.pack(zlib.crc32(frame))


def _header(name: bytes, value: bytes) -> bytes:
    return b"%c%b%c%b%b" % (len(name), name, _TEXT, len(value).to_bytes(2), value)


def encode_message(kind: str, name: str, payload: bytes) -> bytes:
    """A frame of JSON: an ``event`` or an ``exception``, and its type."""
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    return encode_frame(headers, payload)


class _Error(Struct, gc=False):
    name: str = field(name="__type")


_error = msgspec.json.Decoder(_Error)


def encode_error(body: bytes) -> bytes:
    """An error body inside a stream: the exception that its ``__type`` names, which begins with a small letter here."""
    name = _error.decode(body).name
    return encode_message("exception", name[:1].lower() + name[1:], body)

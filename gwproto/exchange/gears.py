"""The event-stream body: frames in, frames out, in the cheapest gear that is proven right.

A stream begins in *Transcode*: decode, normalise, encode. Once a frame that carries nothing but text has gone through,
its :class:`Shape` is known, and a later frame that differs in nothing but the text needs no JSON: in *Relay* its bytes
are forwarded untouched, in *Splice* the text moves into the shape that the client gets. Whatever does not fit is
transcoded again. Safe by construction: all that is outside the text's string token is byte for byte what has been
decoded and checked before.
"""

import re
from abc import ABC, abstractmethod

from msgspec import Struct

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse.decoder import Frame
from gwproto.sse.encoder import DONE
from gwproto.values import Usage
from gwproto.wire.dialects import Dialect
from gwproto.wire.neutral import UNREAD, Chunk, Envelope, Reading
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.stream import encode_chunk
from gwproto.wire.thinking import settled
from gwproto.wire.translate import decoder_of, frames_of, named

MAX_PREAMBLE = 1 << 20  # bytes held back for a client while no content comes

# What may stand inside a JSON string (RFC 8259, 7); a surrogate only as one of a pair.
_TEXT = re.compile(
    rb"""(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"""
    rb"""|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))++"""
).match


class Body(ABC):
    """One response body on its way to the client.

    ``receive``, ``end`` and ``cut`` return bytes for the client, ``b""`` before the commit point. ``content``: the
    commit point is reached. ``complete``: what was returned completes the client's body. ``failure``: it went wrong,
    and nothing more will come. ``progress``: the last ``receive`` brought more than comments.
    """

    __slots__ = ("complete", "content", "failure", "progress", "usage")

    def __init__(self) -> None:
        self.content = False
        self.complete = False
        self.progress = False
        self.failure: Failure | None = None
        self.usage: Usage | None = None

    @abstractmethod
    def receive(self, data: bytes) -> bytes:
        """Take in what one read delivered."""

    @abstractmethod
    def end(self) -> bytes:
        """The response is complete by its framing."""

    @property
    def finished(self) -> bool:
        """Has everything but the end been said? Then nothing is missed if the end never comes."""
        return False

    def cut(self) -> bytes:
        """The connection broke."""
        self.failure = Failure(FailureClass.TRUNCATED, "The provider's connection broke during its answer.")
        return b""

    def _fail(self, message: str, kind: FailureClass = FailureClass.SERVER) -> None:
        self.failure = Failure(kind, message, code="bad_upstream_response")

    def _fail_empty(self) -> None:
        self._fail("The provider's answer was empty.", FailureClass.EMPTY)


class Shape(Struct, frozen=True, gc=False):
    """A proven frame around its text: what comes in before and after it, and what goes out."""

    prefix: bytes
    suffix: bytes
    out_prefix: bytes
    out_suffix: bytes
    relay: bool  # in and out are the same


def learn(raw: bytes, sent: bytes, text: str) -> Shape | None:
    """The shape of a frame that came as ``raw`` and went out as ``sent``; None when its text cannot be located.

    The text must occur once, as a whole string token, in a frame without escapes: then that token is the text.
    """
    token = b'"%b"' % text.encode()
    if b"\\" in raw or raw.count(token) != 1 or sent.count(token) != 1:
        return None
    prefix, _, suffix = raw.partition(token)
    out_prefix, _, out_suffix = sent.partition(token)
    return Shape(prefix + b'"', b'"' + suffix, out_prefix + b'"', b'"' + out_suffix, raw == sent)


class StreamBody(Body):
    """Event stream in, event stream out."""

    __slots__ = (
        "_decode",
        "_decoder",
        "_envelope",
        "_expected",
        "_held",
        "_normaliser",
        "_preamble",
        "_shape",
    )

    def __init__(
        self,
        dialect: Dialect,
        envelope: Envelope,
        *,
        include_usage: bool,
        legacy_functions: bool,
        reading: Reading = UNREAD,
    ) -> None:
        super().__init__()
        self._decode = decoder_of(dialect, reading)
        self._expected = envelope  # where the provider names no id, time or model
        self._envelope: Envelope | None = None
        self._decoder = frames_of(dialect)
        self._normaliser = Normaliser(
            include_usage=include_usage, legacy_functions=legacy_functions, seed=reading.seed
        )
        self._held: list[bytes] = []
        self._preamble = 0  # bytes that went or will go into it
        self._shape: Shape | None = None

    def receive(self, data: bytes) -> bytes:
        self.progress = False
        out: list[bytes] = []
        try:
            if self._decoder.pending:  # finish the frame that the last read cut
                start = data.find(b"\n\n") + 2
                self._transcode(data[:start] if start > 1 else data, out)
                data = data[start:] if start > 1 else b""
            end = data.rfind(b"\n\n") + 2
            if end > 1 and _is_utf8(data[:end]):
                self._relay(data, end, out)
                data = data[end:]
            if data:
                self._transcode(data, out)
        except WireError as error:
            self._fail(str(error))
        return self._release(out)

    def _relay(self, data: bytes, end: int, out: list[bytes]) -> None:
        """Copy the frames that fit the shape, transcode the others. ``data[:end]`` ends with a frame."""
        position = 0
        while position < end:
            shape = None if self._decoder.pending else self._shape
            run = position  # data[run:position] fits
            while shape is not None and data.startswith(shape.prefix, position):
                begin = position + len(shape.prefix)
                text = _TEXT(data, begin)
                if text is None or not data.startswith(shape.suffix, text.end()):
                    break
                position = text.end() + len(shape.suffix)
                if not shape.relay:
                    out.append(b"%b%b%b" % (shape.out_prefix, text[0], shape.out_suffix))
            if run < position:
                self.progress = True
                if shape is not None and shape.relay:
                    out.append(data[run:position])
            if position < end:
                blank = data.find(b"\n\n", position)
                after = end if blank < 0 else blank + 2  # of three line ends the last stands alone
                self._transcode(data[position:after], out)
                position = after

    def _transcode(self, data: bytes, out: list[bytes]) -> None:
        for frame in self._decoder.receive(data):
            if self.complete or self.failure is not None:
                return
            self._take(frame, out)

    def _take(self, frame: Frame, out: list[bytes]) -> None:
        self._shape = None
        chunk = self._decode(frame.data)
        if chunk.failure is not None:
            self.failure = chunk.failure
            return
        normaliser = self._normaliser
        chunks = normaliser.receive(chunk)
        if chunks:
            self.progress = True
        self.usage = normaliser.usage
        if normaliser.failure is not None:
            self.failure = normaliser.failure
            return
        envelope = self._envelope
        if envelope is None:
            envelope = named(chunk, self._expected)
            if chunks:  # a chunk that is dropped may not know them yet
                self._envelope = envelope
        as_sent = (
            len(chunks) == 1
            and chunks[0] is chunk
            and chunk.verbatim
            and frame.raw.startswith(b"data: ")
            and chunk.id == envelope.id
            and chunk.created == envelope.created
            and chunk.model == envelope.model
        )
        before = len(out)
        if as_sent:
            out.append(frame.raw)
        else:
            out.extend(encode_chunk(one, envelope) for one in chunks)
        if not normaliser.content:
            self._preamble += sum(map(len, out[before:]))
            if self._preamble > MAX_PREAMBLE:
                self._fail("The provider's answer begins with too much.")
                return
        if frame.raw and len(chunks) == 1 and len(chunk.deltas) == 1 and chunk.deltas[0].finish is None:
            text = _only_text(chunks[0])
            if text and not chunk.remembered and settled(self._decode):
                self._shape = learn(frame.raw, out[before], text)
        if normaliser.done:
            self._complete(out)

    def _complete(self, out: list[bytes]) -> None:
        """The format's end marker, or an end after every finish."""
        normaliser = self._normaliser
        if not normaliser.content:
            self._fail_empty()
            return
        envelope = self._envelope or self._expected
        out.extend(encode_chunk(chunk, envelope) for chunk in normaliser.end(complete=True))
        out.append(DONE)
        self.usage = normaliser.usage
        self.complete = True

    def end(self) -> bytes:
        out: list[bytes] = []
        try:
            frame = self._decoder.end()
            if frame is not None:
                self._take(frame, out)
        except WireError:
            self._truncated()
        if not self.complete and self.failure is None:
            if self._normaliser.finished:
                self._complete(out)
            elif self._normaliser.content or self._envelope is not None:
                self._truncated()
            else:
                self._fail_empty()
        return self._release(out)

    @property
    def finished(self) -> bool:
        return self._normaliser.finished and not self._decoder.pending

    def cut(self) -> bytes:
        out: list[bytes] = []
        if self.finished:
            self._complete(out)
        else:
            self._truncated()
        return self._release(out)

    def _release(self, out: list[bytes]) -> bytes:
        """Hold the preamble back until the commit point, then let everything go."""
        if not self.content:
            if not self._normaliser.content:
                self._held += out
                return b""
            self.content = True
            out = self._held + out
            self._held = []
        return out[0] if len(out) == 1 else b"".join(out)

    def _truncated(self) -> None:
        message = "The provider's stream broke off."
        self.failure = Failure(FailureClass.TRUNCATED, message, code="stream_truncated")


def _only_text(chunk: Chunk) -> str:
    """The text of a chunk that carries one plain text or reasoning delta and nothing else, else ``""``."""
    (delta, *more) = chunk.deltas
    if more or delta.tools or delta.role or delta.refusal or (delta.content and delta.reasoning):
        return ""
    return delta.content or delta.reasoning or ""


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True

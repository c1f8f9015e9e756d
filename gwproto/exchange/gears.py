"""The event-stream body: frames in, frames out, in the cheapest gear that is proven right.

A stream begins in *Transcode*: decode, normalise, encode. Once a frame that carries nothing but text has gone through,
its :class:`Shape` is known, and a later frame that differs in nothing but the text needs no JSON: in *Relay* its bytes
are forwarded untouched, in *Splice* the text moves into the shape that the client gets. Whatever does not fit is
transcoded again. Safe by construction: all that is outside the text's string token is byte for byte what has been
decoded and checked before.
"""

from abc import ABC, abstractmethod

from gwproto.exchange.shapes import fit, is_text, is_utf8, learn, texts_of
from gwproto.exchange.values import Shape
from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse.decoder import Decoder
from gwproto.sse.encoder import DONE
from gwproto.sse.frame import Frame
from gwproto.values import Usage
from gwproto.wire.dialects import Dialect
from gwproto.wire.neutral import UNREAD, Chunk, Envelope, Reading
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.stream import encode_chunk
from gwproto.wire.thinking import settled
from gwproto.wire.translate import decoder_of, frames_of, named

MAX_PREAMBLE = 1 << 20  # bytes held back for a client while no content comes
MAX_TAIL = 1 << 12  # bytes kept of a frame that may fit when the rest of it has come


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


class StreamBody(Body):
    """Event stream in, event stream out."""

    __slots__ = (
        "_decode",
        "_decoder",
        "_envelope",
        "_events",
        "_expected",
        "_held",
        "_normaliser",
        "_preamble",
        "_shape",
        "_tail",
        "_within",
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
        self._decoder = decoder = frames_of(dialect)
        self._events = decoder if isinstance(decoder, Decoder) else None
        self._normaliser = Normaliser(
            include_usage=include_usage, legacy_functions=legacy_functions, seed=reading.seed
        )
        self._held: list[bytes] = []
        self._preamble = 0  # bytes that went or will go into it
        self._shape: Shape | None = None
        self._tail = b""  # the beginning of a frame that may fit, unseen by the decoder
        self._within = False  # the decoder has the beginning of a frame

    def receive(self, data: bytes) -> bytes:
        shape = self._shape
        if shape is not None and len(data) < shape.double and not (self._tail or self._within):
            sent = fit(shape, data)  # one frame, mostly
            if sent:
                self.progress = True
                return sent
        self.progress = False
        if self._tail:
            data = self._tail + data
            self._tail = b""
        out: list[bytes] = []
        try:
            position = self._finish(data, out) if self._within else 0
            if self._shape is not None:
                position = self._run(self._shape, data, position, out)
            if position < len(data):
                self._look(data, position, out)
            elif len(out) == 1 and self.content:
                return out[0]
        except WireError as error:
            self._fail(str(error))
        return self._release(out)

    def _finish(self, data: bytes, out: list[bytes]) -> int:
        """Transcode the frame that the last read has cut, and say where the next one begins."""
        end = data.find(b"\n\n") + 2
        if end == 1:
            end = len(data)
        self._transcode(data[:end], out)
        return end

    def _look(self, data: bytes, position: int, out: list[bytes]) -> None:
        """Transcode the frame at ``position``, and all after it that fit no shape."""
        events = self._events
        while (end := data.find(b"\n\n", position) + 2) > 1:
            shape = self._shape
            if shape is not None and shape.middle and (sent := fit(shape, data[position:end])):
                self.progress = True
                out.append(sent)
                position = end
                continue
            frame = None if events is None or self._within else events.whole(data, position, end)
            if frame is None:
                self._transcode(data[position:end], out)
            elif not self.complete and self.failure is None:
                self._take(frame, out)
            position = end
            if self._shape is not None:
                position = self._run(self._shape, data, position, out)
        if position < len(data):
            self._begin(data[position:], out)

    def _run(self, shape: Shape, data: bytes, position: int, out: list[bytes]) -> int:
        """Pass on the frames that fit ``shape``, from ``position`` on, and say where the next one begins."""
        if shape.middle or not data.startswith(shape.prefix, position):
            return position
        texts, end = texts_of(shape, data, position)
        if not texts:
            return position
        run = data[position:end]
        # All texts at once; none becomes one by what comes next, since a space ends no escape.
        if is_text(b" ".join(texts)) and (run.isascii() or is_utf8(run)):
            self.progress = True
            if not shape.relay:
                run = b"%b%b%b" % (shape.out_prefix, shape.out_between.join(texts), shape.out_suffix)
            out.append(run)
        else:
            self._transcode(run, out)
        return end

    def _begin(self, part: bytes, out: list[bytes]) -> None:
        """The beginning of a frame. If it may fit it waits for its end; the decoder would have to be given both."""
        shape = self._shape
        if (
            shape is not None
            and len(part) <= MAX_TAIL
            and (part.startswith(shape.prefix) or shape.prefix.startswith(part))
            and 0x0D not in part  # CR, which may have ended it
        ):
            self._tail = part
        else:
            self._transcode(part, out)

    def _transcode(self, data: bytes, out: list[bytes]) -> None:
        frames = self._decoder.receive(data)
        self._within = self._decoder.pending
        for frame in frames:
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
        self.usage = normaliser.usage
        if normaliser.failure is not None:
            self.failure = normaliser.failure
            return
        for one in chunks:
            self._give(one, chunk, frame.raw, out)
        if self._preamble > MAX_PREAMBLE:
            self._fail("The provider's answer begins with too much.")
            return
        if frame.raw and len(chunks) == 1 and len(chunk.deltas) == 1 and chunk.deltas[0].finish is None:
            text = _only_text(chunks[0])
            if text and not chunk.remembered and settled(self._decode):
                padding = chunk.extra.get("obfuscation") if chunk.extra else None
                self._shape = learn(frame.raw, out[-1], text, b"" if padding is None else bytes(padding))
        if normaliser.done:
            self._complete(out)

    def _give(self, chunk: Chunk, came: Chunk, raw: bytes, out: list[bytes]) -> None:
        """``chunk``, which goes to the client, as it ``came`` if it can: in the event ``raw``."""
        self.progress = True
        envelope = self._envelope
        if envelope is None:  # not before something goes out: a chunk that is dropped may not know them yet
            envelope = self._envelope = named(came, self._expected)
        if (
            chunk is came
            and chunk.verbatim
            and raw.startswith(b"data: ")
            and chunk.id == envelope.id
            and chunk.created == envelope.created
            and chunk.model == envelope.model
        ):
            sent = raw
        else:
            sent = encode_chunk(chunk, envelope)
        out.append(sent)
        if not self._normaliser.content:
            self._preamble += len(sent)

    def _complete(self, out: list[bytes]) -> None:
        """The format's end marker, or an end after every finish."""
        normaliser = self._normaliser
        if not normaliser.content:
            self._fail_empty()
            return
        envelope = self._envelope or self._expected
        out += [encode_chunk(chunk, envelope) for chunk in normaliser.end(complete=True)]
        out.append(DONE)
        self.usage = normaliser.usage
        self.complete = True

    def end(self) -> bytes:
        out: list[bytes] = []
        try:
            self._decoder.receive(self._tail)
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
        return self._normaliser.finished and not self._tail and not self._within

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

"""One format's words in another's: requests, whole answers, and streams as they come.

What the exchange does for a client, without the exchange: nothing is held back, nothing is tried again. Every direction
works, since every format knows both.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse import eventstream
from gwproto.sse.decoder import Decoder
from gwproto.sse.frame import Frame
from gwproto.sse.ndjson import LineDecoder
from gwproto.wire.dialect import ChunkDecoder, ChunkEncoder, Dialect
from gwproto.wire.effort import efforts_of, nearest
from gwproto.wire.neutral import UNREAD, Chunk, Completion, EncodedRequest, Envelope, Reading, Rendering
from gwproto.wire.normalise import Normaliser
from gwproto.wire.thinking import ThinkDecoder, without_thinking


def frames_of(dialect: Dialect) -> Decoder | LineDecoder | eventstream.EventStreamDecoder:
    """What cuts this format's streams into events."""
    if dialect.framing == "eventstream":
        return eventstream.EventStreamDecoder()
    return Decoder() if dialect.framing == "sse" else LineDecoder()


def decoder_of(dialect: Dialect, reading: Reading) -> ChunkDecoder:
    """What reads one stream's events, reasoning inside the text included."""
    decode = dialect.stream_decoder(reading)
    if reading.think_inline == "no":
        return decode
    return ThinkDecoder(decode, opened=reading.think_inline == "opened")


def translate_request(
    body: bytes, source: Dialect, target: Dialect, rendering: Rendering, path: str = ""
) -> EncodedRequest | Failure:
    """A request for ``target``; a failure for one that ``source`` does not allow.

    A rendering without a model leaves the client's. ``dropped`` also names the needs that cannot be met.
    """
    request = source.parse_request(body, path)
    if isinstance(request, Failure):
        return request
    rendering = replace(rendering, model=rendering.model or request.model)
    if request.effort != "auto" and not rendering.effort:
        efforts = efforts_of(rendering.quirks, target.efforts)
        level = nearest(efforts, request.effort)
        if level is not None:
            rendering = replace(rendering, effort=efforts[level])
    encoded = target.encode_request(request, rendering)
    # A router would have looked for another target.
    unsaid = request.needs & (target.lacks | (rendering.quirks.lacks or frozenset()))
    return replace(encoded, dropped=tuple(dict.fromkeys((*encoded.dropped, *sorted(unsaid)))))


def translate_response(
    body: bytes, source: Dialect, target: Dialect, envelope: Envelope, reading: Reading = UNREAD
) -> bytes | Failure:
    """A whole answer; a failure for an error and for what is no answer."""
    completion = source.decode_completion(body, reading)
    if isinstance(completion, Failure):
        return completion
    if reading.think_inline != "no":
        completion = without_thinking(completion)
    return target.encode_completion(completion, named(completion, envelope))


def named(answer: Chunk | Completion, expected: Envelope) -> Envelope:
    """The names the provider gave its answer, and ``expected`` where it gave none."""
    return Envelope(
        id=answer.id or expected.id,
        created=answer.created or expected.created,
        model=answer.model or expected.model,
    )


class StreamTranslator:
    """One stream. After ``end`` either ``complete`` holds, or ``failure`` says what was wrong with it."""

    def __init__(
        self, source: Dialect, target: Dialect, envelope: Envelope, reading: Reading = UNREAD
    ) -> None:
        self._target = target
        self._frames = frames_of(source)
        self._decode = decoder_of(source, reading)
        self._normaliser = Normaliser(include_usage=True, seed=reading.seed)
        self._expected = envelope
        self._encode: ChunkEncoder | None = None
        self.complete = False
        self.failure: Failure | None = None

    def receive(self, data: bytes) -> bytes:
        """What the bytes of one read become."""
        out: list[bytes] = []
        try:
            for frame in self._frames.receive(data):
                self._take(frame, out)
        except WireError as error:
            self._fail(Failure(FailureClass.SERVER, str(error), code="bad_upstream_response"), out)
        return b"".join(out)

    def end(self) -> bytes:
        """What is left when the stream has ended."""
        out: list[bytes] = []
        try:
            frame = self._frames.end()
            if frame is not None:
                self._take(frame, out)
        except WireError as error:
            self._fail(Failure(FailureClass.TRUNCATED, str(error), code="stream_truncated"), out)
        if not self.complete and self.failure is None:
            if self._normaliser.finished:
                self._complete(out)
            else:
                cut = Failure(FailureClass.TRUNCATED, "The stream broke off.", code="stream_truncated")
                self._fail(cut, out)
        return b"".join(out)

    def _take(self, frame: Frame, out: list[bytes]) -> None:
        if self.complete or self.failure is not None:
            return
        chunk = self._decode(frame.data)
        chunks = self._normaliser.receive(chunk)
        failure = chunk.failure or self._normaliser.failure
        if failure is not None:
            self._fail(failure, out)
            return
        self._write(chunks, out)
        if self._normaliser.done:
            self._complete(out)

    def _write(self, chunks: Iterable[Chunk], out: list[bytes]) -> None:
        for chunk in chunks:
            if self._encode is None:
                self._encode = self._target.stream_encoder(named(chunk, self._expected))
            out.append(self._encode(chunk))

    def _complete(self, out: list[bytes]) -> None:
        if not self._normaliser.content:
            empty = Failure(FailureClass.EMPTY, "The stream is empty.", code="bad_upstream_response")
            self._fail(empty, out)
            return
        self._write([*self._normaliser.end(complete=True), Chunk(done=True)], out)
        self.complete = True

    def _fail(self, failure: Failure, out: list[bytes]) -> None:
        if self.complete or self.failure is not None:
            return
        self.failure = failure
        out.append(self._target.frame_error(error_body(failure, self._target)))


def error_body(failure: Failure, target: Dialect) -> bytes:
    """A failure as ``target`` words errors."""
    reaction = failure.reaction
    status = failure.status or reaction.status
    return target.encode_error(
        status, failure.message, reaction.type, failure.code or reaction.code, failure.param
    )

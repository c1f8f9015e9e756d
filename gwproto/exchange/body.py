"""From a provider's response body to the client's, whatever form either has.

==============  ====================  =======================
provider sends  client wants a stream client wants one object
==============  ====================  =======================
event stream    :class:`StreamBody`   :class:`AssembledBody`
one object      :class:`UnrolledBody` :class:`WholeBody`
==============  ====================  =======================
"""

from gwproto.exchange.gears import Body, StreamBody
from gwproto.failures import Failure, WireError
from gwproto.sse.encoder import DONE
from gwproto.sse.frame import Frame
from gwproto.values import Headers
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.dialects import Dialect
from gwproto.wire.legacy import with_legacy_calls
from gwproto.wire.neutral import UNREAD, Chunk, Completion, Envelope, Reading
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.completion import encode_completion
from gwproto.wire.openai.stream import encode_chunk
from gwproto.wire.thinking import without_thinking
from gwproto.wire.translate import decoder_of, frames_of, named

MAX_BODY = 64 * 1024 * 1024  # of a provider's answer
MAX_ERROR_BODY = 64 * 1024  # of an error answer: the rest says nothing more

BLANK = b" \t\r\n\xef\xbb\xbf"  # white space and the bytes of a BOM
_FIELD = b"deir:"  # data event id retry, and a comment's colon


class WholeBody(Body):
    """One object in, one object out."""

    __slots__ = ("_dialect", "_envelope", "_legacy_functions", "_pieces", "_reading", "_size")

    def __init__(
        self, dialect: Dialect, envelope: Envelope, reading: Reading = UNREAD, *, legacy_functions: bool
    ) -> None:
        super().__init__()
        self._legacy_functions = legacy_functions
        self._dialect = dialect
        self._envelope = envelope
        self._reading = reading
        self._pieces: list[bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> bytes:
        self.progress = True
        self._size += len(data)
        if self._size > MAX_BODY:
            self._pieces.clear()
            self._fail("The provider's answer is too large.")
            return b""
        self._pieces.append(data)
        return b""

    def end(self) -> bytes:
        body = b"".join(self._pieces)
        self._pieces.clear()
        result = self._dialect.decode_completion(body, self._reading)
        if not isinstance(result, Completion):
            self.failure = result
            return b""
        if self._reading.think_inline != "no":
            result = without_thinking(result)
        self.usage = result.usage
        self.content = self.complete = True
        return self._encode(result, body)

    def _encode(self, completion: Completion, body: bytes) -> bytes:
        if self._legacy_functions:
            completion = with_legacy_calls(completion)
        if completion.verbatim:
            return body
        return encode_completion(completion, named(completion, self._envelope))


class UnrolledBody(WholeBody):
    """One object in, event stream out."""

    __slots__ = ("_include_usage",)

    def __init__(
        self,
        dialect: Dialect,
        envelope: Envelope,
        reading: Reading = UNREAD,
        *,
        include_usage: bool,
        legacy_functions: bool,
    ) -> None:
        super().__init__(dialect, envelope, reading, legacy_functions=legacy_functions)
        self._include_usage = include_usage

    def _encode(self, completion: Completion, body: bytes) -> bytes:
        normaliser = Normaliser(include_usage=self._include_usage, legacy_functions=self._legacy_functions)
        chunks = [one for chunk in to_chunks(completion) for one in normaliser.receive(chunk)]
        chunks += normaliser.end(complete=True)
        envelope = named(completion, self._envelope)
        return b"".join([*(encode_chunk(chunk, envelope) for chunk in chunks), DONE])


class AssembledBody(Body):
    """Event stream in, one object out: a :class:`StreamBody` whose client reads neutral chunks."""

    __slots__ = ("_chunks", "_decode", "_decoder", "_envelope", "_normaliser", "_size")

    def __init__(
        self,
        dialect: Dialect,
        envelope: Envelope,
        reading: Reading = UNREAD,
        *,
        legacy_functions: bool,
    ) -> None:
        super().__init__()
        self._decode = decoder_of(dialect, reading)
        self._envelope = envelope
        self._decoder = frames_of(dialect)
        self._normaliser = Normaliser(
            include_usage=True, legacy_functions=legacy_functions, seed=reading.seed
        )
        self._chunks: list[Chunk] = []
        self._size = 0

    def receive(self, data: bytes) -> bytes:
        self.progress = False
        room = MAX_BODY - self._size
        self._size += len(data)
        try:
            for frame in self._decoder.receive(data[:room]):
                self._take(frame)
                if self._normaliser.done or self.failure is not None:
                    break
        except WireError as error:
            self._fail(str(error))
        if self._normaliser.done and self.failure is None:
            return self._complete()
        if self._size > MAX_BODY and self.failure is None:
            self._fail("The provider's answer is too large.")
        return b""

    def _take(self, frame: Frame) -> None:
        chunk = self._decode(frame.data)
        self.progress = True
        if chunk.failure is None:
            self._chunks += self._normaliser.receive(chunk)
        self.failure = chunk.failure or self._normaliser.failure

    def end(self) -> bytes:
        try:
            frame = self._decoder.end()
            if frame is not None:
                self._take(frame)
        except WireError:
            return super().cut()
        if self.failure is not None:
            return b""
        return self._complete() if self._normaliser.done else self.cut()

    @property
    def finished(self) -> bool:
        return self._normaliser.finished and not self._decoder.pending

    def cut(self) -> bytes:
        return self._complete() if self.finished else super().cut()

    def _complete(self) -> bytes:
        if not self._normaliser.content:
            self._fail_empty()
            return b""
        self._chunks += self._normaliser.end(complete=True)
        completion = assemble(self._chunks)
        self.usage = self._normaliser.usage
        self.content = self.complete = True
        return encode_completion(completion, named(completion, self._envelope))


class ErrorBody(Body):
    """The body of an error status: collected, then classified. It never reaches the client."""

    __slots__ = ("_dialect", "_headers", "_pieces", "_reading", "_size", "_status")

    def __init__(self, dialect: Dialect, status: int, headers: Headers, reading: Reading) -> None:
        super().__init__()
        self._dialect = dialect
        self._status = status
        self._headers = headers
        self._reading = reading
        self._pieces: list[bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> bytes:
        self._pieces.append(data[: MAX_ERROR_BODY - self._size])
        self._size += len(data)
        return self.end() if self._size >= MAX_ERROR_BODY else b""

    def end(self) -> bytes:
        self.failure = self.classify()
        return b""

    def cut(self) -> bytes:
        return self.end()

    def classify(self) -> Failure:
        """What the status, the headers and as much of the body as there is say together."""
        return self._dialect.decode_error(self._status, self._headers, b"".join(self._pieces), self._reading)


def choose(
    first: bytes,
    dialect: Dialect,
    envelope: Envelope,
    reading: Reading = UNREAD,
    *,
    stream: bool,
    include_usage: bool,
    legacy: bool,
) -> Body | None:
    """The body for an answer that begins with ``first``; None while only blanks have come.

    What was asked for and the content type both lie at times, the first byte does not: no event stream begins with
    a bracket, and no JSON or HTML with a field name. Only where a stream is lines of JSON does a brace begin both, and
    a whole answer reads like a stream of one line.
    """
    start = first.lstrip(BLANK)[:1]
    if not start:
        return None
    whole = start in b'{[<"' and not (stream and start == b"{" and dialect.framing == "ndjson")
    if stream:
        body = UnrolledBody if whole else StreamBody
        return body(dialect, envelope, reading=reading, include_usage=include_usage, legacy_functions=legacy)
    if whole or start not in _FIELD:  # by one byte, or the choice would depend on how the bytes were split
        return WholeBody(dialect, envelope, reading, legacy_functions=legacy)
    return AssembledBody(dialect, envelope, reading, legacy_functions=legacy)

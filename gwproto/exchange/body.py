"""From a provider's response body to the client's, whatever form either has.

==============  ====================  =======================
provider sends  client wants a stream client wants one object
==============  ====================  =======================
event stream    :class:`StreamBody`   :class:`AssembledBody`
one object      :class:`UnrolledBody` :class:`WholeBody`
==============  ====================  =======================
"""

from gwproto.exchange.gears import Body, StreamBody, named
from gwproto.failures import Failure, WireError
from gwproto.sse.decoder import Decoder, Frame
from gwproto.sse.encoder import DONE
from gwproto.values import Headers
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.dialects import DIALECTS, Dialect
from gwproto.wire.neutral import Chunk, Completion
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.stream import Envelope

MAX_BODY = 64 * 1024 * 1024  # of a provider's answer
MAX_ERROR_BODY = 64 * 1024  # of an error answer: the rest says nothing more

_OPENAI = DIALECTS["openai"]  # what clients speak
BLANK = b" \t\r\n\xef\xbb\xbf"  # white space and the bytes of a BOM
_FIELD = b"deir:"  # data event id retry, and a comment's colon


class WholeBody(Body):
    """One object in, one object out."""

    __slots__ = ("_dialect", "_envelope", "_pieces", "_size")

    def __init__(self, dialect: Dialect, envelope: Envelope) -> None:
        super().__init__()
        self._dialect = dialect
        self._envelope = envelope
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
        result = self._dialect.decode_completion(body)
        if isinstance(result, Failure):
            self.failure = result
            return b""
        self.usage = result.usage
        self.content = self.complete = True
        return self._encode(result, body)

    def _encode(self, completion: Completion, body: bytes) -> bytes:
        if completion.verbatim:
            return body
        return _OPENAI.encode_completion(completion, named(completion, self._envelope))


class UnrolledBody(WholeBody):
    """One object in, event stream out."""

    __slots__ = ("_include_usage", "_legacy_functions")

    def __init__(
        self, dialect: Dialect, envelope: Envelope, *, include_usage: bool, legacy_functions: bool
    ) -> None:
        super().__init__(dialect, envelope)
        self._include_usage = include_usage
        self._legacy_functions = legacy_functions

    def _encode(self, completion: Completion, body: bytes) -> bytes:
        normaliser = Normaliser(include_usage=self._include_usage, legacy_functions=self._legacy_functions)
        chunks = [one for chunk in to_chunks(completion) for one in normaliser.receive(chunk)]
        chunks += normaliser.end(complete=True)
        envelope = named(completion, self._envelope)
        return b"".join([*(_OPENAI.encode_chunk(chunk, envelope) for chunk in chunks), DONE])


class AssembledBody(Body):
    """Event stream in, one object out: a :class:`StreamBody` whose client reads neutral chunks."""

    __slots__ = ("_chunks", "_decoder", "_dialect", "_envelope", "_normaliser", "_size")

    def __init__(self, dialect: Dialect, envelope: Envelope, *, legacy_functions: bool) -> None:
        super().__init__()
        self._dialect = dialect
        self._envelope = envelope
        self._decoder = Decoder()
        self._normaliser = Normaliser(include_usage=True, legacy_functions=legacy_functions)
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
        chunk = self._dialect.decode_chunk(frame.data)
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
        return _OPENAI.encode_completion(completion, named(completion, self._envelope))


class ErrorBody(Body):
    """The body of an error status: collected, then classified. It never reaches the client."""

    __slots__ = ("_dialect", "_headers", "_pieces", "_size", "_status", "_wall")

    def __init__(self, dialect: Dialect, status: int, headers: Headers, wall: float) -> None:
        super().__init__()
        self._dialect = dialect
        self._status = status
        self._headers = headers
        self._wall = wall
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
        return self._dialect.decode_error(self._status, self._headers, b"".join(self._pieces), self._wall)


def choose(
    first: bytes, dialect: Dialect, envelope: Envelope, *, stream: bool, include_usage: bool, legacy: bool
) -> Body | None:
    """The body for an answer that begins with ``first``; None while only blanks have come.

    What was asked for and the content type both lie at times, the first byte does not: no event stream begins with
    a bracket, and no JSON or HTML with a field name.
    """
    start = first.lstrip(BLANK)[:1]
    if not start:
        return None
    whole = start in b'{[<"'
    if stream:
        if whole:
            return UnrolledBody(dialect, envelope, include_usage=include_usage, legacy_functions=legacy)
        return StreamBody(dialect, envelope, include_usage=include_usage, legacy_functions=legacy)
    if whole or start not in _FIELD:  # by one byte, or the choice would depend on how the bytes were split
        return WholeBody(dialect, envelope)
    return AssembledBody(dialect, envelope, legacy_functions=legacy)

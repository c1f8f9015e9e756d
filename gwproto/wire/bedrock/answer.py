"""Answers of Converse, read: streams and whole ones (Amazon Bedrock Runtime: ConverseStream, Converse).

An answer is a list of blocks: text, reasoning, tool calls, and others of no use to OpenAI's clients. A stream's events
are those of :mod:`gwproto.sse.eventstream`; text begins without a word. A whole answer is read as the same blocks, each
complete.
"""

from typing import Literal

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse.eventstream import EventStreamDecoder
from gwproto.values import Usage
from gwproto.wire.bedrock.reasoning import Block, kept, signed
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.native import count_of, members
from gwproto.wire.neutral import Chunk, Completion, Delta, RawFields, Reading, ToolFragment
from gwproto.wire.openai import completion as openai
from gwproto.wire.openai.errors import clean, failure_of, in_band_failure, read_signs
from gwproto.wire.openai.parts import fields_of, list_of, text_of, value_of
from gwproto.wire.strict import too_deep
from gwproto.wire.whole import completed


# The event that streams are made of, decoded in one step.
class _Text(Struct, gc=False):
    text: str


class _Delta(Struct, gc=False):
    delta: _Text


class _TextEvent(Struct, gc=False):
    e: Literal["contentBlockDelta"]
    p: _Delta


_text_decoder = msgspec.json.Decoder(_TextEvent)

_NOTHING = Chunk()


class _Thought(Struct, gc=False):
    """A block of reasoning so far."""

    texts: list[str]
    signature: str = ""


class _Stream:
    """One stream's decoder. It remembers which blocks are tool calls, and reasoning until its block ends."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._tools: set[int] = set()
        self._thoughts: dict[int, _Thought] = {}
        self._kept = 0  # blocks of reasoning given away

    def __call__(self, data: bytes) -> Chunk:
        """What one event says. Raises :class:`WireError` for anything but a JSON object, and for what was no frame."""
        if data.count(b"[") + data.count(b"{") > 128 and too_deep(data):
            raise WireError("JSON cut short or nested too deeply")
        try:
            event = _text_decoder.decode(data)
        except msgspec.DecodeError:
            return self._odd(data)
        return Chunk((Delta(0, False, event.p.delta.text),))

    def _odd(self, data: bytes) -> Chunk:
        """Every other event, and deltas that are not as documented."""
        fields = members(data)
        if "w" in fields:
            raise WireError(clean(text_of(fields["w"]) or ""))
        payload = fields_of(fields.get("p"))
        if "x" in fields:
            return Chunk(failure=self._failure(fields, payload))
        kind = text_of(fields.get("e"))
        if kind == "messageStart":
            return Chunk((Delta(role=True),))
        if kind == "contentBlockStart":
            return self.start_call(_index(payload), fields_of(fields_of(payload.get("start")).get("toolUse")))
        if kind == "contentBlockDelta":
            return self._delta(_index(payload), fields_of(payload.get("delta")))
        if kind == "contentBlockStop":
            return self._stop_block(_index(payload))
        if kind == "messageStop":
            return Chunk((Delta(finish=text_of(payload.get("stopReason"))),))
        if kind == "metadata":
            return Chunk(usage=usage_of(fields_of(payload.get("usage"))), done=True)
        return _NOTHING  # what later versions bring

    def _failure(self, fields: RawFields, payload: RawFields) -> Failure:
        """An exception says its message in its payload, or is no more than it; an error in a header."""
        words = (text_of(payload.get("message")), text_of(fields.get("m")), text_of(fields.get("p")))
        message = next((text for text in words if text), "")
        return failure_of(read_signs({"type": text_of(fields["x"]), "message": message}), {}, self._reading)

    def start_call(self, index: int, call: RawFields) -> Chunk:
        """A block begins; all but tool calls do without saying so."""
        if not call or "type" in call:  # a tool that runs at the provider's
            return _NOTHING
        self._tools.add(index)
        name = text_of(call.get("name")) or ""
        fragment = ToolFragment(index, text_of(call.get("toolUseId")), name, _input(call.get("input")))
        return Chunk((Delta(tools=(fragment,)),))

    def _delta(self, index: int, delta: RawFields) -> Chunk:
        if "toolUse" in delta:
            if index not in self._tools:
                return _NOTHING
            arguments = text_of(fields_of(delta["toolUse"]).get("input")) or ""
            return Chunk((Delta(tools=(ToolFragment(index, arguments=arguments),)),))
        if "reasoningContent" in delta:
            return self._reasoning(index, fields_of(delta["reasoningContent"]))
        text = text_of(delta.get("text"))
        return _NOTHING if text is None else Chunk((Delta(0, False, text),))

    def _reasoning(self, index: int, reasoning: RawFields) -> Chunk:
        if redacted := text_of(reasoning.get("redactedContent")):
            return self._keep({"redactedContent": redacted})
        thought = self._thoughts.setdefault(index, _Thought([]))
        thought.signature += text_of(reasoning.get("signature")) or ""
        text = text_of(reasoning.get("text"))
        if text is None:
            return _NOTHING
        thought.texts.append(text)
        return Chunk((Delta(reasoning=text),))

    def _stop_block(self, index: int) -> Chunk:
        """A block ends. Reasoning that the provider can verify is given to the client, to be sent back."""
        thought = self._thoughts.pop(index, None)
        if thought is None or not thought.signature:
            return _NOTHING
        return self._keep(signed("".join(thought.texts), thought.signature))

    def _keep(self, block: Block) -> Chunk:
        """The numbers are for clients that join streamed lists by them, as OpenAI's SDK does."""
        numbered = {"index": self._kept, **block}
        self._kept += 1
        return Chunk((Delta(extra=kept([numbered])),))

    def whole_block(self, index: int, block: RawFields) -> list[Chunk]:
        """A whole answer's block."""
        if "toolUse" in block:
            return [self.start_call(index, fields_of(block["toolUse"]))]
        if "reasoningContent" in block:
            reasoning = fields_of(block["reasoningContent"])
            inner = fields_of(reasoning.get("reasoningText"))
            return [self._reasoning(index, reasoning | inner), self._stop_block(index)]
        cited = list_of(fields_of(block.get("citationsContent")).get("content"))
        said = [block, *map(fields_of, cited)]
        texts = [text for one in said if (text := text_of(one.get("text"))) is not None]
        return [Chunk((Delta(0, False, text),)) for text in texts]


def stream_decoder(reading: Reading) -> ChunkDecoder:
    """One for each stream: an event means something only after those before it."""
    return _Stream(reading)


def _index(payload: RawFields) -> int:
    index = value_of(payload.get("contentBlockIndex"))
    return index if type(index) is int else -1


def _input(raw: Raw | None) -> str:
    """A call's input as JSON text; none in a stream, where pieces of it follow."""
    text = bytes(memoryview(raw or b"")).decode()
    return text if text.startswith("{") else ""


def usage_of(usage: RawFields) -> Usage | None:
    """The counts. Bedrock's ``inputTokens`` leave out what was read from the cache or written to it."""
    read, written = count_of(usage, "cacheReadInputTokens"), count_of(usage, "cacheWriteInputTokens")
    prompt = (count_of(usage, "inputTokens") or 0) + (read or 0) + (written or 0)
    output = count_of(usage, "outputTokens") or 0
    if not (prompt or output):
        return None
    return Usage(prompt, output, prompt + output, read, None, written)


def decode_completion(body: bytes, reading: Reading) -> Completion | Failure:
    """A 200's body, normalised, or why it is no answer. The frames of a stream are one too."""
    if body.startswith(b"\0"):  # the zero that frames' lengths begin with, and no JSON does
        return _streamed(body, reading)
    try:
        fields = members(body)
    except WireError:
        return openai.decode_completion(body, reading)  # which says what is wrong with it
    return in_band_failure(fields, reading) or completed(_chunks(fields, reading), reading.seed)


def _chunks(fields: RawFields, reading: Reading) -> list[Chunk]:
    stream = _Stream(reading)
    message = fields_of(fields_of(fields.get("output")).get("message"))
    chunks = [Chunk((Delta(role=True),))]
    for index, block in enumerate(list_of(message.get("content"))):
        chunks += stream.whole_block(index, fields_of(block))
    finish = text_of(fields.get("stopReason"))
    chunks.append(Chunk((Delta(finish=finish),), usage=usage_of(fields_of(fields.get("usage")))))
    return chunks


def _streamed(body: bytes, reading: Reading) -> Completion | Failure:
    frames, decode = EventStreamDecoder(), _Stream(reading)
    chunks: list[Chunk] = []
    try:
        for frame in frames.receive(body):
            chunk = decode(frame.data)
            chunks.append(chunk)
            if chunk.done or chunk.failure is not None:
                return completed(chunks, reading.seed)
        frames.end()
    except WireError as error:
        message = f"The provider's answer cannot be read: {error}."
        return Failure(FailureClass.SERVER, message, code="bad_upstream_response")
    if any(delta.finish for chunk in chunks for delta in chunk.deltas):
        return completed(chunks, reading.seed)
    return Failure(FailureClass.TRUNCATED, "The provider's answer was cut off.", code="stream_truncated")

"""Answers of the Messages API, read: streams and whole ones (Anthropic: messages API, streaming).

An answer is a list of blocks: text, thinking, tool calls, and others of no use to OpenAI's clients. A whole answer is
read as a stream in which every block is complete when it starts.
"""

from typing import Literal

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.values import Usage
from gwproto.wire.classify import Signs
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.native import members
from gwproto.wire.neutral import Chunk, Completion, Delta, RawFields, Reading, ToolFragment
from gwproto.wire.openai import completion as openai
from gwproto.wire.openai.errors import failure_of, in_band_failure
from gwproto.wire.openai.parts import fields_of, list_of, text_of, value_of
from gwproto.wire.strict import repair, too_deep
from gwproto.wire.whole import completed


# The three deltas that streams are made of, decoded in one step.
class _Text(Struct, gc=False, tag="text_delta"):
    text: str


class _Thinking(Struct, gc=False, tag="thinking_delta"):
    thinking: str


class _Json(Struct, gc=False, tag="input_json_delta"):
    partial_json: str


class _BlockDelta(Struct, gc=False):
    type: Literal["content_block_delta"]
    index: int
    delta: _Text | _Thinking | _Json


_delta_decoder = msgspec.json.Decoder(_BlockDelta)
_encode = msgspec.json.Encoder().encode

_NOTHING = Chunk()


class _Thought(Struct, gc=False):
    """A thinking block so far. One that is redacted has ``data`` and no text."""

    texts: list[str]
    signature: str = ""
    data: str = ""


class _Stream:
    """One stream's decoder. It remembers which blocks are tool calls, and thinking until its block ends."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._id: str | None = None  # the message's; None: none has begun
        self._said = False  # anything but reasoning
        self._usage: RawFields = {}
        self._tools: set[int] = set()
        self._thoughts: dict[int, _Thought] = {}
        self._kept = 0  # thinking blocks given away

    def __call__(self, data: bytes) -> Chunk:
        """What one event says. Raises :class:`WireError` for anything but a JSON object."""
        if data.count(b"[") + data.count(b"{") > 128 and too_deep(data):
            raise WireError("JSON cut short or nested too deeply")
        try:
            event = _delta_decoder.decode(data)
        except msgspec.DecodeError:
            return self._odd(data)
        delta = event.delta
        if isinstance(delta, _Text):
            return self._text(delta.text)
        if isinstance(delta, _Thinking):
            return self._thinking(event.index, delta.thinking)
        return self._arguments(event.index, delta.partial_json)

    def _odd(self, data: bytes) -> Chunk:
        """Every other event, and deltas that are not as documented."""
        text = data.decode("utf-8", "replace").strip()
        if text and not text.startswith("{"):
            raise WireError("not a JSON object")
        fields = _fields(text) if text else {}
        kind = text_of(fields.get("type"))
        if kind == "message_start":
            return self._start_message(fields_of(fields.get("message")))
        if kind == "content_block_start":
            return self.start_block(_index(fields), fields_of(fields.get("content_block")))
        if kind == "content_block_delta":
            return self._delta(_index(fields), fields_of(fields.get("delta")))
        if kind == "content_block_stop":
            return self.stop_block(_index(fields))
        if kind == "message_delta":
            return self._finish(fields)
        if kind == "message_stop":
            return Chunk(done=True)
        if kind in ("error", None) or "error" in fields:
            failure = in_band_failure(fields, self._reading)
            if failure is None and kind == "error":
                failure = failure_of(Signs(), {}, self._reading)
            return Chunk(failure=failure)
        return _NOTHING  # a ping, or what later versions bring

    def _start_message(self, message: RawFields) -> Chunk:
        """The beginning. A second one is a duplicate, or another try whose blocks replace those before.

        Text that a client has cannot be taken back, reasoning need not be.
        """
        id_ = text_of(message.get("id")) or ""
        if self._id is not None:
            if id_ == self._id:
                return _NOTHING
            if self._said:
                words = "The provider's stream began a second message."
                return Chunk(failure=Failure(FailureClass.SERVER, words, code="bad_upstream_response"))
            self._thoughts.clear()
        self._id = id_
        self._usage = fields_of(message.get("usage"))
        return Chunk((Delta(role=True),), id_, 0, text_of(message.get("model")) or "")

    def start_block(self, index: int, block: RawFields) -> Chunk:
        """A block begins; in a whole answer it is all there."""
        kind = text_of(block.get("type"))
        if kind == "text":
            return self._text(text_of(block.get("text")) or "")
        if kind == "tool_use":
            self._said = True
            self._tools.add(index)
            fragment = ToolFragment(
                index, text_of(block.get("id")), text_of(block.get("name")) or "", _input(block.get("input"))
            )
            return Chunk((Delta(tools=(fragment,)),))
        self._tools.discard(index)
        if kind == "thinking":
            self._thoughts[index] = _Thought([], text_of(block.get("signature")) or "")
            return self._thinking(index, text_of(block.get("thinking")) or "")
        if kind == "redacted_thinking":
            self._thoughts[index] = _Thought([], data=text_of(block.get("data")) or "")
        return _NOTHING

    def _delta(self, index: int, delta: RawFields) -> Chunk:
        kind = text_of(delta.get("type"))
        if kind == "text_delta":
            return self._text(text_of(delta.get("text")) or "")
        if kind == "thinking_delta":
            return self._thinking(index, text_of(delta.get("thinking")) or "")
        if kind == "input_json_delta":
            return self._arguments(index, text_of(delta.get("partial_json")) or "")
        if kind == "signature_delta" and index in self._thoughts:
            self._thoughts[index].signature = text_of(delta.get("signature")) or ""
        return _NOTHING

    def _text(self, text: str) -> Chunk:
        if text:
            self._said = True
        return Chunk((Delta(0, False, text),))

    def _thinking(self, index: int, text: str) -> Chunk:
        if index in self._thoughts:
            self._thoughts[index].texts.append(text)
        return Chunk((Delta(reasoning=text),), remembered=True)  # what is signed must be kept whole

    def _arguments(self, index: int, text: str) -> Chunk:
        if index not in self._tools:
            return _NOTHING  # a tool that runs at the provider's
        return Chunk((Delta(tools=(ToolFragment(index, arguments=text),)),))

    def stop_block(self, index: int) -> Chunk:
        """A block ends. Thinking that the provider can verify is given to the client, to be sent back.

        The numbers are for clients that join streamed lists by them, as OpenAI's SDK does.
        """
        thought = self._thoughts.pop(index, None)
        if thought is None or not (thought.signature or thought.data):
            return _NOTHING
        block: dict[str, object] = {"index": self._kept}
        if thought.data:
            block |= {"type": "redacted_thinking", "data": thought.data}
        else:
            block |= {
                "type": "thinking",
                "thinking": "".join(thought.texts),
                "signature": thought.signature,
            }
        self._kept += 1
        content = Raw(_encode({"anthropic": {"thinking_blocks": [block]}}))
        return Chunk((Delta(extra={"extra_content": content}),))

    def _finish(self, fields: RawFields) -> Chunk:
        finish = text_of(fields_of(fields.get("delta")).get("stop_reason"))
        if finish is not None:
            self._said = True
        usage = usage_of(self._usage | fields_of(fields.get("usage")))
        return Chunk((Delta(finish=finish),), usage=usage)


def stream_decoder(reading: Reading) -> ChunkDecoder:
    """One for each stream: an event means something only after those before it."""
    return _Stream(reading)


def _fields(text: str) -> RawFields:
    document = text.encode()
    try:
        return fields_of(Raw(document))
    except msgspec.DecodeError:
        return fields_of(Raw(repair(document)))


def _index(fields: RawFields) -> int:
    index = value_of(fields.get("index"))
    return index if type(index) is int else -1


def _input(raw: Raw | None) -> str:
    """A call's input as JSON text; none for an empty object, which stands there when pieces are to follow."""
    text = bytes(memoryview(raw or b"")).decode()
    return text if text.startswith("{") and text[1:].strip() != "}" else ""


def _count(raw: Raw | None) -> int | None:
    value = value_of(raw)
    return value if type(value) is int and value >= 0 else None


def usage_of(usage: RawFields) -> Usage | None:
    """The counts. Anthropic's ``input_tokens`` leave out what was read from the cache or written to it."""
    read = _count(usage.get("cache_read_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    prompt = (_count(usage.get("input_tokens")) or 0) + (read or 0) + (written or 0)
    output = _count(usage.get("output_tokens")) or 0
    if not (prompt or output):
        return None
    thinking = _count(fields_of(usage.get("output_tokens_details")).get("thinking_tokens"))
    return Usage(prompt, output, prompt + output, read, thinking, written)


def decode_completion(body: bytes, reading: Reading) -> Completion | Failure:
    """A 200's body, normalised, or why it is no answer: an error in it, nothing in it, or not JSON at all."""
    try:
        fields = members(body)
    except WireError:
        return openai.decode_completion(body, reading)  # which says what is wrong with it
    failure = in_band_failure(fields, reading)
    return failure or completed(_chunks(fields, reading), reading.seed)


def _chunks(fields: RawFields, reading: Reading) -> list[Chunk]:
    stream = _Stream(reading)
    id_, model = text_of(fields.get("id")) or "", text_of(fields.get("model")) or ""
    chunks = [Chunk((Delta(role=True),), id_, 0, model)]
    for index, block in enumerate(list_of(fields.get("content"))):
        chunks += (stream.start_block(index, fields_of(block)), stream.stop_block(index))
    finish = text_of(fields.get("stop_reason"))
    chunks.append(Chunk((Delta(finish=finish),), usage=usage_of(fields_of(fields.get("usage")))))
    return chunks

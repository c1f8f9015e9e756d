"""Answers as the service gives them (Cloudflare: Workers AI, text generation).

Three shapes, by model: its own (``response``, ``tool_calls``, ``usage``), OpenAI's chat completion (``choices``), and
for some OpenAI's Responses (``output``). Whole answers usually stand in the ``result`` of Cloudflare's envelope.
"""

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from gwproto.failures import Failure, WireError
from gwproto.values import Usage
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.neutral import Chunk, Completion, Delta, RawFields, Reading, ToolFragment
from gwproto.wire.openai import completion as openai
from gwproto.wire.openai.errors import failure_of, in_band_failure, read_signs
from gwproto.wire.openai.parts import (
    encoder,
    fields_of,
    first_of,
    list_of,
    text_of,
    tool_fragment,
    value_of,
)
from gwproto.wire.openai.stream import decode_chunk
from gwproto.wire.openai.usage import decode_usage
from gwproto.wire.strict import repair, too_deep
from gwproto.wire.whole import completed
from gwproto.wire.workers_ai.responses import chunk_of_response


class _Text(Struct, gc=False, forbid_unknown_fields=True):
    """Nearly every event. ``p`` is padding against traffic analysis."""

    response: str
    p: str = ""


_text_event = msgspec.json.Decoder(_Text).decode

# What the service adds to OpenAI's shape: its own shape once more, and padding.
_NATIVE = frozenset(("response", "tool_calls", "p"))


def stream_decoder(reading: Reading) -> ChunkDecoder:
    """One stream's decoder: why the stream ended shows only in its count of tokens."""
    return _StreamDecoder(reading)


class _StreamDecoder:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._usage: Usage | None = None
        self._finished = False  # in words, or by a tool call

    def __call__(self, data: bytes) -> Chunk:
        """What one event says. Raises :class:`WireError` for anything but a JSON object or ``[DONE]``."""
        try:
            return Chunk((Delta(content=_text_event(data).response),))
        except (msgspec.DecodeError, UnicodeDecodeError):
            chunk = self._odd(data.strip())
        if chunk.usage is not None:
            self._usage = chunk.usage
        for delta in chunk.deltas:
            self._finished = self._finished or bool(delta.tools or delta.finish)
        return chunk

    def _odd(self, text: bytes) -> Chunk:
        if text.startswith(b"[DONE]"):
            cut = not self._finished and _used_up(self._usage, self._reading)
            return Chunk((Delta(finish="length"),) if cut else (), done=True)
        if not text:
            return Chunk()
        answer = _opened(text, self._reading)
        if isinstance(answer, Failure):
            return Chunk(failure=answer)
        fields = fields_of(answer)
        if "choices" in fields:
            return _without_native(decode_chunk(bytes(memoryview(answer)), self._reading))
        return _native(fields)


def _used_up(usage: Usage | None, reading: Reading) -> bool:
    """Did the answer stop where the request said it must? The native shape has no finish reason."""
    allowed = reading.max_tokens
    return usage is not None and allowed is not None and usage.completion_tokens >= allowed


def _opened(text: bytes, reading: Reading) -> Raw | Failure:
    """The answer, taken out of the envelope it may stand in, or the failure that is there instead."""
    if too_deep(text):
        raise WireError("JSON cut short or nested too deeply")
    text = text.decode("utf-8", "replace").encode()
    try:
        document = first_of(Raw(text))
        fields = fields_of(document)
    except msgspec.DecodeError:
        document = first_of(Raw(repair(text)))
        fields = fields_of(document)
    if "success" in fields:
        if value_of(fields["success"]) is False:
            envelope = {name: value_of(value) for name, value in fields.items()}
            return failure_of(read_signs(envelope), {}, reading)
        document = fields.get("result", Raw(b"{}"))
        fields = fields_of(document)
    elif not bytes(memoryview(document)).startswith(b"{"):
        raise WireError("not a JSON object")
    return in_band_failure(fields, reading) or document


def _without_native(chunk: Chunk) -> Chunk:
    """An OpenAI chunk without what Cloudflare adds: native fields, and tool calls that say nothing."""
    deltas = tuple(
        [
            delta if all(map(_says, delta.tools)) else replace(delta, tools=tuple(filter(_says, delta.tools)))
            for delta in chunk.deltas
        ]
    )
    if deltas == chunk.deltas and _NATIVE.isdisjoint(chunk.extra):
        return chunk
    extra = {name: value for name, value in chunk.extra.items() if name not in _NATIVE}
    return replace(chunk, deltas=deltas, extra=extra, verbatim=False)


def _says(fragment: ToolFragment) -> bool:
    return bool(fragment.id or fragment.name or fragment.arguments)


def _native(fields: RawFields) -> Chunk:
    content = _token(fields.get("response"))
    tools = tuple(filter(_says, map(_fragment, list_of(fields.get("tool_calls")))))
    deltas = (Delta(content=content, tools=tools),) if content is not None or tools else ()
    usage, _ = decode_usage(fields["usage"]) if "usage" in fields else (None, None)
    return Chunk(deltas, usage=usage)


def _token(response: Raw | None) -> str | None:
    """Text. One that happens to be JSON (a number, in JSON mode the whole answer) comes as that."""
    if response is None:
        return None
    text = text_of(response)
    return msgspec.json.format(memoryview(response), indent=-1).decode() if text is None else text


def _fragment(raw: Raw) -> ToolFragment:
    fields = fields_of(raw)
    if "function" in fields:
        return tool_fragment(raw)
    # {"name", "arguments"}: a function's fields without the function.
    return tool_fragment(Raw(encoder.encode({"id": fields.get("id"), "function": fields})))


def decode_completion(body: bytes, reading: Reading) -> Completion | Failure:
    """A 200's body, normalised, or why it is no answer."""
    try:
        answer = _opened(body.strip(), reading)
    except WireError:
        return openai.decode_completion(body, reading)  # which says what is wrong with it
    if isinstance(answer, Failure):
        return answer
    fields = fields_of(answer)
    if "choices" not in fields and "output" in fields:
        return completed([chunk_of_response(fields), Chunk(done=True)], reading.seed)
    if "choices" not in fields and not _NATIVE.isdisjoint(fields):
        chunk = _native(fields)
        cut = _used_up(chunk.usage, reading) and not any(delta.tools for delta in chunk.deltas)
        return completed([chunk, Chunk((Delta(finish="length"),) if cut else (), done=True)], reading.seed)
    completion = openai.decode_completion(bytes(memoryview(answer)), reading)
    if isinstance(completion, Failure):
        return completion
    extra = {name: value for name, value in completion.extra.items() if name not in _NATIVE}
    # The bytes of its envelope are no client's.
    return replace(completion, extra=extra, verbatim=False)

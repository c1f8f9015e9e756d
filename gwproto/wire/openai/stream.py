"""Chunks: one event's data in, one whole event out.

Nearly all chunks have only documented keys with documented types. Those are decoded in one step into types that forbid
anything else, so success means that their bytes are fit for a client (``Chunk.verbatim``). Everything else is
taken apart key by key.
"""

from functools import partial

import msgspec
from msgspec import UNSET, Raw

from gwproto.failures import WireError
from gwproto.sse.encoder import DONE
from gwproto.wire.dialect import ChunkDecoder, ChunkEncoder
from gwproto.wire.neutral import UNREAD, Chunk, Delta, Envelope, RawFields, Reading, ToolFragment
from gwproto.wire.openai.chunk_schema import LooseChunk, PlainChunk, PlainTool
from gwproto.wire.openai.errors import in_band_failure
from gwproto.wire.openai.parts import (
    NULL,
    answer_fields,
    choice_index,
    created_of,
    encoder,
    fields_of,
    first_of,
    list_of,
    one_line,
    reasoning_of,
    split_content,
    text_of,
    tool_fragment,
)
from gwproto.wire.openai.usage import decode_usage
from gwproto.wire.strict import repair, too_deep

__all__ = ["Envelope", "decode_chunk", "encode_chunk", "stream_decoder", "stream_encoder"]

_OBJECT = "chat.completion.chunk"

_plain_decoder = msgspec.json.Decoder(PlainChunk)
_loose_decoder = msgspec.json.Decoder(LooseChunk)

_DONE = Chunk(done=True)
_NOTHING = Chunk()


def stream_decoder(reading: Reading) -> ChunkDecoder:
    """OpenAI's events say all by themselves: there is nothing to remember between them."""
    return partial(decode_chunk, reading=reading)


def decode_chunk(data: bytes, reading: Reading = UNREAD) -> Chunk:
    """What one event says. Raises :class:`WireError` for anything but a JSON object or ``[DONE]``.

    An error in any of the shapes seen in streams becomes ``failure``. White space alone is an empty chunk.
    """
    if data == b"[DONE]":
        return _DONE
    if data.count(b"[") + data.count(b"{") > 128 and too_deep(data):
        raise WireError("JSON cut short or nested too deeply")
    try:
        plain = _plain_decoder.decode(data)
    except msgspec.DecodeError:
        return _decode_odd(data, reading)
    extra: RawFields = {}
    if plain.system_fingerprint != NULL:
        extra["system_fingerprint"] = plain.system_fingerprint
    if plain.service_tier != NULL:
        extra["service_tier"] = plain.service_tier
    if plain.obfuscation != NULL:
        extra["obfuscation"] = plain.obfuscation
    usage = raw_usage = None
    verbatim = plain.usage == NULL
    null_usage = verbatim and plain.usage is not NULL
    if not verbatim:
        usage, raw_usage = decode_usage(plain.usage)
    deltas: list[Delta] = []
    for choice in plain.choices:
        delta = choice.delta
        tools: tuple[ToolFragment, ...] = ()
        if delta.tool_calls is not UNSET:
            tools = tuple(map(_fragment, delta.tool_calls))
            if not all(map(_well_formed, delta.tool_calls)):
                verbatim = False
        deltas.append(
            Delta(
                choice.index,
                delta.role is not UNSET,
                delta.content,
                delta.reasoning_content,
                delta.refusal,
                tools,
                choice.finish_reason,
                {},
                {} if choice.logprobs == NULL else {"logprobs": choice.logprobs},
            )
        )
    return Chunk(
        tuple(deltas),
        plain.id,
        plain.created,
        plain.model,
        usage,
        raw_usage,
        None,
        False,
        extra,
        verbatim,
        null_usage,
    )


def _fragment(tool: PlainTool) -> ToolFragment:
    function = tool.function
    name = arguments = None
    if function is not UNSET:
        name = function.name or None
        arguments = function.arguments or None
    return ToolFragment(tool.index, tool.id or None, name, arguments or "")


def _well_formed(tool: PlainTool) -> bool:
    """A first fragment has id, type and name, a later one arguments alone (the SDKs' helpers crash on others)."""
    function = tool.function
    if function is UNSET:
        return False
    if tool.id is UNSET:
        return tool.type is UNSET and function.name is UNSET and function.arguments is not UNSET
    return tool.type is not UNSET and function.name is not UNSET


def _decode_odd(data: bytes, reading: Reading) -> Chunk:
    text = data.strip()
    if text.startswith(b"[DONE]"):
        return _DONE
    if not text:
        return _NOTHING
    strict = True
    try:
        fields = fields_of(first_of(Raw(text)))
    except msgspec.DecodeError:
        strict = False
        fields = fields_of(first_of(Raw(repair(text))))
    failure = in_band_failure(fields, reading)
    if failure is not None:
        return Chunk(failure=failure)
    if not text.startswith(b"{"):
        raise WireError("not a JSON object")
    verbatim, null_usage = _fit(text) if strict else (False, False)
    return _from_fields(fields, verbatim, null_usage)


def _from_fields(fields: RawFields, verbatim: bool, null_usage: bool) -> Chunk:
    usage = raw_usage = None
    if "usage" in fields:
        usage, raw_usage = decode_usage(fields.pop("usage"))
    if usage is None and "x_groq" in fields:
        groq = fields_of(fields["x_groq"])
        if "usage" in groq:
            verbatim = False
            usage, _ = decode_usage(groq["usage"])
    choices = list_of(fields.pop("choices", None))
    deltas = tuple(_odd_choice(fields_of(choice), position) for position, choice in enumerate(choices))
    id_ = text_of(fields.pop("id", None)) or ""
    created = created_of(fields.pop("created", None))
    model = text_of(fields.pop("model", None)) or ""
    fields.pop("object", None)
    fields.pop("error", None)  # an empty one: in JavaScript `{}` counts as an error
    return Chunk(deltas, id_, created, model, usage, raw_usage, None, False, fields, verbatim, null_usage)


def _odd_choice(choice: RawFields, position: int) -> Delta:
    index = choice_index(choice.pop("index", None), position)
    finish = text_of(choice.pop("finish_reason", None)) or None
    delta = fields_of(choice.pop("delta", None))
    role = delta.pop("role", None) is not None
    content, reasoning = split_content(delta.pop("content", None))
    reasoning = reasoning_of(delta) or reasoning
    refusal = text_of(delta.pop("refusal", None))
    delta.pop("index", None)  # Mistral repeats the choice's
    tools = tuple(tool_fragment(tool) for tool in list_of(delta.pop("tool_calls", None)))
    return Delta(index, role, content, reasoning, refusal, tools, finish, delta, choice)


def _fit(text: bytes) -> tuple[bool, bool]:
    """May a client get this chunk as it is, and does it say that usage is null?"""
    try:
        chunk = _loose_decoder.decode(text)
    except msgspec.ValidationError:
        return False, False
    for choice in chunk.choices:
        tools = choice.delta.tool_calls
        if tools is not UNSET and not all(map(_well_formed, tools)):
            return False, False
    return True, chunk.usage is None


def stream_encoder(envelope: Envelope) -> ChunkEncoder:
    """Nothing is remembered here either."""
    return partial(encode_chunk, envelope=envelope)


def encode_chunk(chunk: Chunk, envelope: Envelope) -> bytes:
    """The whole event. Keys that are unknown to us go out as they came, after ours."""
    if chunk.done and not chunk.deltas:
        return DONE
    choices = [_encoded_choice(delta) for delta in chunk.deltas]
    fields = answer_fields(_OBJECT, envelope, choices, chunk)
    return b"data: " + one_line(encoder.encode(fields)) + b"\n\n"


def _encoded_choice(delta: Delta) -> dict[str, object]:
    fields: dict[str, object] = {}
    if delta.role:
        fields["role"] = "assistant"
    if delta.content is not None:
        fields["content"] = delta.content
    elif delta.role:
        # OpenAI's own first chunk of a tool call.
        fields["content"] = None if delta.tools else ""
    if delta.reasoning is not None:
        fields["reasoning_content"] = delta.reasoning
    if delta.refusal is not None:
        fields["refusal"] = delta.refusal
    if delta.tools:
        fields["tool_calls"] = [_encoded_fragment(fragment) for fragment in delta.tools]
    if delta.extra:
        fields.update(delta.extra)
    choice: dict[str, object] = {"index": delta.choice, "delta": fields, "finish_reason": delta.finish}
    if delta.choice_extra:
        choice.update(delta.choice_extra)
    return choice


def _encoded_fragment(fragment: ToolFragment) -> dict[str, object]:
    fields: dict[str, object] = {"index": fragment.index}
    if fragment.id is not None:
        fields["id"] = fragment.id
    if "custom" in fragment.extra:
        fields.update(fragment.extra)
        return fields
    if fragment.id is not None:
        fields["type"] = "function"
    function: dict[str, object] = {}
    if fragment.name is not None:
        function["name"] = fragment.name
    function["arguments"] = fragment.arguments
    fields["function"] = function
    if fragment.extra:
        fields.update(fragment.extra)
    return fields

"""Answers as Google gives them (Gemini API: GenerateContentResponse), each event of a stream being a whole one.

Nearly all of them have the documented types and are decoded in one step. The others, errors among them, are taken
apart key by key; what has a wrong type is as good as absent.
"""

from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from gwproto.failures import Failure, WireError
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.gemini.details import decode_logprobs, decode_usage, signed
from gwproto.wire.neutral import Chunk, Completion, Delta, RawFields, Reading, ToolFragment
from gwproto.wire.openai import completion as openai
from gwproto.wire.openai.errors import in_band_failure
from gwproto.wire.openai.parts import (
    MAX_CHOICE,
    NULL,
    choice_index,
    encoder,
    fields_of,
    first_of,
    list_of,
    text_of,
    value_of,
)
from gwproto.wire.strict import repair, too_deep
from gwproto.wire.whole import completed

_NO_ARGUMENTS = Raw(b"{}")
_BLOCKED = "SAFETY"  # the reasons for blocking a prompt are not those for stopping


class _Call(Struct, gc=False):
    name: str = ""
    id: str = ""
    args: Raw = _NO_ARGUMENTS


class _Blob(Struct, rename="camel", gc=False):
    mime_type: str = ""
    data: str = ""


class _Part(Struct, rename="camel", gc=False):
    """Text, a thought, a call or an image. Code that Google ran and its results are left out."""

    text: str = ""
    thought: bool = False
    thought_signature: str = ""
    function_call: _Call | None = None
    inline_data: _Blob | None = None


class _Content(Struct, frozen=True, gc=False):
    parts: tuple[_Part, ...] = ()


class _Candidate(Struct, rename="camel", gc=False):
    index: Annotated[int, Meta(ge=0, le=MAX_CHOICE)] | None = None
    content: _Content = _Content()
    finish_reason: str | None = None
    logprobs_result: Raw = NULL


class _Event(Struct, rename="camel", gc=False):
    candidates: tuple[_Candidate, ...] = ()
    usage_metadata: Raw = NULL
    response_id: str = ""
    model_version: str = ""
    error: Raw = NULL


_event = msgspec.json.Decoder(_Event)


def stream_decoder(reading: Reading) -> ChunkDecoder:
    """Every event says all by itself: there is nothing to remember between them."""
    return partial(decode_event, reading=reading)


def decode_event(data: bytes, reading: Reading) -> Chunk:
    """What one event says. Raises :class:`WireError` for anything but a JSON object; an error may stand in an array."""
    if too_deep(data):
        raise WireError("JSON cut short or nested too deeply")
    try:
        event = _event.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    else:
        if event.candidates and event.error is NULL:
            return _chunk(event)
    text = data.decode("utf-8", "replace").strip().encode()
    try:
        return _odd_chunk(text, reading)
    except msgspec.DecodeError:
        return _odd_chunk(repair(text), reading)


def _chunk(event: _Event) -> Chunk:
    usage = None if event.usage_metadata is NULL else decode_usage(event.usage_metadata)
    deltas = tuple([_delta(candidate, position) for position, candidate in enumerate(event.candidates)])
    return Chunk(deltas, event.response_id, 0, event.model_version, usage)


def _delta(candidate: _Candidate, position: int) -> Delta:
    content = reasoning = ""
    tools: list[ToolFragment] = []
    images: list[object] = []
    extra: RawFields = {}
    for part in candidate.content.parts:
        if part.function_call is not None:
            tools += _fragments(part.function_call, part.thought_signature)
            continue
        if part.thought:
            reasoning += part.text
        else:
            content += part.text
        if part.thought_signature:
            extra = signed(part.thought_signature)
        blob = part.inline_data
        if blob is not None and blob.mime_type.startswith("image/"):
            url = f"data:{blob.mime_type};base64,{blob.data}"
            images.append({"type": "image_url", "image_url": {"url": url}})
    if images:
        extra["images"] = Raw(encoder.encode(images))
    return Delta(
        position if candidate.index is None else candidate.index,
        False,
        content or None,
        reasoning or None,
        None,
        tuple(tools),
        candidate.finish_reason or None,
        extra,
        decode_logprobs(candidate.logprobs_result),
    )


def _fragments(call: _Call, signature: str) -> list[ToolFragment]:
    """A whole call, for calls never come in pieces here; none for one of no function."""
    if not call.name:
        return []
    sent = bytes(memoryview(call.args))
    arguments = "{}"
    if sent.startswith(b"{"):
        arguments = msgspec.json.format(sent, indent=-1).decode("utf-8", "replace")
    return [ToolFragment(None, call.id or None, call.name, arguments, signed(signature) if signature else {})]


def _odd_chunk(text: bytes, reading: Reading) -> Chunk:
    fields = fields_of(first_of(Raw(text)))
    # A key of an error's counts only where there is no answer beside it.
    failure = in_band_failure(
        {"error": fields.get("error", NULL)} if "candidates" in fields else fields, reading
    )
    if failure is not None:
        return Chunk(failure=failure)
    if not text.startswith(b"{"):
        raise WireError("not a JSON object")
    event = _Event(
        tuple(
            [
                _odd_candidate(fields_of(one), position)
                for position, one in enumerate(list_of(fields.get("candidates")))
            ]
        ),
        fields.get("usageMetadata", NULL),
        text_of(fields.get("responseId")) or "",
        text_of(fields.get("modelVersion")) or "",
    )
    chunk = _chunk(event)
    if not chunk.deltas and text_of(fields_of(fields.get("promptFeedback")).get("blockReason")):
        return msgspec.structs.replace(chunk, deltas=(Delta(finish=_BLOCKED),))
    return chunk


def _odd_candidate(fields: RawFields, position: int) -> _Candidate:
    parts = list_of(fields_of(fields.get("content")).get("parts"))
    return _Candidate(
        choice_index(fields.get("index"), position),
        _Content(tuple([_odd_part(fields_of(part)) for part in parts])),
        text_of(fields.get("finishReason")),
        fields.get("logprobsResult", NULL),
    )


def _odd_part(fields: RawFields) -> _Part:
    call = fields_of(fields.get("functionCall"))
    blob = fields_of(fields.get("inlineData"))
    return _Part(
        text_of(fields.get("text")) or "",
        value_of(fields.get("thought")) is True,
        text_of(fields.get("thoughtSignature")) or "",
        _Call(text_of(call.get("name")) or "", text_of(call.get("id")) or "", call.get("args", _NO_ARGUMENTS))
        if call
        else None,
        _Blob(text_of(blob.get("mimeType")) or "", text_of(blob.get("data")) or "") if blob else None,
    )


def decode_completion(body: bytes, reading: Reading) -> Completion | Failure:
    """A 200's body, normalised, or why it is no answer. It may be an array of a stream's events: one without SSE."""
    try:
        return completed([decode_event(event, reading) for event in _events(body)], reading.seed)
    except WireError:
        return openai.decode_completion(body, reading)  # the words for what is no JSON are every format's


def _events(body: bytes) -> list[bytes]:
    if too_deep(body):
        raise WireError("JSON cut short or nested too deeply")
    text = body.decode("utf-8", "replace").strip().encode()
    try:
        items = list_of(Raw(text))
    except msgspec.DecodeError:
        text = repair(text)
        items = list_of(Raw(text))
    return [bytes(memoryview(item)) for item in items] or [text]

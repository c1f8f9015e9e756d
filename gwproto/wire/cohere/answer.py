"""Answers as Cohere gives them (Cohere: API v2, chat and chat with streaming).

An event's ``type`` says what it is about. What a model plans before it calls tools (``tool_plan``) is reasoning, and so
are its ``thinking`` contents. Citations have no counterpart.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from gwproto.failures import Failure, WireError
from gwproto.values import Usage
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.native import count_of, failure_in, members
from gwproto.wire.neutral import Chunk, Completion, Delta, RawFields, Reading
from gwproto.wire.openai import completion as openai
from gwproto.wire.openai.errors import in_band_failure
from gwproto.wire.openai.parts import (
    fields_of,
    first_of,
    list_of,
    split_content,
    text_of,
    tool_fragment,
)
from gwproto.wire.whole import completed

_encode = msgspec.json.Encoder().encode


class _Content(Struct, gc=False, forbid_unknown_fields=True):
    text: str = ""
    thinking: str = ""


class _Message(Struct, gc=False, forbid_unknown_fields=True):
    content: _Content


class _Delta(Struct, gc=False, forbid_unknown_fields=True):
    message: _Message


class _Text(Struct, gc=False, forbid_unknown_fields=True):
    """Nearly every event."""

    type: Literal["content-delta"]
    delta: _Delta
    index: int = 0


class _Logprob(Struct, gc=False):
    """The tokens of one text; what each of them is by itself is not said."""

    text: str
    logprobs: list[float]


_text = msgspec.json.Decoder(_Text).decode
_logprob = msgspec.json.Decoder(_Logprob).decode

_DONE = Chunk(done=True)
_NOTHING = Chunk()


def stream_decoder(reading: Reading) -> ChunkDecoder:
    """Events say all by themselves: there is nothing to remember between them."""
    return partial(_decode_event, reading=reading)


def _decode_event(data: bytes, reading: Reading) -> Chunk:
    """What one event says. Raises :class:`WireError` for anything but a JSON object or ``[DONE]``."""
    try:
        content = _text(data).delta.message.content
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _odd(data, reading)
    return Chunk((Delta(0, False, content.text or None, content.thinking or None),))


def _odd(data: bytes, reading: Reading) -> Chunk:
    text = data.strip()
    if text.startswith(b"[DONE]"):
        return _DONE
    if not text:
        return _NOTHING
    fields = members(text)
    read = _EVENTS.get(text_of(fields.get("type")) or "")
    if read is not None:
        delta = fields_of(fields.get("delta"))
        error = delta.get("error")
        failure = None if error is None else in_band_failure({"error": error}, reading)
        return Chunk(failure=failure) if failure is not None else read(fields, delta)
    return Chunk(failure=failure_in(fields, reading))


def _message_start(fields: RawFields, delta: RawFields) -> Chunk:
    return Chunk((Delta(role=True),), text_of(fields.get("id")) or "")


def _content(fields: RawFields, delta: RawFields) -> Chunk:
    content = fields_of(fields_of(delta.get("message")).get("content"))
    logprobs = _logprobs([fields["logprobs"]] if "logprobs" in fields else [])
    said = Delta(
        content=text_of(content.get("text")) or None,
        reasoning=text_of(content.get("thinking")) or None,
        choice_extra=logprobs,
    )
    return Chunk((said,))


def _tool_plan(fields: RawFields, delta: RawFields) -> Chunk:
    return Chunk((Delta(reasoning=text_of(fields_of(delta.get("message")).get("tool_plan"))),))


def _tool_call(fields: RawFields, delta: RawFields) -> Chunk:
    """A call's beginning, or a piece of its arguments. ``tool_calls`` is one call here; ``index`` says which."""
    call = fields_of(delta.get("message")).get("tool_calls")
    if call is None:
        return _NOTHING
    fragment = tool_fragment(first_of(call))
    return Chunk((Delta(tools=(replace(fragment, index=count_of(fields, "index"), extra={}),)),))


def _message_end(fields: RawFields, delta: RawFields) -> Chunk:
    finish = text_of(delta.get("finish_reason")) or None
    return Chunk((Delta(finish=finish),), usage=_usage(delta.get("usage")), done=True)


def _ignored(fields: RawFields, delta: RawFields) -> Chunk:
    return _NOTHING


_EVENTS: dict[str, Callable[[RawFields, RawFields], Chunk]] = {
    "message-start": _message_start,
    "content-start": _content,
    "content-delta": _content,
    "content-end": _ignored,
    "tool-plan-delta": _tool_plan,
    "tool-call-start": _tool_call,
    "tool-call-delta": _tool_call,
    "tool-call-end": _ignored,
    "citation-start": _ignored,
    "citation-end": _ignored,
    "message-end": _message_end,
    "debug": _ignored,
}


def _usage(raw: Raw | None) -> Usage | None:
    """What was counted, else what is billed; numbers may be fractions."""
    fields = fields_of(raw)
    counts = fields_of(fields.get("tokens")) or fields_of(fields.get("billed_units"))
    prompt = count_of(counts, "input_tokens") or 0
    completion = count_of(counts, "output_tokens") or 0
    if not (prompt or completion):
        return None
    return Usage(prompt, completion, prompt + completion, count_of(fields, "cached_tokens"))


def _logprobs(items: list[Raw]) -> RawFields:
    """OpenAI's spelling: each text as one token, which is as likely as all of its tokens together."""
    tokens = []
    for raw in items:
        try:
            item = _logprob(raw)
        except msgspec.ValidationError:
            continue
        bytes_ = list(item.text.encode())
        tokens.append(
            {"token": item.text, "logprob": sum(item.logprobs), "bytes": bytes_, "top_logprobs": []}
        )
    return {"logprobs": Raw(_encode({"content": tokens, "refusal": None}))} if tokens else {}


def decode_completion(body: bytes, reading: Reading) -> Completion | Failure:
    """A 200's body, normalised, or why it is no answer."""
    try:
        fields = members(body)
    except WireError:
        return openai.decode_completion(body, reading)  # which says what is wrong with it
    failure = failure_in(fields, reading)
    if failure is not None:
        return failure
    message = fields_of(fields.get("message"))
    content, thinking = split_content(message.get("content"))
    calls = map(tool_fragment, list_of(message.get("tool_calls")))
    delta = Delta(
        content=content,
        reasoning=(text_of(message.get("tool_plan")) or "") + (thinking or "") or None,
        tools=tuple([replace(call, index=None, extra={}) for call in calls if call.name]),
        finish=text_of(fields.get("finish_reason")) or None,
        choice_extra=_logprobs(list_of(fields.get("logprobs"))),
    )
    id_ = text_of(fields.get("id")) or ""
    return completed([Chunk((delta,), id_, usage=_usage(fields.get("usage")), done=True)], reading.seed)

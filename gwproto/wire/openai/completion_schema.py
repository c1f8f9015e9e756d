"""OpenAI's whole answers as types: those that forbid unknown keys, since those would be lost."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gwproto.wire.openai.parts import MAX_CHOICE, NULL, CallId


class _Function(Struct, gc=False, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)]
    arguments: Annotated[str, Meta(min_length=1)]


class _Call(Struct, gc=False, forbid_unknown_fields=True):
    id: CallId
    type: Literal["function"]
    function: _Function


class _Message(Struct, gc=False, forbid_unknown_fields=True):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    refusal: str | None = None
    annotations: Raw = NULL
    audio: Raw = NULL
    tool_calls: Annotated[list[_Call], Meta(min_length=1)] | UnsetType = UNSET


class _Choice(Struct, gc=False, forbid_unknown_fields=True):
    index: Annotated[int, Meta(ge=0, le=MAX_CHOICE)]
    message: _Message
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    logprobs: Raw = NULL


class PlainCompletion(Struct, gc=False, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=1)]
    object: Literal["chat.completion"]
    created: int
    model: Annotated[str, Meta(min_length=1)]
    choices: Annotated[list[_Choice], Meta(min_length=1)]
    usage: Raw = NULL
    system_fingerprint: Raw = NULL
    service_tier: Raw = NULL

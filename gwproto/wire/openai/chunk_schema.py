"""OpenAI's chunks as types."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gwproto.wire.openai.parts import MAX_CHOICE, NULL, CallId


# What clients may get, key by key. The plain types forbid unknown keys, since those would be lost.
class _Function(Struct, gc=False, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class PlainTool(Struct, gc=False, forbid_unknown_fields=True):
    index: int
    id: CallId | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: _Function | UnsetType = UNSET


class _Delta(Struct, gc=False, forbid_unknown_fields=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[tuple[PlainTool, ...], Meta(min_length=1)] | UnsetType = UNSET


class _Choice(Struct, gc=False, forbid_unknown_fields=True):
    index: Annotated[int, Meta(ge=0, le=MAX_CHOICE)]
    delta: _Delta
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"] | None
    logprobs: Raw = NULL


class _Head(Struct, gc=False):
    id: Annotated[str, Meta(min_length=1)]
    object: Literal["chat.completion.chunk"]
    created: int
    model: Annotated[str, Meta(min_length=1)]


class PlainChunk(_Head, gc=False, forbid_unknown_fields=True):
    choices: tuple[_Choice, ...]
    usage: Raw = NULL
    system_fingerprint: Raw = NULL
    service_tier: Raw = NULL
    obfuscation: Raw = NULL


# The same where unknown keys are kept by other means.
class _LooseFunction(_Function, gc=False, forbid_unknown_fields=False):
    pass


class _LooseTool(PlainTool, gc=False, forbid_unknown_fields=False):
    function: _LooseFunction | UnsetType = UNSET


class _LooseDelta(_Delta, gc=False, forbid_unknown_fields=False):
    tool_calls: Annotated[tuple[_LooseTool, ...], Meta(min_length=1)] | UnsetType = UNSET
    reasoning: None = None  # clients get it as reasoning_content


class _LooseChoice(_Choice, gc=False, forbid_unknown_fields=False, kw_only=True):
    delta: _LooseDelta


class LooseChunk(_Head, gc=False):
    choices: tuple[_LooseChoice, ...]
    usage: UnsetType | None = UNSET
    error: None = None

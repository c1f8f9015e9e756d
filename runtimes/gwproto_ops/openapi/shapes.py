"""What clients are sent where no type of the gateway writes it: answers keep what providers put in them.

Keys that are not listed may be there too. ``tests/test_openapi.py`` holds real answers of every format against these.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gwproto.wire.openai.schema import Body

Finish = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
Index = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class ChatCompletionRequest(Body):
    """OpenAI's request. Every field may be null, which is the same as absent; fields that are not listed go to
    providers that take them."""


class ErrorBody(Struct, forbid_unknown_fields=True):
    message: str
    type: str
    param: str | None  # the field or parameter that is wrong
    code: str | None


class Error(Struct, forbid_unknown_fields=True):
    """Every error of every endpoint."""

    error: ErrorBody


class PromptTokens(Struct):
    cached_tokens: int | UnsetType | None = UNSET


class CompletionTokens(Struct):
    reasoning_tokens: int | UnsetType | None = UNSET


class TokenUsage(Struct):
    """What the answer has used, where the provider told."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: PromptTokens | UnsetType | None = UNSET
    completion_tokens_details: CompletionTokens | UnsetType | None = UNSET


class AnsweredFunction(Struct):
    name: str
    arguments: str  # JSON


class AnsweredCall(Struct):
    id: str
    type: str
    function: AnsweredFunction | UnsetType = UNSET
    custom: dict[str, Any] | UnsetType = UNSET


class AnsweredMessage(Struct):
    role: Literal["assistant"]
    content: str | None
    refusal: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    tool_calls: list[AnsweredCall] | UnsetType = UNSET


class Choice(Struct):
    index: Index
    message: AnsweredMessage
    finish_reason: Finish
    logprobs: dict[str, Any] | UnsetType | None = UNSET


class ChatCompletion(Struct):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: Annotated[list[Choice], Meta(min_length=1)]
    usage: TokenUsage | UnsetType | None = UNSET
    system_fingerprint: str | UnsetType | None = UNSET
    service_tier: str | UnsetType | None = UNSET


class FunctionPiece(Struct):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class CallPiece(Struct):
    index: Index
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionPiece | UnsetType = UNSET
    custom: dict[str, Any] | UnsetType = UNSET


class Delta(Struct):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    tool_calls: list[CallPiece] | UnsetType = UNSET


class ChunkChoice(Struct):
    index: Index
    delta: Delta
    finish_reason: Finish | None
    logprobs: dict[str, Any] | UnsetType | None = UNSET


class ChatCompletionChunk(Struct):
    """An event of a stream. The one with the usage has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: TokenUsage | UnsetType | None = UNSET
    system_fingerprint: str | UnsetType | None = UNSET
    service_tier: str | UnsetType | None = UNSET

"""OpenAI's request body as types: what is validated, and with what limits.

Only documented keys stand here; unknown ones pass. Types follow OpenAI's specification, but where compatible providers
are known to take more (content part types, response formats, tool names) only the JSON type is checked.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Limit = Annotated[int, Meta(ge=1)]


class AnyObject(Struct, gc=False):
    """Some JSON object, whatever its keys."""


class Url(Struct, gc=False):
    url: str
    detail: str | None = None


class Audio(Struct, gc=False):
    data: str
    format: str | None = None


class File(Struct, gc=False):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(Struct, gc=False):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Url | str | None = None
    input_audio: Audio | str | None = None
    file: File | None = None


class CalledFunction(Struct, gc=False):
    name: str
    arguments: str


class Call(Struct, gc=False):
    id: str
    type: str = "function"
    function: CalledFunction | None = None
    custom: AnyObject | None = None
    extra_content: Raw | UnsetType = UNSET  # what a provider added to its answer


class Message(Struct, gc=False):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Call] | None = None
    function_call: CalledFunction | None = None
    refusal: str | None = None
    audio: AnyObject | None = None
    reasoning_content: str | None = None
    extra_content: Raw | UnsetType = UNSET


# Messages that hold nothing but text and calls, so that they cannot nest any deeper than is written here. Most are.
# Only a decoder makes their lists, which makes it safe that these take the place of lists of others.


class PlainPart(Part, gc=False, forbid_unknown_fields=True):
    image_url: str | None = None
    input_audio: str | None = None
    file: None = None


class PlainFunction(CalledFunction, gc=False, forbid_unknown_fields=True):
    pass


class PlainCall(Call, gc=False, forbid_unknown_fields=True):
    function: PlainFunction | None = None
    custom: None = None
    extra_content: UnsetType | None = UNSET  # type: ignore[assignment]  # that it is there is all that is asked


class PlainMessage(Message, gc=False, forbid_unknown_fields=True):
    content: str | list[PlainPart] | None = None  # type: ignore[assignment]  # see above
    tool_calls: list[PlainCall] | None = None  # type: ignore[assignment]  # see above
    function_call: PlainFunction | None = None
    audio: None = None
    extra_content: UnsetType | None = UNSET  # type: ignore[assignment]  # that it is there is all that is asked


class Text(Struct, gc=False, forbid_unknown_fields=True):
    """A message of which, once it is decoded, nothing remains to be asked."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    name: str | None = None


Texts = Annotated[list[Text], Meta(min_length=1)]
PlainMessages = Annotated[list[PlainMessage], Meta(min_length=1)]


class Function(Struct, gc=False):
    name: str
    description: str | None = None
    parameters: AnyObject | None = None
    strict: bool | None = None


class Tool(Struct, gc=False):
    type: str
    function: Function | None = None
    custom: AnyObject | None = None


class JsonSchema(Struct, gc=False):
    name: str
    description: str | None = None
    schema: AnyObject | None = None
    strict: bool | None = None


class ResponseFormat(Struct, gc=False):
    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(Struct, gc=False):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GatewayOptions(Struct, gc=False):
    """Ours, never a provider's."""

    require_params: bool | None = None


class Body(Struct, gc=False):
    """The request body; every field may be null, which is the same as absent."""

    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    model: Annotated[str, Meta(max_length=256)] | None = None
    audio: AnyObject | None = None
    frequency_penalty: Penalty | None = None
    function_call: str | AnyObject | None = None
    functions: list[Function] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    max_completion_tokens: Limit | None = None
    max_tokens: Limit | None = None
    metadata: dict[str, str] | None = None
    modalities: list[str] | None = None
    moderation: AnyObject | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: AnyObject | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: AnyObject | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: Literal["auto", "none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: str | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    tool_choice: str | AnyObject | None = None
    tools: list[Tool] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    user: str | None = None
    verbosity: str | None = None
    web_search_options: AnyObject | None = None
    # The gateway's own, never sent to a provider.
    project_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}\Z")] | None = None
    prompt: str | None = None
    x_gateway: GatewayOptions | None = None


GATEWAY_FIELDS = ("project_id", "prompt", "x_gateway")

DOCUMENTED = frozenset(Body.__struct_fields__) - frozenset(GATEWAY_FIELDS)

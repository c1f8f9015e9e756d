"""What of a JSON document is kept: the values by which something is decided, told by their keys."""

from msgspec import Struct


class Rules(Struct, frozen=True, gc=False, kw_only=True):
    """All that is not named here is replaced. A value in an array has the array's key."""

    keep: frozenset[bytes]  # keys of texts to keep
    opaque: frozenset[bytes]  # keys of what people wrote, whose own keys mean nothing
    schemas: frozenset[bytes] = frozenset()  # keys of JSON schemas
    errors: frozenset[bytes] = frozenset()  # keys of errors, which are kept as they are
    top: frozenset[bytes] = frozenset()  # keys of the outermost object whose texts are kept, but for secrets
    nested: bool = False  # texts may be JSON that somebody takes apart
    marks: bool = True  # marks that are looked for inside texts are kept
    same_length: bool = True  # False: of numbers that spell a text one digit is left


#: Keys of numbers that spell a text.
SPELLED = frozenset((b"bytes", b"token_ids", b"tokens", b"prompt_token_ids"))

_SCHEMAS = frozenset(
    (b"parameters", b"schema", b"input_schema", b"inputSchema", b"parametersJsonSchema")
    + (b"response_schema", b"responseSchema", b"responseJsonSchema", b"parameter_definitions")
)
_OPAQUE = frozenset(
    (b"arguments", b"args", b"input", b"output", b"metadata", b"data", b"document", b"default", b"enum")
    + (b"const", b"examples", b"logprobs", b"logit_bias", b"functionResponse", b"custom", b"json")
)
_NAMES = frozenset(
    (b"role", b"object", b"model", b"type", b"name", b"id", b"format", b"status", b"code", b"param")
    + (b"detail", b"created", b"created_at", b"tool_call_id", b"tool_use_id", b"toolUseId", b"call_id")
    + (b"media_type", b"mime_type", b"mimeType", b"finish_reason", b"index")
)

#: A client's request.
REQUEST = Rules(
    keep=_NAMES
    | frozenset(
        (b"tool_choice", b"function_call", b"mode", b"modalities", b"reasoning_effort", b"effort")
        + (b"service_tier", b"project_id", b"prompt_cache_key", b"verbosity", b"provider", b"scope")
        + (b"file_id", b"voice", b"allowed_function_names")
    ),
    top=frozenset((b"key",)),  # the credential's name, for an operator's reset
    opaque=_OPAQUE,
    schemas=_SCHEMAS,
    nested=True,
)

#: A provider's answer.
ANSWER = Rules(
    keep=_NAMES
    | frozenset(
        (b"modelVersion", b"responseId", b"response_id", b"generation_id", b"provider", b"event_type")
        + (b"finishReason", b"stop_reason", b"stopReason", b"done_reason", b"native_finish_reason")
        + (b"blockReason", b"block_reason", b"reason", b"system_fingerprint", b"service_tier")
        + (b"@type", b"__type", b"trafficType", b"modality")
    ),
    opaque=_OPAQUE | _SCHEMAS | {b"response", b"parsed"},
    errors=frozenset((b"error", b"errors", b"promptFeedback")),
    top=frozenset((b"message", b"Message", b"msg", b"detail", b"details", b"title")),
)

#: What the gateway says, to either side. What is kept here is kept above, or made by the gateway.
SAID = Rules(
    keep=frozenset((b"role", b"object", b"model", b"finish_reason")),
    opaque=_OPAQUE | _SCHEMAS,
    marks=False,
    same_length=False,
)

"""What of a JSON document is kept: the values by which something is decided, told by their keys."""

from msgspec import Struct


def _words(names: str) -> frozenset[bytes]:
    return frozenset(names.encode().split())


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
SPELLED = _words("bytes token_ids tokens prompt_token_ids")

_SCHEMAS = _words(
    "parameters schema input_schema inputSchema parametersJsonSchema response_schema "
    "responseSchema responseJsonSchema parameter_definitions"
)
_OPAQUE = _words(
    "arguments args input output metadata data document default enum const examples logprobs "
    "logit_bias functionResponse custom json"
)
_NAMES = _words(
    "role object model type name id format status code param detail created created_at "
    "tool_call_id tool_use_id toolUseId call_id media_type mime_type mimeType finish_reason "
    "index"
)

#: A client's request.
REQUEST = Rules(
    keep=_NAMES
    | _words(
        "tool_choice function_call mode modalities reasoning_effort effort service_tier project_id "
        "prompt_cache_key verbosity provider scope file_id voice allowed_function_names"
    ),
    top=_words("key"),  # the credential's name, for an operator's reset
    opaque=_OPAQUE,
    schemas=_SCHEMAS,
    nested=True,
)

#: A provider's answer.
ANSWER = Rules(
    keep=_NAMES
    | _words(
        "modelVersion responseId response_id generation_id provider event_type finishReason "
        "stop_reason stopReason done_reason native_finish_reason blockReason block_reason reason "
        "system_fingerprint service_tier @type __type trafficType modality"
    ),
    opaque=_OPAQUE | _SCHEMAS | {b"response", b"parsed"},
    errors=_words("error errors promptFeedback"),
    top=_words("message Message msg detail details title"),
)

#: What the gateway says, to either side. What is kept here is kept above, or made by the gateway.
SAID = Rules(
    keep=_words("role object model finish_reason"),
    opaque=_OPAQUE | _SCHEMAS,
    marks=False,
    same_length=False,
)

"""Requests for Google (Gemini API: models.generateContent and models.streamGenerateContent)."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from urllib.parse import quote

import msgspec
from msgspec import Raw

from gwproto.config import Quirks
from gwproto.wire.conversation import (
    COMMON,
    Media,
    Options,
    Part,
    Tool,
    ToolChoice,
    Turn,
    arguments_object,
    options_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.effort import Efforts, merged
from gwproto.wire.gemini.details import signature_of
from gwproto.wire.native import in_words, taken
from gwproto.wire.neutral import ChatRequest, EncodedRequest, Rendering
from gwproto.wire.openai.parts import encoder, fields_of

PARAMETERS = COMMON | {"frequency_penalty", "presence_penalty", "seed", "stop", "top_k", "top_logprobs"}


def _thinking(**config: object) -> dict[str, object]:
    return {"generationConfig": {"thinkingConfig": config}}


EFFORTS: Efforts = {
    "none": _thinking(thinkingBudget=0),
    "minimal": _thinking(thinkingLevel="MINIMAL", includeThoughts=True),
    "low": _thinking(thinkingLevel="LOW", includeThoughts=True),
    "medium": _thinking(thinkingLevel="MEDIUM", includeThoughts=True),
    "high": _thinking(thinkingLevel="HIGH", includeThoughts=True),
}

#: Stands for the signature of a call that another model made (Gemini API: thought signatures).
ANY_SIGNATURE = "skip_thought_signature_validator"

_FILLER = "."  # the user begins, and says something
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_MEDIA_TYPES = {
    "csv": "text/csv",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "html": "text/html",
    "json": "application/json",
    "md": "text/markdown",
    "mp3": "audio/mp3",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "png": "image/png",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webp": "image/webp",
}
_USUAL_MEDIA_TYPES = {"image": "image/jpeg", "audio": "audio/wav", "file": "application/pdf"}
_NO_PARAMETERS = frozenset(
    ("$schema", "additionalProperties", "description", "properties", "required", "title", "type")
)

Fields = dict[str, object]


def encode_request(request: ChatRequest, rendering: Rendering) -> EncodedRequest:
    """Path and body for one model; ``dropped`` names what it does not take, or the format has no words for."""
    quirks = rendering.quirks
    request, dropped = taken(request, quirks, PARAMETERS)
    turns = turns_of(request)
    system = [turn.text for turn in turns if turn.role == "system"]
    tools = tools_of(request)
    config = _config(options_of(request), rendering)
    wanted = response_format_of(request)
    if wanted is not None:
        if tools and quirks.signatures is not True:
            # Before Gemini 3 functions and JSON exclude each other.
            system.append(in_words(wanted))
        else:
            config["responseMimeType"] = "application/json"
            if wanted.schema is not None:
                config["responseJsonSchema"] = wanted.schema
    body: Fields = {}
    said: list[tuple[str, list[Fields]]] = [(turn.role, _parts(turn)) for turn in _in_order_of_calls(turns)]
    instruction = "\n\n".join(filter(None, system))
    if instruction and quirks.system_role is False:
        said.insert(0, ("user", [{"text": instruction}]))
    elif instruction:
        body["systemInstruction"] = {"parts": [{"text": instruction}]}
    body["contents"] = _contents(said, quirks)
    if tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in tools]}]
        choice = tool_choice_of(request)
        if choice is not None:
            body["toolConfig"] = {"functionCallingConfig": _calling(choice)}
    if config:
        body["generationConfig"] = config
    body = merged(merged(body, rendering.effort), rendering.body)
    return EncodedRequest(_path(rendering.model, request.stream), encoder.encode(body), tuple(dropped))


def _path(model: str, stream: bool) -> str:
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/models/{quote(model.removeprefix('models/'))}:{method}"


def _config(options: Options, rendering: Rendering) -> Fields:
    seed, most = options.seed, options.max_tokens
    if seed is not None and not -(1 << 31) <= seed < 1 << 31:
        seed &= 0x7FFFFFFF  # Google's are 32 bits wide
    if most is not None and rendering.max_output:
        most = min(most, rendering.max_output)  # more is refused, not ignored
    config: Fields = {
        "temperature": options.temperature,
        "topP": options.top_p,
        "topK": options.top_k,
        "maxOutputTokens": most,
        "stopSequences": options.stop or None,
        "candidateCount": options.n if options.n > 1 else None,
        "seed": seed,
        "presencePenalty": options.presence_penalty,
        "frequencyPenalty": options.frequency_penalty,
        "responseLogprobs": options.logprobs or None,
        "logprobs": options.top_logprobs,
    }
    return {name: value for name, value in config.items() if value is not None}


def _in_order_of_calls(turns: Iterable[Turn]) -> Iterator[Turn]:
    """What is no system turn. Calls go without ids, so only order tells apart two answers of one function."""
    order: dict[str, int] = {}
    others = [turn for turn in turns if turn.role != "system"]
    for answers, group in groupby(others, key=lambda turn: turn.role == "tool"):
        block = list(group)
        if answers:
            block.sort(key=lambda turn: order.get(turn.call_id, len(order)))
        else:
            calls = [call.id for turn in block for call in turn.calls]
            order = {id_: position for position, id_ in enumerate(calls)}
        yield from block


def _contents(said: Iterable[tuple[str, list[Fields]]], quirks: Quirks) -> list[Fields]:
    """Turns of user and model in alternation, the user first."""
    spoken = [("model" if role == "assistant" else "user", parts) for role, parts in said if parts]
    if not spoken or spoken[0][0] == "model":
        spoken.insert(0, ("user", [{"text": _FILLER}]))
    contents: list[Fields] = []
    for role, group in groupby(spoken, key=lambda turn: turn[0]):
        parts = [part for _, some in group for part in some]
        calls = [part for part in parts if "functionCall" in part]
        if calls and quirks.signatures is True:
            calls[0].setdefault("thoughtSignature", ANY_SIGNATURE)
        contents.append({"role": role, "parts": parts})
    return contents


def _parts(turn: Turn) -> list[Fields]:
    if turn.role == "tool":
        answer = {"name": turn.name or turn.call_id, "response": _response(turn.text)}
        media = [part for part in turn.parts if isinstance(part, Media)]
        return [{"functionResponse": answer}, *_said(media)]
    parts = list(_said(turn.parts))
    for call in turn.calls:
        function = {"name": call.name, "args": arguments_object(call.arguments)}
        part: Fields = {"functionCall": function}
        if signature := signature_of(call.extra):
            part["thoughtSignature"] = signature
        parts.append(part)
    if signature := signature_of(turn.extra):
        parts.append({"text": "", "thoughtSignature": signature})
    return parts


def _said(parts: Iterable[Part]) -> Iterator[Fields]:
    """Empty texts are refused."""
    for part in parts:
        if isinstance(part, str):
            if part:
                yield {"text": part}
        elif part.data:
            yield {"inlineData": {"mimeType": _media_type(part), "data": part.data}}
        elif part.url:
            yield {"fileData": {"mimeType": _media_type(part), "fileUri": part.url}}


def _media_type(media: Media) -> str:
    address = (media.name or media.url).partition("?")[0]
    extension = address.rpartition(".")[2].lower()
    return media.media_type or _MEDIA_TYPES.get(extension) or _USUAL_MEDIA_TYPES[media.kind]


def _response(text: str) -> object:
    """A function's answer as an object."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        value = None
    return Raw(text.encode()) if isinstance(value, dict) else {"result": text}


def _declaration(tool: Tool) -> Fields:
    fields: Fields = {"name": tool.name}
    if tool.description:
        fields["description"] = tool.description
    if tool.parameters is not None and not _takes_nothing(tool.parameters):
        fields["parametersJsonSchema"] = tool.parameters
    return fields


def _takes_nothing(schema: Raw) -> bool:
    """Is it the schema of an object without properties? That is refused."""
    fields = fields_of(schema)
    return (
        fields.keys() <= _NO_PARAMETERS
        and not fields_of(fields.get("properties"))
        and fields.get("additionalProperties", Raw(b"false")) == Raw(b"false")
    )


def _calling(choice: ToolChoice) -> Fields:
    """With a choice among certain functions ``AUTO`` is ``VALIDATED`` (Gemini API: FunctionCallingConfig)."""
    if not choice.names:
        return {"mode": _MODES[choice.mode]}
    mode = "ANY" if choice.mode == "required" else "VALIDATED"
    return {"mode": mode, "allowedFunctionNames": choice.names}

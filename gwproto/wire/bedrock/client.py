"""A client's request to Converse, in OpenAI's words (Amazon Bedrock Runtime: Converse, ConverseStream).

Only what a client of any provider may want is understood. Fields that are about Bedrock's own service are left out;
what lies in Amazon's storage, and tools and media that others do not have, are refused.
"""

import re
from typing import Literal
from urllib.parse import unquote

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import Failure
from gwproto.wire.bedrock.messages import DOCUMENTS
from gwproto.wire.native import content_of, unreadable
from gwproto.wire.neutral import ChatRequest
from gwproto.wire.openai import request as openai
from gwproto.wire.openai.parts import NULL
from gwproto.wire.strict import MAX_DEPTH, too_deep


class _Piece(Struct, frozen=True, gc=False):
    text: str = ""


class _Guarded(Struct, frozen=True, gc=False):
    text: _Piece = _Piece()


class _Cited(Struct, frozen=True, gc=False):
    content: list[_Piece] = []


class _Source(Struct, frozen=True, gc=False):
    bytes: str | None = None
    text: str | None = None
    content: list[_Piece] | None = None


class _Image(Struct, frozen=True, gc=False):
    format: str
    source: _Source


class _Document(Struct, frozen=True, gc=False):
    name: str
    source: _Source
    format: str = "txt"


class _Call(Struct, frozen=True, gc=False):
    toolUseId: str
    name: str
    input: Raw = Raw(b"{}")


class _Result(Struct, frozen=True, gc=False):
    toolUseId: str
    content: "list[_Block]"


class _Signed(Struct, frozen=True, gc=False, omit_defaults=True):
    text: str = ""
    signature: str | None = None


class _Reasoning(Struct, frozen=True, gc=False, omit_defaults=True):
    reasoningText: _Signed | None = None
    redactedContent: str | None = None


class _Block(Struct, frozen=True, gc=False):
    """One of these; :data:`_REFUSED` are only looked for."""

    text: str | None = None
    image: _Image | None = None
    document: _Document | None = None
    toolUse: _Call | None = None
    toolResult: _Result | None = None
    reasoningContent: _Reasoning | None = None
    guardContent: _Guarded | None = None
    citationsContent: _Cited | None = None
    json: Raw = NULL
    video: Raw = NULL
    audio: Raw = NULL
    searchResult: Raw = NULL


class _Message(Struct, frozen=True, gc=False):
    role: Literal["user", "assistant", "system"]
    content: list[_Block]


class _Schema(Struct, frozen=True, gc=False):
    json: Raw = NULL


class _Spec(Struct, frozen=True, gc=False):
    name: str
    inputSchema: _Schema
    description: str = ""
    strict: bool = False


class _Tool(Struct, frozen=True, gc=False):
    toolSpec: _Spec | None = None
    systemTool: Raw = NULL


class _Named(Struct, frozen=True, gc=False):
    name: str


class _Choice(Struct, frozen=True, gc=False):
    auto: dict[str, Raw] | None = None
    any: dict[str, Raw] | None = None
    tool: _Named | None = None


class _Tools(Struct, frozen=True, gc=False):
    tools: list[_Tool]
    toolChoice: _Choice | None = None


class _Inference(Struct, frozen=True, gc=False):
    maxTokens: int | None = None
    temperature: float | None = None
    topP: float | None = None
    stopSequences: list[str] | None = None


class _JsonSchema(Struct, frozen=True, gc=False):
    schema: str
    name: str = "answer"


class _Structure(Struct, frozen=True, gc=False):
    jsonSchema: _JsonSchema


class _TextFormat(Struct, frozen=True, gc=False):
    structure: _Structure


class _Output(Struct, frozen=True, gc=False):
    textFormat: _TextFormat | None = None
    effort: str | None = None


class _Thinking(Struct, frozen=True, gc=False):
    type: str
    budget_tokens: int = 0


class _Claudes(Struct, frozen=True, gc=False):
    thinking: _Thinking | None = None
    output_config: _Output = _Output()


class _Body(Struct, frozen=True, gc=False):
    messages: list[_Message] = []
    system: list[_Block] = []
    inferenceConfig: _Inference = _Inference()
    toolConfig: _Tools | None = None
    outputConfig: _Output = _Output()
    additionalModelRequestFields: Raw = NULL


Json = dict[str, object]

_REFUSED = ("video", "audio", "searchResult")
_BUDGETS = ((16384, "max"), (8192, "xhigh"), (4096, "high"), (2048, "medium"), (0, "low"))  # tokens
_decoder = msgspec.json.Decoder(_Body)
_claudes = msgspec.json.Decoder(_Claudes)
_encode = msgspec.json.Encoder().encode
_PATH = re.compile(r"/model/(?P<model>[^/?]+)/converse(?P<stream>-stream)?(?:\?|\Z)")


class _Refused(Exception):
    """Carries the refusal of something that only Bedrock has out of the depth."""


def parse_request(body: bytes, path: str) -> ChatRequest | Failure:
    """A client's request, or why it is refused; the path names the model, and says whether to stream."""
    if too_deep(body):
        return openai.refusal(
            "invalid_json", f"The request body is nested more than {MAX_DEPTH} levels deep."
        )
    try:
        body.decode()
        fields = _translated(_decoder.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return unreadable(error)
    except _Refused as refused:
        return openai.refusal("unsupported_value", str(refused))
    named = _PATH.search(path)
    if named is not None:
        fields["model"] = unquote(named["model"])
        if named["stream"]:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return openai.parse_request(_encode(fields))


def _translated(body: _Body) -> Json:
    system = _parts(body.system)
    messages: list[Json] = [{"role": "system", "content": content_of(system)}] if system else []
    for message in body.messages:
        if message.role == "assistant":
            messages.append(_assistant(message.content))
        else:
            messages += _others(message.role, message.content)
    fields: Json = {"messages": messages}
    inference = body.inferenceConfig
    options = {
        "max_completion_tokens": inference.maxTokens,
        "temperature": inference.temperature,
        "top_p": inference.topP,
        "stop": inference.stopSequences or None,
        "reasoning_effort": body.outputConfig.effort or _effort(body.additionalModelRequestFields),
    }
    fields |= {name: value for name, value in options.items() if value is not None}
    if body.toolConfig is not None:
        fields |= _tools(body.toolConfig)
    if (format := body.outputConfig.textFormat) is not None:
        wanted = format.structure.jsonSchema
        schema = wanted.schema.encode()
        try:
            if too_deep(schema) or not isinstance(msgspec.json.decode(schema), dict):
                raise _Refused("The schema of outputConfig.textFormat is none.")
        except msgspec.DecodeError:
            raise _Refused("The schema of outputConfig.textFormat is not JSON.") from None
        fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": wanted.name, "schema": Raw(schema)},
        }
    return fields


def _effort(more: Raw) -> str | None:
    """The level that Claude's own fields ask for; a budget is as much as the level whose usual budget it reaches."""
    try:
        asked = _claudes.decode(more)
    except msgspec.ValidationError:
        return None  # another model's fields
    thinking = asked.thinking
    if thinking is None:
        return asked.output_config.effort
    if thinking.type == "disabled":
        return "none"
    if thinking.type == "adaptive":
        return asked.output_config.effort or "high"  # Anthropic's default
    return next((level for tokens, level in _BUDGETS if thinking.budget_tokens >= tokens), None)


def _tools(config: _Tools) -> Json:
    functions: list[Json] = []
    for tool in config.tools:
        if tool.systemTool != NULL:
            raise _Refused("Tools that run at Bedrock's are not supported.")
        if (spec := tool.toolSpec) is not None:  # else it is a mark for the cache
            function: Json = {"name": spec.name}
            if spec.description:
                function["description"] = spec.description
            if spec.inputSchema.json != NULL:
                function["parameters"] = spec.inputSchema.json
            if spec.strict:
                function["strict"] = True
            functions.append({"type": "function", "function": function})
    fields: Json = {"tools": functions} if functions else {}
    choice = config.toolChoice
    if choice is None:
        return fields
    if choice.tool is not None:
        return fields | {"tool_choice": {"type": "function", "function": {"name": choice.tool.name}}}
    return fields | {"tool_choice": "auto" if choice.any is None else "required"}


def _parts(blocks: list[_Block]) -> list[Json]:
    """Texts, images and documents; marks for the cache say nothing to other providers."""
    parts: list[Json] = []
    for block in blocks:
        for kind in _REFUSED:
            if getattr(block, kind) != NULL:
                raise _Refused(f"Blocks of the kind '{kind}' are not supported.")
        texts = [block.text, block.guardContent and block.guardContent.text.text]
        texts += [piece.text for piece in (block.citationsContent or _Cited()).content]
        if block.json != NULL:
            texts.append(bytes(memoryview(block.json)).decode())
        parts += [{"type": "text", "text": text} for text in texts if text]
        if (image := block.image) is not None:
            url = f"data:image/{image.format};base64,{_bytes(image.source)}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        if (document := block.document) is not None:
            parts += _document(document)
    return parts


def _document(document: _Document) -> list[Json]:
    source = document.source
    if source.text is not None:
        return [{"type": "text", "text": source.text}]
    if source.content is not None:
        return [{"type": "text", "text": piece.text} for piece in source.content]
    media_type = DOCUMENTS.get(document.format, "application/octet-stream")
    data = f"data:{media_type};base64,{_bytes(source)}"
    return [{"type": "file", "file": {"file_data": data, "filename": f"{document.name}.{document.format}"}}]


def _bytes(source: _Source) -> str:
    if source.bytes is None:
        raise _Refused("Images and documents are only supported by value, in base64.")
    return source.bytes


def _assistant(blocks: list[_Block]) -> Json:
    parts = _parts(blocks)
    message: Json = {"role": "assistant", "content": content_of(parts)}
    calls = [
        {
            "id": call.toolUseId,
            "type": "function",
            "function": {"name": call.name, "arguments": bytes(memoryview(call.input)).decode()},
        }
        for block in blocks
        if (call := block.toolUse) is not None
    ]
    if calls:
        message["tool_calls"] = calls
        if not parts:
            message["content"] = None
    reasoning = [block.reasoningContent for block in blocks if block.reasoningContent is not None]
    if text := "".join(one.reasoningText.text for one in reasoning if one.reasoningText is not None):
        message["reasoning_content"] = text
    replay = [
        one for one in reasoning if one.redactedContent or (one.reasoningText and one.reasoningText.signature)
    ]
    if replay:
        message["extra_content"] = {"bedrock": {"reasoning": replay}}
    return message


def _others(role: str, blocks: list[_Block]) -> list[Json]:
    """A user's message: the results of tools, each a message of its own, then what else it says."""
    messages: list[Json] = [
        {
            "role": "tool",
            "tool_call_id": block.toolResult.toolUseId,
            "content": content_of(_parts(block.toolResult.content)),
        }
        for block in blocks
        if block.toolResult is not None
    ]
    parts = _parts(blocks)
    if parts or not messages:
        messages.append({"role": role, "content": content_of(parts)})
    return messages

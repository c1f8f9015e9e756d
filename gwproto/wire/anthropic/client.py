"""A client's request to the Messages API, in OpenAI's words (Anthropic: messages API).

Only what a client of any provider may want is understood. Fields that are about Anthropic's own service are left out;
tools and sources that only Anthropic has are refused.
"""

import base64
import re
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import Failure
from gwproto.wire.native import content_of
from gwproto.wire.neutral import ChatRequest
from gwproto.wire.openai import request as openai
from gwproto.wire.openai.parts import NULL
from gwproto.wire.strict import MAX_DEPTH, too_deep


class _Source(Struct, gc=False):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    content: "str | list[_Block]" = ""


class _Block(Struct, gc=False):
    type: str
    text: str = ""
    source: _Source | None = None
    title: str | None = None
    id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")
    tool_use_id: str = ""
    content: "str | list[_Block] | None" = None
    thinking: str = ""
    signature: str = ""
    data: str = ""


class _Message(Struct, gc=False):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(Struct, gc=False):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: Raw = NULL
    strict: bool | None = None


class _Choice(Struct, gc=False):
    type: Literal["auto", "any", "none", "tool"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class _Thinking(Struct, gc=False):
    type: str
    budget_tokens: int = 0


class _Format(Struct, gc=False):
    type: str
    schema: Raw = NULL


class _Output(Struct, gc=False):
    effort: str | None = None
    format: _Format | None = None


class _Metadata(Struct, gc=False):
    user_id: str | None = None


class _Body(Struct, gc=False):
    messages: list[_Message]
    model: str = "auto"
    max_tokens: int | None = None
    system: str | list[_Block] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    metadata: _Metadata | None = None


Json = dict[str, object]

_decoder = msgspec.json.Decoder(_Body)
_encode = msgspec.json.Encoder().encode
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_BUDGETS = ((16384, "max"), (8192, "xhigh"), (4096, "high"), (2048, "medium"))  # tokens
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class _Refused(Exception):
    """Carries the refusal of something that only Anthropic has out of the depth."""


def parse_request(body: bytes, path: str = "") -> ChatRequest | Failure:
    """A client's request, or why it is refused; ``path`` says nothing in this format."""
    if too_deep(body):
        return openai.refusal(
            "invalid_json", f"The request body is nested more than {MAX_DEPTH} levels deep."
        )
    try:
        body.decode()
        request = _decoder.decode(body)
        return openai.parse_request(_encode(_translated(request)))
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        where = match["path"] if match else None
        what = match["what"] if match else ""
        return openai.refusal("invalid_type", f"{where}: {what}" if where else what, where)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return openai.refusal("invalid_json", f"The request body could not be parsed as JSON: {error}.")
    except _Refused as refused:
        return openai.refusal("unsupported_value", str(refused))


def _translated(body: _Body) -> Json:
    fields: Json = {"model": body.model}
    system = _parts(_blocks(body.system))
    messages: list[Json] = [{"role": "system", "content": content_of(system)}] if system else []
    for message in body.messages:
        if message.role == "assistant":
            messages.append(_assistant(_blocks(message.content)))
        else:
            messages += _others(message.role, _blocks(message.content))
    fields["messages"] = messages
    options = {
        "max_completion_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": body.stop_sequences or None,
        "reasoning_effort": _effort(body.thinking, body.output_config),
        "user": body.metadata and body.metadata.user_id,
    }
    fields |= {name: value for name, value in options.items() if value is not None}
    if body.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if body.tools:
        fields["tools"] = [_tool(tool) for tool in body.tools]
    if (choice := body.tool_choice) is not None:
        named = {"type": "function", "function": {"name": choice.name}}
        fields["tool_choice"] = _CHOICES.get(choice.type, named)
        if choice.disable_parallel_tool_use:
            fields["parallel_tool_calls"] = False
    format = body.output_config and body.output_config.format
    if format:
        fields["response_format"] = {
            "type": format.type,
            "json_schema": {"name": "answer", "schema": format.schema},
        }
    return fields


def _effort(thinking: _Thinking | None, output: _Output | None) -> str | None:
    """The level of effort; a budget is as much as the level whose usual budget it reaches."""
    if thinking is not None and thinking.type == "disabled":
        return "none"
    if output is not None and output.effort is not None:
        return output.effort
    if thinking is None:
        return None
    if thinking.type == "adaptive":
        return "high"  # Anthropic's default
    return next((level for tokens, level in _BUDGETS if thinking.budget_tokens >= tokens), "low")


def _tool(tool: _Tool) -> Json:
    if tool.type not in (None, "custom"):
        raise _Refused(f"Tools of type '{tool.type}' are not supported.")
    function: Json = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.input_schema != NULL:
        function["parameters"] = tool.input_schema
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _blocks(content: str | list[_Block] | None) -> list[_Block]:
    if isinstance(content, str):
        return [_Block("text", content)]
    return content or []


def _parts(blocks: list[_Block]) -> list[Json]:
    """Texts, images and documents; blocks of other types say nothing to other providers."""
    parts: list[Json] = []
    for block in blocks:
        if block.type == "text":
            parts.append({"type": "text", "text": block.text})
        elif block.type == "image" and block.source is not None:
            parts.append({"type": "image_url", "image_url": {"url": _image(block.source)}})
        elif block.type == "document" and block.source is not None:
            if block.source.type == "content":
                parts += _parts(_blocks(block.source.content))
            else:
                parts.append({"type": "file", "file": _file(block.source, block.title)})
    return parts


def _image(source: _Source) -> str:
    if source.type == "url":
        return source.url
    if source.type != "base64":
        raise _Refused(f"Images from a source of type '{source.type}' are not supported.")
    return f"data:{source.media_type};base64,{source.data}"


def _file(source: _Source, title: str | None) -> Json:
    if source.type == "file":
        return {"file_id": source.file_id}
    if source.type == "text":
        data = base64.b64encode(source.data.encode()).decode()
    elif source.type == "base64":
        data = source.data
    else:
        raise _Refused(f"Documents from a source of type '{source.type}' are not supported.")
    named = {"filename": title} if title else {}
    return {"file_data": f"data:{source.media_type};base64,{data}", **named}


def _assistant(blocks: list[_Block]) -> Json:
    parts = _parts(blocks)
    message: Json = {"role": "assistant", "content": content_of(parts)}
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": bytes(memoryview(block.input)).decode()},
        }
        for block in blocks
        if block.type == "tool_use"
    ]
    if calls:
        message["tool_calls"] = calls
        if not parts:
            message["content"] = None
    if reasoning := "".join(block.thinking for block in blocks if block.type == "thinking"):
        message["reasoning_content"] = reasoning
    replay: list[Json] = []
    for block in blocks:
        if block.type == "thinking" and block.signature:
            replay.append({"type": block.type, "thinking": block.thinking, "signature": block.signature})
        elif block.type == "redacted_thinking":
            replay.append({"type": block.type, "data": block.data})
    if replay:
        message["extra_content"] = {"anthropic": {"thinking_blocks": replay}}
    return message


def _others(role: str, blocks: list[_Block]) -> list[Json]:
    """A user's message: the results of tools, each a message of its own, then what else it says."""
    messages: list[Json] = [
        {
            "role": "tool",
            "tool_call_id": block.tool_use_id,
            "content": content_of(_parts(_blocks(block.content))),
        }
        for block in blocks
        if block.type == "tool_result"
    ]
    parts = _parts(blocks)
    if parts or not messages:
        messages.append({"role": role, "content": content_of(parts)})
    return messages

"""Requests, both directions (Cohere: API v2, chat)."""

from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from gwproto.config import Body, Level
from gwproto.failures import Failure
from gwproto.wire.conversation import (
    COMMON,
    Call,
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
from gwproto.wire.effort import merged
from gwproto.wire.native import in_words, taken, unreadable
from gwproto.wire.neutral import ChatRequest, EncodedRequest, RawFields, Rendering
from gwproto.wire.openai import request as openai
from gwproto.wire.openai.parts import NO_PARAMETERS

PATH = "/chat"

PARAMETERS = COMMON | {"top_k", "seed", "stop", "presence_penalty", "frequency_penalty"}

_LOW, _MEDIUM = 1024, 4096  # tokens to think with

EFFORTS: dict[Level, Body] = {
    "none": {"thinking": {"type": "disabled"}},
    "low": {"thinking": {"type": "enabled", "token_budget": _LOW}},
    "medium": {"thinking": {"type": "enabled", "token_budget": _MEDIUM}},
    "high": {"thinking": {"type": "enabled"}},
}

_LOWEST_P, _HIGHEST_P = 0.01, 0.99
_HIGHEST_K = 500

_encode = msgspec.json.Encoder().encode


def encode_request(request: ChatRequest, rendering: Rendering) -> EncodedRequest:
    """The body for one model; ``dropped`` names what the client sent and cannot be said."""
    quirks = rendering.quirks
    request, dropped = taken(request, quirks, PARAMETERS)
    replay = quirks.replay or "tools"
    messages = [message for turn in turns_of(request) if (message := _message(turn, replay))]
    body: dict[str, object] = {"model": rendering.model, "messages": messages, "stream": request.stream}
    tools = _tools(tools_of(request), tool_choice_of(request) or ToolChoice())
    wanted = response_format_of(request)
    if tools and wanted is not None:
        messages.insert(0, {"role": "system", "content": in_words(wanted)})  # only one of both is taken
    elif wanted is not None:
        schema = {} if wanted.schema is None else {"json_schema": wanted.schema}
        body["response_format"] = {"type": "json_object", **schema}
    body |= tools | _sampling(options_of(request), dropped)
    return EncodedRequest(
        PATH, _encode(merged(merged(body, rendering.effort), rendering.body)), tuple(dropped)
    )


def _message(turn: Turn, replay: str) -> dict[str, object] | None:
    """None for an assistant's turn that says nothing: an empty message is refused."""
    content = _content(turn)
    if turn.role == "tool":
        return {"role": "tool", "tool_call_id": turn.call_id, "content": turn.text}
    if turn.role != "assistant":
        return {"role": turn.role, "content": content}
    message: dict[str, object] = {"role": "assistant"}
    if turn.calls:
        message["tool_calls"] = list(map(_call, turn.calls))
        if turn.reasoning and replay != "nothing":
            message["tool_plan"] = turn.reasoning
    elif turn.reasoning and replay == "all":
        thought: list[dict[str, object]] = [{"type": "thinking", "thinking": turn.reasoning}]
        content = [*thought, {"type": "text", "text": turn.text}] if content else thought
    if content:
        message["content"] = content
    return message if len(message) > 1 else None


def _content(turn: Turn) -> str | list[dict[str, object]]:
    if len(turn.parts) == 1 and isinstance(turn.parts[0], str):
        return turn.parts[0]
    return [said for part in turn.parts if (said := _part(part))]


def _part(part: Part) -> dict[str, object] | None:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part.kind != "image":
        return None
    url = f"data:{part.media_type};base64,{part.data}" if part.data else part.url
    detail = {"detail": part.detail} if part.detail else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _call(call: Call) -> dict[str, object]:
    arguments = bytes(memoryview(arguments_object(call.arguments))).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tools(tools: list[Tool], choice: ToolChoice) -> dict[str, object]:
    """The tools, and the choice among them; for a choice of certain ones only these are shown."""
    offered = [tool for tool in tools if not choice.names or tool.name in choice.names]
    if not offered:
        return {}
    fields: dict[str, object] = {"tools": list(map(_tool, offered))}
    if all(tool.strict for tool in offered):
        fields["strict_tools"] = True
    if choice.mode != "auto":
        fields["tool_choice"] = choice.mode.upper()
    return fields


def _tool(tool: Tool) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = NO_PARAMETERS if tool.parameters is None else tool.parameters
    return {"type": "function", "function": function}


def _sampling(options: Options, dropped: list[str]) -> dict[str, object]:
    """The options, brought into the ranges that are taken here; what has no counterpart there is dropped."""
    top_p, top_k, seed = options.top_p, options.top_k, options.seed
    fields: dict[str, object] = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "p": None if top_p is None else min(max(top_p, _LOWEST_P), _HIGHEST_P),
        "k": None if top_k is None else min(max(top_k, 0), _HIGHEST_K),
        "seed": seed,
        "stop_sequences": options.stop or None,
        "logprobs": options.logprobs or None,
    }
    if seed is not None and seed < 0:
        del fields["seed"]
        dropped.append("seed")
    for name in ("frequency_penalty", "presence_penalty"):
        penalty = getattr(options, name)
        if penalty is not None and penalty < 0:
            dropped.append(name)
        elif penalty is not None:
            fields[name] = min(penalty, 1.0)
    return {name: value for name, value in fields.items() if value is not None}


# The native body, as loosely as the service takes it.
class _Url(Struct, gc=False, omit_defaults=True):
    url: str
    detail: str | None = None


class _Document(Struct, gc=False):
    data: Raw


class _Part(Struct, gc=False):
    type: str
    text: str = ""
    thinking: str = ""
    image_url: _Url | None = None
    document: _Document | None = None


class _Function(Struct, gc=False):
    name: str
    arguments: str = ""


class _Call(Struct, gc=False):
    id: str
    function: _Function


class _Message(Struct, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_plan: str | None = None
    tool_call_id: str | None = None


class _Tool(Struct, gc=False):
    function: RawFields


class _Format(Struct, gc=False):
    type: Literal["text", "json_object"]
    json_schema: RawFields | None = None


class _Thinking(Struct, gc=False):
    type: Literal["enabled", "disabled"]
    token_budget: int | None = None


class _Request(Struct, gc=False):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    tools: list[_Tool] | None = None
    strict_tools: bool | None = None
    tool_choice: Literal["REQUIRED", "NONE"] | None = None
    documents: list[Raw] | None = None
    response_format: _Format | None = None
    max_tokens: int | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    k: int | None = None
    p: float | None = None
    logprobs: bool | None = None
    thinking: _Thinking | None = None


_request = msgspec.json.Decoder(_Request)


def parse_request(body: bytes, path: str) -> ChatRequest | Failure:
    """A native request as OpenAI's. ``path`` says nothing in this format."""
    try:
        native = _request.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return unreadable(error)
    if native.documents:
        return openai.refusal("unsupported_parameter", "'documents' are not supported.", "documents")
    fields: dict[str, object] = {
        "model": native.model,
        "messages": list(map(_openai_message, native.messages)),
        "max_tokens": native.max_tokens,
        "stop": native.stop_sequences,
        "temperature": native.temperature,
        "seed": native.seed,
        "frequency_penalty": native.frequency_penalty,
        "presence_penalty": native.presence_penalty,
        "top_k": native.k,
        "top_p": native.p,
        "logprobs": native.logprobs,
        "tool_choice": native.tool_choice and native.tool_choice.lower(),
        "reasoning_effort": _effort(native.thinking),
    }
    if native.stream:
        # Its streams end with the counts, asked for or not.
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if native.tools:
        strict = {"strict": True} if native.strict_tools else {}
        fields["tools"] = [
            {"type": "function", "function": {**tool.function, **strict}} for tool in native.tools
        ]
    wanted = native.response_format
    if wanted is not None and wanted.json_schema is not None:
        schema = {"name": "answer", "schema": wanted.json_schema}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted is not None:
        fields["response_format"] = {"type": wanted.type}
    return openai.parse_request(_encode(fields))


def _effort(thinking: _Thinking | None) -> Level | None:
    if thinking is None:
        return None
    if thinking.type == "disabled":
        return "none"
    budget = thinking.token_budget
    if budget is None or budget > _MEDIUM:
        return "high"
    return "low" if budget <= _LOW else "medium"


def _openai_message(message: _Message) -> dict[str, object]:
    fields: dict[str, object] = {"role": message.role}
    content, reasoning = message.content, message.tool_plan or ""
    if isinstance(content, list):
        reasoning += "".join([part.thinking for part in content])
        fields["content"] = list(_openai_parts(content))
    elif content is not None or message.role != "assistant":
        fields["content"] = content
    if reasoning:
        fields["reasoning_content"] = reasoning
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _openai_parts(parts: list[_Part]) -> Iterator[dict[str, object]]:
    """A document is its JSON text; what was thought stands elsewhere."""
    for part in parts:
        if part.image_url is not None:
            yield {"type": "image_url", "image_url": part.image_url}
        elif part.document is not None:
            yield {"type": "text", "text": bytes(memoryview(part.document.data)).decode("utf-8", "replace")}
        elif not part.thinking:
            yield {"type": "text", "text": part.text}

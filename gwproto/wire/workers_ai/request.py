"""Requests (Cloudflare: Workers AI, text generation). The path names the model, the body has no field for it."""

from collections import deque
from typing import Literal
from urllib.parse import quote, unquote

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import Failure
from gwproto.wire import conversation
from gwproto.wire.conversation import Media, Options, Tool, Turn
from gwproto.wire.effort import merged
from gwproto.wire.native import taken
from gwproto.wire.neutral import ChatRequest, EncodedRequest, Rendering
from gwproto.wire.openai import request as openai
from gwproto.wire.openai.parts import NO_PARAMETERS, NULL
from gwproto.wire.strict import MAX_DEPTH, too_deep

PATH = "/run/"

PARAMETERS = conversation.COMMON | {"top_k", "seed", "frequency_penalty", "presence_penalty"}

# Without max_tokens the service stops after 256, which no client expects.
_USUAL_OUTPUT = 2048
_MOST_OUTPUT = 4096

_SAMPLING = ("top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")

_encode = msgspec.json.Encoder().encode


def encode_request(request: ChatRequest, rendering: Rendering) -> EncodedRequest:
    """The body for one model; ``dropped`` names what the client sent and cannot be said."""
    request, dropped = taken(request, rendering.quirks, PARAMETERS)
    body: dict[str, object] = {"messages": list(map(_message, _said(request)))}
    if request.stream:
        body["stream"] = True
    body |= _options(conversation.options_of(request), rendering)
    tools, told = _tools(request)
    if tools:
        body["tools"] = tools
    if not told:
        dropped += [name for name in ("tool_choice", "function_call") if name in request.fields]
    wanted = conversation.response_format_of(request)
    if wanted is not None:
        body["response_format"] = (
            {"type": "json_object"}
            if wanted.schema is None
            else {"type": "json_schema", "json_schema": wanted.schema}
        )
    body = merged(merged(body, rendering.effort), rendering.body)
    path = PATH + quote(rendering.model, safe="/@:")
    limit = body.get("max_tokens")
    return EncodedRequest(path, _encode(body), tuple(dropped), limit if isinstance(limit, int) else None)


def _said(request: ChatRequest) -> list[Turn]:
    """The turns that say something: an assistant's empty one is refused."""
    return [
        turn
        for turn in conversation.turns_of(request)
        if turn.role != "assistant" or turn.calls or any(turn.parts)
    ]


def _message(turn: Turn) -> dict[str, object]:
    # Models without eyes refuse lists of parts.
    pictured = any(isinstance(part, Media) and part.kind == "image" for part in turn.parts)
    content: object = [_part(part) for part in turn.parts if _sayable(part)] if pictured else turn.text
    message: dict[str, object] = {"role": turn.role, "content": content}
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in turn.calls
        ]
    if turn.role == "tool":
        message |= {"tool_call_id": turn.call_id, "name": turn.name}
    return message


def _sayable(part: conversation.Part) -> bool:
    return isinstance(part, str) or part.kind == "image"


def _part(part: conversation.Part) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = f"data:{part.media_type};base64,{part.data}" if part.data else part.url
    return {"type": "image_url", "image_url": {"url": url}}


def _options(options: Options, rendering: Rendering) -> dict[str, object]:
    fields: dict[str, object] = {}
    if {"max_tokens", "max_completion_tokens"}.isdisjoint(rendering.quirks.drop or ()):
        usual = min(rendering.max_output or _USUAL_OUTPUT, _MOST_OUTPUT)
        fields["max_tokens"] = options.max_tokens or usual
    names = ("temperature", *_SAMPLING)
    return fields | {name: value for name in names if (value := getattr(options, name)) is not None}


def _tools(request: ChatRequest) -> tuple[list[dict[str, object]], bool]:
    """The functions on offer, and whether that says all the client said about choosing among them.

    There is no word for having to call one, so only those that may be called are offered.
    """
    choice = conversation.tool_choice_of(request) or conversation.ToolChoice()
    if choice.mode == "none":
        return [], True
    tools = conversation.tools_of(request)
    if choice.names:
        tools = [tool for tool in tools if tool.name in choice.names]
    return list(map(_tool, tools)), choice.mode == "auto"


def _tool(tool: Tool) -> dict[str, object]:
    parameters = NO_PARAMETERS if tool.parameters is None else tool.parameters
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


# The native body, as loosely as the service takes it.
class _Url(Struct, gc=False):
    url: str


class _Part(Struct, gc=False, omit_defaults=True):
    type: str
    text: str | None = None
    image_url: _Url | str | None = None


class _Function(Struct, gc=False):
    name: str
    description: str | None = None
    parameters: Raw = NULL


class _Tool(Struct, gc=False):
    """``{"type": "function", "function": …}``, or the function by itself."""

    function: _Function | None = None
    name: str | None = None
    description: str | None = None
    parameters: Raw = NULL


class _Called(Struct, gc=False):
    name: str
    arguments: Raw = Raw(b"{}")


class _Call(Struct, gc=False):
    id: str | None = None
    function: _Called | None = None
    name: str | None = None
    arguments: Raw = Raw(b"{}")


class _Message(Struct, gc=False):
    role: str
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_Call] | None = None


class _Format(Struct, gc=False):
    type: Literal["json_object", "json_schema", "text"]
    json_schema: Raw = NULL


class _Body(Struct, gc=False):
    messages: list[_Message] | None = None
    prompt: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    tools: list[_Tool] | None = None
    response_format: _Format | None = None


_body = msgspec.json.Decoder(_Body)
_text = msgspec.json.Decoder(str)

# What both formats call by one name.
_SHARED = ("max_tokens", "temperature", *_SAMPLING)


def parse_request(body: bytes, path: str) -> ChatRequest | Failure:
    """A native request as OpenAI's. ``path`` names the model after ``/run/``; a ``prompt`` is one user message."""
    if too_deep(body):
        return openai.refusal(
            "invalid_json", f"The request body is nested more than {MAX_DEPTH} levels deep."
        )
    try:
        str(body, "utf-8")
        native = _body.decode(body)
        fields = _openai(native)
    except msgspec.ValidationError as error:
        return openai.refusal("invalid_type", f"Invalid request body: {error}.")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return openai.refusal("invalid_json", "The request body could not be parsed as JSON.")
    model = path.partition("?")[0].partition(PATH)[2]
    if model:
        fields["model"] = unquote(model)
    return openai.parse_request(_encode(fields))


def _openai(native: _Body) -> dict[str, object]:
    fields: dict[str, object] = {
        name: value for name in _SHARED if (value := getattr(native, name)) is not None
    }
    if native.messages is not None:
        fields["messages"] = _openai_messages(native.messages)
    elif native.prompt is not None:
        fields["messages"] = [{"role": "user", "content": native.prompt}]
    if native.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}  # usage always ends its streams
    if native.tools:
        fields["tools"] = list(map(_openai_tool, native.tools))
    wanted = native.response_format
    if wanted is not None:
        fields["response_format"] = (
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted.json_schema}}
            if wanted.type == "json_schema" and wanted.json_schema != NULL
            else {"type": "text" if wanted.type == "text" else "json_object"}
        )
    return fields


def _openai_messages(messages: list[_Message]) -> list[dict[str, object]]:
    """Ids are optional here: calls get one by their place, and tools' messages answer them by name, then in order."""
    out: list[dict[str, object]] = []
    open_calls: deque[tuple[str, str]] = deque()  # name and id of those not yet answered
    for position, message in enumerate(messages):
        fields: dict[str, object] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            calls = []
            for number, call in enumerate(message.tool_calls):
                id_ = call.id or f"call_{position}_{number}"
                function = _called(call)
                open_calls.append((function.name, id_))
                spelled = {"name": function.name, "arguments": _spelled(function.arguments)}
                calls.append({"id": id_, "type": "function", "function": spelled})
            fields["tool_calls"] = calls
        if message.role == "tool":
            answered = _answered(message, open_calls)
            if answered is not None:
                open_calls.remove(answered)
            name, id_ = answered or (message.name or "", message.tool_call_id or f"call_{position}")
            fields |= {"tool_call_id": id_, "name": name}
        out.append(fields)
    return out


def _answered(message: _Message, open_calls: deque[tuple[str, str]]) -> tuple[str, str] | None:
    if message.tool_call_id:
        return next((call for call in open_calls if call[1] == message.tool_call_id), None)
    named = (call for call in open_calls if call[0] == message.name)
    return next(named, open_calls[0] if open_calls else None)


def _called(call: _Call) -> _Called:
    if call.function is not None:
        return call.function
    if call.name is None:
        raise msgspec.ValidationError("a tool call has no `name`")
    return _Called(call.name, call.arguments)


def _spelled(arguments: Raw) -> str:
    """Arguments as JSON text: they come as such, as an object or not at all."""
    if arguments == NULL:
        return "{}"
    text = bytes(memoryview(arguments))
    return _text.decode(text) if text.startswith(b'"') else text.decode()


def _openai_tool(tool: _Tool) -> dict[str, object]:
    function = tool.function
    if function is None:
        if tool.name is None:
            raise msgspec.ValidationError("a tool has no `name`")
        function = _Function(tool.name, tool.description, tool.parameters)
    fields = {
        "name": function.name,
        "description": function.description or None,
        "parameters": function.parameters,
    }
    return {
        "type": "function",
        "function": {name: value for name, value in fields.items() if value not in (None, NULL)},
    }

"""Requests, both directions (Ollama: API, generate a chat completion)."""

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

from gwproto.config import Body, Level
from gwproto.failures import Failure
from gwproto.wire.conversation import (
    COMMON,
    Media,
    Options,
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
from gwproto.wire.native import taken, unreadable
from gwproto.wire.neutral import ChatRequest, EncodedRequest, RawFields, Rendering
from gwproto.wire.openai import request as openai
from gwproto.wire.openai.parts import NO_PARAMETERS, value_of

PATH = "/api/chat"

PARAMETERS = COMMON | {"top_k", "seed", "stop", "presence_penalty", "frequency_penalty", "top_logprobs"}

_THINK: Body = {"think": True}

#: Most models only know whether to think, and those that know how hard take a plain yes too.
EFFORTS: dict[Level, Body] = {
    "none": {"think": False},
    "minimal": _THINK,
    "low": _THINK,
    "medium": _THINK,
    "high": _THINK,
    "xhigh": _THINK,
    "max": _THINK,
}

# What both formats call by one name, there inside ``options``.
_SAMPLING = ("top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")

_encode = msgspec.json.Encoder().encode


def encode_request(request: ChatRequest, rendering: Rendering) -> EncodedRequest:
    """The body for one model; ``dropped`` names what the client sent and cannot be said."""
    quirks = rendering.quirks
    request, dropped = taken(request, quirks, PARAMETERS)
    # Streaming is the default here, so it is always said.
    body: dict[str, object] = {"model": rendering.model, "stream": request.stream}
    body["messages"] = [_message(turn, quirks.replay or "all") for turn in turns_of(request)]
    choice = tool_choice_of(request) or ToolChoice()
    if choice.mode == "required":
        dropped += [name for name in ("tool_choice", "function_call") if name in request.fields]
    if tools := _offered(tools_of(request), choice):
        body["tools"] = [_tool(tool) for tool in tools]
    wanted = response_format_of(request)
    if wanted is not None:
        body["format"] = "json" if wanted.schema is None else wanted.schema
    options = options_of(request)
    if options.logprobs:
        body["logprobs"] = True
        if options.top_logprobs:
            body["top_logprobs"] = options.top_logprobs
    if sampling := _sampling(options):
        body["options"] = sampling
    return EncodedRequest(
        PATH, _encode(merged(merged(body, rendering.effort), rendering.body)), tuple(dropped)
    )


def _message(turn: Turn, replay: str) -> dict[str, object]:
    message: dict[str, object] = {"role": turn.role, "content": turn.text}
    if turn.reasoning and (replay == "all" or (replay == "tools" and turn.calls)):
        message["thinking"] = turn.reasoning
    images = [part.data for part in turn.parts if isinstance(part, Media) and part.kind == "image"]
    if any(images):
        message["images"] = [data for data in images if data]  # an image by address is none
    if turn.calls:
        # No ids: a tool's answer says the name of the function.
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments_object(call.arguments)}}
            for call in turn.calls
        ]
    if turn.name:
        message["tool_name"] = turn.name
    return message


def _offered(tools: list[Tool], choice: ToolChoice) -> list[Tool]:
    """There is no word for a choice, but tools that must not be called need not be shown."""
    if choice.mode == "none":
        return []
    return [tool for tool in tools if not choice.names or tool.name in choice.names]


def _tool(tool: Tool) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = NO_PARAMETERS if tool.parameters is None else tool.parameters
    return {"type": "function", "function": function}


def _sampling(options: Options) -> dict[str, object]:
    fields: dict[str, object] = {
        "num_predict": options.max_tokens,
        "temperature": options.temperature,
        "stop": options.stop or None,
        **{name: getattr(options, name) for name in _SAMPLING},
    }
    return {name: value for name, value in fields.items() if value is not None}


# The native body, as loosely as Ollama takes it.
class _Function(Struct, gc=False):
    name: str
    arguments: dict[str, Raw] = {}


class _Call(Struct, gc=False):
    function: _Function
    id: str = ""


class _Message(Struct, gc=False):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Request(Struct, gc=False):
    messages: list[_Message] = []
    model: str = ""
    stream: bool | None = None
    tools: list[Raw] | None = None
    format: str | dict[str, Raw] | None = None
    options: RawFields | None = None  # those that OpenAI has too; the others steer a local model
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


_request = msgspec.json.Decoder(_Request)

# How an image begins in base64 says what it is; Ollama's images say nothing else.
_SIGNATURES = {"iVBO": "image/png", "/9j/": "image/jpeg", "R0lG": "image/gif", "UklG": "image/webp"}


def parse_request(body: bytes, path: str) -> ChatRequest | Failure:
    """A native request as OpenAI's. ``path`` says nothing in this format."""
    try:
        native = _request.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return unreadable(error)
    fields: dict[str, object] = {"model": native.model, "messages": list(_messages(native.messages))}
    if native.stream is not False:
        # Its streams end with the counts, asked for or not.
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if native.tools:
        fields["tools"] = native.tools
    if native.format == "json":
        fields["response_format"] = {"type": "json_object"}
    elif native.format:
        schema = {"name": "answer", "schema": native.format}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if native.think is not None:
        yes_or_no = "medium" if native.think is True else "none"
        fields["reasoning_effort"] = native.think if isinstance(native.think, str) else yes_or_no
    if native.logprobs:
        fields |= {"logprobs": True, "top_logprobs": native.top_logprobs}
    options = native.options or {}
    limit = value_of(options.get("num_predict"))
    if not isinstance(limit, int) or limit > 0:  # else: none
        fields["max_tokens"] = limit
    fields |= {name: options[name] for name in ("temperature", "stop", *_SAMPLING) if name in options}
    return openai.parse_request(_encode(fields))


def _messages(messages: list[_Message]) -> Iterator[dict[str, object]]:
    """Ids are optional here: a call without one gets one by its place."""
    open_calls: list[tuple[str, str]] = []  # name and id
    for position, message in enumerate(messages):
        fields: dict[str, object] = {"role": message.role, "content": message.content or ""}
        if message.images:
            text = [{"type": "text", "text": message.content}] if message.content else []
            fields["content"] = [*text, *map(_image, message.images)]
        if message.thinking:
            fields["reasoning_content"] = message.thinking
        if message.tool_calls:
            calls = []
            for number, call in enumerate(message.tool_calls):
                id_ = call.id or f"call_{position}_{number}"
                open_calls.append((call.function.name, id_))
                arguments = _encode(call.function.arguments).decode()
                function = {"name": call.function.name, "arguments": arguments}
                calls.append({"id": id_, "type": "function", "function": function})
            fields["tool_calls"] = calls
        if message.role == "tool":
            name, id_ = _answered(message, open_calls) or ("", f"call_{position}")
            fields["tool_call_id"] = message.tool_call_id or id_
            if message.tool_name and message.tool_name != name:
                fields["name"] = message.tool_name
        yield fields


def _answered(message: _Message, open_calls: list[tuple[str, str]]) -> tuple[str, str] | None:
    """The call that a tool's message answers, now no longer open: by its id, else by its name, else the first."""

    def unlike(call: tuple[str, str]) -> tuple[bool, bool]:
        name, id_ = call
        return id_ != message.tool_call_id, name != message.tool_name

    answered = min(open_calls, key=unlike, default=None)
    if answered is not None:
        open_calls.remove(answered)
    return answered


def _image(data: str) -> dict[str, object]:
    url = f"data:{_SIGNATURES.get(data[:4], 'image/png')};base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}

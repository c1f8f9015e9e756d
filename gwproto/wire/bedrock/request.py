"""Chat requests for Converse (Amazon Bedrock Runtime: Converse, inference parameters).

One format for the models of many makers: what one of them takes beyond it stands in ``additionalModelRequestFields``,
where configuration puts it, a model's effort among it. Claude's thinking is asked for there and has rules of its own,
which are made true here.
"""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from urllib.parse import quote

import msgspec

from gwproto.config import Quirks
from gwproto.wire.bedrock.messages import Conversation
from gwproto.wire.bedrock.reasoning import Block
from gwproto.wire.conversation import (
    COMMON,
    Options,
    ResponseFormat,
    Tool,
    Turn,
    options_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.effort import merged
from gwproto.wire.native import in_words, object_schema, taken
from gwproto.wire.neutral import ChatRequest, EncodedRequest, Rendering

PARAMETERS = COMMON | {"stop"}

_encode = msgspec.json.Encoder().encode

_MORE = "additionalModelRequestFields"
_LEAST_BUDGET = 1024  # tokens of thinking
_LEAST_TOP_P = 0.95  # beside thinking


def encode_request(request: ChatRequest, rendering: Rendering) -> EncodedRequest:
    """Path and body for one model; ``dropped`` names what it does not take, or the format has no words for."""
    quirks = rendering.quirks
    request, dropped = taken(request, quirks, PARAMETERS, 1.0)
    asked = request.fields.keys() - dropped
    turns = turns_of(request)
    conversation = Conversation()
    body: Block = {}
    if system := _system(turns, response_format_of(request)):
        if quirks.system_role is False:
            conversation.add(Turn("user", tuple(system)))
        else:
            body["system"] = [{"text": text} for text in system]
    for turn in turns:
        if turn.role != "system":
            conversation.add(turn)
    messages = conversation.messages()
    body["messages"] = messages
    options = options_of(request)
    if inference := _inference(options):
        body["inferenceConfig"] = inference
    if tools := _tools(request, turns, quirks):
        body["toolConfig"] = tools
    body = merged(merged(body, rendering.effort), rendering.body)
    choice = _inside(body, "toolConfig").get("toolChoice")
    wanted = tool_choice_of(request)
    unsaid = wanted is not None and wanted.mode == "none" and "toolConfig" in body
    _settle_thinking(body, messages, rendering.max_output)
    if unsaid or _inside(body, "toolConfig").get("toolChoice") != choice:
        dropped += [name for name in ("tool_choice", "function_call") if name in asked]
    sampling = _inside(body, "inferenceConfig")
    words = {"temperature": "temperature", "top_p": "topP"}
    dropped += [name for name, ours in words.items() if name in asked and ours not in sampling]
    if any(not word.strip() for word in options.stop):
        dropped.append("stop")
    return EncodedRequest(_path(rendering.model, request.stream), _encode(body), tuple(dropped))


def _path(model: str, stream: bool) -> str:
    return f"/model/{quote(model, safe='')}/converse{'-stream' if stream else ''}"


def _inside(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An object in ``body``, which configuration may have changed."""
    inner = body.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _system(turns: Iterable[Turn], format: ResponseFormat | None) -> list[str]:
    texts = [turn.text for turn in turns if turn.role == "system"]
    if format is not None:
        texts.append(in_words(format))
    return [text for text in texts if text.strip()]


def _inference(options: Options) -> Block:
    fields: Block = {}
    if options.max_tokens is not None:
        fields["maxTokens"] = options.max_tokens
    if options.temperature is not None:
        fields["temperature"] = options.temperature
    if options.top_p is not None:
        fields["topP"] = options.top_p
    if stop := [word for word in options.stop if word.strip()]:
        fields["stopSequences"] = stop
    return fields


def _tools(request: ChatRequest, turns: Iterable[Turn], quirks: Quirks) -> Block:
    """The tools, and who may choose among them. There is no word for "none", but tools may be left out.

    Calls of earlier turns are only taken where tools are declared.
    """
    tools = tools_of(request)
    wanted = tool_choice_of(request)
    called = dict.fromkeys(call.name for turn in turns for call in turn.calls)
    if wanted is not None and wanted.mode == "none" and not called:
        tools = []
    if not tools:
        return {"tools": [_tool(Tool(name), quirks) for name in called]} if called else {}
    choice: Block = {}
    if wanted is not None and wanted.mode != "none":
        choice = {"any" if wanted.mode == "required" else "auto": {}}
        if len(wanted.names) == 1 and wanted.mode == "required":
            choice = {"tool": {"name": wanted.names[0]}}
        elif wanted.names:
            tools = [tool for tool in tools if tool.name in wanted.names] or tools
    fields: Block = {"tools": [_tool(tool, quirks) for tool in tools]}
    return fields | {"toolChoice": choice} if choice else fields


def _tool(tool: Tool, quirks: Quirks) -> Block:
    """One tool. A description must not be empty."""
    schema = object_schema(tool.parameters, quirks)
    spec = {"name": tool.name, "description": tool.description or tool.name, "inputSchema": {"json": schema}}
    return {"toolSpec": spec}


def _settle_thinking(body: Block, messages: list[Block], max_output: int) -> None:
    """Make the rest of ``body`` fit Claude's thinking, or do without it (Anthropic: extended thinking)."""
    more = _inside(body, _MORE)
    thinking = _inside(more, "thinking")
    if thinking.get("type") not in ("enabled", "adaptive"):
        return
    settings = dict(_inside(body, "inferenceConfig"))
    budget = _fitting(settings, thinking.get("budget_tokens"), max_output)
    if budget == 0 or _thinking_lost(messages):
        del body[_MORE]
        if rest := {name: value for name, value in more.items() if name != "thinking"}:
            body[_MORE] = rest
        return
    if budget is not None:
        body[_MORE] = {**more, "thinking": {**thinking, "budget_tokens": budget}}
    settings.pop("temperature", None)
    top_p = settings.get("topP")
    if isinstance(top_p, float) and top_p < _LEAST_TOP_P:
        del settings["topP"]
    body.pop("inferenceConfig", None)
    if settings:
        body["inferenceConfig"] = settings
    tools = _inside(body, "toolConfig")
    if not _inside(tools, "toolChoice").keys().isdisjoint(("any", "tool")):
        body["toolConfig"] = {**tools, "toolChoice": {"auto": {}}}


def _fitting(settings: Block, budget: object, max_output: int) -> int | None:
    """The budget that fits into ``maxTokens``, which is raised for it; 0: there is no room, None: there is none."""
    limit = settings.get("maxTokens")
    if not isinstance(budget, int) or not isinstance(limit, int) or budget < limit:
        return budget if isinstance(budget, int) else None
    limit = min(budget + limit, max_output or budget + limit)
    if limit <= _LEAST_BUDGET:
        return 0
    settings["maxTokens"] = limit
    return min(budget, max(_LEAST_BUDGET, limit - 1))


def _thinking_lost(messages: list[Block]) -> bool:
    """Does the tool loop under way lack reasoning that came before one of its calls?"""
    loop = takewhile(
        lambda message: message["role"] == "assistant" or "toolResult" in _kinds(message), reversed(messages)
    )
    return any("toolUse" in _kinds(message) and _kinds(message)[0] != "reasoningContent" for message in loop)


def _kinds(message: Block) -> list[str]:
    content = message["content"]
    return [next(iter(block)) for block in content] if isinstance(content, list) else []

"""Chat requests for the Messages API (Anthropic: messages API, tool use, extended and adaptive thinking).

What the newest models refuse is not known here: a model's quirks say which fields are dropped, and by which fields its
effort is asked for. What belongs together is: thinking goes with few sampling options, with no forced tool, with less
than ``max_tokens``, and only with the thinking of the tool loop that it continues.
"""

from collections.abc import Iterable, Mapping
from itertools import takewhile

import msgspec
from msgspec import Raw

from gwproto.config import Body, Level, Quirks
from gwproto.wire.anthropic.messages import Conversation
from gwproto.wire.conversation import (
    COMMON,
    Options,
    ResponseFormat,
    Tool,
    Turn,
    options_of,
    parallel_calls_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.dialogue import Block
from gwproto.wire.effort import merged
from gwproto.wire.native import in_words, object_schema, taken
from gwproto.wire.neutral import ChatRequest, EncodedRequest, Rendering
from gwproto.wire.openai.adapt import without_keywords
from gwproto.wire.openai.parts import value_of

PATH = "/messages"

PARAMETERS = COMMON | {"top_k", "stop", "user", "safety_identifier", "parallel_tool_calls"}

MAX_TOKENS = 4096  # where neither the client nor the registry says


def _adaptive(effort: str) -> Body:
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}


#: How current models are asked for effort.
EFFORTS: dict[Level, Body] = {
    "none": {"thinking": {"type": "disabled"}},
    "minimal": _adaptive("low"),
    "low": _adaptive("low"),
    "medium": _adaptive("medium"),
    "high": _adaptive("high"),
    "xhigh": _adaptive("xhigh"),
    "max": _adaptive("max"),
}

_encode = msgspec.json.Encoder().encode

_LEAST_BUDGET = 1024  # tokens of thinking
_LEAST_TOP_P = 0.95  # beside thinking


def encode_request(request: ChatRequest, rendering: Rendering) -> EncodedRequest:
    """The body for one target; ``dropped`` names what the client sent and the target does not take."""
    quirks = rendering.quirks
    request, dropped = taken(request, quirks, PARAMETERS, 1.0)
    turns = turns_of(request)
    format = response_format_of(request)
    options = options_of(request)
    body: Block = {
        "model": rendering.model,
        "max_tokens": options.max_tokens or rendering.max_output or MAX_TOKENS,
    }
    if system := _system(turns, format):
        body["system"] = system
    conversation = Conversation()
    for turn in turns:
        if turn.role != "system":
            conversation.add(turn)
    messages = conversation.messages()
    body["messages"] = messages
    body |= _tools(request, turns, quirks)
    if format is not None and format.schema is not None:
        schema = closed(_schema(format.schema, quirks))
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    body |= _sampling(options)
    if options.user:
        body["metadata"] = {"user_id": options.user}
    if request.stream:
        body["stream"] = True
    body = merged(merged(body, rendering.effort), rendering.body)
    choice = body.get("tool_choice")
    _settle_thinking(body, messages, rendering.max_output)
    dropped += [
        name for name in ("temperature", "top_p", "top_k") if name in request.fields.keys() - body.keys()
    ]
    if body.get("tool_choice") != choice:
        dropped.append("tool_choice")
    if any(not word.strip() for word in options.stop):
        dropped.append("stop")
    return EncodedRequest(PATH, _encode(body), tuple(dropped))


def _system(turns: Iterable[Turn], format: ResponseFormat | None) -> str:
    texts = [turn.text for turn in turns if turn.role == "system"]
    if format is not None and format.schema is None:
        texts.append(in_words(format))
    return "\n\n".join(text for text in texts if text.strip())


def _sampling(options: Options) -> Block:
    fields: Block = {}
    if stop := [word for word in options.stop if word.strip()]:
        fields["stop_sequences"] = stop
    if options.temperature is not None:
        fields["temperature"] = options.temperature
    elif options.top_p is not None:  # models from 4.1 on refuse both at once
        fields["top_p"] = options.top_p
    if options.top_k is not None:
        fields["top_k"] = options.top_k
    return fields


def _tools(request: ChatRequest, turns: Iterable[Turn], quirks: Quirks) -> Block:
    """The tools and who may choose among them."""
    tools = tools_of(request)
    if not tools:
        # Calls of earlier turns are only taken where tools are declared.
        called = dict.fromkeys(call.name for turn in turns for call in turn.calls)
        if not called:
            return {}
        declared = [_tool(Tool(name), quirks) for name in called]
        return {"tools": declared, "tool_choice": {"type": "none"}}
    wanted = tool_choice_of(request)
    choice: Block = {}
    if wanted is not None:
        choice = {"type": "any" if wanted.mode == "required" else wanted.mode}
        if len(wanted.names) == 1 and wanted.mode == "required":
            choice = {"type": "tool", "name": wanted.names[0]}
        elif wanted.names:
            tools = [tool for tool in tools if tool.name in wanted.names] or tools
    if parallel_calls_of(request) is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    fields: Block = {"tools": [_tool(tool, quirks) for tool in tools]}
    return fields | {"tool_choice": choice} if choice else fields


def _tool(tool: Tool, quirks: Quirks) -> Block:
    fields: Block = {"name": tool.name}
    if tool.description:
        fields["description"] = tool.description
    fields["input_schema"] = object_schema(tool.parameters, quirks)
    if tool.strict:
        fields["strict"] = True
    return fields


def _schema(raw: Raw, quirks: Quirks) -> object:
    """A JSON schema without the keywords that are refused; as it is if it holds what no number can be."""
    schema = value_of(raw)
    return raw if schema is None else without_keywords(schema, quirks.schema_drop or frozenset())


def closed(schema: object) -> object:
    """A JSON schema whose objects admit no other properties: output formats are refused unless they say so."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {name: closed(value) for name, value in schema.items()}
    kind = out.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind):
        out["additionalProperties"] = False
    return out


def _settle_thinking(body: Block, messages: list[Block], max_output: int) -> None:
    """Make the rest of ``body`` fit thinking, or do without it."""
    thinking = body.get("thinking")
    if not isinstance(thinking, Mapping) or thinking.get("type") not in ("enabled", "adaptive"):
        return
    if _thinking_lost(messages) or not _fit_budget(body, thinking, max_output):
        del body["thinking"]
        return
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") in ("any", "tool"):
        kept = {name: value for name, value in choice.items() if name != "name"}
        body["tool_choice"] = kept | {"type": "auto"}
    for name in ("temperature", "top_k"):
        body.pop(name, None)
    top_p = body.get("top_p")
    if isinstance(top_p, float) and top_p < _LEAST_TOP_P:
        del body["top_p"]


def _fit_budget(body: Block, thinking: Mapping[str, object], max_output: int) -> bool:
    """Make ``max_tokens``, which includes thinking, more than the budget for it. False: there is no room for any."""
    budget, limit = thinking.get("budget_tokens"), body["max_tokens"]
    if not isinstance(budget, int) or not isinstance(limit, int) or budget < limit:
        return True
    limit = min(budget + limit, max_output or budget + limit)
    if limit <= _LEAST_BUDGET:
        return False
    body["max_tokens"] = limit
    if budget >= limit:
        body["thinking"] = {**thinking, "budget_tokens": max(_LEAST_BUDGET, limit - 1)}
    return True


def _thinking_lost(messages: list[Block]) -> bool:
    """Does the tool loop under way lack thinking that came before one of its calls?"""
    loop = takewhile(
        lambda message: message["role"] == "assistant" or "tool_result" in _kinds(message), reversed(messages)
    )
    return any(
        "tool_use" in _kinds(message) and _kinds(message)[0] not in ("thinking", "redacted_thinking")
        for message in loop
    )


def _kinds(message: Block) -> list[object]:
    content = message["content"]
    return [block["type"] for block in content] if isinstance(content, list) else []

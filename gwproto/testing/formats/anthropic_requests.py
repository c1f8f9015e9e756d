"""Requests of Anthropic's Messages API, checked as its own service does, which is particular about them."""

import base64
import hashlib
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gwproto.testing.answers import Ask, Tool, image_name
from gwproto.testing.formats.format import BadRequest

_THINKING = (
    "Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
)


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """An object whose keys are all known."""


class _Base64(_Strict, frozen=True, tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class _Url(_Strict, frozen=True, tag="url"):
    url: str


class _Pdf(_Strict, frozen=True, tag="base64"):
    media_type: Literal["application/pdf"]
    data: str


class _Plain(_Strict, frozen=True, tag="text"):
    media_type: Literal["text/plain"]
    data: str


class _Block(_Strict, frozen=True, kw_only=True):
    cache_control: dict[str, str] | None = None


class _Text(_Block, frozen=True, tag="text"):
    text: str
    citations: list[object] | None = None


class _Image(_Block, frozen=True, tag="image"):
    source: _Base64 | _Url


class _Document(_Block, frozen=True, tag="document"):
    source: _Pdf | _Plain | _Url
    title: str | None = None
    context: str | None = None
    citations: dict[str, bool] | None = None


class _ToolUse(_Block, frozen=True, tag="tool_use"):
    id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$")]
    name: str
    input: dict[str, object]


class _ToolResult(_Block, frozen=True, tag="tool_result"):
    tool_use_id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$")]
    content: str | list[_Text | _Image | _Document] = ""
    is_error: bool = False


class _Thinking(_Strict, frozen=True, tag="thinking"):
    thinking: str
    signature: str


class _Redacted(_Strict, frozen=True, tag="redacted_thinking"):
    data: str


_Content = _Text | _Image | _Document | _ToolUse | _ToolResult | _Thinking | _Redacted


class _Message(_Strict, frozen=True):
    role: Literal["user", "assistant"]
    content: str | list[_Content]

    @property
    def blocks(self) -> list[_Content]:
        return [_Text(text=self.content)] if isinstance(self.content, str) else self.content


class _Tool(_Strict, frozen=True):
    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, object]
    description: str = ""
    type: Literal["custom"] | None = None
    strict: bool = False
    cache_control: dict[str, str] | None = None


class _Choice(_Strict, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class _ThinkingConfig(_Strict, frozen=True):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Meta(ge=1024)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class _OutputFormat(_Strict, frozen=True):
    type: Literal["json_schema"]
    schema: dict[str, object]


class _Output(_Strict, frozen=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _OutputFormat | None = None


class _Metadata(_Strict, frozen=True):
    user_id: Annotated[str, Meta(max_length=512)] | None = None


class _Request(_Strict, frozen=True):
    model: Annotated[str, Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)]
    messages: list[_Message]
    system: str | list[_Text] = ""
    stream: bool = False
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] = []
    tools: list[_Tool] = []
    tool_choice: _Choice | None = None
    thinking: _ThinkingConfig | None = None
    output_config: _Output = _Output()
    metadata: _Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    @property
    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"

    @property
    def instructions(self) -> str:
        return self.system if isinstance(self.system, str) else " ".join(block.text for block in self.system)


_decoder = msgspec.json.Decoder(_Request)
_NAMED = re.compile(r"Object (?:contains unknown|missing required) field `(\w+)`")


def decode(body: bytes, target: str) -> Ask:
    """Raises :class:`BadRequest`."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise BadRequest(_explained(problem)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("The request body is not valid JSON: could not parse it") from None
    turns = _turns(request.messages)
    _check_turns(turns, request.thinks)
    _check_options(request)
    last = turns[-1][1]
    users = [block for role, blocks in turns for block in blocks if role == "user"]
    said = [_words(blocks) for role, blocks in turns if role == "user" and _words(blocks)]
    results = [block for block in last if isinstance(block, _ToolResult)]
    format = request.output_config.format
    effort = request.output_config.effort or ("high" if request.thinks else "")
    return Ask(
        model=request.model,
        text=said[-1] if said else "",
        tool_result=_result(results[-1]) if results and not _words(last) else None,
        images=tuple(_image(block) for block in users if isinstance(block, _Image)),
        prompt="\n".join([request.instructions, *(_words(blocks) for _, blocks in turns)]),
        stream=request.stream,
        include_usage=True,
        tools=_callable(request),
        json=format is not None or "JSON object" in request.instructions,  # models do as they are told
        schema=format.schema if format is not None else None,
        max_tokens=request.max_tokens,
        stop=tuple(request.stop_sequences),
        effort="" if request.thinking is not None and not request.thinks else effort,
    )


def _explained(problem: msgspec.ValidationError) -> str:
    what, _, where = str(problem).partition(" - at `$")
    path = where.rstrip("`").replace("[", ".").replace("]", "").strip(".")
    if field := _NAMED.match(what):
        said = "Extra inputs are not permitted" if "unknown" in what else "Field required"
        return f"{path}.{field[1]}: {said}".lstrip(".")
    return f"{path}: {what}"


def _turns(messages: list[_Message]) -> list[tuple[str, list[_Content]]]:
    """The messages, neighbours of one role merged as the real service does."""
    turns: list[tuple[str, list[_Content]]] = []
    for message in messages:
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(message.blocks)
        else:
            turns.append((message.role, list(message.blocks)))
    return turns


def _words(blocks: list[_Content]) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, _Text))


def _image(block: _Image) -> str:
    source = block.source
    if isinstance(source, _Url):
        return source.url
    return image_name(f"data:{source.media_type};base64,{source.data}")


def _result(block: _ToolResult) -> str:
    if isinstance(block.content, str):
        return block.content
    return " ".join(part.text if isinstance(part, _Text) else "something" for part in block.content)


def _callable(request: _Request) -> tuple[Tool, ...]:
    choice = request.tool_choice or _Choice(type="auto")
    return tuple(
        Tool(tool.name, tool.input_schema)
        for tool in request.tools
        if choice.type != "none" and (choice.type != "tool" or choice.name == tool.name)
    )


def _check_turns(turns: list[tuple[str, list[_Content]]], thinks: bool) -> None:
    if not turns:
        raise BadRequest("messages: at least one message is required")
    if turns[0][0] != "user":
        raise BadRequest('messages: first message must use the "user" role')
    ids: set[str] = set()
    asked: list[str] = []
    for number, (role, blocks) in enumerate(turns):
        if not blocks:
            raise BadRequest(f"messages.{number}: {role} messages must have non-empty content")
        for at, block in enumerate(blocks):
            place = f"messages.{number}.content.{at}"
            if isinstance(block, _Text) and not block.text.strip():
                raise BadRequest("messages: text content blocks must contain non-whitespace text")
            if isinstance(block, _Thinking) and block.signature != signature(block.thinking):
                raise BadRequest(f"{place}: Invalid `signature` in `thinking` block")
            if isinstance(block, _ToolUse):
                if block.id in ids:
                    raise BadRequest(f"{place}: `tool_use` ids must be unique")
                ids.add(block.id)
            theirs = (_ToolUse, _Thinking, _Redacted)
            if isinstance(block, _ToolResult if role == "assistant" else theirs):
                kind = type(block).__struct_config__.tag
                raise BadRequest(f"{place}: `{kind}` blocks cannot be in `{role}` messages")
        _check_results(number, blocks, asked)
        asked = [block.id for block in blocks if isinstance(block, _ToolUse)]
    if asked:
        raise BadRequest(_unanswered(len(turns) - 1, asked))
    role, blocks = turns[-1]
    if role == "assistant" and isinstance(blocks[-1], _Text) and blocks[-1].text != blocks[-1].text.rstrip():
        raise BadRequest("messages: final assistant content cannot end with trailing whitespace")
    if thinks:
        _check_loop(turns)


def _check_results(number: int, blocks: list[_Content], asked: list[str]) -> None:
    """Results of the calls of the message before, all of them, and at the head."""
    head = blocks[: len(asked)]
    answered = {block.tool_use_id for block in head if isinstance(block, _ToolResult)}
    if missing := [id_ for id_ in asked if id_ not in answered]:
        raise BadRequest(_unanswered(number - 1, missing))
    for at, block in enumerate(blocks):
        if isinstance(block, _ToolResult) and (block.tool_use_id not in asked or at >= len(asked)):
            raise BadRequest(
                f"messages.{number}.content.{at}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{block.tool_use_id}. Each `tool_result` block must have a corresponding `tool_use` block "
                "in the previous message."
            )


def _unanswered(number: int, ids: list[str]) -> str:
    return (
        f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def _check_loop(turns: list[tuple[str, list[_Content]]]) -> None:
    """Thinking is wanted back as long as its calls are being answered."""
    for number in range(len(turns) - 1, 0, -2):
        role, blocks = turns[number]
        if role != "user" or not isinstance(blocks[0], _ToolResult):
            return
        first = turns[number - 1][1][0]
        if not isinstance(first, (_Thinking, _Redacted)):
            raise BadRequest(
                f"messages.{number - 1}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{type(first).__struct_config__.tag}`. When `thinking` is enabled, a final `assistant` message must "
                "start with a thinking block (preceding the lastmost set of `tool_use` and `tool_result` blocks). "
                f"To avoid this requirement, disable `thinking`. {_THINKING}"
            )


def _check_options(request: _Request) -> None:
    choice, thinking, names = request.tool_choice, request.thinking, [tool.name for tool in request.tools]
    wrong: dict[str, bool] = {
        "stop_sequences: each stop sequence must contain non-whitespace": not all(
            word.strip() for word in request.stop_sequences
        ),
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.": (
            request.temperature is not None and request.top_p is not None
        ),
        "tools: Tool names must be unique.": len(set(names)) < len(names),
        "tools.0.custom.input_schema.type: Field required": any(
            tool.input_schema.get("type") != "object" for tool in request.tools
        ),
        "tool_choice may only be specified while providing tools": choice is not None and not names,
        "tool_choice: the tool was not found in the provided tools": (
            choice is not None and choice.type == "tool" and choice.name not in names
        ),
        "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false": (
            request.output_config.format is not None and not _closed(request.output_config.format.schema)
        ),
    }
    if thinking is not None and request.thinks:
        budget = thinking.budget_tokens
        wrong |= {
            "thinking.enabled.budget_tokens: Field required": (thinking.type == "enabled")
            != (budget is not None),
            f"`max_tokens` must be greater than `thinking.budget_tokens`. {_THINKING}": (
                (budget or 0) >= request.max_tokens
            ),
            f"`temperature` may only be set to 1 when thinking is enabled or in adaptive mode. {_THINKING}": (
                request.temperature not in (None, 1)
            ),
            f"`top_k` must be unset when thinking is enabled. {_THINKING}": request.top_k is not None,
            f"`top_p` must be at least 0.95 or unset when thinking is enabled. {_THINKING}": (
                request.top_p is not None and request.top_p < 0.95
            ),
            "Thinking may not be enabled when tool_choice forces tool use.": (
                choice is not None and choice.type in ("any", "tool")
            ),
        }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise BadRequest(message)


def _closed(schema: object) -> bool:
    """Do all objects of a schema refuse additional properties?"""
    if isinstance(schema, list):
        return all(map(_closed, schema))
    if not isinstance(schema, dict):
        return True
    open_ = schema.get("type") == "object" and schema.get("additionalProperties") is not False
    return not open_ and all(map(_closed, schema.values()))


def signature(thinking: str) -> str:
    """What makes sure that thinking comes back as it was sent."""
    return base64.b64encode(hashlib.blake2b(thinking.encode(), digest_size=24).digest()).decode()

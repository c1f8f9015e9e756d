"""Requests of Amazon Bedrock's Converse, checked as its own service does, with Claude behind it."""

import base64
import hashlib
import re
from urllib.parse import unquote

import msgspec

from gwproto.testing.answers import Ask, Json, Tool, image_name
from gwproto.testing.formats.bedrock_schema import (
    Block,
    Document,
    Message,
    Request,
    ToolResult,
    Tools,
)
from gwproto.testing.formats.format import BadRequest

_decoder = msgspec.json.Decoder(Request)
PATH = re.compile(r"/model/(?P<model>[^/]+)/converse(?P<stream>-stream)?\Z")
_UNKNOWN = re.compile(r"Object contains unknown field `(\w+)`")
_DOCUMENT_NAME = re.compile(r"[a-zA-Z0-9()\[\]-]+(?:\s[a-zA-Z0-9()\[\]-]+)*\Z")


def decode(body: bytes, target: str) -> Ask:
    """Raises :class:`BadRequest`."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise BadRequest(_explained(problem)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("Unable to parse the request body as JSON.") from None
    _check_messages(request)
    _check_options(request)
    path = PATH.search(target)
    assert path is not None  # or the request would not have been found
    users = [block for message in request.messages if message.role == "user" for block in message.content]
    said = [_words(message) for message in request.messages if message.role == "user" and _words(message)]
    last = request.messages[-1]
    results = [block.toolResult for block in last.content if block.toolResult is not None]
    system = "\n".join(one.text for one in request.system)
    schema, more = _schema(request, system), request.additionalModelRequestFields
    return Ask(
        model=unquote(path["model"]),
        text=said[-1] if said else "",
        tool_result=_told(results[-1]) if results and not _words(last) else None,
        images=tuple(
            image_name(f"data:image/{block.image.format};base64,{block.image.source.bytes}")
            for block in users
            if block.image is not None
        ),
        prompt="\n".join([system, *map(_words, request.messages)]),
        stream=path["stream"] is not None,
        include_usage=True,
        tools=_callable(request.toolConfig),
        json=schema is not None or "JSON object" in system,  # models do as they are told
        schema=schema,
        max_tokens=request.inferenceConfig.maxTokens,
        stop=tuple(request.inferenceConfig.stopSequences),
        effort=more.output_config.effort if more.thinks else "",
    )


def _explained(problem: msgspec.ValidationError) -> str:
    what, _, where = str(problem).partition(" - at `$")
    path = where.rstrip("`").replace("[", ".").replace("]", "").strip(".")
    if field := _UNKNOWN.match(what):
        return f"Malformed input request: #/{path.replace('.', '/')}: extraneous key [{field[1]}] is not permitted"
    return f"The value at {path or 'the request'} is invalid: {what}."


def _words(message: Message) -> str:
    return " ".join(block.text for block in message.content if block.text)


def _told(result: ToolResult) -> str:
    texts = [
        one.text or (msgspec.json.encode(one.json).decode() if one.json is not None else "something")
        for one in result.content
    ]
    return " ".join(texts)


def _schema(request: Request, system: str) -> Json:
    format = request.outputConfig.textFormat
    if format is not None:
        return msgspec.json.decode(format.structure.jsonSchema.schema)
    _, asked, rest = system.partition("JSON schema")
    return msgspec.json.decode(rest[rest.index("{") :]) if asked else None


def _callable(config: Tools | None) -> tuple[Tool, ...]:
    if config is None:
        return ()
    forced = config.toolChoice.tool
    specs = [tool.toolSpec for tool in config.tools if tool.toolSpec is not None]
    return tuple(
        Tool(spec.name, spec.inputSchema.json) for spec in specs if forced is None or forced.name == spec.name
    )


def _check_messages(request: Request) -> None:
    if request.messages[0].role != "user":
        raise BadRequest(
            "A conversation must start with a user message. Try again with a conversation that starts with a user "
            "message."
        )
    names: set[str] = set()
    ids: set[str] = set()
    asked: list[str] = []
    for number, message in enumerate(request.messages):
        if number and message.role == request.messages[number - 1].role:
            raise BadRequest(
                "A conversation must alternate between user and assistant roles. Make sure the conversation alternates "
                "between user and assistant roles and try again."
            )
        if not message.content:
            raise BadRequest(
                f"The content field in the Message object at messages.{number} is empty. Add a ContentBlock object to "
                "the content field and try again."
            )
        kinds = [block.kind for block in message.content]
        for at, block in enumerate(message.content):
            _check_block(message.role, block, f"messages.{number}.content.{at}")
            if block.document is not None:
                _check_document(block.document, names)
            if block.toolUse is not None:
                if block.toolUse.toolUseId in ids:
                    raise BadRequest(f"messages.{number}.content.{at}: `tool_use` ids must be unique")
                ids.add(block.toolUse.toolUseId)
        if "document" in kinds and "text" not in kinds:
            raise BadRequest("A user message that includes a document must also include a text block.")
        if request.toolConfig is None and not {"toolUse", "toolResult"}.isdisjoint(kinds):
            raise BadRequest(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
            )
        _check_results(number, message, asked)
        asked = [block.toolUse.toolUseId for block in message.content if block.toolUse is not None]
    if asked:
        raise BadRequest(_unanswered(len(request.messages), asked))
    last = request.messages[-1]
    if last.role == "assistant" and (text := last.content[-1].text) and text != text.rstrip():
        raise BadRequest("messages: final assistant content cannot end with trailing whitespace")


def _check_block(role: str, block: Block, place: str) -> None:
    kind = block.kind
    if " " in kind or not kind:
        raise BadRequest(
            f"The ContentBlock object at {place} must set one of the following keys: text, image, …"
        )
    if kind == "text" and not str(block.text).strip():
        raise BadRequest(
            f"The text field in the ContentBlock object at {place} is blank. Add text to the text field, and try again."
        )
    theirs = ("toolUse", "reasoningContent") if role == "user" else ("toolResult", "image", "document")
    if kind in theirs:
        raise BadRequest(
            f"The {kind} field in the ContentBlock object at {place} is not allowed for the role {role}."
        )
    thought = block.reasoningContent and block.reasoningContent.reasoningText
    if thought and thought.signature and thought.signature != signature(thought.text):
        raise BadRequest(f"{place}: Invalid `signature` in `thinking` block")


def _check_document(document: Document, names: set[str]) -> None:
    if not _DOCUMENT_NAME.match(document.name):
        raise BadRequest(
            "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, "
            "parentheses, and square brackets. The name can't contain more than one consecutive whitespace character."
        )
    if document.name in names:
        raise BadRequest("The document file names must be unique. Rename the duplicates and try again.")
    names.add(document.name)


def _check_results(number: int, message: Message, asked: list[str]) -> None:
    """Results of the calls of the message before, all of them, and no others."""
    answered = [block.toolResult.toolUseId for block in message.content if block.toolResult is not None]
    if missing := [id_ for id_ in asked if id_ not in answered]:
        raise BadRequest(_unanswered(number, missing))
    if len(answered) > len(asked):
        raise BadRequest(
            f"The number of toolResult blocks at messages.{number}.content exceeds the number of toolUse blocks of "
            "previous turn."
        )


def _unanswered(number: int, ids: list[str]) -> str:
    return f"Expected toolResult blocks at messages.{number}.content for the following Ids: {', '.join(ids)}"


def _check_options(request: Request) -> None:
    config = request.toolConfig or Tools()
    specs = [tool.toolSpec for tool in config.tools if tool.toolSpec is not None]
    inference, more = request.inferenceConfig, request.additionalModelRequestFields
    choice, thinking = config.toolChoice, more.thinking
    wrong = {
        "The value at toolConfig.tools.0.toolSpec.inputSchema.json.type must be one of the following: object.": any(
            spec.inputSchema.json.get("type") != "object" for spec in specs
        ),
        "tools: Tool names must be unique.": len({spec.name for spec in specs}) < len(specs),
        "The tool choice was not found in the provided tools.": choice.tool is not None
        and choice.tool.name not in [spec.name for spec in specs],
        "stopSequences: each stop sequence must contain non-whitespace": not all(
            word.strip() for word in inference.stopSequences
        ),
        "The text field in the SystemContentBlock object at system.0 is blank.": any(
            not one.text.strip() for one in request.system if one.cachePoint is None
        ),
    }
    if more.thinks:
        wrong |= {
            "thinking.enabled.budget_tokens: Field required": (thinking.type == "enabled")
            != (thinking.budget_tokens is not None),
            "`max_tokens` must be greater than `thinking.budget_tokens`.": inference.maxTokens is not None
            and (thinking.budget_tokens or 0) >= inference.maxTokens,
            "`temperature` may only be set to 1 when thinking is enabled.": inference.temperature
            not in (None, 1),
            "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.": inference.topP
            is not None
            and inference.topP < 0.95,
            "Thinking may not be enabled when tool_choice forces tool use.": choice.any is not None
            or choice.tool is not None,
            "Expected `thinking` or `redacted_thinking`, but found `tool_use`.": _thinking_lost(
                request.messages
            ),
        }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise BadRequest(message)


def _thinking_lost(messages: list[Message]) -> bool:
    """Thinking is wanted back as long as its calls are being answered."""
    for number in range(len(messages) - 1, 0, -2):
        if messages[number].role != "user" or messages[number].content[0].kind != "toolResult":
            break
        if messages[number - 1].content[0].kind != "reasoningContent":
            return True
    return False


def signature(thinking: str) -> str:
    """What makes sure that thinking comes back as it was sent."""
    return base64.b64encode(hashlib.blake2b(thinking.encode(), digest_size=24).digest()).decode()

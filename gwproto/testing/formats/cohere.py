"""Cohere's chat format (API v2) as its service speaks it."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gwproto.testing.answers import Answer, Ask, Json, Tool, image_name, tokens
from gwproto.testing.formats.format import BadRequest, Format, Stamp, Stream, bearer, pieces
from gwproto.values import Headers

_encode = msgspec.json.Encoder().encode

Fields = dict[str, object]


class _Url(Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class _Text(Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    text: str


class _Thinking(Struct, frozen=True, forbid_unknown_fields=True, tag="thinking"):
    thinking: str


class _Image(Struct, frozen=True, forbid_unknown_fields=True, tag="image_url"):
    image_url: _Url


class _Document(Struct, frozen=True, forbid_unknown_fields=True, tag="document"):
    document: dict[str, Json]


class _Called(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: str


class _Call(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    type: Literal["function"]
    function: _Called


class _System(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="system"):
    content: str | list[_Text]


class _User(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user"):
    content: str | list[_Text | _Image]


class _Assistant(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    content: str | list[_Text | _Thinking] | None = None
    tool_calls: list[_Call] | None = None
    tool_plan: str | None = None
    citations: list[Json] | None = None


class _ToolAnswer(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="tool"):
    tool_call_id: str
    content: str | list[_Text | _Document]


_Message = _System | _User | _Assistant | _ToolAnswer


class _Declared(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)]
    parameters: dict[str, Json]
    description: str = ""


class _Tool(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Declared


class _Format(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["text", "json_object"]
    json_schema: dict[str, Json] | None = None


class _Think(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["enabled", "disabled"]
    token_budget: Annotated[int, Meta(ge=1)] | None = None


_Penalty = Annotated[float, Meta(ge=0, le=1)]


class _Request(Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool = False
    tools: list[_Tool] = []
    strict_tools: bool = False
    tool_choice: Literal["REQUIRED", "NONE"] | None = None
    documents: list[Json] = []
    citation_options: dict[str, Json] | None = None
    response_format: _Format = _Format("text")
    safety_mode: Literal["CONTEXTUAL", "STRICT", "OFF"] = "CONTEXTUAL"
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=5)] = []
    temperature: Annotated[float, Meta(ge=0)] | None = None
    seed: Annotated[int, Meta(ge=0)] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    k: Annotated[int, Meta(ge=0, le=500)] | None = None
    p: Annotated[float, Meta(ge=0.01, le=0.99)] | None = None
    logprobs: bool = False
    thinking: _Think | None = None
    priority: int = 0


_decoder = msgspec.json.Decoder(_Request)


def decode(body: bytes, target: str) -> Ask:
    """Raises :class:`BadRequest`."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise BadRequest(f"invalid request: {problem}", status=422) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("invalid json syntax") from None
    _check(request)
    users = [message for message in request.messages if isinstance(message, _User)]
    last = request.messages[-1]
    effort = request.thinking
    return Ask(
        model=request.model,
        text=_said(users[-1] if users else last),
        tool_result=_said(last) if isinstance(last, _ToolAnswer) else None,
        images=tuple(
            image_name(part.image_url.url)
            for message in users
            for part in message.content
            if isinstance(part, _Image)
        ),
        prompt="\n".join(map(_said, request.messages)),
        stream=request.stream,
        include_usage=True,
        tools=()
        if request.tool_choice == "NONE"
        else tuple(Tool(tool.function.name, tool.function.parameters) for tool in request.tools),
        json=request.response_format.type == "json_object",
        schema=request.response_format.json_schema,
        max_tokens=request.max_tokens,
        stop=tuple(request.stop_sequences),
        effort="" if effort is None else _effort(effort),
        logprobs=request.logprobs,
    )


def _check(request: _Request) -> None:
    """What types do not say."""
    if request.tool_choice is not None and not request.tools:
        raise BadRequest("invalid request: tool_choice cannot be specified without tools")
    if request.tools and request.response_format.type == "json_object":
        raise BadRequest("invalid request: response_format is not supported with tools")
    calls: set[str] = set()
    for number, message in enumerate(request.messages):
        if isinstance(message, _Assistant):
            if not message.content and not message.tool_calls:
                raise BadRequest(
                    f"invalid request: message at index {number} must have non-empty content or tool calls"
                )
            calls.update(call.id for call in message.tool_calls or ())
            for call in message.tool_calls or ():
                _check_arguments(call.function.arguments)
        elif isinstance(message, _ToolAnswer) and message.tool_call_id not in calls:
            raise BadRequest(f"invalid request: tool call id {message.tool_call_id} not found")


def _check_arguments(arguments: str) -> None:
    try:
        msgspec.json.decode(arguments, type=dict[str, Json])
    except msgspec.DecodeError:
        raise BadRequest("invalid request: tool call arguments must be a JSON object") from None


def _effort(thinking: _Think) -> str:
    if thinking.type == "disabled":
        return "none"
    budget = thinking.token_budget
    return "high" if budget is None else f"{budget} tokens of"


def _said(message: _Message) -> str:
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(part.text for part in content if isinstance(part, _Text))


_FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def _usage(ask: Ask, answer: Answer) -> Fields:
    """Numbers are floats here; what is billed leaves out the model's own preamble."""
    prompt = len(tokens(ask.prompt))
    return {
        "billed_units": {"input_tokens": float(prompt), "output_tokens": float(answer.count)},
        "tokens": {"input_tokens": float(prompt + 500), "output_tokens": float(answer.count)},
        "cached_tokens": 0.0,
    }


def _logprobs(said: tuple[str, ...]) -> Fields:
    return {
        "text": "".join(said),
        "token_ids": [len(token) for token in said],
        "logprobs": [-0.25] * len(said),
    }


def _calls(answer: Answer, stamp: Stamp, *, empty: bool = False) -> list[Fields]:
    return [
        {
            "id": f"{call.name}_{stamp.id[-12:]}{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": "" if empty else call.arguments},
        }
        for number, call in enumerate(answer.calls)
    ]


def whole(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp) -> bytes:
    """One object."""
    (answer,) = choices
    message: Fields = {"role": "assistant"}
    thought = "".join(answer.reasoning)
    if answer.calls:
        message |= {"tool_plan": thought, "tool_calls": _calls(answer, stamp)}
    else:
        thinking = [{"type": "thinking", "thinking": thought}] if thought else []
        message["content"] = [*thinking, {"type": "text", "text": answer.text}]
    body: Fields = {
        "id": stamp.id,
        "finish_reason": _FINISHES[answer.finish],
        "message": message,
        "usage": _usage(ask, answer),
    }
    if ask.logprobs:
        body["logprobs"] = [_logprobs((token,)) for token in answer.tokens]
    return _encode(body)


def stream(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp, words: int) -> Stream:
    """``words`` tokens to an event. Contents are numbered by themselves, and so are calls."""
    (answer,) = choices
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    preamble = (_event("message-start", id=stamp.id, delta={"message": empty}),)
    content: list[bytes] = []
    index = 0
    if answer.calls:
        content += [
            _event("tool-plan-delta", delta={"message": {"tool_plan": "".join(piece)}})
            for piece in pieces(answer.reasoning, words)
        ]
    elif answer.reasoning:
        content += _content("thinking", index, answer.reasoning, words, ask)
        index += 1
    starts = _calls(answer, stamp, empty=True)
    for number, (start, call) in enumerate(zip(starts, answer.calls, strict=True)):
        content.append(_event("tool-call-start", index=number, delta={"message": {"tool_calls": start}}))
        for piece in pieces(tokens(call.arguments), words):
            said = {"function": {"arguments": "".join(piece)}}
            content.append(_event("tool-call-delta", index=number, delta={"message": {"tool_calls": said}}))
        content.append(_event("tool-call-end", index=number))
    if answer.tokens:
        content += _content("text", index, answer.tokens, words, ask)
    delta = {"finish_reason": _FINISHES[answer.finish], "usage": _usage(ask, answer)}
    finish = (_event("message-end", id=stamp.id, delta=delta),)
    return Stream(preamble, tuple(content), finish, (), b"data: [DONE]\n\n")


def _content(kind: str, index: int, said: tuple[str, ...], words: int, ask: Ask) -> list[bytes]:
    start = {"message": {"content": {"type": kind, kind: ""}}}
    events = [_event("content-start", index=index, delta=start)]
    for piece in pieces(said, words):
        more = {"logprobs": _logprobs(piece)} if ask.logprobs and kind == "text" else {}
        delta = {"message": {"content": {kind: "".join(piece)}}}
        events.append(_event("content-delta", index=index, delta=delta, **more))
    return [*events, _event("content-end", index=index)]


def _event(type_: str, **fields: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (type_.encode(), _encode({"type": type_, **fields}))


_UNKNOWN_MODEL = re.compile(r"`(.*)`")
_NOT_FOUND = "not found, make sure the correct model ID was used and that you have access to the model."
_WORDS: dict[int, str] = {
    400: "invalid request: message must be at least 1 token long or tool results must be specified.",
    401: "invalid api token",
    402: "Please add or update your payment method at https://dashboard.cohere.com/billing",
    403: "Please ensure that you have access to this resource.",
    404: f"model 'mock' {_NOT_FOUND}",
    422: "invalid request: cannot process",
    429: (
        "You are using a Trial key, which is limited to 20 API calls / minute. You can continue to use the Trial "
        "key for free or upgrade to a Production key with higher rate limits at "
        "'https://dashboard.cohere.com/api-keys'."
    ),
    498: "invalid token",
    501: "this feature is not implemented",
    503: "the service is currently unavailable, please try again later",
    504: "gateway timeout",
}
_SERVER_ERROR = "internal server error, this has been reported to our developers."


def error(
    status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """An error body with the real service's words."""
    words = message or _WORDS.get(status, _SERVER_ERROR)
    if code == "model_not_found" and (named := _UNKNOWN_MODEL.search(words)):
        words = f"model '{named[1]}' {_NOT_FOUND}"
    return _encode({"id": "5f3c1f2e-8a4b-4c6d-9e7f-0a1b2c3d4e5f", "message": words})


def error_event(status: int) -> bytes:
    """An error inside a stream: an answer that ends at once."""
    words = _WORDS.get(status, _SERVER_ERROR)
    return _event("message-end", delta={"finish_reason": "ERROR", "error": words})


def models(names: tuple[str, ...], created: int, owner: str) -> bytes:
    """The list of models."""
    return _encode(
        {
            "models": [
                {
                    "name": name,
                    "endpoints": ["chat"],
                    "finetuned": False,
                    "context_length": 128_000,
                    "features": ["json_mode", "json_schema", "safety_modes", "strict_tools", "tools"],
                }
                for name in names
            ]
        }
    )


def limits(limit: int, remaining: int, reset: float) -> Headers:
    """What a trial key is told; when it may go on it is not."""
    return (
        (b"x-trial-endpoint-call-limit", b"%d" % limit),
        (b"x-trial-endpoint-call-remaining", b"%d" % remaining),
    )


FORMAT = Format(
    name="cohere",
    base="/v2",
    id_prefix="",
    key=bearer,
    chat=re.compile("^/v2/chat$"),
    listing=re.compile("/models$"),
    decode=decode,
    whole=whole,
    stream=stream,
    error=error,
    error_event=error_event,
    models=models,
    limits=limits,
)

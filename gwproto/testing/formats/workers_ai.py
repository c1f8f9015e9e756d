"""Cloudflare Workers AI as it speaks its own format: ``POST …/ai/run/{model}``.

Models with ``gpt-oss`` in their name answer in OpenAI's shape, inside the same envelope.
"""

import re
from typing import Literal
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from gwproto.testing.answers import Answer, Ask, Tool, image_name, tokens
from gwproto.testing.formats import openai
from gwproto.testing.formats.format import BadRequest, Format, Stamp, Stream, bearer, pieces

_encode = msgspec.json.Encoder().encode
_BASE = "/client/v4/accounts/acc/ai"
_RUN = "/run/"
_MAX_TOKENS = 256  # without max_tokens


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Url(_Strict, frozen=True):
    url: str


class _Part(_Strict, frozen=True):
    type: Literal["text", "image_url"]
    text: str = ""
    image_url: _Url | None = None


class _Called(_Strict, frozen=True):
    name: str
    arguments: str


class _Call(_Strict, frozen=True):
    id: str
    type: Literal["function"]
    function: _Called


class _Message(_Strict, frozen=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[_Part]  # never null
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def parts(self) -> list[_Part]:
        return [_Part("text", self.content)] if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self.parts if part.text)


class _Function(_Strict, frozen=True):
    name: str
    description: str
    parameters: dict[str, object]


class _Tool(_Strict, frozen=True):
    """Either form of a tool: wrapped as OpenAI does, or bare."""

    type: Literal["function"] | None = None
    function: _Function | None = None
    name: str = ""
    description: str = ""
    parameters: dict[str, object] | None = None


class _ResponseFormat(_Strict, frozen=True):
    type: Literal["json_object", "json_schema"]
    json_schema: dict[str, object] | None = None


class _Request(_Strict, frozen=True):
    messages: list[_Message] | None = None
    prompt: str | None = None
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    tools: list[_Tool] | None = None
    response_format: _ResponseFormat | None = None
    reasoning_effort: str | None = None
    lora: str | None = None
    raw: bool | None = None


_decoder = msgspec.json.Decoder(_Request)


def decode(body: bytes, target: str) -> Ask:
    """Raises :class:`BadRequest`."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise _mismatch(str(problem)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("AiError: Bad input: failed to decode JSON", code="3003") from None
    messages = request.messages
    if messages is None:
        if request.prompt is None:
            raise _mismatch("required properties at '/' are 'prompt'")
        messages = [_Message("user", request.prompt)]
    if not messages:
        raise _mismatch("'/messages' is empty")
    images = [
        part.image_url.url for message in messages for part in message.parts if part.image_url is not None
    ]
    if not all(url.startswith("data:") for url in images):
        raise BadRequest("AiError: Invalid base64 data in image_url", code="5004")
    users = [message.text for message in messages if message.role == "user"]
    last = messages[-1]
    wanted = request.response_format
    return Ask(
        model=unquote(target.partition("?")[0]).partition(_RUN)[2],
        text=users[-1] if users else last.text,
        tool_result=last.text if last.role == "tool" else None,
        images=tuple(map(image_name, images)),
        prompt="\n".join(message.text for message in messages),
        stream=request.stream,
        include_usage=True,
        tools=tuple(map(_tool, request.tools or ())),
        json=wanted is not None,
        schema=wanted.json_schema if wanted is not None else None,
        max_tokens=request.max_tokens or _MAX_TOKENS,
        effort=request.reasoning_effort or "",
    )


def _mismatch(what: str) -> BadRequest:
    return BadRequest(f"AiError: Bad input: Error: oneOf at '/' not met, 0 matches: {what}", code="5006")


def _tool(tool: _Tool) -> Tool:
    if tool.function is not None:
        return Tool(tool.function.name, tool.function.parameters)
    if not tool.name or tool.parameters is None:
        raise _mismatch("required properties at '/tools/0' are 'name,description,parameters'")
    return Tool(tool.name, tool.parameters)


def _speaks_openai(stamp: Stamp) -> bool:
    return "gpt-oss" in stamp.model


def _usage(ask: Ask, choices: tuple[Answer, ...]) -> dict[str, int]:
    prompt = len(tokens(ask.prompt))
    completion = sum(answer.count for answer in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _calls(answer: Answer) -> list[dict[str, object]]:
    return [{"name": call.name, "arguments": msgspec.Raw(call.arguments.encode())} for call in answer.calls]


def whole(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp) -> bytes:
    """The answer in the envelope. Where JSON was asked for, ``response`` is that and no text."""
    if _speaks_openai(stamp):
        result: object = msgspec.Raw(openai.whole(ask, choices, stamp))
    else:
        (answer,) = choices
        response: object = answer.text
        if answer.calls:
            response = None
        elif ask.json and answer.finish == "stop":
            response = msgspec.Raw(answer.text.encode())
        fields: dict[str, object] = {"response": response}
        if answer.calls:
            fields["tool_calls"] = _calls(answer)
        result = {**fields, "usage": _usage(ask, choices)}
    return _encode({"result": result, "success": True, "errors": [], "messages": []})


def stream(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp, words: int) -> Stream:
    """Tokens with padding, then usage; a token that is a number comes as one."""
    if _speaks_openai(stamp):
        return openai.stream(ask, choices, stamp, words)
    (answer,) = choices
    content = [
        _event({"response": _token("".join(piece)), "p": "abcdef"[: len(piece) % 7]})
        for piece in pieces(answer.tokens, words)
    ]
    if answer.calls:
        content.append(_event({"response": "", "tool_calls": _calls(answer), "p": ""}))
    usage = _event({"response": "", "usage": _usage(ask, choices)})
    return Stream((), tuple(content), (), (usage,), b"data: [DONE]\n\n")


def _token(text: str) -> object:
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text


def _event(fields: dict[str, object]) -> bytes:
    return b"data: %s\n\n" % _encode(fields)


_KINDS: dict[int, tuple[int, str]] = {
    400: (5006, "AiError: Bad input"),
    401: (10000, "Authentication error"),
    402: (5018, "This account is not allowed to access this model."),
    403: (5018, "This account is not allowed to access this model."),
    404: (5007, "No such model or task"),
    405: (5005, "Method not allowed"),
    408: (3007, "Request timeout"),
    413: (3006, "Request is too large"),
    429: (971, "Please wait and consider throttling your request rate"),
    503: (3040, "AiError: No more data centers to forward the request to. Out of capacity."),
    504: (3007, "Request timeout"),
}
_INTERNAL = (8001, "AiError: Internal server error")


def error(
    status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """Cloudflare's envelope of a failure."""
    usual, words = _KINDS.get(status, _INTERNAL)
    number = int(code) if code is not None and code.isdigit() else usual
    failed = {"code": number, "message": message or words}
    return _encode({"success": False, "result": None, "messages": [], "errors": [failed]})


def error_event(status: int) -> bytes:
    """The same inside a stream."""
    return b"data: %s\n\n" % error(status)


def models(names: tuple[str, ...], created: int, owner: str) -> bytes:
    """The answer to a search for models."""
    rows = [{"id": name, "name": name, "task": {"name": "Text Generation"}} for name in names]
    return _encode({"success": True, "result": rows, "errors": [], "messages": []})


FORMAT = Format(
    name="workers_ai",
    base=_BASE,
    id_prefix="",
    key=bearer,
    chat=re.compile("/ai/run/"),
    listing=re.compile("/ai/models/search$"),
    decode=decode,
    whole=whole,
    stream=stream,
    error=error,
    error_event=error_event,
    models=models,
)

"""OpenAI's chat format as providers speak it."""

import math
import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gwproto.testing.answers import Answer, Ask, Tool, image_name, tokens
from gwproto.testing.formats.format import BadRequest, Format, Stamp, Stream, bearer, header, pieces
from gwproto.values import Headers

_encode = msgspec.json.Encoder().encode


class _Url(Struct, frozen=True):
    url: str


class _Part(Struct, frozen=True):
    type: str = "text"
    text: str = ""
    image_url: _Url | str | None = None  # the latter is Mistral's


class _Message(Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content if part.text)
        return self.content or ""

    @property
    def images(self) -> tuple[str, ...]:
        parts = self.content if isinstance(self.content, list) else ()
        urls = [part.image_url for part in parts if part.image_url is not None]
        return tuple(image_name(url if isinstance(url, str) else url.url) for url in urls)


class _Function(Struct, frozen=True):
    name: str = ""
    parameters: dict[str, object] | None = None


class _Tool(Struct, frozen=True):
    type: str
    function: _Function = _Function()


class _Schema(Struct, frozen=True):
    schema: dict[str, object] | None = None


class _ResponseFormat(Struct, frozen=True):
    type: str
    json_schema: _Schema = _Schema()


class _StreamOptions(Struct, frozen=True):
    include_usage: bool = False


class _Request(Struct, frozen=True):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None
    response_format: _ResponseFormat | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = None


_decoder = msgspec.json.Decoder(_Request)


def decode(body: bytes, target: str) -> Ask:
    """Raises :class:`BadRequest`."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise BadRequest(f"Invalid request: {problem}", code="invalid_value") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("We could not parse the JSON body of your request.") from None
    messages = request.messages
    last = messages[-1]
    users = [message.text for message in messages if message.role == "user"]
    format = request.response_format or _ResponseFormat("text")
    stop = request.stop or []
    return Ask(
        model=request.model,
        text=users[-1] if users else last.text,
        tool_result=last.text if last.role in ("tool", "function") else None,
        images=tuple(image for message in messages if message.role == "user" for image in message.images),
        prompt="\n".join(message.text for message in messages),
        stream=request.stream is True,
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
        tools=_callable(request),
        json=format.type in ("json_object", "json_schema"),
        schema=format.json_schema.schema,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        n=request.n or 1,
        effort=request.reasoning_effort or "",
        logprobs=request.logprobs is True,
    )


def _callable(request: _Request) -> tuple[Tool, ...]:
    choice = request.tool_choice
    if choice == "none":
        return ()
    functions = [tool.function for tool in request.tools or () if tool.type == "function"]
    if isinstance(choice, _Tool):
        functions = [function for function in functions if function.name == choice.function.name]
    return tuple(Tool(function.name, function.parameters) for function in functions)


def usage(ask: Ask, choices: tuple[Answer, ...]) -> dict[str, object]:
    prompt = len(tokens(ask.prompt))
    completion = sum(answer.count for answer in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": sum(len(answer.reasoning) for answer in choices)},
    }


def whole(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp) -> bytes:
    """A ``chat.completion`` object."""
    return _encode(
        {
            "id": stamp.id,
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": [
                {
                    "index": index,
                    "message": _message(answer, stamp, index),
                    "logprobs": _logprobs(answer.tokens) if ask.logprobs else None,
                    "finish_reason": answer.finish,
                }
                for index, answer in enumerate(choices)
            ],
            "usage": usage(ask, choices),
            "system_fingerprint": "fp_simulated",
        }
    )


def _message(answer: Answer, stamp: Stamp, choice: int) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if answer.calls else answer.text,
        "refusal": None,
    }
    if answer.reasoning:
        message["reasoning_content"] = "".join(answer.reasoning)
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": _call_id(stamp, choice, index),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(answer.calls)
        ]
    return message


def _call_id(stamp: Stamp, choice: int, index: int) -> str:
    return f"call_{stamp.id[-8:]}{choice}{index}"


def _logprobs(said: tuple[str, ...]) -> dict[str, object]:
    return {
        "content": [
            {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}
            for token in said
        ],
        "refusal": None,
    }


def stream(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp, words: int) -> Stream:
    """``words`` tokens to a chunk. With usage asked for every other chunk carries ``usage: null``.

    A call whose arguments fit into one chunk comes whole, as Groq's and Mistral's do.
    """
    nothing = {"usage": None} if ask.include_usage else {}

    def chunk(
        choice: int, delta: dict[str, object], finish: str | None = None, said: tuple[str, ...] = ()
    ) -> bytes:
        logprobs = _logprobs(said) if ask.logprobs and said else None
        return _event(
            stamp,
            choices=[{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}],
            **nothing,
        )

    preamble, content, finish = [], [], []
    for index, answer in enumerate(choices):
        opening: dict[str, object] = {"role": "assistant", "content": "", "refusal": None}
        preamble.append(chunk(index, opening))
        for piece in pieces(answer.reasoning, words):
            content.append(chunk(index, {"reasoning_content": "".join(piece)}))
        for number, call in enumerate(answer.calls):
            said = tokens(call.arguments)
            head = {
                "index": number,
                "id": _call_id(stamp, index, number),
                "type": "function",
                "function": {"name": call.name, "arguments": "" if len(said) > words else call.arguments},
            }
            content.append(chunk(index, {"tool_calls": [head]}))
            for piece in pieces(said if len(said) > words else (), words):
                fragment = {"index": number, "function": {"arguments": "".join(piece)}}
                content.append(chunk(index, {"tool_calls": [fragment]}))
        for piece in pieces(answer.tokens, words):
            content.append(chunk(index, {"content": "".join(piece)}, said=piece))
        finish.append(chunk(index, {}, answer.finish))
    counts = (_event(stamp, choices=[], usage=usage(ask, choices)),) if ask.include_usage else ()
    return Stream(tuple(preamble), tuple(content), tuple(finish), counts, b"data: [DONE]\n\n")


def _event(stamp: Stamp, **fields: object) -> bytes:
    head = {
        "id": stamp.id,
        "object": "chat.completion.chunk",
        "created": stamp.created,
        "model": stamp.model,
        "system_fingerprint": "fp_simulated",
    }
    return b"data: %s\n\n" % _encode({**head, **fields})


_KINDS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", "invalid_value", "Invalid value for 'temperature'."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-si***ated."),
    402: ("insufficient_balance", "invalid_request_error", "Insufficient Balance"),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Country not supported"),
    404: (
        "invalid_request_error",
        "model_not_found",
        "The model does not exist or you have no access to it.",
    ),
    408: ("server_error", "timeout", "The request timed out."),
    413: ("invalid_request_error", "request_too_large", "Request entity too large"),
    422: ("invalid_request_error", "unprocessable", "Unprocessable request."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    503: ("service_unavailable_error", "server_is_overloaded", "The server is currently overloaded."),
    529: ("overloaded_error", "overloaded", "Overloaded"),
}
_SERVER_ERROR = ("server_error", None, "The server had an error while processing your request.")


def error(
    status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """An error body with the real provider's kind of words."""
    kind, usual_code, words = _KINDS.get(status, _SERVER_ERROR)
    return _encode(
        {
            "error": {
                "message": message or words,
                "type": kind,
                "param": param,
                "code": usual_code if message is None else code,
            }
        }
    )


def models(names: tuple[str, ...], created: int, owner: str) -> bytes:
    """The list of models. Without ``type`` and ``capabilities`` Mistral's client cannot read it."""
    about = {"object": "model", "created": created, "owned_by": owner, "type": "base", "capabilities": {}}
    return _encode({"object": "list", "data": [{"id": name, **about} for name in names]})


def error_event(status: int) -> bytes:
    """An error inside a stream."""
    return b"data: %s\n\n" % error(status)


def limits(limit: int, remaining: int, reset: float) -> Headers:
    """Rate limits in headers; the reset is a Go duration."""
    return (
        (b"x-ratelimit-limit-requests", b"%d" % limit),
        (b"x-ratelimit-remaining-requests", b"%d" % remaining),
        (b"x-ratelimit-reset-requests", b"%ds" % math.ceil(reset)),
    )


FORMAT = Format(
    name="openai",
    base="/v1",
    id_prefix="chatcmpl-",
    key=lambda headers, _: bearer(headers) or header(headers, b"api-key"),  # the latter is Azure's
    chat=re.compile("/chat/completions$"),
    listing=re.compile("/models$"),
    decode=decode,
    whole=whole,
    stream=stream,
    error=error,
    error_event=error_event,
    models=models,
    limits=limits,
)

"""Ollama's chat format (``/api/chat``) as its server speaks it: lines of JSON, streamed unless told otherwise."""

import base64
import binascii
import datetime
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gwproto.testing.answers import Answer, Ask, Call, Json, Tool, tokens
from gwproto.testing.formats.format import BadRequest, Format, Stamp, Stream, bearer, pieces

_encode = msgspec.json.Encoder().encode

_MEDIA_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


class _Function(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Json]
    index: int = 0


class _Call(Struct, frozen=True, forbid_unknown_fields=True):
    function: _Function
    id: str = ""


class _Message(Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str = ""
    images: list[str] = []
    tool_calls: list[_Call] = []
    tool_name: str = ""
    tool_call_id: str = ""


class _Declared(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Json]
    description: str = ""


class _Tool(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Declared


class _Options(Struct, frozen=True, forbid_unknown_fields=True):
    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: list[str] = []
    num_ctx: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class _Request(Struct, frozen=True, forbid_unknown_fields=True):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    tools: list[_Tool] = []
    format: Literal["", "json"] | dict[str, Json] = ""
    options: _Options | None = None
    think: bool | Literal["high", "medium", "low"] | None = None
    keep_alive: float | str | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] = 0


_decoder = msgspec.json.Decoder(_Request)


def decode(body: bytes, target: str) -> Ask:
    """Raises :class:`BadRequest`."""
    if not body:
        raise BadRequest("missing request body")
    try:
        request = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise BadRequest(f"json: cannot unmarshal: {problem}") from None
    last = request.messages[-1]
    users = [message for message in request.messages if message.role == "user"]
    options = request.options or _Options()
    limit = options.num_predict
    return Ask(
        model=request.model,
        text=(users or [last])[-1].content,
        tool_result=last.content if last.role == "tool" else None,
        images=tuple(_image_name(image) for message in users for image in message.images),
        prompt="\n".join(message.content for message in request.messages),
        stream=request.stream is not False,
        include_usage=True,
        tools=tuple(Tool(tool.function.name, tool.function.parameters) for tool in request.tools),
        json=request.format != "",
        schema=request.format if isinstance(request.format, dict) else None,
        max_tokens=limit if limit is not None and limit > 0 else None,
        stop=tuple(options.stop),
        effort=_effort(request.think),
        logprobs=request.logprobs,
    )


def _effort(think: bool | str | None) -> str:
    if isinstance(think, str):
        return think
    return {None: "", False: "none", True: "medium"}[think]


def _image_name(data: str) -> str:
    try:
        start = base64.b64decode(data, validate=True)[:4]
    except binascii.Error as problem:
        raise BadRequest(f"illegal base64 data: {problem}") from None
    kind = next((kind for magic, kind in _MEDIA_TYPES.items() if start.startswith(magic)), "image/unknown")
    return f"{kind} of {len(data)} characters"


def _line(
    stamp: Stamp, said: tuple[str, ...] = (), logprobs: bool = False, **message: object
) -> dict[str, object]:
    created = datetime.datetime.fromtimestamp(stamp.created, datetime.UTC)
    line: dict[str, object] = {
        "model": stamp.model,
        "created_at": f"{created:%Y-%m-%dT%H:%M:%S}.123456789Z",
        "message": {"role": "assistant", "content": "".join(said), **message},
        "done": False,
    }
    if logprobs and said:
        line["logprobs"] = [
            {"token": token, "logprob": -0.25, "bytes": list(token.encode())} for token in said
        ]
    return line


def _end(ask: Ask, answer: Answer) -> dict[str, object]:
    """What a last line has beyond the others; durations are in nanoseconds."""
    return {
        "done": True,
        "done_reason": "length" if answer.finish == "length" else "stop",
        "total_duration": 5_000_000_000,
        "load_duration": 1_000_000_000,
        "prompt_eval_count": len(tokens(ask.prompt)),
        "prompt_eval_duration": 1_000_000_000,
        "eval_count": answer.count,
        "eval_duration": 3_000_000_000,
    }


def _calls(answer: Answer, stamp: Stamp) -> list[dict[str, object]]:
    return [_call(call, number, stamp) for number, call in enumerate(answer.calls)]


def _call(call: Call, number: int, stamp: Stamp) -> dict[str, object]:
    arguments = msgspec.json.decode(call.arguments)
    function = {"index": number, "name": call.name, "arguments": arguments}
    return {"id": f"call_{stamp.id[-8:]}{number}", "function": function}


def whole(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp) -> bytes:
    """One object."""
    (answer,) = choices
    message: dict[str, object] = {}
    if answer.reasoning:
        message["thinking"] = "".join(answer.reasoning)
    if answer.calls:
        message["tool_calls"] = _calls(answer, stamp)
    return _encode({**_line(stamp, answer.tokens, ask.logprobs, **message), **_end(ask, answer)})


def stream(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp, words: int) -> Stream:
    """``words`` tokens to a line; a call comes whole."""
    (answer,) = choices
    content = [_line(stamp, thinking="".join(piece)) for piece in pieces(answer.reasoning, words)]
    content += [_line(stamp, tool_calls=[call]) for call in _calls(answer, stamp)]
    content += [_line(stamp, piece, ask.logprobs) for piece in pieces(answer.tokens, words)]
    end = {**_line(stamp), **_end(ask, answer)}
    return Stream((), tuple(_encode(line) + b"\n" for line in content), (_encode(end) + b"\n",))


_WORDS: dict[int, str] = {
    400: '"mock" does not support thinking',
    401: "unauthorized",
    402: "this model requires a subscription, upgrade for access: https://ollama.com/upgrade",
    403: "this model requires a subscription, upgrade for access: https://ollama.com/upgrade",
    404: 'model "mock" not found, try pulling it first',
    410: "mock was retired",
    429: "too many concurrent requests",
    503: "server busy, please try again.  maximum pending requests exceeded",
}
_SERVER_ERROR = "an error was encountered while running the model: unexpected EOF"
_UNKNOWN_MODEL = re.compile(r"`(.*)`")


def error(
    status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """An error body with the real server's words."""
    words = message or _WORDS.get(status, _SERVER_ERROR)
    if code == "model_not_found" and (named := _UNKNOWN_MODEL.search(words)):
        words = f'model "{named[1]}" not found, try pulling it first'
    return _encode({"error": words})


def error_event(status: int) -> bytes:
    """An error inside a stream: a line of its own."""
    return error(status) + b"\n"


def models(names: tuple[str, ...], created: int, owner: str) -> bytes:
    """The models that have been pulled."""
    modified = datetime.datetime.fromtimestamp(created, datetime.UTC)
    return _encode(
        {
            "models": [
                {
                    "name": name,
                    "model": name,
                    "modified_at": modified,
                    "size": 3_338_801_804,
                    "digest": "a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a",
                    "details": {"parent_model": "", "format": "gguf", "family": owner, "families": [owner]},
                }
                for name in names
            ]
        }
    )


FORMAT = Format(
    name="ollama",
    base="",
    id_prefix="",
    stream_type=b"application/x-ndjson",
    key=bearer,
    chat=re.compile("^/api/chat$"),
    listing=re.compile("^/api/tags$"),
    decode=decode,
    whole=whole,
    stream=stream,
    error=error,
    error_event=error_event,
    models=models,
)

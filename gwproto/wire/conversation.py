"""A request in words that belong to no format: what formats other than OpenAI's are written from.

A client's request stays raw fields as long as it goes on in OpenAI's format. Every other format needs its messages,
tools and options one by one; here they are, with OpenAI's older spellings (``functions``, ``function_call``, role
``function``) folded into the newer ones.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from gwproto.wire.neutral import ChatRequest, RawFields
from gwproto.wire.openai.parts import NULL, text_of

_encode = msgspec.json.Encoder().encode

#: Fields that every format says in its own way, or that say nothing of their own.
ALWAYS = frozenset(("model", "messages", "stream", "stream_options", "reasoning_effort", "n", "logprobs"))
#: Those and what every format has words for.
COMMON = ALWAYS | {
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "response_format"),
    *("tools", "tool_choice", "functions", "function_call"),
}


class Media(Struct, frozen=True, gc=False):
    """An image, a sound or a file: by value (``data``, in base64) or by address (``url``)."""

    kind: Literal["image", "audio", "file"]
    media_type: str = ""  # "": unknown
    data: str = ""
    url: str = ""
    name: str = ""
    detail: str = ""  # low high auto


Part = str | Media


class Call(Struct, frozen=True, gc=False):
    """A tool call of an earlier turn. ``arguments`` is JSON text of an object; ``extra`` what its provider added."""

    id: str
    name: str
    arguments: str = "{}"
    extra: RawFields = {}


class Turn(Struct, frozen=True, gc=False):
    """One message. A ``tool`` turn answers the call ``call_id`` of the function ``name``."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...] = ()
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    name: str = ""
    reasoning: str = ""
    extra: RawFields = {}  # an assistant's extra_content: what its provider wants back

    @property
    def text(self) -> str:
        """All its text."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


class Tool(Struct, frozen=True, gc=False):
    """A function that may be called; ``parameters`` is its JSON schema, None when it takes none."""

    name: str
    description: str = ""
    parameters: Raw | None = None
    strict: bool = False


class ToolChoice(Struct, frozen=True, gc=False):
    """Whether a tool must be called; ``names`` are the only ones allowed, none: any."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()


class ResponseFormat(Struct, frozen=True, gc=False):
    """The JSON that is asked for; ``schema`` None: any object."""

    schema: Raw | None = None
    name: str = "answer"
    strict: bool = False


class Options(Struct, frozen=True, gc=False, kw_only=True):
    """What steers sampling; None: the provider's default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    user: str = ""


# OpenAI's messages, as loosely as parse_request lets them through. A Raw field holds ``null`` where nothing was sent:
# msgspec knows no optional Raw.
class _Url(Struct, gc=False):
    url: str
    detail: str | None = None


class _Audio(Struct, gc=False):
    data: str
    format: str | None = None


class _File(Struct, gc=False):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Part(Struct, gc=False):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | str | None = None
    input_audio: _Audio | str | None = None
    file: _File | None = None


class _Function(Struct, gc=False):
    name: str
    arguments: str = ""


class _Call(Struct, gc=False):
    id: str = ""
    function: _Function | None = None
    custom: RawFields | None = None
    extra_content: Raw = NULL


class _Message(Struct, gc=False):
    role: str
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    reasoning_content: str | None = None
    reasoning: object = None  # none of OpenAI's fields, so anything may stand here
    refusal: str | None = None
    extra_content: Raw = NULL


class _Declared(Struct, gc=False):
    name: str
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None


class _Tool(Struct, gc=False):
    function: _Declared | None = None


class _Named(Struct, frozen=True, gc=False):
    name: str = ""
    mode: str = "auto"
    tools: tuple["_Choice", ...] = ()


class _Choice(Struct, frozen=True, gc=False):
    type: str = "function"
    name: str = ""
    function: _Named = _Named()
    allowed_tools: _Named = _Named()


class _Schema(Struct, gc=False):
    name: str
    schema: Raw = NULL
    strict: bool | None = None


class _Format(Struct, gc=False):
    type: str
    json_schema: _Schema | None = None


_messages = msgspec.json.Decoder(list[_Message])
_tools = msgspec.json.Decoder(list[_Tool])
_functions = msgspec.json.Decoder(list[_Declared])
_choice = msgspec.json.Decoder(str | _Choice)
_format = msgspec.json.Decoder(_Format)
_stop = msgspec.json.Decoder(str | tuple[str, ...])
_number = msgspec.json.Decoder(float)
_integer = msgspec.json.Decoder(int)
_text = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool)


def turns_of(request: ChatRequest) -> list[Turn]:
    """The messages, in order; ids that a legacy ``function`` message lacks are made up."""
    turns: list[Turn] = []
    names: dict[str, str] = {}  # of the calls, by id
    legacy = ""  # the id of the last function_call
    for position, message in enumerate(_messages.decode(request.fields["messages"])):
        calls = [_call(call, position, number) for number, call in enumerate(message.tool_calls or ())]
        if message.function_call is not None:
            legacy = f"call_{position}"
            called = message.function_call
            calls.append(Call(legacy, called.name, called.arguments or "{}"))
        names |= {call.id: call.name for call in calls}
        parts = tuple(_parts(message))
        if message.role in ("tool", "function"):
            call_id = message.tool_call_id or legacy
            name = names.get(call_id) or message.name or ""
            turns.append(Turn("tool", parts, (), call_id, name))
        elif message.role == "assistant":
            reasoning = message.reasoning_content or message.reasoning
            thought = reasoning if isinstance(reasoning, str) else ""
            turns.append(Turn("assistant", parts, tuple(calls), "", "", thought, _extra(message)))
        else:
            turns.append(Turn("user" if message.role == "user" else "system", parts))
    return turns


def _call(call: _Call, position: int, number: int) -> Call:
    """A custom tool's input is text, which other formats' arguments hold as their only member."""
    function = call.function
    if function is None:
        custom = call.custom or {}
        given = {"input": text_of(custom.get("input")) or ""}
        function = _Function(text_of(custom.get("name")) or "", _encode(given).decode())
    id_ = call.id or f"call_{position}_{number}"
    return Call(id_, function.name, function.arguments or "{}", _extra(call))


def _extra(of: _Call | _Message) -> RawFields:
    return {} if of.extra_content == NULL else {"extra_content": of.extra_content}


def _parts(message: _Message) -> Iterator[Part]:
    content = message.content
    if content is None:
        if message.refusal:
            yield message.refusal
    elif isinstance(content, str):
        yield content
    else:
        for part in content:
            if part.image_url is not None:
                image = part.image_url
                yield _image(image) if isinstance(image, str) else _image(image.url, image.detail or "")
            elif part.input_audio is not None:
                audio = part.input_audio
                sound = _Audio(audio) if isinstance(audio, str) else audio
                yield Media("audio", f"audio/{sound.format or 'wav'}", sound.data)
            elif part.file is not None:
                yield _file(part.file)
            elif text := part.text or part.refusal:
                yield text


def _image(url: str, detail: str = "") -> Media:
    media_type, data = data_url(url)
    if data:
        return Media("image", media_type, data, detail=detail)
    return Media("image", url=url, detail=detail)


def _file(file: _File) -> Media:
    media_type, data = data_url(file.file_data or "")
    return Media("file", media_type, data or file.file_data or "", file.file_id or "", file.filename or "")


def data_url(url: str) -> tuple[str, str]:
    """Media type and base64 of a ``data:`` URL (RFC 2397); two empty strings for anything else."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return "", ""
    return head[5:-7].partition(";")[0], data


def tools_of(request: ChatRequest) -> list[Tool]:
    """The functions that may be called."""
    fields = request.fields
    declared: list[_Declared] = []
    if "tools" in fields:
        declared += [tool.function for tool in _tools.decode(fields["tools"]) if tool.function is not None]
    if "functions" in fields:
        declared += _functions.decode(fields["functions"])
    return [
        Tool(one.name, one.description or "", _given(one.parameters), one.strict is True) for one in declared
    ]


def _given(raw: Raw) -> Raw | None:
    return None if raw == NULL else raw


def tool_choice_of(request: ChatRequest) -> ToolChoice | None:
    """What the client says about calling tools; None: nothing that means anything."""
    raw = request.fields.get("tool_choice", request.fields.get("function_call"))
    if raw is None:
        return None
    try:
        choice = _choice.decode(raw)
    except msgspec.ValidationError:
        return None
    if isinstance(choice, str):
        if choice == "auto":
            return ToolChoice("auto")
        return ToolChoice("none" if choice == "none" else "required")  # the latter also for Mistral's "any"
    if choice.type == "allowed_tools":
        allowed = choice.allowed_tools
        names = tuple(name for tool in allowed.tools if (name := tool.function.name or tool.name))
        return ToolChoice("required" if allowed.mode == "required" else "auto", names)
    name = choice.function.name or choice.name
    return ToolChoice("required", (name,) if name else ())


def parallel_calls_of(request: ChatRequest) -> bool | None:
    """May several tools be called at once? None: not said."""
    raw = request.fields.get("parallel_tool_calls")
    return None if raw is None else _flag.decode(raw)


def response_format_of(request: ChatRequest) -> ResponseFormat | None:
    """The JSON asked for; None: text will do."""
    raw = request.fields.get("response_format")
    if raw is None:
        return None
    wanted = _format.decode(raw)
    if wanted.type == "json_object":
        return ResponseFormat()
    schema = wanted.json_schema
    if wanted.type != "json_schema" or schema is None:
        return None
    return ResponseFormat(_given(schema.schema), schema.name, schema.strict is True)


def options_of(request: ChatRequest) -> Options:
    """The sampling options. ``top_k`` is none of OpenAI's fields, so anything may stand there."""
    fields = request.fields
    stop = _stop.decode(fields["stop"]) if "stop" in fields else ()
    user = fields.get("user") or fields.get("safety_identifier")
    return Options(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=_number_of(fields, "top_p"),
        top_k=_integer_of(fields, "top_k"),
        seed=_integer_of(fields, "seed"),
        frequency_penalty=_number_of(fields, "frequency_penalty"),
        presence_penalty=_number_of(fields, "presence_penalty"),
        logprobs="logprobs" in fields and _flag.decode(fields["logprobs"]),
        top_logprobs=_integer_of(fields, "top_logprobs"),
        stop=(stop,) if isinstance(stop, str) else stop,
        n=request.n,
        user="" if user is None else _text.decode(user),
    )


def _number_of(fields: RawFields, name: str) -> float | None:
    return _number.decode(fields[name]) if name in fields else None


def _integer_of(fields: RawFields, name: str) -> int | None:
    if name not in fields:
        return None
    try:
        return _integer.decode(fields[name])
    except msgspec.ValidationError:
        return None


def arguments_object(arguments: str) -> Raw:
    """A call's arguments as a JSON object; what is none goes under the key ``value``."""
    text = arguments.strip() or "{}"
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return Raw(_encode({"value": arguments}))
    return Raw(text.encode()) if isinstance(value, dict) else Raw(_encode({"value": value}))


def ignored(request: ChatRequest, parameters: frozenset[str]) -> tuple[str, ...]:
    """The fields of ``request`` that a format with words for ``parameters`` leaves out."""
    return tuple([name for name in request.fields if name not in parameters])

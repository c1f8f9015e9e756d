"""Requests of this format's clients (Gemini API: GenerateContentRequest), as OpenAI's.

Google's JSON may spell every name in camelCase or snake_case, and a list of one as its item (protobuf: JSON mapping).
What has no counterpart is ignored, but for the tools that Google runs itself: without them the answer would be another.
"""

import re
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import unquote

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import Failure, FailureClass
from gwproto.wire.gemini.details import signed
from gwproto.wire.gemini.names import camel
from gwproto.wire.gemini.schema import json_schema
from gwproto.wire.neutral import ChatRequest, RawFields
from gwproto.wire.openai import request as openai
from gwproto.wire.openai.parts import NULL, encoder
from gwproto.wire.strict import too_deep

_PATH = re.compile(r"/models/(?P<model>[^?]+):(?P<method>generateContent|streamGenerateContent)\Z")

_fields = msgspec.json.Decoder(RawFields)
_list = msgspec.json.Decoder(list[Raw])

# generationConfig's names for what OpenAI says likewise.
_OPTIONS = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_completion_tokens",
    "stopSequences": "stop",
    "candidateCount": "n",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
}
_MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required", "VALIDATED": "auto"}
_LEVELS = ("minimal", "low", "medium", "high", "xhigh")
_SOUNDS = {"mpeg": "mp3", "x-wav": "wav"}
_BUDGETS = ((0, "none"), (1024, "low"), (8192, "medium"))  # tokens; above: high

_EMPTY = Raw(b"{}")
_STANDARD = str.maketrans("-_", "+/")  # Google takes the URL-safe base64 too, and its SDK writes it

Fields = dict[str, object]
T = TypeVar("T")


class _Result(Struct, gc=False, forbid_unknown_fields=True):
    """How a text stands for an object."""

    result: str


_result = msgspec.json.Decoder(_Result)


class _Refused(Exception):
    """Carries the refusal out of the depth."""

    def __init__(self, message: str, param: str, code: str = "invalid_type") -> None:
        super().__init__(message)
        self.failure = Failure(
            FailureClass.INVALID,
            message[:300],
            status=400,
            type="invalid_request_error",
            code=code,
            param=param[:100],
        )


class _Object:
    """A JSON object by its camelCase names, and where in the request it is. Null is the same as absent."""

    def __init__(self, raw: Raw | bytes, at: str) -> None:
        self.at = at
        try:
            fields = _fields.decode(raw)
        except msgspec.ValidationError:
            raise _Refused(f"Invalid value at '{at}': expected an object.", at) from None
        self.fields = {camel(name): value for name, value in fields.items() if value != NULL}

    def where(self, name: str) -> str:
        return f"{self.at}.{name}" if self.at else name

    def value(self, name: str, kind: type[T]) -> T | None:
        raw = self.fields.get(name)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.ValidationError as error:
            where = self.where(name)
            raise _Refused(f"Invalid value at '{where}': {error}.", where) from None

    def text(self, name: str) -> str:
        return self.value(name, str) or ""

    def inner(self, name: str) -> "_Object":
        return _Object(self.fields.get(name, _EMPTY), self.where(name))

    def items(self, name: str) -> list["_Object"]:
        raw = self.fields.get(name, Raw(b"[]"))
        if bytes(memoryview(raw)[:1]) == b"{":
            return [_Object(raw, self.where(name))]
        try:
            items = _list.decode(raw)
        except msgspec.ValidationError:
            where = self.where(name)
            raise _Refused(f"Invalid value at '{where}': expected an array.", where) from None
        return [_Object(item, f"{self.where(name)}[{position}]") for position, item in enumerate(items)]


def parse_request(body: bytes, path: str) -> ChatRequest | Failure:
    """A client's request, or why it is refused; the path names the model, and says whether to stream."""
    try:
        if not body.isascii():
            str(body, "utf-8")
        # What is no JSON object is refused in every format's words.
        if too_deep(body) or not body.lstrip().startswith(b"{"):
            return openai.parse_request(body)
        request = _Object(body, "")
        fields = _translated(request)
    except _Refused as refused:
        return refused.failure
    except (msgspec.DecodeError, UnicodeDecodeError):
        return openai.parse_request(body)
    match = _PATH.search(path.partition("?")[0])
    if match is not None:
        fields["model"] = unquote(match["model"])
        if match["method"] == "streamGenerateContent":
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return openai.parse_request(encoder.encode(fields))


def _translated(request: _Object) -> Fields:
    messages: list[Fields] = []
    system = "".join([part.text("text") for part in request.inner("systemInstruction").items("parts")])
    if system:
        messages.append({"role": "system", "content": system})
    contents = request.items("contents")
    if not contents:
        raise _Refused("Missing required parameter: 'contents'.", "contents", "missing_required_parameter")
    messages += _Conversation().messages(contents)
    config = request.inner("generationConfig")
    fields: Fields = {"messages": messages, **_options(config)}
    tools = [tool for one in request.items("tools") for tool in _tools(one)]
    if tools:
        fields["tools"] = tools
        fields |= _tool_choice(request.inner("toolConfig").inner("functionCallingConfig"))
    return fields


class _Conversation:
    """Contents to messages. Answers find the calls they belong to by id, else by name and order."""

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = []  # id and name of the calls not yet answered
        self._count = 0

    def messages(self, contents: list[_Object]) -> Iterator[Fields]:
        for content in contents:
            role = content.text("role") or "user"
            if role == "model":
                yield from self._assistant(content)
            elif role in ("user", "function"):
                yield from self._user(content)
            else:
                where = content.where("role")
                raise _Refused("Please use a valid role: user, model.", where, "invalid_value")

    def _assistant(self, content: _Object) -> Iterator[Fields]:
        said: list[Fields] = []
        calls: list[Fields] = []
        reasoning = ""
        extra: RawFields = {}
        for part in content.items("parts"):
            signature = part.text("thoughtSignature")
            signing = signed(signature) if signature else {}
            if "functionCall" in part.fields:
                calls.append({**self._call(part.inner("functionCall")), **signing})
                continue
            extra = signing or extra
            if part.value("thought", bool):
                reasoning += part.text("text")
            else:
                said += _said(part)
        message: Fields = {"role": "assistant", "content": _joined(said) if said or not calls else None}
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        if said or len(message) > 2 or extra:
            yield message | extra

    def _call(self, call: _Object) -> Fields:
        self._count += 1
        id_, name = call.text("id") or f"call_{self._count}", call.text("name")
        self._open.append((id_, name))
        arguments = bytes(memoryview(call.fields.get("args", _EMPTY))).decode()
        return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _user(self, content: _Object) -> Iterator[Fields]:
        said: list[Fields] = []
        for part in content.items("parts"):
            if "functionResponse" in part.fields:
                yield self._answer(part.inner("functionResponse"))
            else:
                said += _said(part)
        if said:
            yield {"role": "user", "content": said[0].get("text", said) if len(said) == 1 else said}

    def _answer(self, answer: _Object) -> Fields:
        id_, name = answer.text("id"), answer.text("name")
        named = [call for call in self._open if call[1] == name]
        for call in [call for call in self._open if call[0] == id_] or named[:1]:
            self._open.remove(call)
            id_ = call[0]
        response = answer.fields.get("response", _EMPTY)
        try:
            text = _result.decode(response).result
        except msgspec.ValidationError:
            text = bytes(memoryview(response)).decode()
        return {"role": "tool", "tool_call_id": id_ or name, "content": text}


def _joined(said: list[Fields]) -> object:
    """A model's texts are pieces of one, for it is told back as it was streamed."""
    texts = [part["text"] for part in said if "text" in part]
    return "".join(map(str, texts)) if len(texts) == len(said) else said


def _said(part: _Object) -> Iterator[Fields]:
    if text := part.text("text"):
        yield {"type": "text", "text": text}
    if "inlineData" in part.fields:
        blob = part.inner("inlineData")
        yield _media(blob.text("mimeType"), blob.text("data").translate(_STANDARD))
    elif "fileData" in part.fields:
        file = part.inner("fileData")
        uri = file.text("fileUri")
        if file.text("mimeType").startswith("image/"):
            yield {"type": "image_url", "image_url": {"url": uri}}
        else:
            yield {"type": "file", "file": {"file_id": uri}}


def _media(media_type: str, data: str) -> Fields:
    kind, _, subtype = media_type.partition("/")
    url = f"data:{media_type};base64,{data}"
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "audio":
        sound = {"data": data, "format": _SOUNDS.get(subtype, subtype)}
        return {"type": "input_audio", "input_audio": sound}
    return {"type": "file", "file": {"file_data": url}}


def _options(config: _Object) -> Fields:
    fields: Fields = {name: config.fields[ours] for ours, name in _OPTIONS.items() if ours in config.fields}
    if config.value("responseLogprobs", bool) and "logprobs" in config.fields:
        fields["top_logprobs"] = config.fields["logprobs"]
    if config.text("responseMimeType") == "application/json":
        schema = _schema(config, "responseJsonSchema", "responseSchema")
        fields["response_format"] = {"type": "json_object"}
        if schema is not None:
            wanted = {"name": "answer", "schema": schema}
            fields["response_format"] = {"type": "json_schema", "json_schema": wanted}
    thinking = config.inner("thinkingConfig")
    level, budget = thinking.text("thinkingLevel").lower(), thinking.value("thinkingBudget", int)
    if level in _LEVELS:
        fields["reasoning_effort"] = level
    elif budget is not None and budget >= 0:
        fields["reasoning_effort"] = next((word for most, word in _BUDGETS if budget <= most), "high")
    return fields


def _schema(owner: _Object, standard: str, own: str) -> object:
    """The JSON schema under one of two names: as it is, or in Google's own words."""
    if own in owner.fields:
        return json_schema(owner.value(own, dict))
    return owner.fields.get(standard)


def _tools(tool: _Object) -> Iterator[Fields]:
    for name in tool.fields:
        if name != "functionDeclarations":
            where = tool.where(name)
            raise _Refused(f"Unsupported tool: '{where}'.", where, "unsupported_parameter")
    for declared in tool.items("functionDeclarations"):
        function: Fields = {"name": declared.text("name")}
        if description := declared.text("description"):
            function["description"] = description
        parameters = _schema(declared, "parametersJsonSchema", "parameters")
        if parameters is not None:
            function["parameters"] = parameters
        yield {"type": "function", "function": function}


def _tool_choice(calling: _Object) -> Fields:
    mode = calling.text("mode")
    if not mode:
        return {}
    if mode not in _MODES:
        where = calling.where("mode")
        raise _Refused(f"Invalid value at '{where}'.", where, "invalid_value")
    names = calling.value("allowedFunctionNames", list[str]) or []
    choice: object = _MODES[mode]
    allowed = [{"type": "function", "function": {"name": name}} for name in names]
    if len(allowed) == 1 and choice == "required":
        choice = allowed[0]
    elif allowed and mode != "NONE":
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": choice, "tools": allowed}}
    return {"tool_choice": choice}

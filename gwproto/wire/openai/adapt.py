"""OpenAI's own request, made fit for the compatible providers that take less of it, or spell some of it otherwise.

What differs is data (:class:`~gwproto.config.Quirks`). A provider without such quirks costs nothing here: its messages
and tools are not looked at.
"""

import hashlib

import msgspec
from msgspec import Raw

from gwproto.config import Quirks
from gwproto.wire.neutral import RawFields

_encoder = msgspec.json.Encoder()
_list = msgspec.json.Decoder(list[RawFields])
_fields = msgspec.json.Decoder(RawFields)
_text = msgspec.json.Decoder(str)
_plain = msgspec.json.Decoder()

_NULL = Raw(b"null")
_EMPTY = Raw(b'""')
_NO_ARGUMENTS = Raw(b'"{}"')
_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_SYSTEM = Raw(b'"system"')
_TOOL = Raw(b'"tool"')
_FUNCTION = Raw(b'"function"')
_BRACKET, _QUOTE = b'["'
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def adapt(fields: RawFields, quirks: Quirks, dropped: list[str]) -> None:
    """Change ``fields`` in place; names of top-level fields that had to go are added to ``dropped``."""
    if quirks.legacy_functions is False:
        _modernise(fields)
    if quirks.tool_choices is not None and "tool_choice" in fields:
        choice = _plain.decode(fields["tool_choice"])
        word = choice if isinstance(choice, str) else "named"
        spelled = quirks.tool_choices.get(word)
        if spelled is None:
            del fields["tool_choice"]
            dropped.append("tool_choice")
        elif spelled != word:
            fields["tool_choice"] = Raw(_encoder.encode(spelled))
    if "tools" in fields and (quirks.tool_keys is not None or quirks.schema_drop):
        fields["tools"] = _tools(fields["tools"], quirks)
    messages = fields["messages"]
    if _touches_messages(quirks) or b'"extra_content"' in memoryview(messages).tobytes():
        fields["messages"] = _messages(messages, quirks)


def _touches_messages(quirks: Quirks) -> bool:
    return (
        quirks.message_keys is not None
        or quirks.developer_role is False
        or quirks.system_role is False
        or quirks.null_content is False
        or quirks.text_parts is False
        or quirks.legacy_functions is False
        or quirks.tool_names is True
        or quirks.tool_ids not in (None, "any")
        or quirks.replay is not None
    )


def _modernise(fields: RawFields) -> None:
    """``functions`` and ``function_call`` as ``tools`` and ``tool_choice``."""
    if "functions" in fields:
        functions = msgspec.json.decode(fields.pop("functions"), type=list[Raw])
        fields["tools"] = Raw(_encoder.encode([{"type": "function", "function": one} for one in functions]))
    if "function_call" in fields:
        wanted = _plain.decode(fields.pop("function_call"))
        choice = wanted if isinstance(wanted, str) else {"type": "function", "function": wanted}
        fields["tool_choice"] = Raw(_encoder.encode(choice))


def _tools(raw: Raw, quirks: Quirks) -> Raw:
    tools = _list.decode(raw)
    for tool in tools:
        if "function" not in tool:
            continue
        function = _fields.decode(tool["function"])
        if quirks.tool_keys is not None:
            function = {name: value for name, value in function.items() if name in quirks.tool_keys}
            function.setdefault("parameters", _NO_PARAMETERS)
        if quirks.schema_drop and "parameters" in function:
            schema = without_keywords(_plain.decode(function["parameters"]), quirks.schema_drop)
            function["parameters"] = Raw(_encoder.encode(schema))
        tool["function"] = Raw(_encoder.encode(function))
    return Raw(_encoder.encode(tools))


def without_keywords(schema: object, keywords: frozenset[str]) -> object:
    """A JSON schema without some keywords, at any depth; a property may still be called like one."""
    if isinstance(schema, list):
        return [without_keywords(one, keywords) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for name, value in schema.items():
        if name in keywords:
            continue
        if name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            value = {key: without_keywords(one, keywords) for key, one in value.items()}
        elif name not in ("enum", "const", "default", "examples"):
            value = without_keywords(value, keywords)
        out[name] = value
    return out


def _messages(raw: Raw, quirks: Quirks) -> Raw:
    names: dict[Raw, Raw] = {}  # of called functions, by the call's id
    out: list[RawFields] = []
    call_id = _EMPTY  # of the last legacy call
    for position, message in enumerate(_list.decode(raw)):
        role = _text.decode(message["role"])
        message = {name: value for name, value in message.items() if value != _NULL or name == "content"}
        if role == "developer" and quirks.developer_role is False:
            message["role"] = _SYSTEM
        if quirks.legacy_functions is False:
            if "function_call" in message:
                call_id = Raw(_encoder.encode(f"call_{position}"))
                call = {"id": call_id, "type": _FUNCTION, "function": message.pop("function_call")}
                message["tool_calls"] = Raw(_encoder.encode([call]))
            if role == "function":
                role = "tool"
                message |= {"role": _TOOL, "tool_call_id": call_id}
        name = message.get("name")
        if quirks.extra_content is not True:
            message.pop("extra_content", None)
        if role == "assistant":
            _reasoning(message, quirks)
        if quirks.message_keys is not None:
            kept = quirks.message_keys.union(_REASONING, ("extra_content",))
            message = {name: value for name, value in message.items() if name in kept}
        if "tool_calls" in message:
            message["tool_calls"] = _calls(message["tool_calls"], quirks, names)
        if role == "tool":
            sent = message["tool_call_id"]
            if quirks.tool_names and (named := names.get(sent) or name) is not None:
                message["name"] = named
            if quirks.tool_ids == "alphanumeric9":
                message["tool_call_id"] = Raw(_encoder.encode(short_id(_text.decode(sent))))
        _content(message, role, quirks)
        if role == "assistant" and message.get("content") in (None, _EMPTY) and len(message) < 3:
            continue  # nothing was said
        out.append(message)
    if quirks.system_role is False:
        out = _without_system(out)
    return Raw(_encoder.encode(out))


def _reasoning(message: RawFields, quirks: Quirks) -> None:
    """What a model thought in an earlier turn: some must have it back, most refuse it."""
    wanted = quirks.replay or ("all" if quirks.message_keys is None else "nothing")
    if wanted == "all" or (wanted == "tools" and "tool_calls" in message):
        return
    for name in _REASONING:
        message.pop(name, None)


def _content(message: RawFields, role: str, quirks: Quirks) -> None:
    content = message.get("content")
    if content in (None, _NULL):
        if role == "assistant" and quirks.null_content is False:
            message["content"] = _EMPTY
    elif content is not None and memoryview(content)[0] == _BRACKET:
        parts = _list.decode(content)
        texts = [_text.decode(part["text"]) for part in parts if "text" in part]
        if quirks.text_parts is False and len(texts) == len(parts):
            message["content"] = Raw(_encoder.encode("\n".join(texts)))
        elif quirks.message_keys is not None:
            for part in parts:
                part.pop("prompt_cache_breakpoint", None)
            message["content"] = Raw(_encoder.encode(parts))


def _calls(raw: Raw, quirks: Quirks, names: dict[Raw, Raw]) -> Raw:
    calls = _list.decode(raw)
    for call in calls:
        if quirks.extra_content is not True:
            call.pop("extra_content", None)
        id_ = call.get("id", _EMPTY)
        if "function" in call:
            function = _fields.decode(call["function"])
            names[id_] = function["name"]
            if function.get("arguments") == _EMPTY:
                call["function"] = Raw(_encoder.encode(function | {"arguments": _NO_ARGUMENTS}))
        if quirks.tool_ids == "alphanumeric9":
            call["id"] = Raw(_encoder.encode(short_id(_text.decode(id_))))
    return Raw(_encoder.encode(calls))


def short_id(id_: str) -> str:
    """Nine letters and digits for any id, always the same ones; an id that is such already stays (Mistral)."""
    if len(id_) == 9 and id_.isascii() and id_.isalnum():
        return id_
    number = int.from_bytes(hashlib.blake2b(id_.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_ALPHANUMERIC))
        digits.append(_ALPHANUMERIC[digit])
    return "".join(digits)


def _without_system(messages: list[RawFields]) -> list[RawFields]:
    """System texts at the head of the first user message: some small models know no such role."""
    texts = []
    others = []
    for message in messages:
        if message["role"] != _SYSTEM:
            others.append(message)
        elif memoryview(content := message.get("content", _NULL))[0] == _QUOTE:
            texts.append(_text.decode(content))
        else:
            parts = _list.decode(content) if content != _NULL else []
            texts += [_text.decode(part["text"]) for part in parts if "text" in part]
    for message in others:
        content = message.get("content", _NULL)
        if texts and _text.decode(message["role"]) == "user":
            if memoryview(content)[0] == _BRACKET:
                head = {"type": "text", "text": "\n\n".join(texts)}
                message["content"] = Raw(_encoder.encode([head, *_list.decode(content)]))
            else:
                message["content"] = Raw(_encoder.encode("\n\n".join((*texts, _text.decode(content)))))
            break
    return others

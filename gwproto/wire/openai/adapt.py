"""OpenAI's own request, made fit for the compatible providers that take less of it, or spell some of it otherwise.

What differs is data (:class:`~gwproto.config.Quirks`). A provider without such quirks costs nothing here: its messages
and tools are not looked at.
"""

import hashlib

import msgspec
from msgspec import Raw

from gwproto.config import Quirks
from gwproto.wire.neutral import RawFields
from gwproto.wire.openai.parts import NO_PARAMETERS, NULL, encoder, fields_of, list_of, text_of, value_of

_messages_decoder = msgspec.json.Decoder(list[RawFields])
_text = msgspec.json.Decoder(str)

_EMPTY = Raw(b'""')
_NO_ARGUMENTS = Raw(b'"{}"')
#: Stands for a signature that another model's call cannot have (Google: thought signatures).
_NO_SIGNATURE = Raw(b'{"google":{"thought_signature":"skip_thought_signature_validator"}}')
_TRUE = Raw(b"true")
_SYSTEM = Raw(b'"system"')
_USER = Raw(b'"user"')
_TOOL = Raw(b'"tool"')
_FUNCTION = Raw(b'"function"')
_TEXT = Raw(b'"text"')
_BRACKET, _BRACE = b"[{"
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_CALL_KEYS = frozenset(("id", "type", "function", "custom", "extra_content"))
_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def adapt(fields: RawFields, quirks: Quirks, dropped: list[str], *, extra_content: bool = False) -> None:
    """Change ``fields`` in place; names of top-level fields that had to go are added to ``dropped``.

    ``extra_content``: the messages hold what some provider added to its answers.
    """
    if quirks.legacy_functions is False:
        _modernise(fields)
    if quirks.tool_choices is not None and "tool_choice" in fields:
        _choose(fields, quirks.tool_choices, dropped)
    if "tools" in fields and (quirks.tool_keys is not None or quirks.schema_drop):
        fields["tools"] = _tools(fields["tools"], quirks)
    if "response_format" in fields and quirks.schema_drop:
        fields["response_format"] = _response_format(fields["response_format"], quirks.schema_drop)
    messages = fields["messages"]
    if extra_content or _touches_messages(quirks):
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
        or quirks.signatures is True
    )


def _modernise(fields: RawFields) -> None:
    """``functions`` and ``function_call`` as ``tools`` and ``tool_choice``."""
    if "functions" in fields:
        functions = list_of(fields.pop("functions"))
        tools = [{"type": _FUNCTION, "function": one} for one in functions]
        fields["tools"] = _raw([*list_of(fields.get("tools")), *tools])
    if "function_call" in fields:
        wanted = fields.pop("function_call")
        named = memoryview(wanted)[0] == _BRACE
        choice = _raw({"type": _FUNCTION, "function": wanted}) if named else wanted
        fields.setdefault("tool_choice", choice)


def _choose(fields: RawFields, words: dict[str, str], dropped: list[str]) -> None:
    """``tool_choice`` in the provider's words. Where it has none for "none", no tools are offered."""
    choice = value_of(fields["tool_choice"])
    word = "named" if isinstance(choice, dict) and choice.get("type") == "function" else choice
    if not isinstance(word, str) or (word not in words and word not in words.values()):
        gone = ("tool_choice", "tools", "parallel_tool_calls") if word == "none" else ("tool_choice",)
        dropped += [name for name in gone if fields.pop(name, None) is not None]
    elif words.get(word, word) != word:
        fields["tool_choice"] = _raw(words[word])


def _tools(raw: Raw, quirks: Quirks) -> Raw:
    tools = list(map(fields_of, list_of(raw)))
    for tool in tools:
        if "function" not in tool:
            continue
        function = fields_of(tool["function"])
        if quirks.tool_keys is not None:
            function = {name: value for name, value in function.items() if name in quirks.tool_keys}
            function.setdefault("parameters", NO_PARAMETERS)
        if quirks.schema_drop and "parameters" in function:
            function["parameters"] = _plainer(function["parameters"], quirks.schema_drop)
        tool["function"] = _raw(function)
    return _raw(tools)


def _response_format(raw: Raw, keywords: frozenset[str]) -> Raw:
    wanted = fields_of(raw)
    described = fields_of(wanted.get("json_schema"))
    if "schema" not in described:
        return raw
    described["schema"] = _plainer(described["schema"], keywords)
    return _raw(wanted | {"json_schema": _raw(described)})


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


def _plainer(schema: Raw, keywords: frozenset[str]) -> Raw:
    """The same for a schema as sent. One with a number that no float can hold is left to the provider."""
    value = value_of(schema)
    return schema if value is None else _raw(without_keywords(value, keywords))


def _messages(raw: Raw, quirks: Quirks) -> Raw:
    names: dict[str, Raw] = {}  # of called functions, by the call's id
    out: list[RawFields] = []
    call_id = _raw("call")  # of the last legacy call; this one, where none was made
    for position, sent in enumerate(_messages_decoder.decode(raw)):
        message = {name: value for name, value in sent.items() if value != NULL or name == "content"}
        role = _text.decode(message["role"])
        if role == "developer" and quirks.developer_role is False:
            message["role"] = _SYSTEM
        if quirks.legacy_functions is False:
            if "function_call" in message:
                call_id = _raw(f"call_{position}")
                call = {"id": call_id, "type": _FUNCTION, "function": message.pop("function_call")}
                message["tool_calls"] = _raw([call])
            if role == "function":
                role = "tool"
                said = message.get("content", NULL)
                message |= {
                    "role": _TOOL,
                    "tool_call_id": call_id,
                    "content": _EMPTY if said == NULL else said,
                }
        if role == "assistant":
            _spoken(message, quirks)
        name = message.get("name")
        _keep(message, quirks)
        if "tool_calls" in message:
            calls = _calls(message["tool_calls"], quirks, names)
            message["tool_calls"] = _raw(calls)
            if not calls:  # a 400 to several
                del message["tool_calls"]
        if role == "tool":
            answered = _text.decode(message["tool_call_id"])
            if quirks.tool_names and (named := names.get(answered, name)) is not None:
                message["name"] = named
            if quirks.tool_ids == "alphanumeric9":
                message["tool_call_id"] = _raw(short_id(answered))
        _content(message, quirks)
        if role != "assistant":
            out.append(message)
        elif _says(message):
            if quirks.null_content is False and message.get("content", NULL) == NULL:
                message["content"] = _EMPTY
            out.append(message)
    if quirks.system_role is False:
        out = _without_system(out)
    if quirks.message_keys is not None and "prefix" in quirks.message_keys and out:
        last = out[-1]
        if _text.decode(last["role"]) == "assistant" and "tool_calls" not in last:
            last.setdefault("prefix", _TRUE)  # else a last turn of the assistant's is refused (Mistral)
    return _raw(out)


def _keep(message: RawFields, quirks: Quirks) -> None:
    """Take away the keys that the provider does not know."""
    if quirks.extra_content is not True:
        message.pop("extra_content", None)
    if quirks.message_keys is not None:
        for name in [name for name in message if name not in quirks.message_keys]:
            if name not in _REASONING and name != "extra_content":
                del message[name]


def _spoken(message: RawFields, quirks: Quirks) -> None:
    """What was thought and refused in an earlier turn: some must have the one back, and most know neither."""
    wanted = quirks.replay or ("all" if quirks.message_keys is None else "nothing")
    if wanted == "nothing" or (wanted == "tools" and "tool_calls" not in message):
        for name in _REASONING:
            message.pop(name, None)
    if quirks.message_keys is not None and message.get("content", NULL) == NULL and "refusal" in message:
        message["content"] = message["refusal"]


def _says(message: RawFields) -> bool:
    """Has a turn of the assistant anything in it?"""
    content = message.get("content", NULL)
    return content not in (NULL, _EMPTY) or not message.keys() <= {"role", "content", "name"}


def _content(message: RawFields, quirks: Quirks) -> None:
    content = message.get("content", NULL)
    if memoryview(content)[0] != _BRACKET:
        return
    parts = list(map(fields_of, list_of(content)))
    if quirks.message_keys is not None:
        for part in parts:
            part.pop("prompt_cache_breakpoint", None)
            if "refusal" in part:
                part |= {"type": _TEXT, "text": part.pop("refusal")}
    texts = [_text.decode(part["text"]) for part in parts if "text" in part]
    if quirks.text_parts is False and len(texts) == len(parts):
        message["content"] = _raw("\n".join(texts))
    elif quirks.message_keys is not None:
        message["content"] = _raw(parts)


def _calls(raw: Raw, quirks: Quirks, names: dict[str, Raw]) -> list[RawFields]:
    calls = list(map(fields_of, list_of(raw)))
    for number, call in enumerate(calls):
        id_ = _text.decode(call["id"])
        if quirks.extra_content is not True:
            call.pop("extra_content", None)
        elif quirks.signatures and number == 0 and "google" not in fields_of(call.get("extra_content")):
            call["extra_content"] = _NO_SIGNATURE
        if "function" in call:
            function = fields_of(call["function"])
            names[id_] = function["name"]
            if function["arguments"] == _EMPTY:
                call["function"] = _raw(function | {"arguments": _NO_ARGUMENTS})
        if quirks.message_keys is not None:
            calls[number] = call = {name: value for name, value in call.items() if name in _CALL_KEYS}
        if quirks.tool_ids == "alphanumeric9":
            call["id"] = _raw(short_id(id_))
    return calls


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
    texts: list[str] = []
    others: list[RawFields] = []
    for message in messages:
        if _text.decode(message["role"]) != "system":
            others.append(message)
        else:
            content = message.get("content")
            parts = map(fields_of, list_of(content))
            texts += filter(None, (text_of(content), *(text_of(part.get("text")) for part in parts)))
    if not texts:
        return others
    first = next((one for one in others if _text.decode(one["role"]) == "user"), None)
    if first is None:
        return [{"role": _USER, "content": _raw("\n\n".join(texts))}, *others]
    said = text_of(first["content"])
    if said is None:
        head = {"type": _TEXT, "text": "\n\n".join(texts)}
        first["content"] = _raw([head, *list_of(first["content"])])
    else:
        first["content"] = _raw("\n\n".join((*texts, said)))
    return others


def _raw(value: object) -> Raw:
    return Raw(encoder.encode(value))

"""Chat requests: validate and understand a client's, write a provider's.

A request is decoded twice, both times at C speed: into types, which validates every documented field and yields what
routing needs; and into raw top-level fields, which is what gets forwarded. So a field the gateway does not change goes
on byte for byte, unknown ones included.
"""

import re
from collections.abc import Mapping
from typing import cast

import msgspec
from msgspec import UNSET, Raw

from gwproto.config import STANDARD, Quirks
from gwproto.failures import Failure, FailureClass
from gwproto.wire.effort import merged
from gwproto.wire.neutral import ChatRequest, EncodedRequest, RawFields, Rendering
from gwproto.wire.openai.adapt import adapt
from gwproto.wire.openai.parts import value_of
from gwproto.wire.openai.schema import DOCUMENTED, GATEWAY_FIELDS, Body, Message, Part, PlainMessages, Texts
from gwproto.wire.strict import MAX_DEPTH, too_deep

PATH = "/chat/completions"

_NULL = Raw(b"null")
_NO_NEEDS: frozenset[str] = frozenset()
_GATEWAYS = frozenset(GATEWAY_FIELDS)
_OF_TOOLS = frozenset(("tools", "functions", "tool_choice", "function_call", "parallel_tool_calls"))

# An estimate for one image, sound or file: what a mid-size image costs on OpenAI's current models.
_ATTACHMENT_TOKENS = 800
_BYTES_PER_TOKEN = 4

_LONG = 16384  # bytes of a body from which on looking for brackets is what takes longest

_body_decoder = msgspec.json.Decoder(Body)
_fields_decoder = msgspec.json.Decoder(RawFields)
_texts_decoder = msgspec.json.Decoder(Texts)
_plain_decoder = msgspec.json.Decoder(PlainMessages)
_encoder = msgspec.json.Encoder()

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(\w+)`")
_BOUND = re.compile(r"Expected `(int|float|array|str)` (?:of length )?([<>]=) (\S+)")

_BOUND_CODES = {
    ("int", ">="): "integer_below_min_value",
    ("int", "<="): "integer_above_max_value",
    ("float", ">="): "decimal_below_min_value",
    ("float", "<="): "decimal_above_max_value",
    ("array", ">="): "empty_array",
    ("array", "<="): "array_above_max_length",
    ("str", "<="): "string_above_max_length",
}


class _Refused(Exception):
    """Carries the refusal out of a validation in depth."""

    def __init__(self, code: str, message: str, param: str | None) -> None:
        super().__init__(message)
        self.failure = refusal(code, message, param)


def refusal(code: str, message: str, param: str | None = None) -> Failure:
    """Why a client's request is refused, with OpenAI's ``code``."""
    return Failure(
        FailureClass.INVALID,
        message[:300],
        status=400,
        type="invalid_request_error",
        code=code,
        param=param and param[:100],
    )


def _explain(error: msgspec.ValidationError) -> Failure:
    """OpenAI's code, param and manner of speaking for a validation error.

    msgspec says ``Expected `X`, got `Y` - at `$.messages[0].role```; its wording is pinned by tests.
    """
    match = _AT.match(str(error))
    assert match is not None
    what = match["what"]
    param = (match["path"] or "").replace("[...]", "")
    if missing := _MISSING.search(what):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return refusal("missing_required_parameter", f"Missing required parameter: '{param}'.", param)
    if not param:
        return refusal("invalid_type", "The request body must be a JSON object.")
    if bound := _BOUND.match(what):
        kind, comparison, limit = bound.groups()
        code = _BOUND_CODES[kind, comparison]
        subject = "a length" if kind in ("array", "str") else "a value"
        return refusal(code, f"Invalid '{param}': expected {subject} {comparison} {limit}.", param)
    if " matching regex " in what:  # the only one there is; a regular expression explains nothing to most
        message = f"Invalid value for '{param}': 1 to 64 of the characters A-Z a-z 0-9 . _ : - are allowed."
        return refusal("invalid_value", message, param)
    if ", got " in what:
        return refusal("invalid_type", f"Invalid type for '{param}': {_lower_first(what)}.", param)
    return refusal("invalid_value", f"Invalid value for '{param}': {_lower_first(what)}.", param)


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:].replace("`", "")


def parse_request(body: bytes, path: str = "") -> ChatRequest | Failure:
    """A client's request, or why it is refused: a failure with status 400, OpenAI's code, and the field's name.

    ``path`` says nothing in this format.
    """
    try:
        if not body.isascii():
            str(body, "utf-8")
        fields = _fields_decoder.decode(body)
        messages = _plain_messages(fields) if len(body) > _LONG else None
        if messages is not None:
            body = _encoder.encode({name: value for name, value in fields.items() if name != "messages"})
        if too_deep(body):
            return refusal("invalid_json", f"The request body is nested more than {MAX_DEPTH} levels deep.")
        typed = _body_decoder.decode(body)
        if messages is not None:
            typed.messages = messages
        return _understand(typed, fields)
    except msgspec.ValidationError as error:
        return _explain(error)
    except UnicodeDecodeError:
        return refusal("invalid_json", "The request body is not valid UTF-8.")
    except msgspec.DecodeError as error:
        if not body.strip():
            return refusal("invalid_json", "The request body is empty; a JSON object is expected.")
        return refusal("invalid_json", f"The request body could not be parsed as JSON: {error}.")
    except RecursionError:
        return refusal("invalid_json", f"The request body is nested more than {MAX_DEPTH} levels deep.")
    except _Refused as refused:
        return refused.failure


def _plain_messages(fields: RawFields) -> list[Message] | None:
    """Those messages of which there is more to ask, if all are valid and of a form that cannot be deep: then nobody
    need look for brackets in them."""
    raw = fields.get("messages")
    if raw is None:
        return None
    try:
        _texts_decoder.decode(raw)
        return []
    except msgspec.DecodeError:
        pass
    try:
        return cast("list[Message]", _plain_decoder.decode(raw))
    except msgspec.DecodeError:
        return None


def _understand(body: Body, fields: RawFields) -> ChatRequest:
    if _NULL in fields.values():
        for name in [name for name, value in fields.items() if value == _NULL]:
            del fields[name]
    if not _GATEWAYS.isdisjoint(fields):
        for name in GATEWAY_FIELDS:
            fields.pop(name, None)
    if body.messages is None:
        if body.prompt is None:
            raise _Refused(
                "missing_required_parameter", "Missing required parameter: 'messages'.", "messages"
            )
        body.messages = [Message(role="user", content=body.prompt)]
        fields["messages"] = Raw(_encoder.encode([{"role": "user", "content": body.prompt}]))
    needs: set[str] = set()
    saved = attachments = 0
    extra_content = False
    for position, message in enumerate(body.messages):
        content = message.content
        if content is None or type(content) is not str or message.role in ("tool", "function"):
            _check_message(position, message)
            if type(content) is list:
                for number, part in enumerate(content):
                    found, length = _attachment(part, f"messages[{position}].content[{number}]")
                    saved += length
                    if length:
                        attachments += 1
                    needs.update(found)
        if message.extra_content is not UNSET:
            extra_content = True
        if message.tool_calls:
            _check_calls(position, message)
            if any(call.extra_content is not UNSET for call in message.tool_calls):
                extra_content = True
    _check_options(body, fields, needs)
    characters = len(memoryview(fields["messages"])) - saved
    tools = fields.get("tools")
    if tools is not None:
        characters += len(memoryview(tools))
    effort = body.reasoning_effort or "auto"
    if effort == "auto":
        fields.pop("reasoning_effort", None)
    options = body.stream_options
    return ChatRequest(
        fields=fields,
        model=body.model or "auto",
        stream=body.stream is True,
        include_usage=options is not None and options.include_usage is True,
        temperature=body.temperature,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        n=body.n or 1,
        effort=effort,
        project_id=body.project_id,
        require_params=body.x_gateway is not None and body.x_gateway.require_params is True,
        cache_key=body.prompt_cache_key,
        prompt_tokens=characters // _BYTES_PER_TOKEN + attachments * _ATTACHMENT_TOKENS,
        needs=frozenset(needs) if needs else _NO_NEEDS,
        legacy_functions=bool(body.functions) and not body.tools,
        extra_content=extra_content,
    )


def _check_message(position: int, message: Message) -> None:
    at = f"messages[{position}]"
    role = message.role
    if message.content is None and role != "function":
        excused = role == "assistant" and (
            message.tool_calls
            or message.function_call is not None
            or message.refusal is not None
            or message.audio is not None
            or message.reasoning_content is not None
        )
        if not excused:
            raise _Refused(
                "invalid_type",
                f"Invalid value for '{at}.content': expected a string or an array of parts, got null.",
                f"{at}.content",
            )
    missing = ""
    if role == "tool" and not message.tool_call_id:
        missing = f"{at}.tool_call_id"
    elif role == "function" and not message.name:
        missing = f"{at}.name"
    if missing:
        raise _Refused("missing_required_parameter", f"Missing required parameter: '{missing}'.", missing)


def _check_calls(position: int, message: Message) -> None:
    for number, call in enumerate(message.tool_calls or ()):
        if call.function is None and call.custom is None:
            param = f"messages[{position}].tool_calls[{number}].function"
            raise _Refused("missing_required_parameter", f"Missing required parameter: '{param}'.", param)


def _attachment(part: Part, at: str) -> tuple[tuple[str, ...], int]:
    """What a content part needs, and the bytes of it that are no text."""
    kind = part.type
    if kind == "text":
        if part.text is None:
            raise _Refused(
                "missing_required_parameter", f"Missing required parameter: '{at}.text'.", f"{at}.text"
            )
    elif kind == "image_url":
        image = part.image_url
        if image is None:
            raise _Refused(
                "missing_required_parameter",
                f"Missing required parameter: '{at}.image_url'.",
                f"{at}.image_url",
            )
        url = image if isinstance(image, str) else image.url
        return ("vision",) if url.startswith("data:") else ("vision", "image_url"), len(url)
    elif kind == "input_audio":
        audio = part.input_audio
        if audio is None:
            raise _Refused(
                "missing_required_parameter",
                f"Missing required parameter: '{at}.input_audio'.",
                f"{at}.input_audio",
            )
        return ("audio",), len(audio if isinstance(audio, str) else audio.data)
    elif kind == "file":
        return ("files",), len(part.file.file_data or "") if part.file is not None else 0
    return (), 0


def _check_options(body: Body, fields: RawFields, needs: set[str]) -> None:
    """Rules between fields; fills ``needs`` and drops what says nothing."""
    if body.max_completion_tokens is not None:
        fields.pop("max_tokens", None)
    if body.stop is not None:
        stop = [one for one in ([body.stop] if isinstance(body.stop, str) else body.stop) if one]
        if not stop:
            del fields["stop"]
        elif len(stop) < len(body.stop) and not isinstance(body.stop, str):
            fields["stop"] = Raw(_encoder.encode(stop))
    if body.tools or body.functions:
        needs.add("tools")
    elif not _OF_TOOLS.isdisjoint(fields):
        # Without tools these are a 400 on several providers, an empty list included.
        for name in _OF_TOOLS:
            fields.pop(name, None)
    for number, tool in enumerate(body.tools or ()):
        if tool.type == "custom":
            needs.add("custom_tools")
        if tool.type == "function" and tool.function is None:
            param = f"tools[{number}].function"
            raise _Refused("missing_required_parameter", f"Missing required parameter: '{param}'.", param)
    if body.response_format is not None:
        kind = body.response_format.type
        if kind == "json_schema":
            if body.response_format.json_schema is None:
                param = "response_format.json_schema"
                raise _Refused("missing_required_parameter", f"Missing required parameter: '{param}'.", param)
            needs.add("json_schema")
        elif kind == "json_object":
            needs.add("json")
    if body.n is not None and body.n > 1:
        needs.add("n")
    if body.logprobs:
        needs.add("logprobs")
    elif body.top_logprobs is not None:
        raise _Refused(
            "invalid_value",
            "Invalid value for 'top_logprobs': only allowed with logprobs = true.",
            "top_logprobs",
        )
    if body.modalities is not None and "audio" in body.modalities:
        needs.add("audio")
    if body.stream_options is not None and not body.stream:
        raise _Refused(
            "invalid_value",
            "Invalid value for 'stream_options': only allowed with stream = true.",
            "stream_options",
        )


def encode_request(request: ChatRequest, rendering: Rendering) -> EncodedRequest:
    """The body for one target; ``dropped`` names what the client sent and the target does not take."""
    quirks = rendering.quirks
    fields = request.fields.copy()
    dropped = [] if quirks is STANDARD else _drop(fields, quirks)
    fields["model"] = Raw(_encoder.encode(rendering.model))
    fields.pop("reasoning_effort", None)
    if rendering.effort:
        _lay_over(fields, rendering.effort)
    if request.stream:
        options = fields.pop("stream_options", None)
        if quirks.stream_usage is not False and "stream_options" not in (quirks.drop or ()):
            # Whoever is particular about messages knows no other option either.
            fields["stream_options"] = _with_usage(None if quirks.message_keys is not None else options)
        elif options is not None:
            dropped.append("stream_options")
    hottest = quirks.max_temperature
    if hottest is not None and (request.temperature or 0) > hottest and "temperature" in fields:
        fields["temperature"] = Raw(_encoder.encode(hottest))
    if quirks is not STANDARD or request.extra_content:
        adapt(fields, quirks, dropped, extra_content=request.extra_content)
    if rendering.body:
        _lay_over(fields, rendering.body)
    return EncodedRequest(PATH, _encoder.encode(fields), tuple(dropped))


def _drop(fields: RawFields, quirks: Quirks) -> list[str]:
    """Rename and take away what the provider does not know by the name the client used."""
    renamed = quirks.rename or {}
    for old, new in renamed.items():
        if old in fields:
            value = fields.pop(old)
            fields.setdefault(new, value)
    dropped: list[str] = []
    if quirks.drop:
        dropped = [name for name in fields if name in quirks.drop]
    if quirks.open is False:
        known = DOCUMENTED.union(renamed.values(), quirks.keep or ())
        dropped += [name for name in fields if name not in known and name not in dropped]
    for name in dropped:
        del fields[name]
    return dropped


def _lay_over(fields: RawFields, more: Mapping[str, object]) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping) and name in fields:
            known = value_of(fields[name])
            if isinstance(known, dict):
                value = merged(known, value)
        fields[name] = Raw(_encoder.encode(value))


_TRUE = Raw(b"true")
_USAGE_ONLY = Raw(b'{"include_usage":true}')


def _with_usage(options: Raw | None) -> Raw:
    if options is None:
        return _USAGE_ONLY
    wanted = _fields_decoder.decode(options)
    if wanted.get("include_usage") == _TRUE:
        return options
    wanted["include_usage"] = _TRUE
    return Raw(_encoder.encode(wanted))

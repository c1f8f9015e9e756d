"""Errors: written in OpenAI's one shape, read in all the shapes that OpenAI-compatible providers send."""

import re
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.values import Headers, Limit
from gwproto.wire.classify import MESSAGE_READ, Signs, classify
from gwproto.wire.delay import (
    calendar_delay,
    clamp,
    header_delay,
    parse_duration,
    prose_delay,
    text_headers,
    until,
)
from gwproto.wire.limits import in_words, read_limits, reset_delay
from gwproto.wire.neutral import RawFields, Reading
from gwproto.wire.strict import repair, too_deep

_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder().decode

MAX_MESSAGE = MESSAGE_READ

_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]+")
# Providers quote the rejected key, and the key is ours.
_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|csk|xai|hf|nvapi|ghp|gho|ghu|ghs|github_pat|tgp|key)[-_][\w.*-]{6,}"
    r"|\bAIza[\w-]{10,}|(?<=bearer )\S+|(?<=[?&]key=)[^&\s]+",
    re.IGNORECASE,
)

Json = object


def encode_status_error(status: int, message: str, type: str, code: str | None, param: str | None) -> bytes:
    """The same for formats' tables; OpenAI's bodies do not say the status."""
    return encode_error(message, type, code, param)


def encode_error(message: str, type: str, code: str | None, param: str | None = None) -> bytes:
    """The error body, all four keys present."""
    return _encoder.encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def error_frame(message: str, type: str, code: str | None, param: str | None = None) -> bytes:
    """The same as an event. Every official SDK raises on a top-level ``error`` key, whatever follows."""
    return b"data: " + encode_error(message, type, code, param) + b"\n\n"


def clean(text: str) -> str:
    """A provider's words made safe to show: no tags, control characters or keys, at most 300 characters."""
    # Cut early: a megabyte of hostile HTML must not be searched.
    text = _TAGS.sub(" ", text[:8000])
    text = _SECRET.sub("***", _BLANK.sub(" ", text).strip())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def decode_error(status: int, headers: Headers, body: bytes, reading: Reading) -> Failure:
    """Why a response with an error status failed, whatever the format: all shapes of error bodies are read here."""
    fields = text_headers(headers)
    document = _document(body)
    signs = Signs(message=body.decode(errors="replace")) if document is None else read_signs(document)
    aws = fields.get("x-amzn-errortype", "")
    words = [aws, fields.get("x-ms-error-code", ""), fields.get("x-ratelimit-type", ""), signs.hints]
    signs = msgspec.structs.replace(
        signs,
        status=status,
        type=signs.type or aws.partition(":")[0],
        message=signs.message or fields.get("x-error-message", ""),
        hints=" ".join(words),
    )
    return failure_of(signs, fields, reading)


def in_band_failure(fields: RawFields, reading: Reading) -> Failure | None:
    """The error inside a 200's body or a stream's event, if it is one; ``fields`` without nulls."""
    if "error" in fields:
        inner = _plain(fields["error"])
        if inner:
            outer = {name: _plain(fields[name]) for name in fields if name != "choices"}
            return failure_of(read_signs(outer), {}, reading)
    if "x_groq" in fields:
        groq = _plain(fields["x_groq"])
        if isinstance(groq, dict) and groq.get("error"):
            return failure_of(read_signs({"error": groq["error"]}), {}, reading)
    if "choices" not in fields and not _ERROR_KEYS.isdisjoint(fields):
        return failure_of(read_signs({name: _plain(value) for name, value in fields.items()}), {}, reading)
    return None


_ERROR_KEYS = frozenset(("message", "detail", "errors"))


def failure_of(signs: Signs, headers: dict[str, str], reading: Reading) -> Failure:
    """The failure for what was read. ``headers``: those of a response that is all failure, else none."""
    limits = read_limits(headers, reading.limit_windows, reading.wall)
    row = classify(msgspec.structs.replace(signs, limits=in_words(limits)), reading.provider)
    delay = _asked_delay(row.kind, signs, headers, limits, reading.wall)
    if delay is None:
        usual = row.delay
        delay = calendar_delay(usual, reading.wall) if isinstance(usual, str) else usual
    return Failure(
        row.kind,
        clean(signs.message) or "The provider sent no message.",
        status=signs.status,
        type=_short(signs.type),
        code=None if signs.code == str(signs.status) else _code(signs.code),
        param=_short(signs.param or ""),
        retry_after=None if delay is None else clamp(delay),
        scope=row.scope,
    )


def _short(word: str) -> str | None:
    return clean(word[:100]) or None


def _code(word: str) -> str | None:
    """Codes are kept in records, which nobody's texts belong in: several words are no code."""
    return None if " " in word.strip() else _short(word)


def _asked_delay(
    kind: FailureClass, signs: Signs, headers: dict[str, str], limits: Iterable[Limit], wall: float
) -> float | None:
    """What the provider asks for, in the order of trust."""
    # Google's RetryInfo, and its copy in the message, are about the minute even when the day is used up.
    misleading = kind is FailureClass.RATE_DAY and signs.retry_info is not None
    asked = [
        header_delay(headers, wall),
        None if misleading else signs.retry_info,
        signs.delay,
        until(signs.reset, wall),
        reset_delay(limits),
        None if misleading else prose_delay(signs.message[:MESSAGE_READ], wall),
    ]
    return next((delay for delay in asked if delay is not None), None)


def _plain(raw: Raw) -> Json:
    try:
        return _decode(raw)
    except msgspec.ValidationError:  # a number beyond floats
        return _decode(repair(bytes(memoryview(raw))))


def _document(body: bytes) -> Json:
    """The JSON of a body; None when it is none, or is nested beyond reason."""
    try:
        if too_deep(body):
            return None
        try:
            return _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _decode(repair(body))
    except WireError:
        return None


def read_signs(document: Json, depth: int = 0) -> Signs:
    """What an error document says, whichever of the known shapes it has."""
    if isinstance(document, list):
        document = document[0] if document else None
    if isinstance(document, str):
        return _unpacked(Signs(message=document), depth)
    if not isinstance(document, dict):
        return Signs()
    outer = document
    inner: Json = outer.get("error") or outer.get("errors") or outer
    if isinstance(inner, list):
        inner = inner[0]
    if not isinstance(inner, dict):
        # A text is the message, unless the one beside it says more: {"error": "Bad Request", "message": …}.
        name = "type" if outer.get("message") else "message"
        inner = {**outer, name: inner} if isinstance(inner, str) else outer
    message, param = _message(inner)
    code = inner.get("code")
    if code is None:
        code = outer.get("code")
    signs = Signs(
        status=_status(inner) or _status(outer),
        type=_word(inner.get("type")) or _word(inner.get("__type")),
        code=_word(code),
        param=_word(inner.get("param")) or param,
        message=message,
        hints=" ".join(_hints(inner)),
        retry_info=_retry_info(inner),
        delay=_body_delay(outer | inner),
        reset=_reset(inner),
    )
    return _unpacked(signs, depth)


def _unpacked(signs: Signs, depth: int) -> Signs:
    """A message that is itself a JSON error (Gemini's compatible streams) is read in its place."""
    if depth == 0 and signs.message.lstrip()[:1] in ("{", "["):
        document = _document(signs.message.encode())
        if isinstance(document, (dict, list)):
            nested = read_signs(document, depth + 1)
            if nested.message:
                return msgspec.structs.replace(
                    nested, status=nested.status or signs.status, code=nested.code or signs.code
                )
    return signs


def _word(value: Json) -> str:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _status(fields: dict[str, Json]) -> int | None:
    for name in ("status_code", "status", "code", "http_code"):
        word = _word(fields.get(name))
        if len(word) == 3 and word.isascii() and word.isdigit() and 400 <= int(word) < 600:
            return int(word)
    return None


def _message(fields: dict[str, Json]) -> tuple[str, str | None]:
    """The message, and the parameter that a validation list names."""
    for name in ("message", "msg", "detail", "title", "error_description"):
        value = fields.get(name)
        if isinstance(value, dict):
            value = value.get("detail") or value.get("message") or value
        if isinstance(value, list):
            return _validation(value)
        if isinstance(value, dict):
            return _encoder.encode(value).decode(), None
        if isinstance(value, str) and value:
            return value, None
    return "", None


def _validation(entries: Sequence[Json]) -> tuple[str, str | None]:
    """FastAPI's list of ``{loc, msg, type}``."""
    texts: list[str] = []
    param = None
    for entry in entries:
        if isinstance(entry, dict):
            loc = entry.get("loc")
            where = ".".join(str(step) for step in loc if step != "body") if isinstance(loc, list) else ""
            param = param or where or None
            texts.append(f"{where}: {_word(entry.get('msg'))}" if where else _word(entry.get("msg")))
        else:
            texts.append(_word(entry))
    return "; ".join(texts), param


def _hints(fields: dict[str, Json]) -> list[str]:
    """Words from the places where providers put the real reason."""
    found: list[Json] = [fields.get("status"), fields.get("error_type")]
    details = fields.get("details")
    if isinstance(details, dict):
        found.append(details.get("error_code"))
    elif isinstance(details, list):
        for detail in details:
            if isinstance(detail, dict):
                found.append(detail.get("reason"))
                violations = detail.get("violations")
                for violation in violations if isinstance(violations, list) else ():
                    if isinstance(violation, dict):
                        found.append(violation.get("quotaId"))
                        # Protobuf leaves a zero out.
                        none = "quotaId" in violation and violation.get("quotaValue", "0") == "0"
                        found.append("limit: 0" if none else None)
    for name in ("innererror", "metadata"):
        more = fields.get(name)
        if isinstance(more, dict):
            found += [more.get("code"), more.get("error_type"), more.get("limit_source")]
            # OpenRouter's moderation. What was flagged is the prompt's text, and not read.
            found.append("flagged" if more.get("reasons") or more.get("flagged_input") else None)
            raw = more.get("raw")
            found.append(raw[:MAX_MESSAGE] if isinstance(raw, str) else None)
    return [word for one in found if (word := _word(one))]


def _retry_info(fields: dict[str, Json]) -> float | None:
    """Google."""
    details = fields.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return parse_duration(detail["retryDelay"])
    return None


def _body_delay(fields: dict[str, Json]) -> float | None:
    for name in ("retry_after", "retryAfter"):
        if name in fields:
            return parse_duration(_spelled(fields[name]))
    return None


def _reset(fields: dict[str, Json]) -> str:
    """OpenRouter: the upstream's headers, inside the body."""
    metadata = fields.get("metadata")
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if isinstance(headers, dict):
        for name, value in headers.items():
            if name.lower() == "x-ratelimit-reset":
                return _spelled(value)
    return ""


def _spelled(value: Json) -> str:
    return repr(value) if isinstance(value, (int, float)) else value if isinstance(value, str) else ""

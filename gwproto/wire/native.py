"""What formats other than OpenAI's have in common: requests cut to what a target takes, JSON read tolerantly."""

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from gwproto.config import Quirks
from gwproto.failures import Failure, WireError
from gwproto.wire.conversation import ResponseFormat
from gwproto.wire.neutral import ChatRequest, RawFields, Reading
from gwproto.wire.openai.adapt import without_keywords
from gwproto.wire.openai.errors import in_band_failure
from gwproto.wire.openai.parts import NO_PARAMETERS, fields_of, text_of, value_of
from gwproto.wire.openai.request import refusal
from gwproto.wire.strict import repair, too_deep

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(RawFields).decode


def taken(
    request: ChatRequest, quirks: Quirks, parameters: frozenset[str], hottest: float | None = None
) -> tuple[ChatRequest, list[str]]:
    """``request`` as if the client had sent only what a model takes, and the names of all else.

    ``parameters``: what its format has words for; ``hottest``: the highest temperature, where its quirks name none.
    """
    refused = quirks.drop or frozenset()
    dropped = [name for name in request.fields if name in refused or name not in parameters]
    temperature, limit = request.temperature, request.max_tokens
    hottest = hottest if quirks.max_temperature is None else quirks.max_temperature
    if temperature is not None and hottest is not None:
        temperature = min(temperature, hottest)
    if not refused.isdisjoint(request.fields):
        fields = {name: value for name, value in request.fields.items() if name not in refused}
        limited = "max_tokens" in fields or "max_completion_tokens" in fields
        temperature = temperature if "temperature" in fields else None
        n = request.n if "n" in fields else 1
        request = replace(request, fields=fields, max_tokens=limit if limited else None, n=n)
    if temperature != request.temperature:
        request = replace(request, temperature=temperature)
    return request, dropped


def in_words(wanted: ResponseFormat) -> str:
    """JSON asked for where it cannot be demanded."""
    text = "Unless you call a tool, answer with a JSON object alone: no other text, no code fence."
    if wanted.schema is None:
        return text
    return f"{text} It must match this JSON schema: {bytes(memoryview(wanted.schema)).decode()}"


def object_schema(parameters: Raw | None, quirks: Quirks) -> Raw:
    """A function's schema, where it must be of type object."""
    if parameters is None:
        return NO_PARAMETERS
    if quirks.schema_drop and (value := value_of(parameters)) is not None:
        parameters = Raw(_encode(without_keywords(value, quirks.schema_drop)))
    schema = _members(parameters)
    return parameters if "type" in schema else Raw(_encode({"type": "object", **schema}))


def content_of(parts: list[dict[str, object]]) -> object:
    """OpenAI's parts as a message's content: a string if there is no more than that."""
    if len(parts) == 1 and "text" in parts[0]:
        return parts[0]["text"]
    return parts or ""


def members(data: bytes) -> RawFields:
    """The members of a JSON object that are not null. Raises :class:`WireError` for anything else."""
    if too_deep(data):
        raise WireError("JSON cut short or nested too deeply")
    text = data.decode("utf-8", "replace").strip().encode()
    if not text.startswith(b"{"):
        raise WireError("not a JSON object")
    try:
        return fields_of(Raw(text))
    except msgspec.DecodeError:
        return fields_of(Raw(repair(text)))


def failure_in(fields: RawFields, reading: Reading) -> Failure | None:
    """The error that stands where an answer should. Where answers have a ``message``, only an error's is a text."""
    if text_of(fields.get("message")) is None:
        fields = {name: value for name, value in fields.items() if name != "message"}
    return in_band_failure(fields, reading)


def count_of(fields: RawFields, name: str) -> int | None:
    """A count of something; None when it is missing or none."""
    value = value_of(fields.get(name))
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 1 << 53 else None


def unreadable(error: Exception) -> Failure:
    """The refusal of a request body that msgspec cannot decode."""
    code = "invalid_type" if isinstance(error, msgspec.ValidationError) else "invalid_json"
    return refusal(code, f"The request body cannot be read: {error}.")

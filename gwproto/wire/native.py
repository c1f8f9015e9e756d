"""What native formats have in common: a request without what a model refuses, and JSON objects read tolerantly."""

from collections.abc import Set

import msgspec
from msgspec.structs import replace

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.wire.neutral import ChatRequest, RawFields, Reading
from gwproto.wire.openai.errors import in_band_failure
from gwproto.wire.openai.parts import fields_of, text_of, value_of
from gwproto.wire.strict import repair, too_deep


def without(request: ChatRequest, names: Set[str]) -> ChatRequest:
    """``request`` as if the client had not sent the fields ``names``."""
    fields = {name: value for name, value in request.fields.items() if name not in names}
    limited = "max_tokens" in fields or "max_completion_tokens" in fields
    return replace(
        request,
        fields=fields,
        temperature=request.temperature if "temperature" in fields else None,
        max_tokens=request.max_tokens if limited else None,
    )


def members(data: bytes) -> RawFields:
    """The members of a JSON object that are not null. Raises :class:`WireError` for anything else."""
    if too_deep(data):
        raise WireError("JSON cut short or nested too deeply")
    text = data.decode("utf-8", "replace").strip().encode()
    if not text.startswith(b"{"):
        raise WireError("not a JSON object")
    try:
        return fields_of(text)
    except msgspec.DecodeError:
        return fields_of(repair(text))


def failure_in(fields: RawFields, reading: Reading) -> Failure | None:
    """The error that stands where an answer should. Where answers have a ``message``, only an error's is a text."""
    if text_of(fields.get("message")) is None:
        fields = {name: value for name, value in fields.items() if name != "message"}
    return in_band_failure(fields, reading)


def count_of(fields: RawFields, name: str) -> int | None:
    """A count of something; None when it is missing or none."""
    value = value_of(fields.get(name))
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 1 << 53 else None


def refusal(message: str, code: str, param: str | None = None) -> Failure:
    """Why a client's request is refused."""
    return Failure(
        FailureClass.INVALID, message[:300], status=400, type="invalid_request_error", code=code, param=param
    )


def unreadable(error: Exception) -> Failure:
    """The refusal of a request body that msgspec cannot decode."""
    code = "invalid_type" if isinstance(error, msgspec.ValidationError) else "invalid_json"
    return refusal(f"The request body cannot be read: {error}.", code)

"""Whole responses of the runtime's own, in the words of all others."""

from gwproto import Headers
from gwproto.wire.openai.errors import encode_error

#: Status, headers and body.
Response = tuple[int, Headers, bytes]


def response(
    status: int, body: bytes, content_type: bytes = b"application/json", headers: Headers = ()
) -> Response:
    length = (b"content-length", b"%d" % len(body))
    return status, ((b"content-type", content_type), length, *headers), body


def error(
    status: int,
    code: str,
    message: str,
    *,
    type: str = "service_unavailable",
    param: str | None = None,
) -> Response:
    return response(status, encode_error(message, type, code, param))

"""Name → wire format: a table of functions."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from gwproto.failures import Failure
from gwproto.values import Headers
from gwproto.wire.neutral import ChatRequest, Chunk, Completion, EncodedRequest, Envelope, Rendering
from gwproto.wire.openai import completion, errors, request, stream


class Dialect(Struct, frozen=True, kw_only=True):
    """One format, both directions."""

    name: str
    framing: Literal["sse", "ndjson"]
    # Towards a provider.
    encode_request: Callable[[ChatRequest, Rendering], EncodedRequest]
    decode_chunk: Callable[[bytes], Chunk]
    decode_completion: Callable[[bytes], Completion | Failure]
    decode_error: Callable[[int, Headers, bytes, float], Failure]  # status, headers, body, wall time
    # Towards a client.
    parse_request: Callable[[bytes], ChatRequest | Failure]
    encode_chunk: Callable[[Chunk, Envelope], bytes]
    encode_completion: Callable[[Completion, Envelope], bytes]
    encode_error: Callable[[str, str, str | None, str | None], bytes]  # message, type, code, param


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect(
        name="openai",
        framing="sse",
        encode_request=request.encode_request,
        decode_chunk=stream.decode_chunk,
        decode_completion=completion.decode_completion,
        decode_error=errors.decode_error,
        parse_request=request.parse_request,
        encode_chunk=stream.encode_chunk,
        encode_completion=completion.encode_completion,
        encode_error=errors.encode_error,
    ),
}

"""Google's own format for Gemini: ``generateContent`` and ``streamGenerateContent``."""

from gwproto.wire.dialect import Dialect
from gwproto.wire.gemini import answer, incoming, request, writing
from gwproto.wire.openai.errors import decode_error

DIALECT = Dialect(
    name="gemini",
    framing="sse",
    encode_request=request.encode_request,
    stream_decoder=answer.stream_decoder,
    decode_completion=answer.decode_completion,
    decode_error=decode_error,
    parse_request=incoming.parse_request,
    stream_encoder=writing.stream_encoder,
    encode_completion=writing.encode_completion,
    encode_error=writing.encode_error,
    parameters=request.PARAMETERS,
    lacks=frozenset(("custom_tools",)),
    efforts=request.EFFORTS,
)

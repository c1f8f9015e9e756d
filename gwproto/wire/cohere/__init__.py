"""Cohere's own format: the chat endpoint of its API's second version."""

from gwproto.wire.cohere import answer, request, writing
from gwproto.wire.dialect import Dialect
from gwproto.wire.openai.errors import decode_error

DIALECT = Dialect(
    name="cohere",
    framing="sse",
    encode_request=request.encode_request,
    stream_decoder=answer.stream_decoder,
    decode_completion=answer.decode_completion,
    decode_error=decode_error,
    parse_request=request.parse_request,
    stream_encoder=writing.stream_encoder,
    encode_completion=writing.encode_completion,
    encode_error=writing.encode_error,
    parameters=request.PARAMETERS,
    lacks=frozenset(("n", "audio", "files", "custom_tools")),
    efforts=request.EFFORTS,
)

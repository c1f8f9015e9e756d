"""Ollama's own format: ``/api/chat``, in lines of JSON."""

from gwproto.wire.dialect import Dialect
from gwproto.wire.ollama import answer, request, writing
from gwproto.wire.openai.errors import decode_error

DIALECT = Dialect(
    name="ollama",
    framing="ndjson",
    encode_request=request.encode_request,
    stream_decoder=answer.stream_decoder,
    decode_completion=answer.decode_completion,
    decode_error=decode_error,
    parse_request=request.parse_request,
    stream_encoder=writing.stream_encoder,
    encode_completion=writing.encode_completion,
    encode_error=writing.encode_error,
    frame_error=lambda body: body + b"\n",
    parameters=request.PARAMETERS,
    lacks=frozenset(("n", "image_url", "audio", "files", "custom_tools")),
    efforts=request.EFFORTS,
)

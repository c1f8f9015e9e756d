"""Cloudflare Workers AI's own format: ``/ai/run/{model}``."""

from gwproto.wire.dialect import Dialect
from gwproto.wire.openai.errors import decode_error
from gwproto.wire.workers_ai import answer, request, writing

DIALECT = Dialect(
    name="workers_ai",
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
    lacks=frozenset(("n", "logprobs", "audio", "files", "custom_tools", "image_url")),
)

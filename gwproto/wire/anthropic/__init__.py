"""Anthropic's Messages API, towards providers and towards clients."""

from gwproto import sse
from gwproto.wire.anthropic import answer, client, encode, request
from gwproto.wire.dialect import Dialect
from gwproto.wire.openai.errors import decode_error

DIALECT = Dialect(
    name="anthropic",
    framing="sse",
    encode_request=request.encode_request,
    stream_decoder=answer.stream_decoder,
    decode_completion=answer.decode_completion,
    decode_error=decode_error,
    parse_request=client.parse_request,
    stream_encoder=encode.stream_encoder,
    encode_completion=encode.encode_completion,
    encode_error=encode.encode_error,
    frame_error=lambda body: b"event: error\n" + sse.encode(body),
    parameters=request.PARAMETERS,
    lacks=frozenset(("n", "logprobs", "audio", "custom_tools")),
    efforts=request.EFFORTS,
)

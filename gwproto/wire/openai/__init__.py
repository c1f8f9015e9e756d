"""OpenAI's chat completions format, towards clients and towards providers."""

from gwproto.wire.dialect import Dialect
from gwproto.wire.effort import OPENAI_EFFORTS
from gwproto.wire.openai import completion, errors, request, stream
from gwproto.wire.openai.schema import DOCUMENTED

DIALECT = Dialect(
    name="openai",
    framing="sse",
    encode_request=request.encode_request,
    stream_decoder=stream.stream_decoder,
    decode_completion=completion.decode_completion,
    decode_error=errors.decode_error,
    parse_request=request.parse_request,
    stream_encoder=stream.stream_encoder,
    encode_completion=completion.encode_completion,
    encode_error=errors.encode_status_error,
    parameters=DOCUMENTED,
    open=True,
    efforts=OPENAI_EFFORTS,
)

"""The Converse API of Amazon Bedrock, towards providers and towards clients."""

from gwproto.sse import eventstream
from gwproto.wire.bedrock import answer, client, request, writing
from gwproto.wire.dialect import Dialect
from gwproto.wire.openai.errors import decode_error

DIALECT = Dialect(
    name="bedrock",
    framing="eventstream",
    encode_request=request.encode_request,
    stream_decoder=answer.stream_decoder,
    decode_completion=answer.decode_completion,
    decode_error=decode_error,
    parse_request=client.parse_request,
    stream_encoder=writing.stream_encoder,
    encode_completion=writing.encode_completion,
    encode_error=writing.encode_error,
    frame_error=eventstream.encode_error,
    parameters=request.PARAMETERS,
    lacks=frozenset(("n", "logprobs", "audio", "custom_tools", "image_url")),
)

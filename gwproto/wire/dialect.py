"""What a wire format is: a table of functions, both directions."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from gwproto.failures import Failure
from gwproto.sse.encoder import encode
from gwproto.values import Headers
from gwproto.wire.effort import Efforts
from gwproto.wire.neutral import ChatRequest, Chunk, Completion, EncodedRequest, Envelope, Reading, Rendering

ChunkDecoder = Callable[[bytes], Chunk]
ChunkEncoder = Callable[[Chunk], bytes]


class Dialect(Struct, frozen=True, kw_only=True):
    """One format.

    What decodes a stream raises nothing but :class:`~gwproto.failures.WireError`, and that only for what is not JSON,
    or no object. What encodes is given what a normaliser let through.
    """

    name: str
    framing: Literal["sse", "ndjson", "eventstream"]
    # Towards a provider.
    encode_request: Callable[[ChatRequest, Rendering], EncodedRequest]
    stream_decoder: Callable[[Reading], ChunkDecoder]  # one for each stream; takes the data of its events
    decode_completion: Callable[[bytes, Reading], Completion | Failure]
    decode_error: Callable[[int, Headers, bytes, Reading], Failure]
    # Towards a client.
    parse_request: Callable[
        [bytes, str], ChatRequest | Failure
    ]  # body; path and query, which may name the model
    stream_encoder: Callable[[Envelope], ChunkEncoder]  # one for each stream; ``done`` ends it
    encode_completion: Callable[[Completion, Envelope], bytes]
    encode_error: Callable[
        [int, str, str, str | None, str | None], bytes
    ]  # status, message, type, code, param
    frame_error: Callable[[bytes], bytes] = encode  # an error's body as the last event of a stream
    # What it can say.
    parameters: frozenset[str]  # request fields it has words for
    open: bool = False  # unknown fields may be sent, and providers may take them
    lacks: frozenset[str] = frozenset()  # needs of a request that it has no words for
    efforts: Efforts = {}  # fields for each level of effort, where a model has none of its own

"""Server-sent events on bytes: the WHATWG EventSource stream grammar, both directions."""

from gwproto.sse.decoder import Decoder, Frame
from gwproto.sse.encoder import DONE, KEEP_ALIVE, encode

__all__ = ["DONE", "KEEP_ALIVE", "Decoder", "Frame", "encode"]

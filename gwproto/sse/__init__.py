"""Streams on bytes: the WHATWG EventSource grammar, both directions, and lines of JSON."""

from gwproto.sse.decoder import Decoder, Frame
from gwproto.sse.encoder import DONE, KEEP_ALIVE, encode
from gwproto.sse.ndjson import LineDecoder

__all__ = ["DONE", "KEEP_ALIVE", "Decoder", "Frame", "LineDecoder", "encode"]

"""Streams on bytes: the WHATWG EventSource grammar, both directions, lines of JSON, and AWS's binary frames."""

from gwproto.sse.decoder import Decoder
from gwproto.sse.encoder import DONE, KEEP_ALIVE, encode
from gwproto.sse.eventstream import EventStreamDecoder
from gwproto.sse.frame import Frame
from gwproto.sse.ndjson import LineDecoder

__all__ = ["DONE", "KEEP_ALIVE", "Decoder", "EventStreamDecoder", "Frame", "LineDecoder", "encode"]

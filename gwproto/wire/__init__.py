"""Wire formats: pure codecs, each knowing both directions, around the inner words of :mod:`gwproto.wire.neutral`."""

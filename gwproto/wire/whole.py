"""Whole answers read as streams: for formats whose answer is made of the same pieces as their stream."""

from collections.abc import Iterable

from gwproto.failures import Failure, FailureClass
from gwproto.wire.assemble import assemble
from gwproto.wire.neutral import Chunk, Completion
from gwproto.wire.normalise import Normaliser


def completed(chunks: Iterable[Chunk], seed: str = "") -> Completion | Failure:
    """The answer that a provider's chunks spell, normalised, or why they spell none. ``seed``: as in ``Reading``."""
    normaliser = Normaliser(include_usage=True, seed=seed)
    normal: list[Chunk] = []
    for chunk in chunks:
        normal += normaliser.receive(chunk)
        if normaliser.failure is not None:
            return normaliser.failure
    if not normaliser.content:
        message = "The provider's answer has neither content nor a finish reason."
        return Failure(FailureClass.EMPTY, message, code="bad_upstream_response")
    return assemble([*normal, *normaliser.end(complete=True)])

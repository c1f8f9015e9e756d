"""Reasoning that goes back to the provider: signed blocks, kept by the client in a message's ``extra_content``."""

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from gwproto.wire.neutral import RawFields

Block = dict[str, object]


class _Text(Struct, frozen=True, gc=False):
    text: str = ""
    signature: str = ""


class _Kept(Struct, frozen=True, gc=False):
    reasoningText: _Text | None = None
    redactedContent: str = ""


class _Own(Struct, frozen=True, gc=False):
    reasoning: tuple[_Kept, ...] = ()


class _Extra(Struct, frozen=True, gc=False):
    bedrock: _Own = _Own()


_decoder = msgspec.json.Decoder(_Extra)
_encode = msgspec.json.Encoder().encode


def signed(text: str, signature: str) -> Block:
    """Reasoning that can be verified."""
    return {"reasoningText": {"text": text, "signature": signature}}


def kept(blocks: Iterable[Block]) -> RawFields:
    """The field of a message that keeps ``blocks``."""
    return {"extra_content": Raw(_encode({"bedrock": {"reasoning": list(blocks)}}))}


def reasoning_blocks(extra: RawFields) -> list[Block]:
    """The blocks that were kept, as Bedrock sent them; what a client made of the rest is left out."""
    raw = extra.get("extra_content")
    if raw is None:
        return []
    try:
        blocks = _decoder.decode(raw).bedrock.reasoning
    except msgspec.ValidationError:
        return []  # anybody else's, or nobody's
    out: list[Block] = []
    for block in blocks:
        text = block.reasoningText
        if text is not None and text.signature:
            out.append(signed(text.text, text.signature))
        elif block.redactedContent:
            out.append({"redactedContent": block.redactedContent})
    return out

"""Thinking that goes back to the provider: signed blocks, kept by the client in a message's ``extra_content``."""

import msgspec
from msgspec import Struct

from gwproto.wire.neutral import RawFields


class _Block(Struct, frozen=True, gc=False):
    type: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""


class _Own(Struct, frozen=True, gc=False):
    thinking_blocks: tuple[_Block, ...] = ()


class _Extra(Struct, frozen=True, gc=False):
    anthropic: _Own = _Own()


_decoder = msgspec.json.Decoder(_Extra)


def thinking_blocks(extra: RawFields) -> list[dict[str, object]]:
    """The blocks that Anthropic can verify, as it sent them; what a client made of the rest is left out."""
    raw = extra.get("extra_content")
    if raw is None:
        return []
    try:
        blocks = _decoder.decode(raw).anthropic.thinking_blocks
    except msgspec.ValidationError:
        return []  # anybody else's, or nobody's
    out: list[dict[str, object]] = []
    for block in blocks:
        if block.type == "thinking" and block.signature:
            out.append({"type": "thinking", "thinking": block.thinking, "signature": block.signature})
        elif block.type == "redacted_thinking" and block.data:
            out.append({"type": "redacted_thinking", "data": block.data})
    return out

"""OpenAI's messages as those of the Messages API (Anthropic: messages API, tool use, vision, PDF support)."""

import base64
import binascii
import re
from collections.abc import Iterable

from gwproto.wire.anthropic.thinking import thinking_blocks
from gwproto.wire.conversation import Call, Media, Part, Turn, arguments_object
from gwproto.wire.dialogue import NO_RESULT, Block, Dialogue

_PLACES: dict[object, int] = {"thinking": 0, "redacted_thinking": 0, "tool_use": 2}


class Conversation(Dialogue):
    """The messages."""

    id_pattern = re.compile(r"[a-zA-Z0-9_-]+\Z")
    id_prefix = "toolu_"

    def text(self, text: str) -> Block:
        return {"type": "text", "text": text}

    def place(self, block: Block) -> int:
        return _PLACES.get(block["type"], 1)

    def blocks(self, parts: Iterable[Part]) -> list[Block]:
        return blocks_of(parts)

    def reasoning(self, turn: Turn) -> list[Block]:
        return thinking_blocks(turn.extra)

    def call(self, id_: str, call: Call) -> Block:
        return {"type": "tool_use", "id": id_, "name": call.name, "input": arguments_object(call.arguments)}

    def result(self, id_: str, turn: Turn | None) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": id_}
        if turn is None:
            return block | {"content": NO_RESULT, "is_error": True}
        only_text = all(isinstance(part, str) for part in turn.parts)
        content: object = turn.text if only_text else blocks_of(turn.parts)
        return block | {"content": content} if content else block


def blocks_of(parts: Iterable[Part]) -> list[Block]:
    """Content parts as blocks; blank texts are refused, and sounds have no words here."""
    blocks: list[Block] = []
    for part in parts:
        if isinstance(part, str):
            if part.strip():
                blocks.append({"type": "text", "text": part})
        elif part.kind == "image" or part.media_type.startswith("image/"):
            blocks.append({"type": "image", "source": _image(part)})
        elif part.kind == "file":
            title = {"title": part.name} if part.name else {}
            blocks.append({"type": "document", "source": _document(part), **title})
    return blocks


def _image(image: Media) -> Block:
    if image.url:
        return {"type": "url", "url": image.url}
    kind = image.media_type.replace("image/jpg", "image/jpeg") or "image/png"
    return {"type": "base64", "media_type": kind, "data": image.data}


def _document(file: Media) -> Block:
    """PDF, or text as itself; an uploaded file by its id."""
    if file.url:
        return {"type": "file", "file_id": file.url}
    if file.media_type.startswith("text/") or file.media_type == "application/json":
        text = _decoded(file.data)
        if text is not None:
            return {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "base64", "media_type": file.media_type or "application/pdf", "data": file.data}


def _decoded(data: str) -> str | None:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None

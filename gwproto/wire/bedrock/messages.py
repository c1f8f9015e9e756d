"""OpenAI's messages as Converse's (Amazon Bedrock: Message, ContentBlock)."""

import re
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from gwproto.wire.bedrock.reasoning import reasoning_blocks
from gwproto.wire.conversation import Call, Media, Part, Turn, arguments_object
from gwproto.wire.dialogue import NO_RESULT, NOTHING, Block, Dialogue

_REFUSED_IN_NAMES = re.compile(r"[^a-zA-Z0-9()\[\]-]+")  # what is left has no more than one space in a row
_PLACES = {"reasoningContent": 0, "toolUse": 2}

DOCUMENTS = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
_FORMATS = {media_type: format for format, media_type in DOCUMENTS.items()}


class Conversation(Dialogue):
    """The messages."""

    id_pattern = re.compile(r"[a-zA-Z0-9_.:-]{1,64}\Z")
    id_prefix = "tooluse_"

    def __init__(self) -> None:
        super().__init__()
        self._documents: set[str] = set()

    def text(self, text: str) -> Block:
        return {"text": text}

    def place(self, block: Block) -> int:
        return _PLACES.get(next(iter(block)), 1)

    def said(self, blocks: list[Block]) -> list[Block]:
        if any("document" in block for block in blocks) and not any("text" in block for block in blocks):
            return [*blocks, self.text(NOTHING)]  # a document never comes alone
        return blocks

    def reasoning(self, turn: Turn) -> list[Block]:
        return [{"reasoningContent": block} for block in reasoning_blocks(turn.extra)]

    def call(self, id_: str, call: Call) -> Block:
        tool = {"toolUseId": id_, "name": call.name, "input": arguments_object(call.arguments)}
        return {"toolUse": tool}

    def result(self, id_: str, turn: Turn | None) -> Block:
        if turn is None:
            content, status = [self.text(NO_RESULT)], "error"
        else:
            only_text = all(isinstance(part, str) for part in turn.parts)
            content, status = _result(turn.text) if only_text else self.blocks(turn.parts), "success"
        return {"toolResult": {"toolUseId": id_, "content": content, "status": status}}

    def blocks(self, parts: Iterable[Part]) -> list[Block]:
        """Content parts as blocks; blank texts are refused, sounds and what lies elsewhere have no words here."""
        blocks: list[Block] = []
        for part in parts:
            if isinstance(part, str):
                if part.strip():
                    blocks.append({"text": part})
            elif not part.data or part.kind == "audio":
                continue
            elif part.kind == "image" or part.media_type.startswith("image/"):
                blocks.append({"image": {"format": _image_format(part), "source": {"bytes": part.data}}})
            else:
                blocks.append({"document": self._document(part)})
        return blocks

    def _document(self, file: Media) -> Block:
        """A file; two of one name are refused."""
        stem, _, ending = file.name.rpartition(".")
        if ending not in DOCUMENTS:
            stem, ending = (
                file.name,
                "txt" if file.media_type.startswith(("text/", "application/json")) else "pdf",
            )
        name = _REFUSED_IN_NAMES.sub(" ", stem).strip()[:180] or "document"
        unique, number = name, 1
        while unique in self._documents:
            number += 1
            unique = f"{name} {number}"
        self._documents.add(unique)
        format = _FORMATS.get(file.media_type, ending)
        return {"format": format, "name": unique, "source": {"bytes": file.data}}


def _image_format(image: Media) -> str:
    """Its media type's second half."""
    return image.media_type.partition("/")[2].replace("jpg", "jpeg") or "png"


def _result(text: str) -> list[Block]:
    """A tool's answer: a JSON object as one, anything else as text."""
    if text.lstrip().startswith("{"):
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            return [{"json": Raw(text.encode())}]
    return [{"text": text}] if text.strip() else []

"""OpenAI's messages as Converse's (Amazon Bedrock: Message, ContentBlock).

Roles take turns, a user's comes first, and every tool call is answered at the head of the very next message. Clients
that speak to OpenAI need obey none of this, so here it is made true.
"""

import hashlib
import re
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from gwproto.wire.bedrock.reasoning import Block, reasoning_blocks
from gwproto.wire.conversation import Media, Part, Turn, arguments_object

_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}\Z")
_REFUSED_IN_NAMES = re.compile(r"[^a-zA-Z0-9()\[\]-]+")  # what is left has no more than one space in a row
# In an assistant's message; what is not here comes between.
_PLACES = {"reasoningContent": 0, "toolUse": 2}
_NO_RESULT = "The tool gave no result."
_NOTHING: Block = {"text": "."}  # the least that a message may say

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


class Conversation:
    """Messages under construction, turn by turn."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, list[Block]]] = []  # role and content
        self._users = False  # is it the user's turn?
        self._results: list[Block] = []
        self._said: list[Block] = []  # by the user, after the results
        self._waiting: dict[str, list[str]] = {}  # calls without a result: our ids for them, by the client's
        self._ids: set[str] = set()
        self._documents: set[str] = set()

    def add(self, turn: Turn) -> None:
        """The next turn, of any role but system."""
        if turn.role == "assistant":
            self._assistant(turn)
            return
        self._users = True
        if turn.role == "tool" and self._waiting.get(turn.call_id):
            only_text = all(isinstance(part, str) for part in turn.parts)
            content = _result(turn.text) if only_text else self._blocks(turn.parts)
            self._results.append(_answered(self._waiting[turn.call_id].pop(0), content, "success"))
        else:
            self._said += self._blocks(turn.parts)

    def messages(self) -> list[Block]:
        """All of them; the last turn was added."""
        self._end_user()
        if not self._messages:
            self._messages.append(("user", []))
        role, content = self._messages[-1]
        if role == "assistant" and content and "text" in content[-1]:
            content[-1] = {"text": str(content[-1]["text"]).rstrip()}
        return [{"role": role, "content": content or [_NOTHING]} for role, content in self._messages]

    def _end_user(self) -> None:
        for ids in self._waiting.values():
            self._results += [_answered(id_, [{"text": _NO_RESULT}], "error") for id_ in ids]
        self._waiting = {}
        if self._users or self._results:
            said = self._said
            if any("document" in block for block in said) and not any("text" in block for block in said):
                said.append(_NOTHING)  # a document never comes alone
            self._messages.append(("user", self._results + said))
            self._users, self._results, self._said = False, [], []

    def _assistant(self, turn: Turn) -> None:
        if self._users or not self._messages:
            self._users = True  # the first turn is
            self._end_user()
            self._messages.append(("assistant", []))
        content = self._messages[-1][1]
        content += [{"reasoningContent": block} for block in reasoning_blocks(turn.extra)]
        content += self._blocks(turn.parts)
        for call in turn.calls:
            id_ = self._id(call.id)
            self._waiting.setdefault(call.id, []).append(id_)
            tool = {"toolUseId": id_, "name": call.name, "input": arguments_object(call.arguments)}
            content.append({"toolUse": tool})
        content.sort(key=lambda block: _PLACES.get(next(iter(block)), 1))

    def _id(self, id_: str) -> str:
        """An id as Bedrock has them, and no other call's: the same one for the same conversation."""
        if not _ID.match(id_):
            id_ = "tooluse_" + hashlib.blake2b(id_.encode("utf-8", "replace"), digest_size=12).hexdigest()
        unique, number = id_, 1
        while unique in self._ids:
            number += 1
            unique = f"{id_[:56]}_{number}"
        self._ids.add(unique)
        return unique

    def _blocks(self, parts: Iterable[Part]) -> list[Block]:
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


def _answered(id_: str, content: list[Block], status: str) -> Block:
    return {"toolResult": {"toolUseId": id_, "content": content, "status": status}}


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

"""OpenAI's messages as those of the Messages API (Anthropic: messages API, tool use, vision, PDF support).

Roles take turns, a user's comes first, and every tool call is answered at the head of the very next message. Clients
that speak to OpenAI need obey none of this, so here it is made true.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

from gwproto.wire.anthropic.thinking import thinking_blocks
from gwproto.wire.conversation import Media, Part, Turn, arguments_object

Block = dict[str, object]

_ID = re.compile(r"[a-zA-Z0-9_-]+\Z")
# In an assistant's message; what is not here comes between.
_PLACES: dict[object, int] = {"thinking": 0, "redacted_thinking": 0, "tool_use": 2}
_NO_RESULT = "The tool gave no result."
_NOTHING = "."  # the least that a message may say


class Conversation:
    """Messages under construction, turn by turn."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, list[Block]]] = []  # role and content
        self._users = False  # is it the user's turn?
        self._results: list[Block] = []
        self._said: list[Block] = []  # by the user, after the results
        self._waiting: dict[str, list[str]] = {}  # calls without a result: our ids for them, by the client's
        self._ids: set[str] = set()

    def add(self, turn: Turn) -> None:
        """The next turn, of any role but system."""
        if turn.role == "assistant":
            self._assistant(turn)
            return
        self._users = True
        if turn.role == "tool" and self._waiting.get(turn.call_id):
            result: Block = {"type": "tool_result", "tool_use_id": self._waiting[turn.call_id].pop(0)}
            if all(isinstance(part, str) for part in turn.parts):
                content: object = turn.text
            else:
                content = blocks_of(turn.parts)
            self._results.append(result | {"content": content} if content else result)
        else:
            self._said += blocks_of(turn.parts)

    def messages(self) -> list[Block]:
        """All of them; the last turn was added."""
        self._end_user()
        if not self._messages:
            self._messages.append(("user", []))
        role, content = self._messages[-1]
        if role == "assistant" and content and content[-1]["type"] == "text":
            content[-1]["text"] = str(content[-1]["text"]).rstrip()
        nothing: list[Block] = [{"type": "text", "text": "."}]  # the least that a message may say
        return [{"role": role, "content": content or nothing} for role, content in self._messages]

    def _end_user(self) -> None:
        for ids in self._waiting.values():
            self._results += [
                {"type": "tool_result", "tool_use_id": id_, "content": _NO_RESULT, "is_error": True}
                for id_ in ids
            ]
        self._waiting = {}
        if self._users or self._results:
            self._messages.append(("user", self._results + self._said))
            self._users, self._results, self._said = False, [], []

    def _assistant(self, turn: Turn) -> None:
        if self._users or not self._messages:
            self._users = True  # the first turn is
            self._end_user()
            self._messages.append(("assistant", []))
        content = self._messages[-1][1]
        content += [*thinking_blocks(turn.extra), *blocks_of(turn.parts)]
        for call in turn.calls:
            id_ = self._id(call.id)
            self._waiting.setdefault(call.id, []).append(id_)
            content.append(
                {"type": "tool_use", "id": id_, "name": call.name, "input": arguments_object(call.arguments)}
            )
        content.sort(key=lambda block: _PLACES.get(block["type"], 1))

    def _id(self, id_: str) -> str:
        """An id as Anthropic has them, and no other call's: the same one for the same conversation."""
        if not _ID.match(id_):
            id_ = "toolu_" + hashlib.blake2b(id_.encode("utf-8", "replace"), digest_size=12).hexdigest()
        unique, number = id_, 1
        while unique in self._ids:
            number += 1
            unique = f"{id_}_{number}"
        self._ids.add(unique)
        return unique


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

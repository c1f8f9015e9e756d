"""A conversation as some providers insist on it (Anthropic: messages API; AWS: Bedrock Converse).

Roles take turns, a user's comes first, and every tool call is answered at the head of the very next message. Clients
that speak to OpenAI need obey none of this, so here it is made true.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable

from gwproto.wire.conversation import Call, Part, Turn

Block = dict[str, object]

NO_RESULT = "The tool gave no result."
NOTHING = "."  # the least that a message may say


class Dialogue(ABC):
    """Messages under construction, turn by turn. A format says what its blocks look like."""

    id_pattern: re.Pattern[str]  # what ids of calls look like
    id_prefix: str  # of those made for ids that do not

    def __init__(self) -> None:
        self._messages: list[tuple[str, list[Block]]] = []  # role and content
        self._users = False  # is it the user's turn?
        self._results: list[Block] = []
        self._said: list[Block] = []  # by the user, after the results
        self._waiting: dict[str, list[str]] = {}  # calls without a result: our ids for them, by the client's
        self._ids: set[str] = set()

    @abstractmethod
    def text(self, text: str) -> Block:
        """A block of text."""

    @abstractmethod
    def place(self, block: Block) -> int:
        """Where a block stands in an assistant's message: 0 thinking, 1 what is said, 2 calls."""

    @abstractmethod
    def blocks(self, parts: Iterable[Part]) -> list[Block]:
        """Content parts as blocks, without blank texts, which are refused."""

    @abstractmethod
    def reasoning(self, turn: Turn) -> list[Block]:
        """What an assistant thought, as its provider wants it back."""

    @abstractmethod
    def call(self, id_: str, call: Call) -> Block:
        """A tool call."""

    @abstractmethod
    def result(self, id_: str, turn: Turn | None) -> Block:
        """A tool's answer; None: there is none."""

    def said(self, blocks: list[Block]) -> list[Block]:
        """What a user says, whole."""
        return blocks

    def add(self, turn: Turn) -> None:
        """The next turn, of any role but system."""
        if turn.role == "assistant":
            self._assistant(turn)
            return
        self._users = True
        if turn.role == "tool" and self._waiting.get(turn.call_id):
            self._results.append(self.result(self._waiting[turn.call_id].pop(0), turn))
        else:
            self._said += self.blocks(turn.parts)

    def messages(self) -> list[Block]:
        """All of them; the last turn was added."""
        self._end_user()
        if not self._messages:
            self._messages.append(("user", []))
        role, content = self._messages[-1]
        if role == "assistant" and content and "text" in content[-1]:
            # White space at the end of what an assistant is to go on with is refused.
            content[-1] = self.text(str(content[-1]["text"]).rstrip())
        return [
            {"role": role, "content": content or [self.text(NOTHING)]} for role, content in self._messages
        ]

    def _end_user(self) -> None:
        self._results += [self.result(id_, None) for ids in self._waiting.values() for id_ in ids]
        self._waiting = {}
        if self._users or self._results:
            self._messages.append(("user", self._results + self.said(self._said)))
            self._users, self._results, self._said = False, [], []

    def _assistant(self, turn: Turn) -> None:
        if self._users or not self._messages:
            self._users = True  # the first turn is
            self._end_user()
            self._messages.append(("assistant", []))
        content = self._messages[-1][1]
        content += [*self.reasoning(turn), *self.blocks(turn.parts)]
        for call in turn.calls:
            id_ = self._id(call.id)
            self._waiting.setdefault(call.id, []).append(id_)
            content.append(self.call(id_, call))
        content.sort(key=self.place)

    def _id(self, id_: str) -> str:
        """An id of letters that are allowed, and no other call's: the same one for the same conversation."""
        if not self.id_pattern.match(id_):
            digest = hashlib.blake2b(id_.encode("utf-8", "replace"), digest_size=12).hexdigest()
            id_ = self.id_prefix + digest
        unique, number = id_, 1
        while unique in self._ids:
            number += 1
            unique = f"{id_[:56]}_{number}"
        self._ids.add(unique)
        return unique

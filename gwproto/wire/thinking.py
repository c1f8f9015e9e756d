"""Reasoning inside the text: ``<think>…</think>`` at its beginning, taken apart.

Some models write it into their answer, the opening tag at times left out because the prompt's template has it already.
Only models known for it are read so: anybody else's ``<think>`` is text.
"""

from operator import is_

from msgspec.structs import replace

from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.neutral import Chunk, Completion, CompletionChoice, Delta

_OPEN, _CLOSE = "<think>", "</think>"


class _Text:
    """One choice's text so far. ``held`` may be the beginning of a tag."""

    __slots__ = ("held", "opened", "place")

    def __init__(self, opened: bool) -> None:
        self.opened = opened
        self.place = "before"  # then opening, inside, after (white space is dropped in both), text
        self.held = ""

    def receive(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """Reasoning and text of the next piece; ``last``: nothing is held back any more."""
        text = self.held + text
        self.held = ""
        reasoning = ""
        if self.place == "before":
            start = text.lstrip()
            if start.startswith(_OPEN):
                text = start[len(_OPEN) :]
                self.place = "opening"
            elif not last and _OPEN.startswith(start):
                self.held = text
                return "", ""
            else:
                self.place = "opening" if self.opened else "text"
        if self.place == "opening":
            text = text.lstrip()
            if text:
                self.place = "inside"
        if self.place == "inside":
            inside, tag, after = text.partition(_CLOSE)
            if tag:
                reasoning, text = inside, after
                self.place = "after"
            else:
                kept = 0 if last else _overlap(text, _CLOSE)
                self.held = text[len(text) - kept :]
                return text[: len(text) - kept], ""
        if self.place == "after":
            text = text.lstrip()
            if text:
                self.place = "text"
        return reasoning, text


def _overlap(text: str, tag: str) -> int:
    """How much of the end of ``text`` may be the beginning of ``tag``."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)


class ThinkDecoder:
    """A stream's decoder that moves inline reasoning to where reasoning belongs.

    ``settled``: the text of every choice seen has begun, so that text is text from here on.
    """

    def __init__(self, decode: ChunkDecoder, *, opened: bool) -> None:
        """``opened``: the tag that opens is in the prompt, so the stream begins inside."""
        self._decode = decode
        self._opened = opened
        self._texts: dict[int, _Text] = {}

    @property
    def settled(self) -> bool:
        return all(text.place == "text" for text in self._texts.values())

    def __call__(self, data: bytes) -> Chunk:
        chunk = self._decode(data)
        deltas = [self._apart(delta) for delta in chunk.deltas]
        if chunk.done:
            deltas += [self._rest(index) for index, text in self._texts.items() if text.held]
        if len(deltas) == len(chunk.deltas) and all(map(is_, deltas, chunk.deltas)):
            return chunk
        return replace(chunk, deltas=tuple(deltas), verbatim=False)

    def _apart(self, delta: Delta) -> Delta:
        text = self._texts.get(delta.choice)
        if text is None:
            text = self._texts[delta.choice] = _Text(self._opened)
        last = delta.finish is not None or bool(delta.tools)
        if text.place == "text" or not (delta.content or (last and text.held)):
            return delta
        reasoning, content = text.receive(delta.content or "", last=last)
        if content == delta.content:
            return delta
        return replace(delta, content=content or None, reasoning=(delta.reasoning or "") + reasoning or None)

    def _rest(self, index: int) -> Delta:
        reasoning, content = self._texts[index].receive("", last=True)
        return Delta(index, content=content or None, reasoning=reasoning or None)


def settled(decode: ChunkDecoder) -> bool:
    """Is text text from here on, whoever decodes it?"""
    return not isinstance(decode, ThinkDecoder) or decode.settled


def without_thinking(completion: Completion) -> Completion:
    """A whole answer whose inline reasoning stands where reasoning belongs."""
    choices = tuple(map(_choice_apart, completion.choices))
    if all(map(is_, choices, completion.choices)):
        return completion
    return replace(completion, choices=choices, verbatim=False)


def _choice_apart(choice: CompletionChoice) -> CompletionChoice:
    said = choice.content or ""
    # A tag that closes tells of one that opened, which the prompt may have kept to itself.
    reasoning, content = _Text(_CLOSE in said).receive(said, last=True)
    if content == said:
        return choice
    reasoning = (choice.reasoning or "") + reasoning
    return replace(choice, content=content or None, reasoning=reasoning or None)

"""Reasoning inside the text: ``<think>…</think>`` at its beginning, taken apart.

Some models write it into their answer, the opening tag at times left out because the prompt's template has it already.
Only models known for it are read so: anybody else's ``<think>`` is text.
"""

from msgspec.structs import replace

from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.neutral import Chunk, Completion, Delta

_OPEN, _CLOSE = "<think>", "</think>"


class _Text:
    """One choice's text so far. ``held`` may be the beginning of a tag."""

    __slots__ = ("held", "place")

    def __init__(self, opened: bool) -> None:
        self.place = "inside" if opened else "before"  # or after (white space is still dropped), text
        self.held = ""

    def receive(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """Reasoning and text of the next piece; ``last``: nothing is held back any more."""
        text = self.held + text
        self.held = ""
        reasoning = ""
        if self.place == "before":
            start = text.lstrip()
            if start.startswith(_OPEN):
                text = start[len(_OPEN) :].lstrip("\n")
                self.place = "inside"
            elif not last and _OPEN.startswith(start):
                self.held = text
                return "", ""
            else:
                self.place = "text"
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
        if chunk.done and not self.settled:
            rest = [self._rest(index) for index in self._texts]
            return replace(chunk, deltas=tuple([delta for delta in rest if delta.content or delta.reasoning]))
        deltas = tuple([self._apart(delta) for delta in chunk.deltas])
        if all(new is old for new, old in zip(deltas, chunk.deltas, strict=True)):
            return chunk
        return replace(chunk, deltas=deltas, verbatim=False)

    def _apart(self, delta: Delta) -> Delta:
        text = self._texts.get(delta.choice)
        if text is None:
            text = self._texts[delta.choice] = _Text(self._opened)
        last = delta.finish is not None or bool(delta.tools)
        if text.place == "text" or not (delta.content or (last and text.held)):
            return delta
        reasoning, content = text.receive(delta.content or "", last=last)
        return replace(delta, content=content or None, reasoning=(delta.reasoning or "") + reasoning or None)

    def _rest(self, index: int) -> Delta:
        reasoning, content = self._texts[index].receive("", last=True)
        return Delta(index, content=content or None, reasoning=reasoning or None)


def without_thinking(completion: Completion) -> Completion:
    """A whole answer whose inline reasoning stands where reasoning belongs."""
    choices = []
    for choice in completion.choices:
        said = choice.content or ""
        text = _Text(_CLOSE in said and _OPEN not in said)
        reasoning, content = text.receive(said, last=True)
        if reasoning or text.place != "text":
            reasoning = (choice.reasoning or "") + reasoning
            choice = replace(choice, content=content or None, reasoning=reasoning or None)
        choices.append(choice)
    if all(new is old for new, old in zip(choices, completion.choices, strict=True)):
        return completion
    return replace(completion, choices=tuple(choices), verbatim=False)

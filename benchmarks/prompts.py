"""Prompts of a wanted size: what is long in practice is prose, code, or a long conversation."""

from typing import Literal

Kind = Literal["prose", "code", "chat"]

SYSTEM = "You are a careful assistant. Answer in plain sentences."
PROSE = (
    "The band had played on through the evening, and nobody in the square could say when it had begun to rain. "
    "“Is it over?” she asked; it was not. Somewhere behind the market a dog barked twice, and then no more.\n\n"
)
CODE = r'''
def matches(text: str, *, rules: dict[str, list[tuple[int, str]]]) -> list[dict[str, object]]:
    """Every rule that fits, as {"name": ..., "at": [...]}; "\\" stands for itself."""
    found = [{"name": name, "at": [n for n, part in parts if part in text]} for name, parts in rules.items()]
    if not found or text.startswith(("[", "{", "\"", "'", "\t")):
        return [{"name": "none", "at": []}]
    return sorted((one for one in found if one["at"]), key=lambda one: (len(one["at"]), one["name"]))

'''
QUESTION = "And what does the quick brown fox do then, [in your words], where is the band?"
ANSWER = 'It jumps over the lazy dog, {"as": "it does"} every time it is asked; the band plays on.'


def messages(kind: Kind, size: int) -> list[dict[str, str]]:
    """Messages whose text has about ``size`` bytes: one long one, or many short ones that take turns."""
    system = {"role": "system", "content": SYSTEM}
    if kind == "chat":
        pair = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
        pairs = max(1, size // (len(QUESTION) + len(ANSWER)))
        return [system, *(pair * pairs), {"role": "user", "content": QUESTION}]
    text = PROSE if kind == "prose" else CODE
    return [system, {"role": "user", "content": (text * (size // len(text.encode()) + 1))[:size]}]

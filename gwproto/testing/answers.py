"""What simulated providers say: plausible, deterministic, and independent of any wire format.

An :class:`Ask` is what a format's decoder found in a request, an :class:`Answer` is what its encoder writes.
"""

import re

import msgspec
from msgspec import Struct

Json = object
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")
_NAME = re.compile(r"(?<=\s)[A-Z]\w+")


class Tool(Struct, frozen=True):
    """A function the client offers; ``schema`` is its parameters' JSON schema."""

    name: str
    schema: Json


class Ask(Struct, frozen=True, kw_only=True):
    """What a request wants, in no format's words."""

    model: str
    text: str = ""  # the last user message
    tool_result: str | None = None  # the last message, when it is a tool's answer
    images: tuple[str, ...] = ()  # those of the user messages, as image_name has them
    prompt: str = ""  # all text of all messages, for counting
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Tool, ...] = ()  # those that may be called now
    json: bool = False
    schema: Json = None  # of the JSON wanted
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    effort: str = ""  # "": none asked for
    logprobs: bool = False


class Call(Struct, frozen=True):
    """A tool call; ``arguments`` is JSON text."""

    name: str
    arguments: str


class Answer(Struct, frozen=True, kw_only=True):
    """One choice of an answer. ``tokens`` joined give its text."""

    tokens: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: str = "stop"  # stop length tool_calls

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def count(self) -> int:
        """Completion tokens, reasoning and arguments included."""
        arguments = sum(len(tokens(call.arguments)) for call in self.calls)
        return len(self.tokens) + len(self.reasoning) + arguments


def image_name(url: str) -> str:
    """An image's address, or type and size of one sent by value: ``image/png of 4 characters``."""
    head, comma, data = url.partition(";base64,")
    return f"{head.removeprefix('data:')} of {len(data)} characters" if comma else url


def tokens(text: str) -> tuple[str, ...]:
    """Words and punctuation with the space before them; joined they give ``text`` back."""
    return tuple(_TOKEN.findall(text))


def answers(ask: Ask, provider: str, words: int = 0) -> tuple[Answer, ...]:
    """The choices a provider called ``provider`` answers with; ``words`` > 0 makes texts exactly that long."""
    return tuple(_answer(ask, provider, words, choice) for choice in range(ask.n))


def _answer(ask: Ask, provider: str, words: int, choice: int) -> Answer:
    reasoning: tuple[str, ...] = ()
    if ask.effort and ask.effort != "none":
        reasoning = tokens(f"The user wrote {len(tokens(ask.text))} tokens; {ask.effort} effort will do.")
    if ask.tools and ask.tool_result is None:
        tool = ask.tools[choice % len(ask.tools)]
        arguments = msgspec.json.encode(example(tool.schema, _subject(ask.text))).decode()
        return Answer(reasoning=reasoning, calls=(Call(tool.name, arguments),), finish="tool_calls")
    if ask.json:
        value = (
            example(ask.schema, ask.text) if ask.schema is not None else {"echo": ask.text, "by": provider}
        )
        said = tokens(msgspec.json.encode(value).decode())
    else:
        said = tokens(_sentence(ask, provider, choice))
        if words:
            said = (said * (words // len(said) + 1))[:words]
    return _shortened(said, reasoning, ask)


def _sentence(ask: Ask, provider: str, choice: int) -> str:
    if ask.tool_result is not None:
        return f"The tool answered {ask.tool_result.strip()}, says {provider}."
    if ask.images:
        return f'You said "{ask.text}", and {provider} saw {", ".join(ask.images)}.'
    ending = "." if choice == 0 else f", for the {choice + 1}. time."
    return f'You said "{ask.text}", and {provider} heard you{ending}'


def _shortened(said: tuple[str, ...], reasoning: tuple[str, ...], ask: Ask) -> Answer:
    text = "".join(said)
    cuts = [at for word in ask.stop if word and (at := text.find(word)) >= 0]
    if cuts:
        said = tokens(text[: min(cuts)])
    if ask.max_tokens is not None and len(said) + len(reasoning) > ask.max_tokens:
        reasoning = reasoning[: ask.max_tokens]
        return Answer(tokens=said[: ask.max_tokens - len(reasoning)], reasoning=reasoning, finish="length")
    return Answer(tokens=said, reasoning=reasoning)


def _subject(text: str) -> str:
    """A word a tool might be called with: the last name in the text, else its last word."""
    names = _NAME.findall(text)
    words = re.findall(r"\w+", text)
    return names[-1] if names else words[-1] if words else "example"


_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "12345678-1234-5678-9234-567812345678",
}
_DEPTH = 12  # a schema may refer to itself


def example(schema: Json, text: str) -> Json:
    """A value that a JSON schema admits, strings filled with ``text``. Understands what models are offered, no more."""
    return _example(schema, schema, text, 0)


def _example(schema: Json, root: Json, text: str, depth: int) -> Json:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return {} if depth == 0 else None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    if isinstance(ref := schema.get("$ref"), str):
        return _example(_resolve(ref, root), root, text, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _example(schema[key][0], root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema or depth == 0 else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties") or {}
        wanted = schema.get("required", list(properties))
        return {name: _example(properties.get(name, {}), root, text, depth + 1) for name in wanted}
    if kind == "array":
        item = schema.get("items", {})
        return [_example(item, root, text, depth + 1) for _ in range(max(1, schema.get("minItems", 1)))]
    if kind == "integer" or kind == "number":
        return schema.get("minimum", min(7, schema.get("maximum", 7)))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    value = _FORMATS.get(schema.get("format", ""), text)
    value += "." * (schema.get("minLength", 0) - len(value))
    return value[: schema.get("maxLength", len(value))]


def _resolve(ref: str, root: Json) -> Json:
    """A local reference, ``#/$defs/Name``; anything else is an unknown schema."""
    found: Json = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        found = found.get(part) if isinstance(found, dict) and part else found
    return found

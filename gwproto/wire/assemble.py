"""Streams to whole answers and back, between the inner words."""

from collections.abc import Iterable

import msgspec
from msgspec import Raw

from gwproto.values import Usage
from gwproto.wire.neutral import Chunk, Completion, CompletionChoice, Delta, RawFields, ToolFragment

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

# Strings under these keys come in pieces; any other string is the same one again.
_PIECEWISE = frozenset(("arguments", "input", "data", "transcript"))


class _Choice:
    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.finish = "stop"
        self.extra: RawFields = {}
        self.choice_extra: RawFields = {}


class _Call:
    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []
        self.extra: RawFields = {}


def assemble(chunks: Iterable[Chunk]) -> Completion:
    """The whole answer that normalised chunks spell."""
    choices: dict[int, _Choice] = {}
    id_ = model = ""
    created = 0
    usage: Usage | None = None
    raw_usage: Raw | None = None
    extra: RawFields = {}
    for chunk in chunks:
        id_ = id_ or chunk.id
        model = model or chunk.model
        created = created or chunk.created
        if chunk.usage is not None:
            usage, raw_usage = chunk.usage, chunk.raw_usage
        extra.update(chunk.extra)
        for delta in chunk.deltas:
            _add(choices.setdefault(delta.choice, _Choice()), delta)
    extra.pop("obfuscation", None)  # padding against traffic analysis, of one chunk
    return Completion(
        tuple(_complete(index, choices[index]) for index in sorted(choices)),
        id_,
        created,
        model,
        usage,
        raw_usage,
        extra,
    )


def _add(choice: _Choice, delta: Delta) -> None:
    if delta.content:
        choice.content.append(delta.content)
    if delta.reasoning:
        choice.reasoning.append(delta.reasoning)
    if delta.refusal:
        choice.refusal.append(delta.refusal)
    for fragment in delta.tools:
        call = choice.calls.setdefault(fragment.index or 0, _Call())
        call.id = call.id or fragment.id
        call.name = call.name or fragment.name
        call.arguments.append(fragment.arguments)
        _merge(call.extra, fragment.extra)
    if delta.finish is not None:
        choice.finish = delta.finish
    _merge(choice.extra, delta.extra)
    _merge(choice.choice_extra, delta.choice_extra)


def _merge(known: RawFields, more: RawFields) -> None:
    for name, value in more.items():
        if name in known:
            known[name] = Raw(_encode(_joined(name, _decode(known[name]), _decode(value))))
        else:
            known[name] = value


def _joined(name: str, one: object, other: object) -> object:
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {
            key: _joined(key, one[key], value) if key in one else value for key, value in other.items()
        }
    if isinstance(one, list) and isinstance(other, list):
        return one + other
    if isinstance(one, str) and isinstance(other, str) and name in _PIECEWISE:
        return one + other
    return one if other is None else other


def _complete(index: int, choice: _Choice) -> CompletionChoice:
    return CompletionChoice(
        index,
        "".join(choice.content) if choice.content else None,
        "".join(choice.reasoning) or None,
        "".join(choice.refusal) or None,
        tuple(
            ToolFragment(number, call.id, call.name, "".join(call.arguments), call.extra)
            for number, call in sorted(choice.calls.items())
        ),
        choice.finish,
        choice.extra,
        choice.choice_extra,
    )


def to_chunks(completion: Completion) -> list[Chunk]:
    """The stream that spells a whole answer, end marker included; a normaliser makes a client's stream of it."""

    def chunk(delta: Delta, extra: RawFields) -> Chunk:
        return Chunk((delta,), completion.id, completion.created, completion.model, extra=extra)

    chunks: list[Chunk] = []
    for choice in completion.choices:
        chunks.append(
            chunk(
                Delta(
                    choice.index,
                    True,
                    choice.content,
                    choice.reasoning,
                    choice.refusal,
                    choice.tools,
                    None,
                    choice.extra,
                    choice.choice_extra,
                ),
                completion.extra,
            )
        )
        chunks.append(chunk(Delta(choice.index, finish=choice.finish), {}))
    if completion.usage is not None:
        usage = Chunk((), completion.id, completion.created, completion.model, completion.usage)
        chunks.append(msgspec.structs.replace(usage, raw_usage=completion.raw_usage))
    chunks.append(Chunk(done=True))
    return chunks

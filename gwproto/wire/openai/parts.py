"""What chunks and whole answers have in common, read tolerantly: text, tool calls, and keys nobody documented.

These are the slow paths: plain chunks and answers are decoded into types in one step and never come here.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from gwproto.failures import WireError
from gwproto.wire.neutral import Chunk, Completion, Envelope, RawFields, ToolFragment
from gwproto.wire.openai.usage import encode_usage

NULL = Raw(b"null")
NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')  # the schema of a function that takes none
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
MAX_CHOICE = 127  # n is at most 128

#: The id of a tool call. Mistral's SDK writes a missing one as the word.
CallId = Annotated[str, Meta(min_length=1, pattern="^(?!null$)")]

encoder = msgspec.json.Encoder()
_decode_fields = msgspec.json.Decoder(RawFields).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_any = msgspec.json.Decoder().decode


def fields_of(raw: Raw | None) -> RawFields:
    """The members of an object that are not null; none for anything but an object."""
    if raw is None:
        return {}
    try:
        fields = _decode_fields(raw)
    except msgspec.ValidationError:
        return {}
    if NULL in fields.values():
        return {name: value for name, value in fields.items() if value != NULL}
    return fields


def list_of(raw: Raw | None) -> list[Raw]:
    """The items of an array; none for anything but an array."""
    if raw is None:
        return []
    try:
        return _decode_list(raw)
    except msgspec.ValidationError:
        return []


def first_of(document: Raw) -> Raw:
    """The document itself, or the first item of an array: Google wraps its errors in one."""
    items = list_of(document)
    return items[0] if items else document


def value_of(raw: Raw | None) -> object:
    """The plain value; None also for a number that no float can hold."""
    if raw is None:
        return None
    try:
        return _decode_any(raw)
    except msgspec.ValidationError:
        return None


def text_of(raw: Raw | None) -> str | None:
    """A string; None for anything else."""
    value = value_of(raw)
    return value if isinstance(value, str) else None


def created_of(raw: Raw | None) -> int:
    """Seconds since the epoch, 0 when unknown; some providers send a fraction."""
    value = value_of(raw)
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 1 << 53 else 0


def choice_index(raw: Raw | None, position: int) -> int:
    """A choice's index; its position where it is missing. Raises :class:`WireError` when it cannot be one."""
    if raw is None:
        return position
    index = value_of(raw)
    if type(index) is not int or not 0 <= index <= MAX_CHOICE:
        raise WireError("a choice has an impossible index")
    return index


def split_content(raw: Raw | None) -> tuple[str | None, str | None]:
    """Text and reasoning of a content that is a string or (Mistral) a list of parts."""
    if raw is None or memoryview(raw)[0] != 0x5B:
        return text_of(raw), None
    text: list[str] = []
    reasoning: list[str] = []
    for item in list_of(raw):
        part = fields_of(item)
        if "thinking" in part:
            inner = [part["thinking"], *(fields_of(one).get("text") for one in list_of(part["thinking"]))]
            reasoning += [piece for one in inner if (piece := text_of(one))]
        elif piece := text_of(part.get("text")):
            text.append(piece)
    return "".join(text) or None, "".join(reasoning) or None


def reasoning_of(fields: RawFields) -> str | None:
    """The reasoning of a delta or message under any of its names, which are taken out: some send it under two.

    OpenRouter's ``reasoning_details`` are only read; they must come back as they are.
    """
    under = [text_of(fields.pop(name, None)) for name in ("reasoning", "reasoning_content")]
    if found := under[0] or under[1]:
        return found
    details = [fields_of(one) for one in list_of(fields.get("reasoning_details"))]
    pieces = [text_of(one.get("text")) or text_of(one.get("summary")) for one in details]
    return "".join(filter(None, pieces)) or None


def tool_fragment(raw: Raw) -> ToolFragment:
    """A piece of a tool call, or a whole one."""
    fields = fields_of(raw)
    index = value_of(fields.pop("index", None))
    id_ = text_of(fields.pop("id", None))
    if id_ == "null":  # how Mistral's SDK writes a missing one
        id_ = None
    kind = text_of(fields.pop("type", None))
    function = fields_of(fields.pop("function", None))
    name = text_of(function.get("name"))
    sent = function.get("arguments")
    arguments = text_of(sent)
    if arguments is None:
        # An object instead of JSON text: it becomes its own text.
        arguments = "" if sent is None else bytes(memoryview(sent)).decode()
    if kind is not None and kind != "function":
        fields["type"] = Raw(encoder.encode(kind))
        name = name or text_of(fields_of(fields.get(kind)).get("name"))
    return ToolFragment(index if type(index) is int else None, id_, name, arguments, fields)


def answer_fields(
    kind: str, envelope: Envelope, choices: list[dict[str, object]], answer: Chunk | Completion
) -> dict[str, object]:
    """A whole answer's or a chunk's keys in OpenAI's order. Those unknown to us go out as they came, after ours."""
    fields: dict[str, object] = {
        "id": envelope.id,
        "object": kind,
        "created": envelope.created,
        "model": envelope.model,
        "choices": choices,
    }
    if answer.raw_usage is not None:
        fields["usage"] = answer.raw_usage
    elif answer.usage is not None:
        fields["usage"] = encode_usage(answer.usage)
    if answer.extra:
        fields.update(answer.extra)
    return fields


def one_line(document: bytes) -> bytes:
    """JSON without line ends: raw ones can stand only between the tokens of values passed on as they came."""
    return document.translate(_LINE_ENDS) if 0x0A in document or 0x0D in document else document

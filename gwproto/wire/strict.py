"""JSON beyond what a typed decoder says: nesting limits, and repair of what is almost JSON."""

import json
import math
import re

import msgspec
from msgspec import Raw

from gwproto.failures import WireError

MAX_DEPTH = 128

#: A request's text is that far down at most: messages, a message, its content, a part of it, the text.
_LEVELS = 5
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_QUOTE = 0x22
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def too_deep(document: bytes) -> bool:
    """Is a JSON document nested deeper than ``MAX_DEPTH``? Of a malformed one: might a parser get that deep?

    Counting openers settles almost every document. Those with more are taken apart some levels deep, which leaves text
    out: it may be code.
    """
    if few(document):
        return False
    if len(document.translate(None, _NOT_BRACKETS)) > len(document) // 4:
        return _deeper(document, MAX_DEPTH)  # hardly any text, and perhaps a great many of arrays
    return _inside(document, MAX_DEPTH, _LEVELS)


def few(document: bytes, limit: int = MAX_DEPTH) -> bool:
    """Are there so few openers that they cannot nest more than ``limit`` deep?"""
    # Removing some bytes is several times as fast as counting them.
    length = 2 * len(document) - limit
    return length <= len(document.replace(b"[", b"", limit + 1)) + len(document.replace(b"{", b"", limit + 1))


def _inside(document: bytes, limit: int, levels: int) -> bool:
    """The same of a document with more openers, by its members, so many ``levels`` down."""
    try:
        members = _members(document, limit) if levels else None
    except (msgspec.DecodeError, RecursionError):
        members = None
    if members is None:
        return _deeper(document, limit)
    for member in members:
        inner = bytes(member)
        if not few(inner, limit - 1) and _inside(inner, limit - 1, levels - 1):
            return True
    return False


def _deeper(document: bytes, limit: int) -> bool:
    """The same by itself: strings go, only brackets stay, and each pass removes the innermost level of all of them at
    once, so that a flat document of any length costs one pass."""
    brackets = _STRING.sub(b"", document).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _members(document: bytes, limit: int) -> list[Raw] | None:
    """The values inside an array or object that may be deep; None where others may be: of keys that are there twice
    only the last one shows. Raises :class:`msgspec.DecodeError` for what is neither."""
    if document.startswith(b"["):
        members = _decode_list(document)
    else:
        fields = _decode_object(document)
        members = list(fields.values())
        seen = sum([len(name) + len('"":,') for name in fields])
        seen += sum([len(memoryview(one)) for one in members])
        if len(document) - seen > 2 * limit:  # what is not seen has room for so many brackets
            return None
    return [one for one in members if len(memoryview(one)) > 2 * limit and memoryview(one)[0] != _QUOTE]


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def repair(document: bytes) -> bytes:
    """Strict JSON from what Python's lenient parser accepts; raises :class:`WireError` for anything else.

    The document must not be :func:`too_deep`.

    NaN and infinities become null, lone surrogates and invalid UTF-8 become U+FFFD, control characters inside strings
    are escaped, of duplicate keys the last wins.
    """
    try:
        value = json.loads(
            document.decode("utf-8", "replace"),
            parse_constant=lambda _: None,
            parse_float=_finite,
            strict=False,
        )
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:  # also an integer of more than 4300 digits
        raise WireError("not JSON") from error
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()

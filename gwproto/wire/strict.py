"""JSON beyond what a typed decoder says: nesting limits, and repair of what is almost JSON."""

import json
import math
import re

from gwproto.failures import WireError

MAX_DEPTH = 128

#: From so many bytes on, looking for one bracket after the other is faster than counting them all.
_LONG = 4096
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def too_deep(document: bytes) -> bool:
    """Is a JSON document nested deeper than ``MAX_DEPTH``? Of a malformed one: might a parser get that deep?

    Counting openers settles almost every document. Otherwise strings go, only brackets stay, and each pass removes the
    innermost level of all of them at once, so a flat document of any length costs one pass.
    """
    if _few(document):
        return False
    brackets = _STRING.sub(b"", document).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _few(document: bytes) -> bool:
    """Are there so few openers that they cannot nest too deeply?"""
    if len(document) < _LONG:
        return document.count(b"[") + document.count(b"{") <= MAX_DEPTH
    left = MAX_DEPTH
    for opener in (b"[", b"{"):
        at = document.find(opener)
        while at >= 0:
            left -= 1
            if left < 0:
                return False
            at = document.find(opener, at + 1)
    return True


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

"""Characters replaced by one of their class, byte for byte.

A letter becomes ``x``, a digit ``1``, a character of two bytes another of two bytes, and so on; punctuation, spaces and
control characters stay. So a text keeps its length, its words and whatever a program can see without reading it, and
cutting, joining, decoding and encoding give the same before and after. The replacement of a byte depends only on those
before it: a stream may be cut anywhere.
"""

import string
from typing import Final

_LETTERS = string.ascii_letters.encode()
_DIGITS = string.digits.encode()

#: ASCII's classes; bytes beyond it are left alone.
ASCII: Final = bytes.maketrans(_LETTERS + _DIGITS, b"x" * len(_LETTERS) + b"1" * len(_DIGITS))


class _Lead:
    """What may follow the first byte of a character, and what replaces it."""

    __slots__ = ("byte", "high", "low", "rest")

    def __init__(self, byte: int, rest: bytes, low: int = 0x80, high: int = 0xBF) -> None:
        self.byte = byte
        self.rest = rest
        self.low = low  # bounds of the second byte (RFC 3629, 4)
        self.high = high


_TWO = _Lead(0xC3, b"\xa9")
_THREE = _Lead(0xE4, b"\xb8\xad")
_FOUR = _Lead(0xF0, b"\x9f\x98\x80")
_LEADS: dict[int, _Lead] = {
    # Spaces and punctuation are here: U+0080 to U+00BF, U+1680, U+2000 to U+207F, U+3000 to U+303F.
    0xC2: _Lead(0xC2, b""),
    **dict.fromkeys(range(0xC3, 0xE0), _TWO),
    0xE0: _Lead(0xE0, b"\xa4\x85", low=0xA0),
    0xE1: _Lead(0xE1, b"\x9a\x81"),
    0xE2: _Lead(0xE2, b"\x82\x82"),
    0xE3: _Lead(0xE3, b"\x81\x82"),
    **dict.fromkeys((*range(0xE4, 0xED), 0xEE, 0xEF), _THREE),
    0xED: _Lead(0xED, b"\x95\x9c", high=0x9F),
    0xF0: _Lead(0xF0, b"\x9f\x98\x80", low=0x90),
    **dict.fromkeys(range(0xF1, 0xF4), _FOUR),
    0xF4: _Lead(0xF4, b"\x80\x80\x80", high=0x8F),
}
_LENGTHS = {2: range(0xC2, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF5)}
_LENGTH = {byte: length for length, span in _LENGTHS.items() for byte in span}
_KEPT = {b"\xe2\x80", b"\xe2\x81", b"\xe3\x80"}  # what they begin are spaces and punctuation
_OGHAM_SPACE = b"\xe1\x9a\x80"
_INVALID = 0xFF


class Fold:
    """Text in UTF-8, or what should be, cut anywhere."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = b""  # the bytes so far of a character that is not complete

    def __call__(self, data: bytes) -> bytes:
        """``data`` with every character replaced by its class's."""
        if data.isascii():
            if data:
                self._begun = b""
            return data.translate(ASCII)
        out = bytearray(data.translate(ASCII))
        for position, byte in enumerate(data):
            if byte < 0x80:
                self._begun = b""
            else:
                out[position] = self._beyond(byte)
        return bytes(out)

    def _beyond(self, byte: int) -> int:
        begun = self._begun
        if begun:
            lead = _LEADS[begun[0]]
            low, high = (lead.low, lead.high) if len(begun) == 1 else (0x80, 0xBF)
            if low <= byte <= high:
                whole = begun + bytes((byte,))
                self._begun = whole if len(whole) < _LENGTH[begun[0]] else b""
                if begun[0] == 0xC2 or whole[:2] in _KEPT or whole == _OGHAM_SPACE:
                    return byte
                return lead.rest[len(begun) - 1]
        if byte in _LEADS:
            self._begun = bytes((byte,))
            return _LEADS[byte].byte
        self._begun = b""
        return _INVALID


def folded(data: bytes) -> bytes:
    """A whole text."""
    return Fold()(data)


def fold_digit(before: str, digit: str) -> str:
    """The hexadecimal digit that replaces ``digit`` in ``\\uXXXX``, after the digits ``before`` (as they came).

    What is escaped becomes what the same character becomes unescaped.
    """
    before, digit = before.lower(), digit.lower()
    place = len(before)
    if place == 0:
        return digit if digit in "0123d" else "4"
    first = before[0]
    if first == "0":
        return _fold_low(before, digit)
    if first == "1":
        return "681"[place - 1] if (before, digit) != ("168", "0") else "0"
    if first == "2":
        if place == 1 or (before == "20" and digit in "01234567"):
            return "0" if place == 1 else digit
        return digit if _is_kept(before, "20", "01234567") else "82"[place - 2]
    if first == "3":
        if place == 1 or (before == "30" and digit in "0123"):
            return "0" if place == 1 else digit
        return digit if _is_kept(before, "30", "0123") else "42"[place - 2]
    if first == "d":
        if place == 1:  # of a pair the first, of a pair the second, a character of its own
            return "8" if digit in "89ab" else "e" if digit in "cdef" else "5"
        half = "3d" if before[1] in "89ab" else "00" if before[1] in "cdef" else "5c"
        return half[place - 2]
    return "e2d"[place - 1]


def _is_kept(before: str, start: str, third: str) -> bool:
    return before.startswith(start) and len(before) == 3 and before[2] in third


def _fold_low(before: str, digit: str) -> str:
    """U+0000 to U+0FFF."""
    place = len(before)
    if place == 1:
        return "0" if digit in "01234567" else "9"
    second = before[1]
    if second in "89abcdef":
        return "05"[place - 2]
    if second != "0":
        return "e9"[place - 2]
    if place == 2:
        return digit if digit in "0123456789ab" else "e"
    third = before[2]
    if third in "cdef":
        return "9"
    if third == "3" and digit in "0123456789":
        return "1"
    if third in "46" and digit != "0":
        return "1"
    if third in "57" and digit in "0123456789a":
        return "0"
    return digit

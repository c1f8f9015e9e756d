"""JSON inside a text of JSON: what a tool is called with, what it answers."""

from gwproto.journal.characters import fold_digit

_QUOTE, _BACKSLASH = 0x22, 0x5C
_LITERALS = (b"true", b"false", b"null")
_NAMES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$.:/@#-")


class Nested:
    """Goes through the text once unescaped, byte by byte, and keeps its keys, numbers and literals."""

    __slots__ = ("_escape", "_in_key", "_in_text", "_key_ended", "_objects", "_wants_key", "_word")

    def __init__(self) -> None:
        self._objects: list[bool] = []  # what is open: objects, and arrays
        self._wants_key = False
        self._in_text = False
        self._in_key = False
        self._key_ended = False
        self._escape = b""
        self._word = b""

    def __call__(self, data: bytes, replaced: bytes) -> bytes:
        """``replaced`` with what is kept of ``data``."""
        out = bytearray(replaced)
        for at, byte in enumerate(data):
            out[at] = self._inside(byte, out[at]) if self._in_text else self._between(byte, out[at])
        return bytes(out)

    def _between(self, byte: int, replaced: int) -> int:
        if byte == _QUOTE:
            self._in_text = True
            self._in_key, self._key_ended = self._wants_key, False
        elif byte in b"{[":
            self._objects.append(byte == 0x7B)
            self._wants_key = byte == 0x7B
        elif byte in b"}]":
            if self._objects:
                self._objects.pop()
            self._wants_key = False
        elif byte == 0x2C:
            self._wants_key = bool(self._objects) and self._objects[-1]
        elif byte == 0x3A:
            self._wants_key = False
        else:
            return self._bare(byte, replaced)
        self._word = b""
        return byte

    def _bare(self, byte: int, replaced: int) -> int:
        longer = self._word[-8:] + bytes((byte,))
        if byte in b" \t\r\n":
            self._word = b""
        elif any(literal.startswith(longer) for literal in _LITERALS) or _is_number(longer):
            self._word = longer
            return byte
        else:
            self._word = b"?"
        return replaced

    def _inside(self, byte: int, replaced: int) -> int:
        escape = self._escape
        if escape == b"\\":
            self._escape = b"\\u" if byte == 0x75 else b""
            return byte if byte in b'"\\/bfnrtu' else replaced
        if escape:
            return self._digit(byte, replaced)
        if byte == _BACKSLASH:
            self._escape = b"\\"
        elif byte == _QUOTE:
            self._in_text = False
        elif self._in_key:
            self._key_ended = self._key_ended or byte not in _NAMES
            return replaced if self._key_ended else byte
        return replaced

    def _digit(self, byte: int, replaced: int) -> int:
        digit = chr(byte)
        if digit not in "0123456789abcdefABCDEF":
            self._escape = b""
            return self._inside(byte, replaced)
        kept = ord(fold_digit(self._escape[2:].decode(), digit))
        self._escape += bytes((byte,))
        if len(self._escape) == 6:
            self._escape = b""
        return kept


def _is_number(word: bytes) -> bool:
    return word.strip(b"-+.0123456789eE") == b"" and word[:1] not in b"eE+."

"""JSON with its texts replaced, cut anywhere: what comes out of a piece is as long as the piece.

Structure, keys, numbers and literals stay, texts become others of the same characters' classes
(:mod:`~gwproto.journal.characters`) but for what :mod:`~gwproto.journal.rules` keeps. Beyond that it keeps what code
looks for inside of texts: ``<think>`` tags, the head of a ``data:`` URL, schemes and file endings of addresses. A text
that is JSON itself, like the arguments of a tool call, stays JSON.

What is no JSON is replaced as if it were: nothing is kept that could not be told to be harmless.
"""

import re
from collections.abc import Callable
from enum import Enum

from gwproto.journal.characters import ASCII, Fold, fold_digit
from gwproto.journal.nested import Nested
from gwproto.journal.rules import SPELLED, Rules

MAX_DEPTH = 256
_MAX_KEY = 64

_MARK = re.compile(rb'["{}\[\],:]')
_STOP = re.compile(rb'["\\]')
_PLAIN = re.compile(rb"\s*(?:-?[0-9.]+|true|false|null)?\s*\Z").match
_NUMBER = re.compile(rb"-?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]*)?\Z").match
_DIGIT, _DIGITS = re.compile(rb"[0-9]"), re.compile(rb"[0-9]+")
_KEY = re.compile(rb"[A-Za-z0-9_$.:/@#-]*").match
_WHOLE_KEY = re.compile(rb'([A-Za-z0-9_$.:/@#-]{0,64})"').match
# Without escapes, marks, and what could begin a document.
_WHOLE_TEXT = re.compile(rb'(?:[^"\\<{\[\s\x80-\xff][^"\\<\x80-\xff]*)?"').match
_LITERALS = (b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity", b"DONE")
_ESCAPES = {34: b'"', 92: b"\\", 47: b"/", 98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t"}
_HEX = frozenset(b"0123456789abcdefABCDEF")

_ALL_LETTERS = ASCII.replace(b"1", b"x")

#: Marks that are kept inside of texts. All of a group begin with the same character.
TAGS = (b"<think>", b"</think>")
_ENDINGS = tuple(
    [
        b"." + ending
        for ending in (
            b"png jpg jpeg gif webp heic heif pdf txt md csv html json doc docx xls xlsx mp3 wav mp4 mov webm ogg flac "
            b"m4a aac mpeg mpg"
        ).split()
    ]
)
_ADDRESSES = frozenset(
    (b"url", b"uri", b"image_url", b"file_url", b"fileUri", b"file_data", b"filename", b"video_url")
)
_SCHEMES = (b"data:", b"http://", b"https://", b"gs://", b"s3://")
_MAX_HEAD = 100  # of a data: URL
_OF_SCHEMAS = (b"type", b"$ref")


class Marks:
    """Keeps marks inside a text that is otherwise replaced, letter by letter."""

    __slots__ = ("begun", "marks")

    def __init__(self, marks: tuple[bytes, ...]) -> None:
        self.marks = marks
        self.begun = b""

    def __call__(self, data: bytes, replaced: bytes) -> bytes:
        """``replaced`` with what of ``data`` is, or may become, a mark."""
        start = self.marks[0][:1]
        if not self.begun and start not in data:
            return replaced
        out = bytearray(replaced)
        at = 0
        while at < len(data):
            if not self.begun:
                at = data.find(start, at)
                if at < 0:
                    break
                self.begun = start
                at += 1
                continue
            longer = self.begun + data[at : at + 1].lower()
            if any(mark.startswith(longer) for mark in self.marks):
                out[at] = data[at]
                self.begun = longer
                at += 1
            else:
                self.begun = b""
        return bytes(out)


class _Mode(Enum):
    NORMAL = 0
    OPAQUE = 1
    SCHEMA = 2
    ERROR = 3


class _Text(Enum):
    """What is done with the text at hand."""

    NONE = 0  # there is none
    KEY = 1
    KEEP = 2
    SHOWN = 3  # kept, but for secrets
    FOLD = 4
    UNDECIDED = 5  # JSON if it begins like that
    NESTED = 6


class _Frame:
    """An object or array that is open. ``key`` is the one in force; an array has its own."""

    __slots__ = ("is_object", "key", "mode", "wants_key")

    def __init__(self, is_object: bool, key: bytes, mode: _Mode) -> None:
        self.is_object = is_object
        self.wants_key = is_object
        self.key = key
        self.mode = mode


class Json:
    """Documents of JSON one after another. ``mask`` is applied to what errors say."""

    __slots__ = (
        *("_address", "_escape", "_fold", "_key_ended", "_marks", "_mask", "_nested", "_over", "_rules"),
        *("_stack", "_table", "_tags", "_text", "_word"),
    )

    def __init__(self, rules: Rules, mask: Callable[[bytes], bytes] = bytes) -> None:
        self._rules = rules
        self._table = ASCII if rules.same_length else _ALL_LETTERS
        self._mask = mask
        self._tags: dict[bytes, Marks] = {}  # begun in one text, they may go on in the next of the same key
        self.restart()

    def restart(self) -> None:
        """A new document begins, whatever became of the last one."""
        self._stack = [_Frame(False, b"", _Mode.NORMAL)]
        self._over = 0  # levels beyond MAX_DEPTH
        self._text = _Text.NONE
        self._escape = b""
        self._word = b""
        self._fold = Fold()
        self._marks: Marks | None = None
        self._address: bytes | None = None
        self._nested = Nested()
        self._key_ended = False

    def __call__(self, data: bytes) -> bytes:
        out: list[bytes] = []
        position = 0
        while position < len(data):
            if self._text is _Text.NONE:
                position = self._between(data, position, out)
            elif self._escape:
                position = self._escaped(data, position, out)
            else:
                position = self._inside(data, position, out)
        return b"".join(out)

    # Outside of texts

    def _between(self, data: bytes, position: int, out: list[bytes]) -> int:
        found = _MARK.search(data, position)
        end = len(data) if found is None else found.start()
        if end > position:
            out.append(self._bare(data[position:end]))
        if found is None:
            return end
        mark = found[0]
        out.append(mark)
        self._word = b""
        frame = self._stack[-1]
        if mark == b'"':
            return self._at_once(data, end + 1, frame, out)
        elif mark in b"{[":
            self._open(frame, mark == b"{")
        elif mark in b"}]":
            if self._over:
                self._over -= 1
            elif len(self._stack) > 1:
                self._stack.pop()
        elif frame.is_object:
            frame.wants_key = mark == b","
        return end + 1

    def _at_once(self, data: bytes, start: int, frame: _Frame, out: list[bytes]) -> int:
        """A text begins at ``start``. Most are there whole and plain, and done with in one step."""
        text = self._kind(frame)
        key = frame.key
        if text is _Text.KEY:
            found = _WHOLE_KEY(data, start)
            if found is not None:
                out.append(found[0])
                frame.key = found[1]
                return found.end()
        elif key not in _ADDRESSES and key not in self._tags:
            found = _WHOLE_TEXT(data, start)
            if found is not None and text is not _Text.SHOWN:
                out.append(found[0] if text is _Text.KEEP else found[0].translate(self._table))
                return found.end()
        self._begin(text, frame)
        return start

    def _bare(self, data: bytes) -> bytes:
        """Numbers, literals, spaces; anything else is replaced."""
        frame, before = self._stack[-1], self._word
        kept = self._plain(data)
        spelled = frame.key in SPELLED and not frame.is_object
        return self._spelled(kept, before) if spelled else kept

    def _plain(self, data: bytes) -> bytes:
        if not self._word and _PLAIN(data):
            self._word = b"" if data[-1:].isspace() else data.strip()
            return data
        out = bytearray(self._fold(data))
        for at in range(len(data)):
            letter = data[at : at + 1]
            if letter.isspace():
                self._word = b""
                continue
            longer = self._word + letter
            if len(longer) > _MAX_KEY and _NUMBER(longer):
                longer = longer[-_MAX_KEY:]  # digits upon digits
            if _NUMBER(longer) or any(literal.startswith(longer) for literal in _LITERALS):
                out[at] = data[at]
                self._word = longer
            else:
                self._word = b"?"
        return bytes(out)

    def _spelled(self, numbers: bytes, before: bytes) -> bytes:
        """Numbers that spell a text; ``before``: what of the first of them came earlier."""
        if self._rules.same_length:
            return _DIGIT.sub(b"1", numbers)
        begun = b"1" if before[-1:].isdigit() else b""
        return _DIGITS.sub(b"1", begun + numbers)[len(begun) :]

    def _open(self, frame: _Frame, is_object: bool) -> None:
        if self._over or len(self._stack) > MAX_DEPTH:
            self._over += 1
            return
        rules, key, mode = self._rules, frame.key, frame.mode
        if key in rules.opaque and mode is not _Mode.ERROR:
            mode = _Mode.OPAQUE
        elif mode is _Mode.NORMAL:
            if key in rules.schemas:
                mode = _Mode.SCHEMA
            elif (
                rules.errors and self._is_error(key) and key != b"message"
            ):  # an object of that name is an answer
                mode = _Mode.ERROR
        self._stack.append(_Frame(is_object, b"" if is_object else key, mode))

    def _is_error(self, key: bytes) -> bool:
        return key in self._rules.errors or (len(self._stack) == 2 and key in self._rules.top)

    # Texts

    def _kind(self, frame: _Frame) -> _Text:
        """What is to be done with the text that begins."""
        rules, key, mode = self._rules, frame.key, frame.mode
        if self._over:
            return _Text.FOLD
        if frame.is_object and frame.wants_key:
            return _Text.KEY
        if mode is _Mode.ERROR or (mode is _Mode.NORMAL and self._is_error(key)):
            return _Text.SHOWN
        if (mode is _Mode.NORMAL and key in rules.keep) or (mode is _Mode.SCHEMA and key in _OF_SCHEMAS):
            return _Text.KEEP
        return _Text.UNDECIDED if rules.nested else _Text.FOLD

    def _begin(self, text: _Text, frame: _Frame) -> None:
        self._text = text
        self._fold = Fold()
        self._marks = self._address = None
        if text is _Text.KEY:
            self._key_ended = False
            frame.key = b""
        elif text in (_Text.FOLD, _Text.UNDECIDED) and self._rules.marks:
            self._look_for_marks(frame.key)

    def _look_for_marks(self, key: bytes) -> None:
        if key in _ADDRESSES:
            self._marks = Marks(_ENDINGS)
            self._address = b""
        else:
            self._marks = self._tags.pop(key, None) or Marks(TAGS)

    def _end(self) -> None:
        marks = self._marks
        if marks is not None and marks.begun and marks.marks is TAGS:
            self._tags[self._stack[-1].key] = marks
        self._text = _Text.NONE

    def _inside(self, data: bytes, position: int, out: list[bytes]) -> int:
        found = _STOP.search(data, position)
        end = len(data) if found is None else found.start()
        if end > position:
            out.append(self._letters(data[position:end]))
        if found is None:
            return end
        out.append(found[0])
        if found[0] == b'"':
            self._end()
        else:
            self._escape = b"\\"
        return end + 1

    def _letters(self, data: bytes) -> bytes:
        """Replace, or keep, a piece of the text without escapes."""
        text = self._text
        if text is _Text.KEEP:
            return data
        if text is _Text.SHOWN:
            return self._mask(data)
        if text is _Text.KEY:
            return self._key(data)
        if text is _Text.UNDECIDED:
            start = data.lstrip()[:1]
            if start:
                text = self._text = _Text.NESTED if start in b"{[" else _Text.FOLD
                self._nested = Nested()
        replaced = self._fold(data)
        if not self._rules.same_length:  # a digit may have been one of an escape's, like a letter
            replaced = replaced.replace(b"1", b"x")
        if text is _Text.NESTED:
            return self._nested(data, replaced)
        if self._address is not None:
            replaced = self._addressed(data, replaced)
        if self._marks is not None:
            replaced = self._marks(data, replaced)
        return replaced

    def _key(self, data: bytes) -> bytes:
        """Keys that look like names are kept; from the first other character on, no letter is."""
        frame = self._stack[-1]
        frame.key = (frame.key + data)[: _MAX_KEY + 1]
        kept = 0
        if not self._key_ended:
            name = _KEY(data)
            kept = 0 if name is None else name.end()
            self._key_ended = kept < len(data)
        return data[:kept] + self._fold(data[kept:])

    def _addressed(self, data: bytes, replaced: bytes) -> bytes:
        """Keep the scheme of an address, and all before the comma of a ``data:`` URL."""
        out = bytearray(replaced)
        for at in range(len(data)):
            begun = self._address
            if begun is None:
                break
            longer = begun + data[at : at + 1]
            if begun.startswith(b"data:"):
                known = data[at] != 0x2C and len(begun) < _MAX_HEAD
            else:
                known = any(scheme.startswith(longer) for scheme in _SCHEMES)
            self._address = longer if known else None
            if known:
                out[at] = data[at]
        return bytes(out)

    def _escaped(self, data: bytes, position: int, out: list[bytes]) -> int:
        """One more byte of an escape."""
        byte = data[position]
        escape = self._escape
        if escape == b"\\":
            if byte == 0x75:
                self._escape = b"\\u"
                out.append(b"u")
            else:
                self._escape = b""
                letter = _ESCAPES.get(byte)
                out.append(data[position : position + 1] if letter else bytes((byte,)).translate(ASCII))
                if letter:
                    self._unescaped(letter)
            return position + 1
        if byte not in _HEX:
            self._escape = b""
            return position
        digit = chr(byte)
        folds = self._text not in (_Text.KEEP, _Text.SHOWN, _Text.KEY)
        out.append((fold_digit(escape[2:].decode(), digit) if folds else digit).encode())
        self._escape = escape + data[position : position + 1]
        if len(self._escape) == 6:
            code = int(self._escape[2:], 16)
            self._escape = b""
            self._unescaped(bytes((code,)) if code < 0x80 else b"?")
        return position + 1

    def _unescaped(self, letter: bytes) -> None:
        """A character that was escaped went by: see what it means for those that follow."""
        if self._text is _Text.UNDECIDED and not letter.isspace():
            self._text = _Text.FOLD
        if self._text in (_Text.FOLD, _Text.NESTED, _Text.KEY):
            self._letters(letter)

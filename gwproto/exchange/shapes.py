"""Frames that differ in nothing but their text: proven once, found again by comparing bytes."""

import re

from gwproto.exchange.values import Shape

# What may stand inside a JSON string (RFC 8259, 7); a surrogate only as one of a pair.
_STRING = re.compile(
    rb"""(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"""
    rb"""|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))++"""
)
is_text = _STRING.fullmatch


def learn(raw: bytes, sent: bytes, text: str, padding: bytes = b"") -> Shape | None:
    """The shape of a frame that came as ``raw`` and went out as ``sent``; None when its text cannot be located.

    The text must occur once, as a whole string token, in a frame without escapes: then that token is the text. The same
    holds for the token ``padding``, which must follow.
    """
    token = b'"%b"' % text.encode()
    around = _around(raw, token, padding)
    relay = raw == sent
    out_around = around if relay else _around(sent, token, padding)
    if around is None or out_around is None or 0x5C in raw:  # a backslash
        return None
    prefix, middle, suffix = around
    out_prefix, out_middle, out_suffix = out_around
    between = suffix + prefix
    return Shape(
        *(prefix, middle, suffix, between, 2 * len(between)),
        *(out_prefix, out_middle, out_suffix, out_suffix + out_prefix),
        relay,
    )


def fit(shape: Shape, frame: bytes) -> bytes:
    """What goes out for ``frame``; ``b""`` when it is not of this shape."""
    begin, end = len(shape.prefix), len(frame) - len(shape.suffix)
    if begin > end or not frame.startswith(shape.prefix) or not frame.endswith(shape.suffix):
        return b""
    text = frame[begin:end]
    if shape.middle:
        text, _, padding = text.partition(shape.middle)
        if not is_text(padding):
            return b""
    if not is_text(text) or not (frame.isascii() or is_utf8(frame)):
        return b""
    if shape.relay:
        return frame
    if shape.middle:
        text = b"%b%b%b" % (text, shape.out_middle, padding)
    return b"%b%b%b" % (shape.out_prefix, text, shape.out_suffix)


def texts_of(shape: Shape, data: bytes, position: int) -> tuple[list[bytes], int]:
    """What may be the texts of whole frames of this shape, of which one begins at ``position``, and where they end."""
    between, gap = shape.between, len(shape.between)
    texts: list[bytes] = []
    begin = position + len(shape.prefix)
    end = data.find(b'"', begin)
    while end > begin:
        follows = data.startswith(between, end)  # one comparison for two, of what mostly comes
        if follows or data.startswith(shape.suffix, end):
            texts.append(data[begin:end])
            begin = end + gap
            if not follows:
                break
            end = data.find(b'"', begin)
        elif data[end - 1] == 0x5C:  # a backslash: the quote is within the text
            end = data.find(b'"', end + 1)
        else:
            break
    return texts, begin - len(shape.prefix)


def _around(frame: bytes, token: bytes, padding: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What is before, between and after the two; None unless each is there once, in this order."""
    parts = frame.split(token)
    if len(parts) != 2:
        return None
    prefix, suffix = parts
    if not padding:
        return prefix + b'"', b"", b'"' + suffix
    parts = suffix.split(padding)
    if len(parts) != 2 or padding in prefix or padding[:1] != b'"':
        return None
    return prefix + b'"', b'"%b"' % parts[0], b'"' + parts[1]


def is_utf8(data: bytes) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True

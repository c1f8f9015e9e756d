"""Answers as the load generator sees them: when one is whole, and whether it is right."""

from typing import NamedTuple

from benchmarks.provider import WORDS


class Wrong(Exception):
    """An answer was not what it must be."""


class Answer(NamedTuple):
    body: bytes
    last: bool  # the server closes the connection


def whole(data: bytes) -> Answer | None:
    """The one answer in ``data``, None while it is not whole. Raises :class:`Wrong` when it is no 200."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    if not data.startswith(b"HTTP/1.1 200 "):
        raise Wrong(f"answer begins {data[:300]!r}")
    head = data[:head_end].lower()
    last = b"connection: close" in head
    if b"transfer-encoding: chunked" in head:
        body = unchunked(data, head_end + 4) if data.endswith(b"0\r\n\r\n") else None
        return None if body is None else Answer(body, last)
    _, found, rest = head.partition(b"content-length:")
    if not found:
        raise Wrong(f"an answer of unknown length: {head!r}")
    body = data[head_end + 4 :]
    return None if len(body) < int(rest.partition(b"\r\n")[0]) else Answer(body, last)


def unchunked(data: bytes, position: int) -> bytes | None:
    """The body of a chunked message whose first chunk begins at ``position``; None when it is not whole."""
    pieces: list[bytes] = []
    while (line_end := data.find(b"\r\n", position)) >= 0:
        size = int(data[position:line_end].partition(b";")[0], 16)
        position = line_end + 2 + size + 2
        if position > len(data):
            return None
        if size == 0:
            return b"".join(pieces)
        pieces.append(data[line_end + 2 : position - 2])
    return None


def check(body: bytes, events: int, expect: str = "exact") -> int:
    """Raise :class:`Wrong` unless ``body`` is what a :class:`Job` expects, whole, and ends as it must; its events."""
    if not events:
        whole = body.rstrip().endswith(b"}") and b'"choices"' in body
        if not whole or (expect != "any" and WORDS.encode() not in body):
            raise Wrong(f"not the provider's answer: {body[:300]!r}")
        return 0
    found = body.count(b"data: ") - 1
    if body.count(b"[DONE]") != 1 or not body.endswith(b"data: [DONE]\n\n"):
        raise Wrong(f"not one [DONE] at the end: …{body[-300:]!r}")
    if expect == "exact" and found != events:
        raise Wrong(f"{found} events instead of {events}: …{body[-300:]!r}")
    words = body.count(b'" word')
    if expect == "text" and words != max(
        0, events - 2
    ):  # the first event says something else, the last nothing
        raise Wrong(f"{words} words instead of {events - 2}: …{body[-300:]!r}")
    return found

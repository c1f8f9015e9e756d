"""What a simulated provider's wire format is: requests decoded to :class:`Ask`, answers encoded.

Formats here are independent of ``gwproto.wire`` on purpose: a mistake shared by both sides of a test would go unseen.
They are as strict as the real providers, and the official SDKs are tested against them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from gwproto.testing.answers import Answer, Ask
from gwproto.values import Headers

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"


class BadRequest(Exception):
    """A request this format's providers refuse, with the words of the real one."""

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, *, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


class Stamp(Struct, frozen=True):
    """What every chunk of one answer repeats."""

    id: str
    created: int
    model: str


class Stream(Struct, frozen=True):
    """A streamed answer's events, already framed: what comes before content, content, what comes after."""

    preamble: tuple[bytes, ...]
    content: tuple[bytes, ...]
    finish: tuple[bytes, ...]
    usage: tuple[bytes, ...] = ()
    done: bytes = b""


class Format(Struct, frozen=True, kw_only=True):
    """One format as its providers speak it."""

    name: str
    base: str  # the path of its base URL
    id_prefix: str
    stream_type: bytes = EVENT_STREAM
    key: Callable[[Headers, str], str]  # the key that a request carries, by its headers and target
    check: Callable[[Headers], None] = lambda headers: None  # raises BadRequest for headers that are missing
    statuses: Mapping[int, int] = {}  # where the real provider answers with another status
    chat: re.Pattern[str]  # found in the paths that chat is asked for
    listing: re.Pattern[str]  # … and the models
    decode: Callable[[bytes, str], Ask]  # body, target; raises BadRequest
    whole: Callable[[Ask, tuple[Answer, ...], Stamp], bytes]
    stream: Callable[[Ask, tuple[Answer, ...], Stamp, int], Stream]  # the last: words to a chunk
    error: Callable[[int, str | None, str | None, str | None], bytes]  # status, message, param, code
    error_event: Callable[[int], bytes]  # the same inside a stream, framed
    models: Callable[[tuple[str, ...], int, str], bytes]  # names, created, owner
    # Requests a minute, those left, seconds to the reset; by default they are not told.
    limits: Callable[[int, int, float], Headers] = lambda limit, remaining, reset: ()

    def find(self, method: str, target: str) -> Literal["chat", "models", "", "wrong_method"]:
        """What a request line asks for."""
        path = target.partition("?")[0].rstrip("/")
        if method == "GET" and self.listing.search(path):
            return "models"
        if self.chat.search(path) is None:
            return ""
        return "chat" if method == "POST" else "wrong_method"


def pieces(said: tuple[str, ...], words: int) -> Iterator[tuple[str, ...]]:
    """``said`` in groups of ``words``."""
    for at in range(0, len(said), words):
        yield said[at : at + words]


def header(headers: Headers, name: bytes) -> str:
    """A header's value, "" when it is not there."""
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def bearer(headers: Headers, target: str = "") -> str:
    """The key after ``Bearer`` (RFC 6750, 2.1), whatever the target."""
    return header(headers, b"authorization").removeprefix("Bearer ")

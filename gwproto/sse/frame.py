"""What event streams, lines and binary frames are cut into."""

from msgspec import Struct


class Frame(Struct, frozen=True, gc=False):
    """One event that has data.

    ``data`` is valid UTF-8 (invalid sequences became U+FFFD); several ``data:`` lines are joined by LF. ``raw`` is the
    event's exact bytes, blank line included, when they are ``data: `` + ``data`` + two LF, at most with a line
    ``event: …`` before it; otherwise it is empty.
    """

    data: bytes
    event: str = ""
    raw: bytes = b""

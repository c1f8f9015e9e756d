"""From what a provider said about a failure to its row in the table of :mod:`gwproto.wire.taxonomy`.

Never the status alone: a 429 may mean no money, a 413 a rate limit, a 400 a bad key. And never the whole text: only
code, type, known detail fields, known headers and the message's beginning are read, since messages echo prompts.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from gwproto.failures import FailureClass
from gwproto.wire.taxonomy import ROWS, TYPE_STATUS, Row, row

MESSAGE_READ = 300
_WORD_READ = 100

_BAD_REQUEST = row(FailureClass.INVALID)
_BROKEN = row(FailureClass.SERVER)


class Signs(Struct, frozen=True, gc=False):
    """What is known about a failure. ``hints`` are words from structured details (quota ids, reasons, inner codes)."""

    status: int | None = None  # None: in a stream or a 200, without a status of its own
    type: str = ""
    code: str = ""
    param: str | None = None
    message: str = ""
    hints: str = ""
    limits: str = ""  # what headers say of rate limits: "spent tokens minute", "none requests minute"
    retry_info: float | None = None  # seconds, in Google's RetryInfo
    delay: float | None = None  # seconds, as asked for elsewhere in the body
    reset: str = ""  # an instant or a duration, as asked for in the body


class Table:
    """Rows, arranged for finding the one that fits."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._own: dict[str, list[Row]] = {}
        self._words: dict[str, Row] = {}
        self._rest: list[Row] = []
        for one in rows:
            if one.provider:
                self._own.setdefault(one.provider, []).append(one)
            elif one.codes:
                self._words |= dict.fromkeys(one.codes, one)
            else:
                self._rest.append(one)

    def find(self, signs: Signs, provider: str) -> Row:
        """The row for a failure of ``provider``, by its name in the catalog; ``""``: unknown."""
        status = signs.status
        if status is None:
            status = TYPE_STATUS.get(signs.type.lower())
        words = (signs.code[:_WORD_READ].lower(), signs.type[:_WORD_READ].lower())
        text = " ".join((*words, signs.hints[:MESSAGE_READ].lower(), signs.message[:MESSAGE_READ].lower()))
        for one in self._own.get(provider.removesuffix("_compat"), ()):
            if _fits(one, status, words, text, signs.limits):
                return one
        for word in words:
            if word in self._words:
                return self._words[word]
        for one in self._rest:
            if _fits(one, status, words, text, signs.limits):
                return one
        return _BAD_REQUEST if status is not None and 400 <= status < 500 else _BROKEN


def _fits(one: Row, status: int | None, words: tuple[str, ...], text: str, limits: str) -> bool:
    if not (one.codes or one.pattern or one.limits):
        return status in one.statuses
    if one.statuses and status is not None and status not in one.statuses:
        return False
    return (
        not one.codes.isdisjoint(words)
        or (one.pattern != "" and re.search(one.pattern, text) is not None)
        or (one.limits != "" and re.search(one.limits, limits) is not None)
    )


classify = Table(ROWS).find

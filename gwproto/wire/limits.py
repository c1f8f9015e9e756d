"""Rate limits in response headers, in every spelling seen, and how long until a spent one is whole again."""

import functools
import re
from collections.abc import Iterable, Mapping

from gwproto.values import Headers, Limit
from gwproto.wire.delay import parse_number, until

_WINDOWS = r"second|minute|hour|day|month"
# OpenAI, Groq, xAI, Azure: -requests, -tokens. Cerebras, SambaNova, Mistral: and a window. Together: neither.
_NAMES = (
    re.compile(
        r"(?:x-)?ratelimit-(?P<what>limit|remaining|reset)"
        rf"(?:-(?P<dimension>[a-z]+(?:-[a-z]+)*?))??(?:-(?P<window>{_WINDOWS}))?"
    ),
    re.compile(r"anthropic-ratelimit-(?P<dimension>[a-z]+(?:-[a-z]+)*)-(?P<what>limit|remaining|reset)"),
    re.compile(r"x-(?P<dimension>token)limit-(?P<what>limit|remaining|reset)"),  # Together
)
_REQUESTS = {
    "x-endpoint-monthly-call-limit": ("month", "limit"),  # Cohere
    "x-trial-endpoint-call-limit": ("minute", "limit"),
    "x-trial-endpoint-call-remaining": ("minute", "remaining"),
    "x-ratelimit-timeremaining": (None, "reset"),  # GitHub
}
_DIMENSIONS = {"": "requests", "req": "requests", "token": "tokens"}
_PERIODS = {"60": "minute", "3600": "hour", "86400": "day"}


def told(headers: Headers, windows: Mapping[str, str], wall: float) -> tuple[Limit, ...]:
    """:func:`read_limits` of a response's raw headers; most responses have none."""
    if b"limit" not in b" ".join([name for name, _ in headers]):  # a search costs more than it searches
        return ()
    found = {n.decode("latin-1"): v.decode("latin-1") for n, v in headers if b"limit" in n}
    return read_limits(found, windows, wall)


def read_limits(headers: Mapping[str, str], windows: Mapping[str, str], wall: float) -> tuple[Limit, ...]:
    """The limits of a response, in the order of its headers.

    ``windows``: what a dimension is per where no header says it. ``wall`` (seconds since the epoch) is when the
    response came; 0: unknown, and with it a reset that is an instant.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name, value in headers.items():
        place = _place(name, headers, windows)
        if place is not None:
            dimension, window, what = place
            found.setdefault((dimension, window), {})[what] = value.strip()
    limits = [_limit(dimension, window, said, wall) for (dimension, window), said in found.items()]
    return tuple([one for one in limits if (one.limit, one.remaining, one.reset) != (None, None, None)])


def _place(name: str, headers: Mapping[str, str], windows: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Dimension, window, and which of the three numbers a header is."""
    said = _said(name)
    if said is None:
        return None
    dimension, window, what = said
    if window is None:
        period = headers.get(f"x-ratelimit-renewalperiod-{dimension}", "").strip()  # GitHub
        window = _PERIODS.get(period) or windows.get(dimension, "")
    return dimension, window, what


@functools.lru_cache(maxsize=1024)
def _said(name: str) -> tuple[str, str | None, str] | None:
    """What a header's name says by itself. The same few names come with every response."""
    if name in _REQUESTS:
        return "requests", *_REQUESTS[name]
    match = next((match for pattern in _NAMES if (match := pattern.fullmatch(name))), None)
    if match is None:
        return None
    fields = match.groupdict()
    dimension = fields["dimension"] or ""
    return _DIMENSIONS.get(dimension, dimension), fields.get("window"), fields["what"]


def _limit(dimension: str, window: str, said: Mapping[str, str], wall: float) -> Limit:
    reset = until(said["reset"], wall) if "reset" in said else None
    return Limit(
        dimension,
        window,
        _count(said.get("limit", "")),
        _count(said.get("remaining", "")),
        None if reset is None else max(reset, 0.0),
    )


def _count(text: str) -> int | None:
    number = parse_number(text)
    return None if number is None else int(number)


def reset_delay(limits: Iterable[Limit]) -> float | None:
    """The longest reset among the limits that are spent."""
    return max((one.reset for one in limits if one.remaining == 0 and one.reset is not None), default=None)


def in_words(limits: Iterable[Limit]) -> str:
    """What the table of errors wants to know: limits that are spent, and those that are none at all."""
    spent = [f"spent {one.dimension} {one.window};" for one in limits if one.remaining == 0]
    none = [f"none {one.dimension} {one.window};" for one in limits if one.limit == 0]
    return " ".join(none + spent)

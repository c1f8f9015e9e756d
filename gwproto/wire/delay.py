"""How long a provider asks to be left alone, in any of the spellings seen: seconds, dates, durations, prose."""

import datetime
import math
import re

from gwproto.values import Headers
from gwproto.wire.taxonomy import Calendar

MIN_DELAY = 0.5  # a zero or past delay must not make a busy loop
MAX_DELAY = 86400.0  # a day
_PACIFIC = 8 * 3600.0

_DURATION = re.compile(
    r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII
)
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE]\d+)?", re.ASCII)

_PROSE = re.compile(
    r"(?:(?:try again|retry) in|retry after|wait)(?: for)?\s+(?P<n>\d[\d.dhms]*)\s*(?P<unit>sec|min|hour|day)?",
    re.I | re.ASCII,
)
_PROSE_UNITS = {"sec": 1.0, "min": 60.0, "hour": 3600.0, "day": 86400.0}
_PROSE_DATE = re.compile(r"\bon (\d{4}-\d\d-\d\d) at (\d\d:\d\d) UTC", re.I | re.ASCII)  # Anthropic

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# RFC 9110, 5.6.7: IMF-fixdate, and the two obsolete forms a recipient must accept.
_DATES = (
    re.compile(r"\w{3}, (?P<d>\d\d) (?P<mon>\w{3}) (?P<y>\d{4}) (?P<t>\d\d:\d\d:\d\d) GMT", re.ASCII),
    re.compile(r"\w{6,9}, (?P<d>\d\d)-(?P<mon>\w{3})-(?P<y>\d\d) (?P<t>\d\d:\d\d:\d\d) GMT", re.ASCII),
    re.compile(r"\w{3} (?P<mon>\w{3}) (?P<d>[ \d]\d) (?P<t>\d\d:\d\d:\d\d) (?P<y>\d{4})", re.ASCII),
)


def parse_number(text: str) -> float | None:
    """A non-negative finite number, or None."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def parse_duration(text: str) -> float | None:
    """Seconds of ``2m59.56s``, ``120ms``, ``1d2h`` (Go's durations, with days) or of a plain number."""
    number = parse_number(text)
    if number is not None:
        return number
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return None
    seconds = sum(float(value) * unit for value, unit in zip(match.groups(), _UNITS, strict=True) if value)
    return seconds if math.isfinite(seconds) else None


def parse_date(text: str, wall: float) -> float | None:
    """Seconds since the epoch of an HTTP date (RFC 9110, 5.6.7); two-digit years are taken around ``wall``."""
    for pattern in _DATES:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        year = int(match["y"])
        if len(match["y"]) == 2:
            # "more than 50 years in the future" means the past century.
            this_year = 1970 + int(wall // 31556952)
            year += this_year - this_year % 100
            if year > this_year + 50:
                year -= 100
        hour, minute, second = (int(part) for part in match["t"].split(":"))
        try:
            month = _MONTHS.index(match["mon"].lower()) + 1
            # A leap second counts as the one before it.
            date = datetime.datetime(
                year, month, int(match["d"]), hour, minute, min(second, 59), tzinfo=datetime.UTC
            )
        except ValueError:
            return None
        return date.timestamp()
    return None


def _instant(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, of epoch seconds or of epoch milliseconds."""
    number = parse_number(text)
    if number is not None:
        return number / 1000 if number >= 1e12 else number if number >= 1e9 else None
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return date.timestamp() if date.tzinfo is not None else None


def until(text: str, wall: float) -> float | None:
    """Seconds from ``wall`` (seconds since the epoch, 0: unknown) to a reset written as an instant or as a duration."""
    at = _instant(text)
    if at is None:
        return parse_duration(text)
    return at - wall if wall > 0 else None


def header_delay(headers: dict[str, str], wall: float) -> float | None:
    """``retry-after-ms``, else ``retry-after`` as seconds or as a date, counted from the response's own clock."""
    milliseconds = parse_number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after", "").strip()
    seconds = parse_number(after)
    if seconds is not None:
        return seconds
    date = parse_date(after, wall)
    if date is None:
        return None
    sent = parse_date(headers.get("date", "").strip(), wall) or wall
    return date - sent if sent > 0 else None


def prose_delay(message: str, wall: float) -> float | None:
    """What an error message says in words."""
    match = _PROSE.search(message)
    if match is not None:
        delay = parse_duration(match["n"].rstrip("."))
        if delay is not None:
            return delay * _PROSE_UNITS[(match["unit"] or "sec").lower()]
    date = _PROSE_DATE.search(message)
    return until(f"{date[1]}T{date[2]}Z", wall) if date is not None else None


def calendar_delay(end: Calendar, wall: float) -> float | None:
    """Seconds from ``wall`` to the end of a minute, day or month by the clock; None when ``wall`` is unknown."""
    if wall <= 0:
        return None
    if end == "minute":
        return 60.0 - wall % 60.0
    if end == "utc_day":
        return MAX_DELAY - wall % MAX_DELAY
    if end == "pacific_day":
        return MAX_DELAY - (wall - _PACIFIC) % MAX_DELAY
    now = datetime.datetime.fromtimestamp(wall, datetime.UTC)
    month = now.year * 12 + now.month  # the next one, counted from 0
    return datetime.datetime(month // 12, month % 12 + 1, 1, tzinfo=datetime.UTC).timestamp() - wall


def clamp(delay: float) -> float:
    """Between half a second and a day."""
    return min(max(delay, MIN_DELAY), MAX_DELAY)


def text_headers(headers: Headers) -> dict[str, str]:
    """Headers by name; of a repeated one the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}

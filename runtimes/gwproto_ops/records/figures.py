"""Figures that add up: flat tables of numbers by name, one for each hour or day of whatever is told apart.

Beside counts and sums they hold two histograms, ``f0 f1 …`` of times to first content and ``d0 d1 …`` of durations.
Their classes are a quarter of an octave wide, so that a percentile is right within 10 %.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from gwproto import Ending, Outcome
from gwproto.failures import REACTIONS, Effect, FailureClass
from gwproto_ops.records.record import plain

Sums = dict[str, float]
#: Hour, provider, model, project.
Cell = tuple[int, str, str, str]

HOUR = 3600
DAY = 86400
_PER_OCTAVE = 4
_LAST = 120  # 2 ** 30 ms, twelve days
#: In seconds, where each class but the first begins.
_BOUNDS = tuple([2 ** (number / _PER_OCTAVE) / 1e3 for number in range(1, _LAST + 1)])
_FIRST = tuple([f"f{number}" for number in range(_LAST + 1)])
_DURATION = tuple([f"d{number}" for number in range(_LAST + 1)])
_PLACES = {
    "f": {name: place for place, name in enumerate(_FIRST)},
    "d": {name: place for place, name in enumerate(_DURATION)},
}
_FAILURE = {kind.value: f"failure.{kind.value}" for kind in FailureClass}
_JUDGED = {kind.value for kind, row in REACTIONS.items() if row.effect not in (Effect.NONE, Effect.THROTTLE)}
_COMPLETED = Ending.COMPLETED  # an attribute of an enumeration takes as long to find as a call
_THROTTLES = {kind.value for kind, row in REACTIONS.items() if row.effect is Effect.THROTTLE}

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(dict[str, float]).decode


def merged(one: str, other: str) -> str:
    """The sums of two tables, as text; what the stores' SQL calls."""
    sums = decode(one)
    add(sums, decode(other))
    return encode(sums).decode()


def add(into: Sums, other: Sums) -> None:
    get = into.get
    for name, number in other.items():
        into[name] = get(name, 0) + number


def of_requests(outcomes: Iterable[Outcome]) -> dict[Cell, Sums]:
    """Requests by hour, provider, model and project.

    Who got another request's answer cost nothing: its tokens are counted where they were used.
    """
    cells: dict[Cell, Sums] = {}
    hour = next_hour = 0
    for outcome in outcomes:
        if not hour <= outcome.at < next_hour:
            hour, next_hour = _hour(outcome.at)
        key = (hour, outcome.provider, outcome.model, outcome.project_id)
        cell = cells.get(key)
        if cell is None:
            cell = cells[key] = {}
        get = cell.get
        ending = outcome.ending
        name = ending._value_  # five times as fast as without underscores
        cell[name] = get(name, 0) + 1
        usage = outcome.usage
        if usage is not None and not outcome.shared:
            cell["prompt"] = get("prompt", 0) + usage.prompt_tokens
            cell["completion"] = get("completion", 0) + usage.completion_tokens
            if usage.cached_tokens:
                cell["cached"] = get("cached", 0) + usage.cached_tokens
            if usage.reasoning_tokens:
                cell["reasoning"] = get("reasoning", 0) + usage.reasoning_tokens
            if outcome.cost:
                cell["cost"] = get("cost", 0) + outcome.cost
        first = outcome.first_content_after
        if first is not None:
            name = _FIRST[bisect_right(_BOUNDS, first)]
            cell[name] = get(name, 0) + 1
        if ending is _COMPLETED:
            name = _DURATION[bisect_right(_BOUNDS, outcome.duration)]
            cell[name] = get(name, 0) + 1
    return cells


def of_attempts(outcomes: Iterable[Outcome]) -> dict[tuple[int, str], Sums]:
    """Attempts by hour and provider. A lost race and a client that left are neither success nor failure."""
    cells: dict[tuple[int, str], Sums] = {}
    hour = next_hour = 0
    for outcome in outcomes:
        if outcome.shared:
            continue
        if not hour <= outcome.at < next_hour:
            hour, next_hour = _hour(outcome.at)
        for attempt in outcome.attempts:
            key = (hour, attempt.provider)
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = {}
            get = cell.get
            cell["attempts"] = get("attempts", 0) + 1
            if attempt.failure is not None:
                name = _FAILURE.get(attempt.failure) or f"failure.{plain(attempt.failure)}"
                cell[name] = get(name, 0) + 1
            elif outcome.ending is _COMPLETED and not attempt.lost:
                cell["successes"] = get("successes", 0) + 1
                name = _DURATION[bisect_right(_BOUNDS, attempt.duration)]
                cell[name] = get(name, 0) + 1
            first = attempt.first_content_after
            if first is not None:
                name = _FIRST[bisect_right(_BOUNDS, first)]
                cell[name] = get(name, 0) + 1
    return cells


def _hour(at: float) -> tuple[int, int]:
    """The hour that ``at`` is in, and the next one."""
    hour = int(at // HOUR) * HOUR
    return hour, hour + HOUR


def failures(sums: Sums) -> dict[str, int]:
    """Attempts by the class of their failure."""
    return {
        name.removeprefix("failure."): int(number)
        for name, number in sorted(sums.items())
        if name.startswith("failure.")
    }


def judged(found: dict[str, int]) -> tuple[int, int]:
    """Of failures by class: those that say something about the provider, and those that only slow it down."""
    return (
        sum(number for kind, number in found.items() if kind in _JUDGED),
        sum(number for kind, number in found.items() if kind in _THROTTLES),
    )


def percentiles(sums: Sums, which: str, shares: Sequence[float]) -> list[float] | None:
    """In milliseconds, by nearest rank; ``which``: ``"f"`` or ``"d"``. None: nothing is known."""
    places = _PLACES[which]
    counts = sorted(
        [(place, number) for name, number in sums.items() if (place := places.get(name)) is not None]
    )
    total = sum([number for _, number in counts])
    if not total:
        return None
    found = []
    for share in shares:
        left = math.ceil(share * total)
        for place, number in counts:
            left -= int(number)
            if left <= 0:
                found.append(round(2 ** ((place + 0.5) / _PER_OCTAVE), 3))
                break
    return found

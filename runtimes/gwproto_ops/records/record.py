"""The record of a finished request, as the access log, the store, ``/v1/requests`` and the export show it.

Never prompt or answer text, never a secret. What a client or a provider chose is cut to ``LONGEST`` characters, and
what cannot be printed is replaced, so that it is inert wherever it is shown. Times are in milliseconds.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from gwproto import AttemptRecord, Outcome
from gwproto.values import Candidate, Decision
from gwproto_ops.records.lines import Attempt, Line, Record

LONGEST = 200
CHAT = "/v1/chat/completions"


L = TypeVar("L", bound=Line)
#: A line as it is kept: an array, which is half as long as an object.
Values = tuple[Any, ...]
#: An outcome, and its line as it is kept.
Finished = tuple[Outcome, str]

_encode_lines = msgspec.json.Encoder().encode_lines
_decode = msgspec.json.Decoder(Values).decode


def line(outcome: Outcome) -> Line:
    return _line(values(outcome), Line)


def kept(lines: Sequence[Values]) -> list[str]:
    """What :func:`read` reads, for each of ``lines``."""
    return _encode_lines(lines).decode().split("\n")[:-1]


def shown(lines: Sequence[Values]) -> str:
    """A line of JSON, an object, for each of ``lines``."""
    return _encode_lines([_line(values, Line) for values in lines]).decode()


def read(text: str, considered: tuple[Candidate, ...] = (), failed: Sequence[Sequence[str]] = ()) -> Record:
    """A record that was kept; ``considered`` and ``failed`` as in its ``Decision``. Raises ``msgspec.MsgspecError``."""
    found = _line(_decode(text), Record)
    if not considered:
        return found
    decision = Decision(considered, found.chosen, tuple([(target, kind) for target, kind in failed]))
    return msgspec.structs.replace(found, candidates=decision.candidates)


def _line(values: Values, kind: Callable[..., L]) -> L:
    fields = list(values)
    fields[_DROPPED] = tuple(fields[_DROPPED])
    attempts = fields[_ATTEMPTS]
    if len(attempts) == 1:  # which is nearly always all there are
        fields[_ATTEMPTS] = (Attempt(*attempts[0]),)
    else:
        fields[_ATTEMPTS] = tuple([Attempt(*attempt) for attempt in attempts])
    return kind(*fields)


def plain(text: str) -> str:
    """``text``, short and printable."""
    if len(text) <= LONGEST and text.isprintable():
        return text
    return "".join([c if c.isprintable() else "\ufffd" for c in text[:LONGEST]])


#: How many names are remembered.
NAMES = 4096


class Names(dict[str, str]):
    """What :func:`plain` makes of names that are the configuration's, and therefore few."""

    def __missing__(self, name: str) -> str:
        if len(self) >= NAMES:
            self.clear()
        found = self[name] = plain(name)
        return found


named = Names()


def values(outcome: Outcome) -> Values:
    """The fields of a :class:`Line`, in its order, and attempts' in theirs."""
    # Made for speed: Structs, and round() for times, would take as long again as all the rest. ``// 1`` rounds down.
    usage = outcome.usage
    first = outcome.first_content_after
    decision = outcome.decision
    model = outcome.model
    asked = outcome.model_asked
    attempts = outcome.attempts
    began = outcome.began_at
    return (
        (outcome.at * 1e3 + 0.5) // 1 / 1e3,
        outcome.request_id,
        named[outcome.key],
        plain(outcome.project_id) if outcome.project_id else "",
        named[outcome.endpoint],
        plain(outcome.method),
        named[model] if asked == model else plain(asked),
        named[outcome.provider],
        named[model],
        outcome.stream,
        outcome.status,
        outcome.ending._value_,
        plain(outcome.error) if outcome.error else "",
        (outcome.duration * 1e6 + 0.5) // 1 / 1e3,
        None if first is None else (first * 1e6 + 0.5) // 1 / 1e3,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        None if usage is None else usage.cached_tokens,
        None if usage is None else usage.reasoning_tokens,
        outcome.cost,
        outcome.partial_usage,
        outcome.shared,
        tuple([plain(name) for name in outcome.dropped_params]) if outcome.dropped_params else (),
        (_attempt(attempts[0], began),)  # which is nearly always all there are
        if len(attempts) == 1
        else tuple([_attempt(attempt, began) for attempt in attempts]),
        "" if decision is None else named[decision.chosen],
        outcome.rejected,
        outcome.client,
    )


def _attempt(attempt: AttemptRecord, began: float) -> Values:
    first = attempt.first_content_after
    return (
        named[attempt.provider],
        named[attempt.model],
        named[attempt.key],
        attempt.status,
        attempt.failure,
        plain(attempt.code) if attempt.code else "",
        ((attempt.started_at - began) * 1e6 + 0.5) // 1 / 1e3,
        (attempt.duration * 1e6 + 0.5) // 1 / 1e3,
        None if first is None else (first * 1e6 + 0.5) // 1 / 1e3,
        attempt.probe,
        attempt.panic,
        attempt.reused,
        attempt.hedge,
        attempt.lost,
    )


_ATTEMPTS = Line.__struct_fields__.index("attempts")
_DROPPED = _ATTEMPTS - 1

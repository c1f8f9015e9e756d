"""Rows in which a slow attempt is joined by a second one."""

import math

from gwproto.testing import Connection, Data, End, Reset
from scenarios.model import Arrival, Scenario
from scenarios.parts import (
    DONE,
    HELLO,
    JSON,
    PLAIN,
    REFUSED,
    ROLE,
    SILENT,
    SSE,
    STOP,
    STREAM,
    answer,
    ask,
    fault,
    reply,
    row,
    stream,
    text,
    timeline,
)

#: Whoever takes longer than a second is slow, and one request is enough to know.
SETTINGS = {"hedge": {"enabled": True, "min_delay": 1.0, "min_samples": 1, "budget": 1.0}}


def _late(after: float, word: str = "late") -> Connection:
    """A stream whose head comes at once, and its content ``after`` seconds later."""
    rest = (text(word), STOP, DONE)
    return timeline(200, SSE, Data(ROLE), (after, Data(b"".join(rest))), End())


def _breaks(after: float) -> Connection:
    """A stream that breaks off before its content."""
    return timeline(200, SSE, Data(ROLE), (after, Reset()))


def _race(
    name: str,
    *script: Connection,
    whole: bool = False,
    leaves_after: float = math.inf,
    retries: int = 1,
) -> Scenario:
    """A request that shows alpha to be fast, and then the one of interest: its first attempt is alpha's, too."""
    warm = ask(stream=not whole, headers=((b"x-gateway-force-provider", b"alpha"),))
    raced = ask(stream=not whole, leaves_after=leaves_after)
    return row(
        f"hedge_{name}",
        STREAM,
        *script,
        arrivals=(Arrival(0.0, warm), Arrival(5.0, raced)),
        settings={**SETTINGS, "retry": {"max_attempts": 1 + retries}},
    )


HEDGES: tuple[Scenario, ...] = (
    _race("wins", _late(4.0, "too late"), STREAM),
    _race("wins_over_silence", SILENT, STREAM),
    _race("wins_by_a_little", _late(3.0), _late(1.5, "first")),
    _race("loses", _late(1.5, "first"), _late(3.0)),
    _race("loses_while_dialling", _late(1.5, "first"), Connection(dial=2.0)),
    _race("in_step", stream(ROLE, *map(text, "abc"), STOP, DONE, pace=1.25), stream(*HELLO, DONE, pace=2.0)),
    _race("whole", timeline(200, JSON, (4.0, Data(answer("Late."))), End()), PLAIN, whole=True),
    _race("whole_loses", timeline(200, JSON, (2.0, Data(answer())), End()), SILENT, whole=True),
    _race("fails", _late(2.5, "first"), reply(fault(), 500)),
    _race("is_refused", _late(2.5, "first"), REFUSED),
    _race("outlives_the_first", _breaks(1.5), _late(2.0, "second")),
    _race("fails_too", _breaks(2.0), reply(fault(), 500)),
    _race("fails_last", _breaks(1.5), _breaks(1.0)),
    _race("is_no_attempt_more", _late(2.0, "only"), retries=0),
    _race("is_left_by_the_client", SILENT, SILENT, leaves_after=2.5),
    _race("is_followed_by_a_retry", _breaks(1.5), reply(fault(), 500), STREAM, retries=2),
)

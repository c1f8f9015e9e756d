"""Rows in which equal requests at the same time share one upstream call."""

from typing import Any

from gwproto.testing import Connection, Data, End, Reset, Visit
from scenarios.model import Arrival, Scenario
from scenarios.parts import (
    DONE,
    JSON,
    ROLE,
    SSE,
    STOP,
    answer,
    ask,
    fault,
    row,
    stream,
    text,
    timeline,
)

SETTINGS = {"single_flight": {"enabled": True}}

_PACED = stream(ROLE, *map(text, "abcd"), STOP, DONE, pace=1.0)
_REFUSED = timeline(400, JSON, (1.0, Data(fault("No.", "invalid_request_error"))), End())
_WHOLE = timeline(200, JSON, (3.0, Data(answer())), End())


def same(**fields: Any) -> Visit:
    return ask(**{"stream": True, "temperature": 0, **fields})


def _flight(
    name: str,
    script: Connection,
    *visits: tuple[float, Visit],
    server: dict[str, Any] | None = None,
    **more: Any,
) -> Scenario:
    return row(
        f"flight_{name}",
        script,
        arrivals=tuple(Arrival(after, visit) for after, visit in visits),
        settings={**SETTINGS, "server": server or {}, "retry": {"max_attempts": 1}},
        **more,
    )


FLIGHTS: tuple[Scenario, ...] = (
    _flight("together", _PACED, (0.0, same()), (0.5, same()), (0.6, same())),
    _flight("joined_late", _PACED, (0.0, same()), (3.5, same())),
    _flight("missed", _PACED, (0.0, same()), (9.0, same())),
    _flight("whole", _WHOLE, (0.0, same(stream=False)), (1.0, same(stream=False))),
    _flight("unlike", _PACED, (0.0, same()), (0.3, same(seed=1)), (0.6, same(temperature=1))),
    _flight("fails", timeline(200, SSE, (1.5, Reset())), (0.0, same()), (0.5, same())),
    _flight("refused", _REFUSED, (0.0, same()), (0.5, same())),
    _flight(
        "breaks_off",
        timeline(200, SSE, Data(ROLE + text("a")), (1.5, Reset())),
        (0.0, same()),
        (0.5, same()),
    ),
    _flight("leader_leaves_before_content", _PACED, (0.0, same(leaves_after=0.7)), (0.5, same())),
    _flight("leader_leaves", _PACED, (0.0, same(leaves_after=2.7)), (0.5, same()), (3.2, same())),
    _flight("follower_leaves", _PACED, (0.0, same()), (0.5, same(leaves_after=2.0))),
    _flight("all_leave", _PACED, (0.0, same(leaves_after=2.2)), (0.5, same(leaves_after=2.0))),
    _flight("slow_follower", _PACED, (0.0, same()), (0.5, same(write_time=1.7))),
    _flight("slow_leader", _PACED, (0.0, same(write_time=1.7)), (0.5, same())),
    _flight(
        "heartbeats",
        timeline(200, SSE, (3.6, Data(ROLE + text("a") + STOP + DONE)), End()),
        (0.0, same()),
        (1.7, same()),
        server={"heartbeat_interval": 1.0},
    ),
    _flight(
        "drained",
        stream(ROLE, *[text("x")] * 20, pace=1.0),
        (0.0, same()),
        (0.5, same()),
        drain_after=1.5,
        server={"drain_timeout": 3},
    ),
)

"""Rows in which providers speak another format than OpenAI's, good and bad."""

from typing import Any

from gwproto.testing import Connection, Data, End, Knobs, Reset
from gwproto.testing.formats import FORMATS
from scenarios.model import Scenario
from scenarios.parts import ask, reply, row, timeline
from support.formats import answered, requested

_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
_MODEL = "alpha/model"


def _whole(name: str, knobs: Knobs | None = None, status: int = 200, **fields: Any) -> Connection:
    return reply(b"".join(answered(name, requested(**fields), knobs, _MODEL)), status)


def _stream(name: str, knobs: Knobs | None = None, count: int | None = None, **fields: Any) -> Connection:
    """The pieces a write each; the first ``count`` of them, then a reset."""
    pieces = answered(name, requested(stream=True, **fields), knobs, _MODEL)
    ending = End() if count is None else Reset()
    kind = FORMATS[name].stream_type
    return timeline(200, kind, *[Data(piece) for piece in pieces[:count]], ending)


def _rows(name: str) -> tuple[Scenario, ...]:
    with_tools = ask(stream=True, tools=[_TOOL], stream_options={"include_usage": True})
    busy = Knobs(status=503)
    return (
        row(f"{name}_plain", _whole(name), whole=True, format=name),
        row(f"{name}_stream", _stream(name), format=name),
        row(f"{name}_tools", _stream(name, tools=[_TOOL]), asked=with_tools, format=name),
        row(f"{name}_busy_then_good", _whole(name, busy, 503), _stream(name), format=name),
        row(
            f"{name}_error_first_then_good",
            _stream(name, Knobs(first_event_error=True)),
            _stream(name),
            format=name,
        ),
        row(f"{name}_cut_after_content", _stream(name, count=-3), format=name),
    )


NATIVE: tuple[Scenario, ...] = tuple(
    scenario for name in FORMATS if name != "openai" for scenario in _rows(name)
)

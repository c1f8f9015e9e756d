"""What would have happened under another policy: estimated from what did."""

import msgspec
import pytest

from gwproto.config import RetrySettings, TimeoutSettings
from gwproto.journal.entries import LineError
from gwproto.testing import Close, Connection, Head, Reset, Stall, Step
from gwproto.testing.whatif import Comparison, WhatIf, figures
from scenarios.model import Scenario
from scenarios.parts import (
    REFUSED,
    RESET,
    STREAM,
    ask,
    fault,
    get,
    one_after_another,
    reply,
    row,
    stream,
    text,
)
from support.journals import at_random, decoded, recorded, resealed

STREAMED = ask(stream=True)


def read(scenario: Scenario) -> WhatIf:
    estimate = WhatIf()
    for line in recorded(scenario, at_random(1)):
        estimate.feed(line)
    return estimate


def compared(scenario: Scenario, **policy: object) -> Comparison:
    estimate = read(scenario)
    return estimate.compare(msgspec.structs.replace(estimate.settings, **policy))


BUSY = row(
    "busy",
    reply(fault("Slow down."), 429),
    STREAM,
    REFUSED,
    STREAM,
    Connection([*STREAM.steps[:2], Step(0.5, Close())], dial=0.25),
    Connection([*STREAM.steps[:1], Step(0.5, Reset())]),
    STREAM,
    arrivals=one_after_another(STREAMED, STREAMED, get("/livez"), STREAMED, STREAMED, ask(key="wrong")),
    settings={"health": {"throttle_cooldown": 0.5}},
)


def test_the_same_policy_is_estimated_to_do_the_same() -> None:
    comparison = compared(BUSY)
    assert comparison.recorded == comparison.estimated
    assert comparison.unknown == 0
    assert comparison.recorded.requests == 4
    assert comparison.recorded.throttled == 1


def test_without_retries_more_fail_and_less_is_tried() -> None:
    comparison = compared(BUSY, retry=RetrySettings(max_attempts=1))
    assert comparison.recorded.completed > comparison.estimated.completed
    assert comparison.recorded.attempts > comparison.estimated.attempts == 4
    assert comparison.estimated.failed > comparison.recorded.failed


def test_a_shorter_timeout_changes_when_another_is_tried() -> None:
    scenario = row(
        "stalls",
        Connection([Step(0.0, Head(200, ())), Step(0.0, Stall())]),
        STREAM,
        settings={"timeouts": {"first_content": 8.0}},
    )
    comparison = compared(scenario, timeouts=TimeoutSettings(first_content=2.0))
    assert comparison.recorded.first_content_p50 == 8.0
    assert comparison.estimated.first_content_p50 == 2.0
    assert comparison.estimated.completed == 1


def test_a_client_that_left_leaves() -> None:
    slow = stream(text("a"), text("b"), pace=3.0, ending=None)
    comparison = compared(row("left", slow, asked=ask(stream=True, leaves_after=4.0)))
    assert (comparison.recorded.left, comparison.estimated.left) == (1, 1)
    assert comparison.recorded.duration_p50 is None


def test_a_target_that_was_never_asked_is_taken_as_refusing() -> None:
    estimate = read(row("one", STREAM, providers=1))
    providers = estimate.settings.providers
    moved = msgspec.structs.replace(providers[0], base_url="http://elsewhere.test/v1")
    comparison = estimate.compare(msgspec.structs.replace(estimate.settings, providers=(moved,)))
    assert comparison.unknown >= 1
    assert comparison.estimated.failed == 1


def test_another_model_at_the_same_place_is_the_nearest_there_is() -> None:
    estimate = read(
        row("one", STREAM, RESET, STREAM, providers=1, arrivals=one_after_another(*[STREAMED] * 3))
    )
    (provider,) = estimate.settings.providers
    model = msgspec.structs.replace(provider.models[0], upstream="another")
    moved = msgspec.structs.replace(provider, models=(model,))
    comparison = estimate.compare(msgspec.structs.replace(estimate.settings, providers=(moved,)))
    assert comparison.unknown == 0
    assert comparison.estimated.completed == 3


def test_formats_that_name_the_model_in_the_path() -> None:
    said = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
    answer = stream(b"data: %b\n\n" % msgspec.json.encode(said))
    assert compared(row("gemini", answer, format="gemini")).estimated.completed == 1


def test_journals_that_tell_nothing_are_refused() -> None:
    lines = recorded(BUSY)
    with pytest.raises(LineError, match="empty"):
        assert WhatIf().settings
    with pytest.raises(LineError, match="the line was changed"):
        feed(*lines[:4], lines[4].replace(b'"t":', b'"t": '))
    read = decoded(lines)
    with pytest.raises(LineError, match="several gateways"):
        feed(*resealed(read[0], read[0]))
    entry = read[1]
    with pytest.raises(LineError, match="does not replay"):
        feed(*resealed(read[0], msgspec.structs.replace(entry, commands="0")))


def feed(*lines: bytes) -> None:
    estimate = WhatIf()
    for line in lines:
        estimate.feed(line)


def test_no_requests_no_figures() -> None:
    empty = figures([])
    assert empty.requests == 0
    assert empty.first_content_p95 is None

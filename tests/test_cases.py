"""Failures from the field that no other test has as a whole; ``docs/testing.md`` has the table of all."""

import json
import random
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from gwproto import (
    Configuration,
    Ending,
    Event,
    Gateway,
    LossReason,
    SendEnd,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.config import ServerSettings, TimeoutSettings
from gwproto.routing.catalog import compile_catalog
from scenarios.table import TABLE
from support.conversation import (
    DONE,
    EPOCH,
    ROLE,
    START,
    STOP,
    answer,
    begin,
    body,
    chunk,
    completion,
    configuration,
    feed,
    gateway,
    opened,
    provider,
    sent_body,
    sent_error,
    sent_head,
    text,
)

TESTS = Path(__file__).parent
USAGE = chunk({}, choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})


def call(arguments: str, **fields: Any) -> bytes:
    """A piece of a tool call; ``fields`` (``id``, ``name``) open it."""
    function = {"arguments": arguments} | ({"name": fields["name"]} if fields else {})
    opening = {"id": fields["id"], "type": "function"} if fields else {}
    return chunk({"tool_calls": [{"index": 0, **opening, "function": function}]})


def streaming(*pieces: bytes) -> list[Event]:
    return [
        UpstreamOpened(1, False),
        UpstreamHead(1, 200, ((b"content-type", b"text/event-stream"),)),
        *[UpstreamData(1, piece) for piece in pieces],
    ]


CALL = (call("", id="c1", name="weather"), call('{"city":'), call('"Oslo"}'), chunk({}, "tool_calls"))
STREAMS = {
    "text": (ROLE, text("Hel"), text("lo"), STOP),
    "tool call": (ROLE, *CALL),
    "reasoning": (ROLE, chunk({"reasoning_content": "Hm"}), text("Hi"), STOP),
}


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS)
def test_asking_for_usage_changes_no_other_chunk(pieces: tuple[bytes, ...]) -> None:
    """U5: not what is delivered, nor when."""
    delivered: list[list[bytes]] = []
    for options in ({}, {"stream_options": {"include_usage": True}}):
        exchange, _ = begin(gateway(), body(stream=True, **options))
        reads = [sent_body(feed(exchange, START, event)) for event in streaming(*pieces, USAGE, DONE)]
        delivered.append(reads)
    without, with_usage = delivered
    assert without[:-1] == with_usage[:-1]
    *before, usage, done, rest = with_usage[-1].split(b"\n\n")
    assert json.loads(usage.removeprefix(b"data: "))["usage"]["total_tokens"] == 3
    assert b"\n\n".join([*before, done, rest]) == without[-1]


@pytest.mark.parametrize(
    "last", [UpstreamEnd(1), UpstreamLost(1, LossReason.RESET), UpstreamLost(1, LossReason.TRUNCATED)]
)
def test_half_a_tool_call_never_looks_whole(last: Event) -> None:
    """T7: no finish, no end marker, no other provider's text after it; an error that every SDK raises on."""
    exchange, _ = begin(gateway(provider("a"), provider("b")), body(stream=True))
    feed(exchange, START, *streaming(ROLE, *CALL[:2]))
    commands = feed(exchange, START, last)
    sent = sent_body(commands)
    assert "error" in json.loads(sent.removeprefix(b"data: "))
    assert b"finish_reason" not in sent
    assert commands[-1] == SendEnd()
    assert exchange.outcome is not None
    assert exchange.outcome.ending is Ending.TRUNCATED


@pytest.mark.parametrize("first", [(), (b": hello\n\n", ROLE)], ids=["at once", "after the role"])
def test_an_error_before_content_is_a_status_when_nobody_else_is_left(first: tuple[bytes, ...]) -> None:
    """E3: the head is held back, so an error in a stream's first events is no 200."""
    exchange, _ = begin(gateway(), body(stream=True))
    fault = (
        b'data: {"error":{"message":"Bad field.","type":"invalid_request_error","code":"invalid_value"}}\n\n'
    )
    commands = feed(exchange, START, *streaming(*first, fault))
    status, headers = sent_head(commands)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert sent_error(commands)["message"] == "Bad field."


def test_a_rejected_key_is_replaced_by_the_providers_next_one() -> None:
    """R6, R9: at once, in the same request; the rejected key stays out of the next ones."""
    settings, keys = configuration().settings, configuration().keys
    catalog = compile_catalog(settings, {"a": ["first", "second"]})
    shared = Gateway(Configuration(settings, catalog, keys), rng=random.Random(7), epoch=EPOCH)
    exchange, commands = begin(shared, body())
    rejected = opened(commands).request.credential
    commands = feed(exchange, START, *answer(1, b'{"error":{"message":"Incorrect API key"}}', status=401))
    taken = opened(commands).request.credential
    assert {rejected, taken} == {"first", "second"}
    assert sent_head(feed(exchange, START, *answer(2, completion())))[0] == 200
    for _ in range(3):
        exchange, commands = begin(shared, body())
        assert opened(commands).request.credential == taken
        feed(exchange, START, *answer(1, completion()))


def test_a_throttled_request_repeats_where_it_alone_was_throttled() -> None:
    """R14: by the only provider, without a delay: after back-off it is asked again, though others must wait."""
    exchange, _ = begin(gateway(), body())
    assert feed(exchange, START, *answer(1, b'{"error":{"message":"slow down"}}', status=429)) == []
    assert exchange.deadline <= START + 0.5
    now = exchange.deadline
    assert opened(exchange.tick(now)).attempt == 2
    assert sent_head(feed(exchange, now, *answer(2, completion())))[0] == 200


def test_a_stream_that_goes_on_outlives_the_deadline_of_a_plain_answer() -> None:
    """R10: the total clock ends at the commit point; idleness and the stream's own total are counted from there."""
    timeouts = TimeoutSettings(total=20.0, stream_total=60.0, idle=15.0)
    exchange, _ = begin(
        gateway(timeouts=timeouts, server=ServerSettings(heartbeat_interval=0.0)), body(stream=True)
    )
    feed(exchange, START, *streaming(ROLE, text("a")))
    for seconds in (10, 20, 30, 40, 50):
        assert exchange.deadline == min(START + seconds + 5, START + 60)
        assert sent_body(feed(exchange, START + seconds, UpstreamData(1, text("b")))) == text("b")
    assert exchange.deadline == START + 60
    assert b"upstream_timeout" in sent_body(exchange.tick(START + 60))


def test_the_table_names_tests_and_scenarios_that_exist() -> None:
    page = (TESTS.parent / "docs/testing.md").read_text("utf-8")
    _, _, table = page.partition("## Failures from the field")
    scenarios = {scenario.name for scenario in TABLE}
    last_cells = re.findall(r"^\| [A-Z]\d+ \|.*\| (.*) \|$", table, re.MULTILINE)
    assert len(last_cells) == 54
    for name in re.findall(r"`([^`]+)`", " ".join(last_cells)):
        module, _, test = name.partition("::")
        if test:
            assert f"def {test}(" in (TESTS / f"{module}.py").read_text("utf-8"), name
        elif module.startswith("test_"):
            assert (TESTS / f"{module}.py").is_file(), name
        else:
            assert any(fnmatchcase(scenario, name) for scenario in scenarios), name

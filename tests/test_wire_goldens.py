"""Recorded shapes of providers' streams and answers, each with what the client must get."""

import json
from pathlib import Path
from typing import Any

import pytest
from strategies import bytewise, single_cuts
from wirestream import events, translate

from gwproto.failures import Failure, FailureClass
from gwproto.sse import Decoder
from gwproto.values import Usage
from gwproto.wire.neutral import Completion, CompletionChoice, Reading
from gwproto.wire.openai.completion import decode_completion

GOLDENS = {
    one["name"]: one for one in json.loads((Path(__file__).parent / "goldens" / "openai.json").read_text())
}

BODIES = ("G33", "G36", "G42")
LEGACY = ("G22",)
TRAILING = b'data: {"choices":[{"index":0,"delta":{"content":"Z"}}]}\n\ndata: [DONE]\n\n'


def expected_events(golden: dict[str, Any]) -> list[list[Any]]:
    """The golden's events; those after a failure are not this package's to write."""
    out: list[list[Any]] = []
    for event in golden["expected"]:
        if event[0] == "X":
            kind = "OVERLOADED" if "capacity" in event[2]["message"] else "SERVER"
            return [*out, ["X", f"{kind} {event[2]['message']}"]]
        if event[0] == "FAIL":
            return [["X", event[2]]]
        out.append(event)
    return out


@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in GOLDENS if name not in BODIES])
def test_stream(name: str) -> None:
    golden = GOLDENS[name]
    stream = golden["input"].encode()
    expected = expected_events(golden)
    whole = translate([stream], legacy=name in LEGACY)
    if expected[0][0] == "X":
        (failure,) = whole
        assert failure.decode().split()[0] == expected[0][1]
    else:
        assert events(whole) == expected
    assert translate(bytewise(stream), legacy=name in LEGACY) == whole
    for reads in single_cuts(stream):
        assert translate(reads, legacy=name in LEGACY) == whole
    if b"[DONE]" in stream:
        assert translate([stream + TRAILING], legacy=name in LEGACY) == whole


@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in GOLDENS if name not in BODIES])
def test_stream_cut_short(name: str) -> None:
    """Every prefix gives a beginning of the whole, and never a clean end unless the end was in sight."""
    stream = GOLDENS[name]["input"].encode()
    whole = events(translate([stream], legacy=name in LEGACY))
    for end in range(len(stream)):
        got = events(translate([stream[:end]], legacy=name in LEGACY))
        if got[-1][0] == "DONE":
            assert any(event[0] == "F" for event in got)
        else:
            assert got[-1][0] == "X"
            assert got[:-1] == whole[: len(got) - 1]


def test_legacy_functions_become_tool_calls_for_others() -> None:
    out = events(translate([GOLDENS["G22"]["input"].encode()]))
    id_ = out[1][3]
    assert id_.startswith("call_")
    assert len(id_) == 29
    assert out == [
        ["R", 0],
        ["K", 0, 0, id_, "f"],
        ["A", 0, 0, "{}"],
        ["F", 0, "tool_calls"],
        ["DONE", 0],
    ]


@pytest.mark.golden
@pytest.mark.parametrize("name", ["G33"])
def test_body_with_leading_keep_alives(name: str) -> None:
    completion = decode_completion(GOLDENS[name]["input"].encode())
    assert isinstance(completion, Completion)
    assert completion.choices == (CompletionChoice(0, "A"),)
    assert completion.usage == Usage(1, 1, 2)
    assert completion.verbatim


@pytest.mark.golden
@pytest.mark.parametrize("name", ["G36"])
def test_error_in_a_body(name: str) -> None:
    body = GOLDENS[name]["input"].encode()
    failure = decode_completion(body, Reading(wall=1763856000.0 - 600))
    assert isinstance(failure, Failure)
    assert failure.kind is FailureClass.RATE_DAY
    assert failure.retry_after == 600
    undated = decode_completion(body)
    assert isinstance(undated, Failure)
    assert undated.retry_after is None


@pytest.mark.golden
@pytest.mark.parametrize("name", ["G42"])
def test_html_in_a_body(name: str) -> None:
    body = GOLDENS[name]["input"].encode()
    assert Decoder().receive(body) == []
    failure = decode_completion(body)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureClass.SERVER
    assert failure.message == "The provider's answer is not JSON: 502 Bad Gateway"

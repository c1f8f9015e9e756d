"""Recorded shapes of providers' streams and answers, each with what the client must get."""

from typing import Any

import pytest
from recorded import STREAMS, bytes_of, goldens, reading_of
from strategies import bytewise, single_cuts
from wirestream import events, translate

from gwproto.failures import Failure, FailureClass
from gwproto.sse import Decoder
from gwproto.values import Usage
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import Completion, CompletionChoice, Reading
from gwproto.wire.openai.completion import decode_completion

OPENAI = goldens("openai")
TRAILING = b'data: {"choices":[{"index":0,"delta":{"content":"Z"}}]}\n\ndata: [DONE]\n\n'


def heard(name: str, reads: list[bytes]) -> list[bytes]:
    """The client's lines."""
    format, golden = STREAMS[name]
    return translate(
        reads, dialect=DIALECTS[format], reading=reading_of(golden), legacy=golden.get("legacy", False)
    )


def told(lines: list[bytes]) -> list[list[Any]]:
    """The events; a failure in the goldens' words."""
    *before, last = events(lines)
    if last[0] != "X":
        return [*before, last]
    kind, _, message = last[1].partition(" ")
    # A role alone is held back by the exchange, and never sent when nothing follows.
    if all(event[0] == "R" for event in before):
        return [["FAIL", kind]]
    return [*before, ["X", kind, message]]


@pytest.mark.golden
@pytest.mark.parametrize("name", STREAMS)
def test_stream(name: str) -> None:
    format, golden = STREAMS[name]
    stream = bytes_of(format, golden)
    whole = heard(name, [stream])
    assert told(whole) == golden["expected"]
    assert heard(name, bytewise(stream)) == whole
    if b"data: [DONE]\n\n" in stream:
        assert heard(name, [stream + TRAILING]) == whole


@pytest.mark.golden
@pytest.mark.unmeasured
@pytest.mark.parametrize("name", STREAMS)
def test_stream_at_every_single_cut(name: str) -> None:
    stream = bytes_of(*STREAMS[name])
    whole = heard(name, [stream])
    for reads in single_cuts(stream):
        assert heard(name, reads) == whole


@pytest.mark.golden
@pytest.mark.unmeasured
@pytest.mark.parametrize("name", STREAMS)
def test_stream_cut_short(name: str) -> None:
    """Every prefix gives a beginning of the whole, and never a clean end unless the end was in sight."""
    stream = bytes_of(*STREAMS[name])
    whole = events(heard(name, [stream]))
    for end in range(len(stream)):
        got = events(heard(name, [stream[:end]]))
        if got[-1][0] == "DONE":
            assert any(event[0] == "F" for event in got)
            continue
        assert got.pop()[0] == "X"
        if got:
            *last, text = got.pop()
            *same, longer = whole[len(got)]
            assert last == same
            assert str(longer).startswith(str(text))
        assert got == whole[: len(got)]


def test_legacy_functions_become_tool_calls_for_others() -> None:
    out = events(translate([OPENAI["G22"]["input"].encode()]))
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
    completion = decode_completion(OPENAI[name]["input"].encode())
    assert isinstance(completion, Completion)
    assert completion.choices == (CompletionChoice(0, "A"),)
    assert completion.usage == Usage(1, 1, 2)
    assert completion.verbatim


@pytest.mark.golden
@pytest.mark.parametrize("name", ["G36"])
def test_error_in_a_body(name: str) -> None:
    body = OPENAI[name]["input"].encode()
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
    body = OPENAI[name]["input"].encode()
    assert Decoder().receive(body) == []
    failure = decode_completion(body)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureClass.SERVER
    assert failure.message == "The provider's answer is not JSON: 502 Bad Gateway"

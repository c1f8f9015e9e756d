"""The suite's shared Hypothesis strategies, and what they are cut and compared with."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from msgspec import Raw

from gwproto.wire.neutral import Chunk, Delta, ToolFragment

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.sampled_from(("", "A", "hé", "😀", "a\u2028b", 'quo"te', "\\", "\n", "{}", "[DONE]"))

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)

LINE_ENDS = st.sampled_from((b"\n", b"\r", b"\r\n"))

# Bytes that a decoder of event streams must think about.
SSE_PIECES = st.lists(
    st.sampled_from(
        (
            b"data: ",
            b"data:",
            b"data",
            b"event: x",
            b"id: 1",
            b"retry: 5",
            b": c",
            b"{}",
            b'{"a":1}',
            b"[DONE]",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\xef\xbb\xbf",
            b"\xc3",
            b"\xa9",
            b"\xff",
            b"\0",
            b" ",
            b"\xe2\x80\xa8",
        )
    ),
    max_size=30,
).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Bytes, and the same bytes in pieces, some of them empty."""
    whole = draw(data)
    points = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return whole, [whole[a:b] for a, b in zip([0, *points], [*points, len(whole)], strict=True)]


def single_cuts(data: bytes) -> Iterator[list[bytes]]:
    """Every way to deliver ``data`` in two reads, the second of which may be empty."""
    for point in range(len(data) + 1):
        yield [data[:point], data[point:]]


def bytewise(data: bytes) -> list[bytes]:
    """One byte per read."""
    return [data[i : i + 1] for i in range(len(data))]


FRAGMENTS = st.builds(
    ToolFragment,
    index=st.none() | st.integers(0, 3),
    id=st.sampled_from((None, "", "a", "b", "c")),
    name=st.sampled_from((None, "", "f", "g")),
    arguments=st.sampled_from(("", "{", "}", '"x"', "{}")),
    extra=st.sampled_from(({}, {"extra_content": Raw(b'{"s":1}')})),
)

DELTAS = st.builds(
    Delta,
    choice=st.integers(0, 2),
    role=st.booleans(),
    content=st.none() | WORDS,
    reasoning=st.none() | st.sampled_from(("", "hm")),
    refusal=st.none() | st.sampled_from(("", "no")),
    tools=st.lists(FRAGMENTS, max_size=2).map(tuple),
    finish=st.sampled_from((None, None, None, None, "stop", "length", "tool_use", "SAFETY", "weird")),
    extra=st.sampled_from(
        ({}, {"annotations": Raw(b"[]")}, {"function_call": Raw(b'{"name":"f","arguments":"{}"}')})
    ),
    choice_extra=st.sampled_from(({}, {"logprobs": Raw(b'{"content":[]}')})),
)

# Provider chunks as the neutral words have them, in any order and with any nonsense.
CHUNKS = st.builds(
    Chunk,
    deltas=st.lists(DELTAS, max_size=3).map(tuple),
    id=st.just("c1"),
    created=st.just(1),
    model=st.just("m"),
)

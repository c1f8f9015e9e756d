"""Reasoning written into the text, taken apart: in streams however they are cut, and in whole answers."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import bytewise, single_cuts
from wirestream import events, translate

from gwproto.wire.neutral import Chunk, Completion, CompletionChoice, Delta, Reading, ToolFragment
from gwproto.wire.thinking import ThinkDecoder, settled, without_thinking

TAGGED, OPENED = Reading(think_inline="tagged"), Reading(think_inline="opened")
CALL = ToolFragment(0, "c1", "f", "{}")


def read(*chunks: Chunk, opened: bool = False) -> list[Chunk]:
    """What a decoder makes of these chunks."""
    coming = iter(chunks)
    decode = ThinkDecoder(lambda data: next(coming), opened=opened)
    return [decode(b"") for _ in chunks]


def said(*pieces: str, opened: bool = False, end: Chunk | None = None) -> tuple[str, str]:
    """Reasoning and content of an answer that comes in these pieces."""
    last = Chunk((Delta(finish="stop"),)) if end is None else end
    out = read(*(Chunk((Delta(content=piece),)) for piece in pieces), last, opened=opened)
    deltas = [delta for chunk in out for delta in chunk.deltas]
    return "".join(d.reasoning or "" for d in deltas), "".join(d.content or "" for d in deltas)


G40 = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"<thi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"nk>why</th"},"finish_reason":null}]}\n\n'
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"ink>\\n\\n4"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


class TestStreams:
    def test_the_golden_stream(self) -> None:
        expected: list[list[Any]] = [["R", 0], ["T", 0, "why"], ["C", 0, "4"], ["F", 0, "stop"], ["DONE", 0]]
        whole = translate([G40], reading=TAGGED)
        assert events(whole) == expected
        assert translate(bytewise(G40), reading=TAGGED) == whole
        for reads in single_cuts(G40):
            assert translate(reads, reading=TAGGED) == whole

    def test_nobody_elses_tags_are_touched(self) -> None:
        text = events(translate([G40]))
        assert text[1] == ["C", 0, "<think>why</think>\n\n4"]

    def test_the_end_marker_gives_up_what_was_held(self) -> None:
        """A stream whose end is marked, but whose last chunk has no finish."""
        unfinished = G40.replace(b'"finish_reason":"stop"', b'"finish_reason":null')
        assert events(translate([unfinished], reading=TAGGED))[1:3] == [["T", 0, "why"], ["C", 0, "4"]]
        cut = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\ndata: [DONE]\n\n'
        assert events(translate([cut % b"<thin"], reading=TAGGED))[1] == ["C", 0, "<thin"]
        assert events(translate([cut % b"<think>x</th"], reading=TAGGED))[1] == ["T", 0, "x</th"]

    @pytest.mark.parametrize(
        ("text", "reasoning", "content"),
        [
            ("<think>why</think>4", "why", "4"),
            ("\n <think>\n\n why \n</think>\n\n4 \n", "why \n", "4 \n"),
            ("<think></think>4", "", "4"),
            ("<think>\n\n</think>\n\n4", "", "4"),
            ("<think>why", "why", ""),
            ("<think>", "", ""),
            ("<think>why</think>", "why", ""),
            ("<think>why</think> \n", "why", ""),
            ("<think>a<think>b</think>c</think>d", "a<think>b", "c</think>d"),
            ("<think>a < b </ c</think>d", "a < b </ c", "d"),
            ("<think>why</thin", "why</thin", ""),
            ("<thinking>why</thinking>", "", "<thinking>why</thinking>"),
            (" \n4", "", " \n4"),
            ("4 <think>why</think>", "", "4 <think>why</think>"),
            ("why</think>4", "", "why</think>4"),
            ("", "", ""),
            ("<", "", "<"),
        ],
    )
    def test_tagged(self, text: str, reasoning: str, content: str) -> None:
        assert said(text) == (reasoning, content)
        assert said(*text) == (reasoning, content)
        assert said(*text, end=Chunk(done=True)) == (reasoning, content)

    @pytest.mark.parametrize(
        ("text", "reasoning", "content"),
        [
            ("why</think>4", "why", "4"),
            ("\n why</think>\n4", "why", "4"),
            ("<think>why</think>4", "why", "4"),
            ("</think>4", "", "4"),
            ("why", "why", ""),
            ("<thi", "<thi", ""),
            (" ", "", ""),
            ("", "", ""),
        ],
    )
    def test_opened(self, text: str, reasoning: str, content: str) -> None:
        assert said(text, opened=True) == (reasoning, content)
        assert said(*text, opened=True) == (reasoning, content)
        assert said(*text, opened=True, end=Chunk(done=True)) == (reasoning, content)

    TEXTS = st.lists(
        st.sampled_from(("<think>", "</think>", "<th", "ink>", "</", "<", ">", "a", " ", "\n")), max_size=8
    ).map("".join)

    @given(TEXTS, st.lists(st.integers(0, 60)), st.booleans())
    def test_how_it_is_cut_makes_no_difference(self, text: str, cuts: list[int], opened: bool) -> None:
        points = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        pieces = [text[a:b] for a, b in pairwise(points)]
        assert said(*pieces, opened=opened) == said(text, opened=opened)

    @given(TEXTS, st.booleans())
    def test_as_one_text_would_be_taken_apart(self, text: str, opened: bool) -> None:
        start = text.lstrip()
        if not opened and not start.startswith("<think>"):
            assert said(*text) == ("", text)
            return
        reasoning, _, content = start.removeprefix("<think>").lstrip().partition("</think>")
        assert said(*text, opened=opened) == (reasoning, content.lstrip())

    def test_tools_end_the_waiting(self) -> None:
        text, call, end = (
            Chunk((Delta(content="<think>why</thi"),)),
            Chunk((Delta(tools=(CALL,)),)),
            Chunk((Delta(finish="tool_calls"),)),
        )
        first, second, third = read(text, call, end)
        assert first.deltas == (Delta(reasoning="why"),)
        assert second.deltas == (Delta(reasoning="</thi", tools=(CALL,)),)
        assert third is end

    def test_tools_after_thinking(self) -> None:
        text, call = Chunk((Delta(content="<think>why</think>\n"),)), Chunk((Delta(tools=(CALL,)),))
        first, second = read(text, call)
        assert first.deltas == (Delta(reasoning="why"),)
        assert second is call

    def test_reasoning_that_stands_where_it_belongs_is_kept(self) -> None:
        chunk = Chunk((Delta(content="<think>b</think>c", reasoning="a"),), verbatim=True)
        (out,) = read(chunk)
        assert out == Chunk((Delta(content="c", reasoning="ab"),))

    def test_what_is_left_alone_is_the_same_object(self) -> None:
        chunks = (Chunk((Delta(role=True),)), Chunk((Delta(content="4"),), verbatim=True), Chunk(done=True))
        assert all(new is old for new, old in zip(read(*chunks), chunks, strict=True))

    def test_choices_are_kept_apart(self) -> None:
        first = Chunk((Delta(0, content="<think>a"), Delta(1, content="<thi")))
        second = Chunk((Delta(0, content="</think>b"), Delta(1, content="ng>")))
        third = Chunk((Delta(2, content="<th"),))
        out = read(first, second, third, Chunk(done=True))
        assert [chunk.deltas for chunk in out] == [
            (Delta(0, reasoning="a"), Delta(1)),
            (Delta(0, content="b"), Delta(1, content="<thing>")),
            (Delta(2),),
            (Delta(2, content="<th"),),
        ]

    def test_an_end_marker_with_text_of_its_own(self) -> None:
        """Ollama: the last line may carry both."""
        (out,) = read(Chunk((Delta(content="<think>why</think>4"), Delta(1, content="<")), done=True))
        assert out.done
        assert out.deltas == (Delta(reasoning="why", content="4"), Delta(1), Delta(1, content="<"))

    def test_settled(self) -> None:
        """Once text has begun, text is text."""
        chunks = iter([Chunk((Delta(content=piece),)) for piece in ("<think>why</think>", " ", "4")])
        decode = ThinkDecoder(lambda data: next(chunks), opened=False)
        states = []
        for _ in range(3):
            decode(b"")
            states.append(settled(decode))
        assert states == [False, False, True]
        assert settled(lambda data: Chunk())

    def test_text_after_the_first_is_left_alone_through_a_whole_stream(self) -> None:
        stream = G40.replace(b'\\n\\n4"', b'4 <think>no</think>"')
        assert ["C", 0, "4 <think>no</think>"] in events(translate([stream], reading=TAGGED))

    def test_a_stream_that_begins_inside(self) -> None:
        stream = G40.replace(b"<thi", b"").replace(b"nk>why", b"why")
        assert events(translate([stream], reading=OPENED))[1:3] == [["T", 0, "why"], ["C", 0, "4"]]


class TestWholeAnswers:
    @staticmethod
    def apart(content: str | None, reasoning: str | None = None) -> CompletionChoice:
        answer = Completion((CompletionChoice(0, content, reasoning),), verbatim=True)
        out = without_thinking(answer)
        if out is answer:
            return answer.choices[0]
        assert not out.verbatim
        return out.choices[0]

    @pytest.mark.parametrize(
        ("text", "reasoning", "content"),
        [
            ("<think>why</think>\n\n4", "why", "4"),
            ("<think>\n\n</think>\n\n4", None, "4"),
            ("<think>why</think>", "why", None),
            ("<think>why", "why", None),
            ("why</think>4", "why", "4"),
            ("why</think>4 <think>", "why", "4 <think>"),
            ("</think>4", None, "4"),
        ],
    )
    def test_taken_apart(self, text: str, reasoning: str | None, content: str | None) -> None:
        assert self.apart(text) == CompletionChoice(0, content, reasoning)

    def test_reasoning_that_stands_where_it_belongs_is_kept(self) -> None:
        assert self.apart("<think>b</think>c", "a") == CompletionChoice(0, "c", "ab")

    @pytest.mark.parametrize("text", [None, "", "4", " 4 <think>"])
    def test_left_alone(self, text: str | None) -> None:
        answer = Completion((CompletionChoice(0, text, "T"),), verbatim=True)
        assert without_thinking(answer) is answer

    def test_one_of_two_choices(self) -> None:
        plain, thinking = CompletionChoice(0, "4"), CompletionChoice(1, "<think>why</think>4")
        out = without_thinking(Completion((plain, thinking)))
        assert out.choices == (plain, CompletionChoice(1, "4", "why"))
        assert out.choices[0] is plain

    @given(TestStreams.TEXTS)
    def test_as_in_a_stream(self, text: str) -> None:
        """With the tag that opens in place, whole answers and streams say the same."""
        choice = self.apart("<think>" + text)
        assert (choice.reasoning or "", choice.content or "") == said("<think>" + text)

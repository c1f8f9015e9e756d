"""Any provider's chunks, made what a client may rely on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from strategies import CHUNKS
from wirestream import check_chunks

from gwproto.failures import Failure, FailureClass
from gwproto.values import Usage
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.legacy import function_call, with_legacy_calls
from gwproto.wire.neutral import Chunk, Completion, CompletionChoice, Delta, ToolFragment
from gwproto.wire.normalise import Normaliser, call_id, failed_finish, map_finish

ROLE = Chunk((Delta(role=True, content=""),), "c1", 1, "m", verbatim=True)


def chunk(*deltas: Delta, **more: Any) -> Chunk:
    return Chunk(deltas, "c1", 1, "m", **more)


def text(content: str, **more: Any) -> Chunk:
    return chunk(Delta(content=content), **more)


def tool(*fragments: ToolFragment) -> Chunk:
    return chunk(Delta(tools=fragments))


def run(*chunks: Chunk, include_usage: bool = False, legacy: bool = False) -> list[Chunk]:
    normaliser = Normaliser(include_usage=include_usage, legacy_functions=legacy)
    out = [one for given_ in chunks for one in normaliser.receive(given_)]
    return out + normaliser.end(complete=True)


def calls(*chunks: Chunk) -> list[tuple[str | None, str | None, str]]:
    completion = assemble(run(ROLE, *chunks))
    return [(call.id, call.name, call.arguments) for call in completion.choices[0].tools]


def test_what_obeys_passes_as_the_same_object() -> None:
    normaliser = Normaliser(include_usage=False)
    first = ToolFragment(0, "a", "f", "")
    for one in (
        ROLE,
        text("A", verbatim=True),
        chunk(Delta(reasoning="hm"), verbatim=True),
        chunk(Delta(content="B"), Delta(refusal="no"), verbatim=True),
        chunk(Delta(tools=(first,)), verbatim=True),
        chunk(Delta(tools=(ToolFragment(0, arguments="{}"),)), verbatim=True),
    ):
        (same,) = normaliser.receive(one)
        assert same is one


def test_changed_chunks_are_not_verbatim() -> None:
    normaliser = Normaliser(include_usage=False)
    (first,) = normaliser.receive(text("A", verbatim=True))
    assert first == text("A").__class__((Delta(role=True, content="A"),), "c1", 1, "m")
    (second,) = normaliser.receive(chunk(Delta(role=True, content="B"), verbatim=True))
    assert second == text("B")
    (third,) = normaliser.receive(chunk(Delta(content="C", finish="stop"), verbatim=True))
    assert third == text("C")
    assert not any(one.verbatim for one in normaliser.end(complete=True))


def test_null_usage_is_only_for_those_who_asked() -> None:
    one = text("A", verbatim=True, null_usage=True)
    for include_usage in (True, False):
        normaliser = Normaliser(include_usage=include_usage)
        normaliser.receive(ROLE)
        (out,) = normaliser.receive(one)
        assert (out is one) is include_usage
        assert out == (one if include_usage else text("A"))


def test_a_chunk_with_usage_is_not_passed_on_with_it() -> None:
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(ROLE)
    assert normaliser.receive(text("A", usage=Usage(1, 1, 2), raw_usage=Raw(b"{}"))) == [text("A")]
    assert normaliser.usage == Usage(1, 1, 2)
    assert normaliser.end(complete=True) == [chunk(Delta(finish="stop"))]


def test_last_usage_counts_and_comes_last() -> None:
    raw = Raw(b'{"total_tokens":9}')
    out = run(
        ROLE,
        chunk(Delta(finish="stop"), usage=Usage(1, 1, 2)),
        chunk(usage=Usage(1, 8, 9), raw_usage=raw),
        include_usage=True,
    )
    assert out == [ROLE, chunk(Delta(finish="stop")), chunk(usage=Usage(1, 8, 9), raw_usage=raw)]


def test_no_usage_is_invented() -> None:
    assert run(ROLE, text("A"), chunk(Delta(finish="stop")), include_usage=True)[-1] == chunk(
        Delta(finish="stop")
    )


@pytest.mark.parametrize(
    "empty",
    [
        chunk(),
        chunk(Delta(), verbatim=True),
        chunk(Delta(content="", reasoning="", refusal="")),
        chunk(Delta(role=True)),
        Chunk(),
    ],
)
def test_empty_chunks_are_dropped(empty: Chunk) -> None:
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(ROLE)
    assert normaliser.receive(empty) == []
    assert not normaliser.content


@pytest.mark.parametrize(
    ("delta", "bears"),
    [
        (Delta(content="A"), True),
        (Delta(reasoning="A"), True),
        (Delta(refusal="A"), True),
        (Delta(tools=(ToolFragment(0, "a", "f"),)), True),
        (Delta(finish="length"), True),
        (Delta(extra={"audio": Raw(b'{"data":"x"}')}), True),
        (Delta(extra={"x": Raw(b"1")}), False),
        (Delta(choice_extra={"logprobs": Raw(b"{}")}), False),
        (Delta(role=True, content=""), False),
    ],
)
def test_what_bears_content(delta: Delta, bears: bool) -> None:
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(chunk(delta))
    assert normaliser.content is bears


def test_unknown_keys_pass() -> None:
    extra = {"annotations": Raw(b"[1]")}
    choice_extra = {"logprobs": Raw(b'{"content":[]}')}
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(ROLE)
    for one in (chunk(Delta(extra=extra)), chunk(Delta(choice_extra=choice_extra))):
        assert normaliser.receive(one) == [one]


def test_text_after_a_premature_finish_is_not_lost() -> None:
    out = run(ROLE, text("A"), chunk(Delta(finish="stop")), text("B"), chunk(Delta(finish="length")))
    assert out == [ROLE, text("A"), text("B"), chunk(Delta(finish="length"))]


def test_a_second_finish_does_not_unsay_the_first() -> None:
    finish = Delta(finish="length", choice_extra={"matched_stop": Raw(b"1")})
    assert run(ROLE, chunk(finish), chunk(Delta(finish="stop", choice_extra=finish.choice_extra))) == [
        ROLE,
        chunk(finish),
    ]


def test_choices_are_opened_in_order() -> None:
    out = run(chunk(Delta(2, content="B")), chunk(Delta(0, role=True, content="A")))
    assert out == [
        chunk(Delta(0, True), Delta(1, True), Delta(2, True, "B")),
        text("A"),
        *(chunk(Delta(index, finish="stop")) for index in range(3)),
    ]


@pytest.mark.parametrize("index", [-1, 128])
def test_impossible_choice(index: int) -> None:
    normaliser = Normaliser(include_usage=False)
    assert normaliser.receive(chunk(Delta(index, content="A"))) == []
    assert normaliser.failure is not None
    assert normaliser.failure.kind is FailureClass.SERVER


def test_failures_stop_the_stream() -> None:
    failure = Failure(FailureClass.OVERLOADED, "busy")
    normaliser = Normaliser(include_usage=True)
    assert normaliser.receive(Chunk(failure=failure)) == []
    assert normaliser.failure is failure
    assert normaliser.receive(text("A")) == []
    assert not normaliser.content


def test_a_finish_can_admit_to_a_failure() -> None:
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(ROLE)
    assert normaliser.receive(chunk(Delta(content="A", finish="insufficient_system_resource"))) == []
    assert normaliser.failure == failed_finish("insufficient_system_resource")
    assert not normaliser.finished


def test_nothing_after_the_end_marker() -> None:
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(ROLE)
    assert not normaliser.done
    assert normaliser.receive(Chunk(done=True)) == []
    assert normaliser.done
    assert normaliser.receive(text("A")) == []
    assert not normaliser.content


def test_finished_is_every_opened_choice() -> None:
    normaliser = Normaliser(include_usage=False)
    assert not normaliser.finished
    normaliser.receive(chunk(Delta(0, content="A"), Delta(1, content="B", finish="stop")))
    assert not normaliser.finished
    assert normaliser.end(complete=False) == [chunk(Delta(1, finish="stop"))]
    normaliser.receive(chunk(Delta(0, finish="stop")))
    assert normaliser.finished


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        # One call in pieces; later pieces repeat id, name, or neither.
        (
            [tool(ToolFragment(0, "a", "f", "{")), tool(ToolFragment(0, None, None, "}"))],
            [("a", "f", "{}")],
        ),
        ([tool(ToolFragment(0, "a", "f", "{")), tool(ToolFragment(0, "a", "f", "}"))], [("a", "f", "{}")]),
        ([tool(ToolFragment(0, "a", "f", "{")), tool(ToolFragment(0, "", "", "}"))], [("a", "f", "{}")]),
        # Indices that do not start at 0, or leave gaps.
        (
            [
                tool(ToolFragment(5, "a", "f", "1")),
                tool(ToolFragment(9, "b", "g", "2")),
                tool(ToolFragment(5, None, None, "3")),
            ],
            [("a", "f", "13"), ("b", "g", "2")],
        ),
        # Two calls share index 0: told apart by id and name.
        (
            [tool(ToolFragment(0, "a", "f", "{}")), tool(ToolFragment(0, "b", "f", "[]"))],
            [("a", "f", "{}"), ("b", "f", "[]")],
        ),
        # … after which index 0 is the later one, and an id still finds the earlier.
        (
            [
                tool(ToolFragment(0, "a", "f", "1"), ToolFragment(0, "b", "f", "2")),
                tool(ToolFragment(0, None, None, "3"), ToolFragment(0, "a", None, "4")),
            ],
            [("a", "f", "14"), ("b", "f", "23")],
        ),
        # A new id for each piece, without a name: the index decides.
        ([tool(ToolFragment(0, "a", "f", "{")), tool(ToolFragment(0, "z", None, "}"))], [("a", "f", "{}")]),
        # No indices: order of appearance, and the position inside one chunk.
        (
            [
                tool(ToolFragment(None, "a", "f", "1"), ToolFragment(None, "b", "g", "2")),
                tool(ToolFragment(None, None, None, "3"), ToolFragment(None, None, None, "4")),
                tool(ToolFragment(None, None, None, "5")),
            ],
            [("a", "f", "13"), ("b", "g", "245")],
        ),
        # An index that was never introduced: the call that is open.
        ([tool(ToolFragment(0, "a", "f", "1")), tool(ToolFragment(7, None, None, "2"))], [("a", "f", "12")]),
        # The same index, no ids, another name: another call once the first has its arguments.
        (
            [tool(ToolFragment(0, "a", "f", "{}")), tool(ToolFragment(0, None, "g", "[]"))],
            [("a", "f", "{}"), (call_id("c1", 1, 0, 1, "g"), "g", "[]")],
        ),
        ([tool(ToolFragment(0, "a", "f")), tool(ToolFragment(0, None, "g", "[]"))], [("a", "f", "[]")]),
        # The same index and name, no ids, in one chunk.
        (
            [tool(ToolFragment(0, "", "f", "{}"), ToolFragment(0, "", "f", "[]"))],
            [(call_id("c1", 1, 0, 0, "f"), "f", "{}"), (call_id("c1", 1, 0, 1, "f"), "f", "[]")],
        ),
        # No arguments at all.
        ([tool(ToolFragment(0, "a", "f"))], [("a", "f", "{}")]),
        # No id, no name.
        ([tool(ToolFragment(0, None, None, "1"))], [(call_id("c1", 1, 0, 0, None), "", "1")]),
    ],
)
def test_tool_calls(chunks: list[Chunk], expected: list[tuple[str, str, str]]) -> None:
    assert calls(*chunks) == expected


def test_repeated_tool_fragment_without_news_is_dropped() -> None:
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(chunk(Delta(role=True, tools=(ToolFragment(0, "a", "f", "{}"),))))
    assert normaliser.receive(tool(ToolFragment(0, "a", "f", ""))) == []


def test_unknown_keys_of_a_tool_call_pass() -> None:
    extra = {"extra_content": Raw(b'{"google":{"thought_signature":"s"}}')}
    normaliser = Normaliser(include_usage=False)
    normaliser.receive(ROLE)
    for one in (tool(ToolFragment(0, "a", "f", "{}", extra)), tool(ToolFragment(0, None, None, "", extra))):
        assert normaliser.receive(one) == [one]


def test_custom_tool_calls_get_no_arguments() -> None:
    custom = tool(
        ToolFragment(0, "a", "f", "", {"type": Raw(b'"custom"'), "custom": Raw(b'{"name":"f","input":"x"}')})
    )
    assert run(ROLE, custom) == [ROLE, custom, chunk(Delta(finish="tool_calls"))]


def test_legacy_function_call() -> None:
    first = chunk(Delta(role=True, extra={"function_call": Raw(b'{"name":"f","arguments":""}')}))
    second = chunk(Delta(extra={"function_call": Raw(b'{"arguments":"{}"}'), "x": Raw(b"1")}))
    assert run(first, second, chunk(Delta(finish="stop")), legacy=True) == [
        first,
        second,
        chunk(Delta(finish="function_call")),
    ]
    id_ = call_id("c1", 1, 0, 0, "f")
    assert run(first, second, chunk(Delta(finish="function_call"))) == [
        chunk(Delta(0, True, tools=(ToolFragment(0, id_, "f"),))),
        chunk(Delta(tools=(ToolFragment(0, arguments="{}"),), extra={"x": Raw(b"1")})),
        chunk(Delta(finish="tool_calls")),
    ]


def test_whole_answers_in_the_legacy_form() -> None:
    call, other = ToolFragment(0, "c0", "f", "{}"), ToolFragment(1, "c1", "g", "{}")
    plain = CompletionChoice(1, "A")
    calling = CompletionChoice(0, tools=(call, other), finish="tool_calls")
    cut = CompletionChoice(2, tools=(call,), finish="length")
    untouched = Completion((plain,), verbatim=True)
    assert with_legacy_calls(untouched) is untouched
    legacy = {"function_call": Raw(b'{"name":"f","arguments":"{}"}')}
    assert with_legacy_calls(Completion((calling, plain, cut), verbatim=True)) == Completion(
        (
            CompletionChoice(0, finish="function_call", extra=legacy),
            plain,
            CompletionChoice(2, finish="length", extra=legacy),
        )
    )


def test_legacy_clients_get_the_first_call() -> None:
    calls = chunk(Delta(role=True, tools=(ToolFragment(0, "a", "f"), ToolFragment(1, "b", "g", "{}"))))
    other = chunk(Delta(tools=(ToolFragment(2, "c", "h"),)))
    assert run(calls, other, chunk(Delta(finish="stop")), legacy=True) == [
        chunk(Delta(role=True, extra={"function_call": Raw(b'{"name":"f","arguments":""}')})),
        chunk(Delta(extra={"function_call": Raw(b'{"arguments":"{}"}')})),
        chunk(Delta(finish="function_call")),
    ]
    assert run(chunk(Delta(tools=(ToolFragment(0, "a", "f", "{}"),))), other, legacy=True) == [
        chunk(Delta(role=True, extra={"function_call": Raw(b'{"name":"f","arguments":"{}"}')})),
        chunk(Delta(finish="function_call")),
    ]


def test_legacy_function_call_that_is_none() -> None:
    assert function_call(Raw(b'"f"')) == ToolFragment()


@pytest.mark.parametrize(
    ("sent", "mapped"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("COMPLETE", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("function_call", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("sensitive", "content_filter"),
        ("who knows", "stop"),
    ],
)
def test_finish_reasons(sent: str, mapped: str) -> None:
    assert failed_finish(sent) is None
    assert map_finish(sent, calls=False) == mapped
    assert map_finish(sent, calls=True) == ("tool_calls" if mapped == "stop" else mapped)


def test_finish_of_legacy_functions() -> None:
    assert map_finish("stop", calls=False, function_call=True) == "function_call"
    assert map_finish("function_call", calls=False, function_call=True) == "function_call"
    assert map_finish("length", calls=False, function_call=True) == "length"


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        ("error", FailureClass.SERVER),
        ("TIMEOUT", FailureClass.TIMEOUT),
        ("insufficient_system_resource", FailureClass.OVERLOADED),
        ("MALFORMED_FUNCTION_CALL", FailureClass.TOOL_GENERATION),
    ],
)
def test_failed_finish_reasons(sent: str, kind: FailureClass) -> None:
    failure = failed_finish(sent)
    assert failure is not None
    assert failure.kind is kind


@given(st.lists(CHUNKS, max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_any_chunks_become_a_stream_a_client_can_read(
    chunks: list[Chunk], legacy: bool, include_usage: bool, complete: bool
) -> None:
    normaliser = Normaliser(include_usage=include_usage, legacy_functions=legacy)
    out = [one for given_ in chunks for one in normaliser.receive(given_)]
    assert normaliser.failure is None
    check_chunks(out + normaliser.end(complete), complete=complete)
    sent = [(delta.choice, delta.content) for one in chunks for delta in one.deltas if delta.content]
    got = [(delta.choice, delta.content) for one in out for delta in one.deltas if delta.content]
    assert got == sent


@given(st.lists(CHUNKS, max_size=8))
def test_normalising_twice_changes_nothing(chunks: list[Chunk]) -> None:
    once = run(*chunks)
    assert assemble(run(*once)) == assemble(once)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("f", "g")),
            st.lists(st.sampled_from(("{", '"a"', ":", "1", "}")), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
    st.data(),
)
def test_calls_survive_any_chunking(
    wanted: list[tuple[str, list[str]]], indexed: bool, data: st.DataObject
) -> None:
    """Ids on first fragments, and indices or order: the calls come out as they were made."""
    fragments = []
    for number, (name, pieces) in enumerate(wanted):
        index = number if indexed else None
        fragments.append(ToolFragment(index, f"id{number}", name, pieces[0]))
        fragments += [ToolFragment(index, None, None, piece) for piece in pieces[1:]]
    chunks = []
    while fragments:
        count = data.draw(st.integers(1, len(fragments))) if indexed else 1
        chunks.append(tool(*fragments[:count]))
        fragments = fragments[count:]
    assert calls(*chunks) == [
        (f"id{number}", name, "".join(pieces)) for number, (name, pieces) in enumerate(wanted)
    ]


def test_to_chunks_and_back() -> None:
    completion = Completion(
        (
            CompletionChoice(
                0, "A", "hm", None, (), "stop", {"annotations": Raw(b"[]")}, {"logprobs": Raw(b"{}")}
            ),
            CompletionChoice(1, None, None, "no", (ToolFragment(0, "a", "f", "{}"),), "tool_calls"),
        ),
        "c1",
        1,
        "m",
        Usage(1, 2, 3),
        Raw(b"{}"),
        {"system_fingerprint": Raw(b'"x"')},
    )
    assert to_chunks(completion)[-1].done
    assert assemble(run(*to_chunks(completion), include_usage=True)) == completion
    assert assemble(run(*to_chunks(Completion((CompletionChoice(0, "A"),))))) == Completion(
        (CompletionChoice(0, "A"),)
    )


def test_assemble_joins_what_comes_in_pieces() -> None:
    def extra(*texts: bytes) -> Completion:
        return assemble(
            chunk(Delta(extra={"x": Raw(one), "audio": Raw(b'{"id":"i","data":"d"}')})) for one in texts
        )

    cases = [
        (b"[1]", b"[2]", b"[1,2]"),
        (b'{"a":[1],"b":1}', b'{"a":[2],"c":3}', b'{"a":[1,2],"b":1,"c":3}'),
        (b'"s"', b'"s"', b'"s"'),
        (b"1", b"2", b"2"),
        (b"1", b"null", b"1"),
        (b'{"arguments":"a","name":"f"}', b'{"arguments":"b","name":"f"}', b'{"arguments":"ab","name":"f"}'),
    ]
    for one, other, joined in cases:
        assert extra(one, other).choices[0].extra == {
            "x": Raw(joined),
            "audio": Raw(b'{"id":"i","data":"dd"}'),
        }


def test_assemble_drops_padding() -> None:
    assert assemble([text("A", extra={"obfuscation": Raw(b'"xx"'), "y": Raw(b"1")})]).extra == {
        "y": Raw(b"1")
    }


def test_assemble_nothing() -> None:
    assert assemble([]) == Completion()

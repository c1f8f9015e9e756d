"""What holds in every format: whatever goes through one comes out meaning the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON

from gwproto.failures import Failure
from gwproto.values import Usage
from gwproto.wire.assemble import assemble, to_chunks
from gwproto.wire.dialects import DIALECTS, Dialect
from gwproto.wire.neutral import (
    UNREAD,
    ChatRequest,
    Chunk,
    Completion,
    CompletionChoice,
    Delta,
    Envelope,
    Rendering,
    ToolFragment,
)
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.request import parse_request
from gwproto.wire.translate import frames_of

ENVELOPE = Envelope("chatcmpl-1", 1, "model")
NAMES = st.sampled_from(("f", "get_weather", "search-2"))
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
ARGUMENTS = st.dictionaries(st.sampled_from(("x", "city", "é")), JSON, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)
CALLS = st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3)
EACH = pytest.mark.parametrize("name", DIALECTS)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """Answers that every format has words for: one choice, text, reasoning, calls."""
    calls = draw(CALLS)
    content = draw(st.none() | TEXT) if calls else draw(TEXT)
    tools = tuple(
        ToolFragment(number, f"call_{number}", name, arguments)
        for number, (name, arguments) in enumerate(calls)
    )
    finish = "tool_calls" if calls else draw(st.sampled_from(("stop", "length")))
    choice = CompletionChoice(0, content, draw(st.none() | TEXT), None, tools, finish)
    usage = draw(st.none() | st.just(Usage(3, 5, 8)))
    return Completion((choice,), "chatcmpl-1", 1, "model", usage)


def said(completion: Completion | Failure) -> tuple[Any, ...]:
    """What an answer says, ids aside: not every format has them."""
    assert isinstance(completion, Completion)
    (choice,) = completion.choices
    calls = [(call.name, json.loads(call.arguments)) for call in choice.tools]
    return choice.content or "", choice.reasoning or "", calls, choice.finish


def streamed(dialect: Dialect, chunks: list[Chunk]) -> Completion:
    """Chunks written as a stream of this format, and read again."""
    writer = Normaliser(include_usage=True)
    normal = [one for chunk in chunks for one in writer.receive(chunk)]
    encode = dialect.stream_encoder(ENVELOPE)
    data = b"".join(map(encode, [*normal, *writer.end(complete=True), Chunk(done=True)]))
    reader, decode, frames = (
        Normaliser(include_usage=True),
        dialect.stream_decoder(UNREAD),
        frames_of(dialect),
    )
    out: list[Chunk] = []
    for frame in frames.receive(data):
        out += reader.receive(decode(frame.data))
    assert reader.failure is None
    assert reader.done or reader.finished
    return assemble([*out, *reader.end(complete=True)])


@EACH
@given(completion=completions())
def test_an_answer_says_the_same_through_any_format(name: str, completion: Completion) -> None:
    says_the_same(name, completion)


ANSWER = Completion(
    (
        CompletionChoice(
            content="It rains.",
            reasoning="Look it up.",
            tools=(
                ToolFragment(0, "call_0", "get_weather", '{"city":"é"}'),
                ToolFragment(1, "call_1", "f", '{"x":[1]}'),
            ),
            finish="tool_calls",
        ),
    ),
    "chatcmpl-1",
    1,
    "model",
    Usage(3, 5, 8),
)
SENT: tuple[Delta, ...] = (
    Delta(role=True),
    Delta(reasoning="Look "),
    Delta(reasoning="it up."),
    Delta(content="It "),
    Delta(content="rains."),
    Delta(tools=(ToolFragment(0, "call_0", "get_weather"),)),
    Delta(tools=(ToolFragment(0, arguments='{"city":'),)),
    Delta(tools=(ToolFragment(0, arguments='"é"}'),)),
    Delta(tools=(ToolFragment(1, "call_1", "f", '{"x":[1]}'),)),
    Delta(finish="tool_calls"),
)


@EACH
def test_an_answer_of_everything_says_the_same_through_any_format(name: str) -> None:
    says_the_same(name, ANSWER)


@EACH
def test_an_answer_in_small_pieces_says_the_same_through_any_format(name: str) -> None:
    chunks = [*(Chunk((delta,)) for delta in SENT), Chunk(usage=ANSWER.usage)]
    dialect = DIALECTS[name]
    assert said(streamed(dialect, chunks)) == said(streamed(dialect, to_chunks(ANSWER)))


def says_the_same(name: str, completion: Completion) -> None:
    dialect = DIALECTS[name]
    whole = dialect.decode_completion(dialect.encode_completion(completion, ENVELOPE), UNREAD)
    stream = streamed(dialect, to_chunks(completion))
    content, reasoning, calls, finish = said(completion)
    if name == "workers_ai":
        # Its own answers have no reasoning and no finish reasons: calls tell of themselves, a limit does not.
        reasoning, finish = "", "tool_calls" if calls else "stop"
    assert said(whole) == (content, reasoning, calls, finish)
    assert said(stream) == (content, reasoning, calls, finish)
    if completion.usage is not None:
        assert isinstance(whole, Completion)
        assert whole.usage is not None
        assert whole.usage.total_tokens == 8
        assert stream.usage is not None
        assert stream.usage.total_tokens == 8


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Tool loops of several turns, every call answered."""
    messages: list[dict[str, Any]] = (
        [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    )
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXT)})
        if calls := draw(CALLS):
            asked = [
                {
                    "id": f"call_{number + place}",
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for place, (name, arguments) in enumerate(calls)
            ]
            number += len(calls)
            messages.append({"role": "assistant", "content": draw(st.none() | TEXT), "tool_calls": asked})
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT | ARGUMENTS)}
                for call in asked
            ]
        messages.append({"role": "assistant", "content": draw(TEXT)})
    messages.append({"role": "user", "content": draw(TEXT)})
    return messages


def meant(request: ChatRequest) -> list[Any]:
    """What a conversation says, in order; neighbours of one role may have become one."""
    out: list[Any] = []
    for message in json.loads(bytes(memoryview(request.fields["messages"]))):
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "\n".join(part["text"] for part in content)
        if message["role"] == "tool":
            out.append(["tool", _plain(content)])
            continue
        if content:
            out.append([message["role"], content.strip()])
        for call in message.get("tool_calls") or ():
            function = call["function"]
            out.append(["call", function["name"], json.loads(function["arguments"])])
    return out


def _plain(content: str) -> Any:
    """A tool's answer: JSON by what it says, text as ``{"result": text}``, which some formats make of it."""
    try:
        value = json.loads(content)
    except ValueError:
        value = content
    return value["result"] if isinstance(value, dict) and set(value) == {"result"} else value


@EACH
@given(messages=conversations())
def test_a_conversation_says_the_same_through_any_format(name: str, messages: list[dict[str, Any]]) -> None:
    request = parse_request(json.dumps({"messages": messages}).encode())
    assert isinstance(request, ChatRequest)
    dialect = DIALECTS[name]
    encoded = dialect.encode_request(request, Rendering(model="model"))
    again = dialect.parse_request(encoded.body, encoded.path)
    assert isinstance(again, ChatRequest), again
    assert meant(again) == meant(request)

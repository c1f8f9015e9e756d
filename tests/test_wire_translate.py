"""From one format to another without an exchange."""

import json

import pytest
from strategies import bytewise, single_cuts

from gwproto.config import Quirks
from gwproto.failures import Failure, FailureClass
from gwproto.sse.decoder import MAX_EVENT
from gwproto.wire import openai
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import Envelope, Reading, Rendering
from gwproto.wire.translate import StreamTranslator, error_body, translate_request, translate_response

OPENAI = openai.DIALECT
ENVELOPE = Envelope("id", 7, "model")
TEXT = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"A"}}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def stream(*reads: bytes, reading: Reading = Reading()) -> tuple[bytes, StreamTranslator]:  # noqa: B008 # immutable
    translator = StreamTranslator(OPENAI, OPENAI, ENVELOPE, reading)
    return b"".join([*map(translator.receive, reads), translator.end()]), translator


def test_a_stream_is_written_as_it_comes() -> None:
    translator = StreamTranslator(OPENAI, OPENAI, ENVELOPE)
    assert b'"content":"A"' in translator.receive(TEXT)
    assert translator.receive(STOP) == b""  # a finish waits for the end
    out = translator.receive(b"data: [DONE]\n\n")
    assert out.endswith(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert translator.complete
    assert translator.receive(TEXT) == translator.end() == b""


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b"data: [DONE]"])
def test_cuts_do_not_matter(end: bytes) -> None:
    whole, translator = stream(TEXT + STOP + end)
    assert translator.complete
    assert whole.count(b"[DONE]") == 1
    for reads in (*single_cuts(TEXT + STOP + end), bytewise(TEXT + STOP + end)):
        assert stream(*reads)[0] == whole


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", FailureClass.TRUNCATED),
        (TEXT, FailureClass.TRUNCATED),
        (TEXT + b'data: {"cho', FailureClass.TRUNCATED),
        (b"data: [DONE]\n\n", FailureClass.EMPTY),
        (b'data: {"error":{"message":"no","code":429}}\n\n', FailureClass.RATE_MINUTE),
        (b'data: {"choices":[{"index":0,"finish_reason":"error"}]}\n\n', FailureClass.SERVER),
        (b"data: {\n\n" + TEXT, FailureClass.SERVER),
    ],
)
def test_a_stream_that_failed_ends_in_an_error_and_without_its_end_marker(
    data: bytes, kind: FailureClass
) -> None:
    out, translator = stream(data)
    assert translator.failure is not None
    assert translator.failure.kind is kind
    assert not translator.complete
    *_, last, rest = out.split(b"\n\n")
    assert rest == b""
    assert set(json.loads(last.removeprefix(b"data: "))) == {"error"}
    assert b"[DONE]" not in out


@pytest.mark.parametrize("data", [TEXT + STOP + b"data: [DONE]\n\n", TEXT + b"data: {\n\n"])
def test_what_follows_the_verdict_changes_nothing(data: bytes) -> None:
    verdict, _ = stream(data)
    out, translator = stream(data, b"data: " + b"x" * MAX_EVENT, b"x")
    assert out == verdict
    assert translator.complete is (translator.failure is None)


@pytest.mark.parametrize("target", DIALECTS)
def test_a_failure_is_one_in_every_format(target: str) -> None:
    """What a stream that broke off becomes is read as a failure again, with the same words."""
    translator = StreamTranslator(OPENAI, DIALECTS[target], ENVELOPE)
    data = translator.receive(TEXT) + translator.receive(b'data: {"error":{"message":"busy","code":503}}\n\n')
    again = StreamTranslator(DIALECTS[target], OPENAI, ENVELOPE)
    out = again.receive(data) + again.end()
    assert again.failure is not None
    assert again.failure.message == "busy"
    assert b"[DONE]" not in out


def test_reasoning_inside_the_text() -> None:
    inline = Reading(think_inline="tagged")
    thinking = TEXT.replace(b'"A"', b'"<think>B</think>A"')
    out, _ = stream(thinking + STOP, reading=inline)
    assert b'"reasoning_content":"B"' in out
    body = (
        b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"<think>B</think>A"},"finish_reason":"stop"}]}'
    )
    answer = translate_response(body, OPENAI, OPENAI, ENVELOPE, inline)
    assert isinstance(answer, bytes)
    message = json.loads(answer)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("A", "B")
    plain = translate_response(body, OPENAI, OPENAI, ENVELOPE)
    assert isinstance(plain, bytes)
    assert b"<think>" in plain


def test_an_answer_that_is_none_is_a_failure_in_the_other_formats_words() -> None:
    failure = translate_response(b'{"error":"no"}', OPENAI, OPENAI, ENVELOPE)
    assert isinstance(failure, Failure)
    assert json.loads(error_body(failure, OPENAI))["error"]["message"] == "no"


def test_requests() -> None:
    body = b'{"messages":[{"role":"user","content":"Hi"}],"reasoning_effort":"high"}'
    request = translate_request(body, OPENAI, OPENAI, Rendering(model="m"))
    assert not isinstance(request, Failure)
    assert json.loads(request.body)["reasoning_effort"] == "high"
    fixed = translate_request(body, OPENAI, OPENAI, Rendering(model="m", effort={"reasoning_effort": "low"}))
    assert not isinstance(fixed, Failure)
    assert json.loads(fixed.body)["reasoning_effort"] == "low"
    silent = translate_request(body, OPENAI, OPENAI, Rendering(model="m", quirks=Quirks(effort=())))
    assert not isinstance(silent, Failure)
    assert b"reasoning_effort" not in silent.body
    refusal = translate_request(b"{}", OPENAI, OPENAI, Rendering(model="m"))
    assert isinstance(refusal, Failure)
    assert refusal.param == "messages"


@pytest.mark.parametrize("source", DIALECTS)
@pytest.mark.parametrize("target", DIALECTS)
def test_every_format_in_every_other(source: str, target: str) -> None:
    """A conversation with a tool goes from any format to any other and still says the same in OpenAI's."""
    body = json.dumps(
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "Q"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
                    },
                }
            ],
            "max_tokens": 50,
            "temperature": 0.5,
        }
    ).encode()
    first = translate_request(body, OPENAI, DIALECTS[source], Rendering(model="m"))
    assert not isinstance(first, Failure)
    second = translate_request(
        first.body, DIALECTS[source], DIALECTS[target], Rendering(model="m"), first.path
    )
    assert not isinstance(second, Failure)
    third = translate_request(second.body, DIALECTS[target], OPENAI, Rendering(model="m"), second.path)
    assert not isinstance(third, Failure)
    said = json.loads(third.body)
    assert [(message["role"], message["content"]) for message in said["messages"]] == [
        ("system", "S"),
        ("user", "Q"),
    ]
    assert [tool["function"]["name"] for tool in said["tools"]] == ["f"]
    assert (said.get("max_tokens") or said.get("max_completion_tokens"), said["temperature"]) == (50, 0.5)


@pytest.mark.parametrize("target", [name for name in DIALECTS if "n" in DIALECTS[name].lacks])
def test_formats_with_one_choice_get_the_first(target: str) -> None:
    other = TEXT.replace(b'"index":0', b'"index":1').replace(b'"A"', b'"B"')
    translator = StreamTranslator(OPENAI, DIALECTS[target], ENVELOPE)
    written = translator.receive(TEXT + other + STOP + STOP.replace(b'"index":0', b'"index":1'))
    back = StreamTranslator(DIALECTS[target], OPENAI, ENVELOPE)
    said = back.receive(written + translator.end()) + back.end()
    assert back.complete
    assert said.count(b'"content":"A"') == 1
    assert b'"content":"B"' not in said


def test_what_cannot_be_said_is_named() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    fields = {"n": 2, "logprobs": True, "store": True}
    body = json.dumps({"messages": [{"role": "user", "content": [part]}], **fields}).encode()
    request = translate_request(body, OPENAI, DIALECTS["anthropic"], Rendering(model="m"))
    assert not isinstance(request, Failure)
    assert request.dropped == ("store", "audio", "logprobs", "n")
    quirks = Quirks(lacks=frozenset(["n", "logprobs"]), drop=frozenset(["logprobs"]))
    request = translate_request(body, OPENAI, OPENAI, Rendering(model="m", quirks=quirks))
    assert not isinstance(request, Failure)
    assert request.dropped == ("logprobs", "n")

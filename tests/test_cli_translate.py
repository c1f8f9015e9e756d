"""``gwproto translate``: a pipe through the codecs."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gwproto_cli import main

GOLDENS = Path(__file__).parent / "goldens"
REQUEST = {"messages": [{"role": "developer", "content": "S"}], "seed": 3, "store": True}
ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"A"},"finish_reason":"stop"}]}'
)
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"A"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


class Pipe:
    """Standard input, cut into reads of one byte, and what came out of the others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, data: bytes, *argv: str) -> tuple[int, str, str]:
        stream = io.BytesIO(data)
        bytewise = SimpleNamespace(read=stream.read, read1=lambda _: stream.read(1))
        self._monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=bytewise))
        status = main(["translate", *argv])
        return status, *self._capfd.readouterr()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Pipe:
    return Pipe(monkeypatch, capfd)


OPENAI = ("--from", "openai", "--to", "openai")


@pytest.mark.parametrize("flag", [("--stream",), ()])
def test_a_stream(pipe: Pipe, flag: tuple[str, ...]) -> None:
    status, out, err = pipe(EVENTS, *OPENAI, *flag)
    assert (status, err) == (0, "")
    *events, last, rest = out.split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    assert json.loads(events[0][6:])["id"] == "translated"


def test_a_stream_that_breaks_off(pipe: Pipe) -> None:
    status, out, err = pipe(EVENTS[:80], *OPENAI, "--stream")
    assert status == 1
    assert "[DONE]" not in out
    assert err == "stream: truncated: The stream broke off.\n"


@pytest.mark.parametrize("flag", [("--response",), ()])
def test_an_answer(pipe: Pipe, flag: tuple[str, ...]) -> None:
    status, out, err = pipe(ANSWER, *OPENAI, *flag)
    assert (status, err) == (0, "")
    assert json.loads(out)["choices"][0]["message"]["content"] == "A"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        (
            "workers_ai",
            {"result": {"response": "A"}, "success": True, "errors": [], "messages": []},
        ),
        (
            "anthropic",
            {
                "content": [
                    {"type": "text", "text": "A"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"messages": []}},
                ],
                "stop_reason": "tool_use",
            },
        ),
    ],
)
def test_answers_that_speak_of_messages(pipe: Pipe, source: str, answer: object) -> None:
    status, out, err = pipe(json.dumps(answer).encode(), "--from", source, "--to", "openai")
    assert (status, err) == (0, "")
    assert json.loads(out)["choices"][0]["message"]["content"] == "A"


def test_an_error(pipe: Pipe) -> None:
    status, out, err = pipe(b'{"error":{"message":"no","code":"1113"}}', *OPENAI, "--provider", "zai")
    assert status == 1
    assert json.loads(out)["error"]["message"] == "no"
    assert err == "response: credits: no\n"


@pytest.mark.parametrize("flag", [("--request",), ()])
def test_a_request_as_a_provider_gets_it(pipe: Pipe, flag: tuple[str, ...]) -> None:
    text = json.dumps(REQUEST).encode()
    status, out, err = pipe(text, *OPENAI, *flag, "--provider", "mistral", "--model", "mistral-large")
    assert status == 0
    assert json.loads(out) == {
        "messages": [{"role": "system", "content": "S"}],
        "random_seed": 3,
        "model": "mistral-large-latest",  # by the catalog's name as well as by the provider's
    }
    assert err == "POST …/chat/completions\ndropped: store\n"


@pytest.mark.parametrize("target", ["openai", "anthropic", "cohere", "ollama"])
def test_a_request_keeps_its_model(pipe: Pipe, target: str) -> None:
    text = b'{"model":"m1","messages":[{"role":"user","content":"Q"}]}'
    assert json.loads(pipe(text, "--from", "openai", "--to", target)[1])["model"] == "m1"
    assert json.loads(pipe(text, "--from", "openai", "--to", target, "--model", "m2")[1])["model"] == "m2"


@pytest.mark.parametrize(("model", "effort"), [("groq-gpt-oss-20b", "high"), ("groq-llama-3.1-8b", None)])
def test_effort_is_for_models_that_reason(pipe: Pipe, model: str, effort: str | None) -> None:
    text = b'{"messages":[{"role":"user","content":"Q"}],"reasoning_effort":"max"}'
    out = pipe(text, *OPENAI, "--provider", "groq", "--model", model)[1]
    assert json.loads(out).get("reasoning_effort") == effort


def test_a_request_that_is_broken(pipe: Pipe) -> None:
    status, _, err = pipe(b'{"messages":[],}', *OPENAI)
    assert status == 1
    assert err.startswith("request: invalid: The request body could not be parsed as JSON")


def test_a_request_that_is_refused(pipe: Pipe) -> None:
    status, out, err = pipe(b'{"messages":[]}', *OPENAI)
    assert status == 1
    assert json.loads(out)["error"]["param"] == "messages"
    assert err.startswith("messages: invalid: ")


def test_nothing_dropped_is_not_mentioned(pipe: Pipe) -> None:
    assert pipe(b'{"messages":[{"role":"user","content":"Q"}]}', *OPENAI)[2] == "POST …/chat/completions\n"


def test_unknown_names(pipe: Pipe) -> None:
    status, out, err = pipe(b"", "--from", "open", "--to", "ai", "--provider", "mistrall")
    assert (status, out) == (1, "")
    one, other, provider = err.splitlines()
    assert one.startswith("--from: open is none of the formats known: openai")
    assert other.startswith("--to: ai is none")
    assert provider == "--provider: unknown provider mistrall; the nearest known one is mistral"


@pytest.mark.parametrize("source", ["openai", "gemini", "anthropic", "workers_ai", "cohere", "ollama"])
def test_every_formats_recorded_streams(pipe: Pipe, source: str) -> None:
    """Every recorded stream that completes comes out as OpenAI's, as if all its bytes came alone."""
    goldens = [
        one
        for one in json.loads((GOLDENS / f"{source}.json").read_text())
        if isinstance(one["expected"], list)
    ]
    complete = [
        one["input"]
        for one in goldens
        if one["expected"][-1:] == [["DONE", 0]] and all(event[0] != "X" for event in one["expected"])
    ]
    assert complete
    for text in complete:
        status, out, err = pipe(text.encode(), "--from", source, "--to", "openai", "--stream")
        assert (status, err) == (0, "")
        assert out.count("data: [DONE]") == 1
        assert out.endswith("data: [DONE]\n\n")


def test_the_command_itself_writes_while_it_reads() -> None:
    command = [sys.executable, "-m", "gwproto_cli", "translate", *OPENAI, "--stream"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first, rest = EVENTS.split(b"\n\n", 1)
        process.stdin.write(first + b"\n\n")
        process.stdin.flush()
        assert b'"content":"A"' in process.stdout.readline()  # the input is still open
        out, _ = process.communicate(rest)
        assert out.endswith(b"data: [DONE]\n\n")
        assert process.returncode == 0

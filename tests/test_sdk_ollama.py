"""The ollama package against the simulated provider of its format."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ollama import ChatResponse, Client, ResponseError

from gwproto.testing import Knobs
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(7)).decode()
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ollama(name: str, **knobs: Any) -> Provider:
    return Provider(name, Knobs(**knobs), ("mock", "llama3.2:3b"), "ollama")


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, str]]:
    providers = [
        ollama("good"),
        ollama("locked", api_key="secret"),
        ollama("breaking", first_event_error=True),
        *(ollama(f"failing-{status}", status=status) for status in (400, 401, 403, 404, 429, 500, 503)),
    ]
    with hosting(providers) as urls:
        yield {provider.name: url for provider, url in zip(providers, urls, strict=True)}


@pytest.fixture
def client(hosts: dict[str, str]) -> Iterator[Client]:
    with Client(hosts["good"]) as client:
        yield client


def says(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, **more}]


def whole(client: Client, **request: Any) -> ChatResponse:
    answer: ChatResponse = client.chat("mock", **request)
    return answer


def streamed(client: Client, **request: Any) -> ChatResponse:
    """The parts of a stream as the one answer they make."""
    *parts, last = client.chat("mock", stream=True, **request)
    assert not any(part.done for part in parts)
    for part in parts:
        assert part.model == last.model
        last.message.content = (last.message.content or "") + (part.message.content or "")
        last.message.thinking = (last.message.thinking or "") + (part.message.thinking or "") or None
        last.message.tool_calls = [*(last.message.tool_calls or ()), *(part.message.tool_calls or ())] or None
    return last


both = pytest.mark.parametrize("chat", [whole, streamed])
Chat = Callable[..., ChatResponse]


@both
def test_an_answer(client: Client, chat: Chat) -> None:
    answer = chat(client, messages=says("Good morning"))
    assert answer.message.role == "assistant"
    assert answer.message.content == 'You said "Good morning", and good heard you.'
    assert answer.message.thinking is None
    assert answer.model == "mock"
    assert answer.created_at is not None
    assert answer.created_at.endswith("Z")
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (2, 12)
    assert answer.total_duration


@both
def test_tools_round_trip(client: Client, chat: Chat) -> None:
    messages: list[Any] = says("How is it in Paris?")
    answer = chat(client, messages=messages, tools=[WEATHER])
    assert answer.done_reason == "stop"
    (call,) = answer.message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    messages += [answer.message, {"role": "tool", "content": "sunny", "tool_name": "get_weather"}]
    assert chat(client, messages=messages, tools=[WEATHER]).message.content == (
        "The tool answered sunny, says good."
    )


@both
def test_thinking(client: Client, chat: Chat) -> None:
    assert (chat(client, messages=says("Hm"), think=True).message.thinking or "").endswith(
        "medium effort will do."
    )
    assert (chat(client, messages=says("Hm"), think="high").message.thinking or "").endswith(
        "high effort will do."
    )
    assert chat(client, messages=says("Hm"), think=False).message.thinking is None


@both
def test_images(client: Client, chat: Chat) -> None:
    answer = chat(client, messages=says("What is it?", images=[PIXEL]))
    assert answer.message.content == ('You said "What is it?", and good saw image/png of 20 characters.')


@both
def test_json(client: Client, chat: Chat) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert chat(client, messages=says("n"), format=schema).message.content == '{"n":7}'
    assert chat(client, messages=says("n"), format="json").message.content == '{"echo":"n","by":"good"}'


@both
def test_options(client: Client, chat: Chat) -> None:
    cut = chat(client, messages=says("Hi"), options={"num_predict": 3, "temperature": 0.1, "num_ctx": 8192})
    assert (cut.message.content, cut.done_reason) == ('You said "', "length")
    stopped = chat(client, messages=says("Hi"), options={"stop": ["Hi"]})
    assert (stopped.message.content, stopped.done_reason) == ('You said "', "stop")


def test_logprobs(client: Client) -> None:
    answer = whole(client, messages=says("Hi"), logprobs=True, options={"num_predict": 2})
    assert [token.token for token in answer.logprobs or ()] == ["You", " said"]
    parts = list(client.chat("mock", stream=True, messages=says("Hi"), logprobs=True))
    assert [token.token for part in parts for token in part.logprobs or ()][:2] == ["You", " said"]


def test_models(client: Client) -> None:
    assert [model.model for model in client.list().models] == ["mock", "llama3.2:3b"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "json: cannot unmarshal"),
        ({"messages": says("x", images=["no base64"])}, "illegal base64 data"),
        ({"messages": says("x"), "think": "very"}, "json: cannot unmarshal"),
        ({"messages": says("x"), "top_logprobs": 21}, "json: cannot unmarshal"),
        ({"messages": []}, "json: cannot unmarshal"),
    ],
)
def test_refusals(client: Client, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(ResponseError, match=words) as caught:
        whole(client, **request_)
    assert caught.value.status_code == 400


def test_unknown_model(client: Client) -> None:
    with pytest.raises(ResponseError) as caught:
        list(client.chat("gone", messages=says("x"), stream=True))
    assert caught.value.status_code == 404
    assert caught.value.error == 'model "gone" not found, try pulling it first'


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@both
def test_errors(hosts: dict[str, str], chat: Chat, status: int) -> None:
    with Client(hosts[f"failing-{status}"]) as client, pytest.raises(ResponseError) as caught:
        chat(client, messages=says("x"))
    assert caught.value.status_code == status
    assert "{" not in caught.value.error


def test_an_error_inside_a_stream(hosts: dict[str, str]) -> None:
    with Client(hosts["breaking"]) as client, pytest.raises(ResponseError, match="unexpected EOF"):
        streamed(client, messages=says("x"))


def test_keys(hosts: dict[str, str]) -> None:
    with Client(hosts["locked"], headers={"authorization": "Bearer secret"}) as client:
        assert whole(client, messages=says("x")).done
    with Client(hosts["locked"]) as client, pytest.raises(ResponseError, match="unauthorized"):
        whole(client, messages=says("x"))

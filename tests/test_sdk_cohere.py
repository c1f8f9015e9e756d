"""The cohere package against the simulated provider of its format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError

from gwproto.testing import Knobs
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ERRORS: dict[int, type[ApiError]] = {
    400: cohere.BadRequestError,
    401: cohere.UnauthorizedError,
    402: ApiError,
    403: cohere.ForbiddenError,
    404: cohere.NotFoundError,
    422: cohere.UnprocessableEntityError,
    429: cohere.TooManyRequestsError,
    498: cohere.InvalidTokenError,
    500: cohere.InternalServerError,
    501: cohere.NotImplementedError,
    503: cohere.ServiceUnavailableError,
    504: cohere.GatewayTimeoutError,
}


def simulated(name: str, **knobs: Any) -> Provider:
    return Provider(name, Knobs(**knobs), ("mock",), "cohere")


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, str]]:
    providers = [
        simulated("good"),
        simulated("locked", api_key="secret"),
        simulated("breaking", first_event_error=True),
        *(simulated(f"failing-{status}", status=status) for status in ERRORS),
    ]
    with hosting(providers) as urls:
        yield {provider.name: url for provider, url in zip(providers, urls, strict=True)}


@contextmanager
def connected(url: str, key: str = "any") -> Iterator[cohere.ClientV2]:
    """The package adds ``/v2`` by itself, and never closes a connection by itself."""
    with httpx.Client() as http:
        yield cohere.ClientV2(key, base_url=url.removesuffix("/v2"), max_retries=0, httpx_client=http)


@pytest.fixture
def client(hosts: dict[str, str]) -> Iterator[cohere.ClientV2]:
    with connected(hosts["good"]) as client:
        yield client


def says(text: Any) -> list[Any]:
    return [{"role": "user", "content": text}]


class Said:
    """An answer in short, however it came."""

    def __init__(self) -> None:
        self.text = self.thinking = self.plan = ""
        self.calls: list[dict[str, Any]] = []
        self.finish: Any = None
        self.tokens: tuple[Any, Any] = (None, None)
        self.logprobs: list[str] = []


def whole(client: cohere.ClientV2, **request: Any) -> Said:
    answer = client.chat(model="mock", **request)
    said = Said()
    for part in answer.message.content or ():
        said.text += getattr(part, "text", "")
        said.thinking += getattr(part, "thinking", "")
    said.plan = answer.message.tool_plan or ""
    for call in answer.message.tool_calls or ():
        assert call.function is not None
        function = {"name": call.function.name, "arguments": call.function.arguments}
        said.calls.append({"id": call.id, "type": "function", "function": function})
    said.finish = answer.finish_reason
    assert answer.usage is not None
    assert answer.usage.tokens is not None
    said.tokens = (answer.usage.tokens.input_tokens, answer.usage.tokens.output_tokens)
    said.logprobs = [item.text or "" for item in answer.logprobs or ()]
    return said


def streamed(client: cohere.ClientV2, **request: Any) -> Said:
    said = Said()
    for event in client.chat_stream(model="mock", **request):
        one: Any = event
        if one.type == "content-delta":
            said.text += one.delta.message.content.text or ""
            said.thinking += one.delta.message.content.thinking or ""
            said.logprobs += [one.logprobs.text] if one.logprobs else []
        elif one.type == "tool-plan-delta":
            said.plan += one.delta.message.tool_plan
        elif one.type == "tool-call-start":
            said.calls.append(one.delta.message.tool_calls.model_dump())
        elif one.type == "tool-call-delta":
            piece = one.delta.message.tool_calls.function.arguments
            said.calls[one.index]["function"]["arguments"] += piece
        elif one.type == "message-end":
            if one.delta.error:
                raise RuntimeError(one.delta.error)
            said.finish = one.delta.finish_reason
            said.tokens = (one.delta.usage.tokens.input_tokens, one.delta.usage.tokens.output_tokens)
    return said


Chat = Callable[..., Said]
both = pytest.mark.parametrize("chat", [whole, streamed])


@both
def test_an_answer(client: cohere.ClientV2, chat: Chat) -> None:
    answer = chat(client, messages=says("Good morning"))
    assert answer.text == 'You said "Good morning", and good heard you.'
    assert (answer.thinking, answer.plan, answer.calls) == ("", "", [])
    assert answer.finish == "COMPLETE"
    assert answer.tokens == (502, 12)


@both
def test_tools_round_trip(client: cohere.ClientV2, chat: Chat) -> None:
    messages = says("How is it in Paris?")
    answer = chat(
        client, messages=messages, tools=[WEATHER], tool_choice="REQUIRED", thinking={"type": "enabled"}
    )
    assert answer.finish == "TOOL_CALL"
    assert answer.plan.endswith("high effort will do.")
    (call,) = answer.calls
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Paris"}'}
    messages += [
        {"role": "assistant", "tool_calls": answer.calls, "tool_plan": answer.plan},
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
    ]
    assert chat(client, messages=messages, tools=[WEATHER]).text == "The tool answered sunny, says good."
    assert chat(client, messages=says("x"), tools=[WEATHER], tool_choice="NONE").calls == []


@both
def test_thinking(client: cohere.ClientV2, chat: Chat) -> None:
    answer = chat(client, messages=says("Hm"), thinking={"type": "enabled", "token_budget": 1024})
    assert answer.thinking.endswith("1024 tokens of effort will do.")
    assert answer.text == 'You said "Hm", and good heard you.'
    assert chat(client, messages=says("Hm"), thinking={"type": "disabled"}).thinking == ""


@both
def test_images(client: cohere.ClientV2, chat: Chat) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    assert chat(client, messages=says(parts)).text == (
        'You said "What is it?", and good saw image/png of 4 characters, https://example.com/a.png.'
    )


@both
def test_json(client: cohere.ClientV2, chat: Chat) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    formed = chat(client, messages=says("n"), response_format={"type": "json_object", "json_schema": schema})
    assert formed.text == '{"n":7}'
    free = chat(client, messages=says("n"), response_format={"type": "json_object"})
    assert free.text == '{"echo":"n","by":"good"}'


@both
def test_options(client: cohere.ClientV2, chat: Chat) -> None:
    cut = chat(client, messages=says("Hi"), max_tokens=3, temperature=0.1, p=0.5, k=10, seed=1)
    assert (cut.text, cut.finish) == ('You said "', "MAX_TOKENS")
    stopped = chat(client, messages=says("Hi"), stop_sequences=["Hi"], frequency_penalty=0.5)
    assert (stopped.text, stopped.finish) == ('You said "', "COMPLETE")


@both
def test_logprobs(client: cohere.ClientV2, chat: Chat) -> None:
    assert chat(client, messages=says("Hi"), logprobs=True, max_tokens=2).logprobs == ["You", " said"]


def test_models(client: cohere.ClientV2) -> None:
    assert [model.name for model in client.models.list().models] == ["mock"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"messages": []}, cohere.UnprocessableEntityError),
        ({"messages": [{"role": "robot", "content": "x"}]}, cohere.UnprocessableEntityError),
        ({"messages": says("x"), "p": 1.0}, cohere.UnprocessableEntityError),
        ({"messages": says("x"), "presence_penalty": -0.5}, cohere.UnprocessableEntityError),
        ({"messages": says("x"), "tool_choice": "REQUIRED"}, cohere.BadRequestError),
        ({"messages": [*says("x"), {"role": "assistant"}]}, cohere.BadRequestError),
        (
            {"messages": [*says("x"), {"role": "tool", "tool_call_id": "a", "content": "1"}]},
            cohere.BadRequestError,
        ),
        (
            {"messages": says("x"), "tools": [WEATHER], "response_format": {"type": "json_object"}},
            cohere.BadRequestError,
        ),
    ],
)
def test_refusals(client: cohere.ClientV2, request_: dict[str, Any], error: type[ApiError]) -> None:
    with pytest.raises(error, match="invalid request"):
        whole(client, **request_)


def test_unknown_model(client: cohere.ClientV2) -> None:
    with pytest.raises(cohere.NotFoundError, match="model 'gone' not found"):
        client.chat(model="gone", messages=says("x"))


@pytest.mark.parametrize("status", ERRORS)
@both
def test_errors(hosts: dict[str, str], chat: Chat, status: int) -> None:
    with connected(hosts[f"failing-{status}"]) as client, pytest.raises(ERRORS[status]) as caught:
        chat(client, messages=says("x"))
    assert caught.value.status_code == status
    assert set(caught.value.body) == {"id", "message"}


def test_an_error_inside_a_stream(hosts: dict[str, str]) -> None:
    with connected(hosts["breaking"]) as client, pytest.raises(RuntimeError, match="internal server error"):
        streamed(client, messages=says("x"))


def test_keys(hosts: dict[str, str]) -> None:
    with connected(hosts["locked"], "secret") as client:
        assert whole(client, messages=says("x")).finish == "COMPLETE"
    with (
        connected(hosts["locked"], "wrong") as client,
        pytest.raises(cohere.UnauthorizedError, match="invalid api token"),
    ):
        whole(client, messages=says("x"))

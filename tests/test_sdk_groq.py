"""The groq package against the simulated provider: what the official client sends is taken, and understood."""

import json
from collections.abc import Iterator
from typing import Any

import groq
import pytest
from groq import Groq

from gwproto.testing import Knobs
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

KEY = "gsk_test"
MODEL = "openai/gpt-oss-120b"
PARAMETERS: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


class Service:
    """A provider and a client of it."""

    def __init__(self, provider: Provider, client: Groq) -> None:
        self.provider = provider
        self.client = client

    def ask(self, messages: Any, **more: Any) -> Any:
        """The message of a whole answer, and its finish; ``messages``: one may be just its text."""
        answer = self.client.chat.completions.create(**asked(messages, more))
        return answer.choices[0].message, answer.choices[0].finish_reason

    def stream(self, messages: Any, **more: Any) -> Any:
        """The same from a stream."""
        content = reasoning = ""
        calls: dict[int, Any] = {}
        finishes = []
        for chunk in self.client.chat.completions.create(stream=True, **asked(messages, more)):
            (choice,) = chunk.choices
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or ():
                if call.index in calls:
                    calls[call.index].function.arguments += call.function.arguments
                else:
                    calls[call.index] = call
            finishes += [choice.finish_reason] if choice.finish_reason else []
        (finish,) = finishes
        message = choice.delta.model_copy(
            update={"content": content, "reasoning_content": reasoning, "tool_calls": list(calls.values())}
        )
        return message, finish


def asked(messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return {"model": MODEL, "messages": messages} | more


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    provider = Provider("sim", Knobs(api_key=KEY), models=(MODEL,))
    with (
        hosting([provider]) as (url,),
        Groq(base_url=url.removesuffix("/v1"), api_key=KEY, max_retries=0) as client,
    ):
        yield Service(provider, client)


@pytest.fixture(params=["ask", "stream"])
def ask(service: Service, request: pytest.FixtureRequest) -> Any:
    return getattr(service, request.param)


def test_text(service: Service, ask: Any) -> None:
    message, finish = ask("Good morning")
    assert message.content == 'You said "Good morning", and sim heard you.'
    assert finish == "stop"
    sent = service.provider.received[-1]
    assert sent.target == "/openai/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"


def test_usage(service: Service) -> None:
    answer = service.client.chat.completions.create(**asked("Good morning", {}))
    assert answer.model == MODEL
    assert answer.usage.prompt_tokens == 2
    assert answer.usage.total_tokens == 2 + answer.usage.completion_tokens


def test_limits_and_effort(ask: Any) -> None:
    message, finish = ask("Good morning", max_completion_tokens=3)
    assert (message.content, finish) == ('You said "', "length")
    message, _ = ask("Good morning", stop=[", and"], reasoning_effort="low")
    assert message.content == 'You said "Good morning"'
    assert "low effort" in message.reasoning_content


def test_a_tool_and_its_result(ask: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "Weather in Paris"}]
    message, finish = ask(messages, tools=[WEATHER], tool_choice="auto", parallel_tool_calls=False)
    assert finish == "tool_calls"
    (call,) = message.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Paris", "days": 7}
    messages += [
        {
            "role": "assistant",
            "tool_calls": [{"id": call.id, "type": "function", "function": call.function.to_dict()}],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    message, finish = ask(messages, tools=[WEATHER])
    assert (message.content, finish) == ("The tool answered sunny, says sim.", "stop")


def test_json(ask: Any) -> None:
    schema = {"name": "weather", "schema": PARAMETERS, "strict": True}
    message, _ = ask("Paris", response_format={"type": "json_schema", "json_schema": schema})
    assert json.loads(message.content) == {"city": "Paris", "days": 7}
    message, _ = ask("Paris", response_format={"type": "json_object"})
    assert json.loads(message.content) == {"echo": "Paris", "by": "sim"}


def test_an_image(ask: Any) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    message, _ = ask([{"role": "user", "content": [{"type": "text", "text": "Look"}, image]}])
    assert message.content == 'You said "Look", and sim saw image/png of 4 characters.'


def test_models(service: Service) -> None:
    (model,) = service.client.models.list().data
    assert (model.id, model.owned_by) == (MODEL, "sim")
    assert service.provider.received[-1].target == "/openai/v1/models"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, groq.BadRequestError),
        (401, groq.AuthenticationError),
        (403, groq.PermissionDeniedError),
        (404, groq.NotFoundError),
        (422, groq.UnprocessableEntityError),
        (429, groq.RateLimitError),
        (500, groq.InternalServerError),
        (503, groq.InternalServerError),
    ],
)
def test_errors(service: Service, ask: Any, status: int, kind: type[groq.APIStatusError]) -> None:
    service.provider.knobs = Knobs(api_key=KEY, status=status)
    try:
        with pytest.raises(kind) as caught:
            ask("hello")
    finally:
        service.provider.knobs = Knobs(api_key=KEY)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body["error"]) == {"message", "type", "param", "code"}


def test_a_wrong_key_and_a_wrong_model(service: Service, ask: Any) -> None:
    with pytest.raises(groq.NotFoundError, match="does not exist"):
        ask("hello", model="other")
    with pytest.raises(groq.AuthenticationError):
        service.client.with_options(api_key="gsk_wrong").models.list()


def test_an_error_inside_a_stream(service: Service) -> None:
    service.provider.knobs = Knobs(api_key=KEY, first_event_error=True)
    try:
        with pytest.raises(groq.APIError, match="The server had an error"):
            service.stream("hello")
    finally:
        service.provider.knobs = Knobs(api_key=KEY)

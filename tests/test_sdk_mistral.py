"""The mistralai package against the simulated provider: what the official client sends is taken, and understood."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.models import BaseModelCard
from pydantic import BaseModel

from gwproto.testing import Knobs
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

KEY = "mistral-test"
MODEL = "mistral-small-latest"
KNOBS = Knobs(
    api_key=KEY, chunk_words=100
)  # Mistral streams a call in one piece, and its client takes no other
PARAMETERS: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


class Service:
    """A provider and a client of it."""

    def __init__(self, provider: Provider, client: Mistral) -> None:
        self.provider = provider
        self.client = client

    def ask(self, messages: Any, **more: Any) -> Any:
        """The message of a whole answer, and its finish; ``messages``: one may be just its text."""
        answer = self.client.chat.complete(**asked(messages, more))
        return answer.choices[0].message, answer.choices[0].finish_reason

    def stream(self, messages: Any, **more: Any) -> Any:
        """The same from a stream."""
        content = ""
        calls: dict[int, Any] = {}
        finishes = []
        with self.client.chat.stream(**asked(messages, more)) as events:
            for event in events:
                (choice,) = event.data.choices
                content += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    if call.index in calls:
                        calls[call.index].function.arguments += call.function.arguments
                    else:
                        calls[call.index] = call
                finishes += [choice.finish_reason] if choice.finish_reason else []
        (finish,) = finishes
        return choice.delta.model_copy(
            update={"content": content, "tool_calls": list(calls.values())}
        ), finish


def asked(messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return {"model": MODEL, "messages": messages} | more


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    provider = Provider("sim", KNOBS, models=(MODEL,))
    with (
        hosting([provider]) as (url,),
        Mistral(server_url=url.removesuffix("/v1"), api_key=KEY) as client,
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
    assert sent.target.partition("#")[0] == "/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"


def test_a_text_in_many_pieces(service: Service) -> None:
    service.provider.knobs = Knobs(api_key=KEY)
    try:
        with service.client.chat.stream(**asked("Good morning", {})) as events:
            pieces = [event.data.choices[0].delta.content for event in events]
    finally:
        service.provider.knobs = KNOBS
    texts = [piece for piece in pieces if isinstance(piece, str)]
    assert len(texts) > 5
    assert "".join(texts) == 'You said "Good morning", and sim heard you.'


def test_usage(service: Service) -> None:
    answer = service.client.chat.complete(**asked("Good morning", {}))
    assert answer.model == MODEL
    usage = answer.usage
    assert usage.completion_tokens
    assert (usage.prompt_tokens, usage.total_tokens) == (2, 2 + usage.completion_tokens)


def test_limits(ask: Any) -> None:
    message, finish = ask("Good morning", max_tokens=3, random_seed=7, safe_prompt=True)
    assert (message.content, finish) == ('You said "', "length")
    message, _ = ask("Good morning", stop=[", and"])
    assert message.content == 'You said "Good morning"'


@pytest.mark.parametrize("choice", ["any", "required", "auto"])
def test_a_tool_and_its_result(ask: Any, choice: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "Weather in Paris"}]
    message, finish = ask(messages, tools=[WEATHER], tool_choice=choice)
    assert finish == "tool_calls"
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris", "days": 7}
    messages += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "get_weather", "tool_call_id": call.id, "content": "sunny"},
    ]
    message, finish = ask(messages, tools=[WEATHER])
    assert (message.content, finish) == ("The tool answered sunny, says sim.", "stop")


def test_json(service: Service, ask: Any) -> None:
    class City(BaseModel):
        name: str
        people: int

    message, _ = ask("Paris", response_format={"type": "json_object"})
    assert json.loads(message.content) == {"echo": "Paris", "by": "sim"}
    schema = {"name": "weather", "schema": PARAMETERS, "strict": True}
    message, _ = ask("Paris", response_format={"type": "json_schema", "json_schema": schema})
    assert json.loads(message.content) == {"city": "Paris", "days": 7}
    parsed = service.client.chat.parse(City, **asked("Paris", {}))
    assert parsed.choices is not None
    assert parsed.choices[0].message is not None
    assert parsed.choices[0].message.parsed == City(name="Paris", people=7)


@pytest.mark.parametrize(
    "image", ["data:image/png;base64,iVBO", {"url": "data:image/png;base64,iVBO"}], ids=["text", "object"]
)
def test_an_image(ask: Any, image: object) -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": image}]
    message, _ = ask([{"role": "user", "content": parts}])
    assert message.content == 'You said "Look", and sim saw image/png of 4 characters.'


def test_models(service: Service) -> None:
    answer = service.client.models.list()
    assert answer.data is not None
    (model,) = answer.data
    assert isinstance(model, BaseModelCard)
    assert model.id == MODEL
    assert service.provider.received[-1].target == "/v1/models"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_errors(service: Service, ask: Any, status: int) -> None:
    service.provider.knobs = Knobs(api_key=KEY, status=status)
    try:
        with pytest.raises(SDKError) as caught:
            ask("hello")
    finally:
        service.provider.knobs = KNOBS
    assert caught.value.status_code == status
    assert set(json.loads(caught.value.body)["error"]) == {"message", "type", "param", "code"}


def test_a_wrong_key_and_a_wrong_model(service: Service, ask: Any) -> None:
    with pytest.raises(SDKError, match="does not exist"):
        ask("hello", model="other")
    service.provider.knobs = Knobs(api_key="another")
    try:
        with pytest.raises(SDKError, match="Incorrect API key"):
            ask("hello")
    finally:
        service.provider.knobs = KNOBS

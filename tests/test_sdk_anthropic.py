"""The anthropic package against the simulated provider: what the official client sends is taken, and understood."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from pydantic import BaseModel

from gwproto.testing import Knobs
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
IMAGE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
ADAPTIVE: Any = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}


class Service:
    """A provider and a client of it."""

    def __init__(self, provider: Provider, client: Anthropic) -> None:
        self.provider = provider
        self.client = client

    def ask(self, messages: Any, **more: Any) -> Any:
        """A whole answer; ``messages``: one may be just its text."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.client.messages.create(
            **{"model": "claude", "max_tokens": 500, "messages": messages} | more
        )

    def stream(self, messages: Any, **more: Any) -> Any:
        """The same, streamed and put together again by the client's helper."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        asked = {"model": "claude", "max_tokens": 500, "messages": messages} | more
        with self.client.messages.stream(**asked) as stream:
            return stream.get_final_message()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    provider = Provider("sim", Knobs(api_key="sk-ant-test"), models=("claude",), format="anthropic")
    with (
        hosting([provider]) as (url,),
        Anthropic(
            base_url=url.removesuffix("/v1"), api_key="sk-ant-test", max_retries=0, credentials=None
        ) as client,
    ):
        yield Service(provider, client)


@pytest.fixture(params=["ask", "stream"])
def ask(service: Service, request: pytest.FixtureRequest) -> Any:
    return getattr(service, request.param)


def test_text(service: Service, ask: Any) -> None:
    answer = ask("Good morning")
    assert answer.model == "claude"
    (block,) = answer.content
    assert block.text == 'You said "Good morning", and sim heard you.'
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens == 2
    assert answer.usage.output_tokens == 12
    sent = service.provider.received[-1]
    assert sent.headers["authorization"] == "Bearer sk-ant-test"
    assert sent.target == "/v1/messages"


def test_the_stream_of_texts(service: Service) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    with service.client.messages.stream(model="claude", max_tokens=50, messages=messages) as stream:
        texts = list(stream.text_stream)
    assert len(texts) > 5
    assert "".join(texts) == 'You said "Hi", and sim heard you.'


def test_limits(ask: Any) -> None:
    answer = ask("Good morning", max_tokens=3, system="Be brief.")
    assert answer.stop_reason == "max_tokens"
    assert answer.content[0].text == 'You said "'
    assert ask("Good morning", stop_sequences=[", and"]).content[0].text == 'You said "Good morning"'


def test_a_tool_and_its_result(ask: Any) -> None:
    """Thinking goes with the call, and must come back with it."""
    messages: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
    first = ask(messages, tools=[WEATHER], **ADAPTIVE)
    assert first.stop_reason == "tool_use"
    thinking, call = first.content
    assert thinking.thinking == "The user wrote 4 tokens; low effort will do."
    assert (call.name, call.input) == ("get_weather", {"city": "Paris", "days": 7})
    assert first.usage.output_tokens_details.thinking_tokens == 11
    messages += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
    ]
    second = ask(messages, tools=[WEATHER], **ADAPTIVE)
    assert second.content[-1].text == "The tool answered sunny, says sim."
    messages[1]["content"] = first.content[1:]
    with pytest.raises(
        anthropic.BadRequestError, match="Expected `thinking` or `redacted_thinking`, but found"
    ):
        ask(messages, tools=[WEATHER], **ADAPTIVE)
    messages[1]["content"] = [thinking.to_dict() | {"thinking": "hm"}, call]
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        ask(messages, tools=[WEATHER], **ADAPTIVE)


def test_images_and_documents(ask: Any) -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
    url = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    parts = [{"type": "text", "text": "Look"}, IMAGE, url, {"type": "document", "source": pdf}]
    answer = ask([{"role": "user", "content": parts}])
    seen = "image/png of 4 characters, https://example.com/a.png"
    assert answer.content[0].text == f'You said "Look", and sim saw {seen}.'


def test_json(service: Service) -> None:
    class City(BaseModel):
        name: str
        people: int

    messages: Any = [{"role": "user", "content": "Paris"}]
    answer = service.client.messages.parse(
        model="claude", max_tokens=50, messages=messages, output_format=City
    )
    assert answer.parsed_output == City(name="Paris", people=7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "messages: at least one message is required"),
        ({"extra_body": {"seed": 1}}, "seed: Extra inputs are not permitted"),
        ({"extra_body": {"max_tokens": None}}, "max_tokens: Expected `int`, got `null`"),
        ({"messages": [{"role": "assistant", "content": "A"}]}, 'first message must use the "user" role'),
        ({"messages": "Q", "system": [{"type": "text"}]}, "system.0.text: Field required"),
        ({"messages": " "}, "text content blocks must contain non-whitespace text"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0: user messages must have non-empty"),
        (
            {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A "}]},
            "final assistant content cannot end with trailing whitespace",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice may only be specified while providing tools"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "f"}},
            "was not found in the provided tools",
        ),
        ({"tools": [WEATHER, WEATHER]}, "Tool names must be unique"),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "input_schema.type: Field required"),
        ({"stop_sequences": [" "]}, "stop_sequences: each stop sequence must contain non-whitespace"),
        ({"extra_body": {"temperature": 0.5, "top_p": 0.5}}, "cannot both be specified"),
        ({"extra_body": {"temperature": 1.5}}, "temperature: Expected `float` <= 1.0"),
        ({**ADAPTIVE, "extra_body": {"temperature": 0.5}}, "`temperature` may only be set to 1"),
        ({**ADAPTIVE, "extra_body": {"top_k": 5}}, "`top_k` must be unset"),
        ({**ADAPTIVE, "extra_body": {"top_p": 0.5}}, "`top_p` must be at least 0.95"),
        ({**ADAPTIVE, "tools": [WEATHER], "tool_choice": {"type": "any"}}, "forces tool use"),
        (
            {"max_tokens": 1024, "thinking": {"type": "enabled", "budget_tokens": 1024}},
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        ),
        ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: Field required"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "'additionalProperties' must be explicitly set to false",
        ),
    ],
)
def test_refusals(service: Service, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        service.ask(**{"messages": "Q"} | fields)
    assert message in str(caught.value)
    assert caught.value.body["type"] == "error"  # type: ignore[index]  # the SDK says no more than object


USE: Any = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
RESULT: Any = {
    "type": "tool_result",
    "tool_use_id": "toolu_1",
    "content": [{"type": "text", "text": "7"}, IMAGE],
}


@pytest.mark.parametrize(
    ("said", "answered", "message"),
    [
        (
            [USE],
            None,
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
        ),
        ([USE], ["Q"], "`tool_use` ids were found without"),
        ([USE], ["Q", RESULT], "`tool_use` ids were found without"),
        (
            [USE],
            [RESULT, RESULT],
            "messages.2.content.1: unexpected `tool_use_id` found in `tool_result` blocks",
        ),
        (["A"], [RESULT], "messages.2.content.0: unexpected `tool_use_id` found"),
        ([USE, USE], [RESULT], "messages.1.content.1: `tool_use` ids must be unique"),
        ([USE | {"id": "a b"}], [RESULT], "messages.1.content.0.id: Expected `str` matching regex"),
        ([RESULT], ["Q"], "messages.1.content.0: `tool_result` blocks cannot be in `assistant` messages"),
        (["A"], [USE], "messages.2.content.0: `tool_use` blocks cannot be in `user` messages"),
    ],
)
def test_pairing(service: Service, said: list[Any], answered: list[Any] | None, message: str) -> None:
    def blocks(content: list[Any]) -> list[Any]:
        return [{"type": "text", "text": one} if isinstance(one, str) else one for one in content]

    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": blocks(said)}]
    if answered is not None:
        messages.append({"role": "user", "content": blocks(answered)})
    with pytest.raises(anthropic.BadRequestError) as caught:
        service.ask(messages, tools=[WEATHER])
    assert message in str(caught.value)


def test_a_result_with_an_image(ask: Any) -> None:
    messages = [
        {"role": "user", "content": "Q"},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": [USE]},
        {"role": "user", "content": [RESULT]},
    ]
    answer = ask(messages, tools=[WEATHER], tool_choice={"type": "none"})
    assert answer.content[0].text == "The tool answered 7 something, says sim."


def test_models(service: Service) -> None:
    (model,) = service.client.models.list()
    assert (model.id, model.display_name, model.lifecycle) == ("claude", "claude", "active")
    assert model.created_at.year > 2000


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (409, anthropic.ConflictError),
        (413, anthropic.APIStatusError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (503, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
def test_statuses(service: Service, status: int, error: type[anthropic.APIStatusError]) -> None:
    service.provider.adjust(b'{"status":%d}' % status)
    try:
        for ask in (service.ask, service.stream):
            with pytest.raises(error) as caught:
                ask("Hi")
            assert caught.value.status_code == status
    finally:
        service.provider.adjust(b'{"status":0}')


def test_keys_and_models(service: Service) -> None:
    own = {"x-api-key": "sk-ant-test", "authorization": "Bearer wrong"}  # what other clients send goes first
    assert [model.id for model in service.client.models.list(extra_headers=own)] == ["claude"]
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        service.ask("Hi", model="other")
    with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
        service.client.with_options(api_key="wrong").messages.create(
            model="claude", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]
        )
    with pytest.raises(anthropic.NotFoundError):
        service.client.messages.count_tokens(model="claude", messages=[{"role": "user", "content": "Hi"}])


def test_an_error_inside_a_stream(service: Service) -> None:
    service.provider.adjust(b'{"first_event_error":true}')
    try:
        with pytest.raises(anthropic.APIStatusError, match="Internal server error"):
            service.stream("Hi")
    finally:
        service.provider.adjust(b'{"first_event_error":false}')

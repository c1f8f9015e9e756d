"""The openai package, synchronous, against both servers over sockets."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI, Stream
from pydantic import BaseModel

from gwproto.testing import Knobs
from support.servers import (
    FIVE_HEADERS,
    KEY,
    RUNTIMES,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)

pytestmark = pytest.mark.sockets

SHORT = "timeouts = { first_content = 0.2, total = 0.2 }"  # seconds
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


class Service:
    """A gateway and its providers, each with models of its own and a way to fail of its own."""

    def __init__(self, gateway: GatewayProcess, providers: list[Provider]) -> None:
        self.gateway = gateway
        self.providers = {provider.name: provider for provider in providers}

    def asked(self, *names: str) -> int:
        """How many requests these providers got."""
        return sum(len(self.providers[name].received) for name in names)


@pytest.fixture(scope="module", params=RUNTIMES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    providers = [
        Provider("good", models=("mock", "mock-large")),
        Provider("throttled-a", Knobs(status=429, retry_after=7.0)),
        Provider("throttled-b", Knobs(status=429, retry_after=9.0)),
        Provider("broken-a", Knobs(status=500)),
        Provider("broken-b", Knobs(status=503)),
        Provider("slow", Knobs(stall_after=0)),
        Provider("locked", Knobs(api_key="another")),
        Provider("breaking", Knobs(reset_after=3)),
        Provider("endless", Knobs(stall_after=3)),
        Provider("half", Knobs(no_finish=True, no_done=True)),
    ]
    more = """
    [retry]
    max_attempts = 2
    [timeouts]
    idle = 20.0
    [aliases]
    gpt-4o-mini = ["mock"]
    throttled = ["throttled-a-model", "throttled-b-model"]
    broken = ["broken-a-model", "broken-b-model"]
    """
    with (
        hosting(providers) as urls,
        serving(
            tmp_path_factory.mktemp("gateway"),
            request.param,
            configuration(providers, urls, more, slow=SHORT),
        ) as gateway,
    ):
        yield Service(gateway, providers)


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(base_url=service.gateway.base_url, api_key=KEY, max_retries=2) as client:
        yield client


@pytest.fixture
def delays(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between the client's own retries, which take no time here."""
    import openai._base_client

    made: list[float] = []

    class Time:
        sleep = staticmethod(made.append)

    monkeypatch.setattr(openai._base_client, "time", Time)
    return made


def says(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_completion(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="mock", messages=says("Good morning"))
    assert answer.object == "chat.completion"
    assert answer.model == "mock"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == 'You said "Good morning", and good heard you.'
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer._request_id


def test_a_stream(client: OpenAI) -> None:
    with client.chat.completions.create(model="mock", messages=says("hello"), stream=True) as stream:
        chunks = list(stream)
    assert [len(chunk.choices) for chunk in chunks] == [1] * len(chunks)
    assert len({(chunk.id, chunk.model, chunk.created) for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == 'You said "hello", and good heard you.'
    assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    finishes = [chunk.choices[0].finish_reason for chunk in chunks]
    assert finishes == [None] * (len(finishes) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_of_a_stream_comes_last_and_alone(client: OpenAI) -> None:
    with client.chat.completions.create(
        model="mock", messages=says("hello"), stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = list(stream)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert [len(chunk.choices) for chunk in chunks] == [1] * len(chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_the_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model="mock", messages=says("hello")) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert kinds == {"chunk", "content.delta", "content.done"}
    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].message.content == 'You said "hello", and good heard you.'
    assert final.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("streamed", [False, True])
def test_the_raw_response_tells_what_happened(client: OpenAI, streamed: bool) -> None:
    raw: Any = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=says("hello"),
        stream=streamed,
        reasoning_effort="high",
        extra_headers={"x-gateway-force-provider": "good"},
        extra_body={"project_id": "tests"},
    )
    assert all(raw.headers[name] for name in FIVE_HEADERS)
    assert raw.headers["x-gateway-provider"] == "good"
    assert raw.headers["x-gateway-model"] in ("mock", "mock-large")
    assert raw.headers["x-gateway-attempts"] == "1"
    assert raw.headers["x-gateway-reasoning-effort"] == "high"
    assert raw.request_id == raw.headers["x-request-id"] == raw.headers["x-gateway-request-id"]
    assert raw.retries_taken == 0
    parsed = raw.parse()
    last = list(parsed)[-1] if isinstance(parsed, Stream) else parsed
    assert last.choices[0].finish_reason == "stop"


def test_the_provider_gets_what_the_client_sent_and_no_more(client: OpenAI, service: Service) -> None:
    client.chat.completions.create(
        model="gpt-4o-mini",
        messages=says("hello"),
        temperature=0.25,
        seed=7,
        user="someone",
        metadata={"a": "b"},
        extra_body={"project_id": "tests", "x_gateway": {"require_params": False}, "top_k": 3},
    )
    received = service.providers["good"].received[-1]
    assert received.body == {
        "model": "mock",
        "messages": says("hello"),
        "temperature": 0.25,
        "seed": 7,
        "user": "someone",
        "metadata": {"a": "b"},
        "top_k": 3,
    }
    assert "authorization" not in received.headers  # the client's key is not for providers
    assert not [name for name in received.headers if name.startswith("x-")]


def test_a_tool_is_called_and_its_result_used(client: OpenAI) -> None:
    """Two turns, the first one's answer sent back as it came."""
    messages = says("What will the weather be in Oslo")
    asked = client.chat.completions.create(model="mock", messages=messages, tools=[WEATHER])
    assert asked.choices[0].finish_reason == "tool_calls"
    message = asked.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo", "days": 7}
    messages += [message.model_dump(exclude_none=True)]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    told = client.chat.completions.create(model="mock", messages=messages, tools=[WEATHER])
    assert told.choices[0].finish_reason == "stop"
    assert "The tool answered sunny" in (told.choices[0].message.content or "")


def test_a_tool_call_in_a_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="mock",
        messages=says("weather in Oslo"),
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
    ) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo", "days": 7}


def test_json_object(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="mock", messages=says("hello"), response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content or "") == {"echo": "hello", "by": "good"}


class Meeting(BaseModel):
    title: str
    attendees: list[str]
    minutes: int


def test_json_schema(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="mock", messages=says("Lunch"), response_format=Meeting)
    assert answer.choices[0].message.parsed == Meeting(title="Lunch", attendees=["Lunch"], minutes=7)


def test_json_schema_in_a_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="mock", messages=says("Lunch"), response_format=Meeting
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Meeting(title="Lunch", attendees=["Lunch"], minutes=7)


def test_two_choices(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="mock", messages=says("hello"), n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content


def test_two_choices_in_a_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(model="mock", messages=says("hello"), n=2) as stream:
        final = stream.get_final_completion()
    assert [choice.message.role for choice in final.choices] == ["assistant"] * 2
    assert [choice.finish_reason for choice in final.choices] == ["stop"] * 2
    assert final.choices[0].message.content != final.choices[1].message.content


def test_stop_and_length(client: OpenAI) -> None:
    create = client.chat.completions.create
    stopped = create(model="mock", messages=says("one two three"), stop=["two"])
    assert stopped.choices[0].message.content == 'You said "one '
    assert stopped.choices[0].finish_reason == "stop"
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        short = create(model="mock", messages=says("one two three"), **limit)  # type: ignore[call-overload]  # by name
        assert short.choices[0].finish_reason == "length"
        assert short.usage.completion_tokens == 3
    with create(model="mock", messages=says("one"), max_tokens=3, stream=True) as stream:
        assert list(stream)[-1].choices[0].finish_reason == "length"


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="mock", messages=says("hello"), logprobs=True)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(token.token for token in logprobs.content or ()) == answer.choices[0].message.content


def test_models(client: OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed[0] == "auto"
    assert {"mock", "mock-large", "slow-model"} < set(listed)
    for name in ("auto", "mock"):
        assert client.models.retrieve(name).id == name
    assert client.models.retrieve("mock").owned_by == "good"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nothing")
    assert caught.value.code == "model_not_found"


def test_a_wrong_key(client: OpenAI, delays: list[float]) -> None:
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided") as caught:
        client.with_options(api_key="gw-wrong").chat.completions.create(model="mock", messages=says("hello"))
    assert (caught.value.type, caught.value.code) == ("authentication_error", "invalid_api_key")
    assert caught.value.request_id
    assert delays == []


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nothing", messages=says("hello"), stream=True)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"temperature": 3.0}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": "two"}, "n"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"extra_body": {"project_id": "a b"}}, "project_id"),
    ],
)
def test_a_bad_request(client: OpenAI, service: Service, fields: dict[str, Any], param: str) -> None:
    before = service.asked(*service.providers)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "mock", "messages": says("hello"), **fields})
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == param
    assert service.asked(*service.providers) == before


@pytest.mark.parametrize("streamed", [False, True])
def test_provider_errors_are_not_multiplied(
    client: OpenAI, service: Service, delays: list[float], streamed: bool
) -> None:
    """Both providers were asked, which is what there was to be done, and the client is told to leave it at that."""
    before = service.asked("broken-a", "broken-b")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="broken", messages=says("hello"), stream=streamed)
    assert caught.value.status_code == 502
    assert caught.value.type == "provider_error"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.headers["x-gateway-attempts"] == "2"
    assert delays == []
    assert service.asked("broken-a", "broken-b") - before == 2


def test_rate_limits_are_waited_for_and_not_multiplied(
    client: OpenAI, service: Service, delays: list[float]
) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="throttled", messages=says("hello"))
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert len(delays) == 2  # its own retries, after the pause that the gateway named
    assert all(1.0 <= delay <= 9.0 for delay in delays)
    assert service.asked("throttled-a", "throttled-b") == 2  # which the gateway answered without asking again


def test_a_rejected_key_of_the_gateway(client: OpenAI, service: Service, delays: list[float]) -> None:
    """The provider is out for an hour: 502 for whoever noticed, 503 for whoever comes next."""
    for status in (502, 503):
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="locked-model", messages=says("hello"))
        assert caught.value.status_code == status
        assert "API key" not in caught.value.message  # it is not the client's that is wrong
        assert caught.value.code == {502: "upstream_error", 503: "no_candidate"}[status]
    assert 3000 < float(caught.value.response.headers["retry-after"]) <= 4400
    assert delays == []
    assert service.asked("locked") == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_timeout(client: OpenAI, service: Service, delays: list[float], streamed: bool) -> None:
    before = service.asked("slow")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="slow-model", messages=says("hello"), stream=streamed)
    assert caught.value.status_code == 504
    assert (caught.value.type, caught.value.code) == ("provider_error", "upstream_timeout")
    assert delays == []
    assert 1 <= service.asked("slow") - before <= 2


@pytest.mark.parametrize("model", ["breaking-model", "half-model"])
def test_a_stream_that_breaks_raises(client: OpenAI, delays: list[float], model: str) -> None:
    text: list[str] = []
    with (
        client.chat.completions.create(model=model, messages=says("hello"), stream=True) as stream,
        pytest.raises(openai.APIError) as caught,
    ):
        text += (chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(text).startswith("You said")
    assert caught.value.type == "provider_error"
    assert caught.value.code in ("upstream_error", "stream_truncated")
    assert delays == []


def test_the_helper_raises_too(client: OpenAI) -> None:
    with (
        client.chat.completions.stream(model="breaking-model", messages=says("hello")) as stream,
        pytest.raises(openai.APIError, match="provider"),
    ):
        stream.get_final_completion()


def test_closing_a_stream_early_closes_the_provider_s(client: OpenAI, service: Service) -> None:
    provider = service.providers["endless"]
    before = provider.departures
    with client.chat.completions.create(model="endless-model", messages=says("hello"), stream=True) as stream:
        next(iter(stream))
    provider.wait(lambda provider: provider.departures == before + 1)
    status = client.get("/routing/status", cast_to=dict[str, Any])
    assert status["providers"]["endless"]["status"] == "available"

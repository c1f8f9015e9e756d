"""What users are promised of wire formats: behind one address, whatever the providers speak."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from gwproto.testing import Knobs
from gwproto.testing.formats import FORMATS
from gwproto.wire.dialects import DIALECTS
from gwproto_ops.deployment import known_providers
from support.servers import KEY, RUNTIMES, GatewayProcess, Provider, configuration, hosting, serving

pytestmark = pytest.mark.sockets

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
PNG = base64.b64encode(b"\x89PNG, or nearly so").decode()


class Meeting(BaseModel):
    title: str
    minutes: int


def says(text: str) -> Any:
    return [{"role": "user", "content": text}]


class Service:
    """A gateway in front of one provider of each format, ``sim-<format>`` with the model ``<format>-model``."""

    def __init__(self, gateway: GatewayProcess, client: OpenAI, providers: list[Provider]) -> None:
        self.gateway = gateway
        self.client = client
        self.providers = {provider.format.name: provider for provider in providers}


@pytest.fixture(scope="module", params=RUNTIMES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    providers = [Provider(f"sim-{name}", models=[f"{name}-model"], format=name) for name in FORMATS]
    directory = tmp_path_factory.mktemp("gateway")
    with (
        hosting(providers) as urls,
        serving(
            directory, request.param, configuration(providers, urls, sim_workers_ai="fallback = false")
        ) as gateway,
        OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client,
    ):
        yield Service(gateway, client, providers)


def test_every_format_has_a_simulated_provider() -> None:
    assert set(FORMATS) == set(DIALECTS)


def test_sixty_requests_take_turns_over_all_formats(service: Service) -> None:
    """Streamed and not, with tools and without, all right and told apart by their headers."""
    served: Counter[str] = Counter()
    create = service.client.chat.completions.with_raw_response.create
    for number in range(60):
        text = f"Weather number {number} in Oslo"
        tools: Any = {"tools": [WEATHER]} if number // 2 % 2 else {}
        if number % 2:
            raw = service.client.chat.completions.with_streaming_response
            with raw.create(model="auto", messages=says(text), stream=True, **tools) as answer:
                headers = answer.headers
                chunks = list(answer.parse())
            assert len({(chunk.id, chunk.model) for chunk in chunks}) == 1
            deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
            content = "".join(delta.content or "" for delta in deltas)
            calls = [call for delta in deltas for call in delta.tool_calls or ()]
            names = [call.function.name for call in calls if call.function and call.function.name]
            arguments = "".join(call.function.arguments or "" for call in calls if call.function)
            (finish,) = [choice.finish_reason for c in chunks for choice in c.choices if choice.finish_reason]
            assert [delta.role for delta in deltas if delta.role] == ["assistant"]
        else:
            response = create(model="auto", messages=says(text), **tools)
            headers = response.headers
            completion = response.parse()
            (choice,) = completion.choices
            content, finish = choice.message.content or "", choice.finish_reason
            names = [call.function.name for call in choice.message.tool_calls or ()]
            arguments = "".join(call.function.arguments for call in choice.message.tool_calls or ())
            assert completion.usage is not None
            assert completion.usage.total_tokens > 0
        provider = headers["x-gateway-provider"]
        served[provider] += 1
        assert headers["x-gateway-model"] == f"{provider.removeprefix('sim-')}-model"
        assert headers["x-gateway-attempts"] == "1"
        if tools:
            assert (names, finish) == (["get_weather"], "tool_calls")
            assert json.loads(arguments) == {"city": "Oslo", "days": 7}
        else:
            assert content == f'You said "{text}", and {provider} heard you.'
            assert (names, finish) == ([], "stop")
    assert set(served) == {f"sim-{name}" for name in FORMATS}
    assert max(served.values()) - min(served.values()) <= 1


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tools_round_trip(service: Service, name: str, stream: bool) -> None:
    """Two turns, the first one's answer sent back as it came, so that a provider's signatures return to it."""
    messages = says("What will the weather be in Oslo")
    options: Any = {"model": f"{name}-model", "tools": [WEATHER]}
    if stream:
        with service.client.chat.completions.stream(messages=messages, **options) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = service.client.chat.completions.create(messages=messages, **options).choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    messages += [message.model_dump(exclude_none=True)]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    told = service.client.chat.completions.create(messages=messages, **options)
    assert told.choices[0].finish_reason == "stop"
    assert "The tool answered sunny" in (told.choices[0].message.content or "")


def test_an_image_by_value(service: Service, name: str) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    content = [{"type": "text", "text": "What is this"}, image]
    answer = service.client.chat.completions.create(
        model=f"{name}-model",
        messages=[{"role": "user", "content": content}],  # type: ignore[list-item,misc] # plain dictionaries
    )
    seen = f"image/png of {len(PNG)} characters"
    assert answer.choices[0].message.content == f'You said "What is this", and sim-{name} saw {seen}.'


def test_an_image_by_address_goes_where_it_can_be_said(service: Service) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    content = [{"type": "text", "text": "What is this"}, image]
    raw = service.client.chat.completions.with_raw_response
    served = set()
    for _ in range(12):
        answer = raw.create(model="auto", messages=[{"role": "user", "content": content}])  # type: ignore[list-item,misc] # plain dictionaries
        assert "https://example.com/cat.png" in (answer.parse().choices[0].message.content or "")
        served.add(answer.headers["x-gateway-provider"].removeprefix("sim-"))
    assert served == {name for name, dialect in DIALECTS.items() if "image_url" not in dialect.lacks}


@pytest.mark.parametrize("stream", [False, True])
def test_json_by_a_schema(service: Service, name: str, stream: bool) -> None:
    options: Any = {"model": f"{name}-model", "messages": says("Lunch"), "response_format": Meeting}
    if stream:
        with service.client.chat.completions.stream(**options) as events:
            parsed = events.get_final_completion().choices[0].message.parsed
    else:
        parsed = service.client.chat.completions.parse(**options).choices[0].message.parsed
    assert parsed == Meeting(title="Lunch", minutes=7)


@pytest.mark.parametrize("stream", [False, True])
def test_length_and_stop(service: Service, name: str, stream: bool) -> None:
    def finish(**options: Any) -> tuple[str, str]:
        arguments = {"model": f"{name}-model", "messages": says("one two three"), **options}
        if not stream:
            choice = service.client.chat.completions.create(**arguments).choices[0]
            return choice.message.content or "", choice.finish_reason
        with service.client.chat.completions.create(stream=True, **arguments) as chunks:
            choices = [choice for chunk in chunks for choice in chunk.choices]
        text = "".join(choice.delta.content or "" for choice in choices)
        return text, next(choice.finish_reason for choice in choices if choice.finish_reason)

    assert finish(max_tokens=3) == ('You said "', "length")
    if "stop" in DIALECTS[name].parameters:
        assert finish(stop=["two"]) == ('You said "one ', "stop")


def test_effort_and_reasoning(service: Service, name: str) -> None:
    raw = service.client.chat.completions.with_raw_response.create(
        model=f"{name}-model", messages=says("hello"), reasoning_effort="high", max_tokens=4000
    )
    message = raw.parse().choices[0].message
    applied = raw.headers["x-gateway-reasoning-effort"]
    if not DIALECTS[name].efforts:
        assert applied == "auto"  # no such control in this format
        return
    assert applied == "high"
    assert "effort will do" in message.reasoning_content  # type: ignore[attr-defined] # beyond OpenAI's own
    assert message.content == f'You said "hello", and sim-{name} heard you.'


def test_usage_of_a_stream_comes_last_and_only_when_asked_for(service: Service, name: str) -> None:
    create = service.client.chat.completions.create
    options: Any = {"model": f"{name}-model", "messages": says("hello"), "stream": True}
    with create(**options, stream_options={"include_usage": True}) as stream:
        *chunks, last = list(stream)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0
    with create(**options) as stream:
        assert all(chunk.usage is None and chunk.choices for chunk in stream)


def test_what_a_format_cannot_say_is_named(service: Service) -> None:
    raw = service.client.chat.completions.with_raw_response.create(
        model="gemini-model", messages=says("hello"), metadata={"a": "b"}, logit_bias={"1": 1}
    )
    assert set(raw.headers["x-gateway-dropped-params"].split(",")) == {"metadata", "logit_bias"}
    required = service.client.chat.completions.with_raw_response.create(
        model="auto",
        messages=says("hello"),
        logit_bias={"1": 1},
        extra_headers={"x-gateway-require-params": "true"},
    )
    assert required.headers["x-gateway-provider"] == "sim-openai"


FAULTS: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 429, "retry_after": 3.0},
    {"garbage": "html"},
    {"garbage": "empty"},
    {"garbage": "truncated_json"},
    {"garbage": "invalid_utf8"},
    {"garbage": "binary"},
    {"first_event_error": True},
    {"reset_after": 0},
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    FAULTS,
    ids=lambda fault: "-".join(map(str, fault)) + str(fault.get("status", "")) + fault.get("garbage", ""),
)
def test_a_fault_in_any_format_is_another_providers_turn(
    tmp_path_factory: pytest.TempPathFactory, fault: dict[str, Any], stream: bool
) -> None:
    """Each format's provider fails in turn beside a good one; the client never sees it."""
    broken = [Provider(f"bad-{name}", Knobs(**fault), format=name) for name in FORMATS]
    fallback = {"bad_workers_ai": "fallback = false"}
    good = Provider("good")
    aliases = "\n[retry]\nbudget_floor = 1000\n[aliases]\n" + "\n".join(
        f'{one.format.name} = ["{one.models[0]}", "good-model"]' for one in broken
    )
    directory = tmp_path_factory.mktemp("gateway")
    with (
        hosting([*broken, good]) as urls,
        serving(directory, "trio", configuration([*broken, good], urls, **fallback) + aliases) as gateway,
        gateway.client() as client,
    ):
        for name in FORMATS:
            for _ in range(3):  # the turn of each, whoever had the last one
                answer = client.chat(model=name, stream=stream)
                assert answer.status == 200, answer.body
                assert answer.headers["x-gateway-provider"] == "good" or (
                    fault == {"first_event_error": True} and not stream
                )
                if stream:
                    assert answer.events[-1] == "[DONE]"
        if fault != {"first_event_error": True} or stream:
            assert all(provider.served for provider in broken)


LISTED = {name: entry for name, entry in known_providers().items() if entry.models}
PLACES = {"AZURE_OPENAI_ENDPOINT": "https://nowhere.invalid", "CLOUDFLARE_ACCOUNT_ID": "acc"}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_credential_is_all_that_a_listed_provider_needs(tmp_path: Path, runtime: str) -> None:
    """No file and no flag: each provider's own variable, and <NAME>_BASE_URL for where it is."""
    providers = [
        Provider(
            name,
            Knobs()
            if entry.keyless and not entry.key_env
            else Knobs(api_key=f"secret-of-{entry.key_env[0]}"),
            models=[model.upstream for model in entry.models],
            format=entry.format,
        )
        for name, entry in LISTED.items()
    ]
    with hosting(providers) as urls:
        environ = {"GATEWAY_API_KEY": KEY, "GWPROTO_PROVIDERS": ",".join(LISTED), **PLACES}
        for provider, url in zip(providers, urls, strict=True):
            environ[f"{provider.name.upper()}_BASE_URL"] = url
            variable = LISTED[provider.name].key_env[0]
            environ[variable] = f"secret-of-{variable}"
        with serving(tmp_path, runtime, environ=environ) as gateway, gateway.client() as client:
            for provider in providers:
                for stream in (False, True):
                    answer = client.ask(
                        {"messages": says("hello"), "stream": stream},
                        headers={"x-gateway-force-provider": provider.name},
                    )
                    assert answer.status == 200, (provider.name, answer.body)
                    assert answer.headers["x-gateway-provider"] == provider.name
                    assert answer.headers["x-gateway-model"] in provider.models
            assert "secret-of-" not in gateway.log

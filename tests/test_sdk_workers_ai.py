"""The cloudflare package, and plain HTTP for the streams it does not read, against a simulated Workers AI."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import cloudflare
import pytest
from cloudflare import Cloudflare
from wirestream import events, translate

from gwproto.failures import Failure
from gwproto.testing import Knobs
from gwproto.testing.formats import workers_ai
from gwproto.testing.formats.format import BadRequest
from gwproto.wire.neutral import Completion, Reading, Rendering
from gwproto.wire.openai.request import parse_request
from gwproto.wire.workers_ai import DIALECT
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

NATIVE = "@cf/meta/llama-3.1-8b-instruct"
OPENAI = "@cf/openai/gpt-oss-120b"
KEY = "cf-token"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Service:
    def __init__(self, provider: Provider, url: str) -> None:
        self.provider = provider
        self.url = url

    def ask(self, model: str, **fields: Any) -> tuple[int, bytes]:
        """A gateway's own request for what a client asked for, and the answer's status and body."""
        request = parse_request(json.dumps(fields).encode())
        assert not isinstance(request, Failure)
        encoded = DIALECT.encode_request(request, Rendering(model=model))
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            headers = {"authorization": f"Bearer {KEY}"}
            connection.request("POST", parts.path + encoded.path, encoded.body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    provider = Provider("cf", Knobs(api_key=KEY), (NATIVE, OPENAI), "workers_ai")
    with hosting([provider]) as (url,):
        yield Service(provider, url)


@pytest.fixture
def client(service: Service) -> Iterator[Cloudflare]:
    base = service.url.removesuffix("/accounts/acc/ai")
    with Cloudflare(api_token=KEY, base_url=base, max_retries=0) as client:
        yield client


def run(client: Cloudflare, model: str = NATIVE, **fields: Any) -> Any:
    return client.ai.run(model, account_id="acc", **fields)


def says(text: Any) -> Any:
    return [{"role": "user", "content": text}]


def test_text(client: Cloudflare) -> None:
    answer = run(client, messages=says("Hi"))
    assert answer["response"] == 'You said "Hi", and cf heard you.'
    usage = answer["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] > 0
    assert run(client, prompt="Hi")["response"] == answer["response"]


def test_tools_and_their_results(client: Cloudflare) -> None:
    asked = says("What of Paris")
    for tool in (WEATHER, WEATHER["function"]):
        answer = run(client, messages=asked, tools=[tool])
        assert answer["response"] is None
        assert answer["tool_calls"] == [{"name": "get_weather", "arguments": {"city": "Paris"}}]
    told = [*asked, {"role": "tool", "name": "get_weather", "content": "rain"}]
    assert run(client, messages=told, tools=[WEATHER])["response"] == "The tool answered rain, says cf."


def test_images_and_limits(client: Cloudflare) -> None:
    seen = run(client, messages=says([{"type": "text", "text": "Look"}, IMAGE]))["response"]
    assert seen == 'You said "Look", and cf saw image/png of 4 characters.'
    cut = run(client, messages=says("Hi"), max_tokens=2)
    assert cut["usage"]["completion_tokens"] == 2


def test_json(client: Cloudflare) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    wanted: Any = {"type": "json_schema", "json_schema": schema}
    assert run(client, messages=says("Rome"), response_format=wanted)["response"] == {"city": "Rome"}
    loose: Any = {"type": "json_object"}
    assert run(client, messages=says("Rome"), response_format=loose)["response"]["echo"] == "Rome"


def test_openais_shape(client: Cloudflare) -> None:
    answer = run(client, OPENAI, messages=says("Hi"))
    assert answer["choices"][0]["message"]["content"] == 'You said "Hi", and cf heard you.'


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, cloudflare.BadRequestError, 5006),
        (401, cloudflare.AuthenticationError, 10000),
        (403, cloudflare.PermissionDeniedError, 5018),
        (404, cloudflare.NotFoundError, 5007),
        (429, cloudflare.RateLimitError, 971),
        (500, cloudflare.InternalServerError, 8001),
        (503, cloudflare.InternalServerError, 3040),
    ],
)
def test_errors(
    client: Cloudflare, service: Service, status: int, error: type[cloudflare.APIStatusError], code: int
) -> None:
    service.provider.adjust(json.dumps({"status": status}).encode())
    try:
        with pytest.raises(error) as caught:
            run(client, messages=says("Hi"))
    finally:
        service.provider.adjust(b'{"status":0}')
    assert caught.value.errors[0].code == code


def test_refusals(client: Cloudflare) -> None:
    for messages, code in (
        ([{"role": "assistant", "content": None}], 5006),
        ([{"role": "developer", "content": "S"}], 5006),
        ([], 5006),
        (says([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]), 5004),
    ):
        with pytest.raises(cloudflare.BadRequestError) as caught:
            run(client, messages=messages)
        assert caught.value.errors[0].code == code
    for fields in ({"extra_body": {"stop": "x"}}, {"tools": [{"name": "f"}]}, {}):
        with pytest.raises(cloudflare.BadRequestError):
            run(client, **({"messages": says("Hi"), **fields} if fields else {"extra_body": {"seed": 1}}))
    with pytest.raises(cloudflare.NotFoundError):
        run(client, "@cf/nobody/nothing", messages=says("Hi"))


HISTORY: Any = [
    *says("What of Paris"),
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"x"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "t1", "content": "12 degrees"},
]


@pytest.mark.parametrize("model", [NATIVE, OPENAI])
@pytest.mark.parametrize(
    ("fields", "text", "finish"),
    [
        ({"messages": says("Hi 7 times 1 2 3")}, 'You said "Hi 7 times 1 2 3", and cf heard you.', "stop"),
        ({"messages": says("Hi"), "max_tokens": 3}, 'You said "', "length"),
        ({"messages": HISTORY, "tools": [WEATHER]}, "The tool answered 12 degrees, says cf.", "stop"),
        (
            {
                "messages": says([{"type": "text", "text": "Look"}, IMAGE]),
            },
            'You said "Look", and cf saw image/png of 4 characters.',
            "stop",
        ),
        (
            {
                "messages": says("Rome"),
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "a",
                        "schema": {"type": "object", "properties": {"city": {"type": "string"}}},
                    },
                },
            },
            '{"city":"Rome"}',
            "stop",
        ),
    ],
)
def test_what_the_gateway_asks_and_hears(
    service: Service, model: str, fields: Any, text: str, finish: str
) -> None:
    reading = Reading(provider="workers_ai", max_tokens=fields.get("max_tokens"))
    status, body = service.ask(model, **fields)
    assert status == 200
    completion = DIALECT.decode_completion(body, reading)
    assert isinstance(completion, Completion)
    (choice,) = completion.choices
    assert (choice.content, choice.finish) == (text, finish)
    status, body = service.ask(model, stream=True, **fields)
    assert status == 200
    role, said, ended, usage, done = events(translate([body], dialect=DIALECT, reading=reading))
    assert (role[0], said, ended) == ("R", ["C", 0, text], ["F", 0, finish])
    assert usage[2]["total_tokens"] > 0
    assert done == ["DONE", 0]


@pytest.mark.parametrize("model", [NATIVE, OPENAI])
def test_calls_as_the_gateway_hears_them(service: Service, model: str) -> None:
    fields = {"messages": says("What of Paris"), "tools": [WEATHER], "tool_choice": "auto"}
    reading = Reading(provider="workers_ai")
    completion = DIALECT.decode_completion(service.ask(model, **fields)[1], reading)
    assert isinstance(completion, Completion)
    (call,) = completion.choices[0].tools
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
    _, body = service.ask(model, stream=True, **fields)
    heard = events(translate([body], dialect=DIALECT, reading=reading))
    assert [event[0] for event in heard] == ["R", "K", "A", "F", "U", "DONE"]
    assert heard[1][4] == "get_weather"
    assert heard[2][3] == '{"city":"Paris"}'
    assert heard[3] == ["F", 0, "tool_calls"]


@pytest.mark.parametrize("model", [NATIVE, OPENAI])
def test_a_stream_that_begins_with_a_failure(service: Service, model: str) -> None:
    service.provider.adjust(b'{"first_event_error":true}')
    try:
        _, body = service.ask(model, stream=True, messages=says("Hi"))
    finally:
        service.provider.adjust(b'{"first_event_error":false}')
    (failure,) = translate([body], dialect=DIALECT, reading=Reading(provider="workers_ai"))
    assert failure.startswith(b"SERVER")


def test_the_other_ways_of_its_server(service: Service) -> None:
    parts = urlsplit(service.url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        for method, path, status in (
            ("GET", "/models/search", 200),
            ("GET", f"/run/{NATIVE}", 405),
            ("POST", "/nothing", 404),
        ):
            connection.request(method, parts.path + path, headers=headers)
            response = connection.getresponse()
            body = json.loads(response.read())
            assert response.status == status
            assert body["success"] is (status == 200)
    finally:
        connection.close()
    with pytest.raises(BadRequest, match="failed to decode"):
        workers_ai.decode(b"{", "/run/m")

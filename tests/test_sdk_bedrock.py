"""The boto3 package against the simulated provider: what the official client sends is taken, and understood."""

import gc
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3  # type: ignore[import-untyped] # it has no types
import pytest
from botocore.config import Config  # type: ignore[import-untyped] # nor has it
from botocore.exceptions import ClientError, EventStreamError  # type: ignore[import-untyped]

from gwproto.testing import Knobs
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

KEY = "AWS_BEARER_TOKEN_BEDROCK"
MODEL = "us.anthropic.claude-x-v1:0"
PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(7)
WEATHER: Any = {
    "toolSpec": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "inputSchema": {
            "json": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city", "days"],
            }
        },
    }
}
ADAPTIVE: Any = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}


def bedrock(url: str) -> Any:
    """A client; it takes an API key from the environment alone, and sends it to none but HTTPS endpoints."""
    config = Config(retries={"total_max_attempts": 1})
    secure = url.replace("http:", "https:")
    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=secure, config=config)
    client.meta.events.register("before-send", in_the_clear)
    _open.append(client)
    return client


_open: list[Any] = []


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    for client in _open:
        client.close()
    gc.collect()  # what a client has let go of warns here, not in somebody else's test


def in_the_clear(request: Any, **_: object) -> None:
    """Send a signed request over plain HTTP."""
    request.url = request.url.replace("https:", "http:")


class Service:
    """A client of some providers."""

    def __init__(self, provider: Provider, urls: dict[str, str]) -> None:
        self.provider = provider
        self.urls = urls
        self.client = bedrock(urls["sim"])

    def converse(self, messages: Any, client: Any = None, **more: Any) -> Any:
        """A whole answer; ``messages``: one may be just its text."""
        return (client or self.client).converse(modelId=MODEL, messages=told(messages), **more)

    def converse_stream(self, messages: Any, client: Any = None, **more: Any) -> Any:
        """The same, streamed and put together again."""
        answer = (client or self.client).converse_stream(modelId=MODEL, messages=told(messages), **more)
        with closing(answer["stream"]) as events:
            return assembled(events)


def told(messages: Any) -> Any:
    return [{"role": "user", "content": [{"text": messages}]}] if isinstance(messages, str) else messages


def assembled(events: Any) -> dict[str, Any]:
    blocks: dict[int, dict[str, Any]] = {}
    answer: dict[str, Any] = {}
    for event in events:
        ((kind, said),) = event.items()
        if kind == "messageStart":
            answer["output"] = {"message": {"role": said["role"]}}
        elif kind == "contentBlockStart":
            tool = said["start"]["toolUse"]
            blocks[said["contentBlockIndex"]] = {"toolUse": {**tool, "input": ""}}
        elif kind == "contentBlockDelta":
            add(blocks.setdefault(said["contentBlockIndex"], {}), said["delta"])
        else:
            answer |= said
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    answer["output"]["message"]["content"] = list(blocks.values())
    return answer


def add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    ((kind, more),) = delta.items()
    if kind == "text":
        block["text"] = block.get("text", "") + more
    elif kind == "toolUse":
        block["toolUse"]["input"] += more["input"]
    else:
        reasoning = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {})
        for name, text in more.items():
            reasoning[name] = reasoning.get(name, "") + text


STATUSES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    providers = [
        Provider("sim", Knobs(api_key="secret"), (MODEL,), "bedrock"),
        Provider("breaking", Knobs(first_event_error=True), (MODEL,), "bedrock"),
        *(Provider(f"failing-{status}", Knobs(status=status), (MODEL,), "bedrock") for status in STATUSES),
    ]
    with pytest.MonkeyPatch.context() as patch, hosting(providers) as urls:
        patch.setenv(KEY, "secret")
        yield Service(providers[0], {one.name: url for one, url in zip(providers, urls, strict=True)})


@pytest.fixture(params=["converse", "converse_stream"])
def ask(service: Service, request: pytest.FixtureRequest) -> Any:
    return getattr(service, request.param)


def content(answer: Any) -> Any:
    assert answer["output"]["message"]["role"] == "assistant"
    return answer["output"]["message"]["content"]


def test_text(service: Service, ask: Any) -> None:
    answer = ask("Good morning")
    assert content(answer) == [{"text": 'You said "Good morning", and sim heard you.'}]
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"] == {"inputTokens": 2, "outputTokens": 12, "totalTokens": 14}
    sent = service.provider.received[-1]
    assert sent.headers["authorization"] == "Bearer secret"
    assert sent.target.startswith("/model/us.anthropic.claude-x-v1%3A0/converse")


def test_limits(ask: Any) -> None:
    answer = ask("Good morning", inferenceConfig={"maxTokens": 3}, system=[{"text": "Be brief."}])
    assert (content(answer), answer["stopReason"]) == ([{"text": 'You said "'}], "max_tokens")
    stopped = ask("Good morning", inferenceConfig={"stopSequences": [", and"], "temperature": 0.5})
    assert content(stopped) == [{"text": 'You said "Good morning"'}]


def test_a_tool_and_its_result(ask: Any) -> None:
    """Reasoning goes with the call, and must come back with it."""
    messages: list[Any] = told("Weather in Paris?")
    options: Any = {"toolConfig": {"tools": [WEATHER]}, "additionalModelRequestFields": ADAPTIVE}
    first = ask(messages, **options)
    assert first["stopReason"] == "tool_use"
    reasoning, call = content(first)
    thought = reasoning["reasoningContent"]["reasoningText"]
    assert thought["text"] == "The user wrote 4 tokens; low effort will do."
    tool = call["toolUse"]
    assert (tool["name"], tool["input"]) == ("get_weather", {"city": "Paris", "days": 7})
    result = {"toolUseId": tool["toolUseId"], "content": [{"json": {"sky": "blue"}}], "status": "success"}
    messages += [
        {"role": "assistant", "content": [reasoning, call]},
        {"role": "user", "content": [{"toolResult": result}]},
    ]
    second = ask(messages, **options)
    assert content(second)[-1] == {"text": 'The tool answered {"sky":"blue"}, says sim.'}
    messages[1]["content"] = [call]
    with pytest.raises(ClientError, match="Expected `thinking` or `redacted_thinking`"):
        ask(messages, **options)
    thought["text"] = "hm"
    messages[1]["content"] = [reasoning, call]
    with pytest.raises(ClientError, match="Invalid `signature`"):
        ask(messages, **options)
    with pytest.raises(ClientError, match="toolConfig field must be defined"):
        ask([messages[0], {"role": "assistant", "content": [call]}, messages[2]])


def test_images_and_documents(ask: Any) -> None:
    parts = [
        {"text": "Look"},
        {"image": {"format": "png", "source": {"bytes": PIXEL}}},
        {"document": {"format": "pdf", "name": "a (1)", "source": {"bytes": b"%PDF"}}},
    ]
    answer = ask([{"role": "user", "content": parts}])
    assert content(answer) == [{"text": 'You said "Look", and sim saw image/png of 20 characters.'}]


def test_json(ask: Any) -> None:
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
    format = {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema, "name": "n"}}}
    assert content(ask("n", outputConfig={"textFormat": format})) == [{"text": '{"n":7}'}]


def test_choices(ask: Any) -> None:
    forced = {"tools": [WEATHER], "toolChoice": {"tool": {"name": "get_weather"}}}
    assert ask("Rome", toolConfig=forced)["stopReason"] == "tool_use"
    assert ask("Rome", toolConfig={"tools": [WEATHER], "toolChoice": {"any": {}}})["stopReason"] == "tool_use"


TEXT: Any = {"text": "Q"}


def message(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def document(name: str) -> dict[str, Any]:
    return {"document": {"format": "txt", "name": name, "source": {"bytes": b"a"}}}


def used(id_: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": id_, "name": "get_weather", "input": {}}}


def result(id_: str) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": id_, "content": [{"text": "1"}]}}


TOOLS: Any = {"toolConfig": {"tools": [WEATHER]}}


@pytest.mark.parametrize(
    ("messages", "fields", "words"),
    [
        ([message("assistant", TEXT)], {}, "must start with a user message"),
        ([message("user", TEXT), message("user", TEXT)], {}, "must alternate"),
        ([message("user")], {}, "messages.0 is empty"),
        (" ", {}, "at messages.0.content.0 is blank"),
        ([message("user", TEXT), message("assistant", {"text": "A "})], {}, "trailing whitespace"),
        ([message("user", document("a"))], {}, "must also include a text block"),
        ([message("user", TEXT, document("a"), document("a"))], {}, "must be unique"),
        ([message("user", TEXT, document("a.b"))], {}, "can only contain alphanumeric"),
        ([message("user", TEXT, used("a"))], TOOLS, "not allowed for the role user"),
        ([message("user", TEXT), message("assistant", used("a"))], TOOLS, "Expected toolResult blocks"),
        (
            [message("user", TEXT), message("assistant", used("a")), message("user", TEXT)],
            TOOLS,
            "Expected toolResult blocks at messages.2.content for the following Ids: a",
        ),
        ([message("user", TEXT, result("a"))], TOOLS, "exceeds the number of toolUse blocks"),
        (
            [
                message("user", TEXT),
                message("assistant", used("a"), used("a")),
                message("user", result("a"), result("a")),
            ],
            TOOLS,
            "ids must be unique",
        ),
        ("Q", {"inferenceConfig": {"stopSequences": [" "]}}, "non-whitespace"),
        ("Q", {"system": [{"text": " "}]}, "system.0 is blank"),
        ("Q", {"toolConfig": {"tools": [WEATHER, WEATHER]}}, "must be unique"),
        (
            "Q",
            {"toolConfig": {"tools": [WEATHER], "toolChoice": {"tool": {"name": "f"}}}},
            "was not found in the provided tools",
        ),
        (
            "Q",
            {"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]}},
            "inputSchema.json.type must be one of the following: object",
        ),
        ("Q", {"additionalModelRequestFields": {"seed": 1}}, r"extraneous key \[seed\] is not permitted"),
        ("Q", {"inferenceConfig": {"temperature": 1.5}}, "inferenceConfig.temperature"),
        (
            "Q",
            {"inferenceConfig": {"temperature": 0.5}, "additionalModelRequestFields": ADAPTIVE},
            "may only be set to 1",
        ),
        (
            "Q",
            {
                "inferenceConfig": {"maxTokens": 1024},
                "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            },
            "must be greater than",
        ),
    ],
)
def test_refusals(ask: Any, messages: Any, fields: Any, words: str) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        ask(messages, **fields)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_unknown_model(service: Service) -> None:
    with pytest.raises(service.client.exceptions.ResourceNotFoundException, match="foundation model"):
        service.client.converse(modelId="gone.model", messages=told("Q"))


def test_a_bad_key(service: Service, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "bad")
    with pytest.raises(ClientError, match="security token"):
        ask("Q", client=bedrock(service.urls["sim"]))


@pytest.mark.parametrize("status", STATUSES)
def test_errors(service: Service, ask: Any, status: int) -> None:
    with pytest.raises(ClientError) as caught:
        ask("Q", client=bedrock(service.urls[f"failing-{status}"]))
    assert type(caught.value).__name__ == STATUSES[status]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_an_exception_inside_a_stream(service: Service) -> None:
    with pytest.raises(EventStreamError, match=r"internalServerException.*unexpected error"):
        service.converse_stream("Q", client=bedrock(service.urls["breaking"]))

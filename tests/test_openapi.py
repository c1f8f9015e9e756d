"""The description of the endpoints: it is OpenAPI, it leaves out nothing, and what is answered is as described."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from recorded import STREAMS, bytes_of, goldens, reading_of
from schemathesis.specs.openapi.definitions import OPENAPI_31
from wirestream import translate

from gwproto import ClientData, ClientEnd, Command, Delegate, RequestHead
from gwproto import gateway as machine
from gwproto.config import LimitSettings, RetrySettings
from gwproto.failures import REACTIONS, Failure
from gwproto.queries import AnalyticsQuery, PageQuery, Query, RequestsQuery, StatsQuery
from gwproto.values import Headers
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import Completion, Envelope
from gwproto.wire.openai.completion import encode_completion
from gwproto.wire.openai.request import parse_request
from gwproto.wire.openai.schema import Body
from gwproto_ops import openapi
from gwproto_ops.openapi.document import document
from gwproto_ops.records import Recorder
from support.conversation import (
    DONE,
    KEY,
    ROLE,
    START,
    STOP,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    head,
    provider,
    sent_body,
    sent_head,
    text,
)
from support.outcomes import NOON, PLAIN, random_outcomes

DOCUMENT: dict[str, Any] = json.loads(openapi.answer("{}")[2])
PATHS: dict[str, dict[str, Any]] = DOCUMENT["paths"]
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]
CHAT = "/v1/chat/completions"
WHOLE = [
    (format, golden) for format in DIALECTS for golden in goldens(format).values() if golden["of"] == "body"
]


def everything(part: Any) -> Iterator[Any]:
    """``part`` and all in it."""
    yield part
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from everything(one)


def problems(schema: dict[str, Any], value: object) -> list[str]:
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "components": DOCUMENT["components"],
    }
    return [str(error) for error in jsonschema_rs.validator_for(whole).iter_errors(value)]


def of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


# The document


def test_it_is_openapi() -> None:
    validator = jsonschema_rs.Draft202012Validator(OPENAPI_31)
    assert [str(error) for error in validator.iter_errors(DOCUMENT)] == []
    assert DOCUMENT["openapi"] == "3.1.0"


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_types_are_json_schema_that_every_reader_understands(name: str) -> None:
    assert jsonschema_rs.meta.is_valid(SCHEMAS[name])
    for part in everything(SCHEMAS[name]):
        if isinstance(part, dict) and isinstance(part.get("pattern"), str):
            assert "\\A" not in part["pattern"]  # Python's own
            assert "\\Z" not in part["pattern"]
        if isinstance(part, dict) and isinstance(part.get("description"), str):
            assert "``" not in part["description"]


def test_its_references_lead_somewhere_and_no_type_is_idle() -> None:
    named = {part["$ref"] for part in everything(DOCUMENT) if isinstance(part, dict) and "$ref" in part}
    components = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "headers")
        for name in DOCUMENT["components"][kind]
    }
    assert named == components


def test_it_is_the_same_every_time() -> None:
    status, headers, page = openapi.answer("{}")
    assert status == 200
    assert page == msgspec.json.encode(document())
    assert openapi.answer("{}") == (200, headers, page)
    assert dict(headers)[b"content-length"] == b"%d" % len(page)
    assert dict(headers)[b"content-type"] == b"application/json"


def test_a_server_starts_without_it() -> None:
    probe = (
        "import sys, gwproto_quart, gwproto_trio, gwproto_cli.command, gwproto_cli.serving;"
        "print('gwproto_ops.openapi.document' in sys.modules)"
    )
    run = subprocess.run((sys.executable, "-c", probe), capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False"]


# Nothing is left out


def test_every_endpoint_is_described_and_no_other() -> None:
    def full(path: str) -> str:
        return (
            path if path in machine._PROBES | {"/", "/health", "/metrics", "/openapi.json"} else f"/v1{path}"
        )

    got = {full(path) for path in (*machine._ROUTES, *machine._PAGES)}
    posted = {full(path) for path in (*machine._OPERATIONS, "/chat/completions")}
    assert {path for path in PATHS if "get" in PATHS[path]} == got | {"/v1/models/{id}", "/console/{file}"}
    assert {path for path in PATHS if "post" in PATHS[path]} == posted
    assert {method for path in PATHS.values() for method in path} == {"get", "post"}
    ids = [operation["operationId"] for path in PATHS.values() for operation in path.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("path", "method"), [(path, method) for path in PATHS for method in PATHS[path]])
def test_keys_are_asked_for_where_it_says_so(path: str, method: str) -> None:
    target = path.format(id="auto", file="index.html")
    exchange = gateway().begin(head(method.upper(), target, key=None), START)
    commands = exchange.start(START)
    refused = not isinstance(commands[0], Delegate) and sent_head(commands)[0] == 401
    assert refused == bool(PATHS[path][method]["security"])
    assert ("401" in PATHS[path][method]["responses"]) == refused


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/analytics", AnalyticsQuery), ("/v1/stats/providers", StatsQuery), ("/v1/requests", RequestsQuery)],
)
def test_its_query_parameters_are_those_that_are_read(path: str, kind: type[Query]) -> None:
    parameters = PATHS[path]["get"]["parameters"]
    assert [one["name"] for one in parameters] == list(kind.__struct_fields__)
    for one in parameters:
        assert one["in"] == "query"
        assert one["description"]
        assert "null" not in json.dumps(one["schema"])
        default = one["schema"].get("default")
        assert default is None or problems(one["schema"], default) == []
        assert default in (None, kind.__struct_defaults__[kind.__struct_fields__.index(one["name"])])


def test_a_file_is_named_as_it_is_read() -> None:
    (parameter,) = PATHS["/console/{file}"]["get"]["parameters"]
    assert problems(parameter["schema"], PageQuery().file) == []
    assert problems(parameter["schema"], ".hidden") != []


def test_the_request_is_the_type_that_is_read() -> None:
    request = PATHS[CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert request == of("ChatCompletionRequest")
    assert list(SCHEMAS["ChatCompletionRequest"]["properties"]) == list(Body.__struct_fields__)


def test_every_error_is_of_one_type() -> None:
    for path in PATHS.values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                schema = response["content"].get("application/json", {}).get("schema")
                if status != "200" and schema != of("Probe"):
                    assert schema == of("Error")
    assert SCHEMAS["ErrorBody"]["required"] == ["message", "type", "param", "code"]


def test_every_status_that_a_failure_can_have_is_there() -> None:
    responses = PATHS[CHAT]["post"]["responses"]
    assert {str(reaction.status) for reaction in REACTIONS.values()} <= set(responses)


# Requests

HI = {"messages": [{"role": "user", "content": "hi"}]}


def said(**message: Any) -> dict[str, Any]:
    return {"messages": [message]}


def part(**fields: Any) -> dict[str, Any]:
    return said(role="user", content=[fields])


@pytest.mark.parametrize(
    "request_body",
    [
        HI,
        {"prompt": "hi"},
        {**HI, "prompt": None, "stream": None, "unknown": {}},
        {**HI, "logprobs": True, "top_logprobs": 3},
        {**HI, "top_logprobs": None},
        {**HI, "stream": True, "stream_options": {"include_usage": True}},
        {**HI, "stream_options": None},
        {**HI, "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom"}]},
        {**HI, "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {**HI, "response_format": {"type": "json_object"}},
        {**HI, "stop": ["a", "b", "c", "d"], "project_id": "p.1", "model": "x" * 256},
        said(role="assistant", tool_calls=[{"id": "1", "function": {"name": "f", "arguments": "{}"}}]),
        said(role="assistant", tool_calls=[{"id": "1", "custom": {}}]),
        said(role="assistant", function_call={"name": "f", "arguments": "{}"}),
        said(role="assistant", refusal=""),
        said(role="assistant", audio={"id": "a"}),
        said(role="assistant", reasoning_content="Hm."),
        said(role="function", name="f", content=None),
        said(role="tool", tool_call_id="1", content="4"),
        part(type="text", text="hi"),
        part(type="image_url", image_url={"url": "http://x.example/y.png"}),
        part(type="image_url", image_url="http://x.example/y.png"),
        part(type="input_audio", input_audio={"data": "", "format": "wav"}),
        part(type="file"),
        part(type="novelty"),
    ],
)
def test_a_request_that_is_described_is_taken(request_body: dict[str, Any]) -> None:
    assert problems(of("ChatCompletionRequest"), request_body) == []
    assert not isinstance(parse_request(json.dumps(request_body).encode()), Failure)


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"prompt": None},
        {"messages": None},
        {"messages": []},
        {**HI, "temperature": 3},
        {**HI, "n": 0},
        {**HI, "stop": list("abcde")},
        {**HI, "project_id": "a b"},
        {**HI, "project_id": ""},
        {**HI, "model": "x" * 257},
        {**HI, "reasoning_effort": "extreme"},
        {**HI, "top_logprobs": 3},
        {**HI, "logprobs": False, "top_logprobs": 3},
        {**HI, "stream_options": {}},
        {**HI, "stream": False, "stream_options": {}},
        {**HI, "tools": [{"type": "function"}]},
        {**HI, "tools": [{"type": "function", "function": None}]},
        {**HI, "response_format": {"type": "json_schema"}},
        said(role="user"),
        said(role="user", content=None),
        said(role="nobody", content="x"),
        said(role="assistant", content=None),
        said(role="assistant", tool_calls=[]),
        said(role="assistant", tool_calls=[{"id": "1"}]),
        said(role="function", content="x"),
        said(role="function", name="", content="x"),
        said(role="tool", content="x"),
        said(role="tool", content=None, tool_call_id="1"),
        part(type="text"),
        part(type="image_url"),
        part(type="image_url", image_url=None),
        part(type="input_audio"),
    ],
)
def test_a_request_that_is_not_described_is_refused(request_body: dict[str, Any]) -> None:
    assert problems(of("ChatCompletionRequest"), request_body) != []
    failure = parse_request(json.dumps(request_body).encode())
    assert isinstance(failure, Failure)
    assert failure.status == 400


# Answers


def as_described(path: str, method: str, commands: Sequence[Command]) -> int:
    """Assert that a response is as described; its status."""
    status, headers = sent_head(commands)
    response = PATHS[path][method]["responses"][str(status)]
    (media,) = {headers["content-type"].partition(";")[0]} & set(response["content"])
    if media == "application/json":
        assert problems(response["content"][media]["schema"], json.loads(sent_body(commands))) == []
    for name, reference in response["headers"].items():
        known = DOCUMENT["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        if known["required"] or name in headers:
            value = int(headers[name]) if known["schema"]["type"] == "integer" else headers[name]
            assert problems(known["schema"], value) == []
    ours = {name for name in headers if name.startswith(("x-gateway-", "x-ratelimit-", "retry-after"))}
    assert ours <= set(response["headers"])
    return status


def send(request: RequestHead, payload: bytes = b"", **sections: Any) -> list[Command]:
    """A response of a gateway that has served a request with two attempts and has cooled a provider down."""
    busy = gateway(provider("a"), provider("b", model={"capabilities": ("tools",)}), **sections)
    exchange, _ = begin(busy, body())
    feed(exchange, START, *answer(1, b"{}", status=401), *answer(2, completion()))
    exchange = busy.begin(request, START)
    commands = list(exchange.start(START))
    return (
        [*commands, *feed(exchange, START, ClientData(payload), ClientEnd())]
        if exchange.receiving
        else commands
    )


@pytest.mark.parametrize(
    ("method", "path", "target", "payload", "status"),
    [
        ("get", "/v1/models", "/v1/models", b"", 200),
        ("get", "/v1/models/{id}", "/v1/models/auto", b"", 200),
        ("get", "/v1/models/{id}", "/models/b-model", b"", 200),
        ("get", "/v1/models/{id}", "/v1/models/none", b"", 404),
        ("get", "/v1/routing/status", "/v1/routing/status", b"", 200),
        ("get", "/health", "/health", b"", 200),
        ("get", "/livez", "/livez", b"", 200),
        ("get", "/health/readiness", "/health/readiness", b"", 200),
        ("post", "/v1/routing/explain", "/v1/routing/explain", body(stream=True), 200),
        ("post", "/v1/routing/explain", "/v1/routing/explain", body(model="none"), 404),
        ("post", "/v1/routing/explain", "/v1/routing/explain", b"{", 400),
        ("post", "/v1/routing/reset", "/v1/routing/reset", b"", 200),
        ("post", "/v1/routing/reset", "/v1/routing/reset", b'{"provider":"a"}', 200),
        ("post", "/v1/routing/reset", "/v1/routing/reset", b'{"provider":"z"}', 400),
        ("get", "/v1/analytics", "/v1/analytics?days=0", b"", 400),
        ("get", "/metrics", "/metrics?x=1", b"", 400),
    ],
)
def test_its_own_answers_are_as_described(
    method: str, path: str, target: str, payload: bytes, status: int
) -> None:
    assert as_described(path, method, send(head(method.upper(), target), payload)) == status


def test_readiness_is_described_when_it_ends() -> None:
    ending = gateway()
    ending.drain(START)
    assert as_described("/readyz", "get", ending.begin(head("GET", "/readyz"), START).start(START)) == 503


def test_refusals_by_limits_are_as_described() -> None:
    limits = LimitSettings(requests_per_second=1, burst=1, public_requests_per_second=1, public_burst=1)
    chat, models = head(), head("GET", "/v1/models", key=None)
    assert as_described(CHAT, "post", send(chat, body(), limits=limits)) == 429
    again = gateway(limits=limits)
    statuses = [as_described("/v1/models", "get", again.begin(models, START).start(START)) for _ in range(2)]
    assert statuses == [200, 429]


@pytest.mark.parametrize(
    ("payload", "events", "status"),
    [
        (body(), answer(1, completion()), 200),
        (body(stream=True), answer(1, ROLE, text("x"), STOP, DONE, content_type="text/event-stream"), 200),
        (b"{", [], 400),
        (body(), answer(1, b"{}", status=400), 400),
        (body(), answer(1, b"{}", status=429), 429),
        (body(), answer(1, b"{}", status=500), 502),
        (body(model="none"), [], 404),
    ],
)
def test_completions_are_as_described(payload: bytes, events: list[Any], status: int) -> None:
    exchange, commands = begin(gateway(retry=RetrySettings(max_attempts=1)), payload)
    assert as_described(CHAT, "post", [*commands, *feed(exchange, START, *events)]) == status


def test_figures_and_records_are_as_described(tmp_path: Path) -> None:
    records = Recorder(f"sqlite:///{tmp_path}/records.db", wall=lambda: NOON + 60.0)
    live = gateway().shared.router.statuses(START)

    def answers() -> Iterator[tuple[str, tuple[int, Headers, bytes]]]:
        for by in ("", "model"):
            yield "/v1/analytics", records.analytics(json.dumps({"days": 3, "by": by, "project_id": ""}))
        yield "/v1/requests", records.requests('{"limit":500}')
        yield "/v1/stats/providers", records.stats('{"days":3}', live, START, NOON - START)

    def hold() -> Iterator[int]:
        for path, (status, _, answered) in answers():
            schema = PATHS[path]["get"]["responses"][str(status)]["content"]["application/json"]["schema"]
            assert problems(schema, json.loads(answered)) == []
            yield status

    for outcome in (*random_outcomes(300), PLAIN):
        records.put(outcome)
    records.close()
    assert set(hold()) == {200}
    disabled = Recorder("")
    disabled.close()
    status, _, answered = disabled.requests("{}")
    assert status == 503
    assert problems(of("Error"), json.loads(answered)) == []


@pytest.mark.parametrize("key", [None, KEY + "x"])
def test_rejected_keys_are_as_described(key: str | None) -> None:
    for path, methods in PATHS.items():
        for method, operation in methods.items():
            if operation["security"]:
                assert as_described(path, method, send(head(method.upper(), path, key=key))) == 401


@pytest.mark.parametrize("name", STREAMS)
def test_every_event_of_every_format_is_as_described(name: str) -> None:
    format, golden = STREAMS[name]
    lines = translate(
        [bytes_of(format, golden)],
        dialect=DIALECTS[format],
        reading=reading_of(golden),
        legacy=golden.get("legacy", False),
    )
    schema = PATHS[CHAT]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    for line in lines:
        if line.startswith(b"data: "):  # else why there was no answer, in the test's words
            data = line.removeprefix(b"data: ").removesuffix(b"\n\n").decode()
            assert problems(schema, {"data": data}) == []
            if data != "[DONE]":
                assert problems(of("ChatCompletionChunk"), json.loads(data)) == []


@pytest.mark.parametrize(
    ("format", "golden"), WHOLE, ids=[f"{format}-{golden['name']}" for format, golden in WHOLE]
)
def test_every_answer_of_every_format_is_as_described(format: str, golden: dict[str, Any]) -> None:
    whole = DIALECTS[format].decode_completion(bytes_of(format, golden), reading_of(golden))
    if isinstance(whole, Completion):
        encoded = encode_completion(whole, Envelope("c1", 1, "m"))
        assert problems(of("ChatCompletion"), json.loads(encoded)) == []

"""Whatever a client sends is answered in OpenAI's shape, names the field, and hurts nobody: on both runtimes."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import pytest

from support.servers import (
    CHAT,
    KEY,
    PATIENCE,
    RUNTIMES,
    Answer,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)

pytestmark = pytest.mark.sockets

MAX_BODY = 100_000
GOOD = b'{"messages": [{"role": "user", "content": "hello"}]}'
LISTS = ("messages", "tools", "functions", "modalities", "stop")
OTHERS = [
    "audio",
    "frequency_penalty",
    "function_call",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
    "project_id",
    "prompt",
    "x_gateway",
]


@pytest.fixture(scope="module", params=RUNTIMES)
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    provider = Provider("good", models=("mock",))
    more = f"[limits]\nmax_body = {MAX_BODY}"
    with (
        hosting([provider]) as urls,
        serving(
            tmp_path_factory.mktemp("gateway"), request.param, configuration([provider], urls, more)
        ) as gateway,
    ):
        yield gateway


def request(body: bytes = b"", *, start: str = f"POST {CHAT}", fields: tuple[str, ...] = ()) -> bytes:
    """A whole request with the key and the length of its body."""
    lines = (f"{start} HTTP/1.1", "host: gateway", f"authorization: Bearer {KEY}", *fields)
    return "\r\n".join((*lines, f"content-length: {len(body)}", "", "")).encode() + body


class Connection:
    """A client's connection, bytes out and answers in."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def answer(self) -> Answer:
        response = HTTPResponse(self.sock)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, headers, response.read())
        response.close()
        return answer

    @property
    def ended(self) -> bool:
        """Whether the server closed it; waits for that."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


@contextmanager
def connected(gateway: GatewayProcess) -> Iterator[Connection]:
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as sock:
        yield Connection(sock)


def ask(gateway: GatewayProcess, data: bytes) -> Answer:
    """The answer to ``data``, after which the next request must work: on the same connection unless that is closed."""
    with connected(gateway) as connection:
        connection.sock.sendall(data)
        answer = connection.answer()
        if answer.headers.get("connection") != "close":
            connection.sock.sendall(request(GOOD))
            assert connection.answer().status == 200
            return answer
        assert connection.ended
    with connected(gateway) as connection:
        connection.sock.sendall(request(GOOD))
        assert connection.answer().status == 200
    return answer


def refused(answer: Answer, status: int = 400) -> dict[str, Any]:
    """The error of a request that was refused."""
    assert answer.status == status
    error = answer.error
    assert error["type"] == "invalid_request_error"
    assert error["code"]
    return error


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="not JSON"),
        pytest.param(b"\x00\x01\x02", id="binary"),
        pytest.param(GOOD[:-1], id="cut"),
        pytest.param(GOOD + b"x", id="trailing"),
        pytest.param(b'{"messages": [{"role": "user", "content": "hello"}], "temperature": NaN}', id="NaN"),
        pytest.param(
            b'{"messages": [{"role": "user", "content": "hello"}], "top_p": Infinity}', id="Infinity"
        ),
        pytest.param(b'{"metadata": ' * 200 + b"{}" + b"}" * 200, id="deep"),
        pytest.param(b'{"x": ' + b"[" * 200 + b"]" * 200 + b"," + GOOD[1:], id="deep, valid but for that"),
        pytest.param(b'{"metadata":' * 8_000, id="very deep"),
        pytest.param(GOOD.replace(b"hello", b"hell\xf6"), id="not UTF-8"),
        pytest.param(GOOD.replace(b"hello", b"hell\xed\xa0\x80"), id="surrogates in UTF-8"),
    ],
)
def test_not_json(gateway: GatewayProcess, body: bytes) -> None:
    error = refused(ask(gateway, request(body)))
    assert error["code"] == "invalid_json"
    assert error["param"] is None


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"5", b"true"])
def test_not_an_object(gateway: GatewayProcess, body: bytes) -> None:
    assert "object" in refused(ask(gateway, request(body)))["message"]


@pytest.mark.parametrize("field", [*LISTS, *OTHERS])
def test_a_wrong_type(gateway: GatewayProcess, field: str) -> None:
    value = 5 if field in LISTS else [1]
    error = refused(ask(gateway, request(json.dumps({**json.loads(GOOD), field: value}).encode())))
    assert error["param"] == field
    assert error["code"] == "invalid_type"
    assert field in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"project_id": ""}, "project_id"),
        ({"project_id": "a b"}, "project_id"),
        ({"project_id": "a\n"}, "project_id"),
        ({"project_id": "x" * 65}, "project_id"),
        ({"stream": "yes"}, "stream"),
        ({"stop": [1]}, "stop[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_wrong_value(gateway: GatewayProcess, fields: dict[str, Any], param: str) -> None:
    error = refused(ask(gateway, request(json.dumps({**json.loads(GOOD), **fields}).encode())))
    assert error["param"] is not None
    assert error["param"].replace("[0]", "[]") in (param.replace("[0]", "[]"), param.replace("[0]", ""))


def test_an_unknown_model(gateway: GatewayProcess) -> None:
    error = refused(ask(gateway, request(GOOD[:-1] + b', "model": "nothing"}')), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("field", "valid"),
    [("x-gateway-force-provider: nobody", "good"), ("x-gateway-force-model: nothing", "mock")],
)
def test_an_unknown_choice_lists_the_valid_ones(gateway: GatewayProcess, field: str, valid: str) -> None:
    error = refused(ask(gateway, request(GOOD, fields=(field,))))
    assert error["param"] == field.partition(":")[0]
    assert valid in error["message"]


def test_a_bad_project_in_a_header(gateway: GatewayProcess) -> None:
    error = refused(ask(gateway, request(GOOD, fields=("x-gateway-project-id: a b",))))
    assert error["param"] == "x-gateway-project-id"


def test_a_body_over_the_limit_is_refused_before_it_comes(gateway: GatewayProcess) -> None:
    """From its length, and although the client waits to be told to go on."""
    head = request(b"x" * (MAX_BODY + 1), fields=("expect: 100-continue",))[: -(MAX_BODY + 1)]
    error = refused(ask(gateway, head), 413)
    assert error["code"] == "request_too_large"


def test_a_chunked_body_over_the_limit(gateway: GatewayProcess) -> None:
    head = request(fields=("transfer-encoding: chunked",)).replace(b"content-length: 0\r\n", b"")
    chunks = b"".join(b"1000\r\n%s\r\n" % (b" " * 4096) for _ in range(MAX_BODY // 4096 + 1))
    error = refused(ask(gateway, head + chunks), 413)
    assert error["code"] == "request_too_large"
    good = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    assert ask(gateway, good).status == 200


def test_a_body_at_the_limit(gateway: GatewayProcess) -> None:
    text = b"x" * (MAX_BODY - len(GOOD) + len(b"hello"))
    assert ask(gateway, request(GOOD.replace(b"hello", text))).status == 200


@pytest.mark.parametrize(
    ("start", "status", "code"),
    [
        (f"GET {CHAT}", 405, "method_not_allowed"),
        (f"DELETE {CHAT}", 405, "method_not_allowed"),
        ("POST /v1/models", 405, "method_not_allowed"),
        ("POST /v1/nothing", 404, "unknown_url"),
        ("GET /v1", 404, "unknown_url"),
        ("GET /v1/models/nothing", 404, "model_not_found"),
        ("POST /v1/chat/completions/x", 404, "unknown_url"),
        (f"POST /v1{CHAT}", 404, "unknown_url"),
    ],
)
def test_a_wrong_method_or_path(gateway: GatewayProcess, start: str, status: int, code: str) -> None:
    answer = ask(gateway, request(GOOD, start=start))
    assert refused(answer, status)["code"] == code
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("start", ["POST /chat/completions", f"POST {CHAT}/", f"POST {CHAT}?x=y"])
def test_other_spellings_of_the_path(gateway: GatewayProcess, start: str) -> None:
    assert ask(gateway, request(GOOD, start=start)).status == 200


@pytest.mark.parametrize(
    "fields",
    ["", "authorization: Bearer wrong\r\n", "authorization: Basic Og==\r\n", "x-api-key: wrong\r\n"],
)
def test_a_missing_or_wrong_key(gateway: GatewayProcess, fields: str) -> None:
    data = request(GOOD).replace(f"authorization: Bearer {KEY}\r\n".encode(), fields.encode())
    answer = ask(gateway, data)
    assert answer.status == 401
    assert answer.error["type"] == "authentication_error"
    assert answer.error["code"] == "invalid_api_key"


def test_two_keys(gateway: GatewayProcess) -> None:
    refused(ask(gateway, request(GOOD, fields=("authorization: Bearer other",))))
    other = request(GOOD).replace(b"authorization: Bearer", b"x-api-key:")
    assert ask(gateway, other).status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"hello\r\n\r\n", 400, id="not HTTP"),
        pytest.param(request(fields=("content-length: 5",)), 400, id="two lengths"),
        pytest.param(request(GOOD, fields=("transfer-encoding: chunked",)), 400, id="length and chunked"),
        pytest.param(request().replace(b"content-length: 0", b"content-length: -1"), 400, id="bad length"),
        pytest.param(request(fields=("a b: c",)), 400, id="bad field name"),
        pytest.param(request(fields=("x: " + "y" * 70_000,)), 431, id="large head"),
        pytest.param(request(fields=tuple(f"x-{n}: y" for n in range(101))), 431, id="many fields"),
    ],
)
def test_bad_http(gateway: GatewayProcess, data: bytes, status: int) -> None:
    """Refused by whoever reads it first, which need not be the gateway; then the connection ends."""
    with connected(gateway) as connection:
        connection.sock.sendall(data)
        answer = connection.answer()
        assert answer.status == status
        assert connection.ended
    if "(trio)" in gateway.announced[0]:
        assert answer.error["code"] == "bad_request"
    with connected(gateway) as connection:
        connection.sock.sendall(request(GOOD))
        assert connection.answer().status == 200

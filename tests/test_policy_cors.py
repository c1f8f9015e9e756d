"""Cross-origin access: what pages in browsers are told, by decision, through the machine and on both servers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from gwproto import ClientData, ClientEnd, Command, ConfigurationError, Delegate, SendEnd, SendHead
from gwproto.config import RetrySettings, ServerSettings, SingleFlightSettings
from gwproto.loading import load
from gwproto.policy.cors import HEADERS, CrossOrigin, cross_origin, origin_problems
from gwproto.values import RequestHead
from support.conversation import (
    DONE,
    ROLE,
    START,
    STOP,
    answer,
    begin,
    body,
    completion,
    configuration,
    feed,
    gateway,
    head,
    sent_head,
    text,
)
from support.servers import CHAT, KEY, RUNTIMES, Provider, hosting, serving
from support.servers import configuration as configuration_file

PAGE = "https://app.example"
OTHER = "https://evil.example"
ALLOW = "access-control-allow-origin"
SERVER = ServerSettings(cors_origins=("http://localhost:3000", PAGE))
ASKS = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,x-stainless-os",
}


def asking(*headers: tuple[str, str], method: str = "GET") -> RequestHead:
    return RequestHead(method, "/", tuple((name.encode(), value.encode()) for name, value in headers))


def said(commands: Sequence[Command]) -> dict[str, str]:
    """What a response says of other origins."""
    headers = sent_head(commands)[1]
    assert "access-control-allow-credentials" not in headers
    return {name: value for name, value in headers.items() if name.encode() in HEADERS}


# The decision


def test_nobody_is_let_in_by_default() -> None:
    assert cross_origin(()) is None


@pytest.mark.parametrize("origin", ["http://localhost:3000", PAGE])
def test_an_origin_that_is_listed_is_named(origin: str) -> None:
    headers = dict(CrossOrigin(SERVER.cors_origins).headers(asking(("origin", origin))))
    assert headers[b"access-control-allow-origin"] == origin.encode()
    assert headers[b"vary"] == b"origin"
    exposed = headers[b"access-control-expose-headers"].split(b", ")
    assert {b"x-gateway-provider", b"x-request-id", b"retry-after", b"server-timing"} <= set(exposed)
    assert exposed == sorted(exposed)


@pytest.mark.parametrize(
    "origins",
    [
        (),
        (OTHER,),
        (f"{PAGE}:443",),
        (f"{PAGE}.evil.example",),
        ("https://sub.app.example",),
        (PAGE.upper(),),
        ("http://app.example",),
        ("null",),
        ("",),
        ("*",),
        (PAGE, PAGE),
        (PAGE, OTHER),
    ],
)
def test_no_other_origin_is_told_anything_but_that_answers_differ(origins: tuple[str, ...]) -> None:
    request = asking(*[("origin", origin) for origin in origins])
    assert CrossOrigin(SERVER.cors_origins).headers(request) == ((b"vary", b"origin"),)


@pytest.mark.parametrize("origin", [PAGE, OTHER, "null"])
def test_a_star_is_for_every_page(origin: str) -> None:
    everybody = CrossOrigin(("*",))
    request = asking(("origin", origin), ("access-control-request-method", "POST"), method="OPTIONS")
    assert dict(everybody.headers(request))[b"access-control-allow-origin"] == b"*"
    assert everybody.preflight(request) is not None
    assert b"vary" not in dict(everybody.headers(request))


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", ASKS),
        ("POST", ASKS),
        ("OPTIONS", {}),
        ("OPTIONS", {"origin": PAGE}),
        ("OPTIONS", {"access-control-request-method": "POST"}),
        ("OPTIONS", {**ASKS, "origin": OTHER}),
        ("OPTIONS", {**ASKS, "access-control-request-method": ""}),
    ],
)
def test_what_is_no_preflight_of_a_page_that_may_ask(method: str, headers: Mapping[str, str]) -> None:
    assert CrossOrigin(SERVER.cors_origins).preflight(asking(*headers.items(), method=method)) is None
    assert CrossOrigin(("*",)).preflight(asking(*headers.items(), method="GET")) is None


def test_without_an_origin_nobody_asks_not_even_of_everybody() -> None:
    request = asking(("access-control-request-method", "POST"), method="OPTIONS")
    assert CrossOrigin(("*",)).preflight(request) is None


def test_a_preflight_that_names_no_headers_hears_of_those_that_are_known() -> None:
    asks = {name: value for name, value in ASKS.items() if not name.endswith("-headers")}
    granted = CrossOrigin(SERVER.cors_origins).preflight(asking(*asks.items(), method="OPTIONS"))
    assert granted is not None
    allowed = dict(granted)[b"access-control-allow-headers"].split(b", ")
    assert {b"authorization", b"content-type", b"x-api-key", b"x-gateway-project-id"} <= set(allowed)


# The configuration


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        PAGE,
        "http://localhost:3000",
        "http://[::1]:8080",
        "https://a.example:80",
        "http://a.example:443",
        "tauri://localhost",
        "chrome-extension://abcdef",
        "app://-",
    ],
)
def test_origins_that_browsers_send(origin: str) -> None:
    assert list(origin_problems([origin], "x")) == []


@pytest.mark.parametrize(
    ("origin", "problem"),
    [
        ("", "expected *"),
        ("app.example", "expected *"),
        ("null", "expected *"),
        ("https://app.example/", "without a path"),
        ("https://app.example/x", "without a path"),
        ("https://App.example", "lower case"),
        ("https://*.example", "expected *"),
        ("https://", "expected *"),
        ("https://user@app.example", "expected *"),
        ("https://app.example:", "expected *"),
        ("https://app.example:port", "expected *"),
        ("https://app.example\n", "expected *"),
        ("https://app.example:443", "own port"),
        ("http://[::1]:80", "own port"),
    ],
)
def test_origins_that_no_browser_sends_are_named(origin: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(f'[server]\ncors_origins = ["*", {json.dumps(origin)}]'.encode(), {}, {}, known={})
    ((path, message),) = raised.value.problems
    assert path == "server.cors_origins[1]"
    assert problem in message


# Through the machine


def test_a_preflight_needs_no_key() -> None:
    exchange = gateway(server=SERVER).begin(head("OPTIONS", CHAT, key=None, headers=ASKS), START)
    commands = exchange.start(START)
    status, headers = sent_head(commands)
    assert status == 204
    assert headers[ALLOW] == PAGE
    assert headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
    assert int(headers["access-control-max-age"]) > 0
    assert headers["vary"] == "origin"
    assert headers["x-request-id"]
    assert not {"content-length", "content-type"} & set(headers)
    assert commands[1:] == [SendEnd()]
    assert exchange.outcome is not None
    assert exchange.outcome.status == 204


@pytest.mark.parametrize("server", [ServerSettings(), SERVER])
def test_other_preflights_are_wrong_methods(server: ServerSettings) -> None:
    asks = {**ASKS, "origin": OTHER}
    commands = gateway(server=server).begin(head("OPTIONS", CHAT, key=None, headers=asks), START).start(START)
    assert sent_head(commands)[0] == 405
    assert ALLOW not in said(commands)


def test_a_head_that_cannot_be_trusted_is_no_preflight() -> None:
    headers = {**ASKS, "transfer-encoding": "chunked", "content-length": "5"}
    commands = gateway(server=SERVER).begin(head("OPTIONS", headers=headers), START).start(START)
    status, sent = sent_head(commands)
    assert (status, sent["connection"], sent[ALLOW]) == (400, "close", PAGE)


@pytest.mark.parametrize(
    ("method", "target", "key", "status"),
    [
        ("GET", "/health", None, 200),
        ("HEAD", "/v1/models", None, 200),
        ("GET", "/v1/nothing", None, 404),
        ("GET", CHAT, KEY, 405),
        ("POST", CHAT, None, 401),
        ("GET", "/v1/requests", None, 401),
        ("GET", "/v1/analytics?days=0", "test-key-of-the-client", 400),
    ],
)
def test_every_answer_of_the_gateways_own_says_who_may_read_it(
    method: str, target: str, key: str | None, status: int
) -> None:
    request = head(method, target, key=key, headers={"origin": PAGE})
    commands = gateway(server=SERVER).begin(request, START).start(START)
    assert sent_head(commands)[0] == status
    assert said(commands)[ALLOW] == PAGE
    stranger = head(method, target, key=key, headers={"origin": OTHER})
    assert said(gateway(server=SERVER).begin(stranger, START).start(START)) == {"vary": "origin"}
    assert said(gateway().begin(request, START).start(START)) == {}


def test_pages_of_the_runtimes_say_it_too() -> None:
    (command,) = gateway(server=SERVER).begin(head("GET", "/", headers={"origin": PAGE}), START).start(START)
    assert isinstance(command, Delegate)
    assert dict(command.headers)[ALLOW.encode()] == PAGE.encode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 500])
def test_completions_streams_and_failures_say_it(stream: bool, status: int) -> None:
    once = gateway(server=SERVER, retry=RetrySettings(max_attempts=1))
    exchange, _ = begin(once, body(stream=stream), headers={"origin": PAGE})
    if status == 200:
        pieces = (ROLE, text("x"), STOP, DONE) if stream else (completion(),)
        events = answer(1, *pieces, content_type="text/event-stream" if stream else "application/json")
    else:
        events = answer(1, b"{}", status=500)
    commands = feed(exchange, START, *events)
    assert sent_head(commands)[0] == (200 if status == 200 else 502)
    assert said(commands)[ALLOW] == PAGE


def test_a_head_that_a_heartbeat_sends_says_it() -> None:
    exchange, _ = begin(gateway(server=SERVER), body(stream=True), headers={"origin": PAGE})
    feed(exchange, START, *answer(1, ROLE, content_type="text/event-stream")[:3])
    assert said(exchange.tick(START + SERVER.heartbeat_interval))[ALLOW] == PAGE


def test_operations_say_it() -> None:
    exchange = gateway(server=SERVER).begin(
        head("POST", "/v1/routing/reset", headers={"origin": PAGE}), START
    )
    exchange.start(START)
    commands = feed(exchange, START, ClientData(b"{}"), ClientEnd())
    assert sent_head(commands)[0] == 200
    assert said(commands)[ALLOW] == PAGE


def test_who_shares_an_answer_is_told_of_its_own_origin() -> None:
    shared = gateway(server=SERVER, single_flight=SingleFlightSettings(enabled=True))
    leader, _ = begin(shared, body(temperature=0), headers={"origin": PAGE})
    follower, commands = begin(shared, body(temperature=0), headers={"origin": "http://localhost:3000"})
    stranger, more = begin(shared, body(temperature=0), headers={"origin": OTHER})
    assert [*commands, *more] == []
    assert said(feed(leader, START, *answer(1, completion())))[ALLOW] == PAGE
    assert said(follower.tick(START))[ALLOW] == "http://localhost:3000"
    heads = [command for command in stranger.tick(START) if isinstance(command, SendHead)]
    assert said(heads) == {"vary": "origin"}
    (shared_head,) = heads
    assert len(dict(shared_head.headers)) == len(shared_head.headers)


def test_a_new_configuration_changes_it() -> None:
    changed = gateway()
    request = head("GET", "/health", headers={"origin": PAGE})
    assert said(changed.begin(request, START).start(START)) == {}
    changed.reconfigure(configuration(server=SERVER), START)
    begun = changed.begin(request, START)
    changed.reconfigure(configuration(), START)
    assert said(begun.start(START))[ALLOW] == PAGE  # in flight: as it began
    assert said(changed.begin(request, START).start(START)) == {}


# On sockets


@pytest.mark.sockets
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_page_calls_the_gateway(runtime: str, tmp_path: Path) -> None:
    provider = Provider("local")
    with (
        hosting([provider]) as urls,
        serving(
            tmp_path,
            runtime,
            configuration_file([provider], urls, f'[server]\ncors_origins = ["{PAGE}"]'),
            notices=r"WARNING gwproto\.audit: .*",
        ) as process,
        process.client(KEY) as client,
        process.client("") as stranger,
    ):
        asked = stranger.ask(None, method="OPTIONS", headers=ASKS)
        assert (asked.status, asked.body) == (204, b"")
        assert asked.headers[ALLOW] == PAGE
        assert asked.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
        for stream in (False, True):
            answered = client.ask(
                {"messages": [{"role": "user", "content": "hi"}], "stream": stream}, headers={"origin": PAGE}
            )
            assert answered.status == 200
            assert answered.headers[ALLOW] == PAGE
            assert "x-gateway-provider" in answered.headers["access-control-expose-headers"]
        refused = stranger.ask({}, headers={"origin": PAGE})
        assert (refused.status, refused.headers[ALLOW]) == (401, PAGE)
        page = client.ask(None, method="GET", path="/", headers={"origin": PAGE})
        assert (page.status, page.headers[ALLOW]) == (200, PAGE)
        assert ALLOW not in client.ask(None, method="GET", path="/", headers={"origin": OTHER}).headers

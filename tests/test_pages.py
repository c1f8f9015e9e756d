"""The pages that the core leaves to the runtime: who may see them, and what reaches it."""

import json
from typing import Any

import pytest

from gwproto import Delegate, Ending, Gateway, RequestHead
from gwproto.config import LimitSettings, ServerSettings
from support.conversation import (
    KEY,
    START,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    head,
    provider,
    sent_error,
    sent_head,
)

OPEN = ServerSettings(public_stats=True)
DEFAULTS: dict[str, dict[str, Any]] = {
    "/": {"file": "index.html"},
    "/console/app.js": {"file": "app.js"},
    "/metrics": {},
    "/openapi.json": {},
    "/v1/analytics": {"days": 7, "project_id": "", "provider": "", "model": "", "by": ""},
    "/v1/stats/providers": {"days": 1},
    "/v1/requests": {
        "limit": 50,
        "before": "",
        "project_id": "",
        "provider": "",
        "model": "",
        "label": "",
        "ending": "",
        "status": None,
        "request_id": "",
    },
}


def asked(gateway: Gateway, target: str, *, key: str | None = KEY, method: str = "GET") -> list[Any]:
    return list(gateway.begin(head(method, target, key=key), START).start(START))


@pytest.mark.parametrize("target", DEFAULTS)
def test_a_page_is_asked_for_with_all_its_parameters(target: str) -> None:
    (command,) = asked(gateway(), target)
    assert isinstance(command, Delegate)
    assert json.loads(command.query) == DEFAULTS[target]
    assert dict(command.headers).keys() == {b"x-request-id", b"x-gateway-request-id"}


@pytest.mark.parametrize("target", DEFAULTS)
def test_figures_need_a_key(target: str) -> None:
    command = asked(gateway(), target, key=None)[0]
    if target in ("/", "/console/app.js", "/openapi.json"):
        assert isinstance(command, Delegate)
    else:
        assert command.status == 401


@pytest.mark.parametrize("target", DEFAULTS)
def test_public_stats_opens_all_but_single_requests(target: str) -> None:
    command = asked(gateway(server=OPEN), target, key=None)[0]
    if target == "/v1/requests":
        assert command.status == 401
    else:
        assert isinstance(command, Delegate)


@pytest.mark.parametrize("target", DEFAULTS)
def test_pages_are_only_read(target: str) -> None:
    status, headers = sent_head(asked(gateway(), target, method="POST"))
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_parameters_reach_the_runtime_as_values() -> None:
    (command,) = asked(gateway(), "/analytics/?days=30&project_id=a:b&by=model&model=a%2Fb+c&provider=")
    assert json.loads(command.query) == {
        "days": 30,
        "project_id": "a:b",
        "provider": "",
        "model": "a/b c",
        "by": "model",
    }


@pytest.mark.parametrize(
    ("target", "param"),
    [
        ("/v1/analytics?days=0", "days"),
        ("/v1/analytics?days=x", "days"),
        ("/v1/analytics?day=1", "day"),
        ("/v1/analytics?days=1&days=2", "days"),
        ("/v1/requests?limit=501", "limit"),
        ("/v1/requests?model=%00", "model"),
        ("/v1/requests?model=%ff", "model"),
        ("/metrics?x=1", "x"),
    ],
)
def test_a_wrong_parameter_is_named(target: str, param: str | None) -> None:
    commands = asked(gateway(), target)
    assert sent_head(commands)[0] == 400
    error = sent_error(commands)
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_value", param)


@pytest.mark.parametrize("target", ["/console/.env", "/console/a%2Fb", "/console/A", "/console/a/b"])
def test_a_name_that_no_file_has_is_an_unknown_url(target: str) -> None:
    commands = asked(gateway(), target)
    assert sent_head(commands)[0] == 404
    assert sent_error(commands)["code"] == "unknown_url"


def test_addresses_without_a_key_are_limited_at_pages_too() -> None:
    few = gateway(server=OPEN, limits=LimitSettings(public_burst=1))
    assert isinstance(asked(few, "/metrics", key=None)[0], Delegate)
    exchange = few.begin(head("GET", "/metrics", key=None), START)
    assert sent_head(list(exchange.start(START)))[0] == 429
    assert exchange.outcome is not None
    assert exchange.outcome.endpoint == "/metrics"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (((b"host", b"a"),), "missing"),
        (((b"host", b"a"), (b"x-api-key", b"wrong")), "unknown"),
        (((b"host", b"a"), (b"x-api-key", KEY.encode()), (b"x-api-key", b"b")), "ambiguous"),
        (((b"host", b"a"), (b"x-api-key", KEY.encode())), ""),
    ],
)
def test_a_rejected_key_is_recorded_without_itself(headers: Any, why: str) -> None:
    exchange = gateway().begin(RequestHead("GET", "/v1/requests", headers, client="192.0.2.7"), START)
    exchange.start(START)
    outcome = exchange.outcome
    assert outcome is not None
    assert (outcome.rejected, outcome.client) == (why, "192.0.2.7" if why else "")
    assert outcome.ending is (Ending.REFUSED if why else Ending.COMPLETED)
    assert (outcome.key, outcome.began_at) == ("" if why else "tester", START)


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({"input_price": 2.0, "output_price": 10.0}, (7 * 2.0 + 3 * 10.0) / 1e6),
        ({"input_price": 2.0}, None),
        ({"output_price": 2.0}, None),
        ({}, None),
    ],
)
def test_a_request_costs_what_its_tokens_cost(prices: dict[str, float], cost: float | None) -> None:
    priced = gateway(provider("one", model=prices))
    exchange, _ = begin(priced, body())
    used = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    feed(exchange, START, *answer(1, completion(usage=used)))
    assert exchange.outcome is not None
    assert exchange.outcome.cost == cost
    assert [attempt.number for attempt in exchange.outcome.attempts] == [1]

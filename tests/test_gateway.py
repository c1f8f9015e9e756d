"""What the gateway answers by itself, and whom it lets in."""

import json
import math
from typing import Any

import pytest

from gwproto import (
    ClientEnd,
    Command,
    Delegate,
    Ending,
    Gateway,
    LocalProtocolError,
    RequestHead,
    SendEnd,
)
from gwproto.config import LimitSettings, RetrySettings
from support.conversation import (
    EPOCH,
    KEY,
    START,
    answer,
    begin,
    body,
    completion,
    configuration,
    feed,
    gateway,
    head,
    opened,
    provider,
    provider_of,
    sent_body,
    sent_error,
    sent_head,
)


def ask(
    gateway: Gateway, method: str, target: str, *, key: str | None = None, headers: Any = None
) -> list[Command]:
    exchange = gateway.begin(head(method, target, key=key, headers=headers), START)
    commands = list(exchange.start(START))
    assert exchange.finished
    assert exchange.outcome is not None
    if commands and not isinstance(commands[0], Delegate):
        status, sent = sent_head(commands)
        assert sent["x-request-id"] == sent["x-gateway-request-id"] == exchange.request_id
        assert exchange.outcome.status == status
        assert commands[-1] == SendEnd()
    return commands


@pytest.mark.parametrize(
    "path", ["/livez", "/livez/", "/v1/livez", "/health/liveliness", "/readyz", "/health/readiness?x=1"]
)
def test_liveness_and_readiness_need_no_key(path: str) -> None:
    commands = ask(gateway(), "GET", path)
    assert sent_head(commands)[0] == 200
    assert json.loads(sent_body(commands)) == {"status": "ok"}


def test_a_draining_gateway_is_alive_but_not_ready() -> None:
    stopping = gateway()
    assert stopping.statistics(START).draining_for is None
    stopping.drain(START)
    stopping.drain(START + 5)
    assert stopping.statistics(START + 6).draining_for == 6
    assert sent_head(ask(stopping, "GET", "/livez"))[0] == 200
    assert sent_head(ask(stopping, "GET", "/readyz"))[0] == 503


def test_head_is_get_without_the_body() -> None:
    commands = ask(gateway(), "HEAD", "/livez")
    assert sent_head(commands)[1]["content-length"] == "15"
    assert sent_body(commands) == b""


def test_the_console_is_the_runtimes_to_serve() -> None:
    (command,) = ask(gateway(), "GET", "/")
    assert isinstance(command, Delegate)
    assert (command.name, command.query) == ("console", '{"file":"index.html"}')
    assert dict(command.headers).keys() == {b"x-request-id", b"x-gateway-request-id"}


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("GET", "//livez", 404, "unknown_url"),
        ("GET", "/v1/../livez", 404, "unknown_url"),
        ("GET", "/v1/%6Civez", 404, "unknown_url"),
        ("POST", "/v1/v1/chat/completions", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/x", 405, "method_not_allowed"),
        ("CONNECT", "/v1/models", 405, "bad_request"),
        ("QUERY", "/v1/models", 405, "method_not_allowed"),
        ("BREW", "/v1/models", 501, "bad_request"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
    ],
)
def test_every_error_has_openais_shape(method: str, target: str, status: int, code: str) -> None:
    commands = ask(gateway(), method, target, key=KEY)
    assert sent_head(commands)[0] == status
    assert sent_error(commands)["code"] == code


def test_a_405_names_what_is_allowed() -> None:
    assert sent_head(ask(gateway(), "GET", "/chat/completions/"))[1]["allow"] == "POST"
    assert sent_head(ask(gateway(), "POST", "/v1/models"))[1]["allow"] == "GET, HEAD"
    for target, allowed in (("/v1/routing/reset", "POST"), ("/livez?x", "GET, HEAD")):
        assert sent_head(ask(gateway(), "TRACE", target))[1]["allow"] == allowed


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/?a=b"])
def test_the_chat_path_has_several_spellings(target: str) -> None:
    exchange = gateway().begin(head(target=target), START)
    assert exchange.start(START) == []
    assert exchange.receiving


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"authorization": "Bearer ' OR 1=1 --"},
        {"x-api-key": "wrong"},
    ],
)
def test_a_wrong_key_gets_openais_words_and_nothing_of_itself(headers: dict[str, str]) -> None:
    commands = ask(gateway(), "POST", "/v1/chat/completions", headers=headers)
    assert sent_head(commands)[0] == 401
    error = sent_error(commands)
    assert error == {
        "message": "Incorrect API key provided.",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }


def test_two_authorizations_are_refused() -> None:
    commands = ask(
        gateway(), "POST", "/v1/chat/completions", key=KEY, headers={"authorization": f"Bearer {KEY}"}
    )
    assert sent_head(commands)[0] == 400
    assert sent_error(commands)["type"] == "invalid_request_error"


def test_the_key_may_come_in_x_api_key() -> None:
    exchange = gateway().begin(head(key=None, headers={"x-api-key": KEY}), START)
    assert exchange.start(START) == []


def test_an_announced_body_over_the_limit_is_refused_unread() -> None:
    commands = ask(
        gateway(limits=LimitSettings(max_body=10)),
        "POST",
        "/v1/chat/completions",
        key=KEY,
        headers={"content-length": "11"},
    )
    status, headers = sent_head(commands)
    assert (status, headers["connection"]) == (413, "close")
    assert sent_error(commands)["code"] == "request_too_large"


def test_a_body_at_the_limit_is_taken() -> None:
    exchange = gateway(limits=LimitSettings(max_body=10)).begin(
        head(headers={"content-length": "10", "content-encoding": "identity"}), START
    )
    assert exchange.start(START) == []


def test_compressed_bodies_are_refused() -> None:
    commands = ask(gateway(), "POST", "/v1/chat/completions", key=KEY, headers={"content-encoding": "gzip"})
    assert sent_head(commands)[0] == 415


def test_more_than_max_in_flight_is_refused_until_one_ends() -> None:
    busy = gateway(limits=LimitSettings(max_in_flight=1))
    exchange, _ = begin(busy, body())
    assert busy.statistics(START).in_flight == 1
    commands = ask(busy, "POST", "/v1/chat/completions", key=KEY)
    status, headers = sent_head(commands)
    assert (status, headers["retry-after"]) == (503, "1")
    feed(exchange, START, *answer(1, completion()))
    assert busy.statistics(START).in_flight == 0
    assert opened(begin(busy, body())[1])


def test_what_a_parser_refuses_is_answered_and_recorded() -> None:
    exchange = gateway().refuse(431, "bad_request", "Too long.", START)
    commands = exchange.start(START)
    status, headers = sent_head(commands)
    assert (status, headers["connection"]) == (431, "close")
    assert exchange.outcome is not None
    assert exchange.outcome.ending is Ending.REFUSED
    assert exchange.outcome.at == START + EPOCH


def test_a_reply_is_finished_by_start() -> None:
    exchange = gateway().begin(head("GET", "/livez"), START)
    assert not exchange.receiving
    assert exchange.deadline == math.inf
    assert exchange.abandon(START) == []
    assert exchange.outcome is not None
    assert exchange.outcome.ending is Ending.ABANDONED
    with pytest.raises(LocalProtocolError):
        exchange.start(START)
    exchange = gateway().begin(head("GET", "/livez"), START)
    exchange.start(START)
    assert exchange.tick(START) == []
    assert exchange.abandon(START) == []
    assert exchange.outcome is not None
    assert exchange.outcome.ending is Ending.COMPLETED
    with pytest.raises(LocalProtocolError):
        exchange.receive(ClientEnd(), START)


def test_begin_never_raises_for_what_a_client_sent() -> None:
    for target in ("", "*", "\x00", "/v1/models/%", "/v1/models/%zz%41", "/v1/models/é"):
        exchange = gateway().begin(RequestHead("GET", target, ((b"host", b"h"),)), START)
        assert sent_head(exchange.start(START))[0] in (400, 404)


# Models and states


def models(one: Gateway) -> list[dict[str, Any]]:
    listed = json.loads(sent_body(ask(one, "GET", "/v1/models")))
    assert listed["object"] == "list"
    assert isinstance(listed["data"], list)
    return listed["data"]


def test_models_are_listed_with_auto_first() -> None:
    rich = provider(
        "b",
        model={
            "id": "org/big:free",
            "upstream": "big",
            "tier": "high",
            "context_window": 8192,
            "max_output": 4096,
            "capabilities": ("tools", "json"),
        },
    )
    one = gateway(provider("a"), rich, aliases={"nick": ("org/big:free",)})
    auto, first, second = models(one)
    assert (auto["id"], auto["object"], auto["owned_by"]) == ("auto", "model", "gwproto")
    assert auto["created"] == 1_700_000_000
    later = one.begin(head("GET", "/v1/models/auto"), START + 60).start(START + 60)
    assert json.loads(sent_body(list(later)))["created"] == 1_700_000_000
    assert first["id"] == "a-model"
    assert first["capabilities"] is None
    assert second == {
        "id": "org/big:free",
        "object": "model",
        "created": auto["created"],
        "owned_by": "b",
        "provider": "b",
        "upstream_model": "big",
        "tier": "high",
        "capabilities": ["json", "tools"],
        "context_window": 8192,
        "max_output": 4096,
        "health": "available",
    }
    for spelling in ("org/big:free", "org%2Fbig%3Afree", "b/big", "big", "nick"):
        commands = ask(one, "GET", f"/v1/models/{spelling}")
        assert json.loads(sent_body(commands)) == second


def test_a_model_of_two_providers_is_listed_once_with_its_best_health() -> None:
    shared = {"id": "shared"}
    one = gateway(
        provider("a", model=shared), provider("b", model=shared), retry=RetrySettings(max_attempts=1)
    )
    assert models(one)[1]["health"] == "available"
    for health in ("available", "cooldown"):
        exchange, _ = begin(one, body())
        feed(exchange, START, *answer(1, status=401))
        assert [model["id"] for model in models(one)] == ["auto", "shared"]
        assert models(one)[1]["health"] == health


def test_health_and_status_explain_a_cooldown() -> None:
    one = gateway(provider("a"), provider("b"), retry=RetrySettings(max_attempts=1))
    exchange, commands = begin(one, body())
    down = provider_of(opened(commands))
    feed(exchange, START, *answer(1, status=401))
    health = json.loads(sent_body(ask(one, "GET", "/health")))
    assert health["ok"] is True
    by_key = {entry["key"]: entry for entry in health["models"]}
    bad = by_key[f"{down}/{down}-model"]
    assert bad["cooldown_until"] > (START + EPOCH) * 1000
    assert bad["attempts"] == 1
    assert set(bad) == {
        "key",
        "attempts",
        "success_rate",
        "avg_latency_ms",
        "p90_latency_ms",
        "p99_latency_ms",
        "cooldown_until",
        "headroom",
        "daily_used",
        "daily_limit",
    }
    status = json.loads(sent_body(ask(one, "GET", "/v1/routing/status")))
    assert [entry["status"] for entry in status["fallback_order"]] == ["available", "cooldown"]
    assert "auth" in status["fallback_order"][1]["reason"]
    assert status["providers"][down]["status"] == "cooldown"
    assert status["providers"][down]["success_rate"] == 0 or status["providers"][down]["success_rate"] is None


def test_reconfiguring_changes_everything_at_once_but_what_is_in_flight() -> None:
    one = gateway(provider("a"))
    exchange, commands = begin(one, body())
    assert provider_of(opened(commands)) == "a"
    one.reconfigure(configuration(provider("b"), limits=LimitSettings(max_in_flight=2)), START)
    assert [model["id"] for model in models(one)] == ["auto", "b-model"]
    assert one.configuration.settings.limits.max_in_flight == 2
    assert provider_of(opened(begin(one, body())[1])) == "b"
    commands = feed(exchange, START, *answer(1, completion()))
    assert sent_head(commands)[1]["x-gateway-provider"] == "a"
    assert one.statistics(START).in_flight == 1

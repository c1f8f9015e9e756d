"""Limits as clients meet them: refusals, headers, and what every ending leaves of a reservation."""

import hashlib
import json
import random
from typing import Any

import pytest
from msgspec.structs import replace

from gwproto import (
    ClientData,
    ClientGone,
    Command,
    Ending,
    Exchange,
    Gateway,
    LossReason,
    RequestHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.config import LimitSettings, OwnRates, Rates, RetrySettings, ServerSettings, TimeoutSettings
from gwproto.exchange.account import DEFAULT_OUTPUT
from gwproto.exchange.exchange import LINGER_TIMEOUT
from gwproto.policy.values import ClientKey, DayUsage
from gwproto.wire.neutral import ChatRequest
from gwproto.wire.openai.request import parse_request
from support.conversation import (
    DONE,
    EPOCH,
    KEY,
    ROLE,
    START,
    STOP,
    answer,
    begin,
    body,
    chunk,
    completion,
    configuration,
    feed,
    gateway,
    head,
    opened,
    provider,
    sent_body,
    sent_error,
    sent_head,
    text,
)

EVENT_STREAM = ((b"content-type", b"text/event-stream"),)
USED = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
SETTINGS: dict[str, Any] = {
    "limits": LimitSettings(tokens_per_minute=5000, tokens_per_day=9000, project=Rates(tokens_per_day=9000)),
    "retry": RetrySettings(max_attempts=2),
    "server": ServerSettings(heartbeat_interval=0.0),
    "timeouts": TimeoutSettings(total=60.0),
}
PROMPT = "Say a few words. " * 16
ASKED = body(messages=[{"role": "user", "content": PROMPT}], max_tokens=500, stream=True, project_id="p")


def estimated(payload: bytes) -> int:
    """Tokens of a request's prompt, as the gateway estimates them."""
    request = parse_request(payload)
    assert isinstance(request, ChatRequest)
    return request.prompt_tokens


PROMPT_TOKENS = estimated(ASKED)
HI = estimated(body())
ESTIMATE = PROMPT_TOKENS + 500


def limited(**limits: Any) -> Gateway:
    return gateway(provider("a"), limits=LimitSettings(**limits))


def tokens(gateway: Gateway, now: float = START) -> tuple[int, int]:
    """Reserved and used of the key; the project's are the same."""
    limits = gateway.limits
    used = limits.keys.usage(now).get("tester", DayUsage()).tokens
    assert limits.projects.usage(now).get("p", DayUsage()).tokens == used
    assert limits.projects.reserved == limits.keys.reserved
    return limits.keys.reserved, used


def rate_headers(commands: list[Command] | Any) -> dict[str, str]:
    prefix = "x-ratelimit-"
    headers = sent_head(commands)[1].items()
    return {name.removeprefix(prefix): value for name, value in headers if name.startswith(prefix)}


def refused(exchange: Exchange, now: float = START) -> tuple[list[Command], dict[str, Any]]:
    """What a request that its head refuses is answered."""
    commands = list(exchange.start(now))
    assert exchange.finished
    assert exchange.outcome is not None
    error = sent_error(commands)
    assert exchange.outcome.error == error["code"]
    assert exchange.outcome.ending is Ending.REFUSED
    return commands, error


# Refused by the head


def test_requests_per_second_refuse_before_the_body() -> None:
    shared = limited(requests_per_second=2.0, burst=1)
    exchange, commands = begin(shared, body())
    commands = feed(exchange, START, *answer(1, completion()))
    assert rate_headers(commands) == {
        "limit-requests": "1",
        "remaining-requests": "0",
        "reset-requests": "1s",
    }
    exchange = shared.begin(head(), START)
    commands, error = refused(exchange)
    assert exchange.outcome is not None
    assert (exchange.outcome.key, exchange.outcome.endpoint) == ("tester", "/v1/chat/completions")
    assert sent_head(commands)[0] == 429
    assert sent_head(commands)[1]["retry-after"] == "1"
    assert rate_headers(commands)["remaining-requests"] == "0"
    assert error == {
        "message": "Rate limit reached for this key: 2 requests per second, 1 at once. "
        "Please try again in 1s.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert begin(shared, body(), START + 0.5)[1] != []


def test_a_days_requests_refuse_before_the_body() -> None:
    shared = limited(requests_per_day=1)
    begin(shared, b"{")
    commands, error = refused(shared.begin(head(), START))
    assert "budget of 1 requests per day" in error["message"]
    seconds = int(sent_head(commands)[1]["retry-after"])
    assert (START + EPOCH + seconds) % 86400 < 1


def test_without_limits_there_are_no_headers() -> None:
    for off in ({}, {"project": Rates(requests_per_day=1)}):
        exchange, _ = begin(limited(**off), body())
        assert rate_headers(feed(exchange, START, *answer(1, completion()))) == {}


def test_each_key_has_its_own() -> None:
    keys = tuple(
        ClientKey(label, hashlib.sha256(label.encode()).digest(), own)
        for label, own in (("few", OwnRates(requests_per_day=1)), ("many", None))
    )
    shared = Gateway(replace(configuration(), keys=keys), rng=random.Random(7), epoch=EPOCH)
    for _ in range(3):
        assert shared.begin(head(key="many"), START).start(START) == []
    assert shared.begin(head(key="few"), START).start(START) == []
    refused(shared.begin(head(key="few"), START))


# Refused by the body


def test_tokens_refuse_when_the_request_is_understood() -> None:
    shared = limited(tokens_per_minute=1000)
    exchange, _ = begin(shared, body(max_tokens=600))
    refusal, commands = begin(shared, body(max_tokens=600))
    assert sent_head(commands)[0] == 429
    assert sent_head(commands)[1]["retry-after"] == "1"
    assert rate_headers(commands) == {
        "limit-tokens": "1000",
        "remaining-tokens": str(400 - HI),
        "reset-tokens": "1m0s",
    }
    assert sent_error(commands)["type"] == "rate_limit_error"
    assert f"1000 tokens per minute, and this request may need {600 + HI}" in sent_error(commands)["message"]
    assert refusal.outcome is not None
    assert (refusal.outcome.ending, refusal.outcome.error) == (Ending.REFUSED, "rate_limit_exceeded")
    assert refusal.outcome.key == "tester"
    commands = feed(exchange, START, *answer(1, completion()))
    assert rate_headers(commands)["remaining-tokens"] == str(400 - HI), (
        "as it was when the request was admitted"
    )


def test_a_request_that_never_fits_is_too_large() -> None:
    _, commands = begin(limited(tokens_per_minute=1000), body(max_tokens=600, n=2))
    assert sent_head(commands)[0] == 413
    assert "retry-after" not in sent_head(commands)[1]
    error = sent_error(commands)
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")
    assert f"1000 tokens per minute, and this request may need {1200 + HI}" in error["message"]


def test_what_an_answer_may_need_is_guessed_but_never_beyond_the_limit() -> None:
    shared = limited(tokens_per_minute=5000)
    begin(shared, body())
    assert shared.limits.keys.reserved == DEFAULT_OUTPUT + HI
    shared = limited(tokens_per_minute=100)
    assert opened(begin(shared, body())[1])
    assert shared.limits.keys.reserved == 100
    assert sent_head(begin(shared, body(messages=[{"role": "user", "content": "x" * 404}]))[1])[0] == 413


def test_a_projects_limits_are_the_projects() -> None:
    project = Rates(requests_per_second=1.0, burst=2, tokens_per_minute=1000)
    shared = limited(project=project, tokens_per_minute=5000)
    for _ in range(3):
        begin(shared, body(max_tokens=300))
    begin(shared, body(project_id="p", max_tokens=600))
    _, commands = begin(shared, body(project_id="p", max_tokens=600))
    assert "for this project: 1000 tokens per minute" in sent_error(commands)["message"]
    assert rate_headers(commands)["limit-tokens"] == "1000"
    assert shared.limits.keys.reserved == 3 * (300 + HI) + 600 + HI, "what the key had reserved is given back"
    _, commands = begin(shared, body(project_id="p"))
    assert "for this project: 1 requests per second" in sent_error(commands)["message"]
    _, commands = begin(shared, body(project_id="p"), headers={"x-gateway-project-id": "q"})
    assert opened(commands)
    assert shared.limits.projects.reserved == 600 + HI + 1000


def test_a_request_that_is_refused_for_something_else_keeps_no_tokens() -> None:
    shared = limited(tokens_per_minute=5000, requests_per_day=10)
    for payload in (b"{", body(model="none"), body(max_tokens=0)):
        _, commands = begin(shared, payload)
        assert sent_head(commands)[0] in (400, 404)
    assert shared.limits.keys.reserved == 0
    assert shared.limits.keys.usage(START) == {"tester": DayUsage(3, 0)}


# Every ending


def begun() -> tuple[Gateway, Exchange]:
    shared = gateway(provider("a"), provider("b"), **SETTINGS)
    exchange, commands = begin(shared, ASKED)
    assert opened(commands)
    assert tokens(shared) == (ESTIMATE, 0)
    return shared, exchange


def streaming(*pieces: bytes, attempt: int = 1) -> list[Any]:
    return [
        UpstreamOpened(attempt, False),
        UpstreamHead(attempt, 200, EVENT_STREAM),
        *[UpstreamData(attempt, piece) for piece in pieces],
    ]


USAGE = chunk({}, usage=USED, choices=[])
WORDS = (ROLE, text("a"), text("b"), text("c"))


@pytest.mark.parametrize(
    ("events", "used", "ending"),
    [
        ([*streaming(*WORDS, STOP, USAGE, DONE), UpstreamEnd(1)], 11, Ending.COMPLETED),
        ([*streaming(*WORDS, STOP, USAGE, DONE), ClientGone()], 11, Ending.COMPLETED),
        (
            [*streaming(*WORDS, STOP, DONE), UpstreamEnd(1)],
            PROMPT_TOKENS + 6,
            Ending.COMPLETED,
        ),  # [DONE] is one, too
        (
            [*streaming(ROLE, text("x" * 4000), STOP, DONE), UpstreamEnd(1)],
            PROMPT_TOKENS + 873,
            Ending.COMPLETED,
        ),
        ([*streaming(*WORDS), UpstreamLost(1, LossReason.RESET)], PROMPT_TOKENS + 4, Ending.TRUNCATED),
        ([*streaming(*WORDS, USAGE), UpstreamLost(1, LossReason.RESET)], 11, Ending.TRUNCATED),
        ([*streaming(*WORDS), ClientGone()], PROMPT_TOKENS + 4, Ending.CLIENT_CLOSED),
        ([*streaming(ROLE), ClientGone()], PROMPT_TOKENS, Ending.CLIENT_CLOSED),
        ([ClientGone()], 0, Ending.CLIENT_CLOSED),
        (
            [UpstreamLost(1, LossReason.REFUSED), UpstreamLost(2, LossReason.REFUSED)],
            0,
            Ending.FAILED,
        ),
        (
            [*answer(1, b"{}", status=500), *answer(2, b"{}", status=429)],
            0,
            Ending.FAILED,
        ),
        ([UpstreamLost(1, LossReason.REFUSED), *answer(2, completion(usage=USED))], 11, Ending.COMPLETED),
        (answer(1, b"{}", status=400), 0, Ending.REFUSED),
    ],
)
def test_every_ending_settles(events: list[Any], used: int, ending: Ending) -> None:
    shared, exchange = begun()
    feed(exchange, START, *events)
    assert exchange.finished
    assert exchange.outcome is not None
    assert (exchange.outcome.ending, tokens(shared)) == (ending, (0, used))


def test_usage_of_all_attempts_counts() -> None:
    shared, exchange = begun()
    failing = chunk({}, usage=USED, choices=[])
    feed(
        exchange,
        START,
        *streaming(ROLE, failing),
        UpstreamLost(1, LossReason.RESET),
        *streaming(*WORDS, STOP, USAGE, DONE, attempt=2),
        UpstreamEnd(2),
    )
    assert tokens(shared) == (0, 22)


def test_a_client_that_leaves_while_nobody_works_for_it_is_charged_nothing() -> None:
    shared = gateway(provider("a"), **SETTINGS)
    exchange, _ = begin(shared, ASKED)
    feed(exchange, START, UpstreamLost(1, LossReason.REFUSED))
    assert not exchange.finished, "it waits to try again"
    feed(exchange, START, ClientGone())
    assert tokens(shared) == (0, 0)


@pytest.mark.parametrize(("pieces", "used"), [((), 0), ((ROLE,), 0), (WORDS, PROMPT_TOKENS + 4)])
def test_abandoning_settles(pieces: tuple[bytes, ...], used: int) -> None:
    shared, exchange = begun()
    if pieces:
        feed(exchange, START, *streaming(*pieces))
    for _ in range(2):
        exchange.abandon(START)
    assert tokens(shared) == (0, used)


def test_a_deadline_settles() -> None:
    shared, exchange = begun()
    exchange.tick(START + 60.0)
    assert exchange.outcome is not None
    assert exchange.outcome.error == "upstream_timeout"
    assert tokens(shared, START + 60.0) == (0, 0)


def test_lingering_settles_once_it_is_over() -> None:
    shared, exchange = begun()
    feed(exchange, START, *streaming(*WORDS, STOP, USAGE, DONE))
    assert not exchange.finished
    exchange.tick(START + LINGER_TIMEOUT)
    assert tokens(shared, START + 1) == (0, 11)


def test_before_the_body_nothing_is_reserved() -> None:
    shared = gateway(provider("a"), **SETTINGS)
    for leaves in (True, False):
        exchange = shared.begin(head(), START)
        exchange.start(START)
        exchange.receive(ClientData(b"{"), START)
        if leaves:
            exchange.receive(ClientGone(), START)
        else:
            exchange.abandon(START)
    assert tokens(shared) == (0, 0)


def test_a_heartbeats_head_has_the_headers() -> None:
    limits = LimitSettings(tokens_per_minute=5000)
    shared = gateway(provider("a"), limits=limits, server=ServerSettings(heartbeat_interval=5.0))
    exchange, _ = begin(shared, ASKED)
    assert rate_headers(exchange.tick(START + 5))["remaining-tokens"] == str(5000 - ESTIMATE)


def test_new_limits_hold_at_once_and_usage_stays() -> None:
    shared = limited(tokens_per_day=5000)
    exchange, _ = begin(shared, body())
    feed(exchange, START, *answer(1, completion(usage={**USED, "completion_tokens": 993})))
    pending, _ = begin(shared, body())
    changed = configuration(
        provider("a"),
        limits=LimitSettings(tokens_per_day=2000, project=Rates(tokens_per_day=10)),
        server=ServerSettings(trusted_proxies=("10.0.0.1",)),
    )
    shared.reconfigure(changed, START)
    assert sent_head(begin(shared, body(max_tokens=100))[1])[0] == 429
    feed(pending, START, ClientGone())
    assert opened(begin(shared, body(max_tokens=100))[1])
    assert sent_head(begin(shared, body(max_tokens=950))[1])[0] == 429
    _, commands = begin(shared, body(project_id="p", max_tokens=100))
    assert "for this project: 10 tokens per day" in sent_error(commands)["message"]
    proxied = visitor("10.0.0.1", headers={"x-forwarded-for": "192.0.2.1"})
    shared.begin(proxied, START)
    assert shared.limits.addresses.standing("192.0.2.1", START)[0] is not None
    assert len(shared.limits.addresses) == 1


# Addresses


def visitor(
    client: str,
    method: str = "GET",
    target: str = "/v1/models",
    *,
    key: str | None = None,
    headers: Any = None,
) -> RequestHead:
    return replace(head(method, target, key=key, headers=headers), client=client)


def status(exchange: Exchange) -> int:
    return sent_head(list(exchange.start(START)))[0]


@pytest.mark.parametrize(
    "target", ["/v1/models", "/health", "/v1/routing/status", "/v1/models/none", "/nothing"]
)
def test_what_needs_no_key_is_limited_by_address(target: str) -> None:
    shared = limited(public_requests_per_second=1.0, public_burst=2)
    for _ in range(2):
        assert status(shared.begin(visitor("192.0.2.1", target=target), START)) in (200, 404)
    exchange = shared.begin(visitor("192.0.2.1", target=target), START)
    commands, error = refused(exchange)
    assert "for this address: 1 requests per second, 2 at once" in error["message"]
    assert sent_head(commands)[1]["retry-after"] == "1"
    assert rate_headers(commands) == {
        "limit-requests": "2",
        "remaining-requests": "0",
        "reset-requests": "2s",
    }
    assert exchange.outcome is not None
    known = {"/health", "/v1/models", "/v1/routing/status"}
    assert exchange.outcome.endpoint == (target if target in known else "")
    assert status(shared.begin(visitor("192.0.2.2", target=target), START)) in (200, 404)


@pytest.mark.parametrize("target", ["/livez", "/readyz", "/health/liveliness", "/v1/health/readiness/"])
def test_probes_are_always_answered(target: str) -> None:
    shared = limited(public_requests_per_second=1.0, public_burst=1)
    for _ in range(5):
        assert status(shared.begin(visitor("192.0.2.1", target=target), START)) == 200


def test_only_failed_attempts_are_blocked_by_failed_attempts() -> None:
    shared = limited(public_requests_per_second=1.0, public_burst=2)

    def attempt(key: str | None, client: str = "192.0.2.1") -> Exchange:
        return shared.begin(visitor(client, "POST", "/v1/chat/completions", key=key), START)

    assert [status(attempt(key)) for key in ("wrong", None)] == [401, 401]
    exchange = attempt("wrong")
    _, error = refused(exchange)
    assert "for this address" in error["message"]
    assert exchange.outcome is not None
    assert exchange.outcome.endpoint == "/v1/chat/completions"
    for _ in range(5):
        assert attempt(KEY).start(START) == []
    assert status(attempt("wrong", "192.0.2.2")) == 401


def test_addresses_are_not_limited_when_that_is_off() -> None:
    shared = limited(public_requests_per_second=0.0)
    for _ in range(200):
        assert status(shared.begin(visitor("192.0.2.1"), START)) == 200
    assert len(shared.limits.addresses) == 0


def test_spoofed_addresses_stay_bounded() -> None:
    shared = gateway(
        provider("a"),
        server=ServerSettings(trusted_proxies=("10.0.0.1",)),
        limits=LimitSettings(requests_per_second=1.0),
    )
    most = 0
    for number in range(12_000):
        spoofed = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
        head = RequestHead(
            "POST",
            "/v1/chat/completions",
            ((b"host", b"x"), (b"x-forwarded-for", spoofed.encode())),
            client="10.0.0.1",
        )
        shared.begin(head, START)
        most = max(most, len(shared.limits.addresses))
    assert most == 10_000
    assert len(shared.limits.keys) == 0


def test_no_key_shows_in_a_refusal() -> None:
    shared = limited(requests_per_day=1)
    begin(shared, body())
    exchange = shared.begin(head(), START)
    commands, _ = refused(exchange)
    assert KEY.encode() not in sent_body(commands)
    assert KEY not in json.dumps([str(commands), str(exchange.outcome)])

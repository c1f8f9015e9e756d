"""Client keys that are bound: to models, to projects, to a time; and what they may cost."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gwproto import Command, Configuration, Delegate, Ending, Exchange, Gateway
from gwproto.config import (
    LimitSettings,
    OwnRates,
    ProviderSettings,
    Rates,
    RetrySettings,
    SingleFlightSettings,
)
from gwproto.events import ClientData, ClientEnd, ClientGone, UpstreamData, UpstreamHead, UpstreamOpened
from gwproto.policy.auth import Authenticator
from gwproto.policy.limits import Limits
from gwproto.policy.ratelimit import DAY
from gwproto.policy.values import Accepted, ClientKey, DayUsage, Denied, Grant
from support.conversation import (
    EPOCH,
    START,
    answer,
    body,
    chunk,
    completion,
    configuration,
    feed,
    head,
    opened,
    provider,
    provider_of,
    sent_body,
    sent_error,
    sent_head,
)

WALL = START + EPOCH
MIDNIGHT = DAY - WALL % DAY  # seconds from START


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def key(secret: str = "k", label: str = "", **bound: Any) -> ClientKey:
    return ClientKey(label or secret, digest(secret), **bound)


def made(*keys: ClientKey, providers: tuple[ProviderSettings, ...] = (), **sections: Any) -> Configuration:
    providers = providers or (provider("a"), provider("b"), provider("c"))
    return replace(configuration(*providers, **sections), keys=keys)


def gateway(*keys: ClientKey, providers: tuple[ProviderSettings, ...] = (), **sections: Any) -> Gateway:
    return Gateway(made(*keys, providers=providers, **sections), rng=random.Random(7), epoch=EPOCH)


def asked(
    gateway: Gateway,
    payload: bytes,
    now: float = START,
    *,
    secret: str = "k",
    headers: Mapping[str, str] | None = None,
    target: str = "/v1/chat/completions",
) -> tuple[Exchange, list[Command]]:
    """A request with its body, and what it comes to."""
    exchange = gateway.begin(head(target=target, key=secret, headers=headers), now)
    commands = list(exchange.start(now))
    if not exchange.finished:
        exchange.receive(ClientData(payload), now)
        commands = list(exchange.receive(ClientEnd(), now))
    return exchange, commands


class TestModels:
    PROVIDERS = (
        provider("a"),
        provider("b", model={"upstream": "up"}),
        provider("c", model={"upstream": "up"}),
    )

    @pytest.mark.parametrize(
        ("models", "allowed"),
        [
            (("a-model",), {"a"}),
            (("b/up",), {"b"}),
            (("up",), {"b", "c"}),
            (("both",), {"a", "c"}),
            (("a-model", "c/up"), {"a", "c"}),
            (("auto",), {"a", "b", "c"}),
            (None, {"a", "b", "c"}),
        ],
    )
    def test_any_name_may_stand_for_them_and_auto_chooses_among_them(
        self, models: tuple[str, ...] | None, allowed: set[str]
    ) -> None:
        one = gateway(key(models=models), providers=self.PROVIDERS, aliases={"both": ("a-model", "c/up")})
        for ask in ("auto", "both", "up", "a-model", "b-model", "c/up"):
            whole = {"auto": "abc", "both": "ac", "up": "bc"}.get(ask, ask[0])
            meant = set(whole) & allowed
            chosen = set()
            for _ in range(3):
                exchange, commands = asked(one, body(model=ask))
                if meant:
                    chosen.add(provider_of(opened(commands)))
                    feed(exchange, START, *answer(1, completion()))
                else:
                    assert sent_head(commands)[0] == 403
            assert chosen == meant

    @pytest.mark.parametrize(
        ("fields", "headers", "name"),
        [
            ({"model": "b-model"}, {}, "'b-model'"),
            ({}, {"x-gateway-force-model": "b-model"}, "'b-model'"),
            ({"model": "a-model"}, {"x-gateway-force-model": "both", "x-gateway-force-provider": "a"}, ""),
            ({}, {"x-gateway-force-provider": "b"}, "'auto' at provider 'b'"),
            ({"model": "b-model"}, {"x-gateway-force-provider": "b"}, "'b-model' at provider 'b'"),
        ],
    )
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/routing/explain"])
    def test_nothing_gets_around_them(
        self, fields: dict[str, Any], headers: dict[str, str], name: str, path: str
    ) -> None:
        one = gateway(key(models=("a-model",)), aliases={"both": ("a-model", "b-model")})
        exchange, commands = asked(one, body(**fields), headers=headers, target=path)
        if not name:
            assert not exchange.finished or sent_head(commands)[0] == 200
            return
        assert sent_head(commands)[0] == 403
        assert sent_error(commands) == {
            "message": f"This API key does not have access to model {name}.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
        assert exchange.outcome is not None
        assert exchange.outcome.ending is Ending.REFUSED
        assert exchange.outcome.rejected == ""  # the key was good

    def test_a_failover_stays_among_them(self) -> None:
        one = gateway(key(models=("a-model", "c-model")), retry=RetrySettings(max_attempts=4))
        exchange, commands = asked(one, body())
        tried = [provider_of(opened(commands))]
        commands = feed(exchange, START, *answer(1, b"{}", status=500))
        tried.append(provider_of(opened(commands)))
        assert sorted(tried) == ["a", "c"]
        feed(exchange, START, *answer(2, b"{}", status=500))
        assert exchange.outcome is not None or exchange.deadline < START + 10
        assert "b" not in {attempt.provider for attempt in getattr(exchange.outcome, "attempts", ())}

    def test_what_does_not_exist_is_not_found_whoever_asks(self) -> None:
        _, commands = asked(gateway(key(models=("a-model",))), body(model="no-such"))
        assert (sent_head(commands)[0], sent_error(commands)["code"]) == (404, "model_not_found")

    def test_what_the_allowed_ones_lack_is_said(self) -> None:
        able, unable = provider("a"), provider("b", model={"capabilities": ()})
        one = gateway(key(models=("b-model",)), providers=(able, unable))
        _, commands = asked(one, body(tools=[{"type": "function", "function": {"name": "f"}}]))
        assert sent_error(commands)["code"] == "unsupported_capability"

    def test_explain_says_why_the_others_are_not(self) -> None:
        _, commands = asked(gateway(key(models=("b-model",))), body(), target="/v1/routing/explain")
        told = json.loads(sent_body(commands))
        assert told["chosen"]["provider"] == "b"
        assert {row["provider"]: row["reason"] for row in told["candidates"]} == {
            "a": "not allowed to the client's key",
            "b": None,
            "c": "not allowed to the client's key",
        }

    def test_keys_of_one_label_do_not_share_answers_of_what_one_may_not_use(self) -> None:
        one = gateway(
            key("k", "team", models=("a-model",)),
            key("l", "team", models=("b-model",)),
            key("m", "team", models=("a-model",)),
            single_flight=SingleFlightSettings(enabled=True),
        )
        payload = body(temperature=0)
        assert provider_of(opened(asked(one, payload)[1])) == "a"
        assert provider_of(opened(asked(one, payload, secret="l")[1])) == "b"
        assert asked(one, payload, secret="m")[1] == []  # it follows the first

    def test_a_reload_changes_them_for_whoever_comes_later(self) -> None:
        one = gateway(key(models=("a-model",)))
        before = one.begin(head(key="k"), START)
        before.start(START)
        one.reconfigure(made(key(models=("b-model",))), START)
        assert provider_of(opened(asked(one, body())[1])) == "b"
        before.receive(ClientData(body()), START)
        assert provider_of(opened(before.receive(ClientEnd(), START))) == "a"


class TestProjects:
    def outcome(self, fields: dict[str, Any], headers: dict[str, str], **bound: Any) -> tuple[int, str, str]:
        one = gateway(key(**bound))
        exchange, commands = asked(one, body(**fields), headers=headers)
        if not exchange.finished:
            commands = feed(exchange, START, *answer(1, completion()))
        assert exchange.outcome is not None
        status = sent_head(commands)[0]
        if status == 403:
            error = sent_error(commands)
            assert (error["type"], error["param"]) == ("invalid_request_error", "project_id")
            return status, error["code"], error["message"]
        return status, exchange.outcome.project_id, ""

    @pytest.mark.parametrize("where", ["body", "header"])
    def test_only_those_named(self, where: str) -> None:
        def named(project: str) -> tuple[dict[str, Any], dict[str, str]]:
            if where == "body":
                return {"project_id": project}, {}
            return {}, {"x-gateway-project-id": project}

        assert self.outcome(*named("p"), projects=("p", "q")) == (200, "p", "")
        assert self.outcome(*named("q"), projects=("p", "q")) == (200, "q", "")
        message = "This API key may not be used for project 'r'."
        assert self.outcome(*named("r"), projects=("p", "q")) == (403, "mismatched_project", message)
        assert self.outcome(*named("r")) == (200, "r", "")

    def test_a_header_decides_over_the_body(self) -> None:
        header = {"x-gateway-project-id": "q"}
        assert self.outcome({"project_id": "p"}, header, projects=("p",))[0] == 403

    def test_a_request_without_one_gets_the_first(self) -> None:
        assert self.outcome({}, {}, projects=("p", "q")) == (200, "p", "")

    def test_its_limits_are_the_projects_then(self) -> None:
        one = gateway(key(projects=("p",)), limits=LimitSettings(project=Rates(requests_per_day=1)))
        assert opened(asked(one, body())[1])
        _, commands = asked(one, body())
        assert "this project" in sent_error(commands)["message"]

    def test_explain_heeds_them(self) -> None:
        payload = body(project_id="q")
        _, commands = asked(gateway(key(projects=("p",))), payload, target="/v1/routing/explain")
        assert sent_head(commands)[0] == 403

    @pytest.mark.parametrize("project", ["x" * 1_000_000, "a\x00b", "a\nb", ""])
    def test_ids_that_are_none(self, project: str) -> None:
        _, commands = asked(gateway(key(projects=("p",))), body(project_id=project))
        assert (sent_head(commands)[0], sent_error(commands)["param"]) == (400, "project_id")
        assert len(sent_body(commands)) < 1000


class TestExpiry:
    def test_it_ends_at_its_instant(self) -> None:
        one = gateway(key(expires=WALL + 100.0))
        assert not asked(one, body(), START + 99.9)[0].finished
        exchange, commands = asked(one, body(), START + 100.0)
        assert sent_head(commands)[0] == 401
        assert sent_error(commands) == {
            "message": "Incorrect API key provided. It has expired.",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
        }
        outcome = exchange.outcome
        assert outcome is not None
        assert (outcome.rejected, outcome.key) == ("expired", "k")

    def test_a_request_that_has_begun_goes_on(self) -> None:
        one = gateway(key(expires=WALL + 1.0))
        exchange, _ = asked(one, body())
        feed(exchange, START + 2.0, *answer(1, completion()))
        assert exchange.outcome is not None
        assert exchange.outcome.ending is Ending.COMPLETED

    def test_two_keys_of_one_label_end_each_at_its_own(self) -> None:
        one = gateway(key("old", "ci", expires=WALL), key("new", "ci"))
        assert asked(one, body(), secret="old")[0].finished
        assert not asked(one, body(), secret="new")[0].finished

    def test_pages_and_operations_too(self) -> None:
        one = gateway(key(expires=WALL))
        for method, target in (("GET", "/v1/requests"), ("POST", "/v1/routing/reset")):
            exchange = one.begin(head(method, target, key="k"), START)
            assert sent_head(exchange.start(START))[0] == 401


class TestAudit:
    @pytest.mark.parametrize(
        ("headers", "reason", "label"),
        [
            ((), "missing", ""),
            (((b"authorization", b"Basic k"),), "missing", ""),
            (((b"authorization", b"Bearer canary"),), "unknown", ""),
            (((b"authorization", b"Bearer canary\xff"),), "unknown", ""),
            (((b"authorization", b"Bearer k"),), "expired", "k"),
            (((b"authorization", b"Bearer k"), (b"authorization", b"Bearer canary")), "ambiguous", ""),
        ],
    )
    def test_a_rejected_key_leaves_a_reason_and_an_address_but_not_itself(
        self, headers: tuple[tuple[bytes, bytes], ...], reason: str, label: str
    ) -> None:
        one = gateway(key(expires=WALL), limits=LimitSettings(public_requests_per_second=1.0, public_burst=1))
        asking = replace(head(key=None), client="192.0.2.7")
        asking = replace(asking, headers=(*asking.headers, *headers))
        for status in ((400 if reason == "ambiguous" else 401), 429):  # the address has no second try
            exchange = one.begin(asking, START)
            commands = exchange.start(START)
            assert sent_head(commands)[0] == status
            outcome = exchange.outcome
            assert outcome is not None
            assert (outcome.rejected, outcome.client, outcome.key) == (reason, "192.0.2.7", label)
            assert "canary" not in repr((outcome, commands))

    @pytest.mark.parametrize(
        ("value", "status"), [(b"canary\x01", 400), (b"canary\n", 400), (b"canary" * 200_000, 431)]
    )
    def test_what_no_key_can_be_is_refused_before(self, value: bytes, status: int) -> None:
        one = gateway(key())
        asking = replace(head(key=None), headers=((b"authorization", b"Bearer " + value),))
        exchange = one.begin(asking, START)
        commands = exchange.start(START)
        assert sent_head(commands)[0] == status
        assert "canary" not in repr((exchange.outcome, commands))

    def test_a_good_key_leaves_neither(self) -> None:
        exchange, _ = asked(gateway(key()), body())
        feed(exchange, START, *answer(1, completion()))
        assert exchange.outcome is not None
        assert (exchange.outcome.rejected, exchange.outcome.client) == ("", "")


def test_what_is_granted_is_made_once() -> None:
    bound = key("b", models=("m", "n"), projects=("p",), expires=5.0)
    gate = Authenticator([key("a"), bound], {"m": ["x", "y"], "n": ["y"]}.__getitem__)
    headers = ((b"x-api-key", b"b"),)
    verdict = gate.check(headers, 4.9)
    assert verdict == Accepted("b", Grant(frozenset({"x", "y"}), ("p",)))
    assert gate.check(headers, 4.9) is verdict
    assert gate.check(((b"x-api-key", b"a"),), 5.0) == Accepted("a")
    assert gate.check(headers, 5.0) == Denied(
        401, "Incorrect API key provided. It has expired.", "invalid_api_key", "expired", "b"
    )
    assert gate.find(headers) == bound
    assert gate.find(((b"x-api-key", b"c"),)) is None


PRICED = provider("a", model={"input_price": 1000.0, "output_price": 2000.0})  # a dollar for 1000 tokens
USED = {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300}  # 0.5 dollars


class TestCost:
    def gateway(self, *keys: ClientKey, priced: ProviderSettings = PRICED, **limits: Any) -> Gateway:
        keys = keys or (key(),)
        return gateway(*keys, providers=(priced,), limits=LimitSettings(**limits))

    def spend(self, one: Gateway, now: float = START, secret: str = "k", **fields: Any) -> int:
        """A request's status."""
        exchange, commands = asked(one, body(**fields), now, secret=secret)
        if not exchange.finished:
            commands = feed(exchange, now, *answer(1, completion(usage=USED)))
        return sent_head(commands)[0]

    def test_the_budget_of_a_day_is_used_up_until_midnight(self) -> None:
        one = self.gateway(cost_per_day=1.0)
        assert [self.spend(one) for _ in range(2)] == [200, 200]
        exchange, commands = asked(one, body())
        assert exchange.finished
        status, headers = sent_head(commands)
        assert (status, headers["retry-after"]) == (429, str(-int(-MIDNIGHT // 1)))
        error = sent_error(commands)
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        words = "its budget of 1 US dollars per day (UTC) is used up"
        assert error["message"].startswith(f"Rate limit reached for this key: {words}.")
        assert self.spend(one, START + MIDNIGHT) == 200

    def test_many_small_costs_add_up(self) -> None:
        one = self.gateway(
            cost_per_day=0.3, priced=provider("a", model={"input_price": 1.0, "output_price": 499.5})
        )
        assert [self.spend(one) for _ in range(4)] == [200, 200, 200, 429]  # three times 0.1

    def test_requests_in_flight_are_answered_although_it_is_reached(self) -> None:
        one = self.gateway(cost_per_day=0.1)
        exchanges = [asked(one, body())[0] for _ in range(5)]
        for exchange in exchanges:
            assert sent_head(feed(exchange, START, *answer(1, completion(usage=USED))))[0] == 200
        assert one.limits.keys.usage(START)["k"] == DayUsage(0, 0, 2.5)
        assert self.spend(one) == 429

    def test_of_a_key_its_own_and_of_a_project(self) -> None:
        one = self.gateway(
            key("k", limits=OwnRates(cost_per_day=0.5)),
            key("l"),
            key("free", limits=OwnRates(cost_per_day=0.0)),
            cost_per_day=0.9,
            project=Rates(cost_per_day=1.4),
        )
        assert [self.spend(one, secret="k") for _ in range(2)] == [200, 429]
        assert [self.spend(one, secret="l") for _ in range(3)] == [200, 200, 429]
        assert [self.spend(one, secret="free", project_id="p") for _ in range(4)] == [200, 200, 200, 429]

    def test_without_a_known_price_nothing_counts(self) -> None:
        one = self.gateway(cost_per_day=0.1, priced=provider("a"))
        assert [self.spend(one) for _ in range(3)] == [200, 200, 200]
        assert one.limits.keys.usage(START) == {}

    def test_a_stream_whose_client_leaves_is_charged_what_it_was_sent(self) -> None:
        one = self.gateway(cost_per_day=1.0)
        exchange, _ = asked(one, body(stream=True))
        stream = ((b"content-type", b"text/event-stream"),)
        piece = chunk({"content": "word " * 1000})
        feed(
            exchange,
            START,
            UpstreamOpened(1, False),
            UpstreamHead(1, 200, stream),
            UpstreamData(1, piece),
            ClientGone(),
        )
        used = one.limits.keys.usage(START)["k"]
        assert 2.0 < used.cost < 3.0
        assert used.tokens == 0  # not limited, not counted
        assert self.spend(one) == 429

    def test_a_prompt_whose_client_leaves_before_the_answer(self) -> None:
        one = self.gateway(cost_per_day=1.0)
        exchange, _ = asked(one, body(messages=[{"role": "user", "content": "word " * 1000}]))
        feed(exchange, START, UpstreamOpened(1, False), ClientGone())
        assert 1.0 < one.limits.keys.usage(START)["k"].cost < 1.5
        exchange, _ = asked(self.gateway(cost_per_day=1.0), body())
        feed(exchange, START, ClientGone())  # nobody was at work

    def test_what_was_paid_stays_paid_over_a_restart(self) -> None:
        one = self.gateway(cost_per_day=0.5)
        assert self.spend(one) == 200
        state = one.snapshot(START)
        again = self.gateway(cost_per_day=0.5)
        again.restore(state, START)
        again.restore(state, START)
        assert again.limits.keys.usage(START)["k"].cost == 0.5
        assert self.spend(again) == 429
        later = self.gateway(cost_per_day=0.5)
        later.restore(state, START + MIDNIGHT)
        assert self.spend(later, START + MIDNIGHT) == 200

    def test_an_old_state_says_nothing_of_costs(self) -> None:
        import msgspec

        old = msgspec.json.decode(b'{"requests": 3, "tokens": 4}', type=DayUsage)
        assert old == DayUsage(3, 4, 0.0)

    def test_a_reload_keeps_what_was_paid(self) -> None:
        one = self.gateway(cost_per_day=0.9)
        assert self.spend(one) == 200
        one.reconfigure(made(key(), providers=(PRICED,), limits=LimitSettings(cost_per_day=0.5)), START)
        assert self.spend(one) == 429

    def test_only_what_is_limited_is_remembered(self) -> None:
        limits = Limits(LimitSettings(tokens_per_minute=10), [], EPOCH)
        held = limits.keys.reserve("k", 5, START)
        limits.keys.settle(held, 5, START, 3.0)  # type: ignore[arg-type]  # there is room
        assert limits.keys.usage(START) == {}


class TestPages:
    """What a key that is bound to projects sees of the figures."""

    def ask(self, target: str, *projects: str) -> Sequence[Command]:
        bound = gateway(key(projects=projects or None))
        return bound.begin(head("GET", target, key="k"), START).start(START)

    @pytest.mark.parametrize("page", ["/v1/analytics", "/v1/requests"])
    @pytest.mark.parametrize(
        ("query", "projects", "seen"),
        [("", ("p", "q"), "p"), ("?project_id=q", ("p", "q"), "q"), ("?project_id=r", (), "r"), ("", (), "")],
    )
    def test_its_own(self, page: str, query: str, projects: tuple[str, ...], seen: str) -> None:
        (command,) = self.ask(page + query, *projects)
        assert isinstance(command, Delegate)
        assert json.loads(command.query)["project_id"] == seen

    @pytest.mark.parametrize("page", ["/v1/analytics", "/v1/requests"])
    def test_not_those_of_others(self, page: str) -> None:
        commands = self.ask(page + "?project_id=r", "p", "q")
        assert sent_head(commands)[0] == 403
        assert sent_error(commands)["code"] == "mismatched_project"

    def test_what_tells_of_no_project(self) -> None:
        (command,) = self.ask("/v1/stats/providers", "p")
        assert isinstance(command, Delegate)

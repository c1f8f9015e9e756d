"""Canaries: a client's key, providers' keys and a prompt, and where they must not show."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gwproto import ClientData, ClientEnd, Gateway
from gwproto.config import RetrySettings
from gwproto.failures import FailureClass
from gwproto.loading import load
from gwproto.testing import Data, End, Head, Knobs, Step
from gwproto.values import Headers
from gwproto_asgi import GatewayApp
from gwproto_io.upstream import Pool
from gwproto_ops.deployment import Deployment, deploy
from support.conversation import START, answer, begin, body, feed, head, sent_error, sent_head
from support.conversation import gateway as gateway_over
from support.servers import RUNTIMES, Answer, Provider, configuration, hosting, serving

CLIENT_KEY = "gw-canary-client-5f0c1d"
PROVIDER_KEY = "sk-canary-provider-77ab01"
SECOND_KEY = "0canary0second090cd12"  # of no known form
PROMPT = "canary-prompt-33ef45"
CANARIES = ("canary-client", "canary-provider", "canary0second", "canary-prompt")


class Indiscreet(Provider):
    """Quotes the key it was called with, in an error of the status that it is asked for as a model."""

    def respond(self, method: str, target: str, headers: Headers, body: bytes, now: float) -> list[Step]:
        super().respond(method, target, headers, body, now)
        key = dict(headers)[b"authorization"].decode().removeprefix("Bearer ")
        status = int(json.loads(body)["model"])
        error = {"message": f"Bad {key}", "type": key, "code": f"code of {key}", "param": key}
        return [
            Step(0.0, Head(status, ((b"content-type", b"application/json"),))),
            Step(0.0, Data(json.dumps({"error": error}).encode())),
            Step(0.0, End()),
        ]


def traces(*texts: object) -> set[str]:
    """The canaries found."""
    whole = "\n".join(str(text) for text in texts)
    return {canary for canary in CANARIES if canary in whole}


def head_and_body(answer: Answer) -> str:
    return f"{answer.headers} {answer.body!r}"


@pytest.mark.sockets
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_canary_in_logs_errors_and_status(runtime: str, tmp_path: Path) -> None:
    statuses = ("400", "401", "403", "404", "422", "429", "500", "503")
    good = Provider("good", Knobs(api_key=PROVIDER_KEY), models=("mock",))
    bad = Indiscreet("bad", models=statuses)
    broken = Provider("broken", Knobs(reset_after=2))
    keyed = 'api_keys_env = "PROVIDER_KEYS"'
    with (
        hosting([good, bad, broken]) as urls,
        serving(
            tmp_path,
            runtime,
            configuration(
                [good, bad, broken], urls, "[retry]\nmax_attempts = 1", good=keyed, bad=keyed, broken=keyed
            ),
            environ={"GATEWAY_API_KEY": CLIENT_KEY, "PROVIDER_KEYS": f"{PROVIDER_KEY},{SECOND_KEY}"},
        ) as gateway,
        gateway.client(CLIENT_KEY) as client,
        gateway.client(CLIENT_KEY + "x") as stranger,
    ):
        assert traces(*gateway.announced) == set()
        plain = client.chat(PROMPT, model="mock")
        assert PROMPT in plain.body.decode()  # the provider echoes it
        assert traces(plain.headers) == set()
        assert traces(head_and_body(plain)) == {"canary-prompt"}
        streamed = client.chat(PROMPT, model="broken-model", stream=True)
        assert "error" in streamed.events[-1]
        assert traces(streamed.headers, streamed.events[-1]) == set()

        errors = [
            client.chat(PROMPT, model=status, stream=stream)
            for status in statuses
            for stream in (False, True)
        ]
        errors += [stranger.chat(PROMPT), client.chat(PROMPT, model="nothing")]
        errors += [client.chat(PROMPT, temperature=5), client.chat(PROMPT, project_id="a b")]
        errors += [
            client.ask(PROMPT.encode()),
            client.ask({"messages": [{"role": "x", "content": PROMPT}]}),
        ]
        for error in errors:
            assert error.status >= 400
            assert traces(head_and_body(error)) == set()
        for path in ("/v1/routing/status", "/health", "/v1/models", "/readyz", f"/v1/models/{PROMPT[7:]}"):
            assert traces(head_and_body(client.get(path))) == set()
    assert len(gateway.log.splitlines()) >= len(errors)
    assert traces(gateway.log) == set()
    for provider in (good, bad, broken):
        assert provider.received
        assert "canary-client" not in str(provider.received)
        for request in provider.received:
            assert request.headers.pop("authorization") in (f"Bearer {PROVIDER_KEY}", f"Bearer {SECOND_KEY}")
            assert traces(request.target, request.headers) == set()


@pytest.fixture
def deployment() -> Deployment:
    text = """
    [[providers]]
    name = "local"
    base_url = "http://provider.test/v1"
    api_key_env = "PROVIDER_KEY"
    [[providers.models]]
    id = "mock"
    """
    environ = {"GATEWAY_API_KEY": CLIENT_KEY, "PROVIDER_KEY": PROVIDER_KEY}
    return deploy(load(text.encode(), environ, {}, known={}), environ=environ)


def test_no_canary_in_any_repr(deployment: Deployment) -> None:
    gateway = Gateway(deployment.configuration, rng=random.Random(1), epoch=0.0)
    objects: list[Any] = [deployment, deployment.configuration, gateway, gateway.shared, gateway.catalog]
    objects += [GatewayApp(deployment), Pool(deployment.credentials), vars(gateway)]
    exchange = gateway.begin(head(key=CLIENT_KEY), START)
    exchange.start(START)
    commands = exchange.receive(ClientData(body()), START), exchange.receive(ClientEnd(), START)
    assert "provider.test" in repr(commands)
    objects += [exchange, commands, exchange.abandon(START), exchange.outcome]
    assert traces(*map(repr, objects)) == set()


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (401, "invalid_api_key", "Incorrect API key provided.", FailureClass.AUTH),
        (403, "unsupported_country_region_territory", "Country not supported.", FailureClass.FORBIDDEN),
        (402, "insufficient_balance", "Your balance is too low.", FailureClass.CREDITS),
    ],
)
def test_what_a_provider_says_of_our_account_is_for_the_record_only(
    status: int, code: str, message: str, kind: FailureClass
) -> None:
    """A client would look for the mistake in its own key: it is told neither the words nor the code."""
    exchange, _ = begin(gateway_over(retry=RetrySettings(max_attempts=1)), body())
    error = json.dumps({"error": {"message": message, "code": code}}).encode()
    commands = feed(exchange, START, *answer(1, error, status=status))
    assert sent_head(commands)[0] == 502
    sent = sent_error(commands)
    assert (sent["type"], sent["code"]) == ("provider_error", "upstream_error")
    assert sent["message"] != message
    assert exchange.outcome is not None
    (attempt,) = exchange.outcome.attempts
    assert attempt.failure == kind.value
    assert attempt.code == code


@pytest.mark.sockets
def test_a_key_that_may_be_a_word_is_not_masked(tmp_path: Path) -> None:
    """As local servers have them; whoever asks about ollama is to get an answer."""
    provider = Provider("local", Knobs(api_key="ollama"))
    environ = {"GATEWAY_API_KEY": CLIENT_KEY, "LOCAL_KEY": "ollama"}
    with (
        hosting([provider]) as urls,
        serving(
            tmp_path,
            "trio",
            configuration([provider], urls, local='api_key_env = "LOCAL_KEY"'),
            environ=environ,
        ) as gateway,
        gateway.client(CLIENT_KEY) as client,
    ):
        answer = client.chat("What is ollama")
        assert answer.json["choices"][0]["message"]["content"].startswith('You said "What is ollama"')

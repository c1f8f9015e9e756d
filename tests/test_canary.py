"""Secrets and texts as canaries through everything a gateway does: none of them comes out where it should not.

``test_acceptance_secrets`` asks what single errors say. Here all sorts of traffic go through servers with everything on
and then everything that they have said and written is searched.
"""

import hashlib
import json
import logging
import random
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from asgi_harness import call
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from gwproto import ClientData, ClientEnd, Configuration, Gateway
from gwproto.config import Settings
from gwproto.loading import load
from gwproto.testing import Data, End, Head, Knobs, Reset, Step
from gwproto.values import Headers
from gwproto_asgi import GatewayApp
from gwproto_cli.command import main
from gwproto_io.upstream import Pool
from gwproto_ops.deployment import Deployment, deploy
from gwproto_ops.records import Recorder
from gwproto_ops.spans import Spans
from gwproto_ops.telemetry import Telemetry
from gwproto_ops.tracing import Tracer
from support.conversation import START, body, head
from support.servers import (
    CHAT,
    RUNTIMES,
    Answer,
    Client,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)

CLIENT_KEY = "gw-canary-client-5f0c1d"
WRONG_KEY = "gw-canary-wrong-8d21b0"
PROVIDER_KEY = "sk-canary-provider-77ab01"
SECOND_KEY = "0canary0second090cd12"  # of no known form
QUERY_KEY = "canary-query-4e5f60"
HEADER_KEY = "canary-header-91c2d3"
PASSWORD = "canary-password-0b7a66"
PROMPT = "canary-prompt-33ef45"
ARGUMENT = "canary-argument-c0ffee"  # of a tool call, and its result
REPLY = "canary-reply-1a2b3c"  # what a provider made up

#: Nobody is ever told these.
SECRETS = (CLIENT_KEY, WRONG_KEY, PROVIDER_KEY, SECOND_KEY, QUERY_KEY, HEADER_KEY, PASSWORD)
#: Whose they are gets to see them, as the answer or in a provider's own words about the request. Nobody else.
TEXTS = (PROMPT, ARGUMENT, REPLY)
EVERYTHING = SECRETS + TEXTS

HASHED = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()
MORE = """
[server]
public_stats = true
[limits]
public_requests_per_second = 0
[retry]
max_attempts = 2
budget_floor = 1000
[health]
cooldown = 0.0
auth_cooldown = 0.0
model_cooldown = 0.0
throttle_cooldown = 0.0
[single_flight]
enabled = true
"""
OF_EACH = f"""
api_keys_env = "PROVIDER_KEYS"
query = {{ key = "{QUERY_KEY}" }}
headers = {{ x-tenant = "{HEADER_KEY}" }}
"""
MISBEHAVIOURS = (
    "400",
    "401",
    "403",
    "404",
    "422",
    "429",
    "500",
    "503",
    "error-event",
    "error-body",
    "torn",
    "odd",
)


class Gossip(Provider):
    """Tells what it was called with, in the manner that it is asked for as a model."""

    def respond(self, method: str, target: str, headers: Headers, body: bytes, now: float) -> list[Step]:
        super().respond(method, target, headers, body, now)
        key = dict(headers)[b"authorization"].decode().removeprefix("Bearer ")
        words = f"{REPLY} Bad {key} at {target}: {body.decode()[:200]}"
        error = json.dumps(
            {"error": {"message": words, "type": key, "code": f"{PROMPT} said", "param": ARGUMENT}}
        )
        chunk = {"index": 0, "delta": {"content": f"{REPLY} "}, "finish_reason": None}
        first = {
            "id": PROMPT,
            "object": "chat.completion.chunk",
            "created": 1,
            "model": REPLY,
            "choices": [chunk],
        }
        event = f"data: {json.dumps(first)}\n\n"
        model = json.loads(body)["model"]
        if model == "error-event":
            return self._told("text/event-stream", f"{event}data: {error}\n\n")
        if model == "error-body":
            return self._told("application/json", error)
        if model == "odd":
            return self._told("text/html", f"<b>{words}</b>")
        if model == "torn":
            return [*self._told("text/event-stream", event)[:2], Step(0.0, Reset())]
        return self._told("application/json", error, int(model) if model.isdigit() else 500)

    def _told(self, kind: str, text: str, status: int = 200) -> list[Step]:
        head = Head(status, ((b"content-type", kind.encode()), (b"x-request-id", PROMPT.encode())))
        return [Step(0.0, head), Step(0.0, Data(text.encode())), Step(0.0, End())]


def traces(*texts: object, of: tuple[str, ...] = EVERYTHING) -> set[str]:
    """The canaries found."""
    whole = "\n".join(text.decode("latin-1") if isinstance(text, bytes) else str(text) for text in texts)
    return {canary for canary in of if canary in whole}


def told(answer: Answer) -> str:
    return f"{answer.headers} {answer.body!r}"


def traffic(client: Client) -> Iterator[Answer]:
    """Requests of every kind, with texts in every place where one can be."""
    says = [{"role": "user", "content": PROMPT}]
    tool = {
        "type": "function",
        "function": {"name": "f", "description": ARGUMENT, "parameters": {"type": "object"}},
    }
    called = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps({"a": ARGUMENT})},
    }
    turns = [
        *says,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": ARGUMENT},
    ]
    for stream in (False, True):
        yield client.ask({"model": "mock", "messages": says, "stream": stream})
        yield client.ask({"model": "mock", "messages": turns, "tools": [tool], "stream": stream})
        yield client.ask(
            {"model": "mock", "messages": says, "stream": stream, "temperature": 0, "user": PROMPT}
        )
        yield client.ask({"model": "broken-model", "messages": says, "stream": stream})
        for model in MISBEHAVIOURS:
            yield client.ask({"model": model, "messages": says, "stream": stream})
        yield client.ask({"model": "nobody", "messages": says, "stream": stream})
        yield client.ask({"model": "every", "messages": says, "stream": stream})
    for wrong in (
        PROMPT.encode(),
        b'{"messages": "' + PROMPT.encode(),
        {"messages": [{"role": PROMPT, "content": PROMPT}]},
        {"messages": says, "temperature": PROMPT},
        {"messages": says, "top_logprobs": 1, "user": PROMPT},
        {"messages": [{"role": "user", "content": [{"type": "text", "txt": PROMPT}]}]},
    ):
        yield client.ask(wrong)
        yield client.ask(wrong, path="/v1/routing/explain")
    yield client.ask({"messages": says}, path="/v1/routing/explain")
    yield client.ask({"provider": PROMPT}, path="/v1/routing/reset")
    yield client.ask({"messages": says}, headers={"x-gateway-force-provider": PROMPT})
    yield client.ask({"messages": says}, headers={"content-encoding": "gzip"})
    yield client.ask({"messages": says}, path=f"/v1/completions/{PROMPT}?key={CLIENT_KEY}")
    yield client.ask({"messages": says}, path=f"{CHAT}?key={CLIENT_KEY}&prompt={PROMPT}")
    yield client.ask(None, method="GET", path=f"/v1/requests?key={PROMPT}")
    yield client.ask(None, method="GET", path=f"/v1/analytics?{PROMPT}=1")
    yield client.ask(None, method="DELETE", path=f"/v1/models/{PROMPT}")


def strangers(gateway: GatewayProcess) -> Iterator[Answer]:
    """Keys that are none."""
    says = {"messages": [{"role": "user", "content": PROMPT}]}
    with gateway.client(WRONG_KEY) as stranger:
        yield stranger.ask(says)
        yield stranger.ask(says, headers={"authorization": WRONG_KEY})
        yield stranger.ask(says, headers={"x-api-key": CLIENT_KEY})
        yield stranger.ask(None, method="GET", path=f"/v1/requests?key={WRONG_KEY}")
        yield stranger.ask(says, headers={"authorization": f"Basic {WRONG_KEY}"}, path="/v1/routing/reset")


#: Configurations with secrets in the wrong places.
BROKEN = (
    f'[[providers]]\nname = "x"\nbase_url = "http://x.example"\napi_key_env = "{PROVIDER_KEY}"',
    f'[[providers]]\nname = "x"\nbase_url = "http://x.example"\napi_keys_env = "{SECOND_KEY}"',
    f'[[providers]]\nname = "x"\nbase_url = "http://x.example"\napi_key = "{PROVIDER_KEY}"',
    f'[[providers]]\nname = "x"\nbase_url = "http://gateway:{PASSWORD}@x.example"',
    f'[[providers]]\nname = "x"\nbase_url = "http://x.example/?key={QUERY_KEY}"',
    f'[[auth.keys]]\nlabel = "x"\nenv = "{CLIENT_KEY}"',
    f'[[auth.keys]]\nlabel = "x"\nsha256 = "{CLIENT_KEY}"',
    f'[auth]\nkeys = ["{CLIENT_KEY}"]',
    f'[analytics]\ndatabase = 5\npassword = "{PASSWORD}"',
    f'[analytics]\ndatabase = ["postgresql://x:{PASSWORD}@x.example/y"]',
    f'[server]\nport = "{CLIENT_KEY}"\ncors_origins = ["{CLIENT_KEY}"]',
)
PUBLIC = (
    "/",
    "/health",
    "/v1/models",
    "/v1/routing/status",
    "/readyz",
    "/openapi.json",
    "/metrics",
    "/v1/stats/providers",
)
FIGURES = ("/v1/analytics?days=1&by=model", "/v1/analytics?days=1&by=project", "/v1/requests?limit=500")


def reload_badly(gateway: GatewayProcess, file: Path) -> None:
    """Secrets where they do not belong, in a file that is read again."""
    pause = threading.Event()
    for number, broken in enumerate(BROKEN, 1):
        file.write_text(broken)
        gateway.process.send_signal(signal.SIGHUP)
        while gateway.log.count("is not used") < number:
            assert gateway.process.poll() is None
            pause.wait(0.01)


def assert_exported(capsys: pytest.CaptureFixture[str], database: str, least: int) -> None:
    for form in ("--jsonl", "--csv"):
        assert main(["export", form, "--database", database]) == 0
        said = capsys.readouterr()
        assert said.out.count("\n") > least
        assert traces(said.out, said.err) == set()


#: One that there is, and one that nobody listens for.
DATABASES = ("sqlite:///records.db", f"postgresql://gateway:{PASSWORD}@127.0.0.1:1/gateway")


@pytest.mark.sockets
@pytest.mark.parametrize("database", DATABASES, ids=["sqlite", "postgresql"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_canary_in_anything_that_a_server_says_or_writes(
    runtime: str, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Provider("good", Knobs(words=3), models=("mock", "every"))
    gossip = Gossip("gossip", models=(*MISBEHAVIOURS, "every"))
    broken = Provider("broken", Knobs(reset_after=1))
    providers = [good, gossip, broken]
    journal = tmp_path / "journal"
    with hosting(providers) as urls:
        more = f'{MORE}[analytics]\ndatabase = "{database}"\n'
        file = configuration(providers, urls, more, good=OF_EACH, gossip=OF_EACH, broken=OF_EACH)
        environ = {
            "GATEWAY_API_KEY_HASHES": f"owner:{HASHED}",
            "PROVIDER_KEYS": f"{PROVIDER_KEY},{SECOND_KEY}",
        }
        with (
            serving(
                tmp_path, runtime, file, environ=environ, flags=("--journal", str(journal)), notices=r".*"
            ) as gateway,
            gateway.client(CLIENT_KEY) as client,
        ):
            answers = list(traffic(client))
            assert traces(*(told(answer) for answer in answers), of=SECRETS) == set()
            assert traces(*(answer.headers for answer in answers)) == set()
            assert traces(*(answer.body for answer in answers)) == set(TEXTS)  # to their owner they go
            assert {answer.status for answer in answers} >= {200, 400, 404, 405, 415, 429, 502}
            assert {answer.status for answer in strangers(gateway)} == {401}
            assert traces(*map(told, strangers(gateway))) == set()
            left = client.send({"model": "mock", "messages": [{"role": "user", "content": PROMPT}]})
            left.close()
            reload_badly(gateway, tmp_path / "gateway.toml")
            for page in (*PUBLIC, *FIGURES):
                assert traces(told(client.get(page))) == set(), page
        lines = gateway.log.splitlines()
        assert len(lines) > len(answers)
        assert traces(*gateway.announced, gateway.log) == set()
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "gateway.toml"]
    assert {path.name for path in written} >= {"journal", "state.json", "stderr"}
    for path in written:
        # A journal keeps providers' errors, whose words decide what is done (docs/journal.md).
        assert traces(path.read_bytes(), of=SECRETS if path == journal else EVERYTHING) == set(), path
    assert "key_rejected" in gateway.log
    if database.startswith("sqlite"):
        assert b"owner" in (tmp_path / "gwproto" / "records.db").read_bytes()
        assert_exported(capsys, f"sqlite:///{tmp_path}/gwproto/records.db", len(answers) // 2)
    for provider in providers:
        for request in provider.received:
            assert QUERY_KEY in request.target
            assert traces(request, of=(CLIENT_KEY, WRONG_KEY, PASSWORD)) == set()


CONFIGURED = f"""
[analytics]
database = "postgresql://gateway:{PASSWORD}@127.0.0.1:1/gateway"
[[providers]]
name = "local"
base_url = "http://provider.test/v1"
{OF_EACH}
[[providers.models]]
id = "mock"
"""
ENVIRON = {"GATEWAY_API_KEY": CLIENT_KEY, "PROVIDER_KEYS": f"{PROVIDER_KEY},{SECOND_KEY}"}


@pytest.fixture
def deployment() -> Deployment:
    return deploy(load(CONFIGURED.encode(), ENVIRON, {}, known={}), environ=ENVIRON)


def test_no_secret_in_any_repr(deployment: Deployment) -> None:
    gateway = Gateway(deployment.configuration, rng=random.Random(1), epoch=0.0)
    app = GatewayApp(deployment)
    settings = deployment.configuration.settings
    exchange = gateway.begin(head(key=CLIENT_KEY), START)
    exchange.start(START)
    exchange.receive(ClientData(body()), START)
    exchange.receive(ClientEnd(), START)
    exchange.abandon(START)
    objects: list[Any] = [deployment, gateway, app, Pool(deployment.credentials), exchange, exchange.outcome]
    objects += [
        deployment.configuration,
        gateway.shared,
        gateway.catalog,
        gateway.limits,
        gateway.snapshot(START),
    ]
    objects += [settings, settings.analytics, *settings.providers, gateway.catalog.targets]
    objects += [vars(gateway), vars(app), load(CONFIGURED.encode(), ENVIRON, {}, known={})]
    records = Recorder(DATABASES[1])
    telemetry = Telemetry(settings)
    telemetry.attach(gateway, lambda: START, lambda: 0)
    objects += [records, vars(records), telemetry, vars(telemetry)]
    records.close()
    telemetry.close()
    for one in objects:
        assert traces(repr(one), of=SECRETS) == set(), type(one)
        assert traces(str(one), of=SECRETS) == set(), type(one)
    assert isinstance(deployment.configuration, Configuration)
    assert isinstance(settings, Settings)
    assert "provider.test" in repr(settings)  # it does tell something


@pytest.mark.sockets
def test_no_canary_in_any_log_line_or_span_at_their_most_talkative(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    spans = InMemorySpanExporter()
    tracer = Tracer(SimpleSpanProcessor(spans), Spans(Resource({}), ALWAYS_ON))
    good, gossip = Provider("good", models=("mock",)), Gossip("gossip", models=MISBEHAVIOURS)
    with hosting([good, gossip]) as urls, start_blocking_portal("asyncio") as portal:
        file = configuration([good, gossip], urls, MORE, good=OF_EACH, gossip=OF_EACH)
        file = f'{file}\n[analytics]\ndatabase = "sqlite:///{tmp_path}/records.db"'
        deployment = deploy(load(file.encode(), ENVIRON, {}, known={}), environ=ENVIRON)
        telemetry = Telemetry(deployment.configuration.settings, tracer=tracer)
        app = GatewayApp(deployment, telemetry=telemetry)
        for key in (CLIENT_KEY, WRONG_KEY):
            headers = ((b"authorization", b"Bearer " + key.encode()),)
            for model in ("mock", *MISBEHAVIOURS):
                for stream in (False, True):
                    payload = body(
                        model=model,
                        stream=stream,
                        user=PROMPT,
                        messages=[{"role": "user", "content": PROMPT}],
                    )
                    portal.call(partial(call, app, "POST", CHAT, headers=headers, body=[payload]))
        portal.call(app.aclose)
    assert len([record for record in caplog.records if record.name == "gwproto.access"]) == 52
    assert "gwproto.audit" in {record.name for record in caplog.records}
    assert traces(caplog.text, *(vars(record) for record in caplog.records)) == set()
    assert len(spans.get_finished_spans()) > 52
    assert traces(*(span.to_json() for span in spans.get_finished_spans())) == set()


@pytest.mark.parametrize("command", ["check", "models"])
def test_no_secret_in_what_is_told_of_a_good_configuration(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIGURED)
    assert main([command, "--config", str(file)]) == 0
    said = capsys.readouterr()
    assert "mock" in said.out
    assert traces(said.out, said.err) == set()


@pytest.mark.parametrize("text", BROKEN)
def test_no_secret_in_what_is_said_of_a_configuration(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it stands in the wrong place."""
    monkeypatch.setenv("GATEWAY_API_KEY", CLIENT_KEY)
    file = tmp_path / "broken.toml"
    file.write_text(text)
    assert main(["check", "--config", str(file)]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") >= 1
    assert traces(said.out, said.err) == set()

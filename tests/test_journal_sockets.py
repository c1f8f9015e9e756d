"""Journals written by both servers under fire, over real sockets: they replay, and nobody's words are in them."""

import os
import random
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gwproto.testing import Knobs
from support.servers import (
    CHAT,
    KEY,
    ROOT,
    RUNTIMES,
    Client,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)

pytestmark = pytest.mark.sockets

REQUESTS = int(os.environ.get("JOURNAL_REQUESTS", "150"))
CANARY = "Kanarienvogel"
SECRET = "sk-canary-of-a-provider"

PROVIDERS = {
    "good": ("openai", Knobs(words=12, pace=0.001)),
    "flaky": ("openai", Knobs(status=500, failure_rate=0.4)),
    "busy": ("anthropic", Knobs(status=429, retry_after=0.05, failure_rate=0.3)),
    "breaking": ("gemini", Knobs(reset_after=2, failure_rate=0.3)),
    "stalling": ("ollama", Knobs(stall_after=1, failure_rate=0.2)),
    "silent": ("openai", Knobs(stall_after=0, failure_rate=0.2)),
    "odd": ("bedrock", Knobs(garbage="html", failure_rate=0.2)),
    "locked": ("openai", Knobs(api_key="another")),
    "early": ("cohere", Knobs(first_event_error=True, failure_rate=0.3)),
}
SETTINGS = """
[timeouts]
first_content = 0.3
idle = 0.3
total = 2.0
[health]
cooldown = 0.2
cooldown_max = 0.4
throttle_cooldown = 0.1
auth_cooldown = 1.0
[retry]
budget_floor = 10000
"""
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
    },
}


def request(gateway: GatewayProcess, number: int) -> None:
    """One client's request, of one kind or another."""
    rng = random.Random(number)
    client = Client(gateway.port, KEY if number % 23 else "no key")
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": f"{CANARY} {number}, ällabätsch"}],
        "stream": rng.random() < 0.6,
    }
    if number % 5 == 0:
        body["tools"] = [TOOL]
    try:
        if number % 17 == 0:
            client.get(rng.choice(["/v1/models", "/health", "/nowhere", "/v1/routing/status"]))
        elif number % 19 == 0:
            client.ask(b'{"messages": ' + CANARY.encode())
        elif number % 7 == 0:  # leaves
            response = client.send(body | {"stream": True})
            response.read(1)
        elif number % 29 == 0:
            raw = socket.create_connection(("127.0.0.1", gateway.port))
            raw.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 90\r\n".encode())
            raw.sendall(f"authorization: Bearer {KEY}\r\n\r\n{{".encode())
            raw.close()
        else:
            client.ask(body)
    finally:
        client.close()


def recorded(directory: Path, runtime: str, *flags: str) -> Path:
    """The journal of a gateway over all those providers."""
    providers = [
        Provider(name, knobs, models=(f"{name}-model",), format=format)
        for name, (format, knobs) in PROVIDERS.items()
    ]
    journal = directory / "journal.jsonl"
    keys = dict.fromkeys(PROVIDERS, 'api_key_env = "PROVIDER_KEY"')
    with (
        hosting(providers) as urls,
        serving(
            directory,
            runtime,
            configuration(providers, urls, SETTINGS, **keys),
            environ={"GATEWAY_API_KEY": KEY, "PROVIDER_KEY": SECRET},
            flags=("--journal", str(journal), *flags),
        ) as gateway,
        ThreadPoolExecutor(8) as clients,
    ):
        for done in [clients.submit(request, gateway, number) for number in range(1, REQUESTS + 1)]:
            done.result()
    return journal


def replayed(journal: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    variables = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtimes")]),
    }
    command = [sys.executable, "-m", "gwproto_cli", "replay", str(journal), *flags]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


@pytest.fixture(scope="module", params=RUNTIMES)
def journal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("journal"), request.param)


def test_a_servers_journal_replays(journal: Path) -> None:
    result = replayed(journal)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith(", 0 divergences\n")
    assert int(result.stdout.split(" exchanges")[0].rpartition(" ")[2]) >= REQUESTS
    assert replayed(journal).stdout == result.stdout


def test_nobodys_words_and_no_key_are_in_it(journal: Path) -> None:
    text = journal.read_text("utf-8")
    for word in (CANARY, "llabätsch", "You said", KEY, SECRET, "canary-of"):
        assert word not in text
    assert journal.stat().st_mode & 0o777 == 0o600


def test_with_bodies_the_words_are_in_it_and_no_key(tmp_path: Path) -> None:
    journal = recorded(tmp_path, "trio", "--journal-bodies")
    text = journal.read_text("utf-8")
    assert CANARY in text
    assert KEY not in text
    assert SECRET not in text
    assert replayed(journal).returncode == 0

"""What the foundation was accepted by: rotation, failover and recovery."""

import random
import shlex
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gwproto.testing import Knobs, SimulatedNetwork, SimulatedProvider, Transcript, Visit, World
from support.conversation import EPOCH, START, body, head
from support.conversation import gateway as gateway_over
from support.conversation import provider as provider_in_memory
from support.servers import (
    CHAT,
    FIVE_HEADERS,
    RUNTIMES,
    Client,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)


@pytest.mark.sockets
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_three_calls_of_a_chat(runtime: str, tmp_path: Path) -> None:
    """The command without any configuration, the key and the request it prints, and the two variations."""
    with serving(tmp_path, runtime, environ={}) as gateway:
        assert f"({runtime})" in gateway.announced[0]
        (key,) = [line.split()[1] for line in gateway.announced if line.startswith("key: ")]
        words = shlex.split(gateway.announced[-1].removeprefix("try: "))
        assert words[:2] == ["curl", gateway.url + CHAT]
        assert words[2::2] == ["-H", "-H", "-d"]
        headers = dict(field.split(": ", 1) for field in (words[3], words[5]))
        assert headers["authorization"] == f"Bearer {key}"
        with gateway.client(key) as client:
            plain = client.ask(words[7].encode(), headers=headers)
            assert plain.json["object"] == "chat.completion"
            assert "Hello" in plain.json["choices"][0]["message"]["content"]

            stream = client.chat(model="auto", stream=True)
            *chunks, done = stream.events
            assert done == "[DONE]"
            assert stream.body.count(b"[DONE]") == 1
            assert stream.body.count(b'finish_reason":"stop"') == 1
            text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
            assert "hello" in text
            assert {chunk["model"] for chunk in chunks} == {stream.headers["x-gateway-model"]}

            effort = client.chat(model="auto", reasoning_effort="high")
            assert effort.headers["x-gateway-reasoning-effort"] == "high"
            assert effort.json["choices"][0]["message"]["reasoning_content"]
            for answer in (plain, stream, effort):
                assert answer.status == 200
                assert all(answer.headers[name] for name in FIVE_HEADERS)
                assert answer.headers["x-gateway-attempts"] == "1"
                assert answer.headers["x-gateway-provider"].startswith("demo-")
                assert "gw;dur=" in answer.headers["server-timing"]


class Three:
    """A gateway over three providers."""

    def __init__(self, gateway: GatewayProcess, client: Client, providers: list[Provider]) -> None:
        self.gateway = gateway
        self.client = client
        self.providers = providers

    def ask(self, count: int) -> list[tuple[str, int]]:
        """Providers and attempts of so many requests, every other one streamed, all of which must succeed."""
        answers = []
        for number in range(count):
            answer = self.client.chat(model="auto", stream=number % 2 == 1)
            assert answer.status == 200
            assert (b"[DONE]" in answer.body) == (number % 2 == 1)
            answers.append((answer.headers["x-gateway-provider"], int(answer.headers["x-gateway-attempts"])))
        return answers


@pytest.fixture(params=RUNTIMES)
def three(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Three]:
    providers = [Provider(name) for name in ("one", "two", "three")]
    with (
        hosting(providers) as urls,
        serving(tmp_path, request.param, configuration(providers, urls)) as gateway,
        gateway.client() as client,
    ):
        yield Three(gateway, client, providers)


@pytest.mark.sockets
def test_rotation_of_requests_at_once(three: Three) -> None:
    def ask(_: int) -> str:
        with three.gateway.client() as client:
            answers = [client.chat(model="auto", stream=number % 2 == 1) for number in range(37)]
        assert all(answer.headers["x-gateway-attempts"] == "1" for answer in answers)
        return ",".join(answer.headers["x-gateway-provider"] for answer in answers)

    with ThreadPoolExecutor(8) as threads:
        served = Counter(",".join(threads.map(ask, range(8))).split(","))
    assert served.total() == 296
    assert max(served.values()) - min(served.values()) <= 1


@pytest.mark.sockets
def test_rotation_then_two_providers_break(three: Three) -> None:
    _, two, third = three.providers
    served = Counter(name for name, attempts in three.ask(300) if attempts == 1)
    assert served == {"one": 100, "two": 100, "three": 100}
    assert {provider.name: provider.served for provider in three.providers} == served

    two.knobs = Knobs(status=500)
    third.knobs = Knobs(reset_after=0)
    answers = three.ask(300)
    assert {name for name, _ in answers} == {"one"}
    repeated = [attempts for _, attempts in answers if attempts > 1]
    assert 0 < len(repeated) <= 6
    assert max(repeated) <= 3
    # Three failures in a row begin a cooldown. The first reset came on a kept-alive connection and might have been the
    # connection's fault, so that one was repeated on a fresh one, beside the budget.
    assert two.served - 100 == 3
    assert third.served - 100 == 3 + 1

    status = three.client.get("/v1/routing/status").json
    assert status["providers"]["one"]["status"] == "available"
    for name in ("two", "three"):
        assert status["providers"][name]["status"] == "cooldown"
        assert status["providers"][name]["reason"].startswith("cooling down for ")
    order = status["fallback_order"]
    assert order[0]["provider"] == "one"
    for target in order[1:]:
        assert target["status"] == "cooldown"
        assert 0 < target["cooldown_left"] <= 45.0 * 1.2
        assert target["failures"] > 0


NAMES = ("one", "two", "three")


def test_recovery_takes_one_probe_and_then_the_share_returns() -> None:
    gateway = gateway_over(*[provider_in_memory(name) for name in NAMES])
    origins = {provider.name: provider.origin for provider in gateway.catalog.providers}
    simulated = {
        name: SimulatedProvider(
            name, models=[f"{name}-model"], rng=random.Random(1), knobs=Knobs(latency=0.05)
        )
        for name in NAMES
    }
    network = SimulatedNetwork({origins[name]: simulated[name] for name in NAMES}, rng=random.Random(2))
    world = World(gateway, network, start=START, epoch=EPOCH)
    third = simulated["three"]

    def ask(count: int, *, apart: float) -> list[Transcript]:
        """So many requests, one begun every ``apart`` seconds."""
        begin = world.now
        end = begin + count * apart + 1.0
        visits = [
            world.visit(Visit(head=head(), body=((0.0, body(model="auto")),)), at=begin + number * apart)
            for number in range(count)
        ]
        world.run(until=end)
        assert [visit.status for visit in visits] == [200] * count
        return visits

    def share(visits: list[Transcript]) -> int:
        return sum((b"x-gateway-provider", b"three") in visit.headers for visit in visits)

    third.knobs = Knobs(status=500, latency=0.05)
    assert share(ask(30, apart=0.1)) == 0
    assert third.served == 3
    world.run(until=world.now + 30.0)
    assert share(ask(30, apart=0.1)) == 0
    assert third.served == 3  # cooling down

    # The cooldown is over, the provider is not well yet: among requests that come all at once one is the probe.
    world.run(until=world.now + 30.0)
    assert share(ask(30, apart=0.0)) == 0
    assert third.served == 4
    world.run(until=world.now + 60.0)
    assert share(ask(30, apart=0.1)) == 0
    assert third.served == 4  # the second cooldown is twice as long

    third.knobs = Knobs(latency=0.05)
    world.run(until=world.now + 60.0)
    assert share(ask(30, apart=0.0)) == 1
    shares = [share(ask(30, apart=0.1)) for _ in range(6)]
    assert shares[0] < 10  # slow start
    assert shares == sorted(shares)
    assert shares[-1] == 10

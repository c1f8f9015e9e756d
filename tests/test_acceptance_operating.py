"""What an operator sees of the routing and does to it, on both servers, over real sockets."""

from pathlib import Path

import pytest

from gwproto.testing import Knobs
from support.servers import RUNTIMES, Client, Provider, configuration, hosting, serving

pytestmark = pytest.mark.sockets

EXPLAIN, RESET = "/v1/routing/explain", "/v1/routing/reset"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def providers() -> list[Provider]:
    return [Provider(name) for name in ("one", "two", "three")]


def reasons(client: Client, **fields: object) -> dict[str, str | None]:
    answer = client.ask({**HELLO, **fields}, path=EXPLAIN)
    assert answer.status == 200
    return {row["provider"]: row["reason"] for row in answer.json["candidates"]}


def test_explaining_and_resetting(runtime: str, tmp_path: Path, providers: list[Provider]) -> None:
    with (
        hosting(providers) as urls,
        serving(tmp_path, runtime, configuration(providers, urls)) as gateway,
        gateway.client() as client,
    ):
        two = providers[1]
        two.knobs = Knobs(status=401)
        assert {client.chat().headers["x-gateway-provider"] for _ in range(3)} == {"one", "three"}
        assert "auth" in (reasons(client)["two"] or "")
        chosen = client.ask(HELLO, path=EXPLAIN).json["chosen"]["provider"]
        assert client.chat().headers["x-gateway-provider"] == chosen

        two.knobs = Knobs()
        assert client.ask({"provider": "none"}, path=RESET).error["param"] == "provider"
        assert client.ask({"provider": "two"}, path=RESET).json["ended"] == 1
        assert reasons(client)["two"] in (None, "others take this turn")
        assert "two" in {client.chat().headers["x-gateway-provider"] for _ in range(3)}
        with gateway.client("wrong") as stranger:
            assert stranger.ask({}, path=RESET).status == 401
        assert client.get(RESET).status == 405


def test_requests_of_one_conversation_stay_together(
    runtime: str, tmp_path: Path, providers: list[Provider]
) -> None:
    with (
        hosting(providers) as urls,
        serving(tmp_path, runtime, configuration(providers, urls)) as gateway,
        gateway.client() as client,
    ):
        kept = {
            client.ask(HELLO, headers={"x-gateway-affinity": "chat-1"}).headers["x-gateway-provider"]
            for _ in range(5)
        }
        assert len(kept) == 1
        assert (
            len({client.chat(prompt_cache_key="chat-2").headers["x-gateway-provider"] for _ in range(5)}) == 1
        )
        assert len({client.chat().headers["x-gateway-provider"] for _ in range(12)}) == 3


def test_what_headers_say_is_left_is_left_alone(
    runtime: str, tmp_path: Path, providers: list[Provider]
) -> None:
    providers[0].knobs = Knobs(requests_per_minute=2)  # which its headers tell
    with (
        hosting(providers) as urls,
        serving(tmp_path, runtime, configuration(providers, urls)) as gateway,
        gateway.client() as client,
    ):
        answers = [client.chat() for _ in range(12)]
        assert {answer.headers["x-gateway-attempts"] for answer in answers} == {"1"}
        assert providers[0].served == 2  # and not one 429
        assert "no requests" in (reasons(client)["one"] or "")


def test_what_was_known_is_known_after_a_restart(
    runtime: str, tmp_path: Path, providers: list[Provider]
) -> None:
    providers[0].knobs = Knobs(status=401)
    variables = {"GATEWAY_API_KEY": "client", "ONE_KEY": "first"}
    with hosting(providers) as urls:
        config = configuration(providers, urls, one='api_key_env = "ONE_KEY"')
        for key, out in (("first", False), ("first", True), ("second", False)):
            with (
                serving(tmp_path, runtime, config, environ={**variables, "ONE_KEY": key}) as gateway,
                gateway.client("client") as client,
            ):
                assert ("auth" in (reasons(client)["one"] or "")) is out
                assert {client.chat().status for _ in range(3)} == {200}
    assert (tmp_path / "gwproto" / "state.json").exists()

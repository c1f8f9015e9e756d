"""Providers that fail in every way over real sockets: what the client sees of it, and what it does not."""

from collections.abc import Iterator

import pytest

from gwproto.testing import Knobs
from support.servers import (
    KEY,
    RUNTIMES,
    Answer,
    Client,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)

pytestmark = pytest.mark.sockets

#: Before any content.
EARLY = {
    "error-500": Knobs(status=500),
    "error-503": Knobs(status=503, retry_after=1.0),
    "error-429": Knobs(status=429),
    "error-401": Knobs(status=401),
    "error-402": Knobs(status=402),
    "error-404": Knobs(status=404),
    "first-event": Knobs(first_event_error=True),
    "reset": Knobs(reset_after=0),
    "stall": Knobs(stall_after=0),
    "html": Knobs(garbage="html"),
    "empty": Knobs(garbage="empty"),
    "not-json": Knobs(garbage="not_json"),
    "truncated-json": Knobs(garbage="truncated_json"),
    "invalid-utf8": Knobs(garbage="invalid_utf8"),
    "binary": Knobs(garbage="binary"),
}
#: After content has been streamed.
LATE = {
    "late-reset": (Knobs(reset_after=3), "stream_truncated"),
    "late-stall": (Knobs(stall_after=3), "upstream_timeout"),
    "no-end": (Knobs(no_finish=True, no_done=True), "stream_truncated"),
}
SAID = 'You said "hello", and good heard you.'
CASES = [
    (fault, mode)
    for fault in EARLY
    for mode in ("plain", "stream")
    if (fault, mode) != ("first-event", "plain")
]


class Service:
    """A gateway over a good provider and one for every fault."""

    def __init__(self, gateway: GatewayProcess, client: Client, providers: list[Provider]) -> None:
        self.gateway = gateway
        self.client = client
        self.providers = {provider.name: provider for provider in providers}


@pytest.fixture(scope="module", params=RUNTIMES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    providers = [Provider("good", models=("mock",))]
    providers += [Provider(f"{fault}-{mode}", EARLY[fault]) for fault, mode in CASES]
    providers += [Provider(name, knobs) for name, (knobs, _) in LATE.items()]
    providers += [
        Provider("half-body", Knobs(reset_after=1)),
        Provider("no-done", Knobs(no_done=True)),
        Provider("no-finish", Knobs(no_finish=True)),
        Provider("endless", Knobs(stall_after=3)),
        Provider("silent", Knobs(stall_after=0)),
    ]
    # With each faulty model goes the good one, under one name.
    aliases = "\n".join(f'{fault}-{mode} = ["{fault}-{mode}-model", "mock"]' for fault, mode in CASES)
    more = f'[retry]\nbudget_floor = 1000\n[aliases]\n{aliases}\nhalf-body = ["half-body-model", "mock"]'
    tables = {
        "stall_plain": "timeouts = { total = 0.1 }",  # seconds
        "stall_stream": "timeouts = { first_content = 0.1 }",
        "late_stall": "timeouts = { idle = 0.1 }",
    }
    with (
        hosting(providers) as urls,
        serving(
            tmp_path_factory.mktemp("gateway"), request.param, configuration(providers, urls, more, **tables)
        ) as gateway,
        gateway.client() as client,
    ):
        yield Service(gateway, client, providers)


def text_of(answer: Answer) -> str:
    """The text of a good answer."""
    assert answer.status == 200
    if answer.headers["content-type"] == "application/json":
        text: str = answer.json["choices"][0]["message"]["content"]
        return text
    *chunks, done = answer.events
    assert done == "[DONE]"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] == "stop"
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


@pytest.mark.parametrize(("fault", "mode"), [*CASES, ("half-body", "plain")])
def test_another_provider_answers(service: Service, fault: str, mode: str) -> None:
    name = "half-body" if fault == "half-body" else f"{fault}-{mode}"
    attempts = []
    for _ in range(3):  # whose turn it is depends on what was asked before
        answer = service.client.chat(model=name, stream=mode == "stream")
        assert text_of(answer) == SAID
        assert answer.headers["x-gateway-provider"] == "good"
        attempts.append(answer.headers["x-gateway-attempts"])
    assert "2" in attempts
    assert set(attempts) <= {"1", "2"}
    assert service.providers[name].received


@pytest.mark.parametrize("fault", LATE)
def test_after_content_there_is_an_error_and_no_end_marker(service: Service, fault: str) -> None:
    answer = service.client.chat(model=f"{fault}-model", stream=True)
    assert answer.status == 200
    *chunks, last = answer.events
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text.startswith("You said")
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    assert set(last) == {"error"}
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert (last["error"]["type"], last["error"]["code"]) == ("provider_error", LATE[fault][1])
    assert (
        service.client.get("/livez").status == 200
    )  # on the same connection: the response ended in good order


@pytest.mark.parametrize("name", ["no-done", "no-finish"])
def test_one_sign_of_the_end_is_enough(service: Service, name: str) -> None:
    """The gateway supplies the other."""
    answer = service.client.chat(model=f"{name}-model", stream=True)
    assert text_of(answer) == f'You said "hello", and {name} heard you.'


@pytest.mark.parametrize("name", ["endless", "silent"])
def test_a_client_that_leaves_takes_its_upstream_along(service: Service, name: str) -> None:
    """Streaming, and waiting for an answer that is not streamed."""
    provider = service.providers[name]
    body = b'{"model":"%s-model","stream":%s,"messages":[{"role":"user","content":"x"}]}' % (
        name.encode(),
        b"true" if name == "endless" else b"false",
    )
    client = Client(service.gateway.port)
    client.http.putrequest("POST", "/v1/chat/completions")
    client.http.putheader("authorization", f"Bearer {KEY}")
    client.http.putheader("content-length", str(len(body)))
    client.http.endheaders(body)
    if name == "endless":
        response = client.http.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
    else:
        provider.wait(lambda provider: len(provider.received) == 1)
    client.close()
    provider.wait(lambda provider: provider.departures == 1)
    status = service.client.get("/v1/routing/status").json
    assert status["providers"][name]["status"] == "available"
    assert status["providers"][name]["in_flight"] == 0

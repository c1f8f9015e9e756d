"""SIGTERM to the running command, on both runtimes."""

from http.client import HTTPException
from pathlib import Path

import pytest

from gwproto.testing import Knobs
from support.servers import RUNTIMES, GatewayProcess, Provider, configuration, hosting, serving

pytestmark = pytest.mark.sockets

STREAM = {"stream": True, "messages": [{"role": "user", "content": "hello"}]}


def readiness(gateway: GatewayProcess) -> int:
    """What a new connection is told by ``/readyz``; 0 when there is no such connection any more."""
    with gateway.client() as client:
        try:
            return client.get("/readyz").status
        except (OSError, HTTPException):
            return 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_running_stream_may_end(runtime: str, tmp_path: Path) -> None:
    """Not ready at once, then deaf, and the process ends with its last stream."""
    provider = Provider("paced", Knobs(words=50, pace=0.05))  # longer than the delay
    more = "[server]\ndrain_delay = 1.5"
    with (
        hosting([provider]) as urls,
        serving(tmp_path, runtime, configuration([provider], urls, more)) as gateway,
        gateway.client() as client,
    ):
        assert readiness(gateway) == 200
        response = client.send(STREAM)
        first = response.readline()
        gateway.terminate()
        seen = [200]
        while seen[-1]:
            status = readiness(gateway)
            if status != seen[-1]:
                seen.append(status)
        assert seen == [200, 503, 0]
        assert gateway.process.poll() is None
        body = first + client.read(response).body
        assert body.count(b"data: [DONE]") == 1
        assert body.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in body
        assert gateway.wait() == 0
    assert provider.departures == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_takes_too_long_is_ended(runtime: str, tmp_path: Path) -> None:
    streaming, waiting = (
        Provider("streaming", Knobs(stall_after=2)),
        Provider("waiting", Knobs(stall_after=0)),
    )
    providers = [streaming, waiting]
    with (
        hosting(providers) as urls,
        serving(
            tmp_path, runtime, configuration(providers, urls, "[server]\ndrain_timeout = 0.2")
        ) as gateway,
        gateway.client() as one,
        gateway.client() as two,
    ):
        response = one.send({**STREAM, "model": "streaming-model"})
        first = response.readline()
        two.http.putrequest("POST", "/v1/chat/completions")
        two.http.putheader("authorization", f"Bearer {two.key}")
        body = b'{"model": "waiting-model", "messages": [{"role": "user", "content": "hello"}]}'
        two.http.putheader("content-length", str(len(body)))
        two.http.endheaders(body)
        waiting.wait(lambda provider: len(provider.received) == 1)
        gateway.terminate()

        streamed = one.read(response)._replace(headers={"content-type": "text/event-stream; charset=utf-8"})
        *chunks, last = streamed._replace(body=first + streamed.body).events
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert last["error"]["code"] == "shutting_down"

        answer = two.read(two.http.getresponse())
        assert answer.status == 503
        assert answer.error["type"] == "service_unavailable"
        assert answer.error["code"] == "shutting_down"
        assert int(answer.headers["retry-after"]) >= 1
        assert gateway.wait() == 0
        for provider in providers:
            provider.wait(lambda provider: provider.departures == 1)
    assert gateway.log.count('"error":"shutting_down"') == 2

"""Conversations with the machine: feed events, look at commands. No clock, no network."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from gwproto import (
    ClientData,
    ClientEnd,
    Command,
    Configuration,
    Event,
    Exchange,
    Gateway,
    OpenUpstream,
    RequestHead,
    SendData,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamOpened,
)
from gwproto.config import ModelSettings, ProviderSettings, Settings
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import compile_catalog
from gwproto.wire.dialects import VOCABULARIES

KEY = "test-key-of-the-client"
START = 4321.5  # clocks start anywhere but at zero
EPOCH = 1_700_000_000.0 - START


def provider(name: str, **changes: Any) -> ProviderSettings:
    """A provider in OpenAI's format with one model, ``<name>-model``."""
    settings: dict[str, Any] = {
        "name": name,
        "base_url": f"http://{name}.example/v1",
        "models": (ModelSettings(**{"id": f"{name}-model", **changes.pop("model", {})}),),
    }
    return ProviderSettings(**{**settings, **changes})


def configuration(*providers: ProviderSettings, **sections: Any) -> Configuration:
    """Settings for these providers (default: ``a``), each with a credential of its own name."""

    settings = Settings(providers=providers or (provider("a"),), **sections)
    credentials = {one.name: [one.name] for one in settings.providers}
    key = ClientKey("tester", hashlib.sha256(KEY.encode()).digest())
    return Configuration(settings, compile_catalog(settings, credentials, VOCABULARIES), (key,))


def gateway(*providers: ProviderSettings, seed: int = 7, **sections: Any) -> Gateway:
    return Gateway(configuration(*providers, **sections), rng=random.Random(seed), epoch=EPOCH)


def head(
    method: str = "POST",
    target: str = "/v1/chat/completions",
    *,
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
) -> RequestHead:
    fields = [(b"host", b"gateway.example")]
    if key is not None:
        fields.append((b"authorization", b"Bearer " + key.encode()))
    fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return RequestHead(method, target, tuple(fields))


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def begin(
    gateway: Gateway, payload: bytes, now: float = START, *, headers: Mapping[str, str] | None = None
) -> tuple[Exchange, Sequence[Command]]:
    """An exchange whose request body is complete, and what it wants first."""
    exchange = gateway.begin(head(headers=headers), now)
    assert exchange.start(now) == []
    assert exchange.receive(ClientData(payload), now) == []
    return exchange, exchange.receive(ClientEnd(), now)


def opened(commands: Sequence[Command]) -> OpenUpstream:
    """The one upstream request among ``commands``."""
    (only,) = [command for command in commands if isinstance(command, OpenUpstream)]
    return only


def provider_of(command: OpenUpstream) -> str:
    return command.request.origin.host.partition(".")[0]


def feed(exchange: Exchange, now: float, *events: Event) -> list[Command]:
    """All commands of these events; what comes after the exchange has finished is not fed."""
    commands: list[Command] = []
    for event in events:
        if not exchange.finished:
            commands += exchange.receive(event, now)
    return commands


def answer(
    attempt: int,
    *pieces: bytes,
    status: int = 200,
    content_type: str = "application/json",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> list[Event]:
    """A whole provider response."""
    return [
        UpstreamOpened(attempt, False),
        UpstreamHead(attempt, status, ((b"content-type", content_type.encode()), *headers)),
        *[UpstreamData(attempt, piece) for piece in pieces],
        UpstreamEnd(attempt),
    ]


def completion(text: str = "Hello", model: str = "m", **fields: Any) -> bytes:
    """A provider's ``chat.completion``."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    answer = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }
    return json.dumps({**answer, **fields}, separators=(",", ":"), ensure_ascii=False).encode()


def chunk(delta: Mapping[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    """One event of a provider's stream."""
    answer = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return (
        b"data: "
        + json.dumps({**answer, **fields}, separators=(",", ":"), ensure_ascii=False).encode()
        + b"\n\n"
    )


ROLE = chunk({"role": "assistant", "content": ""})
STOP = chunk({}, "stop")
DONE = b"data: [DONE]\n\n"


def text(word: str) -> bytes:
    return chunk({"content": word})


def sent_head(commands: Sequence[Command]) -> tuple[int, dict[str, str]]:
    (only,) = [command for command in commands if isinstance(command, SendHead)]
    return only.status, {name.decode(): value.decode() for name, value in only.headers}


def sent_body(commands: Sequence[Command]) -> bytes:
    return b"".join(command.data for command in commands if isinstance(command, SendData))


def sent_error(commands: Sequence[Command]) -> dict[str, Any]:
    error = json.loads(sent_body(commands))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error, dict)
    return error

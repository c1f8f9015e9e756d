"""A scenario is data: who asks what and when, how the providers behave, which settings differ from the default."""

import functools
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gwproto import Configuration, Headers, Outcome, RequestHead
from gwproto.config import ModelSettings, ProviderSettings, Settings
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import compile_catalog
from gwproto.testing import Connection, Stall, Visit
from gwproto.wire.dialects import VOCABULARIES

KEY = "canary-client-key"
SECRET = "canary-provider-secret"
PROVIDERS = ("alpha", "beta", "gamma")
EPOCH = 1_790_000_000.0  # wall time at the clock's zero
START = 5_000.0  # the clock when the gateway starts


class Arrival(Struct, frozen=True):
    """A visit, ``after`` seconds after the start."""

    after: float
    visit: Visit


class Scenario(Struct, frozen=True, kw_only=True):
    """``script``: how upstream requests fare, in their order, whichever provider gets them."""

    name: str
    script: tuple[Connection, ...] = ()
    arrivals: tuple[Arrival, ...]
    settings: dict[str, Any] = {}
    providers: int = 2
    format: str = "openai"  # what providers speak
    drain_after: float = math.inf  # the process is asked to stop
    unready_after: float = math.inf  # it says by /readyz that it will
    slow: bool = False  # takes time for a reason that the data do not show

    @property
    def timed(self) -> bool:
        """Whether anything in it takes time: then it needs a virtual clock."""
        waits = [step.after for connection in self.script for step in connection.steps]
        waits += [connection.dial for connection in self.script]
        waits += [after for arrival in self.arrivals for after, _ in arrival.visit.body]
        leaves = any(arrival.visit.leaves_after < math.inf for arrival in self.arrivals)
        stalls = any(isinstance(step.action, Stall) for c in self.script for step in c.steps)
        return (
            any(waits)
            or leaves
            or stalls
            or self.slow
            or min(self.drain_after, self.unready_after) < math.inf
        )


class Seen(Struct, frozen=True, kw_only=True):
    """What one client saw of its request, and what was recorded about it. The same on every runtime."""

    status: int
    headers: tuple[str, ...]
    body: str
    ending: str
    outcome: str
    error: str = ""
    attempts: tuple[str, ...] = ()  # "alpha ok", "beta server"


class Sent(Struct, frozen=True):
    """A request as a provider got it."""

    host: str
    line: str
    body: str


class Report(Struct, frozen=True, kw_only=True):
    """A scenario's whole result."""

    seen: tuple[Seen, ...]
    sent: tuple[Sent, ...] = ()


def configuration(scenario: Scenario, base_urls: Mapping[str, str] | None = None) -> Configuration:
    """The scenario's gateway: providers alpha, beta … one model each, at hosts of their own or at ``base_urls``.

    Compiled once for all runs of a scenario: it never changes.
    """
    if base_urls is None:
        base_urls = {name: f"http://{name}.test/v1" for name in PROVIDERS}
    urls = tuple(base_urls[name] for name in PROVIDERS[: scenario.providers])
    return _compiled(scenario.format, urls, msgspec.json.encode(scenario.settings))


@functools.lru_cache(maxsize=256)
def _compiled(format: str, urls: tuple[str, ...], settings: bytes) -> Configuration:
    providers = tuple(
        ProviderSettings(
            name=name,
            format=format,
            base_url=url,
            models=(ModelSettings(id=f"{name}-m", upstream=f"{name}/model"),),
        )
        for name, url in zip(PROVIDERS, urls, strict=False)
    )
    document = {"providers": msgspec.to_builtins(providers), **msgspec.json.decode(settings)}
    checked = msgspec.convert(document, Settings, strict=False)
    catalog = compile_catalog(checked, {name: (name,) for name in PROVIDERS}, VOCABULARIES)
    return Configuration(checked, catalog, (ClientKey("test", hashlib.sha256(KEY.encode()).digest()),))


def credentials(scenario: Scenario) -> dict[str, tuple[bytes, bytes]]:
    """What the providers' credentials are, for runtimes."""
    return {name: (b"authorization", f"Bearer {SECRET}".encode()) for name in PROVIDERS}


_SHOWN = frozenset(
    (
        b"allow",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"retry-after",
        b"x-accel-buffering",
        b"x-should-retry",
    )
)
_HIDDEN = frozenset((b"x-gateway-request-id",))
_CREATED = re.compile(r'"created":\d+')
_ID = re.compile(r"(chatcmpl-|\bcall_)[0-9a-f]{24,32}")  # made from the request's


def seen(status: int, headers: Headers, body: bytes, ending: str, outcome: Outcome | None) -> Seen:
    """What a runner observed, without what differs from run to run."""
    shown = sorted(
        f"{name.decode()}: {value.decode()}"
        for name, value in headers
        if name in _SHOWN or (name.startswith((b"x-gateway-", b"x-ratelimit-")) and name not in _HIDDEN)
    )
    text = body.decode("utf-8", "backslashreplace")
    assert outcome is not None
    return Seen(
        status=status,
        headers=tuple(shown),
        body=_ID.sub(r"\1#", _CREATED.sub('"created":0', text)),
        ending=ending,
        outcome=outcome.ending.value,
        error=outcome.error,
        attempts=tuple(
            f"{attempt.provider} {attempt.failure or ('lost' if attempt.lost else 'ok')}"
            for attempt in outcome.attempts
        ),
    )


def outcome_of(headers: Headers, outcomes: Iterable[Outcome]) -> Outcome | None:
    """The outcome of the response with ``headers``; without a head, the one that no head was sent for."""
    request_id = dict(headers).get(b"x-gateway-request-id", b"").decode()
    for outcome in outcomes:
        if outcome.request_id == request_id or (not request_id and outcome.status == 499):
            return outcome
    return None


def sent(host: str, method: str, target: str, body: bytes) -> Sent:
    return Sent(host.removesuffix(".test"), f"{method} {target}", body.decode())


def rendered(scenario: Scenario, report: Report) -> str:
    """A report as text that a reviewer can read."""
    lines = []
    for arrival, one in zip(scenario.arrivals, report.seen, strict=True):
        head = arrival.visit.head
        lines += [f"> {head.method} {head.target}", f"< {one.status} {one.ending}"]
        lines += [f"< {header}" for header in one.headers]
        tried = ", ".join(one.attempts) or "none"
        lines += [f"= {one.outcome}{one.error and f' ({one.error})'}; attempts: {tried}", ""]
        lines += [f"  {line}" if line else "" for line in one.body.replace("\r", "\\r").split("\n")]
        lines.append("")
    for request in report.sent:
        lines += [f"^ {request.host}: {request.line}", f"  {request.body}"]
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def head(method: str, target: str, *headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(method, target, ((b"host", b"gateway.test"), *headers))

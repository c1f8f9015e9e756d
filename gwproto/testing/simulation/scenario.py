"""A scenario: who asks, who answers, and what goes wrong when. ``docs/simulation.md`` explains the fields.

Scenarios are TOML, read by the rules of the configuration file: unknown keys are errors that name the nearest one.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from gwproto.config import Count, Seconds, Section, Settings, Tier
from gwproto.failures import ConfigurationError
from gwproto.gateway_values import Configuration
from gwproto.loading import read_section, read_table
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import AUTO, compile_catalog
from gwproto.wire.dialects import VOCABULARIES

Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(gt=0)]
Effort = Literal["auto", "none", "minimal", "low", "medium", "high", "xhigh", "max"]

#: The key that every simulated client presents.
CLIENT_KEY = "simulated-client"
_CLIENT = ClientKey("simulated", hashlib.sha256(CLIENT_KEY.encode()).digest())


class Load(Section, frozen=True):
    """What clients ask for, and how often. Weights need not add up to anything."""

    requests: Annotated[int, Meta(ge=1)]
    rate: Annotated[float, Meta(gt=0, le=1e6)]  # requests per second
    arrivals: Literal["poisson", "steady"] = "poisson"
    streams: Share = 0.5
    chunks: Annotated[int, Meta(ge=1, le=10_000)] = 3  # of a stream, give or take half
    words: Annotated[int, Meta(ge=1, le=1000)] = 8  # to a chunk
    leaving: Share = 0.0  # clients that do not wait for the end
    leaves_after: Seconds = 2.0  # mean of what they wait, exponential
    models: dict[str, Weight] = field(default_factory=lambda: {AUTO: 1.0})
    efforts: dict[Effort, Weight] = field(default_factory=lambda: {"auto": 1.0})
    long: Share = 0.0  # requests with a long prompt
    long_tokens: Count = 0


class Trouble(Section, frozen=True):
    """What is wrong with a provider between two instants, in seconds from the scenario's start."""

    start: Seconds
    until: Seconds
    dead: bool = False  # refuses connections
    errors: Share = 0.0  # answers 500
    throttled: Share = 0.0  # answers 429
    hint: Seconds = 0.0  # in retry-after, with those 429; 0 = none
    slow: Annotated[float, Meta(gt=0, le=1e6)] = 1.0  # times the latency
    resets: Share = 0.0  # answers broken off inside
    stalls: Share = 0.0  # answers that fall silent inside
    period: Seconds = 0.0  # flapping: this long bad, then this long good; 0 = bad all the time

    @property
    def fails(self) -> bool:
        """Whether requests fail by it: being slow is no failure."""
        return bool(self.dead or self.errors or self.throttled or self.resets or self.stalls)

    def at(self, instant: float) -> bool:
        """Whether it is in force."""
        if not self.start <= instant < self.until:
            return False
        return not self.period or (instant - self.start) % (2.0 * self.period) < self.period


class ProviderScript(Section, frozen=True):
    """How one provider behaves. Its limits are per key; those of requests in flight are its own."""

    name: Annotated[str, Meta(min_length=1)]
    models: dict[str, Tier] = field(default_factory=lambda: {"chat": "medium"})
    context_window: Count = 0
    keys: Annotated[int, Meta(ge=1, le=100)] = 1
    fallback: bool = False
    latency: Annotated[float, Meta(gt=0, le=1e6)] = 0.4  # median seconds to the first byte
    spread: Annotated[float, Meta(ge=0, le=3)] = 0.35  # sigma of its log-normal distribution
    pace: Seconds = 0.04  # between the chunks of a stream
    requests_per_minute: Count = 0  # 429 beyond; 0 = no limit
    hints: bool = True  # those 429 say in retry-after when
    limit_headers: bool = False  # answers say x-ratelimit-limit-requests and its kin
    in_flight: Count = 0  # requests at once; 0 = no limit
    beyond: Literal["slower", "refused"] = "slower"  # what happens to more: latency grows, or 529
    requests_per_day: Count = 0  # until midnight UTC
    used_today: Count = 0  # of those, at the start
    declared: bool = True  # the gateway's configuration states these limits
    troubles: tuple[Trouble, ...] = ()


class Scenario(Section, frozen=True):
    """One simulated stretch of time. After ``lasts`` seconds the troubles begin anew, if there are more requests."""

    name: Annotated[str, Meta(min_length=1)]
    load: Load
    providers: tuple[ProviderScript, ...]
    description: str = ""
    seed: int = 0
    starts_at: Annotated[datetime, Meta(tz=True)] = datetime(2026, 1, 5, 12, tzinfo=UTC)
    lasts: Seconds = 0.0  # 0 = for as long as load.requests take at load.rate
    settings: dict[str, Any] = field(
        default_factory=dict
    )  # the configuration file's, but for providers and auth

    @property
    def length(self) -> float:
        """Seconds after which the troubles begin anew."""
        return self.lasts or self.load.requests / self.load.rate


class Policy(Section, frozen=True):
    """A way to choose targets: the gateway's own with other settings, or plain round robin."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)  # on top of the scenario's
    plain: bool = False  # round robin without health, cooldowns, scores, quotas and retry budget


GATEWAY = Policy(name="gwproto")
ROUND_ROBIN = Policy(name="round-robin", plain=True)
_BOUNDLESS = {"retry": {"budget_ratio": 1.0, "budget_floor": 1_000_000_000}}


def read_scenario(text: bytes, source: str) -> Scenario:
    """A scenario from its file's content, or :class:`ConfigurationError` with every problem found."""
    scenario = read_section(Scenario, read_table(text, source))
    problems = tuple(_problems(scenario))
    if problems:
        raise ConfigurationError(problems)
    configuration_of(scenario, GATEWAY)
    return scenario


def read_policy(text: bytes, name: str, source: str) -> Policy:
    """A policy from a configuration file's content. Its values are checked with the scenario's."""
    settings = read_table(text, source)
    problems = tuple(_reserved(settings, ""))
    if problems:
        raise ConfigurationError(problems)
    read_section(Settings, settings)  # every problem at once, with its path in this file
    return Policy(name=name, settings=settings)


def _problems(scenario: Scenario) -> list[tuple[str, str]]:
    """What the types do not say."""
    problems = _reserved(scenario.settings, "settings.")
    known = {AUTO}
    names: set[str] = set()
    if not scenario.providers:
        problems.append(("providers", "is empty"))
    for index, provider in enumerate(scenario.providers):
        path = f"providers[{index}]"
        if provider.name in names:
            problems.append((f"{path}.name", f"{provider.name!r} is used twice"))
        names.add(provider.name)
        known |= provider.models.keys()
        problems += [
            (f"{path}.troubles[{number}].until", "is not after the start")
            for number, trouble in enumerate(provider.troubles)
            if trouble.until <= trouble.start
        ]
    for key in ("models", "efforts"):
        if not getattr(scenario.load, key):
            problems.append((f"load.{key}", "is empty"))
    problems += [
        (f"load.models.{model}", "is no provider's model")
        for model in scenario.load.models
        if model not in known
    ]
    return problems


def _reserved(settings: Mapping[str, object], prefix: str) -> list[tuple[str, str]]:
    return [(prefix + name, "is the scenario's to say") for name in ("providers", "auth") if name in settings]


def configuration_of(scenario: Scenario, policy: Policy) -> Configuration:
    """What the gateway is told of a scenario, or :class:`ConfigurationError`."""
    tables = _merged(scenario.settings, policy.settings)
    if policy.plain:
        tables = _merged(tables, _BOUNDLESS)
    tables["providers"] = [_provider(provider) for provider in scenario.providers]
    settings = read_section(Settings, tables, "settings")
    credentials = {provider.name: credentials_of(provider) for provider in scenario.providers}
    return Configuration(settings, compile_catalog(settings, credentials, VOCABULARIES), (_CLIENT,))


def credentials_of(provider: ProviderScript) -> tuple[str, ...]:
    """The names of a provider's keys."""
    return tuple([f"{provider.name}#{number}" for number in range(1, provider.keys + 1)])


def _provider(provider: ProviderScript) -> dict[str, object]:
    per_minute = provider.requests_per_minute if provider.declared else 0
    per_day = provider.requests_per_day if provider.declared else 0
    models = [
        {
            "id": model,
            "tier": tier,
            "context_window": provider.context_window,
            "requests_per_day": per_day,
        }
        for model, tier in provider.models.items()
    ]
    return {
        "name": provider.name,
        "base_url": f"http://{provider.name}.test/v1",
        "fallback": provider.fallback,
        "requests_per_minute": per_minute,
        "models": models,
    }


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``under``, section by section."""
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return merged

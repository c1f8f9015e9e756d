"""Settings: the configuration file's schema. :mod:`gwproto.loading` makes them from text and variables.

Every Struct forbids unknown keys, and bounds stand in the types. Both are checked while loading: who makes settings in
Python is believed.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(ge=0, le=1e9)]  # the upper bound refuses inf, which nothing can wait for
Count = Annotated[int, Meta(ge=0)]
Tier = Literal["low", "medium", "high"]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class ServerSettings(Section, frozen=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080  # 0 = any free one
    runtime: Literal["quart", "trio"] = "quart"
    workers: Annotated[int, Meta(ge=1)] = 1
    public_stats: bool = False
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    drain_timeout: Seconds = 120.0
    drain_delay: Seconds = 0.0
    heartbeat_interval: Seconds = 15.0
    state_dir: str = ""  # "": $XDG_STATE_HOME/gwproto


class KeySettings(Section, frozen=True):
    """One client key: by the name of the variable that holds it, or by its hash."""

    label: str = ""
    env: str = ""
    sha256: str = ""


class AuthSettings(Section, frozen=True):
    keys: tuple[KeySettings, ...] = ()


class TimeoutSettings(Section, frozen=True):
    """Seconds; 0 = off."""

    body: Seconds = 60.0  # the client's whole request body
    connect: Seconds = 5.0
    head: Seconds = 0.0
    first_content: Seconds = 300.0
    idle: Seconds = 300.0
    total: Seconds = 590.0
    stream_total: Seconds = 3600.0


class RetrySettings(Section, frozen=True):
    max_attempts: Annotated[int, Meta(ge=1)] = 4
    budget_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.2
    budget_floor: Count = 10


class HedgeSettings(Section, frozen=True):
    enabled: bool = False


class HealthSettings(Section, frozen=True):
    """Seconds."""

    cooldown: Seconds = 45.0
    cooldown_max: Seconds = 300.0
    throttle_cooldown: Seconds = 10.0
    max_retry_after: Seconds = 300.0
    auth_cooldown: Seconds = 3600.0
    model_cooldown: Seconds = 3600.0


class RoutingSettings(Section, frozen=True):
    max_wait: Seconds = 2.0
    discover: bool = False


class LimitSettings(Section, frozen=True):
    requests_per_second: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    burst: Annotated[int, Meta(ge=1)] = 60
    public_requests_per_second: Annotated[float, Meta(ge=0, le=1e9)] = 20.0
    max_in_flight: Annotated[int, Meta(ge=1)] = 1000
    max_body: Annotated[int, Meta(ge=1)] = 33554432


class AnalyticsSettings(Section, frozen=True):
    database: str = "sqlite:///gwproto.db"


class ProviderTimeouts(Section, frozen=True):
    """A provider's own values for some of the timeouts; None: the common one."""

    connect: Seconds | None = None
    head: Seconds | None = None
    first_content: Seconds | None = None
    idle: Seconds | None = None
    total: Seconds | None = None
    stream_total: Seconds | None = None


class ModelSettings(Section, frozen=True):
    id: Annotated[str, Meta(min_length=1)]
    upstream: str = ""  # "": the id
    tier: Tier = "medium"
    context_window: Count = 0  # 0 = unknown
    max_output: Count = 0
    capabilities: tuple[str, ...] | None = None  # None = all assumed
    requests_per_day: Count = 0


class ProviderSettings(Section, frozen=True):
    name: Annotated[str, Meta(min_length=1)]
    format: str = "openai"
    base_url: str = ""
    api_key_env: str = ""
    api_key_file: str = ""
    api_keys_env: str = ""
    fallback: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, object] = field(default_factory=dict)
    timeouts: ProviderTimeouts = ProviderTimeouts()
    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    max_concurrency: Count = 0
    proxy: str = ""
    ca_file: str = ""
    models: tuple[ModelSettings, ...] = ()


class Settings(Section, frozen=True):
    """The whole configuration file."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    retry: RetrySettings = RetrySettings()
    hedge: HedgeSettings = HedgeSettings()
    health: HealthSettings = HealthSettings()
    routing: RoutingSettings = RoutingSettings()
    limits: LimitSettings = LimitSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()
    providers: tuple[ProviderSettings, ...] = ()
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)


class KnownProvider(Section, frozen=True):
    """What the shipped table says about a provider; ``data/providers.toml`` explains the fields."""

    name: str
    base_url: str
    format: str = "openai"
    key_env: tuple[str, ...] = ()
    named_key_env: tuple[str, ...] = ()
    keyless: bool = False
    host_env: str = ""
    models: tuple[ModelSettings, ...] = ()

    def credential(self, environ: Mapping[str, str], *, named: bool) -> str:
        """The variable that holds this provider's keys: the first that is set, else ``""``. Empty counts as unset."""
        names = self.key_env + self.named_key_env if named else self.key_env
        return next((name for name in names if environ.get(name, "").strip()), "")

    def address(self, environ: Mapping[str, str]) -> tuple[str, str]:
        """The base URL and where it comes from: a variable's name or ``"default"``."""
        variable = f"{self.name.upper()}_BASE_URL"
        if url := environ.get(variable, "").strip():
            return url, variable
        if self.host_env and (host := environ.get(self.host_env, "").strip()):
            return _server_url(host), self.host_env
        return self.base_url, "default"


def _server_url(host: str) -> str:
    """OLLAMA_HOST is a URL, ``host:port`` or ``host``; a server's "every address" is reached by loopback."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "http", host
    rest = rest.rstrip("/")
    authority, _, path = rest.partition("/")
    name, separator, port = authority.rpartition(":")
    if not separator or "]" in port:
        name, port = authority, "11434" if scheme == "http" else "443"
    if name in ("", "0.0.0.0"):
        name = "127.0.0.1"
    return f"{scheme}://{name}:{port}/{path + '/' if path else ''}v1"

"""Settings: the configuration file's schema, and nothing that reads files.

Every Struct forbids unknown keys. Runtimes read the bytes and the environment and pass both in.
"""

from typing import Literal

from msgspec import Struct, field


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = 8080
    runtime: Literal["quart", "trio"] = "quart"
    workers: int = 1
    public_stats: bool = False
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    drain_timeout: float = 120.0
    drain_delay: float = 0.0
    heartbeat_interval: float = 15.0
    state_dir: str = ""  # "": $XDG_STATE_HOME/gwproto


class KeySettings(Section):
    """One client key: by the name of the variable that holds it, or by its hash."""

    label: str = ""
    env: str = ""
    sha256: str = ""


class AuthSettings(Section):
    keys: tuple[KeySettings, ...] = ()


class TimeoutSettings(Section):
    """Seconds; 0 = off."""

    body: float = 60.0  # the client's whole request body
    connect: float = 5.0
    head: float = 0.0
    first_content: float = 300.0
    idle: float = 300.0
    total: float = 590.0
    stream_total: float = 3600.0


class RetrySettings(Section):
    max_attempts: int = 4
    budget_ratio: float = 0.2
    budget_floor: int = 10


class HedgeSettings(Section):
    enabled: bool = False


class HealthSettings(Section):
    """Seconds."""

    cooldown: float = 45.0
    cooldown_max: float = 300.0
    throttle_cooldown: float = 10.0
    max_retry_after: float = 300.0
    auth_cooldown: float = 3600.0
    model_cooldown: float = 3600.0


class RoutingSettings(Section):
    max_wait: float = 2.0
    discover: bool = False


class LimitSettings(Section):
    requests_per_second: float = 0.0
    burst: int = 60
    public_requests_per_second: float = 20.0
    max_in_flight: int = 1000
    max_body: int = 33554432


class AnalyticsSettings(Section):
    database: str = "sqlite:///gwproto.db"


class ProviderTimeouts(Section):
    """A provider's own values for some of the timeouts; None: the common one."""

    connect: float | None = None
    head: float | None = None
    first_content: float | None = None
    idle: float | None = None
    total: float | None = None
    stream_total: float | None = None


Tier = Literal["low", "medium", "high"]


class ModelSettings(Section):
    id: str
    upstream: str = ""  # "": the id
    tier: Tier = "medium"
    context_window: int = 0  # 0 = unknown
    max_output: int = 0
    capabilities: tuple[str, ...] | None = None  # None = all assumed
    requests_per_day: int = 0


class ProviderSettings(Section):
    name: str
    format: str = "openai"
    base_url: str = ""
    api_key_env: str = ""
    api_key_file: str = ""
    api_keys_env: str = ""
    fallback: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, object] = field(default_factory=dict)
    timeouts: ProviderTimeouts = ProviderTimeouts()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_concurrency: int = 0
    proxy: str = ""
    ca_file: str = ""
    models: tuple[ModelSettings, ...] = ()


class Settings(Section):
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

"""Settings: the configuration file's schema. :mod:`gwproto.loading` makes them from text and variables.

Every Struct forbids unknown keys, and bounds stand in the types. Both are checked while loading: who makes settings in
Python is believed.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

Seconds = Annotated[float, Meta(ge=0, le=1e9)]  # the upper bound refuses inf, which nothing can wait for
Count = Annotated[int, Meta(ge=0)]
Hours = Annotated[float, Meta(ge=-12, le=14)]
ProjectId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{1,64}\Z")]
Tier = Literal["low", "medium", "high"]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class ServerSettings(Section, frozen=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080  # 0 = any free one
    runtime: Literal["quart", "trio", "asyncio"] = "quart"
    workers: Annotated[int, Meta(ge=1)] = 1
    public_stats: bool = False
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    drain_timeout: Seconds = 120.0
    drain_delay: Seconds = 0.0
    heartbeat_interval: Seconds = 15.0
    state_dir: str = ""  # "": $XDG_STATE_HOME/gwproto
    state_file: str = "state.json"  # in state_dir; "": nothing is kept over a restart


Rate = Annotated[float, Meta(ge=0, le=1e9)]
Burst = Annotated[int, Meta(ge=1)]


class Rates(Section, frozen=True):
    """What somebody may use; 0 = off. A day is one of UTC."""

    requests_per_second: Rate = 0.0
    burst: Burst = 60  # requests at once, with requests_per_second
    tokens_per_minute: Count = 0
    requests_per_day: Count = 0
    tokens_per_day: Count = 0
    cost_per_day: Rate = 0.0  # US dollars


class OwnRates(Section, frozen=True):
    """A client key's own values for some of the limits; None: the common one."""

    requests_per_second: Rate | None = None
    burst: Burst | None = None
    tokens_per_minute: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_day: Count | None = None
    cost_per_day: Rate | None = None


class KeySettings(OwnRates, frozen=True):
    """One client key: by the name of the variable that holds it, or by its hash."""

    label: str = ""
    env: str = ""
    sha256: str = ""
    models: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None  # names of any kind; None = all
    projects: Annotated[tuple[ProjectId, ...], Meta(min_length=1)] | None = None  # the first is the default
    expires: Annotated[datetime, Meta(tz=True)] | None = None  # from then on it is refused


class KeysFile(Section, frozen=True):
    """The file that ``auth.keys_file`` names."""

    keys: tuple[KeySettings, ...] = ()


class AuthSettings(Section, frozen=True):
    keys: tuple[KeySettings, ...] = ()
    keys_file: str = ""  # more of them, as [[keys]]


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
    """A second target for requests whose first one is slow."""

    enabled: bool = False
    percentile: Annotated[float, Meta(gt=0, le=1)] = (
        0.95  # of a target's times to first content: later is slow
    )
    budget: Annotated[float, Meta(ge=0, le=1)] = 0.05  # hedges per request
    min_delay: Seconds = 0.1
    min_samples: Annotated[int, Meta(ge=1, le=100)] = 20  # as many of its latest times must be known


class SingleFlightSettings(Section, frozen=True):
    """Equal requests at temperature 0 that come at the same time share one answer."""

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


class LimitSettings(Rates, frozen=True):
    """The rates are each client key's."""

    project: Rates = Rates()  # each project_id's
    public_requests_per_second: Rate = 20.0  # of each client address, at what needs no key
    public_burst: Burst = 60
    max_in_flight: Annotated[int, Meta(ge=1)] = 4000
    max_body: Annotated[int, Meta(ge=1)] = 33554432


class AnalyticsSettings(Section, frozen=True):
    database: str = "sqlite:///gwproto.db"  # in state_dir; or postgresql://…; "": no records are kept
    metrics: bool = True  # counted, and shown at /metrics
    retention_days: Annotated[int, Meta(ge=1, le=3650)] = 30  # of records; sums of them are kept longer

    def __repr__(self) -> str:
        return f"<AnalyticsSettings {self.database.partition(':')[0]}>"  # the rest may hold a password


class ProviderTimeouts(Section, frozen=True):
    """A provider's own values for some of the timeouts; None: the common one."""

    connect: Seconds | None = None
    head: Seconds | None = None
    first_content: Seconds | None = None
    idle: Seconds | None = None
    total: Seconds | None = None
    stream_total: Seconds | None = None


#: What a request may need that some cannot do, or have no words for.
Need = Literal[
    "n", "logprobs", "audio", "files", "image_url", "custom_tools", "json", "json_schema", "tools", "vision"
]
Level = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "default"]
Body = dict[str, object]


class Quirks(Section, frozen=True):
    """How a provider, or one of its models, departs from its format. None: as the format has it."""

    open: bool | None = None  # takes fields its format does not know; False: they are dropped, and named
    drop: frozenset[str] | None = None  # request fields it refuses: dropped, and named
    keep: frozenset[str] | None = None  # request fields it takes, whatever else is said of them
    rename: dict[str, str] | None = None  # request fields it knows by another name
    lacks: frozenset[Need] | None = None  # needs that none of its models meets, beyond capabilities
    effort: tuple[Level, ...] | dict[Level, Body] | None = None
    """The levels of ``reasoning_effort`` it takes, or for each level the fields that say it; empty: none."""
    stream_usage: bool | None = None  # takes stream_options.include_usage
    max_temperature: float | None = None
    message_keys: frozenset[str] | None = None  # keys of messages it takes; None = all
    developer_role: bool | None = None  # False: such messages become system messages
    system_role: bool | None = None  # False: system texts go to the head of the first user message
    null_content: bool | None = None  # False: an assistant's missing content is sent as ""
    extra_content: bool | None = None  # True: wants back what it put there; anybody else's is never sent on
    text_parts: bool | None = None  # False: parts that are all text are joined to one string
    tool_names: bool | None = None  # True: a tool's answer repeats the function's name
    tool_ids: Literal["any", "alphanumeric9"] | None = None  # what its ids of tool calls look like
    tool_choices: dict[str, str] | None = None  # tool_choice words it knows, by OpenAI's; others are dropped
    tool_keys: frozenset[str] | None = None  # keys of tools' functions it takes; None = all
    legacy_functions: bool | None = None  # False: functions become tools, and so do their calls and answers
    schema_drop: frozenset[str] | None = None  # keywords of JSON Schema it refuses
    replay: Literal["nothing", "tools", "all"] | None = None  # which reasoning of earlier turns it wants back
    signatures: bool | None = None  # refuses tool calls of earlier turns without its signature
    think_inline: Literal["no", "tagged", "opened"] | None = None
    """It reasons inside the text, between <think> and </think>; "opened": without the first of them."""
    limit_windows: dict[str, str] | None = None  # what "requests" and "tokens" in its limit headers are per


def overlaid(under: Quirks, over: Quirks) -> Quirks:
    """``under`` where ``over`` says nothing. What is refused or lacking adds up, but for what ``over`` keeps."""
    said: dict[str, Any] = {
        name: value for name in Quirks.__struct_fields__ if (value := getattr(over, name)) is not None
    }
    if not said:
        return under
    for name in ("drop", "lacks", "keep", "schema_drop"):
        known = getattr(under, name)
        if name in said and known is not None:
            said[name] |= known
    if over.keep and (dropped := said.get("drop", under.drop)):
        said["drop"] = dropped - over.keep
    return replace(under, **said)


#: None at all; whoever has none has this very object.
STANDARD = Quirks()


class Vocabulary(Struct, frozen=True, gc=False):
    """What a wire format can say at all."""

    parameters: frozenset[str] = frozenset()  # request fields
    open: bool = True  # others may be sent, too
    lacks: frozenset[str] = frozenset()  # needs of requests that it has no words for


class ModelSettings(Section, frozen=True):
    id: Annotated[str, Meta(min_length=1)]
    upstream: str = ""  # "": the id
    tier: Tier = "medium"
    context_window: Count = 0  # tokens; 0 = unknown
    max_output: Count = 0
    capabilities: tuple[str, ...] | None = None  # None = all assumed
    requests_per_minute: Count = 0  # 0 = unknown
    requests_per_day: Count = 0
    tokens_per_minute: Count = 0
    tokens_per_day: Count = 0
    input_price: Annotated[float, Meta(ge=0)] | None = None  # US dollars per million tokens; None = unknown
    output_price: Annotated[float, Meta(ge=0)] | None = None
    quirks: Quirks = STANDARD
    source: str = ""  # where the facts are from
    as_of: str = ""  # their date: YYYY-MM or YYYY-MM-DD


class ProviderSettings(Section, frozen=True):
    name: Annotated[str, Meta(min_length=1)]
    like: str = (
        ""  # the known provider whose entry and manner of speaking it has; "": the one of its own name
    )
    format: str = "openai"
    base_url: str = ""
    query: dict[str, str] = field(default_factory=dict)  # on every request's target
    api_key_env: str = ""
    api_key_file: str = ""
    api_keys_env: str = ""
    auth_header: str = "authorization"  # any other carries the key without "Bearer"
    fallback: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, object] = field(default_factory=dict)
    timeouts: ProviderTimeouts = ProviderTimeouts()
    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    max_concurrency: Count = 0
    day_offset: Hours = 0.0  # from UTC, of the day that its daily quotas go by
    proxy: str = ""
    ca_file: str = ""
    quirks: Quirks = STANDARD
    models: tuple[ModelSettings, ...] = ()

    def __repr__(self) -> str:
        return f"<ProviderSettings {self.name}: {self.base_url}>"  # query and headers may hold secrets


class Settings(Section, frozen=True):
    """The whole configuration file."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    retry: RetrySettings = RetrySettings()
    hedge: HedgeSettings = HedgeSettings()
    single_flight: SingleFlightSettings = SingleFlightSettings()
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
    named_only: bool = False
    host_env: str = ""
    host_path: str = ""
    auth_header: str = "authorization"
    headers: dict[str, str] = field(default_factory=dict)
    fallback: bool = False
    day_offset: Hours = 0.0
    compatible: bool = False
    quirks: Quirks = STANDARD
    models_of: str = ""
    models: tuple[ModelSettings, ...] = ()

    def credential(self, environ: Mapping[str, str], *, named: bool) -> str:
        """The variable that holds this provider's keys: the first that is set, else ``""``. Empty counts as unset."""
        names = self.key_env + self.named_key_env if named else self.key_env
        return next((name for name in names if environ.get(name, "").strip()), "")

    def address(self, environ: Mapping[str, str]) -> tuple[str, str]:
        """The base URL and where it comes from: a variable's name or ``"default"``.

        Some providers' own SDKs, Anthropic's and Groq's among them, read the same variable and add the path themselves,
        so a URL that has none gets the one that is known.
        """
        variable = f"{self.name.upper()}_BASE_URL"
        if url := environ.get(variable, "").strip():
            path = _PATH.fullmatch(self.base_url)
            return (url.rstrip("/") + path[1] if path and _ROOT.fullmatch(url) else url), variable
        if self.host_env and (host := environ.get(self.host_env, "").strip()):
            return _server_url(host, self.host_path), self.host_env
        return _VARIABLE.sub(
            lambda name: environ.get(name[1], "").strip().rstrip("/"), self.base_url
        ), "default"

    def missing(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """The variables that its address needs and that are not set."""
        if self.address(environ)[1] != "default":
            return ()
        names: list[str] = _VARIABLE.findall(self.base_url)
        return tuple([name for name in names if not environ.get(name, "").strip()])


_VARIABLE = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_ROOT = re.compile(r"https?://[^/]+/?")
_PATH = re.compile(r"https?://[^/]+(/[^{]+)")  # one that needs no variable


def _server_url(host: str, base: str) -> str:
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
    return f"{scheme}://{name}:{port}{'/' + path if path else ''}{base}"

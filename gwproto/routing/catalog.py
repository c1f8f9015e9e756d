"""The catalog: settings compiled into the targets that can be chosen.

A target is provider × model × key. The catalog is immutable: a reload makes another one, and exchanges in flight keep
theirs.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

from gwproto.config import (
    STANDARD,
    ModelSettings,
    ProviderSettings,
    Quirks,
    Settings,
    TimeoutSettings,
    Vocabulary,
    overlaid,
)
from gwproto.failures import ConfigurationError
from gwproto.values import Headers, Origin, Usage

AUTO = "auto"

#: What a model may be said to be capable of.
CAPABILITIES = frozenset({"audio", "json", "json_schema", "logprobs", "n", "reasoning", "tools", "vision"})

Backend = tuple[Origin, str, str, str]

_URL = re.compile(r"[\x21-\x7e]+\Z")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")
_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")  # "/" and "#" would make a target's id ambiguous
#: What the connection and the gateway say themselves: sent twice, it could be read either way (RFC 9112, 6.3).
_RESERVED = frozenset(
    {"accept", "connection", "content-length", "content-type", "expect", "host", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
_PORTS = {"http": 80, "https": 443}


class Timeouts(Struct, frozen=True, gc=False):
    """Seconds; ``math.inf`` = off."""

    connect: float
    head: float
    first_content: float
    idle: float
    total: float
    stream_total: float


class Model(Struct, frozen=True, gc=False):
    """A model as one provider offers it."""

    id: str  # as clients name it
    upstream: str  # as the provider names it
    tier: Literal["low", "medium", "high"]
    context_window: int  # tokens; 0 = unknown
    max_output: int
    capabilities: frozenset[str] | None  # None = all assumed
    requests_per_minute: int  # 0 = unknown, here and below
    requests_per_day: int
    tokens_per_minute: int
    tokens_per_day: int
    quirks: Quirks = STANDARD  # its provider's, with its own laid over
    input_price: float | None = None  # US dollars per million tokens; None = unknown
    output_price: float | None = None

    def cost(self, usage: Usage) -> float | None:
        """US dollars; None: not known. Cached tokens count like any others: the tables do not tell their price."""
        if self.input_price is None or self.output_price is None:
            return None
        return (usage.prompt_tokens * self.input_price + usage.completion_tokens * self.output_price) / 1e6


class Provider(Struct, frozen=True, gc=False):
    """Where a provider is and how it wants to be spoken to."""

    name: str
    format: str
    origin: Origin
    path: str  # the base URL's, without a trailing slash
    fallback: bool  # used only when no other provider is left
    headers: Headers
    body: Mapping[str, object]  # fields added to every request
    timeouts: Timeouts
    requests_per_minute: int  # per key; 0 = unknown
    tokens_per_minute: int
    max_concurrency: int  # per key; 0 = no limit
    proxy: str
    ca_file: str
    like: str = ""  # the known provider whose ways it has
    day_offset: float = 0.0  # hours from UTC at which its day begins
    query: str = ""  # added to every request's target, without "?"
    vocabulary: Vocabulary = Vocabulary()  # its format's

    def __repr__(self) -> str:
        return f"<Provider {self.name}: {self.origin}>"  # query and headers may hold secrets


class Target(Struct, frozen=True, eq=False):
    """One way to serve a request.

    ``backend`` is what really answers: two targets with the same backend are one under two names, and a request that
    failed on one must not be tried on the other.
    """

    id: str  # "provider/upstream", "provider/upstream#2" with the provider's second key
    provider: Provider
    model: Model
    credential: str  # a name; "" = none
    backend: Backend

    @property
    def refuses(self) -> tuple[str, str]:
        """By what its refusals of request fields are remembered: every key meets the same."""
        return self.provider.name, self.model.upstream


class Catalog(Struct, frozen=True, eq=False):
    """All targets, and what clients may call them."""

    providers: tuple[Provider, ...]
    targets: tuple[Target, ...]
    aliases: tuple[str, ...]
    names: dict[str, tuple[Target, ...]]

    def resolve(self, name: str) -> tuple[Target, ...] | None:
        """The targets that ``name`` stands for, in catalog order; None when nothing has this name.

        The first that fits: ``auto``, catalog id, ``provider/upstream``, upstream name, alias.
        """
        return self.names.get(name)

    @property
    def provider_names(self) -> tuple[str, ...]:
        return tuple(provider.name for provider in self.providers)

    @property
    def model_names(self) -> tuple[str, ...]:
        """The ids clients are told about, each once."""
        return tuple(dict.fromkeys(target.model.id for target in self.targets))


def compile_catalog(
    settings: Settings,
    credentials: Mapping[str, Sequence[str]],
    formats: Mapping[str, Vocabulary] | None = None,
) -> Catalog:
    """Turn settings into a catalog, or raise :class:`ConfigurationError` with everything that is wrong.

    ``credentials``: the names of each provider's credentials (never the secrets); a provider without any is called
    without. ``formats``: what each wire format can say; anything, where nothing is said of it.
    """
    problems: list[tuple[str, str]] = []
    providers: list[Provider] = []
    targets: list[Target] = []
    seen: set[str] = set()
    for position, entry in enumerate(settings.providers):
        path = f"providers[{position}]"
        if not entry.name:
            problems.append((f"{path}.name", "is empty"))
        elif not _NAME.match(entry.name):
            problems.append((f"{path}.name", "may hold A-Z a-z 0-9 . _ - only"))
        if entry.name in seen:
            problems.append((f"{path}.name", f"{entry.name!r} is used twice"))
        seen.add(entry.name)
        vocabulary = (formats or {}).get(entry.format, Vocabulary())
        provider = _provider(entry, settings.timeouts, vocabulary, path, problems)
        models = _models(entry, path, problems)
        if provider is not None:
            providers.append(provider)
            keys = credentials.get(entry.name) or ("",)
            targets += [
                _target(provider, model, credential, number)
                for model in models
                for number, credential in enumerate(keys, 1)
            ]
    names = _names(targets)
    aliases = _aliases(settings.aliases, names, problems)
    if problems:
        raise ConfigurationError(tuple(problems))
    return Catalog(tuple(providers), tuple(targets), tuple(aliases), {**aliases, **names})


def _provider(
    entry: ProviderSettings,
    timeouts: TimeoutSettings,
    vocabulary: Vocabulary,
    path: str,
    problems: list[tuple[str, str]],
) -> Provider | None:
    headers = _headers(entry.headers, path, problems)
    if not _TOKEN.match(entry.auth_header) or entry.auth_header.lower() in _RESERVED:
        problems.append((f"{path}.auth_header", "is no header name that could carry a key"))
    try:
        origin, base = _base_url(entry.base_url)
    except ValueError as error:
        problems.append((f"{path}.base_url", str(error)))
        return None
    return Provider(
        name=entry.name,
        format=entry.format,
        origin=origin,
        path=base,
        fallback=entry.fallback,
        headers=headers,
        body=entry.body,
        timeouts=_timeouts(entry, timeouts),
        requests_per_minute=entry.requests_per_minute,
        tokens_per_minute=entry.tokens_per_minute,
        max_concurrency=entry.max_concurrency,
        proxy=entry.proxy,
        ca_file=entry.ca_file,
        like=entry.like or entry.name,
        day_offset=entry.day_offset,
        query=urlencode(entry.query),
        vocabulary=vocabulary,
    )


def _base_url(text: str) -> tuple[Origin, str]:
    """Origin and path of a base URL, or :class:`ValueError` with what is wrong (RFC 3986; RFC 9110, 4.2)."""
    if not _URL.match(text):
        raise ValueError("is empty" if not text else "has a character that no URL has")
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError("has no valid host and port") from error
    if url.scheme not in _PORTS:
        raise ValueError("must begin with http:// or https://")
    if not host or port == 0:
        raise ValueError("has no valid host and port")
    if "@" in url.netloc:
        raise ValueError("must not hold a user name or password")
    if url.query or url.fragment:
        raise ValueError("must not have a query or fragment")
    return Origin(url.scheme, host, port or _PORTS[url.scheme]), url.path.rstrip("/")


def _headers(headers: Mapping[str, str], path: str, problems: list[tuple[str, str]]) -> Headers:
    for name, value in headers.items():
        if not _TOKEN.match(name):
            problems.append((f"{path}.headers", f"{name!r} is not a header name"))
        if name.lower() in _RESERVED:
            problems.append((f"{path}.headers.{name}", "is set by the gateway"))
        if not _VALUE.match(value):
            problems.append((f"{path}.headers.{name}", "has a character that no header value has"))
    return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())


def _timeouts(entry: ProviderSettings, common: TimeoutSettings) -> Timeouts:
    own = entry.timeouts

    def choose(mine: float | None, shared: float) -> float:
        return (shared if mine is None else mine) or math.inf

    return Timeouts(
        connect=choose(own.connect, common.connect),
        head=choose(own.head, common.head),
        first_content=choose(own.first_content, common.first_content),
        idle=choose(own.idle, common.idle),
        total=choose(own.total, common.total),
        stream_total=choose(own.stream_total, common.stream_total),
    )


def _models(entry: ProviderSettings, path: str, problems: list[tuple[str, str]]) -> list[Model]:
    if not entry.models:
        problems.append((f"{path}.models", "is empty"))
    models: list[Model] = []
    ids: set[str] = set()
    upstreams: set[str] = set()
    for position, model in enumerate(entry.models):
        where = f"{path}.models[{position}]"
        upstream = model.upstream or model.id
        if not model.id:
            problems.append((f"{where}.id", "is empty"))
        if model.id == AUTO:
            problems.append((f"{where}.id", f"{AUTO!r} is reserved"))
        for key, value in (("id", model.id), ("upstream", model.upstream)):
            # The name goes into a header field (RFC 9110, 5.5).
            if value != value.strip() or not value.isprintable():
                problems.append((f"{where}.{key}", "begins or ends with a space, or has a control character"))
        if model.id in ids:
            problems.append((f"{where}.id", f"{model.id!r} is used twice"))
        elif upstream in upstreams:
            # One backend would get two turns; a second name for a model is an alias.
            problems.append((f"{where}.upstream", f"{upstream!r} is used twice"))
        unknown = ", ".join(sorted(set(model.capabilities or ()) - CAPABILITIES))
        if unknown:
            known = ", ".join(sorted(CAPABILITIES))
            problems.append((f"{where}.capabilities", f"unknown: {unknown}; known are {known}"))
        ids.add(model.id)
        upstreams.add(upstream)
        models.append(_model(model, upstream, entry.quirks))
    return models


def _model(model: ModelSettings, upstream: str, quirks: Quirks) -> Model:
    return Model(
        id=model.id,
        upstream=upstream,
        tier=model.tier,
        context_window=model.context_window,
        max_output=model.max_output,
        capabilities=None if model.capabilities is None else frozenset(model.capabilities),
        requests_per_minute=model.requests_per_minute,
        requests_per_day=model.requests_per_day,
        tokens_per_minute=model.tokens_per_minute,
        tokens_per_day=model.tokens_per_day,
        quirks=overlaid(quirks, model.quirks),
        input_price=model.input_price,
        output_price=model.output_price,
    )


def _target(provider: Provider, model: Model, credential: str, number: int) -> Target:
    suffix = "" if number == 1 else f"#{number}"
    return Target(
        id=f"{provider.name}/{model.upstream}{suffix}",
        provider=provider,
        model=model,
        credential=credential,
        backend=(provider.origin, provider.path, credential, model.upstream),
    )


def _names(targets: Sequence[Target]) -> dict[str, tuple[Target, ...]]:
    by_id: dict[str, list[Target]] = {}
    by_path: dict[str, list[Target]] = {}
    by_upstream: dict[str, list[Target]] = {}
    for target in targets:
        by_id.setdefault(target.model.id, []).append(target)
        by_path.setdefault(f"{target.provider.name}/{target.model.upstream}", []).append(target)
        by_upstream.setdefault(target.model.upstream, []).append(target)
    merged = {**by_upstream, **by_path, **by_id, AUTO: targets}
    return {name: tuple(members) for name, members in merged.items()}


def _aliases(
    settings: Mapping[str, Sequence[str]],
    names: Mapping[str, tuple[Target, ...]],
    problems: list[tuple[str, str]],
) -> dict[str, tuple[Target, ...]]:
    aliases: dict[str, tuple[Target, ...]] = {}
    for alias, members in settings.items():
        path = f"aliases.{alias}"
        if alias == AUTO:
            problems.append((path, f"{AUTO!r} is reserved"))
        if not members:
            problems.append((path, "is empty"))
        problems += [(path, f"there is no model {member!r}") for member in members if member not in names]
        # Two members may stand for the same targets.
        chosen = {target.id: target for member in members for target in names.get(member, ())}
        aliases[alias] = tuple(chosen.values())
    return aliases

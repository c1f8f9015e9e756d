"""Commands that print and are done: ``check``, ``models``."""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from gwproto.config import (
    KnownProvider,
    ModelSettings,
    ProviderSettings,
    ProviderTimeouts,
    Quirks,
    Settings,
)
from gwproto.loading import PROVIDERS_VARIABLE, Loaded
from gwproto.policy.values import ClientKey
from gwproto_cli.environment import environment
from gwproto_cli.inert import INERT_FOR_PROVIDERS
from gwproto_cli.serving import is_loopback
from gwproto_cli.tables import print_table
from gwproto_ops import deployment
from gwproto_ops.deployment import Deployment

_KEY_VARIABLES = ("GATEWAY_API_KEY", "GATEWAY_API_KEY_HASHES")
# Stands for the simulated providers while the rest of a configuration is checked.
_SIMULATED = ProviderSettings(
    name="simulated", base_url="http://127.0.0.1/v1", models=(ModelSettings(id="simulated"),)
)
_COST = "cost_per_day"
_USERINFO = re.compile(r"(?<=://).*(?=@)", re.DOTALL)  # to the last "@": people paste passwords unescaped


def check(config: str | None, env_file: str | None, *, as_json: bool) -> None:
    """Print every setting with its value and origin. Raises ``ConfigurationError`` when it could not be served."""
    environ = environment(env_file)
    path = config or environ.get("GWPROTO_CONFIG") or None
    loaded = deployment.read(path, environ=environ)
    settings = loaded.settings
    simulated = not settings.providers and path is None
    served = Loaded(replace(settings, providers=(_SIMULATED,)), loaded.origins) if simulated else loaded
    deployed = deployment.deploy(served, environ=environ, make_key=is_loopback(settings.server.host))
    rows = list(_rows(loaded, deployed, environ))
    if as_json:
        keys = ("setting", "value", "origin", "note")
        _print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    print_table(
        ("setting", "value", "origin", "note"),
        [
            (path, _text(value), origin, f"does nothing yet: {note}" if note and _inert(path) else note)
            for path, value, origin, note in rows
        ],
    )
    if simulated:
        print("\nNo provider has credentials: serve would run simulated ones.")


def _inert(path: str) -> bool:
    return path.startswith("providers.")


def _rows(
    loaded: Loaded, deployed: Deployment, environ: Mapping[str, str]
) -> Iterator[tuple[str, object, str, str]]:
    settings = loaded.settings
    unpriced = _unpriced(settings)
    for path, origin in loaded.origins.items():
        section, _, key = path.partition(".")
        if path == "auth.keys":
            variables = [name for name in _KEY_VARIABLES if environ.get(name, "").strip()]
            files = [*(["file"] if origin == "file" else []), *filter(None, [settings.auth.keys_file])]
            origins = [*files, *variables]
            keys = () if deployed.made_key else deployed.configuration.keys
            yield path, [f"{key.label}=***" for key in keys], ", ".join(origins) or "default", ""
            for client in keys:
                yield from _own(f"auth.keys.{client.label}", client, unpriced)
        elif path == "limits.project":
            for name, value in msgspec.structs.asdict(settings.limits.project).items():
                yield f"{path}.{name}", value, origin, unpriced if name == _COST and value else ""
        elif path == f"limits.{_COST}":
            cost = settings.limits.cost_per_day
            yield path, cost, origin, unpriced if cost else ""
        elif section != "providers":
            value = getattr(getattr(settings, section), key)
            shown = _shown(value)
            if path == "analytics.database":  # a password may stand in its query, too
                shown = str(shown).partition("?")[0]
            yield path, shown, origin, ""
    for provider in settings.providers:
        where = f"providers.{provider.name}"
        for key in provider.__struct_fields__:
            value = getattr(provider, key)
            listed = key in ("format", "base_url", "models") or value != _default(provider, key)
            if listed and key != "name":
                origin = loaded.origins.get(f"{where}.{key}", loaded.origins[where])
                if isinstance(value, Quirks):
                    yield from _quirks(f"{where}.quirks", value, origin)
                    continue
                masked = dict.fromkeys(value, "***") if isinstance(value, dict) else _shown(value)
                yield f"{where}.{key}", masked, origin, INERT_FOR_PROVIDERS.get(key, "")
        origin = loaded.origins.get(f"{where}.models", loaded.origins[where])
        for model in provider.models:
            yield from _quirks(f"{where}.models.{model.id}.quirks", model.quirks, origin)
    for alias, names in settings.aliases.items():
        yield f"aliases.{alias}", list(names), "file", ""


def _own(path: str, client: ClientKey, unpriced: str) -> Iterator[tuple[str, object, str, str]]:
    """The limits that a key has for itself, and what it is bound to."""
    own = {} if client.limits is None else msgspec.structs.asdict(client.limits)
    for name, value in own.items():
        if value is not None:
            yield f"{path}.{name}", value, "file", unpriced if name == _COST and value else ""
    for name in ("models", "projects"):
        if (names := getattr(client, name)) is not None:
            yield f"{path}.{name}", list(names), "file", ""
    if client.expires is not None:
        over = "is over" if client.expires <= time.time() else ""
        yield f"{path}.expires", datetime.fromtimestamp(client.expires, UTC).isoformat(), "file", over


def _unpriced(settings: Settings) -> str:
    """Which models a budget of US dollars does not see."""
    models = [model for provider in settings.providers for model in provider.models]
    names = [model.id for model in models if model.input_price is None or model.output_price is None]
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"without a known price, and counted as 0: {', '.join(names[:5])}{more}"


def _quirks(path: str, quirks: Quirks, origin: str) -> Iterator[tuple[str, object, str, str]]:
    for name, value in msgspec.structs.asdict(quirks).items():
        if value is not None:
            yield f"{path}.{name}", sorted(value) if isinstance(value, frozenset) else value, origin, ""


def _default(provider: ProviderSettings, key: str) -> object:
    return getattr(ProviderSettings(name=provider.name), key)


def _shown(value: object) -> object:
    """A setting without the secrets it may carry. A provider's headers and extra fields are masked whole."""
    if isinstance(value, str):
        return _USERINFO.sub("***", value)
    if isinstance(value, tuple):
        return [_shown(part) for part in value]
    if isinstance(value, ModelSettings):
        return value.id
    if isinstance(value, ProviderTimeouts):
        return {name: part for name, part in msgspec.structs.asdict(value).items() if part is not None}
    return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return msgspec.json.encode(value).decode()


class Row(msgspec.Struct, frozen=True):
    """A model. ``needs`` is empty when it is available; None stands for what is not known."""

    id: str
    provider: str
    format: str
    upstream: str
    tier: str
    context_window: int | None
    max_output: int | None
    capabilities: tuple[str, ...] | None
    requests_per_minute: int | None
    requests_per_day: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    input_price: float | None  # US dollars per million tokens
    output_price: float | None
    source: str
    as_of: str
    needs: str


def models(config: str | None, env_file: str | None, *, as_json: bool) -> None:
    """Print the models at hand, and what each of the others would need."""
    environ = environment(env_file)
    known = deployment.known_providers()
    path = config or environ.get("GWPROTO_CONFIG") or None
    settings = deployment.read(path, environ=environ, known=known).settings
    rows = [*_configured(settings, environ), *_others(settings, known, environ, with_file=path is not None)]
    if as_json:
        _print_json(rows)
        return
    print_table(
        ("model", "provider", "tier", "context", "capabilities", "$/M in, out", "status"),
        [
            (
                row.id,
                row.provider,
                row.tier,
                str(row.context_window or "-"),
                "all assumed" if row.capabilities is None else " ".join(row.capabilities) or "-",
                _price(row),
                f"needs {row.needs}" if row.needs else "available",
            )
            for row in rows
        ],
    )


def _price(row: Row) -> str:
    if row.input_price is None or row.output_price is None:
        return "-"
    return (
        "free" if row.input_price == row.output_price == 0 else f"{row.input_price:g}, {row.output_price:g}"
    )


def _configured(settings: Settings, environ: Mapping[str, str]) -> Iterator[Row]:
    for provider in settings.providers:
        problems: list[tuple[str, str]] = []
        deployment.secrets_of(provider, environ, problems)
        needs = "; ".join(problem for _, problem in problems)
        yield from _models_of(provider, needs)


def _others(
    settings: Settings, known: Mapping[str, KnownProvider], environ: Mapping[str, str], *, with_file: bool
) -> Iterator[Row]:
    chosen = {provider.name for provider in settings.providers}
    for entry in known.values():
        if entry.name in chosen:
            continue
        missing = [*entry.missing(environ)]
        if not entry.keyless and not entry.credential(environ, named=False):
            missing.append(" or ".join(entry.key_env))
        if entry.named_only:
            missing.append(f"{PROVIDERS_VARIABLE}={entry.name}")
        if missing:
            needs = ", ".join(missing)
        elif entry.host_env and not environ.get(entry.host_env):
            needs = entry.host_env
        elif entry.keyless:
            needs = f"{PROVIDERS_VARIABLE}={entry.name}"
        elif PROVIDERS_VARIABLE in environ:
            needs = f"{entry.name} in {PROVIDERS_VARIABLE}"
        else:
            assert with_file  # without one, a credential is enough
            needs = "a [[providers]] entry or routing.discover = true"
        yield from _models_of(entry, needs)


def _models_of(provider: ProviderSettings | KnownProvider, needs: str) -> Iterator[Row]:
    for model in provider.models:
        yield Row(
            id=model.id,
            provider=provider.name,
            format=provider.format,
            upstream=model.upstream or model.id,
            tier=model.tier,
            context_window=model.context_window or None,
            max_output=model.max_output or None,
            capabilities=model.capabilities,
            requests_per_minute=model.requests_per_minute or None,
            requests_per_day=model.requests_per_day or None,
            tokens_per_minute=model.tokens_per_minute or None,
            tokens_per_day=model.tokens_per_day or None,
            input_price=model.input_price,
            output_price=model.output_price,
            source=model.source,
            as_of=model.as_of,
            needs=needs,
        )


def _print_json(value: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(value)).decode())

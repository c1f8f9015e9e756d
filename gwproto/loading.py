"""How a configuration file, variables and flags become settings.

Nothing here reads a file or the environment: runtimes pass both in, and the bytes of the table of known providers too.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, ValidationError, convert
from msgspec.structs import fields, replace

from gwproto.config import (
    KnownProvider,
    ModelSettings,
    ProviderSettings,
    Quirks,
    Section,
    Settings,
    overlaid,
)
from gwproto.failures import ConfigurationError
from gwproto.policy.cors import origin_problems


class Loaded(Struct, frozen=True):
    """Valid settings, and for each ``section.key`` and ``providers.name`` where it comes from.

    An origin is ``"flag"``, ``"file"``, ``"default"`` or the name of an environment variable.
    """

    settings: Settings
    origins: dict[str, str]


# Variables of this project that are no setting. Others without "__" are let be: Kubernetes sets
# GWPROTO_SERVICE_HOST, GWPROTO_PORT and the like for a service named gwproto.
PROVIDERS_VARIABLE = "GWPROTO_PROVIDERS"
_VARIABLE = re.compile(r"GWPROTO_([A-Z0-9_]+?)__([A-Z0-9_]+)", re.IGNORECASE)

Problems = list[tuple[str, str]]
S = TypeVar("S", bound=Section)


def decode_known(providers: bytes, models: bytes) -> dict[str, KnownProvider]:
    """The known providers by name, from the two shipped tables (TOML; JSON, a row to a model).

    A model's id gets its provider's name as prefix. Raises :class:`ConfigurationError`, and msgspec's own errors for
    the models.
    """
    problems: Problems = []
    rows: dict[str, list[ModelSettings]] = {}
    for row in msgspec.json.decode(models, type=list[_Row]):
        about = {name: getattr(row, name) for name in ModelSettings.__struct_fields__}
        rows.setdefault(row.provider, []).append(ModelSettings(**about))
    tables = tomllib.loads(providers.decode())
    compatible = _build(Quirks, tables["compatible"], "compatible", problems)
    entries = [_build(KnownProvider, table, "providers", problems) for table in tables["providers"]]
    known = {}
    for entry in filter(None, entries):
        own = rows.get(entry.models_of or entry.name, [])
        if entry.models_of:
            own = [replace(model, quirks=_by_its_levels(model.quirks, entry.quirks)) for model in own]
        quirks = overlaid(compatible, entry.quirks) if entry.compatible and compatible else entry.quirks
        prefixed = tuple([replace(model, id=f"{entry.name}-{model.id}") for model in own])
        known[entry.name] = replace(entry, quirks=quirks, models=prefixed)
    problems += [("models", f"{name} is no known provider") for name in rows if name not in known]
    if problems:
        raise ConfigurationError(tuple(problems))
    return known


def _by_its_levels(native: Quirks, way: Quirks) -> Quirks:
    """A model's quirks for a second way to it: of its effort only those levels that are known there, too.

    What says them in its own format says nothing in another.
    """
    levels = native.effort
    if levels is not None:
        levels = tuple([level for level in levels if way.effort is None or level in way.effort])
    return replace(native, effort=levels)


class _Row(ModelSettings, frozen=True, kw_only=True):
    """A line of the table of models."""

    provider: str
    upstream: str


def load(
    text: bytes | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    *,
    known: Mapping[str, KnownProvider],
    source: str = "configuration",
) -> Loaded:
    """Merge flag > ``GWPROTO_SECTION__KEY`` > file > providers' own variables > default.

    ``text`` is the file's content (TOML), None when there is none; ``source`` names it in problems. ``flags`` maps
    ``"server.port"``-like names to values. Raises :class:`ConfigurationError` with every problem found.
    """
    problems: Problems = []
    data = _parse(text, source, problems) if text is not None else {}
    origins: dict[str, str] = {}
    for name, section in _sections():
        table = data.get(name)
        for key in section.__struct_fields__:
            in_file = isinstance(table, dict) and key in table
            origins[f"{name}.{key}"] = "file" if in_file else "default"
    for path, value, origin in (*_variables(environ, problems), *((*flag, "flag") for flag in flags.items())):
        section_name, key = path.split(".")
        table = data.setdefault(section_name, {})
        if isinstance(table, dict):
            table[key] = value
            origins[path] = origin

    settings = _build(Settings, data, "", problems)
    if settings is None:
        raise ConfigurationError(tuple(problems))
    problems += _addresses(settings.server.trusted_proxies, "server.trusted_proxies")
    problems += origin_problems(settings.server.cors_origins, "server.cors_origins")
    tables = data.get("providers", ())
    providers = _providers(settings, tables, text is not None, environ, known, origins, problems)
    if problems:
        raise ConfigurationError(tuple(problems))
    return Loaded(replace(settings, providers=providers), origins)


def read_table(text: bytes, source: str) -> dict[str, Any]:
    """TOML as a table, or :class:`ConfigurationError`; ``source`` names the text in it."""
    problems: Problems = []
    table = _parse(text, source, problems)
    if problems:
        raise ConfigurationError(tuple(problems))
    return table


def read_section(kind: type[S], table: object, path: str = "") -> S:
    """A table as its Struct, or :class:`ConfigurationError` with every problem in it; ``path`` is the table's own."""
    problems: Problems = []
    section = _build(kind, table, path, problems)
    if section is None:
        raise ConfigurationError(tuple(problems))
    return section


def _parse(text: bytes, source: str, problems: Problems) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError:
        problems.append((source, "not UTF-8"))
    except tomllib.TOMLDecodeError as error:
        problems.append((source, f"not TOML: {error}"))
    return {}


def _sections() -> Iterator[tuple[str, type[Section]]]:
    for setting in fields(Settings):
        if isinstance(setting.type, type) and issubclass(setting.type, Section):
            yield setting.name, setting.type


def _variables(environ: Mapping[str, str], problems: Problems) -> Iterator[tuple[str, object, str]]:
    """The settings made by variables: path, value, the variable."""
    types = {
        f"GWPROTO_{name}__{setting.name}".upper(): (f"{name}.{setting.name}", setting.type)
        for name, section in _sections()
        for setting in fields(section)
    }
    for variable in sorted(environ):
        if _VARIABLE.fullmatch(variable) is None:
            continue
        if variable not in types:
            problems.append((variable, "unknown variable" + _nearest(variable, types)))
            continue
        path, kind = types[variable]
        if _section_type(kind) is not None:
            problems.append((variable, "holds tables, which only a file can"))
            continue
        text = environ[variable].strip()
        value: object = text
        if get_origin(kind) is tuple:
            value = [part.strip() for part in text.split(",") if part.strip()]
        try:
            yield path, convert(value, kind, strict=False), variable
        except ValidationError as error:
            problems.append((variable, _explain(kind, error)))


def _addresses(values: Iterable[str], path: str) -> Iterator[tuple[str, str]]:
    """What is wrong with addresses and networks."""
    for index, value in enumerate(values):
        try:
            ip_network(value)
        except ValueError as error:
            yield f"{path}[{index}]", f"expected an address or a network such as 10.0.0.0/8: {error}"


def _build(kind: type[S], value: object, path: str, problems: Problems) -> S | None:
    """A table as its Struct, or None after noting every problem in it."""
    if not isinstance(value, dict):
        problems.append((path, f"expected a table, got {_toml_type(value)}"))
        return None
    before = len(problems)
    prefix = f"{path}." if path else ""
    names = kind.__struct_fields__
    problems += [(prefix + key, "unknown key" + _nearest(key, names)) for key in value if key not in names]
    arguments: dict[str, object] = {}
    for setting in fields(kind):
        name = setting.name
        if name in value:
            arguments[name] = _convert(setting.type, value[name], prefix + name, problems)
        elif setting.default is NODEFAULT and setting.default_factory is NODEFAULT:
            problems.append((prefix + name, "is required"))
    return kind(**arguments) if len(problems) == before else None


def _convert(kind: Any, value: object, path: str, problems: Problems) -> object:
    section = _section_type(kind)
    if section is not None:
        if get_origin(kind) is not tuple:
            return _build(section, value, path, problems)
        if isinstance(value, list):
            return tuple([_build(section, entry, f"{path}[{i}]", problems) for i, entry in enumerate(value)])
        problems.append((path, f"expected an array of tables, got {_toml_type(value)}"))
        return None
    try:
        return convert(value, kind)
    except ValidationError as error:
        problems.append((path, _explain(kind, error)))
        return None


def _section_type(kind: Any) -> type[Section] | None:
    """The Section in ``Section`` or ``tuple[Section, ...]``."""
    inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _explain(kind: Any, error: ValidationError) -> str:
    # Never the value itself: it may be a secret in the wrong place.
    message = str(error).partition(" - at ")[0].replace("`", "").replace(" | null", "")  # TOML has no null
    if get_origin(kind) is Literal or message.startswith("Invalid enum value"):
        return "expected one of " + ", ".join(dict.fromkeys(_words(kind)))
    if " matching regex " in message:  # the only one there is is that of projects' ids
        return "expected 1 to 64 of the characters A-Z a-z 0-9 . _ : -"
    return message[0].lower() + message[1:]


def _words(kind: Any) -> Iterator[str]:
    """Those that a type allows, wherever in it."""
    for inner in get_args(kind):
        if isinstance(inner, str):
            yield inner
        else:
            yield from _words(inner)


_TOML_TYPES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
}


def _toml_type(value: object) -> str:
    return _TOML_TYPES.get(type(value), "a date or time")


def _nearest(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # only when there is something to say

    near = get_close_matches(name, names, n=1, cutoff=0.0)
    return f"; the nearest known one is {near[0]}" if near else ""


def _providers(
    settings: Settings,
    tables: Any,
    with_file: bool,
    environ: Mapping[str, str],
    known: Mapping[str, KnownProvider],
    origins: dict[str, str],
    problems: Problems,
) -> tuple[ProviderSettings, ...]:
    """The file's providers completed from the table, then those that variables name or hold credentials for."""
    providers: dict[str, ProviderSettings] = {}
    for index, (provider, table) in enumerate(zip(settings.providers, tables, strict=True)):
        name = provider.name
        if name in providers:
            problems.append((f"providers[{index}].name", f"{name} is there twice"))
            continue
        origins[f"providers.{name}"] = "file"
        if entry := known.get(provider.like or name):
            provider = _inherit(provider, entry, table, environ, origins)
            if origins[f"providers.{name}.base_url"] == "default" and (missing := entry.missing(environ)):
                problems.append((f"providers[{index}].base_url", f"needs {' and '.join(missing)}"))
        elif provider.like:
            problems.append(
                (f"providers[{index}].like", f"is no known provider{_nearest(provider.like, known)}")
            )
        elif not provider.base_url:
            problems.append(
                (
                    f"providers[{index}].base_url",
                    f"is required: {name} is no known provider{_nearest(name, known)}",
                )
            )
        elif (spoken := known.get(provider.format)) and spoken.format == provider.format != "openai":
            # Another address that speaks a native format takes the key where that format's own provider does.
            provider = replace(
                provider,
                auth_header=provider.auth_header if "auth_header" in table else spoken.auth_header,
                headers={**spoken.headers, **provider.headers},
            )
        providers[name] = provider

    discovered = known.values() if settings.routing.discover or not with_file else ()
    wanted = [name.strip() for name in environ.get(PROVIDERS_VARIABLE, "").split(",") if name.strip()]
    for name in wanted:
        if name not in providers and name not in known:
            problems.append(
                (PROVIDERS_VARIABLE, f"unknown provider {name}{_nearest(name, (*known, *providers))}")
            )
    asked = [known[name] for name in dict.fromkeys(wanted) if name in known]
    for entry in (*asked, *(entry for entry in discovered if entry.name not in wanted)):
        named = entry.name in wanted
        if entry.name in providers or (entry.named_only and not named):
            continue
        variable = entry.credential(environ, named=named)
        evidence = entry.host_env if entry.keyless else variable
        missing = entry.missing(environ)
        if missing and named:
            problems.append((PROVIDERS_VARIABLE, f"{entry.name} needs {' and '.join(missing)}"))
        elif not missing and (named or environ.get(evidence, "").strip()):
            origins[f"providers.{entry.name}"] = PROVIDERS_VARIABLE if named else evidence
            providers[entry.name] = _inherit(ProviderSettings(name=entry.name), entry, {}, environ, origins)
    chosen = dict.fromkeys(wanted) if wanted else providers
    return tuple([providers[name] for name in chosen if name in providers])


def _inherit(
    provider: ProviderSettings,
    entry: KnownProvider,
    table: Mapping[str, object],
    environ: Mapping[str, str],
    origins: dict[str, str],
) -> ProviderSettings:
    """``provider`` with what ``table`` leaves out taken from the shipped entry.

    Whoever writes another address names its credential too: a key must not go where its owner did not send it.
    """
    address, origin = (provider.base_url, "file") if provider.base_url else entry.address(environ)
    path = f"providers.{provider.name}"
    origins[f"{path}.base_url"] = origin
    for key in ("auth_header", "day_offset", "fallback", "format", "headers", "like", "models", "quirks"):
        origins[f"{path}.{key}"] = "file" if key in table else "default"
    keys = provider.api_keys_env
    if origin != "file" and not (provider.api_key_env or provider.api_key_file or keys):
        keys = entry.credential(environ, named=True) or ("" if entry.keyless else entry.key_env[0])
    same_format = "format" not in table or provider.format == entry.format
    return replace(
        provider,
        like=entry.name,
        format=provider.format if "format" in table else entry.format,
        base_url=address,
        api_keys_env=keys,
        auth_header=provider.auth_header if "auth_header" in table or not same_format else entry.auth_header,
        headers={**(entry.headers if same_format else {}), **provider.headers},
        fallback=provider.fallback if "fallback" in table else entry.fallback,
        day_offset=provider.day_offset if "day_offset" in table else entry.day_offset,
        quirks=overlaid(entry.quirks, provider.quirks) if same_format else provider.quirks,
        models=_models(provider, entry, table, same_format) or entry.models,
    )


def _models(
    provider: ProviderSettings, entry: KnownProvider, table: Mapping[str, object], same_format: bool
) -> tuple[ModelSettings, ...]:
    """The provider's own models: what their tables leave out is as the shipped rows of the same name have it."""
    rows = {row.upstream or row.id: row for row in entry.models} | {row.id: row for row in entry.models}
    tables: Any = table.get("models", ())
    models = []
    for own, given in zip(provider.models, tables, strict=True):
        if row := rows.get(own.upstream or own.id):
            quirks = overlaid(row.quirks, own.quirks) if same_format else own.quirks
            own = replace(row, **{key: getattr(own, key) for key in given} | {"quirks": quirks})
        models.append(own)
    return tuple(models)

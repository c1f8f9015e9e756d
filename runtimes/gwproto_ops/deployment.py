"""From files and variables to what a server needs: a configuration, and the secrets it names."""

import hashlib
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

import gwproto
from gwproto import Configuration, ConfigurationError, Origin
from gwproto.config import KeySettings, KeysFile, KnownProvider, OwnRates, ProviderSettings, Settings
from gwproto.loading import Loaded, decode_known, load, read_section, read_table
from gwproto.policy.auth import parse_hashes
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import compile_catalog
from gwproto.wire.dialects import DIALECTS, VOCABULARIES


@dataclass(frozen=True, repr=False)
class Deployment:
    """A configuration that can be served.

    ``credentials`` maps names to the headers their secrets travel in. ``made_key`` is the client key made because none
    was configured, or ``""``. The repr shows no secret.
    """

    configuration: Configuration
    credentials: Mapping[str, tuple[bytes, bytes]]
    made_key: str = ""

    @property
    def destinations(self) -> frozenset[tuple[str, Origin]]:
        """Which credential may go where."""
        targets = self.configuration.catalog.targets
        return frozenset([(target.credential, target.provider.origin) for target in targets])

    def __repr__(self) -> str:
        settings = self.configuration.settings
        names = ", ".join(provider.name for provider in settings.providers)
        return f"<Deployment {settings.server.host}:{settings.server.port} providers: {names}>"


def known_providers() -> dict[str, KnownProvider]:
    """The tables shipped with the core."""
    data = Path(gwproto.__file__).parent / "data"
    return decode_known((data / "providers.toml").read_bytes(), (data / "models.json").read_bytes())


def read(
    path: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    known: Mapping[str, KnownProvider] | None = None,
) -> Loaded:
    """Settings from the file at ``path`` (None: no file), variables and flags. Raises ``ConfigurationError``."""
    return load(
        None if path is None else _bytes(path),
        os.environ if environ is None else environ,
        flags or {},
        known=known_providers() if known is None else known,
        source=path or "configuration",
    )


def files_of(settings: Settings) -> tuple[str, ...]:
    """The files that :func:`deploy` reads."""
    files = [settings.auth.keys_file, *(provider.api_key_file for provider in settings.providers)]
    return tuple(dict.fromkeys(filter(None, files)))


def deploy(
    loaded: Loaded,
    *,
    environ: Mapping[str, str] | None = None,
    make_key: bool = False,
    made_key: str = "",
) -> Deployment:
    """Resolve the secrets that settings name, and compile them.

    Raises ``ConfigurationError`` for everything that is missing, client keys too unless ``make_key`` asks for one to be
    made where none is configured: ``made_key``, if that has been made before.
    """
    environ = os.environ if environ is None else environ
    settings = loaded.settings
    problems: list[tuple[str, str]] = []
    if not settings.providers:
        problems.append(("providers", "none configured, and no provider's credentials in the environment"))
    # A secret has one name, also where two providers share it: the router tells backends apart by the name.
    name_of: dict[tuple[str, str], str] = {}
    names: dict[str, list[str]] = {}
    for provider in settings.providers:
        if provider.format not in DIALECTS:
            known = ", ".join(DIALECTS)
            problems.append((f"providers.{provider.name}.format", f"is none of the formats known: {known}"))
        mine = names[provider.name] = []
        header = provider.auth_header.lower()
        for number, secret in enumerate(secrets_of(provider, environ, problems), 1):
            name = provider.name if number == 1 else f"{provider.name}#{number}"
            mine.append(name_of.setdefault((header, secret), name))
        if mine and header in map(str.lower, provider.headers):
            problem = "would be sent twice: the provider's key travels in it"
            problems.append((f"providers.{provider.name}.headers.{header}", problem))
    credentials = {name: _credential(header, secret) for (header, secret), name in name_of.items()}

    entries = _entries(settings, problems)
    keys = _client_keys(entries, environ, problems)
    if keys or problems or not make_key:
        made_key = ""
    else:
        made_key = made_key or new_key()
        keys = (client_key("made", made_key),)
    if not keys and not problems:
        problems.append(("GATEWAY_API_KEY", "no client key is configured; `gwproto keys new` makes one"))
    try:
        catalog = compile_catalog(settings, names, VOCABULARIES)
    except ConfigurationError as error:
        raise ConfigurationError((*problems, *error.problems)) from None
    for where, entry in entries:
        problems += _unknown(entry.models or (), catalog.names, where)
    if problems:
        raise ConfigurationError(tuple(problems))
    return Deployment(Configuration(settings, catalog, keys), credentials, made_key)


def _credential(header: str, secret: str) -> tuple[bytes, bytes]:
    """The header field a key travels in (RFC 6750, 2.1; any other header carries it bare)."""
    value = f"Bearer {secret}" if header == "authorization" else secret
    return header.encode(), value.encode()


def from_environment(environ: Mapping[str, str] | None = None) -> Deployment:
    """What an application server gets, which has no flags: ``GWPROTO_CONFIG`` names the file, if there is one."""
    environ = os.environ if environ is None else environ
    return deploy(read(environ.get("GWPROTO_CONFIG") or None, environ=environ), environ=environ)


def new_key() -> str:
    """A new client key: 256 bits from the system's source of chance."""
    return "gw-" + secrets.token_urlsafe(32)


def client_key(label: str, key: str) -> ClientKey:
    """What the gateway keeps of a client's key."""
    return ClientKey(label, hashlib.sha256(key.encode(errors="surrogateescape")).digest())


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except ValueError:
        raise ConfigurationError(((path, "is no file's name"),)) from None  # it has a zero byte
    except OSError as error:
        raise ConfigurationError(((path, error.strerror or str(error)),)) from None


def secrets_of(
    provider: ProviderSettings, environ: Mapping[str, str], problems: list[tuple[str, str]]
) -> list[str]:
    """A provider's keys, each once and in order."""
    where = f"providers.{provider.name}"
    values: list[str] = []
    if provider.api_key_env:
        values.append(_variable(provider.api_key_env, f"{where}.api_key_env", environ, problems))
    if provider.api_key_file:
        try:
            value = _bytes(provider.api_key_file).decode().strip()
        except ConfigurationError as error:
            problems += error.problems
        except UnicodeDecodeError:
            problems.append((f"{where}.api_key_file", f"{provider.api_key_file} is not text"))
        else:
            if not value:
                problems.append((f"{where}.api_key_file", f"{provider.api_key_file} is empty"))
            values.append(value)
    if provider.api_keys_env:
        values += _listed(_variable(provider.api_keys_env, f"{where}.api_keys_env", environ, problems))
    # RFC 6750, 2.1: a bearer token is ASCII without spaces; a line break would even make a header of its own.
    if not all(value.isascii() and value.isprintable() and " " not in value for value in values):
        problems.append((where, "its key holds spaces, control characters or letters that are not ASCII"))
        return []
    return list(dict.fromkeys(filter(None, values)))


def read_keys(path: str) -> tuple[KeySettings, ...]:
    """The entries of a file of client keys, at least one. Raises ``ConfigurationError``."""
    table = read_table(_bytes(path), path)
    try:
        keys = read_section(KeysFile, table).keys
    except ConfigurationError as error:
        raise ConfigurationError(tuple([(f"{path}: {at}", said) for at, said in error.problems])) from None
    if not keys:
        raise ConfigurationError(((path, "holds no [[keys]]"),))
    return keys


def _unknown(names: Sequence[str], known: Collection[str], path: str) -> Iterator[tuple[str, str]]:
    """Which of an entry's models there are not."""
    from difflib import get_close_matches  # only when there is something to say

    for index, name in enumerate(names):
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            yield f"{path}.models[{index}]", f"is no model or alias; the nearest known one is {near[0]}"


def _entries(settings: Settings, problems: list[tuple[str, str]]) -> list[tuple[str, KeySettings]]:
    """The configured client keys, each with its path: the file's own, then those of ``auth.keys_file``."""
    entries = [(f"auth.keys[{index}]", entry) for index, entry in enumerate(settings.auth.keys)]
    path = settings.auth.keys_file
    if path:
        try:
            listed = read_keys(path)
        except ConfigurationError as error:
            problems += error.problems
        else:
            entries += [(f"{path}: keys[{index}]", entry) for index, entry in enumerate(listed)]
    return entries


def _client_keys(
    entries: list[tuple[str, KeySettings]], environ: Mapping[str, str], problems: list[tuple[str, str]]
) -> tuple[ClientKey, ...]:
    keys: dict[bytes, ClientKey] = {}
    for number, (where, entry) in enumerate(entries, 1):
        label = entry.label or entry.env or f"key-{number}"
        made: tuple[ClientKey, ...] = ()
        if bool(entry.env) == bool(entry.sha256):
            problems.append((where, "needs one of env and sha256"))
        elif entry.env:
            value = _variable(entry.env, f"{where}.env", environ, problems)
            made = (client_key(label, value),) if value else ()
        else:
            made = _hashes(f"{label}:{entry.sha256}", f"{where}.sha256", problems)
        for key in made:
            if key.sha256 in keys:
                # Which of the two says what the key may do?
                problems.append((where, f"is the same key as {keys[key.sha256].label}"))
            keys[key.sha256] = replace(
                key,
                limits=own_rates(entry),
                models=entry.models,
                projects=entry.projects,
                expires=None if entry.expires is None else entry.expires.timestamp(),
            )
    # A key that has an entry is bound to what that says, whoever else names it.
    for key in _listed_keys(environ, problems):
        keys.setdefault(key.sha256, key)
    return tuple(keys.values())


def _listed_keys(environ: Mapping[str, str], problems: list[tuple[str, str]]) -> list[ClientKey]:
    """Those of the variables made for them."""
    keys: list[ClientKey] = []
    if "GATEWAY_API_KEY" in environ:
        values = _listed(_variable("GATEWAY_API_KEY", "GATEWAY_API_KEY", environ, problems))
        for number, value in enumerate(values, 1):
            keys.append(client_key("default" if number == 1 else f"default-{number}", value))
    if environ.get("GATEWAY_API_KEY_HASHES", "").strip():
        keys += _hashes(environ["GATEWAY_API_KEY_HASHES"], "GATEWAY_API_KEY_HASHES", problems)
    return keys


def own_rates(entry: KeySettings) -> OwnRates | None:
    """The limits that a key's entry names, or None."""
    own = OwnRates(**{name: getattr(entry, name) for name in OwnRates.__struct_fields__})
    return None if own == OwnRates() else own


def _hashes(text: str, where: str, problems: list[tuple[str, str]]) -> tuple[ClientKey, ...]:
    try:
        return parse_hashes(text)
    except ConfigurationError as error:
        problems += [(where, problem) for _, problem in error.problems]
        return ()


_CONVENTIONAL = re.compile(r"[A-Z][A-Z0-9_]*")


def _variable(name: str, where: str, environ: Mapping[str, str], problems: list[tuple[str, str]]) -> str:
    """A variable's value, which must hold something."""
    value = environ.get(name, "").strip()
    if not value.strip(","):
        # Who mistakes it for the key's own place has put a secret there.
        shown = name if _CONVENTIONAL.fullmatch(name) else "the variable of that name"
        what = "" if name == where else f"{shown} "
        problems.append((where, f"{what}is {'empty' if name in environ else 'not set'}"))
        return ""
    return value


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]

"""A configuration in a journal: all that it takes to compile it again, and nothing that opens anything."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from gwproto.config import Settings
from gwproto.gateway_values import Configuration
from gwproto.journal.characters import folded
from gwproto.journal.redaction import Json
from gwproto.journal.rules import REQUEST
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import Catalog, compile_catalog
from gwproto.wire.dialects import VOCABULARIES

_encode = msgspec.json.Encoder().encode
_USER = re.compile(rb'(://)[^/@"\s]+@')
_SHA256 = "sha256"


class Recorded(Struct, frozen=True, gc=False):
    """Settings, the names of each provider's credentials, and the client keys without their hashes."""

    settings: Settings
    credentials: dict[str, tuple[str, ...]]
    keys: tuple[dict[str, Any], ...]


def recorded(configuration: Configuration) -> Raw:
    """The configuration as JSON. What providers' headers, queries and bodies hold is replaced; no hash is in it."""
    settings: dict[str, Any] = msgspec.to_builtins(configuration.settings)
    for key in settings["auth"]["keys"]:
        key[_SHA256] = ""
    for provider in settings["providers"]:
        for name in ("headers", "query"):
            provider[name] = {key: _replaced(value) for key, value in provider[name].items()}
        provider["body"] = msgspec.json.decode(Json(REQUEST)(_encode(provider["body"])))
        for one in (provider, *provider["models"]):
            one["quirks"] = {name: value for name, value in one["quirks"].items() if value is not None}
            if not one["quirks"]:
                del one["quirks"]  # whoever has none has the common object
    keys: list[dict[str, Any]] = [msgspec.to_builtins(key) for key in configuration.keys]
    for key in keys:
        del key[_SHA256]
    whole = {"settings": settings, "credentials": credentials_of(configuration.catalog), "keys": keys}
    return Raw(_USER.sub(rb"\1***@", _encode(whole)))


def digest_of(configuration: Raw) -> str:
    return hashlib.blake2b(configuration, digest_size=16).hexdigest()


def restored(configuration: Raw) -> Recorded:
    """Raises :class:`msgspec.ValidationError`."""
    return msgspec.json.decode(configuration, type=Recorded)


def compiled(recorded: Recorded) -> Configuration:
    """The configuration again, its client keys those of :func:`stand_in`. Raises ``ConfigurationError``."""
    keys = [
        msgspec.convert({**key, _SHA256: hashlib.sha256(stand_in(key["label"], number)).digest()}, ClientKey)
        for number, key in enumerate(recorded.keys)
    ]
    catalog = compile_catalog(recorded.settings, recorded.credentials, VOCABULARIES)
    return Configuration(recorded.settings, catalog, tuple(keys))


def stand_in(label: str, number: int) -> bytes:
    """What a client presents in a replay in place of the key that it had."""
    return b"replayed %d " % number + label.encode().hex().encode()


def credentials_of(catalog: Catalog) -> Mapping[str, Sequence[str]]:
    """The names of each provider's credentials, in order."""
    names: dict[str, dict[str, None]] = {}
    for target in catalog.targets:
        if target.credential:
            names.setdefault(target.provider.name, {})[target.credential] = None
    return {name: tuple(credentials) for name, credentials in names.items()}


def _replaced(text: str) -> str:
    return folded(text.encode()).decode()

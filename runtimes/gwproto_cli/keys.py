"""``gwproto keys new``: a key for a client, and what the gateway needs to know of it."""

import argparse
import json
import re
import time

import msgspec

from gwproto.config import KeySettings
from gwproto.failures import ConfigurationError
from gwproto.loading import read_section
from gwproto_ops import deployment

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def new_key(options: argparse.Namespace) -> None:
    """Print a new key, this once, and its entry: for ``GATEWAY_API_KEY_HASHES``, and for a file of keys."""
    label: str = options.label
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", label):
        raise ConfigurationError((("--label", "1 to 64 of A-Z a-z 0-9 . _ - please"),))
    key = deployment.new_key()
    digest = deployment.client_key(label, key).sha256.hex()
    entry = f"{label}:{digest}"
    table = _table(_settings(options, label, digest))
    if options.json:
        text = msgspec.json.encode({"key": key, "entry": entry, "toml": table})
        print(msgspec.json.format(text).decode())
        return
    print(key)
    print(entry)
    print(f"\n{table}", end="")


def _settings(options: argparse.Namespace, label: str, digest: str) -> KeySettings:
    said: dict[str, object] = {"label": label, "sha256": digest}
    for name in ("models", "projects"):
        if (text := getattr(options, name)) is not None:
            said[name] = [part.strip() for part in text.split(",") if part.strip()]
    if options.expires is not None:
        day = _DATE.fullmatch(options.expires) is not None
        said["expires"] = f"{options.expires}T00:00:00Z" if day else options.expires
    try:
        made = read_section(KeySettings, said)
    except ConfigurationError as error:
        raise ConfigurationError(
            tuple([(f"--{path}", problem) for path, problem in error.problems])
        ) from None
    if made.expires is not None and made.expires.timestamp() <= time.time():
        raise ConfigurationError((("--expires", "is over"),))
    for name in made.models or ():
        if not name.isprintable():
            raise ConfigurationError((("--models", "has a control character"),))
    return made


def _table(made: KeySettings) -> str:
    """The entry as TOML, whose strings are JSON's as long as every character can be printed."""
    lines = ["[[keys]]", f'label = "{made.label}"', f'sha256 = "{made.sha256}"']
    for name in ("models", "projects"):
        if (names := getattr(made, name)) is not None:
            lines.append(f"{name} = {json.dumps(names, ensure_ascii=False)}")
    if made.expires is not None:
        lines.append(f"expires = {made.expires.isoformat()}")
    return "".join([f"{line}\n" for line in lines])

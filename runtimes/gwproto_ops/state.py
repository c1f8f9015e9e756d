"""Where a gateway keeps what outlives its process, and the file with what it knows of its providers."""

import hashlib
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from gwproto import Gateway, State

logger = logging.getLogger("gwproto")

#: Seconds between two savings.
INTERVAL = 60.0
#: What is older says nothing about today: no cooldown and no day's budget lasts longer (seconds).
STALE = 86400.0
VERSION = 1


class _Kept(Struct, frozen=True):
    """The file's content. ``secrets`` are digests that tell a changed secret from the one that was in use."""

    version: int
    salt: str
    secrets: dict[str, str]
    state: State


_decode = msgspec.json.Decoder(_Kept).decode


class StateFile:
    """The file at ``path`` for a gateway that uses these ``credentials`` (names to header fields).

    It is never needed: what cannot be read, is too old, or was written by another version is passed over, and what
    cannot be written is logged, once.
    """

    def __init__(self, path: Path, credentials: Mapping[str, tuple[bytes, bytes]]) -> None:
        self.path = path
        self._credentials = credentials
        self._salt = secrets.token_hex(16)
        self._failed = False

    def restore(self, gateway: Gateway, now: float, wall: float) -> bool:
        """Let ``gateway`` go on from the file, before its first request. False: there was nothing of use."""
        try:
            kept = _decode(self.path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            logger.warning("%s is passed over: %s", self.path, _words(error))
            return False
        age = wall - kept.state.at
        if kept.version != VERSION or not -STALE < age < STALE:
            return False
        digests = self._digests(kept.salt)
        renewed = [name for name, digest in digests.items() if kept.secrets.get(name, digest) != digest]
        gateway.restore(kept.state, now, renewed=renewed)
        return True

    def reconfigure(self, credentials: Mapping[str, tuple[bytes, bytes]]) -> None:
        """The gateway uses other credentials from now on."""
        self._credentials = credentials

    def save(self, state: State) -> None:
        """Write ``state``, whole or not at all. Blocks; made for a thread."""
        text = msgspec.json.encode(_Kept(VERSION, self._salt, self._digests(self._salt), state))
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(text)
            os.replace(beside, self.path)
        except OSError as error:
            if not self._failed:
                logger.warning("%s cannot be written: %s", self.path, _words(error))
            self._failed = True
        else:
            self._failed = False

    def _digests(self, salt: str) -> dict[str, str]:
        # Short on purpose: enough to notice a change, too little to confirm a guess at a secret.
        return {
            name: hashlib.sha256(salt.encode() + value).hexdigest()[:8]
            for name, (_, value) in self._credentials.items()
        }


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def directory(configured: str, environ: Mapping[str, str] | None = None) -> Path:
    """The state directory, made if need be and for its owner alone.

    ``configured`` is ``server.state_dir``; empty means ``$XDG_STATE_HOME/gwproto``, without the variable
    ``~/.local/state/gwproto`` (XDG Base Directory Specification, by which a relative value is ignored). Raises
    ``OSError``.
    """
    path = (
        Path(configured).expanduser()
        if configured
        else _base(os.environ if environ is None else environ) / "gwproto"
    )
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _base(environ: Mapping[str, str]) -> Path:
    base = Path(environ.get("XDG_STATE_HOME", ""))
    return base if base.is_absolute() else Path.home() / ".local" / "state"

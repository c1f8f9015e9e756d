"""Where a gateway keeps what outlives its process."""

import os
from collections.abc import Mapping
from pathlib import Path


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

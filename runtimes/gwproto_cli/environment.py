"""Variables for a command: the process's own, and a file's."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from gwproto.failures import ConfigurationError

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def environment(env_file: str | None) -> Mapping[str, str]:
    """The process's variables and, below them, those of ``env_file``. Raises ``ConfigurationError``."""
    return os.environ if env_file is None else {**_read(env_file), **os.environ}


def _read(path: str) -> dict[str, str]:
    """Lines of ``NAME=value``, ``export`` and quotes allowed, ``#`` beginning a comment line. Nothing is expanded."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(((path, getattr(error, "strerror", "") or "not UTF-8"),)) from None
    variables = {}
    problems = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append((f"{path}:{number}", "expected NAME=value"))
            continue
        name, value = match.groups()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        variables[name] = value
    if problems:
        raise ConfigurationError(tuple(problems))
    return variables

"""Name → wire format.

A format's code is loaded when the format is first asked for: most processes need one or two of them.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TypeVar

from gwproto.config import Vocabulary
from gwproto.wire.dialect import Dialect

__all__ = ["DIALECTS", "VOCABULARIES", "Dialect"]

_NAMES = ("openai", "gemini", "anthropic", "workers_ai", "cohere", "ollama", "bedrock")

T = TypeVar("T")


class _ByName(Mapping[str, T]):
    """Something of every format."""

    def __init__(self, find: Callable[[str], T]) -> None:
        self._find = find
        self._found: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        found = self._found.get(name)
        if found is None:
            if name not in _NAMES:
                raise KeyError(name)
            found = self._found[name] = self._find(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    def __contains__(self, name: object) -> bool:
        return name in _NAMES


def _dialect(name: str) -> Dialect:
    dialect: Dialect = import_module(f"gwproto.wire.{name}").DIALECT
    return dialect


def _vocabulary(name: str) -> Vocabulary:
    dialect = DIALECTS[name]
    return Vocabulary(dialect.parameters, dialect.open, dialect.lacks)


DIALECTS: Mapping[str, Dialect] = _ByName(_dialect)

#: What each can say, for the catalog.
VOCABULARIES: Mapping[str, Vocabulary] = _ByName(_vocabulary)

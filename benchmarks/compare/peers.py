"""Peers as data: what ``peers.toml`` says of a gateway, whether it is here, and how it is started."""

import importlib.util
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import servers

SHIPPED = Path(__file__).with_name("peers.toml")

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# What a template may ask for. All are known when a peer is started.
NAMES = frozenset(
    ("port", "spare_port", "provider_port", "provider", "directory", "key", "python", "package", "model")
)


class PeersError(Exception):
    """A file of peers is wrong: ``path: problem`` in each line."""


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A gateway. Texts may hold placeholders where ``peers.toml`` says so."""

    about: str = ""
    install: str = ""  # how to get it
    source: str = ""  # where its command is documented
    notes: str = ""
    tried: str = ""  # the version that was run when the entry was written; empty: none
    # It is here when all of these that are given are found; of the executables any one.
    executable: list[str] = []
    module: str = ""  # of the Python that runs the benchmark
    package: str = ""  # of npm, in the current directory or installed globally
    server: str = ""  # one that the harness itself starts (benchmarks/servers.py), instead of a command
    command: list[str] = []
    files: dict[str, str] = {}  # written to {directory} before each start
    environment: dict[str, str] = {}  # added to the benchmark's own
    ready: str = "/health"  # answers 200 when it serves
    path: str = "/v1/chat/completions"
    model: str = "{model}"  # as the peer's clients name it
    headers: dict[str, str] = msgspec.field(default_factory=lambda: {"authorization": "Bearer {key}"})
    start_limit: float = 20.0  # seconds until it must answer

    def missing(self) -> str:
        """What is not installed; empty when it is here."""
        if self.executable and executable(self.executable) is None:
            return f"no {self.executable[0]} on PATH"
        if self.module and not importable(self.module):
            return f"no Python module {self.module}"
        if self.package and package(self.package) is None:
            return f"no npm package {self.package}"
        if self.server.endswith(servers.COMPILED) and not servers.COMPILED_PATH.is_dir():
            return "no build/compiled"
        return ""

    def argv(self, values: Mapping[str, str]) -> list[str]:
        """The command, with the path of its executable in front."""
        first, *rest = (expanded(part, values) for part in self.command)
        found = executable(self.executable) if self.executable and first == self.executable[0] else None
        return [found or first, *rest]


def executable(names: Sequence[str]) -> str | None:
    """The path of the first one that is there."""
    return next(filter(None, map(shutil.which, names)), None)


def importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it would be in
        return False


def package(name: str) -> Path | None:
    """Where the npm package is: here, in NODE_PATH, or beside the global node."""
    places = [
        Path("node_modules"),
        *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep))),
    ]
    node = shutil.which("node")
    if node is not None:
        places.append(Path(node).parents[1] / "lib" / "node_modules")
    places += [Path("/usr/local/lib/node_modules"), Path("/usr/lib/node_modules")]
    return next((place / name for place in map(Path.absolute, places) if (place / name).is_dir()), None)


def expanded(text: str, values: Mapping[str, str]) -> str:
    """``text`` with its placeholders replaced. Braces around anything but a lower-case word are left alone."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def values(
    peer: Peer, *, port: int, spare_port: int, provider_port: int, directory: Path, key: str
) -> dict[str, str]:
    """What the placeholders of a peer mean in one run; ``model`` is another in each job."""
    return {
        "port": str(port),
        "spare_port": str(spare_port),
        "provider_port": str(provider_port),
        "provider": f"http://127.0.0.1:{provider_port}",
        "directory": str(directory),
        "key": key,
        "python": sys.executable,
        "package": str(package(peer.package) or "") if peer.package else "",
        "model": "mock-plain",
    }


def load(more: Path | None = None) -> dict[str, Peer]:
    """All peers by name, those of ``more`` over the shipped ones, key by key. Raises :class:`PeersError`."""
    tables = _tables(SHIPPED)
    if more is not None:
        for name, table in _tables(more).items():
            tables[name] = {**tables.get(name, {}), **table}
    problems: list[str] = []
    peers: dict[str, Peer] = {}
    for name, table in tables.items():
        found = list(_problems(f"peers.{name}", table))
        problems += found
        if not found:
            peers[name] = msgspec.convert(table, Peer)
    if problems:
        raise PeersError("\n".join(problems))
    return peers


def _tables(file: Path) -> dict[str, dict[str, object]]:
    try:
        document = tomllib.loads(file.read_text())
    except OSError as error:
        raise PeersError(f"{file}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise PeersError(f"{file}: {error}") from None
    problems = [f"{key}: unknown key; all peers are in [peers.NAME]" for key in document if key != "peers"]
    tables: dict[str, dict[str, object]] = document.get("peers", {})
    if not isinstance(tables, dict):
        problems.append("peers: expected tables [peers.NAME]")
    else:
        problems += [
            f"peers.{name}: expected a table" for name, table in tables.items() if not isinstance(table, dict)
        ]
    if problems:
        raise PeersError("\n".join(f"{file}: {problem}" for problem in problems))
    return tables


def _problems(path: str, table: dict[str, object]) -> Iterator[str]:
    """Every unknown key, the first wrong type, and every unknown placeholder."""
    unknown = [key for key in table if key not in Peer.__struct_fields__]
    for key in unknown:
        yield f"{path}.{key}: unknown key; known are {', '.join(Peer.__struct_fields__)}"
    try:
        peer = msgspec.convert({key: table[key] for key in table if key not in unknown}, Peer)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        yield f"{path}{where.rstrip('`')}: {problem[0].lower()}{problem[1:].replace('`', '')}"
        return
    if bool(peer.command) == bool(peer.server):
        yield f"{path}.command: either a command or a server is needed"
    for where, text in _templates(peer):
        for name in _PLACEHOLDER.findall(text):
            if name not in NAMES:
                yield f"{path}.{where}: unknown placeholder {{{name}}}; known are {', '.join(sorted(NAMES))}"


def _templates(peer: Peer) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(peer.command):
        yield f"command[{index}]", part
    for section, texts in (
        ("files", peer.files),
        ("environment", peer.environment),
        ("headers", peer.headers),
    ):
        for key, text in texts.items():
            yield f"{section}.{key}", text
    yield "model", peer.model

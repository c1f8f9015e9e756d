"""Who imports whom: the layers of ``docs/design.md``, and that the core touches nothing outside."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gwproto.wire.dialects import DIALECTS, VOCABULARIES

ROOT = Path(__file__).parent.parent
CORE = ROOT / "gwproto"
RUNTIMES = ROOT / "runtimes"

_VALUES = {"failures", "values", "compiling"}
_VOCABULARY = _VALUES | {"events", "commands"}
_SETTINGS = _VALUES | {"config"}
_DECISIONS = _SETTINGS | {"wire", "routing", "policy", "sse"}

# A part of the core, and the other parts it may import. Parts of one layer do not know each other.
LAYERS: dict[str, set[str]] = {
    "compiling": set(),
    "failures": set(),
    "values": set(),
    "events": _VALUES,
    "commands": _VALUES,
    "sse": {"failures"},
    "config": {"failures"},
    "loading": {"failures", "config", "policy"},
    "queries": {"failures"},
    "wire": _SETTINGS | {"sse"},
    "routing": _SETTINGS,
    "policy": _SETTINGS,
    "exchange": _DECISIONS | _VOCABULARY,
    "answers": _DECISIONS | _VOCABULARY | {"exchange"},
    "operations": _DECISIONS | _VOCABULARY | {"exchange", "answers"},
    "gateway_values": _DECISIONS | {"queries"},
    "gateway": _DECISIONS | _VOCABULARY | {"exchange", "answers", "operations", "queries", "gateway_values"},
    "__init__": _DECISIONS | _VOCABULARY | {"exchange", "gateway", "gateway_values"},
}
LAYERS["journal"] = set(LAYERS) - {"__init__", "loading"}
LAYERS["testing"] = set(LAYERS)

# A runtime, and the other packages it may import beside the standard library.
PACKAGES: dict[str, set[str]] = {
    "gwproto": {"msgspec", "mypy_extensions"},  # of the latter one type, for type checkers alone
    "gwproto_io": {"gwproto", "msgspec", "h11", "httptools", "anyio", "sniffio"},
    "gwproto_ops": {"gwproto", "msgspec", "psycopg", "prometheus_client", "opentelemetry"},
    "gwproto_asgi": {"gwproto", "gwproto_io", "gwproto_ops", "anyio", "trio", "sniffio"},
    "gwproto_raw": {"gwproto", "gwproto_io", "gwproto_ops"},
    "gwproto_trio": {"gwproto", "gwproto_io", "gwproto_ops", "gwproto_raw", "trio"},
    "gwproto_asyncio": {"gwproto", "gwproto_io", "gwproto_ops", "gwproto_raw", "uvloop"},
    "gwproto_quart": {"gwproto", "gwproto_asgi", "gwproto_ops", "quart", "hypercorn"},
}
PACKAGES["gwproto_cli"] = set.union(*PACKAGES.values(), PACKAGES, {"rich"})


def imported(path: Path) -> Iterator[str]:
    """The modules a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what they import"
            assert node.module is not None
            if node.module == "gwproto":
                yield from (f"gwproto.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layer_violations(core: Path) -> list[str]:
    """Imports inside the core that no layer allows."""
    found = []
    for path in sorted(core.rglob("*.py")):
        relative = path.relative_to(core)
        part = relative.parts[0].removesuffix(".py")
        for module in imported(path):
            package, _, rest = module.partition(".")
            target = rest.partition(".")[0]
            if package == "gwproto" and target != part and target not in LAYERS[part]:
                found.append(f"{relative} imports {module}")
    return found


def package_violations(package: Path) -> list[str]:
    """Imports of other packages than the standard library's and those allowed."""
    allowed = PACKAGES[package.name] | {package.name} | sys.stdlib_module_names
    return [
        f"{path.relative_to(package)} imports {module}"
        for path in sorted(package.rglob("*.py"))
        for module in imported(path)
        if module.partition(".")[0] not in allowed
    ]


def builtin_violations(core: Path) -> list[str]:
    """Builtin functions that do I/O or run code unseen. Ruff's ban only reaches what is imported."""
    outside = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}
    return [
        f"{path.relative_to(core)} calls {node.func.id}"
        for path in sorted(core.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in outside
    ]


def test_the_layers_hold() -> None:
    assert layer_violations(CORE) == []


def test_the_core_calls_no_builtin_that_reaches_outside() -> None:
    assert builtin_violations(CORE) == []


def test_every_part_of_the_core_has_its_place() -> None:
    parts = {path.name.removesuffix(".py") for path in CORE.iterdir() if path.suffix in ("", ".py")}
    assert parts - {"__pycache__", "data"} == set(LAYERS)


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_import_only_what_they_may(name: str) -> None:
    package = CORE if name == "gwproto" else RUNTIMES / name
    assert package_violations(package) == []


def test_every_runtime_has_its_place() -> None:
    names = {path.name for path in RUNTIMES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert names | {"gwproto"} == set(PACKAGES)


def test_a_violation_of_the_layers_is_seen(tmp_path: Path) -> None:
    core = tmp_path / "gwproto"
    shutil.copytree(CORE, core)
    (core / "routing" / "cheat.py").write_text("from gwproto.wire import neutral\nimport requests\n")
    (core / "sse" / "cheat.py").write_text("def f():\n    from gwproto import gateway\n")
    assert layer_violations(core) == [
        "routing/cheat.py imports gwproto.wire",
        "sse/cheat.py imports gwproto.gateway",
    ]
    assert package_violations(core) == ["routing/cheat.py imports requests"]


def test_a_builtin_that_reaches_outside_is_seen(tmp_path: Path) -> None:
    (tmp_path / "cheat.py").write_text("print(open('x'))\n")
    assert builtin_violations(tmp_path) == ["cheat.py calls print", "cheat.py calls open"]


IMPURE = """
import asyncio
import socket
from time import monotonic
from os.path import exists
import datetime
import random
from threading import Lock
import logging
import urllib.request
from http import HTTPStatus

_ = (asyncio, socket, monotonic, exists, Lock, logging, urllib, HTTPStatus)


def now() -> object:
    random.seed()
    return datetime.datetime.now()
"""


def linted(name: str, source: str) -> list[tuple[int, str]]:
    """Line and message of the banned API that the project's own rules find in ``source``, as if it were ``name``."""
    command = (sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=json", "--select=TID251")
    result = subprocess.run(
        (*command, f"--stdin-filename={name}", "-"), input=source, capture_output=True, text=True, cwd=ROOT
    )
    return [(entry["location"]["row"], entry["message"]) for entry in json.loads(result.stdout)]


def test_a_banned_api_is_seen_in_the_core_and_only_there() -> None:
    lines = [line for line, _ in linted("gwproto/routing/cheat.py", IMPURE)]
    assert sorted(lines) == [2, 3, 4, 5, 8, 9, 10, 11, 17, 18]
    assert linted("runtimes/gwproto_io/fine.py", IMPURE) == []


# Of the standard library, what would let the core do I/O, wait, log or run something beside itself.
OUTSIDE = {
    *(
        "_socket",
        "socket",
        "ssl",
        "select",
        "selectors",
        "asyncio",
        "threading",
        "multiprocessing",
        "subprocess",
    ),
    *(
        "concurrent",
        "concurrent.futures",
        "logging",
        "sqlite3",
        "tempfile",
        "http",
        "email",
        "urllib.request",
    ),
    *("trio", "anyio", "h11", "uuid", "secrets", "zoneinfo", "importlib.metadata"),
}

PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import msgspec
before = set(sys.modules)
import gwproto, gwproto.loading, gwproto.testing.simulation, gwproto.wire.dialects
assert all(gwproto.wire.dialects.DIALECTS.values())  # each is loaded when it is asked for
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_importing_the_core_loads_msgspec_and_the_standard_library_only() -> None:
    result = subprocess.run(
        (sys.executable, "-I", "-c", PROBE, str(ROOT)), capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(result.stdout))
    assert {"gwproto.gateway", "gwproto.wire.bedrock"} < loaded
    others = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert others <= {"gwproto", "msgspec"}
    assert loaded & OUTSIDE == set()


def test_formats_are_loaded_when_they_are_asked_for() -> None:
    probe = "import sys, gwproto; print('gwproto.wire.openai' in sys.modules, 'gwproto.wire.gemini' in sys.modules)"
    run = subprocess.run((sys.executable, "-c", probe), cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("name", ["gwproto_asyncio", "gwproto_trio"])
def test_raw_servers_start_without_anyio(name: str) -> None:
    """It takes as long to import as the whole core's formats, and they have no use for it."""
    probe = f"import sys, {name}; print('anyio' in sys.modules)"
    run = subprocess.run((sys.executable, "-c", probe), cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False"]


def test_there_is_no_other_format() -> None:
    assert len(DIALECTS) == len(list(DIALECTS)) == 7
    assert "smoke" not in DIALECTS
    with pytest.raises(KeyError):
        DIALECTS["smoke"]
    assert set(VOCABULARIES) == set(DIALECTS)

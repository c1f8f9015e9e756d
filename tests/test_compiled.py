"""The compiled build: what may be in it, and that it does the same (``docs/compiled.md``)."""

import ast
import contextlib
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gwproto.values import Usage
from gwproto.wire.openai import usage
from gwproto_ops.records.writing import Writer
from hatch_build import COMPILED, source_of

ROOT = Path(__file__).parent.parent
#: ``make test-compiled`` runs these and others with it in front.
BUILT = str(ROOT / "build" / "compiled")


@pytest.mark.parametrize("module", COMPILED)
def test_a_compiled_module_defines_no_struct(module: str) -> None:
    """mypyc would drop ``frozen=True`` and ``gc=False`` without a word."""
    tree = ast.parse((ROOT / source_of(module)).read_bytes())
    keywords = [
        f"class {node.name}({ast.unparse(keyword)})"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for keyword in node.keywords
    ]
    bases = {
        ast.unparse(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases
    }
    assert keywords == []
    assert not {base for base in bases if base.rpartition(".")[2] == "Struct"}


@pytest.mark.parametrize("module", COMPILED)
def test_a_compiled_module_is_there(module: str) -> None:
    file = importlib.import_module(module).__file__
    assert file is not None
    assert (Path(file).suffix != ".py") is (BUILT in sys.path)


def test_no_module_is_listed_twice() -> None:
    assert len(set(COMPILED)) == len(COMPILED)


# Each place in compiled code remembers where it found a name (``runtimes/compiling.h``): the second look-up of the
# same is from memory, and whatever changes in between has to be seen. Interpreted they hold, too.


class Counts:
    __slots__ = (
        "cache_write_tokens",
        "cached_tokens",
        "completion_tokens",
        "prompt_tokens",
        "reasoning_tokens",
        "total_tokens",
    )

    def __init__(self, **counts: int | None) -> None:
        for name, count in counts.items():
            setattr(self, name, count)


def counted(value: Any) -> object:
    return usage.encode_usage(value)["prompt_tokens"]


REST: dict[str, Any] = {
    "completion_tokens": 1,
    "total_tokens": 2,
    "cached_tokens": None,
    "reasoning_tokens": None,
    "cache_write_tokens": None,
}


def test_an_attribute_is_found_whatever_has_it() -> None:
    slots = Counts(prompt_tokens=2, **REST)
    for _ in range(3):
        assert counted(Usage(1, 2, 3)) == counted(Usage(1, 2, 3)) == 1
        assert counted(slots) == counted(slots) == 2
        assert counted(SimpleNamespace(prompt_tokens=3, **REST)) == 3
    with pytest.raises(AttributeError):
        counted(Counts(**REST))


def test_an_attribute_is_found_when_its_class_has_changed() -> None:
    changed: Any = type("Changed", (Counts,), {"__slots__": ()})
    value = changed(prompt_tokens=1, **REST)
    assert counted(value) == counted(value) == 1
    changed.prompt_tokens = property(lambda self: 2)
    assert counted(value) == counted(value) == 2
    del changed.prompt_tokens
    assert counted(value) == counted(value) == 1


def test_a_method_that_was_replaced_is_found() -> None:
    class Nothing:
        __slots__ = ()

        def transaction(self) -> contextlib.nullcontext[None]:
            return contextlib.nullcontext()

        def run(self, sql: str, parameters: object = ()) -> list[object]:
            return []

    class Failure(Exception):
        pass

    def fail(self: Nothing, sql: str, parameters: object = ()) -> list[object]:
        raise Failure

    changed: Any = Nothing
    keep = Nothing.run
    writer = Writer(changed(), 1)
    writer.roll_up()
    writer.roll_up()
    for _ in range(2):
        changed.run = fail
        with pytest.raises(Failure):
            writer.roll_up()
        changed.run = keep
        writer.roll_up()
    assert writer.waiting == 0


def test_a_name_that_was_replaced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Usage, frozen=True):
        pass

    raw = msgspec.Raw(b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}')
    for _ in range(2):
        for expected in (Usage, Usage, Other, Other):
            monkeypatch.setattr(usage, "Usage", expected)
            assert type(usage.decode_usage(raw)[0]) is expected

"""The compiled build: what may be in it, and that it does the same (``docs/compiled.md``)."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

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

"""The list of mutants (``python -m mutants``) fits the source."""

import ast

import pytest
from mutants.__main__ import ROOT, STATEFUL, UNITS
from mutants.seeds import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_every_mutant_is_another_program(mutant: Mutant) -> None:
    source = (ROOT / "gwproto" / mutant.path).read_text("utf-8")
    assert source.count(mutant.old) == 1
    mutated = source.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))


def test_the_tests_they_run_exist() -> None:
    assert all((ROOT / "tests" / name).is_file() for name in (*STATEFUL, *UNITS))

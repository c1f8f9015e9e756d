"""The documentation's code runs, and its links lead somewhere."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_tour_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tour.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/tour.md", "exec"), names)
    assert names["exchange"].finished


@pytest.mark.parametrize("page", ["design.md", "testing.md"])
def test_tests_that_are_named_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    named = re.findall(r"`(test_\w+\*?)(?:::(\w+))?`", text)
    assert len(named) > 10
    for pattern, test in named:
        modules = list((ROOT / "tests").glob(f"{pattern}.py"))
        assert modules, pattern
        assert not test or f"def {test}(" in modules[0].read_text("utf-8"), test


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target

"""``python -m scenarios`` (in ``tests``) writes the goldens anew, for review in the diff."""

from pathlib import Path

from scenarios.in_simulator import run
from scenarios.model import rendered
from scenarios.table import TABLE

GOLDENS = Path(__file__).parent / "goldens"

if __name__ == "__main__":
    names = {f"{scenario.name}.txt" for scenario in TABLE}
    for left_over in GOLDENS.iterdir():
        if left_over.name not in names:
            left_over.unlink()
    for scenario in TABLE:
        (GOLDENS / f"{scenario.name}.txt").write_text(rendered(scenario, run(scenario)), encoding="utf-8")

"""Run the tests of exchange, routing and policy against every mutant. A long run; exit code 1 under 90 % killed.

Tests run on a copy of the package, with the same examples every time. A run that hangs has noticed, too.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mutants.seeds import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
STATEFUL = ("test_exchange_stateful.py", "test_routing_stateful.py")
UNITS = (
    "test_cases.py",
    "test_exchange.py",
    "test_exchange_limits.py",
    "test_gears.py",
    "test_gateway.py",
    "test_hedging.py",
    "test_keys.py",
    "test_policy_hedging.py",
    "test_policy_ratelimit.py",
    "test_policy_refusals.py",
    "test_policy_retry.py",
    "test_rotation.py",
    "test_routing_health.py",
    "test_routing_lineup.py",
    "test_routing_plan.py",
    "test_routing_quota.py",
    "test_routing_router.py",
    "test_routing_score.py",
    "test_routing_snapshot.py",
    "test_routing_spare.py",
    "test_single_flight.py",
    # The longest last: whoever is noticed before need not wait for them.
    "test_probe_interleavings.py",
    "test_invariants.py",
)
TIMEOUT = 300.0  # seconds; a run takes a fifth of that
SHARE = 0.9


def first_failure(tree: Path, tests: Sequence[str]) -> str:
    """The first test that fails in ``tree``; ``""``: all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-rfE", "-c", str(tree / "pyproject.toml")]
    command += ["-p", "mutants.quick", "--hypothesis-profile", "mutants"]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",  # sources change faster than their times of modification
        "PYTHONPATH": os.pathsep.join([str(tree / name) for name in ("", "runtimes", "tests")]),
    }
    try:
        run = subprocess.run(
            [*command, *[str(tree / "tests" / name) for name in tests]],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return "(hangs)"
    if run.returncode == 0:
        return ""
    found = re.search(
        r"^(?:FAILED|ERROR) (?:.*/)?(test_\w+\.py)(?:::(\w+))?(?:::(\w+))?", run.stdout, re.MULTILINE
    )
    if found is None:
        raise SystemExit(f"pytest failed without a test:\n{run.stdout}{run.stderr}")
    return "::".join(filter(None, found.groups()))


def judge(tree: Path, mutant: Mutant) -> tuple[str, str]:
    """Who of the stateful tests and who of the others notices first."""
    path = tree / "gwproto" / mutant.path
    source = path.read_text("utf-8")
    assert source.count(mutant.old) == 1, mutant
    path.write_text(source.replace(mutant.old, mutant.new), "utf-8")
    try:
        return first_failure(tree, STATEFUL), first_failure(tree, UNITS)
    finally:
        path.write_text(source, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--only", default="", help="those whose path or description contains this")
    only = parser.parse_args().only
    chosen = [mutant for mutant in MUTANTS if only in mutant.path or only in mutant.breaks]
    by_stateful = killed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        nothing = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in ("docs", "gwproto", "runtimes", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=nothing)
        shutil.copy(ROOT / "pyproject.toml", tree)
        failed = first_failure(tree, (*STATEFUL, *UNITS))
        if failed:
            raise SystemExit(f"without any mutant {failed} fails")
        for number, mutant in enumerate(chosen, 1):
            began = time.monotonic()
            stateful, unit = judge(tree, mutant)
            by_stateful += bool(stateful)
            killed += bool(stateful or unit)
            verdict = "killed" if stateful or unit else "SURVIVED"
            print(
                f"{number:2} {verdict:8} {mutant.path}: {mutant.breaks}  ({time.monotonic() - began:.0f} s)"
            )
            print(f"     stateful: {stateful or '-'}\n     other:    {unit or '-'}", flush=True)
    print(f"{killed} of {len(chosen)} killed, {by_stateful} by the stateful tests alone")
    return 0 if killed >= SHARE * len(chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main())

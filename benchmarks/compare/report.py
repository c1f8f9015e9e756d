"""What was measured: as a table, as JSON, and what its reader must know."""

import shlex
from collections.abc import Mapping
from typing import Any

from benchmarks import overhead
from benchmarks.compare.peers import Peer
from benchmarks.compare.run import Report, digits

SCHEMA = 1  # of the JSON; grows when a key is removed or means something else


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a line per figure, a column per peer, with the ratio to the reference beside each median."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for figure in report.figures:
        ratio = "" if figure.ratio is None else f" ({digits(figure.ratio)})"
        rows.setdefault((figure.name, figure.unit), {})[figure.peer] = f"{digits(figure.median)}{ratio}"
    lines = [
        [f"{name} [{unit}]", *(cells.get(peer, "-") for peer in report.targets)]
        for (name, unit), cells in rows.items()
    ]
    errors = dict.fromkeys(report.targets, 0)
    for problem in report.problems:
        errors[problem.peer] += problem.times
    lines.append(["errors", *map(str, errors.values())])
    return ["median of the rounds", *report.targets], lines


def remarks(report: Report) -> list[str]:
    """What went wrong, and what makes figures doubtful."""
    found = []
    for problem in report.problems:
        often = "" if problem.times == 1 else f" ({problem.times} times)"
        found.append(f"{problem.peer}, round {problem.round + 1}, {problem.scenario}{often}: {problem.error}")
    measured = [one for one in report.passes if one["cpu"]]
    if note := overhead.disturbance(measured):
        found.append(note)
    for one in report.passes:
        if one["late"] > one["p50"]:
            found.append(
                f"{one['peer']}, round {one['round'] + 1}: the load generator itself was up to "
                f"{one['late'] * 1e3:.1f} ms behind its schedule, which is in the latencies."
            )
    return found


def as_json(report: Report, chosen: Mapping[str, Peer], options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "machine": overhead.machine(),
        "options": dict(options),
        "reference": report.reference or None,
        "peers": [
            {
                "name": name,
                "about": chosen[name].about if name in chosen else "",
                "source": chosen[name].source if name in chosen else "",
                "tried": chosen[name].tried if name in chosen else "",
                "command": shlex.join(chosen[name].command) if name in chosen else "",
                "errors": sum(problem.times for problem in report.problems if problem.peer == name),
            }
            for name in report.targets
        ],
        "figures": [
            {
                "peer": figure.peer,
                "name": figure.name,
                "unit": figure.unit,
                "median": figure.median,
                "min": min(figure.values),
                "max": max(figure.values),
                "values": figure.values,
                "ratio": figure.ratio,
                "ratios": figure.ratios,
            }
            for figure in report.figures
        ],
        "problems": [problem._asdict() for problem in report.problems],
        "passes": report.passes,
    }

"""What a comparison of policies comes to: as JSON, and as rows of a table."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from gwproto.testing.simulation.measures import Figures
from gwproto.testing.simulation.run import simulate
from gwproto.testing.simulation.scenario import Policy, Scenario, Trouble

COLUMNS = (
    *("scenario", "policy", "requests", "ok %", "failed", "avoidable", "cut"),
    *("ttft p50", "p95", "p99", "total p95", "attempts", "max", "429/h", "budget", "probes", "back s"),
)


class Phase(Struct, frozen=True):
    """A provider's trouble, in seconds from the start."""

    provider: str
    start: float
    until: float
    what: str


class Result(Struct, frozen=True):
    """One scenario under several policies, the first of them the one that others are compared with."""

    scenario: str
    description: str
    seed: int
    requests: int
    seconds: float
    phases: tuple[Phase, ...]
    policies: tuple[Figures, ...]


def compare(
    scenario: Scenario,
    policies: Sequence[Policy],
    *,
    seed: int | None = None,
    requests: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Run a scenario under each policy in turn. They meet the same arrivals and the same troubles."""
    seed = scenario.seed if seed is None else seed
    requests = scenario.load.requests if requests is None else requests
    seconds = requests / scenario.load.rate
    return Result(
        scenario=scenario.name,
        description=scenario.description,
        seed=seed,
        requests=requests,
        seconds=round(seconds, 4),
        phases=_phases(scenario, seconds),
        policies=tuple(
            [
                simulate(scenario, policy, seed=seed, requests=requests, progress=progress)
                for policy in policies
            ]
        ),
    )


def to_json(results: Sequence[Result]) -> bytes:
    """Indented; the same results give the same bytes."""
    return msgspec.json.format(msgspec.json.encode({"scenarios": results}), indent=2) + b"\n"


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One row for each scenario and policy, under :data:`COLUMNS`."""
    return [_row(result.scenario, figures) for result in results for figures in result.policies]


def share_rows(result: Result) -> list[tuple[str, ...]]:
    """One row for each provider: its share of the successes under each policy, in percent."""
    providers = result.policies[0].shares
    return [(name, *[_percent(figures.shares[name]) for figures in result.policies]) for name in providers]


def _row(scenario: str, figures: Figures) -> tuple[str, ...]:
    back = [recovery.seconds for recovery in figures.recoveries if recovery.seconds is not None]
    ttft = figures.ttft
    return (
        scenario,
        figures.policy,
        str(figures.requests),
        _percent(figures.success_rate),
        str(figures.failed),
        str(figures.failed_while_healthy),
        str(figures.cut),
        _seconds(ttft.p50),
        _seconds(ttft.p95),
        _seconds(ttft.p99),
        _seconds(figures.total.p95),
        f"{figures.attempts_mean:.3f}",
        str(figures.attempts_max),
        f"{figures.throttled_per_hour:.0f}",
        f"{figures.retry_budget_used:.2f}",
        str(figures.probes_at_once),
        f"{max(back):.0f}" if back else "-",
    )


def _percent(share: float) -> str:
    return f"{100.0 * share:.2f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _phases(scenario: Scenario, seconds: float) -> tuple[Phase, ...]:
    found = []
    for provider in scenario.providers:
        for trouble in provider.troubles:
            shift = 0.0
            while shift + trouble.start < seconds:
                until = min(shift + trouble.until, shift + scenario.length, seconds)
                found.append(Phase(provider.name, shift + trouble.start, until, _what(trouble)))
                shift += scenario.length
    return tuple(found)


def _what(trouble: Trouble) -> str:
    """A trouble in a word or two."""
    words = [
        word
        for is_so, word in (
            (trouble.dead, "dead"),
            (trouble.throttled, "429 with hints" if trouble.hint else "429"),
            (trouble.errors, "errors"),
            (trouble.resets, "resets"),
            (trouble.stalls, "stalls"),
            (trouble.slow != 1.0, "slow"),
        )
        if is_so
    ]
    return ("flapping, " if trouble.period else "") + (", ".join(words) or "nothing")

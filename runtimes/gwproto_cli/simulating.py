"""``gwproto simulate``: policies side by side on a virtual clock."""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import gwproto
from gwproto.failures import ConfigurationError
from gwproto.testing.simulation import (
    COLUMNS,
    GATEWAY,
    ROUND_ROBIN,
    Policy,
    Result,
    Scenario,
    compare,
    plot,
    read_policy,
    read_scenario,
    rows,
    share_rows,
    to_json,
)
from gwproto_cli.tables import print_table

LIBRARY = Path(gwproto.__file__).parent / "data" / "scenarios"
_BUILT_IN = {policy.name: policy for policy in (GATEWAY, ROUND_ROBIN)}
#: Nothing here makes garbage in circles worth looking for at Python's default of every 700 objects.
_GC_THRESHOLD = 50_000


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help="a file, or the name of one of the library's (default: the whole library)",
    )
    parser.add_argument("--list", action="store_true", help="list the library's scenarios")
    parser.add_argument("--seed", type=int, metavar="N", help="chance's seed (default: each scenario's own)")
    parser.add_argument(
        "--requests",
        type=int,
        metavar="N",
        help="simulate so many requests, over all scenarios and policies together",
    )
    parser.add_argument(
        "--policy",
        action="append",
        metavar="NAME",
        help="gwproto, round-robin, or a configuration file laid over each scenario's settings; may be repeated "
        "(default: gwproto and round-robin)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; -: to standard output")
    parser.add_argument(
        "--plot", metavar="FILE", help="write a picture, FILE.svg, or one for each scenario into a directory"
    )


def run(options: argparse.Namespace) -> None:
    """Simulate, and print a table. Raises :class:`ConfigurationError` for whatever cannot be read or written."""
    if options.list:
        library = [_scenario(name) for name in _library()]
        print_table(("scenario", "description"), [(one.name, one.description) for one in library])
        return
    scenarios = [_scenario(name) for name in _chosen(options.scenarios)]
    policies = [_policy(name) for name in options.policy or _BUILT_IN]
    counts = _counts(scenarios, len(policies), options.requests)
    gc.set_threshold(_GC_THRESHOLD)
    results = []
    with _progress(sum(counts) * len(policies)) as told:
        for scenario, count in zip(scenarios, counts, strict=True):
            with _named(scenario.name):  # a policy's settings may not go with it
                results.append(compare(scenario, policies, seed=options.seed, requests=count, progress=told))
    if options.json != "-":
        _print(results)
    _write(options, results)


def _library() -> dict[str, Path]:
    return {path.stem: path for path in sorted(LIBRARY.glob("*.toml"))}


def _chosen(names: Sequence[str]) -> Iterator[str]:
    for name in names or ("library",):
        if name == "library":
            yield from _library()
        else:
            yield name


def _scenario(name: str) -> Scenario:
    library = _library()
    path = library.get(name)
    if path is None:
        if not name.endswith(".toml") and not Path(name).exists():
            near = get_close_matches(name, library, n=1, cutoff=0.0)
            raise ConfigurationError(((name, f"is no scenario; the nearest known one is {near[0]}"),))
        path = Path(name)
    text = _bytes(path)
    with _named(path):
        return read_scenario(text, "content")


def _policy(name: str) -> Policy:
    policy = _BUILT_IN.get(name)
    if policy is not None:
        return policy
    path = Path(name)
    if not name.endswith(".toml") and not path.exists():
        raise ConfigurationError(((name, f"is no policy; there are {', '.join(_BUILT_IN)}, and files"),))
    text = _bytes(path)
    with _named(path):
        return read_policy(text, path.stem, "content")


@contextmanager
def _named(name: object) -> Iterator[None]:
    """Say in every problem what it is in: there may be several files."""
    try:
        yield
    except ConfigurationError as error:
        problems = tuple([(f"{name}: {path}", problem) for path, problem in error.problems])
        raise ConfigurationError(problems) from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(((str(path), error.strerror or "cannot be read"),)) from error


def _counts(scenarios: Sequence[Scenario], policies: int, wanted: int | None) -> list[int]:
    """How many requests each scenario gets: its own number, or its part of all that are wanted."""
    own = [scenario.load.requests for scenario in scenarios]
    if wanted is None:
        return own
    if wanted < len(own) * policies:
        raise ConfigurationError(
            (("--requests", f"is less than one for each of {len(own) * policies} runs"),)
        )
    total = sum(own)
    counts = [max(1, wanted * count // (total * policies)) for count in own]
    counts[0] += max(0, wanted // policies - sum(counts))  # what rounding left over
    return counts


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:  # the extra "cli" is not installed
        yield None
        return
    columns = (TextColumn("requests"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _print(results: Sequence[Result]) -> None:
    print_table(COLUMNS, rows(results))
    if len(results) == 1:
        (result,) = results
        print()
        names = [f"{figures.policy} %" for figures in result.policies]
        print_table(("provider", *names), share_rows(result))


def _write(options: argparse.Namespace, results: Sequence[Result]) -> None:
    if options.json == "-":
        sys.stdout.write(to_json(results).decode())
    elif options.json:
        _save(Path(options.json), to_json(results))
    if options.plot:
        place = Path(options.plot)
        if place.suffix == ".svg":
            _save(place, plot(results).encode())
        else:
            for result in results:
                _save(place / f"{result.scenario}.svg", plot([result]).encode())


def _save(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise ConfigurationError(((str(path), error.strerror or "cannot be written"),)) from error

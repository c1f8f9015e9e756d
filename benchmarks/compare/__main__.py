"""``python -m benchmarks.compare``: gateways beside each other, on the same core, with the same requests.

Throughput, latency at a fixed rate, CPU per request and per chunk, memory and start, of every peer that is installed
(``--list``) or of a URL where something runs already.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import overhead, servers
from benchmarks.compare import peers, plot, report, run
from benchmarks.compare.peers import Peer, PeersError

BAR = 24  # characters


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--list", action="store_true", help="show the peers, and how to get those not here")
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME",
        help="measure this one; may be repeated (default: all that are installed)",
    )
    parser.add_argument("--peers", type=Path, metavar="FILE", help="more peers, over the shipped ones")
    parser.add_argument(
        "--reference",
        metavar="NAME",
        help="what ratios refer to, or none (default: nginx, or relay where it is missing; none with --url)",
    )
    url = parser.add_argument_group("something that runs already")
    url.add_argument(
        "--url", help="its base URL, as clients of OpenAI's API take it; other peers only if named"
    )
    url.add_argument(
        "--model",
        default="",
        help="asked for at the URL (default: those of the mock provider, whose answers are checked)",
    )
    url.add_argument("--key", default="", help="sent as bearer token")
    url.add_argument("--name", default="", help="in the results (default: the URL's host)")
    url.add_argument("--pid", type=int, default=0, help="its process, for CPU and memory")
    url.add_argument("--provider-port", type=int, default=0, help="where the mock provider listens")
    parser.add_argument(
        "--scenario", action="append", metavar="TEXT", help="only those whose name has this text"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=float, default=2.0, help="seconds per pass")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second of the latency pass")
    parser.add_argument("--quick", action="store_true", help="2 rounds of short passes")
    parser.add_argument(
        "--allow-sleep",
        action="store_true",
        help="let the servers' core sleep when idle (see benchmarks/awake.py)",
    )
    parser.add_argument(
        "--serve-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="one more option for gwproto serve, as --serve-option=--no-access-log",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write bars as SVG there")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.duration = 2, 0.3
    for name in ("rounds", "duration", "rate"):
        if getattr(options, name) <= 0:
            parser.error(f"argument --{name}: must be positive")
    for name in ("model", "key", "name", "pid"):
        if getattr(options, name) and not options.url:
            parser.error(f"argument --{name}: says something of --url, which is missing")
    return options


def choose(known: dict[str, Peer], options: argparse.Namespace) -> tuple[str, dict[str, Peer]]:
    """The reference's name (empty: none), and whom to measure, the reference first. Raises :class:`PeersError`."""
    here = [name for name, peer in known.items() if not peer.missing()]
    reference: str = options.reference or ("" if options.url else "nginx" if "nginx" in here else "relay")
    reference = "" if reference == "none" else reference
    named = options.peer
    if named is None:
        # The relay is the reference's stand-in, no gateway.
        named = [] if options.url else [name for name in here if name not in ("nginx", "relay")]
    chosen = {}
    for name in filter(None, [reference, *named]):
        if name not in known:
            raise PeersError(f"{name}: unknown peer; known are {', '.join(known)}")
        if missing := known[name].missing():
            raise PeersError(f"{name}: {missing}; {known[name].install}")
        chosen[name] = known[name]
    return reference, chosen


def listing(known: dict[str, Peer]) -> Iterator[str]:
    """What is known of each peer, and how to get it if it is not here. A few lines each."""
    for name, peer in known.items():
        missing = peer.missing()
        yield f"{name:18}{missing or 'installed'}"
        told = (("", peer.about), ("install: ", peer.install if missing else ""))
        for title, text in (
            *told,
            ("note: ", peer.notes),
            ("tried: ", peer.tried),
            ("source: ", peer.source),
        ):
            if text:
                yield f"{'':18}{title}{text}"


def progress_bar(total: int) -> Callable[[str], None]:
    """Shows, on a terminal, how much of ``total`` steps is done, and what the next one is."""
    done = 0

    def step(what: str) -> None:
        nonlocal done
        if sys.stderr.isatty():
            full = BAR * done // max(1, total)
            bar = "█" * full + "·" * (BAR - full)
            print(f"\r\x1b[K{bar} {done}/{total} {what}", end="", file=sys.stderr, flush=True)
        done += 1

    return step


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when nothing could be measured, or what was asked for makes no sense."""
    options = arguments(argv)
    try:
        known = peers.load(options.peers)
        if options.list:
            print(*listing(known), sep="\n")
            return 0
        reference, chosen = choose(known, options)
        urls = []
        if options.url:
            urls = [run.at_url(options.url, options.name, options.model, options.key, options.pid)]
            if urls[0].name in chosen:
                raise PeersError(f"{urls[0].name}: is the name of a peer; --name gives the URL another")
    except (PeersError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    wanted = options.scenario or [""]
    scenarios = [scenario for scenario in run.SCENARIOS if any(part in scenario.name for part in wanted)]
    if not scenarios or not (chosen or urls):
        names = ", ".join(scenario.name for scenario in run.SCENARIOS)
        print(f"nothing to measure; scenarios are {names}", file=sys.stderr)
        return 1
    steps = options.rounds * (len(chosen) + (len(chosen) + len(urls)) * len(scenarios))
    try:
        found = run.run(
            chosen,
            urls,
            scenarios,
            reference=reference,
            rounds=options.rounds,
            duration=options.duration,
            rate=options.rate,
            awake=not options.allow_sleep,
            provider_port=options.provider_port,
            more=options.serve_option,
            progress=progress_bar(steps),
        )
    except servers.BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
    if found.figures:
        title = (
            f"one core; in parentheses the ratio to {reference} in the same round"
            if reference
            else "one core"
        )
        overhead.show(*report.table(found), title)
    for remark in report.remarks(found):
        print(remark, file=sys.stderr)
    if options.json:
        told = ("rounds", "duration", "rate", "serve_option", "url", "model", "provider_port")
        settings = {name: getattr(options, name) for name in told} | {
            "awake": not options.allow_sleep,
            "scenarios": [scenario.name for scenario in scenarios],
        }
        options.json.write_text(json.dumps(report.as_json(found, chosen, settings), indent=1) + "\n")
    if options.plot:
        for path in plot.write(found, options.plot):
            print(path, file=sys.stderr)
    return 0 if found.figures else 1


if __name__ == "__main__":
    sys.exit(main())

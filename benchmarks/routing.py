"""``python -m benchmarks.routing``: µs of CPU for choosing a target and learning from its answer, and how it grows.

Requests are so far apart that they come at the rate a column names: what is computed anew every second is shared by
more of them the more there are. The last column compares the fastest rate with ``json.loads`` of a small request.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.micro import microseconds
from gwproto.config import ModelSettings, ProviderSettings, Settings
from gwproto.failures import Failure, FailureClass
from gwproto.routing.catalog import compile_catalog
from gwproto.routing.demand import Demand
from gwproto.routing.router import Plan, Router, Ticket
from gwproto.values import Limit

SIZES = ((1, 1), (12, 10), (50, 10), (100, 10))  # providers, models of each
RATES = (20.0, 200.0, 1000.0)  # requests per second
FAILED = Failure(FailureClass.SERVER, "broken")
LEFT = (Limit("requests", "minute", 10**6, 10**6, 60.0), Limit("tokens", "minute", 10**9, 10**9, 60.0))
SMALL = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello, who are you?"}]})


class Bench:
    """A router over so many targets, and one request after the other, ``1 / rate`` seconds apart."""

    def __init__(self, providers: int, models: int, rate: float, *, limits: bool = False) -> None:
        settings = Settings(
            providers=tuple(
                ProviderSettings(
                    name=f"p{number}",
                    base_url=f"http://10.0.{number // 200}.{number % 200 + 1}/v1",
                    models=tuple(
                        ModelSettings(id=f"p{number}-m{model}", requests_per_day=10**9 * limits)
                        for model in range(models)
                    ),
                )
                for number in range(providers)
            )
        )
        names = {entry.name: [entry.name] for entry in settings.providers}
        self.router = Router(compile_catalog(settings, names), settings, rng=random.Random(1))
        self.limits = limits
        self.step = 1.0 / rate
        self.now = 1e6
        self.count = 0

    def pick(self) -> tuple[Plan, Ticket]:
        self.now += self.step
        plan = self.router.plan(Demand())
        assert isinstance(plan, Plan)
        ticket = self.router.pick(plan, self.now, deadline=self.now + 60)
        assert isinstance(ticket, Ticket)
        return plan, ticket

    def serve(self, ticket: Ticket) -> None:
        if self.limits:
            self.router.limits(ticket, LEFT, self.now)
        self.router.content(ticket, self.now)
        self.router.success(ticket, self.now, 100)

    def good(self) -> None:
        """Pick and report a success."""
        self.serve(self.pick()[1])

    def mixed(self) -> None:
        """One request in fifty fails and goes elsewhere."""
        self.count += 1
        plan, ticket = self.pick()
        if self.count % 50 == 0:
            self.router.failure(ticket, FAILED, self.now)
            other = self.router.pick(plan, self.now, tried={ticket.target.backend}, deadline=self.now + 60)
            if not isinstance(other, Ticket):
                return  # there was only one
            ticket = other
        self.serve(ticket)


KINDS: dict[str, Callable[[int, int, float], Callable[[], None]]] = {
    "all succeed": lambda providers, models, rate: Bench(providers, models, rate).good,
    "with limits": lambda providers, models, rate: Bench(providers, models, rate, limits=True).good,
    "2 % fail over": lambda providers, models, rate: Bench(providers, models, rate).mixed,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description="CPU of the routing")
    parser.add_argument("--seconds", type=float, default=0.2, help="per measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)

    def cost(call: Callable[[], object]) -> float:
        return microseconds(call, options.seconds, options.repeats)

    unit = cost(lambda: json.loads(SMALL))
    print(f"json.loads of a request of {len(SMALL)} bytes: {unit:.2f} µs")
    print(f"{'plan, pick and report':24}" + "".join(f"{f'{rate:.0f}/s':>12}" for rate in RATES))
    report: dict[str, dict[str, float]] = {"json.loads": {"request": unit}}
    for kind, make in KINDS.items():
        for providers, models in SIZES:
            name = f"{kind}, {providers} x {models}"
            row = report[name] = {f"{rate:.0f}/s": cost(make(providers, models, rate)) for rate in RATES}
            cells = "".join(f"{one:9.2f} µs" for one in row.values())
            print(f"{name:24}{cells} {row[f'{RATES[-1]:.0f}/s'] / unit:7.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

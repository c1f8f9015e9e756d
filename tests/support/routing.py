"""Small catalogs, and a router with its clock, for tests."""

import random

import msgspec

from gwproto.config import ModelSettings, ProviderSettings, Settings
from gwproto.failures import Failure, FailureClass
from gwproto.routing.catalog import Catalog, compile_catalog
from gwproto.routing.demand import Demand
from gwproto.routing.router import NoTarget, Router, Ticket, Wait
from gwproto.routing.ticket import Plan

START = 70_000.0
OVERLOADED = Failure(FailureClass.OVERLOADED, "busy")
SERVER = Failure(FailureClass.SERVER, "broken")
UNREACHABLE = Failure(FailureClass.UNREACHABLE, "refused")
AUTH = Failure(FailureClass.AUTH, "bad key")
GONE = Failure(FailureClass.MODEL_GONE, "removed")
THROTTLED = Failure(FailureClass.RATE_MINUTE, "slow down")
INVALID = Failure(FailureClass.INVALID, "no")


def throttled(seconds: float) -> Failure:
    return Failure(FailureClass.RATE_MINUTE, "slow down", retry_after=seconds)


def provider(name: str, *models: str | ModelSettings, **changes: object) -> ProviderSettings:
    values: dict[str, object] = {
        "name": name,
        "base_url": f"https://{name}.example/v1",
        "models": tuple(
            ModelSettings(id=model) if isinstance(model, str) else model
            for model in models or (f"{name}-model",)
        ),
    }
    return ProviderSettings(**{**values, **changes})  # type: ignore[arg-type]  # tests name what they change


class NoJitter(random.Random):
    """Chance at its lower end."""

    def random(self) -> float:
        return 0.0


class Desk:
    """A router, a clock, and words for what happens at it."""

    def __init__(
        self,
        *providers: ProviderSettings,
        credentials: dict[str, tuple[str, ...]] | None = None,
        epoch: float = 0.0,
        rng: random.Random | None = None,
        **changes: object,
    ) -> None:
        self.settings = Settings(providers=providers, **changes)  # type: ignore[arg-type]  # tests name what they change
        self.credentials = credentials or {}
        self.catalog = compile_catalog(self.settings, self.credentials)
        self.router = Router(self.catalog, self.settings, rng=rng or NoJitter(), epoch=epoch)
        self.now = START

    def reload(self, *providers: ProviderSettings, renewed: tuple[str, ...] = ()) -> Catalog:
        self.settings = Settings(providers=providers)
        self.catalog = compile_catalog(self.settings, self.credentials)
        self.router.reconfigure(self.catalog, self.settings, self.now, renewed=renewed)
        return self.catalog

    def plan(self, **demand: object) -> Plan:
        made = self.router.plan(Demand(**demand))  # type: ignore[arg-type]  # tests name what they ask for
        assert isinstance(made, Plan)
        return made

    def refusal(self, **demand: object) -> Failure:
        made = self.router.plan(Demand(**demand))  # type: ignore[arg-type]  # see above
        assert isinstance(made, Failure)
        return made

    def ask(
        self,
        plan: Plan | None = None,
        *,
        tried: set[object] | None = None,
        last: Ticket | None = None,
        again: bool = False,
        within: float = 600.0,
    ) -> Ticket | Wait | NoTarget:
        return self.router.pick(
            plan or self.plan(),
            self.now,
            tried=tried or set(),
            last=None if last is None else last.target,
            deadline=self.now + within,
            again=again,
        )

    def pick(
        self,
        plan: Plan | None = None,
        *,
        tried: set[object] | None = None,
        last: Ticket | None = None,
        again: bool = False,
    ) -> Ticket:
        choice = self.ask(plan, tried=tried, last=last, again=again)
        assert isinstance(choice, Ticket), choice
        return choice

    def serve(self, plan: Plan | None = None) -> str:
        """One request that succeeds at once; who served it."""
        ticket = self.pick(plan)
        self.router.content(ticket, self.now)
        self.router.success(ticket, self.now)
        return ticket.target.id

    def fail(self, ticket: Ticket, failure: Failure = SERVER) -> None:
        self.router.failure(ticket, failure, self.now)

    def fail_all(self, name: str, failure: Failure = SERVER, times: int = 3) -> None:
        """Let requests pinned to a provider fail until it cools down."""
        for _ in range(times):
            self.fail(self.pick(self.plan(provider=name)), failure)

    def standing(self) -> dict[str, str]:
        return {status.target: status.status for status in self.router.statuses(self.now)}

    def reasons(self, plan: Plan) -> dict[str, str]:
        return {candidate.target: candidate.reason for candidate in self.router.explain(plan, self.now)}


def leaves(value: object, path: str = "") -> dict[str, object]:
    """What a value is made of, by where it is in it: to be compared with ``pytest.approx``."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {path: value}
    return {
        place: leaf for key, part in value.items() for place, leaf in leaves(part, f"{path}/{key}").items()
    }


def standing_of(router: Router, now: float) -> dict[str, object]:
    """All that a router knows of its providers and that outlives it."""
    return leaves(msgspec.to_builtins(router.snapshot(now)))

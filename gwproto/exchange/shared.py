"""What the exchanges of one gateway share."""

import random

from gwproto.config import Settings
from gwproto.exchange.flight import Flight, Key
from gwproto.policy.hedging import Hedging
from gwproto.policy.refusals import Refusals
from gwproto.policy.retry import RetryBudget
from gwproto.routing.router import Router


class Shared:
    """Held by the gateway, read by its exchanges. ``epoch`` turns monotonic into wall time: ``now + epoch``."""

    __slots__ = (
        "_listed_at",
        "budget",
        "epoch",
        "flights",
        "hedging",
        "in_flight",
        "refusals",
        "rng",
        "router",
        "settings",
    )

    def __init__(self, settings: Settings, router: Router, rng: random.Random, epoch: float) -> None:
        self.settings = settings
        self.router = router
        self.budget = RetryBudget(settings.retry.budget_ratio, settings.retry.budget_floor)
        self.hedging = Hedging(settings.hedge)
        self.flights: dict[Key, Flight] = {}  # that may be joined
        self.refusals = Refusals()
        self.rng = rng
        self.epoch = epoch
        self.in_flight = 0  # chat exchanges begun and not finished
        self._listed_at: int | None = None

    def reconfigure(self, settings: Settings) -> None:
        """Exchanges in flight keep the settings they began with."""
        self.settings = settings
        self.budget.reconfigure(settings.retry.budget_ratio, settings.retry.budget_floor)
        self.hedging.reconfigure(settings.hedge)

    def asked(self, now: float) -> None:
        """A request is about to be served: both budgets grow with their number."""
        self.budget.request(now)
        if self.settings.hedge.enabled:
            self.hedging.request()

    def listed_at(self, now: float) -> int:
        """When models were first listed, in seconds since 1970: what they show as ``created``, always the same.

        ``epoch`` will not do: a monotonic clock's zero is any time at all, hours before the start on trio.
        """
        if self._listed_at is None:
            self._listed_at = int(now + self.epoch)
        return self._listed_at

    def new_id(self) -> str:
        """128 random bits in hexadecimal."""
        return self.rng.getrandbits(128).to_bytes(16, "big").hex()

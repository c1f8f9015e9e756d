"""What the exchanges of one gateway share."""

import random

from gwproto.config import Settings
from gwproto.policy.retry import RetryBudget
from gwproto.routing.router import Router


class Shared:
    """Held by the gateway, read by its exchanges. ``epoch`` turns monotonic into wall time: ``now + epoch``."""

    __slots__ = ("budget", "epoch", "in_flight", "rng", "router", "settings")

    def __init__(self, settings: Settings, router: Router, rng: random.Random, epoch: float) -> None:
        self.settings = settings
        self.router = router
        self.budget = RetryBudget(settings.retry.budget_ratio, settings.retry.budget_floor)
        self.rng = rng
        self.epoch = epoch
        self.in_flight = 0  # chat exchanges begun and not finished

    def reconfigure(self, settings: Settings) -> None:
        """Exchanges in flight keep the settings they began with."""
        self.settings = settings
        self.budget.reconfigure(settings.retry.budget_ratio, settings.retry.budget_floor)

    def new_id(self) -> str:
        """128 random bits in hexadecimal."""
        return f"{self.rng.getrandbits(128):032x}"

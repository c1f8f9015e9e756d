"""Plain round robin: what the gateway's router is compared with."""

from collections.abc import Collection, Iterable

from gwproto.failures import Failure
from gwproto.routing.catalog import Target
from gwproto.routing.router import NoTarget, Plan, Router, Ticket, Wait
from gwproto.values import Limit


class RoundRobin(Router):
    """The next capable target in turn, whatever is known of it; after a failure the one after that."""

    def pick(
        self,
        plan: Plan,
        now: float,
        *,
        tried: Collection[object] = (),
        last: Target | None = None,
        deadline: float,
        again: bool = False,
    ) -> Ticket | Wait | NoTarget:
        seats = [seat for group in plan.shape.groups for seat in group.seats]
        open_to = {seat.target.id: seat for seat in seats if seat.target.backend not in tried}
        if not open_to:
            return NoTarget("exhausted", None)
        everybody = [seat.target.id for seat in seats]
        chosen = plan.shape.turns.turn(everybody, [1.0] * len(everybody), open_to)
        return self._issue(plan, open_to[chosen], now)

    def content(self, ticket: Ticket, now: float) -> None:
        """Nothing is learned from it."""

    def limits(self, ticket: Ticket, limits: Iterable[Limit], now: float) -> None:
        """Nor from this."""

    def success(self, ticket: Ticket, now: float, tokens: int = 0) -> None:
        self._end(ticket)

    def failure(self, ticket: Ticket, failure: Failure, now: float) -> None:
        self._end(ticket)

"""The router: which target serves a request, and what its attempts teach.

``plan`` once per request, then ``pick`` for each attempt. A :class:`Ticket` is one attempt's hold on its target; it
goes back by exactly one of ``success``, ``failure``, ``release`` and ``overtaken``. Everything happens at the moment of
a call: there are no timers, a cooldown ends when somebody looks.
"""

import math
import random
from collections.abc import Collection, Iterable

from gwproto.compiling import mypyc_attr
from gwproto.config import Settings
from gwproto.failures import Effect, Failure, FailureClass, LocalProtocolError, Scope
from gwproto.routing.affinity import Affinity
from gwproto.routing.catalog import Catalog, Target
from gwproto.routing.demand import Demand
from gwproto.routing.explain import decision, recent
from gwproto.routing.health import Circuit
from gwproto.routing.lineup import FALLBACK, Shape, kept_seat
from gwproto.routing.plan import Planner
from gwproto.routing.quota import DAY
from gwproto.routing.rotation import Rotation
from gwproto.routing.seats import Front, Seat
from gwproto.routing.snapshot import RouterState, restore, snapshot
from gwproto.routing.spare import unfit
from gwproto.routing.state import Registry
from gwproto.routing.status import TargetStatus, target_status
from gwproto.routing.ticket import NoTarget, Plan, Ticket, Wait
from gwproto.routing.values import Cause, State
from gwproto.values import Candidate, Limit

__all__ = ["NoTarget", "Plan", "Router", "TargetStatus", "Ticket", "Wait"]

#: The least that a provider's hint is taken for (seconds).
MIN_RETRY_AFTER = 1.0
#: The least that a request waits (seconds): an instant that rounding made the present would be no wait at all.
MIN_WAIT = 0.001
#: Jitter on the release of throttled targets, so that gateways do not come back in step: share and cap (seconds).
JITTER = 0.1
MAX_JITTER = 5.0
#: After these the same backend never serves the same request.
FINAL = frozenset(
    {
        FailureClass.TOO_BIG,
        FailureClass.CONTEXT,
        FailureClass.AUTH,
        FailureClass.FORBIDDEN,
        FailureClass.CREDITS,
        FailureClass.MODEL_GONE,
    }
)
#: How many sets of providers keep the memory of their turns.
MAX_ROTATIONS = 1024


@mypyc_attr(allow_interpreted_subclasses=True)
class Router:
    """Picks targets of one catalog and remembers how they did. ``epoch``: wall time at ``now`` = 0."""

    def __init__(
        self, catalog: Catalog, settings: Settings, *, rng: random.Random, epoch: float = 0.0
    ) -> None:
        self._rng = rng
        self._epoch = epoch
        self._registry: Registry | None = None
        self._rotations: dict[tuple[str, ...], Rotation] = {}
        self._affinity = Affinity()
        self._renewed: dict[str, float] = {}  # credentials whose secret has changed, and when
        self._adopt(catalog, settings)

    # Choosing

    def plan(self, demand: Demand) -> Plan | Failure:
        """Which targets could serve this request, health aside.

        A :class:`Failure` when its names do not exist (404; 400 for forced ones) or nothing configured could ever
        serve it (400).
        """
        return self._planner.plan(demand)

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
        """Choose the next attempt's target.

        ``tried``: backends that this request is done with; another provider than theirs is preferred. ``again``: after
        back-off, when there was no other; then whatever cools down because of this very request may be picked too,
        ``last`` only when there is nothing else, and never a backend whose verdict was final.
        """
        if plan.spent:
            tried = plan.spent.union(tried)
        if tried or again:
            seat = self._elsewhere(plan, now, tried, last, again)
        else:
            seat = self._in_turn(plan, now)
        if seat is None:
            return self._without(plan, now, tried, deadline)
        return self._issue(plan, seat, now)

    def spare(self, plan: Plan, now: float, tried: Collection[object]) -> Ticket | None:
        """A second target for a request that has one: only who is free, well and not scarce; nobody is waited for."""
        seat = self._other(plan.shape, unfit(plan, now).union(plan.spent, tried), None, now)
        return None if seat is None else self._issue(plan, seat, now)

    def _in_turn(self, plan: Plan, now: float) -> Seat | None:
        """The steady case: whose turn it is, or who served the last request of this one's kind."""
        shape = plan.shape
        lineup = shape.lineup(now)
        if lineup is None:
            return None
        if plan.affinity and (kept := kept_seat(lineup, self._affinity.get(plan.affinity))):
            front = kept[0]
            # It is credited like a turn, which keeps the turns of all requests together even.
            shape.turns.turn(lineup.names, lineup.weights, (front.group.name,))
            front.group.turns.turn(front.keys, front.weights, (kept[1].target.id,))
            return kept[1]
        return _seat(shape.whose_turn(lineup, now))

    def _elsewhere(
        self, plan: Plan, now: float, tried: Collection[object], last: Target | None, again: bool
    ) -> Seat | None:
        """A failover, or one more round after back-off."""
        if not again:
            return self._other(plan.shape, tried, None, now)
        seat = None
        if last is not None:
            seat = self._other(plan.shape, {*tried, last.backend}, plan, now)
        return seat or self._other(plan.shape, tried, plan, now)

    def _other(
        self, shape: Shape, excluded: Collection[object], request: Plan | None, now: float
    ) -> Seat | None:
        fronts = [front for group in shape.groups if (front := group.front_without(excluded, request, now))]
        if not fronts:
            return None
        fronts = [front for front in fronts if front.rank != FALLBACK] or fronts
        fronts = [front for front in fronts if front.group.backends.isdisjoint(excluded)] or fronts
        rank = min(front.rank for front in fronts)
        by_name = {front.group.name: front for front in fronts if front.rank == rank}
        lineup = shape.lineup(now)
        if lineup is not None and not by_name.keys().isdisjoint(lineup.names):
            # Everybody in the band is credited, the excluded too: that keeps the turns even.
            return _seat(by_name[shape.turns.turn(lineup.names, lineup.weights, by_name)])
        return _seat(max(by_name.values(), key=lambda front: front.score))

    def _without(
        self, plan: Plan, now: float, tried: Collection[object], deadline: float
    ) -> Ticket | Wait | NoTarget:
        """Nobody can be picked: wait, panic, or say so."""
        seats = [seat for group in plan.shape.groups for seat in group.seats]
        obstacles = [(seat, seat.state.obstacle(now)) for seat in seats]
        untried = [
            (seat, obstacle)
            for seat, obstacle in obstacles
            if obstacle is not None and seat.target.backend not in tried
        ]
        plan.wait_until = min(plan.wait_until, now + self._settings.routing.max_wait)
        earliest = min((obstacle.until for _, obstacle in untried), default=math.inf)
        if earliest <= min(plan.wait_until, deadline):
            return Wait(max(earliest, now + MIN_WAIT))
        if all(obstacle is not None and obstacle.cause is Cause.ERRORS for _, obstacle in obstacles):
            resting = [seat for seat, obstacle in untried if obstacle.cooling and not seat.state.panicking]
            if resting:
                return self._issue(plan, max(resting, key=lambda seat: seat.score(now)), now, panic=True)
        plan.considered = recent(plan.shape, now)
        known = [obstacle for _, obstacle in obstacles if obstacle is not None]
        retry_after = min((obstacle.until - now for obstacle in known), default=None)
        if any(seat.target.backend in tried and self._repeatable(plan, seat, now) for seat in seats):
            return NoTarget("exhausted", retry_after)
        if known and all(obstacle.cause is Cause.THROTTLED for obstacle in known):
            return NoTarget("throttled", retry_after)
        return NoTarget("unavailable", retry_after)

    def _repeatable(self, plan: Plan, seat: Seat, now: float) -> bool:
        """Could a tried target be picked again after back-off?"""
        if seat.target.backend in plan.spent:
            return False
        obstacle = seat.state.obstacle(now, plan)
        return obstacle is None or obstacle.until <= plan.wait_until

    def _issue(self, plan: Plan, seat: Seat, now: float, *, panic: bool = False) -> Ticket:
        state = seat.state
        ticket = Ticket(seat.target, False, panic, now, state, plan)
        ticket.probe = state.begin(ticket, now)
        if panic:
            state.panicking = True
        plan.chosen = seat.target
        plan.considered = recent(plan.shape, now)
        return ticket

    # Learning

    def content(self, ticket: Ticket, now: float) -> None:
        """First content came: a probe has passed, or a request in panic mode has done as well."""
        delay = now - ticket.picked_at
        state = ticket.state
        state.delays.append(delay)
        state.own.evidence.add_delay(delay, now)
        if ticket.plan.shape.trials:
            ticket.plan.shape.content(ticket.target.provider.name, delay)
        if ticket.probe or ticket.panic:
            self._pass(ticket)

    def limits(self, ticket: Ticket, limits: Iterable[Limit], now: float) -> None:
        """The provider's headers told of its limits."""
        ticket.state.learn(limits, now)

    def success(self, ticket: Ticket, now: float, tokens: int = 0) -> None:
        """The answer is complete; it has used so many ``tokens``, as far as is known."""
        state = ticket.state
        if ticket.plan.affinity:
            self._affinity.put(ticket.plan.affinity, ticket.target.id)
        if tokens:
            state.use(tokens, now)
        if ticket.probe or ticket.panic:
            self._pass(ticket)
        state.success(now - ticket.picked_at, now)
        self._end(ticket)

    def failure(self, ticket: Ticket, failure: Failure, now: float) -> None:
        """The attempt failed; ``failure.reaction`` says what of, and how badly."""
        state = ticket.state
        reaction = failure.reaction
        scope = failure.scope or reaction.scope
        if failure.kind in FINAL:
            ticket.plan.spent |= {ticket.target.backend}
        if reaction.effect is Effect.COUNT:
            state.failures += 1
            circuit = state.circuit(scope)
            if circuit is not state.own or circuit.state is State.COOLDOWN:
                # It counts for the wider scope, but the target that showed it is worth less, too; and in panic mode
                # another one shall be the least bad.
                state.own.evidence.add(False, now)
            if circuit.failure(ticket, failure.kind.value, self._settings.health, now):
                circuit.caused_by = ticket.plan
        elif reaction.effect is Effect.THROTTLE:
            state.throttled(now)
            self._throttle(state.circuit(scope), ticket, failure, now)
        elif reaction.effect is Effect.DISABLE:
            state.failures += 1
            if ticket.picked_at > self._renewed.get(ticket.target.credential, -math.inf):
                pause = self._disabled_for(failure, scope)
                state.circuit(scope).keep_away(Cause.DISABLED, pause, failure.kind.value, now)
        state.changed()
        self._end(ticket)

    def release(self, ticket: Ticket, now: float) -> None:
        """The attempt ended without a verdict: the client left."""
        self._end(ticket)

    def overtaken(self, ticket: Ticket, now: float) -> None:
        """Another attempt won. No verdict either, but how long it took without content was no shorter than this."""
        state = ticket.state
        waited = now - ticket.picked_at
        if waited > state.own.evidence.estimates(now)[1]:
            state.delays.append(waited)
            state.own.evidence.add_delay(waited, now)
        self._end(ticket)

    def _pass(self, ticket: Ticket) -> None:
        for circuit in ticket.state.circuits:
            circuit.content(ticket)
            if ticket.panic:
                circuit.recover()
        ticket.state.changed()

    def _end(self, ticket: Ticket) -> None:
        if ticket.released:
            raise LocalProtocolError("this ticket has been given back before")
        ticket.released = True
        if ticket.panic:
            ticket.state.panicking = False
        ticket.state.end(ticket, ticket.probe)

    def _throttle(self, circuit: Circuit, ticket: Ticket, failure: Failure, now: float) -> None:
        health = self._settings.health
        hint = failure.retry_after
        if hint is None:
            limit = health.cooldown_max
            pause = circuit.next_throttle_pause(health)
        else:
            limit = DAY if failure.kind is FailureClass.RATE_DAY else health.max_retry_after
            pause = min(max(MIN_RETRY_AFTER, hint), limit)
        later = pause + self._rng.uniform(0.0, min(JITTER * pause, MAX_JITTER))
        # Where it was clamped the provider wants more time anyway; and one probe at a time comes back.
        pause = max(pause, min(later, limit))
        if circuit.keep_away(Cause.THROTTLED, pause, failure.kind.value, now) and hint is None:
            circuit.caused_by = ticket.plan

    def _disabled_for(self, failure: Failure, scope: Scope) -> float:
        health = self._settings.health
        if failure.kind is FailureClass.CREDITS and failure.retry_after is not None:
            return min(max(MIN_RETRY_AFTER, failure.retry_after), DAY)
        return health.model_cooldown if scope is Scope.MODEL else health.auth_cooldown

    # Looking

    def explain(self, plan: Plan, now: float) -> tuple[Candidate, ...]:
        """Every target with its score, or the reason it was not chosen; ``""``: picked last, or next in turn."""
        return decision(plan, self._affinity.get(plan.affinity), now).candidates

    def statuses(self, now: float) -> list[TargetStatus]:
        """Every target's standing, in catalog order."""
        return [target_status(target, self._states[target.id], now) for target in self.catalog.targets]

    # Operating

    def reset(self, now: float, *, provider: str = "", model: str = "", key: str = "") -> int:
        """Forget the cooldowns of a provider, model or key, or of all that fit; how many there were.

        A model or key is reset with its targets, a provider with all it has; without arguments everything is.
        """
        circuits: dict[int, Circuit] = {}
        for target in self.catalog.targets:
            if (
                provider in ("", target.provider.name)
                and model in ("", target.model.id, target.model.upstream)
                and key in ("", target.credential)
            ):
                state = self._states[target.id]
                chosen = [state.own]
                if model or not key:
                    chosen.append(state.model.circuit)
                if key or not model:
                    chosen.append(state.key.circuit)
                if not model and not key:
                    chosen.append(state.provider.circuit)
                circuits |= {id(circuit): circuit for circuit in chosen}
                state.changed()
        cooling = 0
        for circuit in circuits.values():
            circuit.settle(now)
            cooling += circuit.state is not State.AVAILABLE
            circuit.reset()
        return cooling

    def snapshot(self, now: float) -> RouterState:
        """Health and quotas as a value that can be kept."""
        return snapshot(self.catalog, self._states, now)

    def restore(
        self, memory: RouterState, elapsed: float, now: float, *, renewed: Collection[str] = ()
    ) -> None:
        """Take over what was kept ``elapsed`` seconds ago, by this catalog or another; ``renewed`` as below."""
        restore(self.catalog, self._states, memory, elapsed, now, renewed)

    def reconfigure(
        self, catalog: Catalog, settings: Settings, now: float, *, renewed: Collection[str] = ()
    ) -> None:
        """Change to another catalog. Whatever exists in both keeps its memory.

        ``renewed`` names the credentials whose secret has changed: they, and the targets that use them, are healed.
        Attempts in flight report to what they were picked from, but nothing that only a secret's owner can mend: it may
        have been the old one's fault.
        """
        self._adopt(catalog, settings)
        for name in renewed:
            self.reset(now, key=name)
            self._renewed[name] = now

    def _adopt(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self._settings = settings
        self._registry = Registry(catalog, self._registry, self._epoch)
        self._states = self._registry.states
        self._planner = Planner(catalog, self._registry, self._rotation)

    def _rotation(self, members: tuple[str, ...]) -> Rotation:
        """The memory of the turns among ``members``: kept over plans, health and reloads."""
        rotations = self._rotations
        found = rotations.get(members)
        if found is None:
            if len(rotations) >= MAX_ROTATIONS:
                del rotations[next(iter(rotations))]
            found = rotations[members] = Rotation()
        return found


def _seat(front: Front) -> Seat:
    """Whose turn it is inside a provider."""
    keys = front.keys
    return front.seats[keys[0] if len(keys) == 1 else front.group.turns.turn(keys, front.weights)]

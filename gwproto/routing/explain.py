"""Why each target was chosen or not: from the same lineup that the picks are made from."""

from gwproto.routing.lineup import FALLBACK, Shape, kept_seat
from gwproto.routing.seats import Front, Lineup, Seat
from gwproto.routing.ticket import Plan
from gwproto.values import Candidate, Decision

# To explain all takes longer than to pick one, so that what is kept with requests is not always new. Seconds that an
# explanation holds after something has changed, and while nothing but the scores has.
CHANGED_AGE = 1.0
SCORES_AGE = 10.0


def recent(shape: Shape, now: float) -> tuple[Candidate, ...]:
    """An explanation that is new enough to be kept with a request."""
    if now - shape.explained_at < (CHANGED_AGE if shape.changed else SCORES_AGE):
        return shape.explained
    return explanation(shape, now)


def explanation(shape: Shape, now: float) -> tuple[Candidate, ...]:
    """Every target of the catalog with the reason why it is not the next one."""
    lineup = shape.lineup(now)
    found = [Candidate(target.id, reason) for target, reason in shape.removed]
    for group in shape.groups:
        front = group.front(now)
        found += [_candidate(seat, front, lineup, now) for seat in group.seats]
    shape.explained, shape.explained_at = tuple(found), now
    shape.changed = False
    return shape.explained


def decision(plan: Plan, last: str, now: float) -> Decision:
    """Why ``plan`` went where it went, or would go where it would go next: nothing is picked. ``last``: the target that
    served the last request of its kind."""
    shape = plan.shape
    lineup = shape.lineup(now)
    chosen = "" if plan.chosen is None else plan.chosen.id
    if not chosen and lineup is not None and kept_seat(lineup, last) is not None:
        chosen = last
    elif not chosen and lineup is not None:
        name = shape.due(lineup, now) or shape.turns.preview(lineup.names, lineup.weights)
        front = lineup.fronts[name]
        chosen = front.group.turns.preview(front.keys, front.weights)
    return Decision(explanation(shape, now), chosen)


def _candidate(seat: Seat, front: Front | None, lineup: Lineup | None, now: float) -> Candidate:
    return Candidate(
        seat.target.id,
        _passed_over(seat, front, lineup, now),
        seat.score(now),
        seat.state.terms(seat.fit, now),
    )


def _passed_over(seat: Seat, front: Front | None, lineup: Lineup | None, now: float) -> str:
    obstacle = seat.state.obstacle(now)
    if obstacle is not None:
        return obstacle.reason
    # Who can be picked has a provider with a front, in a lineup.
    if front is None or lineup is None or seat.target.id not in front.seats:
        return "its provider has a model that suits the effort better"
    if seat.target.id not in front.keys:
        return "its provider has a better one"
    if front.rank != lineup.rank:
        return "a fallback" if front.rank == FALLBACK else "its provider has no model that meets the effort"
    if front.group.name in lineup.slow:
        return "its provider is much slower than the others"
    if front.group.name not in lineup.names:
        return "other providers score better"
    return "others take this turn"

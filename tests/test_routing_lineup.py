"""Slow outliers, affinity, and explanations of the line-up."""

from collections import Counter

import pytest

from gwproto.config import ModelSettings
from gwproto.routing.affinity import MAX_GROUPS, Affinity
from gwproto.routing.router import Ticket
from gwproto.values import Limit
from support.routing import SERVER, Desk, provider


def answer(desk: Desk, **delays: float) -> str:
    """One request whose first content takes as long as ``delays`` says of its provider, 0.2 s by default."""
    ticket = desk.pick()
    name = ticket.target.provider.name
    desk.now += delays.get(name, 0.2)
    desk.router.content(ticket, desk.now)
    desk.router.success(ticket, desk.now)
    return name


def warmed(desk: Desk, rounds: int, **delays: float) -> Desk:
    for _ in range(rounds * len(desk.catalog.providers)):
        answer(desk, **delays)
    return desk


# Slow outliers


def test_who_is_much_slower_than_the_others_gets_one_request_in_thirty_seconds() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 15, a=0.7)
    reasons = desk.reasons(desk.plan())
    assert reasons["a/a-model"] == "its provider is much slower than the others"
    began = desk.now
    served: Counter[str] = Counter()
    while desk.now < began + 90.0:
        served[answer(desk, a=0.7)] += 1
    assert served["a"] == 3
    assert abs(served["b"] - served["c"]) <= 1


def test_of_two_one_may_be_much_slower_too() -> None:
    desk = warmed(Desk(provider("a"), provider("b")), 15, a=0.7)
    assert Counter(answer(desk, a=0.7) for _ in range(20)) == {"b": 20}


def test_a_slow_provider_that_has_become_fast_comes_back() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 15, a=0.7)
    desk.now += 1.0
    assert "a" not in {answer(desk) for _ in range(6)}
    desk.now += 1500.0  # what it was known for has aged
    assert Counter(answer(desk) for _ in range(30))["a"] == 10


def served_over(desk: Desk, seconds: float, **delays: float) -> Counter[str]:
    began = desk.now
    served: Counter[str] = Counter()
    while desk.now < began + seconds:
        served[answer(desk, **delays)] += 1
    return served


def tried(desk: Desk, **delays: float) -> float:
    """When the slow outlier ``a`` gets its next request."""
    while True:
        now = desk.now
        if answer(desk, **delays) == "a":
            return now


def test_while_it_shows_that_it_is_fast_again_it_is_tried_more_often() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 15, a=2.0)
    first = tried(desk)
    pauses = [15.0, 7.5, 3.75, 1.875, 1.0, 1.0]
    for pause in pauses:
        then, first = first, tried(desk)
        assert first - then == pytest.approx(pause, abs=0.3)
    served_over(desk, 90.0)
    assert served_over(desk, 60.0)["a"] == pytest.approx(100, abs=5)  # long before its evidence has aged


def test_one_slow_answer_is_enough_to_be_tried_seldom_again() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 15, a=2.0)
    for _ in range(3):
        tried(desk)
    slow = tried(desk, a=2.0)
    assert tried(desk) - slow == pytest.approx(30.0, abs=0.3)


def test_too_little_is_known_at_first() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 9, a=0.7)
    assert Counter(answer(desk, a=0.7) for _ in range(3)) == {"a": 1, "b": 1, "c": 1}


def test_three_times_is_not_over_three_times() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 20, a=0.59)
    assert Counter(answer(desk, a=0.59) for _ in range(9))["a"] == 3


def test_alone_nobody_is_slow() -> None:
    desk = warmed(Desk(provider("a")), 20, a=0.7)
    assert answer(desk) == "a"


def test_a_slow_outlier_takes_over_when_the_others_are_gone() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 15, a=0.7)
    desk.fail_all("b")
    desk.fail_all("c")
    assert answer(desk) == "a"


def test_failover_may_go_to_a_slow_outlier_last() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 15, a=0.7)
    tried: set[object] = set()
    plan = desk.plan()
    order = []
    for _ in range(3):
        ticket = desk.pick(plan, tried=tried)
        desk.fail(ticket, SERVER)
        tried.add(ticket.target.backend)
        order.append(ticket.target.provider.name)
    assert order[-1] == "a"


def test_the_next_in_turn_may_be_a_slow_outlier() -> None:
    desk = warmed(Desk(provider("a"), provider("b"), provider("c")), 15, a=0.7)
    desk.reasons(desk.plan())  # whoever looks changes nothing
    desk.now += 30.0
    assert desk.reasons(desk.plan())["a/a-model"] == ""
    assert answer(desk) == "a"
    assert desk.reasons(desk.plan())["a/a-model"] != ""


# Affinity


def kept(desk: Desk, times: int, group: str = "chat-1") -> list[str]:
    return [desk.serve(desk.plan(affinity=group)) for _ in range(times)]


def test_requests_that_belong_together_stay_where_they_were_served() -> None:
    desk = Desk(provider("a"), provider("b"), provider("c"), credentials={"b": ("one", "two")})
    assert len(set(kept(desk, 6))) == 1
    assert len(set(kept(desk, 6, "chat-2"))) == 1
    assert len({desk.serve() for _ in range(24)}) == 4


def test_affinity_counts_as_turns() -> None:
    desk = Desk(provider("a"), provider("b"))
    mine = kept(desk, 5)[0]
    assert desk.serve() != mine
    assert desk.serve() != mine


@pytest.mark.parametrize("how", ["cooldown", "band"])
def test_affinity_is_soft(how: str) -> None:
    desk = Desk(provider("a"), provider("b"))
    mine = kept(desk, 2)[0]
    name = mine.partition("/")[0]
    if how == "cooldown":
        desk.fail_all(name)
    else:
        ticket = desk.pick(desk.plan(provider=name))
        desk.router.limits(ticket, [Limit("tokens", "minute", 1000, 1, 60.0)], desk.now)
        desk.router.success(ticket, desk.now)
        for _ in range(10):
            desk.serve(desk.plan(model="b-model" if name == "a" else "a-model"))
        desk.now += 1.0
        assert desk.reasons(desk.plan())[mine] == "other providers score better"
    other = kept(desk, 1)[0]
    assert other != mine
    desk.now += 2000.0
    assert kept(desk, 3) == [other] * 3  # and it stays with the new one


def test_a_failed_target_is_not_kept() -> None:
    desk = Desk(provider("a"), provider("b"))
    plan = desk.plan(affinity="chat")
    first = desk.pick(plan)
    desk.fail(first)
    second = desk.pick(plan, tried={first.target.backend})
    desk.router.success(second, desk.now)
    assert kept(desk, 2, "chat") == [second.target.id] * 2


def test_an_explanation_knows_of_affinity() -> None:
    desk = Desk(provider("a"), provider("b"))
    mine = kept(desk, 1)[0]
    assert [name for name, reason in desk.reasons(desk.plan(affinity="chat-1")).items() if not reason] == [
        mine
    ]
    assert [name for name, reason in desk.reasons(desk.plan(affinity="new")).items() if not reason] != [mine]


def test_the_memory_of_affinity_is_bounded_and_forgets_the_oldest() -> None:
    memory = Affinity()
    for number in range(MAX_GROUPS):
        memory.put(f"{number}", "a")
    memory.put("0", "b")
    memory.put("new", "c")
    assert (memory.get("0"), memory.get("1"), memory.get("2"), memory.get("new")) == ("b", "", "a", "c")


# Explanations


def test_scores_come_with_their_terms() -> None:
    desk = Desk(provider("a", ModelSettings(id="m", tier="low")), provider("b"))
    candidates = {one.target: one for one in desk.router.explain(desk.plan(), desk.now)}
    for candidate in candidates.values():
        terms = candidate.terms
        assert terms is not None
        total = 0.6 * terms.success + 0.2 * terms.headroom + 0.15 * terms.latency + 0.05 * terms.fit
        assert candidate.score == pytest.approx(total)
    assert candidates["a/m"].terms is not None
    assert candidates["a/m"].terms.fit == 0.5
    assert candidates["a/m"].terms.success == pytest.approx(0.9)


def test_who_lacks_something_has_no_score() -> None:
    desk = Desk(provider("a"), provider("b", ModelSettings(id="m", capabilities=())))
    candidates = {
        one.target: one for one in desk.router.explain(desk.plan(needs=frozenset({"tools"})), desk.now)
    }
    assert candidates["b/m"].reason == "lacks tools"
    assert candidates["b/m"].score is None
    assert candidates["b/m"].terms is None


def test_what_is_kept_with_a_pick_is_at_most_a_second_old() -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.serve()
    desk.fail_all("a")
    plan = desk.plan()
    assert isinstance(desk.ask(plan), Ticket)
    assert {one.target: one.reason for one in plan.considered}["a/a-model"] == "others take this turn"
    desk.now += 1.0
    plan = desk.plan()
    assert isinstance(desk.ask(plan), Ticket)
    assert "cooling down" in {one.target: one.reason for one in plan.considered}["a/a-model"]

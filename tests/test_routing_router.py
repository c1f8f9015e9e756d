"""The router: turns, failover, cooldowns and probes, waiting and panic."""

import random
from collections import Counter

import pytest

from gwproto.config import HealthSettings, ModelSettings, RoutingSettings
from gwproto.failures import Failure, FailureClass, LocalProtocolError
from gwproto.routing.router import MAX_ROTATIONS, NoTarget, Ticket, Wait
from gwproto.routing.values import Cause, State
from support.routing import (
    AUTH,
    GONE,
    INVALID,
    OVERLOADED,
    SERVER,
    START,
    THROTTLED,
    UNREACHABLE,
    Desk,
    provider,
    throttled,
)


def three(**changes: object) -> Desk:
    return Desk(provider("a"), provider("b"), provider("c"), **changes)  # type: ignore[arg-type]  # passed on


def served(desk: Desk, times: int, **demand: object) -> Counter[str]:
    return Counter(desk.serve(desk.plan(**demand)).partition("/")[0] for _ in range(times))


def worsen(desk: Desk, **demand: object) -> None:
    """Slow, and failing often, but never often enough to cool down."""
    for number in range(40):
        ticket = desk.pick(desk.plan(**demand))
        desk.now += 8.0
        if number % 5 == 3:
            desk.fail(ticket, OVERLOADED)
        else:
            desk.router.content(ticket, desk.now)
            desk.router.success(ticket, desk.now)


# Turns


def test_healthy_providers_take_turns() -> None:
    desk = three()
    assert [desk.serve() for _ in range(6)] == ["a/a-model", "b/b-model", "c/c-model"] * 2


def test_failover_picks_count_as_turns() -> None:
    desk = three()
    first = desk.pick()
    desk.fail(first)
    second = desk.pick(tried={first.target.backend}, last=first)
    assert (first.target.id, second.target.id) == ("a/a-model", "b/b-model")
    assert [desk.serve() for _ in range(4)] == ["c/c-model", "a/a-model", "b/b-model", "c/c-model"]


def test_kinds_of_requests_share_their_turns_and_other_sets_have_their_own() -> None:
    desk = three(aliases={"ab": ("a-model", "b-model")})
    assert desk.serve(desk.plan(needs=frozenset({"tools"}))) == "a/a-model"
    assert desk.serve(desk.plan(prompt_tokens=500)) == "b/b-model"
    assert [desk.serve(desk.plan(model="ab")) for _ in range(3)] == ["a/a-model", "b/b-model", "a/a-model"]
    assert desk.serve() == "c/c-model"


def test_keys_and_models_of_a_provider_share_its_turns() -> None:
    desk = Desk(provider("a", "x", "y"), provider("b"), credentials={"a": ("one", "two")})
    assert [desk.serve() for _ in range(9)] == [
        "a/x", "b/b-model", "a/x#2", "b/b-model", "a/y", "b/b-model", "a/y#2", "b/b-model", "a/x",
    ]  # fmt: skip


def test_the_preferred_tier_comes_first_and_the_others_stand_in_for_it() -> None:
    desk = Desk(
        provider("a", ModelSettings(id="low", tier="low"), "mid", ModelSettings(id="high", tier="high"))
    )
    assert {desk.serve() for _ in range(3)} == {"a/mid"}
    desk.fail(desk.pick(), GONE)
    assert {desk.serve() for _ in range(3)} == {"a/low"}
    assert desk.serve(desk.plan(effort="high")) == "a/high"


def test_with_an_effort_providers_that_meet_it_come_first() -> None:
    desk = Desk(
        provider("mid"),
        provider("high", ModelSettings(id="h", tier="high")),
        provider("weak", ModelSettings(id="w", tier="high", capabilities=("tools",))),
    )
    plan = desk.plan(effort="high")
    assert {desk.serve(plan) for _ in range(3)} == {"high/h"}
    assert len({desk.serve() for _ in range(3)}) == 3  # without effort tiers do not matter
    first = desk.pick(plan)
    desk.fail(first)
    second = desk.pick(plan, tried={first.target.backend}, last=first)
    assert second.target.provider.name == "weak"  # no reasoning, but the tier


def test_fallback_providers_serve_only_when_no_other_is_left() -> None:
    desk = Desk(provider("spare", fallback=True), provider("a", "x", "y"))
    assert served(desk, 4) == {"a": 4}
    first = desk.pick()
    desk.fail(first)
    second = desk.pick(tried={first.target.backend}, last=first)
    assert (first.target.id, second.target.id) == ("a/x", "a/y")
    third = desk.pick(tried={first.target.backend, second.target.backend}, last=second)
    assert third.target.id == "spare/spare-model"
    desk.fail_all("a", UNREACHABLE)
    assert served(desk, 2) == {"spare": 2}


def test_who_scores_far_below_the_best_gets_no_turns_until_its_evidence_has_aged() -> None:
    desk = three()
    worsen(desk, provider="a")
    assert desk.standing()["a/a-model"] == "available"
    assert served(desk, 10)["a"] == 0
    assert desk.reasons(desk.plan())["a/a-model"] == "other providers score better"
    desk.now += 600.0
    assert served(desk, 9)["a"] == 3


def test_failover_may_leave_the_band() -> None:
    desk = Desk(provider("a"), provider("b"))
    worsen(desk, provider="a")
    for _ in range(20):
        desk.serve(desk.plan(provider="b"))
    desk.now += 1.0
    first = desk.pick()
    assert first.target.provider.name == "b"
    desk.fail(first)
    assert desk.pick(tried={first.target.backend}, last=first).target.provider.name == "a"


# Failover


def test_failover_prefers_another_provider_then_another_target_then_none() -> None:
    desk = Desk(provider("a", "x", "y"), provider("b"))
    tried: set[object] = set()
    order = []
    last: Ticket | None = None
    for _ in range(3):
        last = desk.pick(tried=tried, last=last)
        order.append(last.target.id)
        tried.add(last.target.backend)
        desk.fail(last)
    assert order == ["a/x", "b/b-model", "a/y"]
    assert desk.ask(tried=tried, last=last) == NoTarget("exhausted", None)


def test_one_backend_is_not_tried_under_two_names() -> None:
    desk = Desk(provider("a", "m"), provider("b", "m", base_url="https://a.example/v1"))
    ticket = desk.pick()
    desk.fail(ticket)
    assert desk.ask(tried={ticket.target.backend}) == NoTarget("exhausted", None)


def test_after_back_off_another_provider_is_preferred_again() -> None:
    desk = Desk(provider("a"), provider("b"))
    plan = desk.plan()
    first = desk.pick(plan)
    desk.fail(first)
    second = desk.pick(plan, tried={first.target.backend}, last=first)
    desk.fail(second)
    third = desk.pick(plan, last=second, again=True)
    assert [ticket.target.provider.name for ticket in (first, second, third)] == ["a", "b", "a"]


def test_back_off_without_a_last_target() -> None:
    desk = Desk(provider("a"))
    assert desk.pick(again=True).target.id == "a/a-model"


def test_a_request_may_repeat_where_it_alone_caused_the_cooldown() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a", times=2)
    plan = desk.plan()
    ticket = desk.pick(plan)
    desk.fail(ticket)
    assert desk.standing() == {"a/a-model": "cooldown"}
    assert desk.ask(plan, tried={ticket.target.backend}, last=ticket) == NoTarget("exhausted", 45.0)
    again = desk.pick(plan, last=ticket, again=True)
    assert (again.panic, again.probe) == (False, False)
    other = desk.plan()
    assert desk.pick(other, last=ticket, again=True).panic  # another request has no such right


def test_without_a_hint_a_request_may_repeat_where_it_was_throttled_with_one_it_may_not() -> None:
    desk = Desk(provider("a"))
    plan = desk.plan()
    ticket = desk.pick(plan)
    desk.fail(ticket, THROTTLED)
    again = desk.pick(plan, last=ticket, again=True)
    desk.fail(again, throttled(20.0))
    assert desk.ask(plan, tried={ticket.target.backend}, last=again) == NoTarget("throttled", 20.0)
    assert desk.ask(plan, last=again, again=True) == NoTarget("throttled", 20.0)


@pytest.mark.parametrize(
    "kind", [FailureClass.TOO_BIG, FailureClass.CONTEXT, FailureClass.AUTH, FailureClass.MODEL_GONE]
)
def test_after_a_final_verdict_a_backend_is_not_asked_again(kind: FailureClass) -> None:
    desk = Desk(provider("a"))
    plan = desk.plan()
    ticket = desk.pick(plan)
    desk.fail(ticket, Failure(kind, "never"))
    choice = desk.ask(plan, tried={ticket.target.backend}, last=ticket)
    assert isinstance(choice, NoTarget)
    assert choice.cause == "unavailable"
    choice = desk.ask(plan, last=ticket, again=True)
    assert isinstance(choice, NoTarget)
    assert choice.cause == "unavailable"


# Health


def test_three_failures_cool_a_target_down_and_one_probe_brings_it_back() -> None:
    desk = three()
    desk.fail_all("a")
    assert served(desk, 6) == {"b": 3, "c": 3}
    desk.now += 44.9
    assert served(desk, 6) == {"b": 3, "c": 3}
    desk.now += 0.1
    probe = next(ticket for ticket in (desk.pick() for _ in range(3)) if ticket.target.provider.name == "a")
    assert probe.probe
    assert served(desk, 6) == {"b": 3, "c": 3}  # the slot is taken
    desk.router.content(probe, desk.now)
    desk.router.success(probe, desk.now)
    assert desk.standing()["a/a-model"] == "degraded"
    assert served(desk, 10)["a"] <= 1  # slow start
    assert 9 <= served(desk, 90)["a"] <= 30
    assert served(desk, 30) == {"a": 10, "b": 10, "c": 10}


def test_a_probe_that_is_cancelled_gives_its_slot_back() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a")
    desk.now += 45.0
    probe = desk.pick()
    desk.router.release(probe, desk.now)
    again = desk.pick()
    assert (probe.probe, again.probe) == (True, True)


def test_a_probe_with_a_verdict_on_something_else_gives_its_slot_back() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a")
    desk.now += 45.0
    desk.fail(desk.pick(), INVALID)
    assert desk.standing() == {"a/a-model": "half_open"}
    assert desk.pick().probe


def test_a_probe_passes_at_its_first_content() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a")
    desk.now += 45.0
    probe = desk.pick()
    assert desk.standing() == {"a/a-model": "half_open"}
    desk.router.content(probe, desk.now)
    assert not desk.pick().probe
    desk.fail(probe)  # afterwards it is one attempt like any other
    assert desk.standing() == {"a/a-model": "degraded"}


def test_a_whole_answer_without_reported_content_passes_too() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a")
    desk.now += 45.0
    desk.router.success(desk.pick(), desk.now)
    assert not desk.pick().probe


def test_the_wider_the_scope_the_more_it_takes_out() -> None:
    def left(failure: Failure, times: int = 1) -> list[str]:
        desk = Desk(provider("a", "x", "y"), provider("b"), credentials={"a": ("one", "two")})
        for _ in range(times):
            desk.fail(desk.pick(desk.plan(model="a/x")), failure)
        return [target for target, status in desk.standing().items() if status != "cooldown"]

    assert left(throttled(60.0)) == ["a/x#2", "a/y", "a/y#2", "b/b-model"]
    assert left(AUTH) == ["a/x#2", "a/y#2", "b/b-model"]
    assert left(GONE) == ["a/y", "a/y#2", "b/b-model"]
    assert left(UNREACHABLE, times=3) == ["b/b-model"]
    assert left(INVALID, times=9) == ["a/x", "a/x#2", "a/y", "a/y#2", "b/b-model"]


def test_a_provider_that_is_unreachable_makes_its_targets_worth_less_at_once() -> None:
    desk = Desk(provider("a", "x", "y"))
    before = [status.score for status in desk.router.statuses(desk.now)]
    desk.fail(desk.pick(), UNREACHABLE)
    after = [status.score for status in desk.router.statuses(desk.now)]
    assert after[0] < before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (throttled(20.0), 20.0),
        (throttled(0.0), 1.0),
        (throttled(-5.0), 1.0),
        (throttled(86_400.0), 300.0),
        (throttled(float("inf")), 300.0),
        (throttled(float("nan")), 1.0),
        (THROTTLED, 10.0),
        (Failure(FailureClass.RATE_DAY, "", retry_after=7_200.0), 7_200.0),
        (Failure(FailureClass.RATE_DAY, "", retry_after=10**9), 86_400.0),
        (Failure(FailureClass.CREDITS, ""), 3_600.0),
        (Failure(FailureClass.CREDITS, "", retry_after=50_000.0), 50_000.0),
        (Failure(FailureClass.CREDITS, "", retry_after=10**9), 86_400.0),
        (Failure(FailureClass.AUTH, "", retry_after=1.0), 3_600.0),
        (Failure(FailureClass.FORBIDDEN, ""), 3_600.0),
        (GONE, 7.0),
    ],
)
def test_how_long_a_failure_keeps_a_target_away(failure: Failure, seconds: float) -> None:
    desk = Desk(provider("a"), health=HealthSettings(model_cooldown=7.0))
    desk.fail(desk.pick(), failure)
    (status,) = desk.router.statuses(desk.now)
    assert (status.status, status.cooldown_left) == ("cooldown", seconds)


def test_throttling_without_hints_doubles() -> None:
    desk = Desk(provider("a"))
    lengths = []
    for _ in range(7):
        desk.fail(desk.pick(), THROTTLED)
        (status,) = desk.router.statuses(desk.now)
        lengths.append(status.cooldown_left)
        desk.now += status.cooldown_left
    assert lengths == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_throttled_targets_are_released_with_jitter_never_early_and_never_over_the_limit() -> None:
    lengths = []
    for seed in range(60):
        desk = Desk(provider("a"), rng=random.Random(seed))
        desk.fail(desk.pick(), throttled(10.0 if seed % 2 else 299.0))
        lengths.append(desk.router.statuses(desk.now)[0].cooldown_left)
    short, long = lengths[1::2], lengths[::2]
    assert 10.0 <= min(short) < 10.2 < 10.8 < max(short) <= 11.0
    assert 299.0 <= min(long) < max(long) <= 300.0


def test_throttling_costs_no_score_and_no_streak() -> None:
    desk = Desk(provider("a"))
    before = desk.router.statuses(desk.now)[0].score
    desk.fail(desk.pick(), throttled(5.0))
    (status,) = desk.router.statuses(desk.now)
    assert (status.score, status.consecutive_failures, status.throttles, status.failures) == (before, 0, 1, 0)


def test_a_shorter_cooldown_never_replaces_a_longer_one() -> None:
    desk = Desk(provider("a"))
    one, two = desk.pick(), desk.pick()
    desk.fail(one, throttled(100.0))
    desk.fail(two, throttled(3.0))
    assert desk.router.statuses(desk.now)[0].cooldown_left == 100.0


# Without a target


def test_waiting_for_who_comes_back_soon() -> None:
    desk = Desk(provider("a"), provider("b"))
    plan = desk.plan(provider="a")
    desk.fail(desk.pick(plan), throttled(1.5))
    other = desk.plan(provider="a")
    assert desk.ask(other) == Wait(START + 1.5)
    assert desk.ask(other, within=1.0) == NoTarget("throttled", 1.5)
    desk.now += 1.5
    assert desk.pick(other).probe


def test_a_request_waits_no_longer_than_max_wait_in_all() -> None:
    desk = Desk(provider("a"))
    desk.fail(desk.pick(), throttled(1.5))
    plan = desk.plan()
    assert desk.ask(plan) == Wait(START + 1.5)
    desk.now += 1.5
    desk.fail(desk.pick(), throttled(1.0))  # another request was quicker, and throttled
    assert desk.ask(plan) == NoTarget("throttled", 1.0)
    assert desk.ask() == Wait(desk.now + 1.0)


def test_while_a_probe_is_out_others_look_again_for_a_while() -> None:
    desk = Desk(provider("a"))
    desk.fail(desk.pick(), throttled(1.0))
    desk.now += 1.0
    probe = desk.pick()
    waiting = desk.plan()
    looks = 0
    while isinstance(choice := desk.ask(waiting), Wait):
        desk.now = choice.until
        looks += 1
    assert (looks, choice) == (8, NoTarget("throttled", 0.25))
    desk.router.content(probe, desk.now)
    assert desk.pick(waiting).target.id == "a/a-model"


def test_no_waiting_when_it_is_off() -> None:
    desk = Desk(provider("a"), routing=RoutingSettings(max_wait=0.0))
    desk.fail(desk.pick(), throttled(1.0))
    assert desk.ask() == NoTarget("throttled", 1.0)


def test_a_wait_is_never_over_at_once() -> None:
    # 0.1 + 60 rounds so that the minute is neither over nor in the future.
    desk = Desk(provider("a", requests_per_minute=1))
    desk.now = 0.1
    desk.serve()
    desk.now = 60.1
    choice = desk.ask()
    assert isinstance(choice, Ticket) or choice == Wait(60.101)


def test_when_all_cool_down_for_errors_the_least_bad_is_tried_one_at_a_time() -> None:
    desk = Desk(provider("a"), provider("b"))
    for _ in range(20):
        desk.serve(desk.plan(provider="b"))
    desk.fail_all("a")
    desk.fail_all("b")
    first, second = desk.pick(), desk.pick()
    assert [(ticket.target.provider.name, ticket.panic) for ticket in (first, second)] == [
        ("b", True),
        ("a", True),
    ]
    assert desk.ask() == NoTarget("unavailable", 45.0)
    desk.fail(first)
    third = desk.pick()
    assert (third.target.provider.name, third.panic) == ("b", True)
    desk.fail(third)
    assert [status.cooldown_left for status in desk.router.statuses(desk.now)] == [45.0, 45.0]


def test_whoever_fails_in_panic_mode_is_not_the_least_bad_for_ever() -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.fail_all("a")
    desk.fail_all("b")
    tried = []
    for _ in range(4):
        ticket = desk.pick()
        tried.append(ticket.target.provider.name)
        desk.fail(ticket)
    assert sorted(tried) == ["a", "a", "b", "b"]


def test_what_an_outage_taught_does_not_keep_the_probe_from_being_made() -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.fail_all("a", UNREACHABLE)
    desk.fail_all("b")
    for _ in range(20):  # in panic mode, all in vain
        desk.fail(desk.pick(), UNREACHABLE)
    desk.now += 300.0
    served = {desk.serve() for _ in range(4)}
    assert served == {"a/a-model", "b/b-model"}


@pytest.mark.parametrize("failure", [SERVER, UNREACHABLE])
def test_an_answer_in_panic_mode_proves_what_a_probe_proves(failure: Failure) -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.fail_all("a", failure)
    desk.fail_all("b", failure)
    ticket = desk.pick()
    name = ticket.target.provider.name
    desk.router.content(ticket, desk.now)
    assert desk.standing()[ticket.target.id] == "degraded"  # slow start
    assert not desk.pick(desk.plan(provider=name)).panic
    desk.router.success(ticket, desk.now)
    # Were it wrong, the old deadline would hold again.
    desk.now += 1.0
    for _ in range(3):
        desk.fail(desk.pick(desk.plan(provider=name)), failure)
    left = {one.provider: one.cooldown_left for one in desk.router.statuses(desk.now)}
    assert left[name] == 45.0
    assert left["b" if name == "a" else "a"] == 44.0


def test_an_answer_in_panic_mode_ends_no_cooldown_of_another_cause() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a")
    first = desk.pick()
    assert first.panic
    state = desk.router._states["a/a-model"]
    state.key.circuit.keep_away(Cause.THROTTLED, 10.0, "rate_minute", desk.now)
    desk.router.content(first, desk.now)
    assert state.key.circuit.state is State.COOLDOWN
    assert state.own.state is State.SLOW_START


def test_a_request_does_not_panic_twice_on_one_backend() -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.fail_all("a")
    desk.fail_all("b")
    plan = desk.plan()
    first = desk.pick(plan)
    desk.fail(first)
    second = desk.pick(plan, tried={first.target.backend}, last=first)
    assert {first.target.id, second.target.id} == {"a/a-model", "b/b-model"}
    desk.fail(second)
    tried: set[object] = {first.target.backend, second.target.backend}
    assert desk.ask(plan, tried=tried, last=second) == NoTarget("unavailable", 45.0)


@pytest.mark.parametrize(
    ("other", "cause"),
    [(throttled(60.0), "throttled"), (AUTH, "unavailable")],
)
def test_no_panic_for_throttling_or_bad_keys(other: Failure, cause: str) -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.fail_all("b", throttled(30.0), times=1)
    desk.fail_all("a", other, times=1)
    assert desk.ask() == NoTarget(cause, 30.0)  # type: ignore[arg-type]  # one of its literals


def test_no_panic_while_a_probe_is_out() -> None:
    desk = Desk(provider("a"), routing=RoutingSettings(max_wait=0.1))
    desk.fail_all("a")
    desk.now += 45.0
    assert desk.pick().probe
    assert desk.ask() == NoTarget("unavailable", 0.25)


def test_errors_and_throttling_together_are_unavailable() -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.fail_all("a")
    desk.fail_all("b", throttled(30.0), times=1)
    assert desk.ask() == NoTarget("unavailable", 30.0)


def test_an_empty_catalog() -> None:
    desk = Desk()
    assert desk.ask() == NoTarget("unavailable", None)
    assert desk.router.explain(desk.plan(), desk.now) == ()


# Limits


def test_requests_per_minute_are_per_key_and_slide() -> None:
    desk = Desk(provider("a", "x", "y", requests_per_minute=3), credentials={"a": ("one", "two")})
    keys = Counter(desk.pick().target.credential for _ in range(6))
    assert keys == {"one": 3, "two": 3}
    assert desk.standing() == dict.fromkeys(("a/x", "a/x#2", "a/y", "a/y#2"), "exhausted")
    assert desk.ask() == NoTarget("throttled", 60.0)
    desk.now += 59.0
    assert desk.ask() == Wait(START + 60.0)
    desk.now += 1.0
    assert isinstance(desk.ask(), Ticket)


def test_the_day_ends_at_midnight_utc() -> None:
    midnight = 20_000 * 86_400.0
    model = ModelSettings(id="m", requests_per_day=2)
    desk = Desk(provider("a", model), epoch=midnight - START - 3_600.0)
    assert [desk.serve() for _ in range(2)] == ["a/m"] * 2
    (status,) = desk.router.statuses(desk.now)
    assert (status.status, status.reason) == ("exhausted", "daily quota used up")
    assert (status.daily_used, status.daily_limit, status.headroom) == (2, 2, 0.0)
    assert desk.ask() == NoTarget("throttled", 3_600.0)
    desk.now += 3_600.0
    assert desk.serve() == "a/m"


def test_concurrency_is_limited_per_key() -> None:
    desk = Desk(provider("a", "x", "y", max_concurrency=2))
    one, _ = desk.pick(), desk.pick()
    assert desk.ask() == Wait(START + 0.25)
    desk.router.release(one, desk.now)
    assert isinstance(desk.ask(), Ticket)


def test_less_headroom_means_fewer_turns() -> None:
    desk = Desk(provider("a", requests_per_minute=100), provider("b"))
    for _ in range(90):
        desk.serve(desk.plan(provider="a"))
        desk.serve(desk.plan(provider="b"))
    desk.now += 1.0
    assert served(desk, 10) == {"b": 10}
    desk.now += 60.0
    assert served(desk, 10) == {"a": 5, "b": 5}


# Tickets


def test_a_ticket_goes_back_once() -> None:
    desk = Desk(provider("a"))
    ticket = desk.pick()
    desk.router.success(ticket, desk.now)
    with pytest.raises(LocalProtocolError):
        desk.router.release(ticket, desk.now)


def test_a_client_that_leaves_changes_no_ones_health() -> None:
    desk = Desk(provider("a"))
    before = desk.router.statuses(desk.now)[0]
    for _ in range(20):
        desk.router.release(desk.pick(), desk.now)
    after = desk.router.statuses(desk.now)[0]
    assert (after.score, after.status, after.in_flight) == (before.score, "available", 0)
    assert (after.attempts, after.success_rate) == (20, None)


# Looking


def test_statuses_tell_what_happened() -> None:
    desk = Desk(provider("a"))
    for seconds in range(1, 11):
        ticket = desk.pick()
        desk.router.content(ticket, desk.now + 0.5)
        desk.router.success(ticket, desk.now + seconds)
    desk.now += 10.0
    desk.fail(desk.pick())
    desk.pick()
    (status,) = desk.router.statuses(desk.now)
    assert (status.target, status.provider, status.model, status.upstream, status.key) == (
        "a/a-model", "a", "a-model", "a-model", "",
    )  # fmt: skip
    assert (status.status, status.reason) == ("degraded", "1 failed in a row")
    assert (status.attempts, status.successes, status.failures, status.in_flight) == (12, 10, 1, 1)
    assert status.success_rate == pytest.approx(10 / 11)
    assert (status.avg_latency_ms, status.p90_latency_ms, status.p99_latency_ms) == (5500.0, 9000.0, 10000.0)
    assert status.ttft_ms == 500.0


def test_a_target_that_was_never_tried() -> None:
    desk = Desk(provider("a"))
    (status,) = desk.router.statuses(desk.now)
    assert (status.status, status.reason, status.cooldown_left) == ("available", "", 0.0)
    assert (status.success_rate, status.avg_latency_ms, status.p90_latency_ms, status.ttft_ms) == (None,) * 4


def test_statuses_on_the_way_back() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a")
    (status,) = desk.router.statuses(desk.now)
    assert (status.status, status.reason) == ("cooldown", "cooling down for 45.0 s: server")
    desk.now += 45.0
    assert desk.router.statuses(desk.now)[0].reason == ""
    probe = desk.pick()
    (status,) = desk.router.statuses(desk.now)
    assert (status.status, status.reason) == ("half_open", "half open: its probe is under way")
    desk.router.content(probe, desk.now)
    assert desk.router.statuses(desk.now)[0].reason == "slow start"


def test_everyone_not_chosen_has_a_reason() -> None:
    desk = Desk(
        provider("a", ModelSettings(id="x", context_window=10), "y", "z", ModelSettings(id="l", tier="low")),
        provider("b"),
        provider("c"),
        provider("spare", fallback=True),
    )
    worsen(desk, model="z")
    desk.fail_all("c")
    plan = desk.plan(prompt_tokens=100)
    expected = {
        "a/x": "lacks a large enough context window",
        "a/y": "",
        "a/z": "its provider has a better one",
        "a/l": "its provider has a model that suits the effort better",
        "b/b-model": "others take this turn",
        "c/c-model": "cooling down for 45.0 s: server",
        "spare/spare-model": "a fallback",
    }
    assert desk.reasons(plan) == expected  # a preview
    assert desk.pick(plan).target.id == "a/y"
    assert desk.reasons(plan) == expected  # looking back
    effort = desk.reasons(desk.plan(effort="low"))
    assert effort["b/b-model"] == "its provider has no model that meets the effort"
    assert effort["a/l"] == ""


def test_a_preview_takes_no_turn() -> None:
    desk = Desk(provider("a", "x", "y"), provider("b"))
    for expected in ("a/x", "b/b-model", "a/y", "b/b-model"):
        for _ in range(2):
            reasons = desk.reasons(desk.plan())
            assert [target for target, reason in reasons.items() if not reason] == [expected]
        assert desk.serve() == expected


def test_an_explanation_when_there_is_nobody() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a", AUTH, times=1)
    assert desk.reasons(desk.plan()) == {"a/a-model": "cooling down for 3600.0 s: auth"}


# Operating


def test_reset_clears_what_is_named() -> None:
    def cleared(**names: str) -> tuple[int, list[str]]:
        desk = Desk(
            provider("a", ModelSettings(id="x", upstream="org/x"), "y"),
            provider("b"),
            credentials={"a": ("one", "two")},
        )
        desk.fail(desk.pick(desk.plan(model="x")), AUTH)  # key one
        desk.fail(desk.pick(desk.plan(model="y")), throttled(60.0))  # a/y#2
        desk.fail(desk.pick(desk.plan(model="x")), GONE)  # model x
        desk.fail_all("b", UNREACHABLE)
        count = desk.router.reset(desk.now, **names)
        return count, [target for target, status in desk.standing().items() if status == "cooldown"]

    assert cleared() == (4, [])
    assert cleared(provider="a") == (3, ["b/b-model"])
    assert cleared(provider="b") == (1, ["a/org/x", "a/org/x#2", "a/y", "a/y#2"])
    assert cleared(model="x") == (1, ["a/org/x", "a/y", "a/y#2", "b/b-model"])
    assert cleared(model="org/x") == (1, ["a/org/x", "a/y", "a/y#2", "b/b-model"])
    assert cleared(key="one") == (1, ["a/org/x", "a/org/x#2", "a/y#2", "b/b-model"])
    assert cleared(key="two", model="y") == (1, ["a/org/x", "a/org/x#2", "a/y", "b/b-model"])
    assert cleared(provider="nobody") == (0, ["a/org/x", "a/org/x#2", "a/y", "a/y#2", "b/b-model"])


def test_a_cooldown_that_is_over_counts_as_one_until_its_probe_has_passed() -> None:
    desk = Desk(provider("a"))
    desk.fail_all("a")
    desk.now += 50.0
    assert desk.router.reset(desk.now) == 1
    assert desk.router.reset(desk.now) == 0
    assert desk.standing() == {"a/a-model": "available"}


def test_a_reload_keeps_the_memory_of_what_still_exists() -> None:
    desk = Desk(provider("a", "x", "y"), provider("b"), credentials={"a": ("one",)})
    desk.fail_all("b")
    desk.fail(desk.pick(), AUTH)
    running = desk.pick(desk.plan(provider="b"))
    assert running.panic
    desk.reload(provider("b", "b-model", "new"), provider("a", "y", base_url="https://a.example/v1/"))
    assert desk.standing() == {"b/b-model": "cooldown", "b/new": "available", "a/y": "cooldown"}
    assert desk.router.statuses(desk.now)[0].in_flight == 1
    desk.router.success(running, desk.now)
    assert desk.router.statuses(desk.now)[0].in_flight == 0


def test_a_provider_at_another_address_or_with_another_key_is_another_one() -> None:
    desk = Desk(provider("a"), provider("b"), credentials={"b": ("old",)})
    desk.fail_all("a", UNREACHABLE)
    desk.fail_all("b", AUTH, times=1)
    desk.credentials = {"b": ("new",)}
    desk.reload(provider("a", base_url="https://elsewhere.example"), provider("b"))
    assert set(desk.standing().values()) == {"available"}


def test_a_renewed_secret_heals_its_key_at_once() -> None:
    desk = Desk(provider("a"), provider("b"), credentials={"a": ("one",), "b": ("two",)})
    desk.fail_all("a", AUTH, times=1)
    desk.fail_all("b", AUTH, times=1)
    desk.reload(provider("a"), provider("b"), renewed=("two",))
    assert desk.standing() == {"a/a-model": "cooldown", "b/b-model": "available"}


def test_a_plan_from_before_a_reload_still_works() -> None:
    desk = Desk(provider("a"), provider("b"))
    plan = desk.plan()
    desk.reload(provider("b"))
    ticket = desk.pick(plan)
    assert ticket.target.id == "a/a-model"
    desk.fail(ticket)
    assert desk.pick(plan, tried={ticket.target.backend}).target.id == "b/b-model"


def test_turns_survive_a_reload() -> None:
    desk = three()
    desk.serve()
    desk.reload(provider("a"), provider("b"), provider("c"))
    assert desk.serve() == "b/b-model"


def test_the_memory_of_turns_is_bounded() -> None:
    desk = three()
    desk.serve()
    for number in range(MAX_ROTATIONS):
        desk.router._rotation((f"made up {number}",))
    assert desk.serve() == "b/b-model"  # a plan's own turns go on
    desk.reload(provider("a"), provider("b"), provider("c"))
    assert desk.serve() == "a/a-model"

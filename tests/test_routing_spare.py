"""Who may serve a request beside the target that serves it already."""

import pytest

from gwproto.config import ModelSettings
from gwproto.routing.router import Ticket
from support.routing import GONE, Desk, provider, throttled


def spare(desk: Desk, first: Ticket) -> str:
    """The second target's id, or ``""``; nothing else is left behind."""
    ticket = desk.router.spare(first.plan, desk.now, {first.target.backend})
    if ticket is None:
        return ""
    assert not ticket.probe
    assert not ticket.panic
    desk.router.release(ticket, desk.now)
    return ticket.target.id


def test_another_provider_rather_than_another_target() -> None:
    desk = Desk(provider("a", "one", "two"), provider("b"))
    for _ in range(4):
        first = desk.pick()
        found = spare(desk, first)
        assert found
        assert found.partition("/")[0] != first.target.provider.name


def test_another_key_where_there_is_no_other_provider() -> None:
    desk = Desk(provider("a"), credentials={"a": ("one", "two")})
    first = desk.pick()
    assert spare(desk, first) == ("a/a-model#2" if first.target.id == "a/a-model" else "a/a-model")


def test_nobody_at_all() -> None:
    desk = Desk(provider("a"))
    assert spare(desk, desk.pick()) == ""


def test_never_a_fallback() -> None:
    desk = Desk(provider("a"), provider("spare", fallback=True))
    assert spare(desk, desk.pick()) == ""


def test_never_who_rests_and_never_as_a_probe() -> None:
    desk = Desk(provider("a"), provider("b"))
    desk.fail_all("b")
    first = desk.pick()
    assert spare(desk, first) == ""
    desk.now += 46.0  # its cooldown is over
    assert spare(desk, first) == ""
    assert desk.standing()["b/b-model"] == "half_open"


def test_slow_start_is_well_enough() -> None:
    desk = Desk(provider("a"), provider("b"))
    first = desk.pick(desk.plan(provider="a"))
    desk.fail(desk.pick(desk.plan(provider="b")), throttled(10.0))
    desk.now += 20.0
    probe = desk.pick(desk.plan(provider="b"))
    desk.router.content(probe, desk.now)
    desk.router.success(probe, desk.now)
    assert spare(desk, Ticket(first.target, False, False, desk.now, first.state, desk.plan())) == "b/b-model"


@pytest.mark.parametrize(("used", "found"), [(7, "b/b-model"), (9, "")])
def test_never_what_is_scarce(used: int, found: str) -> None:
    desk = Desk(provider("a"), provider("b", ModelSettings(id="b-model", requests_per_day=10)))
    plan = desk.plan(provider="b")
    for _ in range(used):
        desk.serve(plan)
    first = desk.pick(desk.plan(provider="a"))
    assert spare(desk, Ticket(first.target, False, False, desk.now, first.state, desk.plan())) == found


def test_never_who_refused_this_request_for_good() -> None:
    desk = Desk(provider("a"), provider("b"), provider("c"))
    first = desk.pick()
    second = desk.router.spare(first.plan, desk.now, {first.target.backend})
    assert second is not None
    desk.fail(second, GONE)
    desk.router.reset(desk.now)
    assert spare(desk, first) not in ("", second.target.id)


def test_who_was_overtaken_is_known_to_be_no_faster_than_that() -> None:
    desk = Desk(provider("a"), provider("b"))
    slow = desk.pick(desk.plan(provider="a"))
    before = desk.router.statuses(desk.now)[0]
    desk.now += 5.0
    desk.router.overtaken(slow, desk.now)
    assert list(slow.state.delays) == [5.0]
    assert slow.state.own.evidence.estimates(desk.now)[1] > 1.0
    after = desk.router.statuses(desk.now)[0]
    assert (after.failures, after.in_flight, after.status) == (before.failures, 0, "available")
    brief = desk.pick(desk.plan(provider="a"))
    desk.now += 0.01
    desk.router.overtaken(brief, desk.now)
    assert list(brief.state.delays) == [5.0]  # that says nothing
    assert desk.router.statuses(desk.now)[0].in_flight == 0

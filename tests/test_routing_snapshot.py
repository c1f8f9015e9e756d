"""What the router knows outlives the process as a plain value, aged by the time in between."""

import random

import msgspec
import pytest

from gwproto.config import ModelSettings, ProviderSettings
from gwproto.routing.health import Circuit
from gwproto.routing.router import NoTarget, Ticket
from gwproto.routing.snapshot import RouterState
from support.routing import (
    AUTH,
    GONE,
    SERVER,
    START,
    THROTTLED,
    UNREACHABLE,
    Desk,
    provider,
    standing_of,
    throttled,
)

PROVIDERS = (provider("a", "x", "y"), provider("b", ModelSettings(id="z", requests_per_day=10)))
ELSEWHERE = 5_000.0  # another process's clock


def moved(desk: Desk, elapsed: float, *, renewed: tuple[str, ...] = (), epoch: float = 0.0) -> Desk:
    """Another router that goes on from what ``desk`` knew, by way of JSON."""
    text = msgspec.json.encode(desk.router.snapshot(desk.now))
    other = Desk(*desk.settings.providers, credentials=desk.credentials, epoch=epoch)
    other.now = ELSEWHERE
    memory = msgspec.json.decode(text, type=RouterState)
    other.router.restore(memory, elapsed, other.now, renewed=renewed)
    return other


def desk(*providers: ProviderSettings) -> Desk:
    return Desk(*(providers or PROVIDERS), credentials={"a": ("one",), "b": ("two",)})


def test_what_is_as_good_as_new_is_not_kept() -> None:
    assert desk().router.snapshot(START) == RouterState({}, {}, {}, {})


def test_cooldowns_go_on_where_they_were() -> None:
    before = desk()
    before.fail(before.pick(before.plan(model="x")), throttled(100.0))
    assert moved(before, 40.0).standing()["a/x"] == "cooldown"
    (status, *_) = moved(before, 40.0).router.statuses(ELSEWHERE)
    assert status.cooldown_left == pytest.approx(60.0)
    assert "rate_minute" in status.reason
    assert moved(before, 100.0).standing()["a/x"] == "half_open"


@pytest.mark.parametrize(
    ("failure", "out"), [(AUTH, {"a/x", "a/y"}), (GONE, {"a/x"}), (UNREACHABLE, {"a/x", "a/y"})]
)
def test_every_scope_is_kept(failure: object, out: set[str]) -> None:
    before = desk()
    for _ in range(3):
        before.fail(before.pick(before.plan(model="x")), failure)  # type: ignore[arg-type]  # parametrised
        if before.standing()["a/x"] == "cooldown":
            break
    standing = moved(before, 1.0).standing()
    assert {name for name, status in standing.items() if status == "cooldown"} == out


def test_probing_and_slow_start_go_on() -> None:
    before = desk()
    before.fail_all("b")
    before.now += 46.0
    probe = before.pick(before.plan(provider="b"))
    after = moved(before, 1.0)
    assert after.standing()["b/z"] == "half_open"
    again = after.pick(after.plan(provider="b"))  # whoever held the slot is no more
    assert again.probe
    before.router.content(probe, before.now)
    assert moved(before, 1.0).standing()["b/z"] == "degraded"


def test_pauses_go_on_doubling() -> None:
    before = desk()
    before.fail(before.pick(before.plan(provider="b")), THROTTLED)
    after = moved(before, 20.0)
    ticket = after.pick(after.plan(provider="b"))
    after.fail(ticket, THROTTLED)
    assert [s.cooldown_left for s in after.router.statuses(after.now)][-1] == pytest.approx(20.0)


def test_evidence_ages_meanwhile() -> None:
    before = desk()
    for _ in range(2):
        before.fail(before.pick(before.plan(provider="b")), SERVER)
    fresh, aged = moved(before, 0.0), moved(before, 3000.0)
    scores = [one.router.statuses(one.now)[-1].score for one in (before, fresh, aged, desk())]
    assert scores[0] == pytest.approx(scores[1])
    assert scores[1] < scores[2] < scores[3] + 1e-9


def test_daily_use_is_kept_for_its_day() -> None:
    before = desk()
    for _ in range(4):
        before.serve(before.plan(provider="b"))
    assert moved(before, 10.0).router.statuses(ELSEWHERE)[-1].daily_used == 4
    assert moved(before, 86_400.0).router.statuses(ELSEWHERE)[-1].daily_used == 0


def test_a_renewed_secret_is_healed() -> None:
    before = desk()
    before.fail(before.pick(before.plan(model="x")), AUTH)
    before.fail(before.pick(before.plan(provider="b")), throttled(100.0))
    standing = moved(before, 1.0, renewed=("one",)).standing()
    assert standing == {"a/x": "available", "a/y": "available", "b/z": "cooldown"}


def test_another_address_is_another_provider() -> None:
    before = desk()
    before.fail_all("b")
    memory = before.router.snapshot(before.now)
    other = Desk(provider("b", "z", base_url="https://elsewhere.example/v1"))
    other.router.restore(memory, 1.0, other.now)
    assert other.standing() == {"b/z": "available"}


def test_restoring_never_moves_a_deadline_back() -> None:
    circuit, other = Circuit(), desk()
    other.fail(other.pick(other.plan(provider="b")), throttled(10.0))
    kept = other.router.snapshot(other.now).targets
    (memory,) = [value.circuit for value in kept.values() if value.circuit is not None]
    long = msgspec.structs.replace(memory, left=200.0)
    circuit.restore(long, 0.0, START)
    circuit.restore(memory, 0.0, START)
    assert circuit.until == START + 200.0


def lived(desk: Desk, seed: int) -> list[object]:
    """A history of requests; the same seed gives the same, whatever the clock says. How each of them was answered."""
    chance = random.Random(seed)
    answers: list[object] = []
    for _ in range(40):
        choice = desk.ask(desk.plan(model=chance.choice("xyz")), within=0.0)
        failure = chance.choice((None, None, SERVER, SERVER, AUTH, GONE, UNREACHABLE, throttled(20.0)))
        desk.now += chance.choice((0.013, 0.7, 5.3, 47.1))
        if not isinstance(choice, Ticket):
            answers.append(choice.cause if isinstance(choice, NoTarget) else "wait")
            continue
        answers.append((choice.target.id, choice.probe, choice.panic))
        if failure is None:
            desk.router.content(choice, desk.now)
            desk.router.success(choice, desk.now, 10)
        else:
            desk.fail(choice, failure)
    return answers


@pytest.mark.parametrize("elapsed", [0.0, 3.7, 46.9, 700.3])
def test_restoring_after_some_time_is_as_good_as_having_waited(elapsed: float) -> None:
    cooling = 0
    for seed in range(40):
        # Attempts are counted where there is a limit; one that refusals let guess is not kept.
        x, y, z = [ModelSettings(id=name, requests_per_day=70) for name in "xyz"]
        before = desk(provider("a", x, y), provider("b", z))
        lived(before, seed)
        after = moved(before, elapsed, epoch=before.now + elapsed - ELSEWHERE)  # it is as late for both
        before.now += elapsed
        expected = standing_of(before.router, before.now)
        assert standing_of(after.router, after.now) == pytest.approx(expected)
        cooling += "cooldown" in before.standing().values()
        # And it goes on like that: every request of a second history is answered alike, and teaches alike.
        assert lived(after, seed + 1000) == lived(before, seed + 1000)
        expected = standing_of(before.router, before.now)
        assert standing_of(after.router, after.now) == pytest.approx(expected)
    assert cooling > 10

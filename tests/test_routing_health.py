"""One scope's circuit: states x events, cooldowns and their lengths."""

from collections.abc import Callable

import pytest

from gwproto.config import HealthSettings
from gwproto.routing.health import SLOW_START_SUCCESSES, Circuit
from gwproto.routing.values import Cause, State

SETTINGS = HealthSettings()
T = 5_000.0
PROBE = object()
STRANGER = object()

A, C, H, S = State.AVAILABLE, State.COOLDOWN, State.HALF_OPEN, State.SLOW_START


def available() -> Circuit:
    return Circuit()


def cooling() -> Circuit:
    """Until T + 45."""
    circuit = Circuit()
    for _ in range(3):
        circuit.failure(STRANGER, "server", SETTINGS, T)
    return circuit


def half_open() -> Circuit:
    """Its slot is free; it became half-open before T."""
    circuit = Circuit()
    circuit.keep_away(Cause.ERRORS, 5.0, "server", T - 6.0)
    circuit.settle(T)
    return circuit


def probing() -> Circuit:
    circuit = half_open()
    circuit.claim(PROBE)
    return circuit


def slow_start() -> Circuit:
    circuit = probing()
    circuit.content(PROBE)
    return circuit


Event = Callable[[Circuit], object]


def two_failures(circuit: Circuit) -> None:
    circuit.failure(STRANGER, "server", SETTINGS, T)
    circuit.failure(STRANGER, "server", SETTINGS, T)


def third_failure(circuit: Circuit) -> None:
    two_failures(circuit)
    circuit.failure(STRANGER, "server", SETTINGS, T)


def nine_successes(circuit: Circuit) -> None:
    for _ in range(9):
        circuit.success(T)


def ten_successes(circuit: Circuit) -> None:
    nine_successes(circuit)
    circuit.success(T)


EVENTS: dict[str, Event] = {
    "success": lambda circuit: circuit.success(T),
    "9 successes": nine_successes,
    "10 successes": ten_successes,
    "1 failure": lambda circuit: circuit.failure(STRANGER, "server", SETTINGS, T),
    "2 failures": two_failures,
    "3 failures": third_failure,
    "probe's failure": lambda circuit: circuit.failure(PROBE, "server", SETTINGS, T),
    "throttle": lambda circuit: circuit.keep_away(Cause.THROTTLED, 100.0, "rate", T),
    "short throttle": lambda circuit: circuit.keep_away(Cause.THROTTLED, 1.0, "rate", T),
    "disable": lambda circuit: circuit.keep_away(Cause.DISABLED, 3600.0, "auth", T),
    "probe's content": lambda circuit: circuit.content(PROBE),
    "stranger's content": lambda circuit: circuit.content(STRANGER),
    "probe's release": lambda circuit: circuit.release(PROBE),
    "stranger's release": lambda circuit: circuit.release(STRANGER),
    "the clock": lambda circuit: circuit.settle(T + 44.9),
    "the clock, later": lambda circuit: circuit.settle(T + 45.0),
    "reset": lambda circuit: circuit.reset(),
}

#                       available  cooling    half-open  probing    slow start
TABLE: dict[str, str] = {
    "success":            "A        C          H+         H-         S",
    "9 successes":        "A        C          H+         H-         S",
    "10 successes":       "A        C          H+         H-         A",
    "1 failure":          "A        C          H+         H-         S",
    "2 failures":         "A        C          H+         H-         S",
    "3 failures":         "C+45     C          H+         H-         C+45",
    "probe's failure":    "A        C          H+         C+45       S",
    "throttle":           "C+100    C+100      C+100      C+100      C+100",
    "short throttle":     "C+1      C          C+1        C+1        C+1",
    "disable":            "C+3600   C+3600     C+3600     C+3600     C+3600",
    "probe's content":    "A        C          H+         S          S",
    "stranger's content": "A        C          H+         H-         S",
    "probe's release":    "A        C          H+         H+         S",
    "stranger's release": "A        C          H+         H-         S",
    "the clock":          "A        C          H+         H-         S",
    "the clock, later":   "A        H+         H+         H-         S",
    "reset":              "A        A          A          A          A",
}  # fmt: skip
STATES: dict[str, Callable[[], Circuit]] = {
    "available": available,
    "cooling": cooling,
    "half-open": half_open,
    "probing": probing,
    "slow start": slow_start,
}


def seen(circuit: Circuit) -> str:
    """As the table has it: +/- in half-open is whether the slot is free, C alone is the 45 s of before."""
    match circuit.state:
        case State.AVAILABLE:
            return "A"
        case State.SLOW_START:
            return "S"
        case State.HALF_OPEN:
            return "H+" if circuit.passable(T) else "H-"
        case State.COOLDOWN:
            return f"C+{circuit.until - T:g}"


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_states_by_events(state: str, event: str) -> None:
    circuit = STATES[state]()
    EVENTS[event](circuit)
    expected = TABLE[event].split()[list(STATES).index(state)]
    assert seen(circuit) == ("C+45" if expected == "C" else expected)


def test_passable() -> None:
    now = {name: make().passable(T) for name, make in STATES.items()}
    assert now == {
        "available": True,
        "cooling": False,
        "half-open": True,
        "probing": False,
        "slow start": True,
    }
    circuit = cooling()
    assert not circuit.passable(T + 44.9)
    assert circuit.passable(T + 45.0)
    assert circuit.state is H


def test_a_success_ends_a_row_of_failures() -> None:
    circuit = Circuit()
    for _ in range(40):
        circuit.success(T)
    for _ in range(5):
        two_failures(circuit)
        circuit.success(T)
    assert circuit.state is A


def test_three_of_ten_cool_down_but_not_before_there_are_ten() -> None:
    circuit = Circuit()
    outcomes = [False, True, False, True, True, False, True, True, True]
    for success in outcomes:
        circuit.success(T) if success else circuit.failure(STRANGER, "server", SETTINGS, T)
    assert circuit.state is A
    circuit.failure(STRANGER, "server", SETTINGS, T)
    assert circuit.state is C


def test_ten_outcomes_within_a_minute_are_ten_recent_ones() -> None:
    circuit = Circuit()
    for second in range(9):
        now = T + 5.0 * second
        circuit.success(now) if second % 3 else circuit.failure(STRANGER, "server", SETTINGS, now)
    assert circuit.state is A
    assert circuit.failure(STRANGER, "server", SETTINGS, T + 45.0)


def test_one_failure_after_old_ones_only_costs_a_retry() -> None:
    circuit = Circuit()
    for second in range(12):
        circuit.success(T)
        if second % 4 == 3:
            circuit.failure(STRANGER, "server", SETTINGS, T)
    circuit.success(T)
    assert not circuit.failure(STRANGER, "server", SETTINGS, T + 3000.0)
    assert circuit.state is A


def test_cooldowns_double_while_probes_fail_and_begin_anew_once_one_has_passed() -> None:
    circuit = cooling()
    now = circuit.until
    lengths = []
    for _ in range(5):
        assert circuit.passable(now)
        circuit.claim(PROBE)
        assert circuit.failure(PROBE, "server", SETTINGS, now)
        lengths.append(circuit.until - now)
        now = circuit.until
    assert lengths == [90.0, 180.0, 300.0, 300.0, 300.0]
    assert circuit.passable(now)
    circuit.claim(PROBE)
    circuit.content(PROBE)
    for _ in range(3):
        circuit.failure(STRANGER, "server", SETTINGS, now)
    assert circuit.until - now == 45.0


def test_throttling_without_a_hint_doubles_until_a_success() -> None:
    circuit = Circuit()
    assert [circuit.next_throttle_pause(SETTINGS) for _ in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    circuit.success(T)
    assert circuit.next_throttle_pause(SETTINGS) == 10


def test_throttling_is_not_ill_health() -> None:
    circuit = Circuit()
    before = circuit.evidence.estimates(T)[0]
    circuit.keep_away(Cause.THROTTLED, 10.0, "rate", T)
    assert (circuit.failures, circuit.evidence.estimates(T)[0]) == (0, before)


def test_an_old_probe_has_no_say_after_a_new_cooldown() -> None:
    circuit = probing()
    circuit.keep_away(Cause.THROTTLED, 10.0, "rate", T)
    circuit.settle(T + 10.0)
    circuit.claim(STRANGER)
    circuit.content(PROBE)
    circuit.release(PROBE)
    assert not circuit.failure(PROBE, "server", SETTINGS, T + 11.0)
    assert circuit.state is H
    assert circuit.holder is STRANGER


def test_evidence_from_before_a_cooldown_does_not_outlive_it() -> None:
    circuit = cooling()
    assert circuit.evidence.estimates(T)[0] < 0.75
    circuit.settle(T + 45.0)
    assert circuit.evidence.estimates(T + 45.0)[0] == 0.9
    assert circuit.failures == 0


def test_slow_start_raises_the_weight_with_each_success() -> None:
    circuit = slow_start()
    weights = []
    while circuit.state is S:
        weights.append(circuit.weight)
        circuit.success(T)
    assert weights == [(n + 1) / 10 for n in range(SLOW_START_SUCCESSES)]
    assert circuit.weight == 1.0


def test_a_reset_forgets_it_all() -> None:
    circuit = cooling()
    circuit.caused_by = PROBE
    circuit.next_throttle_pause(SETTINGS)
    circuit.reset()
    assert (circuit.state, circuit.failures, circuit.caused_by, circuit.reason) == (A, 0, None, "")
    assert circuit.evidence.estimates(T)[0] == 0.9
    assert circuit.next_throttle_pause(SETTINGS) == 10


def test_what_a_request_caused_is_no_longer_its_own_after_another_cooldown() -> None:
    circuit = cooling()
    circuit.caused_by = PROBE
    assert circuit.keep_away(Cause.DISABLED, 3600.0, "auth", T)
    assert circuit.caused_by is None
    assert not circuit.keep_away(Cause.THROTTLED, 10.0, "rate", T)
    assert circuit.cause is Cause.DISABLED

"""The router's view of its targets, for status pages and metrics."""

import math
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from gwproto.routing.catalog import Target
from gwproto.routing.state import TargetState
from gwproto.routing.values import State

Status = Literal["available", "degraded", "cooldown", "half_open", "exhausted"]


class TargetStatus(Struct, frozen=True, gc=False):
    """One target at one moment. Rates are in 0..1; None where nothing has been seen yet."""

    target: str
    provider: str
    model: str  # as clients name it
    upstream: str
    key: str  # the credential's name
    status: Status
    reason: str
    cooldown_left: float  # seconds
    score: float
    attempts: int
    successes: int
    failures: int
    throttles: int
    success_rate: float | None
    avg_latency_ms: float | None
    p90_latency_ms: float | None
    p99_latency_ms: float | None
    ttft_ms: float | None
    headroom: float
    in_flight: int
    consecutive_failures: int
    daily_used: int
    daily_limit: int  # 0 = unknown


def target_status(target: Target, state: TargetState, now: float) -> TargetStatus:
    """What the router knows about ``target``."""
    status, reason, until = _standing(state, now)
    judged = state.successes + state.failures
    durations = sorted(state.durations)
    return TargetStatus(
        target=target.id,
        provider=target.provider.name,
        model=target.model.id,
        upstream=target.model.upstream,
        key=target.credential,
        status=status,
        reason=reason,
        cooldown_left=max(0.0, until - now),
        score=state.score(now),
        attempts=state.attempts,
        successes=state.successes,
        failures=state.failures,
        throttles=state.throttles,
        success_rate=state.successes / judged if judged else None,
        avg_latency_ms=_mean_ms(durations),
        p90_latency_ms=_percentile_ms(durations, 0.90),
        p99_latency_ms=_percentile_ms(durations, 0.99),
        ttft_ms=_mean_ms(state.delays),
        headroom=state.headroom(now),
        in_flight=state.in_flight,
        consecutive_failures=max(circuit.failures for circuit in state.circuits),
        daily_used=state.used_today(now),
        daily_limit=target.model.requests_per_day,
    )


def _standing(state: TargetState, now: float) -> tuple[Status, str, float]:
    """The status, its reason, and until when it lasts (0: unknown)."""
    for circuit in state.circuits:
        circuit.settle(now)
    obstacle = state.obstacle(now)
    if obstacle is not None and obstacle.cooling:
        return "cooldown", obstacle.reason, obstacle.until
    if any(circuit.state is State.HALF_OPEN for circuit in state.circuits):
        return "half_open", "" if obstacle is None else obstacle.reason, 0.0
    if obstacle is not None:
        return "exhausted", obstacle.reason, obstacle.until
    if state.weight < 1.0:
        return "degraded", "slow start", 0.0
    failures = max(circuit.failures for circuit in state.circuits)
    if failures:
        return "degraded", f"{failures} failed in a row", 0.0
    return "available", "", 0.0


def _mean_ms(samples: Iterable[float]) -> float | None:
    values = list(samples)
    return 1000.0 * sum(values) / len(values) if values else None


def _percentile_ms(ordered: list[float], share: float) -> float | None:
    """Nearest rank."""
    if not ordered:
        return None
    return 1000.0 * ordered[math.ceil(share * len(ordered)) - 1]

"""The gateway's own answers: models, health, the state of routing, errors."""

from typing import Literal

import msgspec
from msgspec import Struct

from gwproto.exchange.account import refusal
from gwproto.exchange.reply import Answer, error_answer, refused, retry_after
from gwproto.exchange.shared import Shared
from gwproto.policy.standing import rate_headers
from gwproto.policy.values import Rejection
from gwproto.routing.catalog import Catalog, Target
from gwproto.routing.router import TargetStatus
from gwproto.routing.status import Status
from gwproto.values import Headers
from gwproto.wire.openai.models import Model, ModelList

_encoder = msgspec.json.Encoder()

#: Worst first: what a model or a provider with several targets shows is its best target's status.
_RANK = ("exhausted", "cooldown", "half_open", "degraded", "available")


class Probe(Struct, frozen=True, gc=False):
    """``GET /livez`` and ``/readyz``."""

    status: Literal["ok", "draining"]


class TargetHealth(Struct, frozen=True, gc=False):
    """A target's figures; None where nothing has been seen yet."""

    key: str  # the target's id
    attempts: int
    success_rate: float | None
    avg_latency_ms: float | None
    p90_latency_ms: float | None
    p99_latency_ms: float | None
    cooldown_until: int  # milliseconds since 1970; 0: it has none
    headroom: float
    daily_used: int
    daily_limit: int  # 0: unknown


class Health(Struct, frozen=True, gc=False):
    """``GET /health``."""

    ok: bool
    models: list[TargetHealth]


class ProviderSummary(Struct, frozen=True, gc=False):
    """A provider by its best target, and the sums of all."""

    status: Status
    reason: str
    targets: int
    attempts: int
    success_rate: float | None
    in_flight: int


class RoutingStatus(Struct, frozen=True, gc=False):
    """``GET /v1/routing/status``."""

    fallback_order: list[TargetStatus]
    providers: dict[str, ProviderSummary]


def json_answer(value: object, *, status: int = 200, headers: Headers = ()) -> Answer:
    return Answer(status, _encoder.encode(value), headers=headers)


def rejected(rejection: Rejection) -> Answer:
    """For a request that its head has refused already."""
    standing = rate_headers(rejection.requests, rejection.tokens)
    return refused(refusal(rejection), (retry_after(rejection.retry_after), *standing))


def models(catalog: Catalog, shared: Shared, now: float) -> Answer:
    """``GET /v1/models``: ``auto`` first, then every model by id."""
    return json_answer(ModelList(data=_rows(catalog, shared, now)))


def model(catalog: Catalog, shared: Shared, name: str, now: float) -> Answer:
    """``GET /v1/models/{id}``."""
    rows = {row.id: row for row in _rows(catalog, shared, now)}
    row = rows.get(name)
    if row is None:  # by another of its names, or an alias
        targets = catalog.resolve(name)
        row = rows[targets[0].model.id] if targets else None
    if row is not None:
        return json_answer(row)
    message = f"The model '{name[:200]}' does not exist."
    return error_answer(404, "model_not_found", message, param="model")


def health(shared: Shared, now: float) -> Answer:
    """``GET /health``: figures per target; ``ok`` while anything can be served."""
    statuses = shared.router.statuses(now)
    return json_answer(
        Health(
            ok=any(status.status in ("available", "degraded", "half_open") for status in statuses),
            models=[
                TargetHealth(
                    key=status.target,
                    attempts=status.attempts,
                    success_rate=status.success_rate,
                    avg_latency_ms=status.avg_latency_ms,
                    p90_latency_ms=status.p90_latency_ms,
                    p99_latency_ms=status.p99_latency_ms,
                    cooldown_until=_instant(status.cooldown_left, now + shared.epoch),
                    headroom=status.headroom,
                    daily_used=status.daily_used,
                    daily_limit=status.daily_limit,
                )
                for status in statuses
            ],
        )
    )


def routing_status(shared: Shared, now: float) -> Answer:
    """``GET /v1/routing/status``: the fallback order with reasons, and a summary per provider."""
    statuses = sorted(
        shared.router.statuses(now), key=lambda status: (-_RANK.index(status.status), -status.score)
    )
    providers: dict[str, list[TargetStatus]] = {}
    for status in statuses:
        providers.setdefault(status.provider, []).append(status)
    return json_answer(
        RoutingStatus(statuses, {name: _summary(members) for name, members in providers.items()})
    )


def _summary(members: list[TargetStatus]) -> ProviderSummary:
    successes = sum(member.successes for member in members)
    judged = successes + sum(member.failures for member in members)
    best = members[0]
    return ProviderSummary(
        status=best.status,
        reason=best.reason,
        targets=len(members),
        attempts=sum(member.attempts for member in members),
        success_rate=successes / judged if judged else None,
        in_flight=sum(member.in_flight for member in members),
    )


def _instant(cooldown: float, wall: float) -> int:
    """When a cooldown ends, in milliseconds since 1970; 0 when there is none."""
    return int((wall + cooldown) * 1000) if cooldown > 0 else 0


def _rows(catalog: Catalog, shared: Shared, now: float) -> list[Model]:
    best: dict[str, str] = {}
    for status in shared.router.statuses(now):
        shown = best.get(status.model)
        if shown is None or _RANK.index(status.status) > _RANK.index(shown):
            best[status.model] = status.status
    created = shared.listed_at(now)
    rows = [Model(id="auto", created=created, owned_by="gwproto")]
    seen: set[str] = set()
    for target in catalog.targets:
        if target.model.id not in seen:
            seen.add(target.model.id)
            rows.append(_row(target, best[target.model.id], created))
    return rows


def _row(target: Target, health: str, created: int) -> Model:
    about = target.model
    return Model(
        id=about.id,
        created=created,
        owned_by=target.provider.name,
        provider=target.provider.name,
        upstream_model=about.upstream,
        tier=about.tier,
        capabilities=None if about.capabilities is None else sorted(about.capabilities),
        context_window=about.context_window or None,
        max_output=about.max_output or None,
        health=health,
    )

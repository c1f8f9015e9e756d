"""What an operator may ask of the routing, and do to it."""

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gwproto.answers import json_answer
from gwproto.exchange.intake import Intake
from gwproto.exchange.reply import Answer
from gwproto.exchange.shared import Shared
from gwproto.failures import Failure
from gwproto.routing.catalog import Catalog
from gwproto.values import Candidate, Terms
from gwproto.wire.openai.request import refusal


class Considered(Struct, frozen=True, gc=False):
    """A target, and why it would not be chosen."""

    target: str
    provider: str
    model: str
    upstream: str
    key: str  # the credential's name
    reason: str | None  # None: it would be
    score: float | None
    terms: Terms | None


class Explanation(Struct, frozen=True, gc=False, kw_only=True):
    """``POST /v1/routing/explain``."""

    object: Literal["routing.decision"] = "routing.decision"
    model: str
    reasoning_effort: str
    needs: list[str]
    estimated_prompt_tokens: int
    chosen: Considered | None
    candidates: list[Considered]


def explain(intake: Intake, catalog: Catalog, shared: Shared, now: float) -> Answer | Failure:
    """``POST /v1/routing/explain``: where this chat request would go now, and why nowhere else. Nothing is sent."""
    understood = intake.finish()
    if isinstance(understood, Failure):
        return understood
    request, demand = understood
    plan = shared.router.plan(demand)
    if isinstance(plan, Failure):
        return plan
    candidates = shared.router.explain(plan, now)
    targets = {target.id: target for target in catalog.targets}

    def row(candidate: Candidate) -> Considered:
        target = targets[candidate.target]
        return Considered(
            target=target.id,
            provider=target.provider.name,
            model=target.model.id,
            upstream=target.model.upstream,
            key=target.credential,
            reason=candidate.reason or None,
            score=candidate.score,
            terms=candidate.terms,
        )

    rows = [row(candidate) for candidate in candidates]
    return json_answer(
        Explanation(
            model=request.model,
            reasoning_effort=request.effort,
            needs=sorted(demand.needs),
            estimated_prompt_tokens=demand.prompt_tokens,
            chosen=next((entry for entry in rows if entry.reason is None), None),
            candidates=rows,
        )
    )


class Reset(Struct, frozen=True, forbid_unknown_fields=True):
    """Which cooldowns to end: those of a provider, a model, a credential, or of all."""

    provider: str | None = None
    model: str | None = None
    key: str | None = None


class ResetDone(Struct, frozen=True, gc=False, kw_only=True):
    """``POST /v1/routing/reset``: what was asked for, and how many cooldowns have ended."""

    object: Literal["routing.reset"] = "routing.reset"
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    ended: int


_decode_reset = msgspec.json.Decoder(Reset).decode


def reset(intake: Intake, catalog: Catalog, shared: Shared, now: float) -> Answer | Failure:
    """``POST /v1/routing/reset``: end the cooldowns of a provider, model or key, or all of them."""
    try:
        wanted = _decode_reset(intake.whole() or b"{}")
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        return refusal("invalid_value", f"{what}.", path.rstrip("`") or None)
    except msgspec.DecodeError as error:
        return refusal("invalid_json", f"The request body is not valid JSON: {error}.")
    known = {
        "provider": {target.provider.name for target in catalog.targets},
        "model": {name for target in catalog.targets for name in (target.model.id, target.model.upstream)},
        "key": {target.credential for target in catalog.targets} - {""},
    }
    named = {name: value for name in known if (value := getattr(wanted, name))}
    for name, value in named.items():
        if value not in known[name]:
            valid = ", ".join(sorted(known[name]))
            return refusal("invalid_value", f"Unknown {name} {value[:200]!r}. Valid: {valid}.", name)
    ended = shared.router.reset(now, **named)
    return json_answer(ResetDone(**named, ended=ended))

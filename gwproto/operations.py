"""What an operator may ask of the routing, and do to it."""

import msgspec
from msgspec import Struct

from gwproto.answers import json_answer
from gwproto.exchange.intake import Intake
from gwproto.exchange.reply import Answer
from gwproto.exchange.shared import Shared
from gwproto.failures import Failure
from gwproto.routing.catalog import Catalog
from gwproto.values import Candidate
from gwproto.wire.openai.request import refusal


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

    def row(candidate: Candidate) -> dict[str, object]:
        target = targets[candidate.target]
        return {
            "target": target.id,
            "provider": target.provider.name,
            "model": target.model.id,
            "upstream": target.model.upstream,
            "key": target.credential,
            "reason": candidate.reason or None,
            "score": candidate.score,
            "terms": candidate.terms,
        }

    rows = [row(candidate) for candidate in candidates]
    return json_answer(
        {
            "object": "routing.decision",
            "model": request.model,
            "reasoning_effort": request.effort,
            "needs": sorted(demand.needs),
            "estimated_prompt_tokens": demand.prompt_tokens,
            "chosen": next((entry for entry in rows if entry["reason"] is None), None),
            "candidates": rows,
        }
    )


class _Reset(Struct, frozen=True, forbid_unknown_fields=True):
    provider: str | None = None
    model: str | None = None
    key: str | None = None


_decode_reset = msgspec.json.Decoder(_Reset).decode


def reset(intake: Intake, catalog: Catalog, shared: Shared, now: float) -> Answer | Failure:
    """``POST /v1/routing/reset``: end the cooldowns of a provider, model or key, or all of them."""
    try:
        wanted = _decode_reset(intake.whole().strip() or b"{}")
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
    return json_answer({"object": "routing.reset", **named, "ended": ended})

"""Records of requests as a gateway might have had them over some days."""

import math
from collections.abc import Iterator, Sequence
from random import Random

from gwproto import AttemptRecord, Ending, Outcome, Usage
from gwproto.values import Candidate, Decision, Terms

CHAT = "/v1/chat/completions"
#: How requests end, of a hundred.
_ENDINGS = (
    [Ending.COMPLETED] * 93
    + [Ending.FAILED] * 2
    + [Ending.REFUSED] * 2
    + [Ending.CLIENT_CLOSED] * 2
    + [Ending.TRUNCATED]
)
_STATUS = {Ending.REFUSED: 400, Ending.FAILED: 502}
_ERROR = {
    Ending.REFUSED: "invalid_value",
    Ending.FAILED: "upstream_error",
    Ending.TRUNCATED: "stream_truncated",
}


def traffic(
    count: int,
    now: float,
    *,
    days: float,
    targets: Sequence[tuple[str, str]],
    projects: Sequence[str] = ("",),
    seed: int = 0,
) -> Iterator[Outcome]:
    """``count`` requests in the last ``days`` before ``now`` (wall time), about the oldest first.

    ``targets``: provider and model; the first of them is slower and more often down than the others.
    """
    rng = Random(seed)
    for number in range(count):
        share = (number + 1) / (count + 1)
        # More by day than by night.
        at = now - days * 86400.0 * (1.0 - share) + 9000.0 * math.sin(share * days * 2.0 * math.pi)
        yield _outcome(f"{rng.getrandbits(128):032x}", min(at, now), rng, targets, rng.choice(projects))


def _outcome(
    request_id: str, at: float, rng: Random, targets: Sequence[tuple[str, str]], project: str
) -> Outcome:
    ending = rng.choice(_ENDINGS)
    first, *others = rng.sample(list(targets), len(targets))
    attempts: list[AttemptRecord] = []
    failed: list[tuple[str, str]] = []
    clock = 0.0004
    if ending is not Ending.REFUSED:
        if others and rng.random() < (0.12 if first == targets[0] else 0.02):
            attempts.append(
                AttemptRecord(*first, "", clock, 0.09, status=503, failure="server_error", reused=True)
            )
            failed.append(("/".join(first), "server_error"))
            clock += 0.0905
            first = others[0]
        wait = rng.lognormvariate(-1.2 if first == targets[0] else -1.9, 0.4)
        length = wait + rng.lognormvariate(0.1, 0.5)
        if ending is Ending.FAILED:
            attempts.append(
                AttemptRecord(*first, "", clock, wait, status=500, failure="server_error", reused=False)
            )
        else:
            attempts.append(AttemptRecord(*first, "", clock, length, wait, 200, reused=rng.random() < 0.8))
    served = ending in (Ending.COMPLETED, Ending.CLIENT_CLOSED, Ending.TRUNCATED)
    duration = attempts[-1].started_at + attempts[-1].duration if attempts else clock
    usage = Usage(rng.randrange(20, 900), rng.randrange(40, 700)) if served else None
    return Outcome(
        request_id,
        at,
        ending,
        _STATUS.get(ending, 200),
        "POST",
        CHAT,
        duration,
        key="default",
        project_id=project,
        model_asked=rng.choice(("auto", "auto", first[1])),
        provider=first[0] if served else "",
        model=first[1] if served else "",
        stream=True,
        attempts=tuple(attempts),
        first_content_after=attempts[-1].started_at + wait if served else None,
        usage=usage,
        error=_ERROR.get(ending, ""),
        decision=_decision(rng, targets, "/".join(first) if served else "", failed) if attempts else None,
        cost=None if usage is None else (usage.prompt_tokens * 0.15 + usage.completion_tokens * 0.6) / 1e6,
    )


def _decision(
    rng: Random, targets: Sequence[tuple[str, str]], chosen: str, failed: list[tuple[str, str]]
) -> Decision:
    considered = []
    for target in targets:
        terms = Terms(round(rng.uniform(0.85, 1.0), 3), 1.0, round(rng.uniform(0.8, 0.98), 3), 1.0)
        score = 0.6 * terms.success + 0.2 * terms.headroom + 0.15 * terms.latency + 0.05 * terms.fit
        considered.append(Candidate("/".join(target), "others take this turn", score, terms))
    return Decision(tuple(considered), chosen, tuple(failed))

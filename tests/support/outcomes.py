"""Outcomes as gateways hand them out, without a gateway."""

import random
from collections.abc import Sequence

from msgspec.structs import replace

from gwproto import AttemptRecord, Ending, Outcome, Usage
from gwproto.values import Candidate, Decision, Terms
from gwproto_ops.records.record import Finished, kept, values

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
CONSIDERED = (
    Candidate("alpha/big", "not its turn", 0.9, Terms(1.0, 0.5, 0.75, 1.0)),
    Candidate("beta/small", "", 0.8, Terms(0.9, 1.0, 0.25, 0.5)),
    Candidate("gamma/tiny", "cooling down"),
)

PLAIN = Outcome(
    request_id="0" * 32,
    at=NOON,
    ending=Ending.COMPLETED,
    status=200,
    method="POST",
    endpoint="/v1/chat/completions",
    duration=2.0,
    key="me",
    project_id="shop",
    model_asked="auto",
    provider="beta",
    model="small-1",
    stream=True,
    attempts=(
        AttemptRecord("alpha", "big-1", "alpha", 50.0, 0.5, status=500, failure="server", code="boom"),
        AttemptRecord(
            "beta",
            "small-1",
            "beta#2",
            50.5,
            1.5,
            0.25,
            200,
            probe=True,
            panic=True,
            reused=False,
            hedge=True,
        ),
    ),
    first_content_after=0.75,
    usage=Usage(10, 20, 30, 4, 5),
    dropped_params=("seed", "user"),
    decision=Decision(CONSIDERED, "beta/small", (("alpha/big", "server"),)),
    began_at=50.0,
    cost=0.25,
)


def finished(outcomes: Sequence[Outcome]) -> list[Finished]:
    """As the store takes them."""
    return list(zip(outcomes, kept([values(outcome) for outcome in outcomes]), strict=True))


def random_outcomes(
    number: int, *, seed: int = 1, start: float = NOON - 86400 * 3, end: float = NOON, projects: int = 5
) -> list[Outcome]:
    """``number`` chat completions of three providers, all endings among them, from ``start`` to ``end`` (wall)."""
    chance = random.Random(seed)
    return [
        _one(chance, f"{index:032x}", start + (end - start) * index / number, projects)
        for index in range(number)
    ]


def _one(chance: random.Random, name: str, at: float, projects: int) -> Outcome:
    ending = chance.choice((Ending.COMPLETED, Ending.COMPLETED, Ending.COMPLETED, *Ending))
    provider = chance.choice(("alpha", "beta", "gamma"))
    model = f"{provider}-{chance.choice(('big', 'small'))}"
    duration = chance.lognormvariate(0, 1)
    refused = ending is Ending.REFUSED
    attempt = AttemptRecord(provider, model, provider, 50.0, duration, duration / 2, 200)
    failed = chance.choice(("server", "rate_minute", "invalid"))
    return replace(
        PLAIN,
        request_id=name,
        at=at,
        ending=ending,
        status=200 if ending is Ending.COMPLETED else 400 if refused else 502,
        duration=duration,
        key=chance.choice(("me", "ci")),
        project_id=chance.choice(("", *[f"p{number}" for number in range(projects)])),
        provider="" if refused else provider,
        model="" if refused else model,
        attempts=() if refused else (_failed(failed), attempt) if chance.random() < 0.3 else (attempt,),
        first_content_after=None if refused else duration / 2,
        usage=None if refused else Usage(chance.randrange(1000), chance.randrange(1000), 0, 7, None),
        cost=None if refused else chance.randrange(1000) / 1000,
        dropped_params=(),
    )


def _failed(kind: str) -> AttemptRecord:
    return AttemptRecord("alpha", "alpha-big", "alpha", 50.0, 0.1, status=500, failure=kind)


def ids(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.request_id for outcome in outcomes]

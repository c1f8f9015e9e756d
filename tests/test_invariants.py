"""The twelve invariants of ``docs/design.md``, each by its name, searched for in random worlds.

The worlds and the books kept of them are in ``support/worlds.py``. What else holds an invariant, and from which side,
is listed in ``docs/testing.md``.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import msgspec
import pytest
from test_simulator import check_stream

from gwproto import (
    Abort,
    CloseUpstream,
    Command,
    Ending,
    OpenUpstream,
    Outcome,
    SendEnd,
    SendHead,
)
from gwproto.exchange.exchange import LINGER_TIMEOUT
from gwproto.journal.recording import Note, Recorder
from gwproto.policy.hedging import MAX_SAVED
from gwproto.policy.retry import BUDGET_WINDOW
from gwproto.routing.demand import Demand
from gwproto.routing.ticket import Plan
from gwproto.routing.values import State
from gwproto.testing import Connection, Data, Head, Step, Transcript, World
from gwproto.values import UpstreamRequest
from scenarios.model import EPOCH, KEY
from support.journals import SEED, replayed, written
from support.worlds import FLOOR, RATIO, TIMEOUTS, CountingNetwork, Play, Question

pytestmark = pytest.mark.unmeasured

SEEDS = range(60)


@cache
def played(seed: int) -> Play:
    return Play(seed).run()


def plays() -> Iterator[Play]:
    return map(played, SEEDS)


def answers() -> Iterator[tuple[Play, Question, Transcript, Outcome]]:
    """Every request of every world."""
    for play in plays():
        for question, transcript in zip(play.questions, play.transcripts, strict=True):
            assert transcript.outcome is not None
            yield play, question, transcript, transcript.outcome


def commands(play: Play) -> dict[int, list[Command]]:
    """What each exchange wanted, in order."""
    wanted: dict[int, list[Command]] = {number: [] for number in range(len(play.gateway.exchanges))}
    for entry in play.gateway.journal:
        wanted[entry.exchange] += entry.commands
    return wanted


def test_these_worlds_are_bad_enough() -> None:
    """Or the invariants would be true of nothing."""
    seen: Counter[str] = Counter()
    for _, _, transcript, outcome in answers():
        seen[outcome.ending.value] += 1
        seen["left"] += transcript.ending == "left" and bool(outcome.attempts)
        seen["hedge won"] += any(one.hedge and one.first_content_after for one in outcome.attempts)
        seen["hedge lost"] += any(one.hedge and one.lost for one in outcome.attempts)
        seen["failed over"] += outcome.ending is Ending.COMPLETED and len(outcome.attempts) > 1
        seen["limited"] += outcome.status == 429 and not outcome.attempts
        seen["shared"] += shared(transcript) and outcome.ending is Ending.COMPLETED
        seen["panic"] += any(one.panic for one in outcome.attempts)
        seen["probe"] += any(one.probe for one in outcome.attempts)
    for play in plays():
        seen["budget refused"] += play.budget.refused
        seen["own cooldown passed over"] += sum(
            any(scope.state is State.COOLDOWN for scope in pick.scopes) and not pick.ticket.panic
            for pick in play.router.picks
        )
    assert len(seen) == 15
    assert min(seen.values()) > 4, seen


# 1


def bytewise(data: bytes) -> Iterable[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def anyhow(data: bytes) -> Iterable[bytes]:
    rng = random.Random(data)
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 7, 30, 200))
        yield data[at : at + size]
        at += size


def test_1_output_depends_on_the_bytes_not_on_how_they_were_split() -> None:
    def told(play: Play) -> list[object]:
        return [(t.status, t.headers, t.body, t.ending) for t in play.transcripts]

    for seed in SEEDS[:6]:
        assert told(Play(seed, cut=bytewise).run()) == told(played(seed))
        assert told(Play(seed, cut=anyhow).run()) == told(played(seed))


# 2


def shared(transcript: Transcript) -> bool:
    """Is it the answer to another request?"""
    return (b"x-gateway-shared", b"true") in transcript.headers


def said(transcript: Transcript) -> str:
    """The text of an answer or of a stream, as far as it came."""
    if not dict(transcript.headers)[b"content-type"].startswith(b"text/event-stream"):
        return str(json.loads(transcript.body)["choices"][0]["message"]["content"])
    events = [event[6:] for event in transcript.body.decode().split("\n\n") if event.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event).get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_2_after_the_first_content_byte_no_byte_of_another_attempt_follows() -> None:
    cut_short = 0
    for _, question, transcript, outcome in answers():
        if outcome.first_content_after is None or not transcript.status:
            continue  # or its client had gone, and it went on for others
        served = [one for one in outcome.attempts if one.first_content_after is not None]
        assert len(served) == (not shared(transcript))
        if served:
            assert outcome.attempts[-1] in served  # and no attempt begins after it
            assert outcome.provider == served[0].provider
        whole = f'You said "{question.text}", and {outcome.provider} heard you.'
        text = said(transcript)
        assert whole.startswith(text)
        assert text == whole or outcome.ending is not Ending.COMPLETED
        cut_short += text != whole
    assert cut_short > 20


# 3


def test_3_every_request_ends_exactly_once() -> None:
    for play in plays():
        for wanted in commands(play).values():
            kinds = [type(command) for command in wanted if not isinstance(command, OpenUpstream)]
            ends = [kind for kind in kinds if kind in (SendEnd, Abort)]
            assert len(ends) <= 1
            if ends:
                assert set(kinds[kinds.index(ends[0]) + 1 :]) <= {CloseUpstream}
            assert kinds.count(SendHead) <= 1
    for _, _, transcript, outcome in answers():
        assert transcript.ending in ("complete", "left")
        if transcript.ending == "left":
            assert outcome.ending is Ending.CLIENT_CLOSED
            assert b"[DONE]" not in transcript.body
            continue
        assert (outcome.ending is Ending.COMPLETED) == (not outcome.error)
        if dict(transcript.headers)[b"content-type"].startswith(b"text/event-stream"):
            check_stream(transcript.body, outcome)
        else:
            assert ("error" in json.loads(transcript.body)) == (transcript.status != 200)


# 4


def test_4_attempts_and_time_stay_within_their_budgets_and_nothing_outlives_its_request() -> None:
    for play, question, transcript, outcome in answers():
        assert len(outcome.attempts) <= play.configuration.settings.retry.max_attempts
        began = play.start + question.at
        latest = began + TIMEOUTS["total"]
        for one in outcome.attempts:
            if one.first_content_after is not None:
                assert play.start + one.started_at >= 0.0
                latest += TIMEOUTS["stream_total"] + LINGER_TIMEOUT
        assert transcript.finished_at <= latest + 1e-6
        if outcome.first_content_after is not None:
            assert outcome.first_content_after <= TIMEOUTS["total"] + 1e-6
    for play in plays():
        assert play.left_open == 0
        assert play.network.in_use == 0
        assert not play.world.running
        assert play.gateway.statistics(play.world.now).in_flight == 0
        assert all(exchange.finished for exchange in play.gateway.exchanges)


# 5


def test_5_who_cools_down_gets_nothing_and_who_is_half_open_one_probe() -> None:
    for play in plays():
        assert play.router.backwards == 0
        for pick in play.router.picks:
            resting = [scope for scope in pick.scopes if scope.state is State.COOLDOWN]
            half = [scope for scope in pick.scopes if scope.state is State.HALF_OPEN]
            assert pick.ticket.probe == bool(half)
            assert not any(scope.probed for scope in half)
            assert not (pick.spare and (resting or half))
            if pick.ticket.panic:
                assert resting
                assert not pick.panicking
            else:  # after back-off a request may go where only it has seen a failure
                assert all(scope.own and pick.again for scope in resting)
    flagged = sum(one.panic for _, _, _, outcome in answers() for one in outcome.attempts)
    panics = [pick.ticket for play in plays() for pick in play.router.picks if pick.ticket.panic]
    # A target that was found when the budget of retries had been used up meanwhile is let go at once.
    released = [verdict for play in plays() for verdict in play.router.verdicts if verdict.word == "release"]
    let_go = [one for one in released if one.ticket.panic and one.at == one.ticket.picked_at]
    assert flagged == len(panics) - len(let_go)


# 6


def test_6_who_leaves_closes_his_upstreams_and_leaves_health_as_it_was() -> None:
    left = 0
    for play, question, transcript, outcome in answers():
        if transcript.ending != "left":
            continue
        left += bool(outcome.attempts)
        gone = play.start + question.at + question.visit.leaves_after
        assert transcript.finished_at == pytest.approx(gone) or play.sharing  # at once
    assert left > 50
    assert sum(len(play.settled) for play in plays()) > 50
    for play in plays():
        assert all(play.settled)
        assert play.left_open == 0
        assert play.gateway.limits.keys.reserved == 0


# 7


def test_7_reserved_and_committed_stay_within_the_limits_and_all_comes_back() -> None:
    tight: Counter[str] = Counter()
    for play in plays():
        settings = play.configuration.settings
        for pick in play.router.picks:
            provider, model = pick.ticket.target.provider, pick.ticket.target.model
            for name, used, limit in (
                ("in flight", pick.in_flight, provider.max_concurrency),
                ("minute", pick.minute, provider.requests_per_minute),
                ("day", pick.day, model.requests_per_day),
            ):
                assert used <= limit or not limit
                tight[name] += used == limit
        limit = settings.limits.tokens_per_minute
        assert play.gateway.tokens <= limit or not limit
        tight["tokens"] += bool(limit) and play.gateway.tokens > limit - 300
        assert not play.router.out
        assert all(state.key.in_flight == 0 for state in play.router._states.values())
        # Every ticket came back, once.
        given = Counter(id(pick.ticket) for pick in play.router.picks)
        assert given == Counter(id(verdict.ticket) for verdict in play.router.verdicts)
        assert set(given.values()) == {1}
        assert all(status.in_flight == 0 for status in play.router.statuses(play.world.now))
        assert play.gateway.limits.keys.reserved == 0
    assert all(tight[name] for name in ("in flight", "minute", "day", "tokens"))


# 8


def test_8_picks_over_an_unchanged_set_of_providers_differ_by_at_most_one() -> None:
    compared = failovers = 0
    for seed in range(30):
        play = Play(seed, even=True, count=80).run()
        turns: Counter[str] = Counter()
        among: tuple[str, ...] = ()
        for before, pick in zip([None, *play.router.picks], play.router.picks, strict=False):
            if pick.lineup != among:
                among = pick.lineup
                turns = Counter(dict.fromkeys(among, 0))
            name = pick.ticket.target.provider.name
            if len(among) > 1 and name in among:
                turns[name] += 1
                assert max(turns.values()) - min(turns.values()) <= 1
                compared += 1
                failovers += before is not None and before.ticket.plan is pick.ticket.plan
    assert compared > 500
    assert failovers > 50


# 9


def test_9_every_candidate_that_was_not_chosen_has_a_reason() -> None:
    decided = 0
    for play, _, _, outcome in answers():
        if outcome.decision is None:
            assert not outcome.attempts
            continue
        decided += 1
        targets = [target.id for target in play.configuration.catalog.targets]
        assert sorted(one.target for one in outcome.candidates) == sorted(targets)
        without = [one.target for one in outcome.candidates if not one.reason]
        assert without == [outcome.decision.chosen] * bool(outcome.decision.chosen)
        if outcome.ending is Ending.COMPLETED:
            assert [target.partition("/")[0] for target in without] == [outcome.provider]
        for target, kind in outcome.decision.failed:
            reasons = {one.target: one.reason for one in outcome.candidates}
            assert reasons[target] in (f"tried: {kind}", "") or "tried: " in reasons[target]
    assert decided > 1000


# 10

SECRET = "sk-canary0123456789abcdefghij"


class Indiscreet(CountingNetwork):
    """Whoever fails quotes the key that he was called with, and the prompt."""

    def connect(self, request: UpstreamRequest, now: float) -> Connection:
        connection = super().connect(request, now)
        steps = list(connection.steps)
        heads = [one.action for one in steps if isinstance(one.action, Head)]
        if heads and heads[0].status >= 400:
            text = f"key {SECRET} is bad; you said {request.body.decode()[:200]}"
            error = {"message": text, "type": SECRET, "code": f"code {SECRET}", "param": SECRET}
            quoted = Data(msgspec.json.encode({"error": error}))
            steps = [Step(one.after, quoted) if isinstance(one.action, Data) else one for one in steps]
        return Connection(steps, connection.dial, connection.lost, connection.reused)


def test_10_no_secret_appears_in_any_output() -> None:
    failed = 0
    for seed in SEEDS:
        play = Play(seed, network=Indiscreet).run()
        router, now = play.router, play.world.now
        plan = router.plan(Demand())
        assert isinstance(plan, Plan)
        shown = [
            repr(router.statuses(now)),
            repr(router.explain(plan, now)),
            repr(play.gateway.snapshot(now)),
        ]
        for question, transcript in zip(play.questions, play.transcripts, strict=True):
            assert transcript.outcome is not None
            recorded = repr(transcript.outcome)
            assert question.text not in recorded
            shown += [recorded, repr(transcript.headers), transcript.body.decode()]
            if transcript.status >= 400:
                failed += bool(transcript.outcome.attempts)
        for text in shown:
            assert SECRET not in text
            assert KEY not in text
        for wanted in commands(play).values():
            assert not any(KEY in repr(command) for command in wanted)
    assert failed > 50


# 11


def test_11_the_same_journal_gives_the_same_commands() -> None:
    for play in plays():
        again = play.gateway.replayed(play.configuration, play.seed)
        assert again == play.gateway.journal
    other = play.gateway.replayed(play.configuration, play.seed + 1)
    assert other != play.gateway.journal


def test_11_a_journal_that_was_written_down_and_redacted_does_so_too() -> None:
    for seed in SEEDS[:20]:
        play = Play(seed)  # its clients and its network, at another gateway
        notes: list[Note] = []
        gateway = Recorder(play.configuration, rng=random.Random(SEED), epoch=EPOCH, sink=notes.append)
        world = World(gateway, play.network, start=play.start, epoch=EPOCH)
        for question in play.questions:
            world.visit(question.visit, play.start + question.at)
        world.run()
        report = replayed(written(play.configuration, notes, bodies=False))
        assert report.first is None, seed
        assert report.exchanges == len(play.questions)


# 12


def test_12_retries_and_hedges_stay_within_their_budgets_in_every_window() -> None:
    most = 0
    for play in plays():
        budget = play.budget
        for at in budget.taken:
            taken = sum(at - BUDGET_WINDOW < one <= at for one in budget.taken)
            asked = sum(at - BUDGET_WINDOW < one <= at for one in budget.requests)
            assert taken <= RATIO * asked + FLOOR
            most = max(most, taken)
        made = hedged = 0
        for transcript in play.transcripts:
            assert transcript.outcome is not None
            attempts = transcript.outcome.attempts
            hedges = sum(one.hedge for one in attempts)
            hedged += hedges
            made += max(0, len(attempts) - hedges - 1)
        assert made <= len(budget.taken)  # nobody tries again without
        hedge = play.configuration.settings.hedge
        spared = [pick.at for pick in play.router.picks if pick.spare]
        assert hedged == len(spared)
        assert hedge.enabled or not spared
        for first, begin in enumerate(spared):
            for count, end in enumerate(spared[first:], 1):
                asked = sum(begin <= one <= end for one in budget.requests)
                assert count <= MAX_SAVED + hedge.budget * asked
            so_far = sum(one <= begin for one in budget.requests)
            assert first + 1 <= hedge.budget * so_far + 1e-6
    assert most > FLOOR

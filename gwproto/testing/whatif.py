"""What would have happened under another policy: a journal's requests once more, on a virtual clock.

An estimate. When the other policy turns to a target, that one behaves as it did towards the recorded attempt nearest in
time that asked it for the same kind of answer: the same status, bytes and delays. A provider that was down at noon is
down at noon; what it would have done under another load nobody knows. Attempts that the recorded gateway broke off go
on without a word.
"""

import bisect
import random
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from gwproto.commands import OpenUpstream
from gwproto.config import Settings
from gwproto.events import (
    ClientData,
    ClientEnd,
    ClientGone,
    Event,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.failures import LossReason
from gwproto.gateway import Gateway
from gwproto.journal import entries
from gwproto.journal.configuring import Recorded, compiled, restored
from gwproto.journal.entries import LineError
from gwproto.journal.replaying import Replay, event_of, head_of
from gwproto.testing.network import Connection
from gwproto.testing.simulator import Visit, World
from gwproto.testing.steps import Action, Close, Data, End, Head, Reset, Stall, Step
from gwproto.values import Ending, Origin, Outcome, RequestHead, UpstreamRequest

CHAT = "/v1/chat/completions"

#: What must be the same of two requests for one to be answered like the other, from the strictest to the loosest.
_Kind = tuple[object, ...]


class Figures(Struct, frozen=True, gc=False):
    """How requests fared. Times are seconds, of those that were completed; None: none was."""

    requests: int
    completed: int
    failed: int  # with an error, or broken off
    left: int  # the client went away
    attempts: int
    throttled: int  # attempts answered with 429
    first_content_p50: float | None
    first_content_p95: float | None
    duration_p50: float | None
    duration_p95: float | None


class Comparison(Struct, frozen=True, gc=False):
    """``unknown``: attempts at targets of which the journal knows nothing; they count as refused connections."""

    recorded: Figures
    estimated: Figures
    unknown: int


class _Attempt:
    """A recorded one."""

    __slots__ = ("at", "connection", "dialled_at", "ended", "last_at", "steps", "used")

    def __init__(self, at: float) -> None:
        self.at = at
        self.last_at = at
        self.dialled_at: float | None = None
        self.connection = Connection()
        self.steps: list[Step] = []
        self.ended = False
        self.used = False

    def hear(self, event: Event, now: float) -> None:
        if isinstance(event, UpstreamOpened):
            self.connection = Connection(dial=now - self.at, reused=event.reused)
            self.dialled_at = self.last_at = now
        elif isinstance(event, UpstreamHead):
            self._step(Head(event.status, event.headers), now)
        elif isinstance(event, UpstreamData):
            self._step(Data(event.data), now)
        elif isinstance(event, UpstreamEnd):
            self._step(End(), now)
            self.ended = True
        elif isinstance(event, UpstreamLost):
            self.ended = True
            if self.dialled_at is None:
                self.connection = Connection(dial=now - self.at, lost=event.why)
            else:
                self._step(Close() if event.why is LossReason.TRUNCATED else Reset(), now)

    def _step(self, action: Action, now: float) -> None:
        self.steps.append(Step(now - self.last_at, action))
        self.last_at = now

    def replayed(self) -> Connection:
        steps = self.steps if self.ended else [*self.steps, Step(0.0, Stall())]
        return msgspec.structs.replace(self.connection, steps=tuple(steps))


class _Request:
    """A recorded one of a client."""

    __slots__ = ("at", "body", "complete", "head", "last_at", "left_after", "outcome")

    def __init__(self, head: RequestHead, at: float) -> None:
        self.head = head
        self.at = self.last_at = at
        self.body: list[tuple[float, bytes]] = []
        self.complete = False
        self.left_after = float("inf")
        self.outcome: Outcome | None = None

    def hear(self, event: Event, now: float) -> None:
        if isinstance(event, ClientData):
            self.body.append((now - self.last_at, event.data))
            self.last_at = now
        elif isinstance(event, ClientEnd):
            self.complete = True
        elif isinstance(event, ClientGone):
            self.left_after = now - self.at

    def visit(self) -> Visit:
        return Visit(
            head=self.head, body=tuple(self.body), complete=self.complete, leaves_after=self.left_after
        )


class RecordedNetwork:
    """Answers as providers did."""

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch
        self._attempts: dict[_Kind, list[_Attempt]] = {}  # in order of time
        self.unknown = 0

    def add(self, request: UpstreamRequest, attempt: _Attempt) -> None:
        for kind in _kinds(request):
            self._attempts.setdefault(kind, []).append(attempt)

    def connect(self, request: UpstreamRequest, now: float) -> Connection:
        for kind in _kinds(request):
            if known := self._attempts.get(kind):
                attempt = _nearest(known, now - self._epoch)
                attempt.used = True
                return attempt.replayed()
        self.unknown += 1
        return Connection(lost=LossReason.REFUSED)

    def closed(self, origin: Origin, reusable: bool) -> None:
        """Which connections were kept alive is part of what was recorded."""


def _kinds(request: UpstreamRequest) -> Iterable[_Kind]:
    accept = dict(request.headers).get(b"accept")
    try:
        model = msgspec.json.decode(request.body, type=_Named).model
    except msgspec.DecodeError:
        model = ""
    yield request.origin, request.target, accept, model, request.credential
    yield request.origin, request.target, accept, model
    yield request.origin, accept


class _Named(Struct):
    model: str = ""


def _nearest(attempts: Sequence[_Attempt], now: float) -> _Attempt:
    """The nearest in time, of those that nobody had yet, if there are any."""
    middle = bisect.bisect_left(attempts, now, key=lambda attempt: attempt.at)
    before = next((one for one in reversed(attempts[:middle]) if not one.used), None)
    after = next((one for one in attempts[middle:] if not one.used), None)
    if before is None and after is None:
        before = attempts[middle - 1] if middle else None
        after = attempts[middle] if middle < len(attempts) else None
    candidates = [one for one in (before, after) if one is not None]
    return min(candidates, key=lambda one: abs(one.at - now))


class WhatIf:
    """Takes a journal's lines, then compares."""

    def __init__(self) -> None:
        self._replay = Replay()
        self._opening: entries.Opening | None = None
        self._network: RecordedNetwork
        self._requests: dict[int, _Request] = {}
        self._attempts: dict[tuple[int, int], _Attempt] = {}

    @property
    def line(self) -> int:
        return self._replay.line

    @property
    def settings(self) -> Settings:
        """Those that were recorded."""
        return self._recorded().settings

    def _recorded(self) -> Recorded:
        if self._opening is None:
            raise LineError("the journal is empty")
        return restored(self._opening.configuration)

    def feed(self, line: bytes) -> None:
        """Raises :class:`LineError` for a line that is damaged, or does not replay: what follows means nothing."""
        done = self._replay.feed(line)
        opening = self._replay.opening
        if opening is not self._opening:
            if self._opening is not None:
                raise LineError("the journal is of several gateways, one after another")
            assert opening is not None
            self._opening = opening
            self._network = RecordedNetwork(opening.epoch)
        entry = done.entry
        if entry is None:
            return
        if done.divergence is not None:
            raise LineError("the journal does not replay; without --policy it is said how")
        number, now = entry.exchange, entry.t
        if isinstance(entry.event, entries.Begin):
            self._requests[number] = _Request(head_of(entry.event), now)
        elif isinstance(entry.event, entries.OfAnExchange):
            self._hear(number, event_of(entry.event), now)
        for command in done.commands:
            if isinstance(command, OpenUpstream):
                attempt = self._attempts[number, command.attempt] = _Attempt(now)
                self._network.add(command.request, attempt)
        if done.outcome is not None and number in self._requests:
            self._requests[number].outcome = done.outcome

    def _hear(self, number: int, event: Event | None, now: float) -> None:
        if isinstance(event, ClientData | ClientEnd | ClientGone):
            if number in self._requests:
                self._requests[number].hear(event, now)
        elif event is not None and (attempt := getattr(event, "attempt", None)) is not None:
            known = self._attempts.get((number, attempt))
            if known is not None:
                known.hear(event, now)

    def compare(self, settings: Settings) -> Comparison:
        """The same requests under other ``settings``. Once only. Raises ``ConfigurationError`` for impossible ones."""
        opening = self._opening
        recorded = self._recorded()
        assert opening is not None
        finished = [one for one in self._requests.values() if one.outcome is not None]
        start = min((one.at for one in finished), default=0.0)
        configuration = compiled(msgspec.structs.replace(recorded, settings=settings))
        gateway = Gateway(configuration, rng=random.Random(opening.seed), epoch=opening.epoch)
        world = World(gateway, self._network, start=start, epoch=opening.epoch)
        transcripts = [world.visit(one.visit(), one.at) for one in finished]
        world.run()
        return Comparison(
            figures(one.outcome for one in finished),
            figures(one.outcome for one in transcripts),
            self._network.unknown,
        )


def figures(outcomes: Iterable[Outcome | None]) -> Figures:
    """Of chat completions that were let in."""
    chats = [one for one in outcomes if one is not None and one.endpoint == CHAT and one.status != 401]
    endings = [one.ending for one in chats]
    completed = [one for one in chats if one.ending is Ending.COMPLETED]
    firsts = [one.first_content_after for one in completed if one.first_content_after is not None]
    durations = [one.duration for one in completed]
    attempts = [attempt for one in chats for attempt in one.attempts]
    return Figures(
        requests=len(chats),
        completed=len(completed),
        failed=endings.count(Ending.FAILED) + endings.count(Ending.TRUNCATED),
        left=endings.count(Ending.CLIENT_CLOSED),
        attempts=len(attempts),
        throttled=sum(attempt.status == 429 for attempt in attempts),
        first_content_p50=_percentile(firsts, 0.50),
        first_content_p95=_percentile(firsts, 0.95),
        duration_p50=_percentile(durations, 0.50),
        duration_p95=_percentile(durations, 0.95),
    )


def _percentile(values: list[float], share: float) -> float | None:
    """By the nearest rank."""
    if not values:
        return None
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]

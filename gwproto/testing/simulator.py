"""The production machines on a virtual clock: many exchanges at once, in no time, the same every time.

:class:`World` is a driver as ``docs/driving.md`` has it, with a heap of instants where others have an event loop.
The clock jumps to the next instant at which anything happens. Nothing here decides anything: chance is in the network
and in the gateway's own ``random.Random``.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from gwproto.commands import (
    Abort,
    CloseUpstream,
    Command,
    Delegate,
    OpenUpstream,
    SendData,
    SendEnd,
    SendHead,
)
from gwproto.events import (
    ClientData,
    ClientEnd,
    ClientGone,
    Draining,
    Event,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.exchange.base import Exchange
from gwproto.failures import LossReason
from gwproto.gateway import Gateway
from gwproto.testing.network import Cut, Network, whole
from gwproto.testing.steps import Action, Close, Data, End, Head, Reset, Step
from gwproto.values import Headers, Origin, Outcome, RequestHead


class Visit(Struct, frozen=True, kw_only=True):
    """A client's request as it comes in: the head, then pieces of the body, then the wish to go away or not.

    Times are seconds: ``body`` after the piece before, ``leaves_after`` after the head. ``write_time`` is how long
    every write to this client takes.
    """

    head: RequestHead
    body: tuple[tuple[float, bytes], ...] = ()
    complete: bool = True  # False: the body never ends
    leaves_after: float = math.inf
    write_time: float = 0.0


class Transcript:
    """What a client got. ``ending``: ``complete``, ``aborted``, ``left``, or "" while it goes on."""

    __slots__ = ("ending", "finished_at", "headers", "outcome", "pieces", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.pieces: list[tuple[float, bytes]] = []  # instants and bytes
        self.ending = ""
        self.finished_at = math.inf
        self.outcome: Outcome | None = None

    @property
    def body(self) -> bytes:
        return b"".join([data for _, data in self.pieces])


Ended = Callable[[Transcript], None]


class World:
    """A gateway, a network, and clients that come when they like."""

    def __init__(
        self,
        gateway: Gateway,
        network: Network,
        *,
        start: float,
        epoch: float,
        cut: Cut = whole,
        keep: bool = True,
    ) -> None:
        """``cut``: how reads divide what was written. ``keep``: transcripts hold what clients got, not only how it
        ended."""
        self.keep = keep
        self.gateway = gateway
        self.network = network
        self.now = start
        self.epoch = epoch
        self.cut = cut
        self.running: dict[_Run, None] = {}  # in order of arrival
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have ``action`` done when the clock is at ``when``."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, action))

    def visit(self, visit: Visit, at: float | None = None, ended: Ended | None = None) -> Transcript:
        """A client comes. Its transcript fills while the world runs; ``ended`` gets it when the request is over."""
        run = _Run(self, visit, ended)
        self.at(self.now if at is None else at, run.begin)
        return run.transcript

    def drain(self) -> None:
        """The process is asked to stop, now."""
        self.gateway.drain(self.now)
        for run in list(self.running):
            run.hear(Draining())

    def run(self, until: float = math.inf) -> None:
        """Let happen what happens up to ``until``, by default until nothing more does."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action = heapq.heappop(heap)
            action()
        if until < math.inf:
            self.now = max(self.now, until)

    @property
    def connections(self) -> int:
        """Upstream connections in use."""
        return sum(len(run.upstreams) for run in self.running)


class _Run:
    """One exchange and its driver."""

    __slots__ = (
        "busy_until",
        "ended",
        "exchange",
        "inbox",
        "transcript",
        "upstreams",
        "visit",
        "wake_at",
        "world",
    )

    def __init__(self, world: World, visit: Visit, ended: Ended | None) -> None:
        self.world = world
        self.ended = ended
        self.visit = visit
        self.transcript = Transcript()
        self.upstreams: dict[int, _Upstream] = {}
        self.inbox: deque[Event] = deque()
        self.busy_until = -math.inf  # a write to the client is under way
        self.wake_at = math.inf

    def begin(self) -> None:
        world = self.world
        self.exchange: Exchange = world.gateway.begin(self.visit.head, world.now)
        if self.exchange.wakeable:
            self.exchange.wake = self._arm
        world.running[self] = None
        self._perform(self.exchange.start(world.now))
        if not self.exchange.finished:
            if self.visit.leaves_after < math.inf:
                world.at(world.now + self.visit.leaves_after, self._leave)
            self._upload(0)

    def _upload(self, index: int) -> None:
        """Bring the next piece of the body when it is due."""
        pieces = self.visit.body
        if index == len(pieces):
            if self.visit.complete:
                self.hear(ClientEnd())
            return
        after, data = pieces[index]

        def bring() -> None:
            if not self.exchange.finished and self.exchange.receiving:
                self.hear(ClientData(data))
                self._upload(index + 1)

        if after:
            self.world.at(self.world.now + after, bring)
        else:
            bring()

    def _leave(self) -> None:
        if not self.exchange.finished:
            self.transcript.ending = self.transcript.ending or "left"  # lingering it has all already
            self.busy_until = -math.inf  # a write to nobody is over
            self.inbox.clear()
            self._input(ClientGone())

    def hear(self, event: Event) -> None:
        """Give the exchange an event, after those before it, and not during a write."""
        if self.busy_until > self.world.now or self.inbox:
            self.inbox.append(event)
        else:
            self._input(event)

    def _input(self, event: Event | None) -> None:
        exchange, now = self.exchange, self.world.now
        if exchange.finished:
            return
        if event is None:
            self._perform(exchange.tick(now))
        elif not isinstance(event, ClientData | ClientEnd) or exchange.receiving:
            self._perform(exchange.receive(event, now))

    def _perform(self, commands: Sequence[Command]) -> None:
        world = self.world
        transcript = self.transcript
        for command in commands:
            if isinstance(command, SendData):
                if not transcript.ending:
                    if world.keep:
                        transcript.pieces.append((world.now, command.data))
                    if self.visit.write_time:
                        self.busy_until = max(self.busy_until, world.now) + self.visit.write_time
            elif isinstance(command, OpenUpstream):
                connection = world.network.connect(command.request, world.now + world.epoch)
                upstream = _Upstream(
                    self, command.attempt, command.request.origin, connection.steps, connection.reused
                )
                self.upstreams[command.attempt] = upstream
                upstream.dial(connection.dial, connection.lost)
            elif isinstance(command, CloseUpstream):
                self.close(command.attempt, reusable=False)
            elif transcript.ending:
                pass
            elif isinstance(command, SendHead):
                transcript.status, transcript.headers = command.status, command.headers
            elif isinstance(command, Delegate):
                transcript.status, transcript.ending = 200, "complete"
            elif isinstance(command, SendEnd):
                transcript.ending = "complete"
            else:
                assert isinstance(command, Abort)
                transcript.ending = "aborted"
        if self.exchange.finished:
            self._finish()
        else:
            self._arm()

    def _arm(self) -> None:
        """See to it that somebody wakes this up at the exchange's deadline, and at the end of a write."""
        when = max(self.exchange.deadline, self.busy_until)
        if self.busy_until > self.world.now:
            when = self.busy_until
        if when < self.wake_at:
            self.wake_at = when
            self.world.at(when, self._wake)

    def _wake(self) -> None:
        now = self.world.now
        if now < self.wake_at:
            return  # an older, later wake-up took the place of this one
        self.wake_at = math.inf
        while self.inbox and self.busy_until <= now:
            self._input(self.inbox.popleft())
        if self.exchange.finished:
            return
        if self.busy_until <= now and self.exchange.deadline <= now:
            self._input(None)
        else:
            self._arm()

    def close(self, attempt: int, *, reusable: bool) -> None:
        upstream = self.upstreams.pop(attempt, None)
        if upstream is not None:
            self.world.network.closed(upstream.origin, reusable)

    def _finish(self) -> None:
        self.transcript.outcome = self.exchange.outcome
        self.transcript.finished_at = self.world.now
        self.world.running.pop(self, None)
        for attempt in list(self.upstreams):
            self.close(attempt, reusable=False)
        if self.ended is not None:
            self.ended(self.transcript)


class _Upstream:
    """One upstream connection: plays its timeline until the exchange closes it."""

    __slots__ = ("_answered", "_attempt", "_index", "_reused", "_run", "_steps", "origin")

    def __init__(self, run: _Run, attempt: int, origin: Origin, steps: Sequence[Step], reused: bool) -> None:
        self.origin = origin
        self._run = run
        self._attempt = attempt
        self._steps = steps
        self._reused = reused
        self._index = 0
        self._answered = False

    @property
    def _open(self) -> bool:
        return self._run.upstreams.get(self._attempt) is self

    def dial(self, seconds: float, lost: LossReason | None) -> None:
        def dialled() -> None:
            if not self._open:
                return
            if lost is not None:
                self._end(UpstreamLost(self._attempt, lost))
            else:
                self._run.hear(UpstreamOpened(self._attempt, self._reused))
                self._next()

        self._run.world.at(self._run.world.now + seconds, dialled)

    def _next(self) -> None:
        if self._index < len(self._steps):
            world = self._run.world
            world.at(world.now + self._steps[self._index].after, self._step)

    def _step(self) -> None:
        if not self._open:
            return
        run = self._run
        if run.busy_until > run.world.now:  # the gateway reads no faster than its client
            run.world.at(run.busy_until, self._step)
            return
        steps = self._steps
        while True:
            action = steps[self._index].action
            self._index += 1
            self._do(action)
            if not self._open:
                return
            if self._index == len(steps) or steps[self._index].after or run.busy_until > run.world.now:
                break  # what comes at the same instant needs no way through the heap
        self._next()

    def _do(self, action: Action) -> None:
        if isinstance(action, Data):
            for piece in self._run.world.cut(action.data):
                if self._open:
                    self._run.hear(UpstreamData(self._attempt, piece))
        elif isinstance(action, Head):
            self._answered = True
            self._run.hear(UpstreamHead(self._attempt, action.status, action.headers))
        elif isinstance(action, End):
            self._end(UpstreamEnd(self._attempt))
        elif isinstance(action, Reset | Close):
            if self._answered:
                why = LossReason.TRUNCATED if isinstance(action, Close) else LossReason.RESET
            else:
                why = LossReason.STALE if self._reused else LossReason.RESET
            self._end(UpstreamLost(self._attempt, why))

    def _end(self, event: UpstreamEnd | UpstreamLost) -> None:
        self._run.close(self._attempt, reusable=isinstance(event, UpstreamEnd))
        self._run.hear(event)

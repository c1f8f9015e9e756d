"""The queue between the event loop and everything that is done with records, and the one thread that does it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from gwproto import Outcome
from gwproto.queries import AnalyticsQuery, Query, RequestsQuery, StatsQuery
from gwproto.routing.status import TargetStatus
from gwproto_ops.records import reading
from gwproto_ops.records.database import Corrupt, Database, Source, Unavailable
from gwproto_ops.records.keeping import Keeper
from gwproto_ops.records.locating import locate
from gwproto_ops.records.record import CHAT, Finished, Values, kept, values
from gwproto_ops.responses import Response, error, response

logger = logging.getLogger("gwproto")

Sink = Callable[[Sequence[Outcome]], None]

#: Seconds in which outcomes gather.
PAUSE = 0.2
#: Outcomes that sinks are given at a time: the interpreter would let the event loop wait for 5 ms.
PIECE = 250
#: Seconds that a question waits for those before it.
TURN = 15.0

Q = TypeVar("Q", bound=Query)
_encode = msgspec.json.Encoder().encode


class Log(Protocol):
    """What shows every line, in a thread of its own."""

    dropped: int

    def follow(self, pull: Callable[[], None]) -> None:
        """To be told of what comes, and to call ``pull`` in its own thread before it shows what it has."""

    def wake(self) -> None:
        """Something has come. Called on the event loop's thread."""

    def take(self, outcomes: Sequence[Outcome], lines: Sequence[Values]) -> None:
        """What their lines hold. Called in ``pull``, or in another thread's."""


class Recorder:
    """Takes every outcome, and hands it to ``sinks`` and to the store in batches, and to ``log``.

    The store keeps chat completions and requests whose key was rejected. ``dropped`` counts what it should have kept
    and could not. A store that hangs does not hold up the log, nor the log the store: each has a thread, and whichever
    comes first takes what has come for both.
    """

    def __init__(
        self,
        store_url: str,
        *,
        retention: int = 30,
        limit: int = 10_000,
        sinks: Sequence[Sink] = (),
        log: Log | None = None,
        state_dir: str = "",
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``store_url``: ``analytics.database``; ``""``: no store. ``retention``: days that records are kept.

        ``limit``: outcomes that may wait to be looked at, as many behind them to be written, and as many again in front
        of a store that fails. ``state_dir``:
        ``server.state_dir``, which a file's path is relative to; ``environ`` says where that is if it is empty. Raises
        ``ConfigurationError`` for a URL that can never be used; a store that cannot be used yet is tried again.
        """
        self._source: Source | None = locate(store_url, state_dir, environ)
        self._keeper: Keeper | None = None
        if self._source is not None:
            self._keeper = Keeper(self._source, retention_days=retention, limit=limit)
        self._limit = limit
        self._sinks = tuple(sinks)
        self._clock = clock
        self._wall = wall
        self._inbox: deque[Outcome] = deque()
        self._queue: deque[Finished] = deque()
        self._lost = 0  # in front of either
        self._log = log
        self._asleep = True  # is there anybody to be told of the next outcome?
        self._pulling = threading.Lock()
        self._news = threading.Event()
        self._closing = threading.Event()
        self._begun = threading.Event()  # the store is there, or why it is not is known
        self._turn = threading.Lock()  # one question at a time
        if log is not None:
            log.follow(self.pull)
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def put(self, outcome: Outcome) -> None:
        """Take an outcome. Never waits, never raises."""
        if len(self._inbox) >= self._limit:
            self._lost += 1
            if self._log is not None:
                self._log.dropped += 1
            return
        self._inbox.append(outcome)
        if self._asleep:
            self._asleep = False
            self._news.set()
            if self._log is not None:
                self._log.wake()

    def pull(self) -> None:
        """Hand on what has come. From any thread; waits for nothing but another one's pull."""
        with self._pulling:
            self._asleep = True  # before the inbox is looked into: what comes now is told again
            inbox = self._inbox
            left = len(inbox)
            while left:
                outcomes = [inbox.popleft() for _ in range(min(PIECE, left))]
                left -= len(outcomes)
                try:
                    self._hand_on(outcomes)
                except Exception:  # of ours; the threads must live
                    logger.exception("%d records could not be made inside the gateway", len(outcomes))
                    self._lost += len(outcomes)
                time.sleep(0)  # let the event loop's thread run

    def _hand_on(self, outcomes: Sequence[Outcome]) -> None:
        log, texts = self._log, [""] * len(outcomes)
        if log is not None or self._keeper is not None:
            lines = [values(outcome) for outcome in outcomes]
            if self._keeper is not None:
                texts = kept(lines)
            if log is not None:
                log.take(outcomes, lines)
        room = self._limit - len(self._queue)
        self._queue.extend(list(zip(outcomes, texts, strict=True))[:room])
        self._lost += max(0, len(outcomes) - room)

    @property
    def dropped(self) -> int:
        return self._lost + (self._keeper.dropped if self._keeper is not None else 0)

    @property
    def waiting(self) -> int:
        return len(self._inbox) + len(self._queue) + (self._keeper.waiting if self._keeper is not None else 0)

    @property
    def written(self) -> int:
        return self._keeper.written if self._keeper is not None else 0

    @property
    def failed(self) -> str:
        """Why the store is not written just now; ``""``: it is, or there is none."""
        return self._keeper.failed if self._keeper is not None else ""

    def close(self, patience: float = 10.0) -> None:
        """Write what waits, then end; what is not written after ``patience`` seconds is lost."""
        self._closing.set()
        self._news.set()
        self._thread.join(patience)

    def analytics(self, query: str) -> Response:
        """``GET /v1/analytics``. Blocks, as do the others."""
        wanted = _decoded(query, AnalyticsQuery)
        return self._answer(lambda database: reading.analytics(database, wanted, self._wall()))

    def requests(self, query: str) -> Response:
        wanted = _decoded(query, RequestsQuery)
        return self._answer(lambda database: reading.requests(database, wanted))

    def stats(self, query: str, live: Sequence[TargetStatus], now: float, epoch: float) -> Response:
        """``live``: how the targets stand at ``now``, which ``epoch`` makes wall time."""
        wanted = _decoded(query, StatsQuery)
        return self._answer(lambda database: reading.stats(database, wanted, live, now, epoch))

    def _answer(self, ask: Callable[[Database], object]) -> Response:
        if self._source is None or self._keeper is None:
            return error(503, "not_available", "No records are kept: analytics.database is empty.")
        if not (self._begun.wait(TURN) and self._turn.acquire(timeout=TURN)):
            return error(503, "not_available", "Too many questions to the records at once.")
        try:
            database = self._source.connect(readonly=True)
            try:
                return response(200, _encode(ask(database)))
            finally:
                database.close()
        except reading.BadCursor:
            message = "Invalid value for 'before': expected the next of an earlier page."
            return error(400, "invalid_value", message, type="invalid_request_error", param="before")
        except Unavailable as problem:
            if isinstance(problem, Corrupt):
                self._keeper.distrust()
            self._news.set()  # the writer may be able to do something about it
            return error(503, "not_available", f"The records cannot be read: {problem}.")
        except Exception:  # of ours, or of rows that another hand has written
            logger.exception("records could not be read")
            return error(503, "not_available", "The records cannot be read: see the log.")
        finally:
            self._turn.release()

    def _run(self) -> None:
        again = self._keep(last=False)
        self._begun.set()
        while not self._closing.is_set():
            self._news.wait(again)
            self._closing.wait(PAUSE)
            self._news.clear()
            self._drain()
            again = self._keep(last=False)
        self._drain()
        self._keep(last=True)
        if self._keeper is not None:
            self._keeper.close()

    def _drain(self) -> None:
        self.pull()
        queue = self._queue
        while queue:
            batch = [queue.popleft() for _ in range(min(PIECE, len(queue)))]
            outcomes = [outcome for outcome, _ in batch]
            for sink in self._sinks:
                try:
                    sink(outcomes)
                except Exception:  # a sink's own; the others and the store go on
                    logger.exception("%r failed on %d records", sink, len(batch))
            if self._keeper is not None:
                self._keeper.take([one for one in batch if one[0].endpoint == CHAT or one[0].rejected])
            time.sleep(0)  # let the event loop's thread run

    def _keep(self, *, last: bool) -> float | None:
        """How many seconds there is nothing to do for, if nothing comes."""
        if self._keeper is None:
            return None
        now = self._clock()
        return max(0.0, self._keeper.work(now, self._wall(), last=last) - now)


def _decoded(query: str, kind: type[Q]) -> Q:
    return msgspec.json.decode(query, type=kind)

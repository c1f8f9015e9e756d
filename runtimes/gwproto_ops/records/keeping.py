"""Getting batches into a store that may be full, locked, gone, damaged or stopped.

The writer thread's own. It never waits longer than the store's own limits, and what cannot be written now waits in a
bounded backlog.
"""

import logging
import math
from collections import deque
from collections.abc import Sequence
from itertools import islice

from gwproto_ops.records.database import Corrupt, Source, Unavailable, Unfit
from gwproto_ops.records.record import Finished
from gwproto_ops.records.schema import migrate
from gwproto_ops.records.writing import WAITING_SECONDS, WAITING_SUMS, Writer

logger = logging.getLogger("gwproto")

BATCH = 500
#: Seconds between tries to write, doubled from the first to the second.
PAUSE, LONGEST_PAUSE = 0.25, 5.0
#: Seconds between two looks for what is too old.
TIDY = 60.0


class Keeper:
    """``dropped`` counts records that are lost, ``failed`` says why nothing is written just now."""

    def __init__(self, source: Source, *, retention_days: int, limit: int) -> None:
        self._source = source
        self._retention = retention_days
        self._limit = limit
        self._writer: Writer | None = None
        self._backlog: deque[Finished] = deque()
        self._pause = 0.0
        self._retry_at = -math.inf
        self._roll_at = -math.inf
        self._tidy_at = -math.inf
        self._distrusted = False
        self._counted = 0  # of the dropped, those that the log has told of
        self.written = 0
        self.dropped = 0
        self.failed = ""

    @property
    def waiting(self) -> int:
        return len(self._backlog)

    def take(self, finished: Sequence[Finished]) -> None:
        """Put them into the backlog. The latest are lost where it is full."""
        room = self._limit - len(self._backlog)
        self._backlog.extend(finished[:room])
        self.dropped += max(0, len(finished) - room)

    def distrust(self) -> None:
        """A reader has met damage: look before the next write. From any thread."""
        self._distrusted = True

    def work(self, now: float, wall: float, *, last: bool = False) -> float:
        """Write what can be written; when (monotonic) to be called again at the latest.

        ``last``: now or never.
        """
        if now < self._retry_at and not last:
            return self._retry_at
        try:
            self._work(now, wall, last)
        except Unavailable as error:
            self._fail(str(error), now)
            return self._retry_at
        except Exception as error:  # of ours; the thread must live
            logger.exception("keeping records failed inside the gateway")
            self._fail(type(error).__name__, now)
            return self._retry_at
        self._recovered()
        waiting = self._writer is not None and self._writer.waiting
        return min(self._roll_at, self._tidy_at) if waiting else self._tidy_at

    def close(self) -> None:
        """What waits is lost."""
        if self._backlog:
            logger.warning("%d records were lost: %s", len(self._backlog), self.failed or "it is the end")
        self._disconnect()
        self.dropped += len(self._backlog)
        self._backlog.clear()

    def _work(self, now: float, wall: float, last: bool) -> None:
        writer = self._connected()
        backlog = self._backlog
        anew = False
        while backlog:
            batch = list(islice(backlog, BATCH))
            try:
                writer.write(batch)
            except Corrupt as error:
                if anew:
                    raise  # it is not the file
                writer = self._set_aside(error)
                anew = True
                continue
            except Unavailable:
                raise
            except Exception as error:  # of these records, or of ours: the others shall not suffer for it
                self._disconnect()
                writer = self._connected()
                self.dropped += len(batch)
                logger.exception("%d records were dropped: %s", len(batch), error)
            else:
                self.written += len(batch)
            for _ in batch:
                backlog.popleft()
        try:
            if writer.waiting and (last or now >= self._roll_at or writer.waiting >= WAITING_SUMS):
                writer.roll_up()
                self._roll_at = now + WAITING_SECONDS
            if now >= self._tidy_at and not last:
                self._tidy_at = now if writer.tidy(wall) else now + TIDY
        except Corrupt as error:
            self._set_aside(error)
        except Unfit as error:  # of another version's, or a hand's
            raise Unavailable(str(error)) from error

    def _connected(self) -> Writer:
        writer = self._writer
        if writer is not None and writer.database.stale:
            logger.warning("%s is not what it was any more; records go into what is there now", self._source)
            self._disconnect()
        if self._writer is not None and not self._distrusted:
            return self._writer
        self._disconnect()
        try:
            writer = self._connect()
            if self._distrusted:
                writer.database.verify()
        except Corrupt as error:
            writer = self._set_aside(error)
        self._distrusted = False
        return writer

    def _connect(self) -> Writer:
        database = self._source.connect()
        try:
            migrate(database)
        except BaseException:
            database.close()
            raise
        self._writer = Writer(database, self._retention)
        return self._writer

    def _set_aside(self, error: Corrupt) -> Writer:
        """Begin anew beside what is damaged."""
        replaced = self._writer is not None and self._writer.database.stale  # another process was faster
        self._disconnect()
        if not replaced:
            where = self._source.set_aside()
            logger.error(
                "%s is damaged (%s): it is now %s, and a new one has begun", self._source, error, where
            )
        return self._connect()

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.database.close()
            self._writer = None

    def _fail(self, why: str, now: float) -> None:
        self._disconnect()
        if not self.failed:
            logger.warning("records cannot be written to %s and wait: %s", self._source, why)
        self.failed = why or "it cannot be used"
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or PAUSE)
        self._retry_at = now + self._pause

    def _recovered(self) -> None:
        if self.failed:
            lost = self.dropped - self._counted
            logger.warning("records are written to %s again; %d were dropped", self._source, lost)
        self._counted = self.dropped
        self.failed = ""
        self._pause = 0.0
        self._retry_at = -math.inf

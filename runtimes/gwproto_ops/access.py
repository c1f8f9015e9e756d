"""The access log: one line per request, written by ``serve``; embedded, on the logger ``gwproto.access``.

A line holds what the record of a request holds, and that is never a prompt, an answer or a secret.
"""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from gwproto import Outcome
from gwproto_ops.records.record import Values, shown, values

logger = logging.getLogger("gwproto.access")

#: Lines that are made at a time: the interpreter would let the event loop wait for 5 ms.
PIECE = 250
#: What :func:`enabled` has made.
writer: "Writer | None" = None


def log_outcome(outcome: Outcome) -> None:
    """Log a finished request: to what :func:`enabled` writes to, else to the logger."""
    if writer is not None:
        writer.put(outcome)
    elif logger.isEnabledFor(logging.INFO):
        logger.info("%s", json_line(outcome), extra={"outcome": outcome})


def dropped() -> int:
    """Lines that what :func:`enabled` writes to was too slow for."""
    return 0 if writer is None else writer.dropped


@contextmanager
def enabled(stream: TextIO | None = None, *, piece: int = 0) -> Iterator["Writer"]:
    """Write the access log to ``stream`` (standard error by default): JSON, or short lines on a terminal."""
    global writer
    writer = made = Writer(stream if stream is not None else sys.stderr, piece=piece)
    try:
        yield made
    finally:
        writer = None
        made.close()


class Writer:
    """Writes lines from a thread of its own, many at a time.

    A log that is a full pipe or a sleeping terminal holds up nothing but itself: beyond ``LIMIT`` lines that wait,
    more are ``dropped``, and the next line that is written says how many.
    """

    LIMIT = 10_000
    PAUSE = 0.05  # seconds in which lines gather
    PATIENCE = 1.0  # seconds to wait at the end for a stream that takes nothing

    def __init__(self, stream: TextIO, *, piece: int = 0) -> None:
        """``piece``: bytes that are written at a time, if more than one line is; 0: as many as there are. What several
        processes write to one pipe stays whole up to ``select.PIPE_BUF``."""
        self._stream = stream
        self._piece = piece
        self._format = short_lines if stream.isatty() else json_lines
        self._waiting: deque[Outcome] = deque()
        self._texts: deque[tuple[str, int]] = deque()  # with the number of lines
        self._taken = self._written = 0  # lines
        self._pulls: list[Callable[[], None]] = []
        self._news = threading.Event()
        self._closing = threading.Event()
        self.dropped = 0
        self._told = 0  # of those dropped
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def put(self, outcome: Outcome) -> None:
        if len(self._waiting) >= self.LIMIT:
            self.dropped += 1
            return
        self._waiting.append(outcome)
        self.wake()

    def follow(self, pull: Callable[[], None]) -> None:
        """``pull`` is called before lines are written, and may give some to :meth:`take`."""
        self._pulls.append(pull)

    def take(self, outcomes: Sequence[Outcome], lines: Sequence[Values]) -> None:
        """Outcomes, and what their lines hold. From one thread at a time."""
        room = max(0, self.LIMIT - self._taken + self._written)
        self.dropped += max(0, len(outcomes) - room)
        if room:
            self._texts.append((self._format(outcomes[:room], lines[:room]), min(room, len(outcomes))))
            self._taken += min(room, len(outcomes))

    def wake(self) -> None:
        if not self._news.is_set():
            self._news.set()

    def close(self) -> None:
        """Write what waits, then end."""
        self._closing.set()
        self._news.set()
        self._thread.join(self.PATIENCE)

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._closing.wait(self.PAUSE)
            self._news.clear()
            ending = self._closing.is_set()
            for pull in self._pulls:
                pull()
            self._take_own()
            try:
                for text in pieces(self._text(), self._piece):
                    self._stream.write(text)
                    self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more; the requests go on
                return
            if ending:
                return

    def _take_own(self) -> None:
        waiting = self._waiting
        while waiting:
            outcomes = [waiting.popleft() for _ in range(min(PIECE, len(waiting)))]
            self.take(outcomes, [values(outcome) for outcome in outcomes])
            time.sleep(0)  # let the event loop's thread run

    def _text(self) -> str:
        """The lines that wait."""
        texts: list[str] = []
        while self._texts:
            text, lines = self._texts.popleft()
            texts.append(text)
            self._written += lines
        if missing := self.dropped - self._told:
            texts.append(f"access log: {missing} lines dropped, the output was too slow\n")
            self._told += missing
        return "".join(texts)


def pieces(text: str, limit: int) -> Iterator[str]:
    """Whole lines of ``text`` together, of at most ``limit`` bytes in UTF-8 where one alone is not longer; 0: all."""
    if not limit:
        yield text
        return
    data = text.encode(errors="backslashreplace")
    start = 0
    while start < len(data):
        end = len(data)
        if end - start > limit:
            end = data.rfind(b"\n", start, start + limit) + 1 or data.index(b"\n", start + limit) + 1
        yield data[start:end].decode()
        start = end


def short_lines(outcomes: Sequence[Outcome], _: object) -> str:
    return "".join([f"{short_line(outcome)}\n" for outcome in outcomes])


def short_line(outcome: Outcome) -> str:
    """For a person at a terminal."""
    at = datetime.fromtimestamp(outcome.at).strftime("%H:%M:%S")
    parts = [
        f"{at} {outcome.status} {outcome.method} {outcome.endpoint or '-'} {outcome.duration * 1e3:.0f}ms"
    ]
    if outcome.provider:
        parts.append(f"{outcome.provider}/{outcome.model}")
    if len(outcome.attempts) > 1:
        tried = ", ".join(f"{a.provider}: {a.failure}" for a in outcome.attempts if a.failure)
        parts.append(f"({len(outcome.attempts)} attempts; {tried})")
    if outcome.error:
        parts.append(outcome.error)
    parts.append(outcome.ending.value)
    # Endpoint and model may hold what a client sent: no control character reaches the terminal.
    return "".join(c if c.isprintable() else "?" for c in " ".join(parts))


def json_lines(_: object, lines: Sequence[Values]) -> str:
    """For a program."""
    return shown(lines)


def json_line(outcome: Outcome) -> str:
    return shown([values(outcome)])[:-1]

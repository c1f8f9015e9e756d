"""The access log: one line per request, written by ``serve``; embedded, on the logger ``gwproto.access``.

A line holds what the record of a request holds, and that is never a prompt, an answer or a secret.
"""

import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from msgspec.json import Encoder

from gwproto import Outcome
from gwproto_ops.records.record import line

logger = logging.getLogger("gwproto.access")


_encode = Encoder().encode
_writer: "Writer | None" = None


def log_outcome(outcome: Outcome) -> None:
    """Log a finished request: to what :func:`enabled` writes to, else to the logger."""
    if _writer is not None:
        _writer.put(outcome)
    elif logger.isEnabledFor(logging.INFO):
        logger.info("%s", json_line(outcome), extra={"outcome": outcome})


def dropped() -> int:
    """Lines that what :func:`enabled` writes to was too slow for."""
    return 0 if _writer is None else _writer.dropped


@contextmanager
def enabled(stream: TextIO | None = None, *, piece: int = 0) -> Iterator["Writer"]:
    """Write the access log to ``stream`` (standard error by default): JSON, or short lines on a terminal."""
    global _writer
    _writer = writer = Writer(stream if stream is not None else sys.stderr, piece=piece)
    try:
        yield writer
    finally:
        _writer = None
        writer.close()


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
        self._format = short_line if stream.isatty() else json_line
        self._waiting: deque[Outcome] = deque()
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
            lines: list[str] = []
            while self._waiting:
                lines.append(self._format(self._waiting.popleft()))
            if missing := self.dropped - self._told:
                lines.append(f"access log: {missing} lines dropped, the output was too slow")
                self._told += missing
            try:
                for text in pieces(lines, self._piece):
                    self._stream.write(text)
                    self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more; the requests go on
                return
            if ending:
                return


def pieces(lines: Sequence[str], limit: int) -> Iterator[str]:
    """Whole lines together, of at most ``limit`` bytes in UTF-8 where one alone is not longer; 0: all of them."""
    if not limit:
        yield "".join([f"{line}\n" for line in lines])
        return
    piece: list[str] = []
    length = 0
    for text in lines:
        size = len(text.encode(errors="backslashreplace")) + 1
        if piece and length + size > limit:
            yield "".join(piece)
            piece, length = [], 0
        piece.append(f"{text}\n")
        length += size
    if piece:
        yield "".join(piece)


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


def json_line(outcome: Outcome) -> str:
    """For a program."""
    return _encode(line(outcome)).decode()

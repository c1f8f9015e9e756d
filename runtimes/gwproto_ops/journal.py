"""The journal: every input of a gateway, written to a file by a thread, for ``gwproto replay``."""

import logging
import os
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from gwproto import ConfigurationError, Gateway
from gwproto.journal.recording import Note, Recorder
from gwproto.journal.scribe import Scribe
from gwproto_ops.deployment import Deployment

logger = logging.getLogger("gwproto")

_COMMON = 500  # bytes that a note takes beside those it tells of


class Journal:
    """One file. Redaction and writing are the thread's; a request only leaves a note.

    When more than ``LIMIT`` bytes wait, or the disk takes no more, the journal ends with a line that says so, since
    nothing after a gap could be replayed; the requests go on.
    """

    LIMIT = 128 * 1024 * 1024
    PAUSE = 0.1  # seconds in which notes gather
    PATIENCE = 60.0  # seconds to wait at the end for a disk

    def __init__(self, path: str, *, bodies: bool = False) -> None:
        """Raises ``ConfigurationError`` where no new file can be made at ``path``."""
        self._path = path
        self._bodies = bodies
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            problem = "exists already, and a journal is never written over"
            raise ConfigurationError(((path, problem),)) from None
        except OSError as error:
            raise ConfigurationError(((path, error.strerror or str(error)),)) from None
        self._scribe: Scribe | None = None
        self._waiting: deque[tuple[Note | Callable[[Scribe], bytes], int]] = deque()
        self._size = 0  # of what has been put
        self._written = 0  # of what is in the file
        self._hole = ""  # why nothing is taken any more
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def gateway(self, deployment: Deployment, *, epoch: float) -> Gateway:
        """A gateway that is recorded here. One after another may be; not two at a time."""
        if self._scribe is None:
            self._scribe = Scribe(
                bodies=self._bodies, secrets=_secrets(deployment), salt=secrets.token_bytes(32)
            )
        else:
            self.learn(deployment)
        seed = secrets.randbits(63)
        at = time.time()
        configuration = deployment.configuration

        def opening(scribe: Scribe) -> bytes:
            return scribe.opening(configuration, seed=seed, epoch=epoch, at=at, version=version("gwproto"))

        self._put(opening, 0)
        return Recorder(configuration, rng=random.Random(seed), epoch=epoch, sink=self.note)

    def learn(self, deployment: Deployment) -> None:
        """Its secrets are not to be written from now on, either."""
        values = _secrets(deployment)
        self._put(lambda scribe: scribe.learn(values), 0)

    def note(self, note: Note) -> None:
        """Take a note down. Never waits, never raises."""
        size = len(getattr(note.what, "data", b"")) + _COMMON
        for command in note.commands:
            size += len(getattr(command, "data", b"")) + _COMMON
        self._put(note, size)

    def close(self) -> None:
        """Write what waits, then end."""
        self._closing.set()
        self._news.set()
        self._thread.join(self.PATIENCE)

    def _put(self, what: Note | Callable[[Scribe], bytes], size: int) -> None:
        if self._hole:
            return
        if self._size - self._written > self.LIMIT:
            self._hole = "it could not be written as fast as requests came"
        else:
            self._size += size
            self._waiting.append((what, size))
        if not self._news.is_set():
            self._news.set()

    def _run(self) -> None:
        try:
            while self._batch():
                pass
        except OSError as error:
            self._end(error.strerror or str(error))
        except Exception as error:  # of ours; no request may suffer for it
            logger.exception("journal failed inside the gateway")
            self._end(f"{type(error).__name__} while it was written")
        finally:
            os.close(self._file)

    def _batch(self) -> bool:
        """Write what has gathered; False: it was the last."""
        self._news.wait()
        self._closing.wait(self.PAUSE)
        self._news.clear()
        closing, hole = self._closing.is_set(), self._hole
        scribe = self._scribe
        while self._waiting and scribe is not None:
            lines: list[bytes] = []
            sizes = 0
            while self._waiting and len(lines) < 1000:
                what, size = self._waiting.popleft()
                lines.append(scribe.line(what) if isinstance(what, Note) else what(scribe))
                sizes += size
            self._write(b"".join(lines))
            self._written += sizes
        if hole:
            self._end(hole)
        elif closing and scribe is not None:
            self._write(scribe.closing())
        return not (closing or hole)

    def _end(self, why: str) -> None:
        """The journal has a hole from here on."""
        self._hole = why
        self._waiting.clear()
        logger.warning("the journal %s ends here: %s", self._path, why)
        try:
            if self._scribe is not None:
                self._write(self._scribe.closing(why))
        except OSError:
            pass  # a disk that is full; the replay will find the last line missing

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]


def _secrets(deployment: Deployment) -> list[bytes]:
    return [value.removeprefix(b"Bearer ") for _, value in deployment.credentials.values()]


@contextmanager
def opened(path: str, *, bodies: bool = False) -> Iterator[Journal]:
    """A journal that is closed at the end. Raises as :class:`Journal` does."""
    journal = Journal(path, bodies=bodies)
    try:
        yield journal
    finally:
        journal.close()

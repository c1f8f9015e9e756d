"""Reading the configuration again while the gateway runs: when a file of it changes, and when somebody asks."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from gwproto import ConfigurationError
from gwproto.config import Settings
from gwproto.loading import Loaded
from gwproto_ops import deployment
from gwproto_ops.deployment import Deployment

logger = logging.getLogger("gwproto")
notices = logging.getLogger("gwproto.reloading")  # apart, for who wants to hear of what went well

#: Settings that are looked at when a process starts, and sections all of whose settings are.
_AT_START = (
    "server.host",
    "server.port",
    "server.runtime",
    "server.workers",
    "server.state_dir",
    "server.state_file",
)
_SECTIONS_AT_START = ("analytics",)

#: The signal that asks for it, where there is one.
HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()

#: What tells a file from what it was before: when it was written, its size, which one it is. None: it is not there.
Stamp = tuple[int, int, int] | None


class Reloads(Struct, frozen=True, gc=False):
    """How often the configuration was read again, and how that went."""

    reloads: int  # that are in force, or were
    failures: int
    last_error: str  # of the latest that failed; "": there was none since
    loaded_at: float  # wall time of the configuration in force


class Source:
    """Where a deployment comes from: files, variables and flags, to be read as often as need be.

    ``environ`` gives the variables, each time anew; ``files`` are those it reads, beside the one at ``path``. With
    ``make_key`` one client key is made where none is configured, the first time, and kept; ``made_key``, if it has been
    made elsewhere.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
        files: Sequence[str] = (),
        flags: Mapping[str, object] | None = None,
        make_key: bool = False,
        made_key: str = "",
    ) -> None:
        self._own = (*filter(None, (path,)), *files)
        self._path = path
        self._environ = environ
        self._flags = flags
        self._known = deployment.known_providers()
        self._seen: dict[str, Stamp] = {}
        self._made_key = made_key
        self.make_key = make_key
        self.complete: Callable[[Loaded], Loaded] = lambda loaded: (
            loaded
        )  # what is served beside what was read

    def load(self) -> Loaded:
        """The settings alone. Raises ``ConfigurationError``."""
        return self._load(self._environ())

    def read(self) -> Deployment:
        """Everything. Blocks. Raises ``ConfigurationError``."""
        # What is written meanwhile is another change.
        self._seen.update([(path, stamp(path)) for path in self._own])
        environ = self._environ()
        loaded = self.complete(self._load(environ))
        named = deployment.files_of(loaded.settings)
        self._seen = {
            path: stamp(path) if path in named else self._seen[path] for path in (*self._own, *named)
        }
        made = deployment.deploy(loaded, environ=environ, make_key=self.make_key, made_key=self._made_key)
        self._made_key = made.made_key or self._made_key
        return made

    def changes(self) -> dict[str, Stamp]:
        """The files that are others than when they were read, as they are now."""
        return {path: now for path, seen in self._seen.items() if (now := stamp(path)) != seen}

    def _load(self, environ: Mapping[str, str]) -> Loaded:
        return deployment.read(self._path, environ=environ, flags=self._flags, known=self._known)


class Reloader:
    """Keeps a running gateway at what its source says. A thread of its own looks at the files every second.

    A file must be left alone for a second before it is read: what somebody is still writing may be valid, too.
    """

    INTERVAL = 1.0  # seconds
    PATIENCE = 2.0  # seconds to wait at the end for a file that does not come

    def __init__(self, source: Source, current: Deployment) -> None:
        """``current``: what was read from ``source`` and is served."""
        self._source = source
        self._started_with = current.configuration.settings
        self._apply: Callable[[Deployment], None]
        self._soon: Callable[[Callable[[], None]], object]
        self._changing: dict[str, Stamp] = {}
        self._reloads = self._failures = 0
        self._last_error = ""
        self._loaded_at = time.time()
        self._asked = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.settled: Callable[[], object] = lambda: (
            None
        )  # called, in any thread, after each time that it was read

    @property
    def status(self) -> Reloads:
        return Reloads(self._reloads, self._failures, self._last_error, self._loaded_at)

    def attach(
        self, apply: Callable[[Deployment], None], soon: Callable[[Callable[[], None]], object]
    ) -> None:
        """``apply`` puts a deployment in force, on the event loop's thread; ``soon`` has something called there."""
        self._apply = apply
        self._soon = soon

    def soon(self, call: Callable[[], None]) -> None:
        """Have something called on the event loop's thread. Raises ``RuntimeError`` at the loop's end."""
        self._soon(call)

    def start(self) -> None:
        """Begin to look. The reloader is attached."""
        self._thread = threading.Thread(target=self._run, name="reloader", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Read everything again, changed or not. Returns at once; for signals."""
        self._asked.set()

    def close(self) -> None:
        """Look no more."""
        self._closing = True
        self._asked.set()
        if self._thread is not None:
            self._thread.join(self.PATIENCE)

    def look(self) -> None:
        """Read everything again if a file has changed and then been left alone."""
        changes = self._source.changes()
        if changes and changes == self._changing:
            self.reload()
        else:
            self._changing = changes

    def reload(self) -> None:
        """Read everything again; what is wrong with it leaves all as it is, and is logged. Blocks."""
        self._changing = {}
        try:
            made = self._source.read()
        except ConfigurationError as error:
            self._failed(str(error))
        except Exception as error:  # whatever it is, the gateway goes on; its words might quote a secret
            self._failed(f"the configuration could not be read: {type(error).__name__}")
        else:
            self._soon(lambda: self._put_in_force(made))

    def _put_in_force(self, made: Deployment) -> None:
        try:
            self._apply(made)
        except Exception as error:
            self._failed(f"the configuration could not be put in force: {type(error).__name__}")
            return
        self._reloads += 1
        self._last_error = ""
        self._loaded_at = time.time()
        notices.info("the configuration was read again and is in force")
        for path in at_next_start(self._started_with, made.configuration.settings):
            logger.warning("%s: takes effect at the next start", path)
        self.settled()

    def _failed(self, problems: str) -> None:
        self._failures += 1
        self._last_error = problems
        logger.warning(
            "the configuration was read again and is not used, the one before stays:\n%s", problems
        )
        self.settled()

    def _run(self) -> None:
        while True:
            asked = self._asked.wait(self.INTERVAL)
            if self._closing:
                return
            self._asked.clear()
            try:
                if asked:
                    self.reload()
                else:
                    self.look()
            except RuntimeError:  # the event loop is at its end
                return


def stamp(path: str) -> Stamp:
    """Of the file that has this name now."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def at_next_start(running: Settings, settings: Settings) -> Iterator[str]:
    """The settings that differ and cannot change while a process runs."""
    for name in (*_AT_START, *_of_sections(running)):
        section, _, key = name.partition(".")
        if getattr(getattr(running, section), key) != getattr(getattr(settings, section), key):
            yield name


def _of_sections(settings: Settings) -> Iterator[str]:
    for section in _SECTIONS_AT_START:
        for key in getattr(settings, section).__struct_fields__:
            yield f"{section}.{key}"

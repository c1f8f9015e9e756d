"""The process that starts workers, watches over them, passes signals on and collects their figures.

It serves nothing, and has no event loop: signals and sockets wake it up.
"""

import logging
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from gwproto import ConfigurationError
from gwproto_ops.reloading import HANGUP
from gwproto_ops.workers.messages import (
    Ask,
    Failed,
    Gathered,
    Message,
    Ready,
    Reloaded,
    Stop,
    Tell,
    Told,
    Unframer,
    framed,
)
from gwproto_ops.workers.restarts import Restarts

logger = logging.getLogger("gwproto")

#: Seconds that workers have to report.
REPORT_LIMIT = 1.0
#: Seconds that one worker may read its configuration for, before it is the next one's turn.
RELOAD_LIMIT = 10.0
#: Seconds from the second signal to SIGKILL.
KILL_AFTER = 5.0

#: Seconds from the end of a worker's socket to that of its process.
END_LIMIT = 2.0

#: Starts the worker of a number; its process, and our end of the socket pair.
Start = Callable[[int], tuple["subprocess.Popen[bytes]", socket.socket]]
#: Encoded reports to one that has the counters of all and nothing else.
Summed = Callable[[list[bytes]], bytes]


class _Worker:
    """A process."""

    def __init__(self, number: int, process: "subprocess.Popen[bytes]", sock: socket.socket) -> None:
        self.number = number
        self.process = process
        self.sock = sock
        self.unframer = Unframer()
        self.unsent = bytearray()
        self.telling = False
        self.report = b""  # the latest
        self.problem = ""  # why it could not start, if it said so


class _Gathering:
    """A worker waits for the figures of all."""

    def __init__(self, asker: _Worker, turn: int, others: list[_Worker], until: float) -> None:
        self.asker = asker
        self.turn = turn
        self.others = others
        self.missing = set(others)
        self.until = until


class Supervisor:
    """Runs ``size`` workers until a signal says stop. ``on_listening`` is given their URLs once all of them serve."""

    def __init__(
        self,
        size: int,
        start: Start,
        *,
        on_listening: Callable[[list[str]], None],
        summed: Summed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._on_listening = on_listening
        self._summed = summed
        self._clock = clock
        self._restarts = Restarts(size, clock())
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._signals: deque[int] = deque()
        self._stops = 0
        self._kill_at: float | None = None
        self._to_reload: deque[int] = deque()
        self._reloading: tuple[int, float] | None = None  # a worker, and until when
        self._gatherings: list[_Gathering] = []
        self._past = b""  # what dead workers had counted
        self._problem: ConfigurationError | None = None

    def run(self) -> None:
        """In the main thread. Raises ``ConfigurationError`` when workers cannot start."""
        with self._hearing_signals(), self._selector:
            while not self._restarts.finished:
                now = self._clock()
                for number in self._restarts.due(now):
                    self._begin(number)
                for key, events in self._selector.select(self._patience(now)):
                    if isinstance(key.data, _Worker):
                        self._serve(key.data, events)
                    else:
                        key.data()
                while self._signals:
                    self._hear(self._signals.popleft())
                self._look_at_the_clock()
        if self._problem is not None:
            raise self._problem

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(4096))
            before = {
                number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT, *HANGUP)
            }
            woken = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(woken)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _patience(self, now: float) -> float | None:
        times = [self._restarts.next_at(), self._kill_at, *(one.until for one in self._gatherings)]
        if self._reloading is not None:
            times.append(self._reloading[1])
        return max(0.0, min(known) - now) if (known := [at for at in times if at is not None]) else None

    def _begin(self, number: int) -> None:
        try:
            process, sock = self._start(number)
        except OSError as error:
            logger.warning("worker %d cannot be started: %s", number, error.strerror or error)
            self._restarts.ended(number, self._clock())
            self._give_up_without_hope()
            return
        sock.setblocking(False)
        worker = self._workers[number] = _Worker(number, process, sock)
        self._selector.register(sock, selectors.EVENT_READ, worker)

    def _serve(self, worker: _Worker, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(worker)
        if events & selectors.EVENT_READ:
            try:
                data = worker.sock.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._ended(worker)
            for message in worker.unframer.feed(data):
                self._handle(worker, message)

    def _send(self, worker: _Worker, message: Message) -> None:
        worker.unsent += framed(message)
        self._flush(worker)

    def _flush(self, worker: _Worker) -> None:
        try:
            while worker.unsent:
                del worker.unsent[: worker.sock.send(worker.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            worker.unsent.clear()  # it is gone, as will be read
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
        self._selector.modify(worker.sock, wanted, worker)

    def _handle(self, worker: _Worker, message: Message) -> None:
        match message:
            case Ready(urls):
                announced = self._restarts.complete
                self._restarts.ready(worker.number)
                if self._restarts.complete and not announced:
                    self._on_listening(urls)
            case Failed(problem):
                worker.problem = problem
            case Reloaded():
                if self._reloading is not None and self._reloading[0] == worker.number:
                    self._reload_next()
            case Ask(turn, report):
                self._gather(worker, turn, report)
            case Told(report):
                worker.telling = False
                worker.report = report
                for one in self._gatherings:
                    one.missing.discard(worker)
                self._answer()

    def _ended(self, worker: _Worker) -> None:
        """Its end of the socket pair is closed: the process is at its end, or no use."""
        self._selector.unregister(worker.sock)
        worker.sock.close()
        try:
            status = worker.process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            status = worker.process.wait()
        number = worker.number
        del self._workers[number]
        served = number in self._restarts.serving
        self._restarts.ended(number, self._clock())
        if worker.report:
            self._past = self._summed([self._past, worker.report])
        self._gatherings = [one for one in self._gatherings if one.asker is not worker]
        for one in self._gatherings:
            if worker in one.others:
                one.others.remove(worker)
            one.missing.discard(worker)
        self._answer()
        if self._reloading is not None and self._reloading[0] == number:
            self._reload_next()
        if self._stops:
            return
        said = worker.problem or f"it ended {_by(status)}"
        if served:
            logger.warning("worker %d (process %d) is replaced: %s", number, worker.process.pid, said)
        elif worker.problem and not self._restarts.complete:
            self._give_up(ConfigurationError(((f"worker {number}", worker.problem),)))
        else:
            logger.warning("worker %d could not start: %s", number, said)
            self._give_up_without_hope()

    def _give_up_without_hope(self) -> None:
        number = self._restarts.hopeless
        if number is not None and self._problem is None:
            problem = "ended at its start again and again; what it said is above"
            self._give_up(ConfigurationError(((f"worker {number}", problem),)))

    def _give_up(self, problem: ConfigurationError) -> None:
        if self._problem is None:
            self._problem = problem
        self._stop()
        self._kill_at = self._clock() + KILL_AFTER

    def _hear(self, number: int) -> None:
        if number in HANGUP:
            self._to_reload.extend(one for one in self._restarts.serving if one not in self._to_reload)
            if self._reloading is None:
                self._reload_next()
        else:
            self._stop()

    def _stop(self) -> None:
        """Have all drain; the second time, end at once; the third time they are killed."""
        self._stops += 1
        self._restarts.stop()
        for number, worker in self._workers.items():
            if self._stops == 1 and number in self._restarts.serving:
                self._send(worker, Stop())
            else:
                worker.process.send_signal(signal.SIGTERM if self._stops < 3 else signal.SIGKILL)
        if self._stops == 2:
            self._kill_at = self._clock() + KILL_AFTER

    def _reload_next(self) -> None:
        """One after the other, so that never all of them are busy with it."""
        self._reloading = None
        while self._to_reload and self._reloading is None:
            number = self._to_reload.popleft()
            if (
                number in self._restarts.serving
            ):  # one that starts will read what is there then, and has no ears yet
                self._reloading = number, self._clock() + RELOAD_LIMIT
                self._workers[number].process.send_signal(signal.SIGHUP)

    def _gather(self, asker: _Worker, turn: int, report: bytes) -> None:
        asker.report = report
        others = [self._workers[number] for number in self._restarts.serving if number != asker.number]
        self._gatherings.append(_Gathering(asker, turn, others, self._clock() + REPORT_LIMIT))
        for worker in others:
            if not worker.telling:  # else it has not done so for the one before yet
                worker.telling = True
                self._send(worker, Tell())
        self._answer()

    def _answer(self) -> None:
        """Those who wait for nothing, and those who have waited long enough."""
        now = self._clock()
        done = [one for one in self._gatherings if not one.missing or one.until <= now]
        self._gatherings = [one for one in self._gatherings if one not in done]
        for one in done:
            past = [self._past, *(worker.report for worker in one.missing)]
            gathered = Gathered(
                one.turn,
                [worker.report for worker in one.others if worker not in one.missing],
                self._summed(past) if any(past) else b"",
                workers=len(self._restarts.serving),
                silent=len(one.missing),
                restarts=self._restarts.restarts,
            )
            self._send(one.asker, gathered)

    def _look_at_the_clock(self) -> None:
        now = self._clock()
        self._answer()
        if self._reloading is not None and self._reloading[1] <= now:
            self._reload_next()
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_at = None
            for worker in self._workers.values():
                worker.process.kill()


def _by(status: int) -> str:
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"

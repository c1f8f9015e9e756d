"""When a worker is started again: the decisions alone, with time as an argument."""

from typing import Literal

#: Seconds that a worker must have lived for its end to be the first again.
STABLE = 10.0
#: Seconds between an end and the next start: none, the first time; then doubled from the first to the second.
PAUSE, LONGEST_PAUSE = 0.25, 5.0
#: Ends of one worker in a row before it was ready, after which there is no hope while nobody serves.
HOPELESS = 3

Standing = Literal["waiting", "starting", "ready"]


class _Worker:
    __slots__ = ("ends", "standing", "start_at", "started_at", "stillborn")

    def __init__(self, now: float) -> None:
        self.standing: Standing = "waiting"
        self.start_at = now
        self.started_at = now
        self.ends = 0  # in a row, each soon after its start
        self.stillborn = 0  # in a row, each before it was ready


class Restarts:
    """The workers numbered 1 to ``size``, none of them started yet. ``now`` is in seconds of a monotonic clock.

    A worker that ends is started again at once, and ever later if that goes on. A gateway in which all were ready
    once goes on as long as one of them is: what keeps a new one from starting, a configuration file that is being
    written for instance, is no reason to stop those that serve.
    """

    def __init__(self, size: int, now: float) -> None:
        self._workers = {number: _Worker(now) for number in range(1, size + 1)}
        self._stopping = False
        self.complete = False  # all were ready at the same time, once
        self.restarts = 0

    def due(self, now: float) -> list[int]:
        """The workers to start now. They count as started."""
        if self._stopping:
            return []
        found = []
        for number, worker in self._workers.items():
            if worker.standing == "waiting" and worker.start_at <= now:
                worker.standing = "starting"
                worker.started_at = now
                found.append(number)
        return found

    def next_at(self) -> float | None:
        """When :meth:`due` has something next. None: not until something happens."""
        if self._stopping:
            return None
        waiting = [worker.start_at for worker in self._workers.values() if worker.standing == "waiting"]
        return min(waiting, default=None)

    def ready(self, number: int) -> None:
        """A worker serves."""
        worker = self._workers[number]
        worker.standing = "ready"
        worker.stillborn = 0
        self.complete = self.complete or len(self.serving) == len(self._workers)

    def ended(self, number: int, now: float) -> None:
        """The process of a worker is gone, whyever."""
        worker = self._workers[number]
        if worker.standing == "starting":
            worker.stillborn += 1
        elif now - worker.started_at >= STABLE:
            worker.ends = 0
        pause = PAUSE * 2.0 ** (worker.ends - 1) if worker.ends else 0.0
        worker.ends += 1
        worker.standing = "waiting"
        worker.start_at = now + min(LONGEST_PAUSE, pause)
        if not self._stopping:
            self.restarts += 1

    def stop(self) -> None:
        """Start none any more."""
        self._stopping = True

    @property
    def serving(self) -> list[int]:
        return [number for number, worker in self._workers.items() if worker.standing == "ready"]

    @property
    def hopeless(self) -> int | None:
        """The worker that cannot start, while there is no gateway without it."""
        if self.complete and self.serving:
            return None
        for number, worker in self._workers.items():
            if worker.stillborn >= HOPELESS:
                return number
        return None

    @property
    def finished(self) -> bool:
        """Stopped, and none runs."""
        return self._stopping and all(worker.standing == "waiting" for worker in self._workers.values())

"""Health of one scope (a target, key, model or provider), as a circuit.

=========== ============ ============== ============== ============= ============== =================
state       success      count          throttle       disable       probe released the clock
=========== ============ ============== ============== ============= ============== =================
AVAILABLE   evidence     evidence,      COOLDOWN       COOLDOWN      --             --
                         COOLDOWN [1]_
COOLDOWN    --           --             later end [2]_ later end     --             HALF_OPEN at end
HALF_OPEN   --           -- [3]_        COOLDOWN       COOLDOWN      slot is free   --
 own probe  SLOW_START   COOLDOWN,      COOLDOWN       COOLDOWN      slot is free   --
                         twice as long
SLOW_START  evidence,    evidence,      COOLDOWN       COOLDOWN      --             --
            AVAILABLE    COOLDOWN [1]_
            after ten
=========== ============ ============== ============== ============= ============== =================

.. [1] After three failures in a row, or three of ten recent outcomes: one failure only costs a retry.
.. [2] Deadlines only move forward. An operator's reset is the one exception.
.. [3] Whoever is not the probe began before the cooldown: old news.

In panic mode requests go through cooldowns, one at a time. One that is answered has proved what a probe proves:
COOLDOWN becomes SLOW_START, if it was for errors.

A probe passes at its first content, not at its end: a long stream must not block the recovery. Throttling is not ill
health: it adds no evidence, but it keeps traffic away for as long as the provider asked.
"""

from gwproto.config import HealthSettings
from gwproto.routing.score import Evidence
from gwproto.routing.values import Cause, CircuitState, State

FAILURES_IN_A_ROW = 3
FAILURE_SHARE = 0.3
#: "At least ten recent outcomes", each counting less as it ages: ten within two minutes or so.
FAILURE_VOLUME = 9.0
SLOW_START_SUCCESSES = 10


_AVAILABLE, _COOLDOWN, _HALF_OPEN, _SLOW_START = (
    State.AVAILABLE,
    State.COOLDOWN,
    State.HALF_OPEN,
    State.SLOW_START,
)


class Circuit:
    """One scope's health.

    ``holder`` is who makes the probe, ``caused_by`` whose failure began the cooldown (identities chosen by the
    caller; ``caused_by`` stays None where even that request must respect the cooldown).
    """

    __slots__ = (
        "_error_pause",
        "_throttle_pause",
        "cause",
        "caused_by",
        "evidence",
        "failures",
        "holder",
        "reason",
        "state",
        "successes",
        "until",
    )

    def __init__(self) -> None:
        self.evidence = Evidence()
        self.until = -1.0
        self.reset()

    def reset(self) -> None:
        """Forget everything: the operator knows better."""
        self.state = _AVAILABLE
        self.cause = Cause.ERRORS
        self.reason = ""
        self.until = -1.0
        self.failures = 0  # in a row
        self.successes = 0  # since the probe passed
        self.holder: object | None = None
        self.caused_by: object | None = None
        self._error_pause = 0.0  # the last cooldown's length, while probes fail
        self._throttle_pause = 0.0  # likewise for throttling without a hint, until a success
        self.evidence.forget()

    # Queries

    def passable(self, now: float) -> bool:
        """May traffic go through? In half-open: is the probe's slot free?"""
        state = self.state
        if state is _AVAILABLE or state is _SLOW_START:
            return True
        self.settle(now)
        return self.state is _HALF_OPEN and self.holder is None

    @property
    def weight(self) -> float:
        """The share of its turns that a scope gets: less than 1 only in slow start."""
        if self.state is _SLOW_START:
            return (self.successes + 1) / SLOW_START_SUCCESSES
        return 1.0

    def settle(self, now: float) -> None:
        """Let a cooldown that is over end. Old evidence would keep the probe from ever being made."""
        if self.state is _COOLDOWN and now >= self.until:
            self.state = _HALF_OPEN
            self.failures = 0
            self.caused_by = None
            self.evidence.forget()

    # Events

    def claim(self, probe: object) -> None:
        """Take the probe's slot; the circuit is half-open and passable."""
        self.holder = probe

    def release(self, probe: object) -> None:
        """Give the slot back without a verdict."""
        if self.holder is probe:
            self.holder = None

    def content(self, probe: object) -> None:
        """First content came: the probe has passed."""
        if self.holder is probe:
            self.holder = None
            self._slow_start()

    def recover(self) -> None:
        """A request got content in spite of the cooldown: as good as a probe."""
        if self.state is _COOLDOWN and self.cause is Cause.ERRORS:
            self.failures = 0
            self.evidence.forget()
            self._slow_start()

    def _slow_start(self) -> None:
        self.state = _SLOW_START
        self.successes = 0
        self._error_pause = 0.0

    def success(self, now: float) -> None:
        """An attempt ended well."""
        if self.state is not _AVAILABLE:
            self.settle(now)
            if self.state is not _SLOW_START:
                return
        self.failures = 0
        self._throttle_pause = 0.0
        self.evidence.add(True, now)
        if self.state is _SLOW_START:
            self.successes += 1
            if self.successes == SLOW_START_SUCCESSES:
                self.state = _AVAILABLE

    def failure(self, probe: object, reason: str, settings: HealthSettings, now: float) -> bool:
        """An attempt ended badly. True: that began a cooldown."""
        self.settle(now)
        if self.state is _HALF_OPEN and self.holder is probe:
            self._cool_down(Cause.ERRORS, reason, now + self._next_error_pause(settings))
            return True
        if self.state is _COOLDOWN or self.state is _HALF_OPEN:
            return False
        self.failures += 1
        self.evidence.add(False, now)
        if self.failures < FAILURES_IN_A_ROW and not (
            self.evidence.volume(now) > FAILURE_VOLUME and self.evidence.failure_share >= FAILURE_SHARE
        ):
            return False
        self._error_pause = 0.0
        self._cool_down(Cause.ERRORS, reason, now + self._next_error_pause(settings))
        return True

    def keep_away(self, cause: Cause, pause: float, reason: str, now: float) -> bool:
        """Throttled or disabled for ``pause`` seconds. False: a cooldown already lasts longer than that."""
        self.settle(now)
        if self.state is _COOLDOWN and now + pause <= self.until:
            return False
        self._cool_down(cause, reason, now + pause)
        return True

    # What outlives the process

    def snapshot(self, now: float) -> CircuitState | None:
        """Its state as a value; None: as good as new."""
        self.settle(now)
        value = CircuitState(
            self.state,
            self.cause,
            self.reason,
            max(0.0, self.until - now) if self.state is _COOLDOWN else 0.0,
            self.failures,
            self.successes,
            self._error_pause,
            self._throttle_pause,
            self.evidence.snapshot(now),
        )
        return None if value == _NEW else value

    def restore(self, value: CircuitState, elapsed: float, now: float) -> None:
        """Be as ``value`` would be ``elapsed`` seconds later. Deadlines only move forward here, too."""
        self.settle(now)
        until = now + value.left - elapsed
        if self.state is _COOLDOWN and until < self.until:
            return
        self.state = value.state
        self.cause = value.cause
        self.reason = value.reason
        self.until = until
        self.failures = value.failures
        self.successes = value.successes
        self.holder = self.caused_by = None
        self._error_pause = value.error_pause
        self._throttle_pause = value.throttle_pause
        self.evidence.restore(value.evidence, elapsed, now)

    def next_throttle_pause(self, settings: HealthSettings) -> float:
        """How long throttling without a hint lasts (seconds): doubling until a success."""
        pause = min(2.0 * self._throttle_pause, settings.cooldown_max) or settings.throttle_cooldown
        self._throttle_pause = pause
        return pause

    def _next_error_pause(self, settings: HealthSettings) -> float:
        pause = min(2.0 * self._error_pause, settings.cooldown_max) or settings.cooldown
        self._error_pause = pause
        return pause

    def _cool_down(self, cause: Cause, reason: str, until: float) -> None:
        self.state = _COOLDOWN
        self.cause = cause
        self.reason = reason
        self.until = max(until, self.until)  # the old one has not passed if a request in panic mode ended it
        self.holder = None
        self.caused_by = None


_NEW = CircuitState()

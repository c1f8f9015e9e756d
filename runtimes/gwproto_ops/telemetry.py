"""What a running gateway tells of itself: records, metrics, log lines, traces, and the pages that show them."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from gwproto import Gateway, Outcome
from gwproto.config import AnalyticsSettings, Settings
from gwproto_ops import access, console, openapi
from gwproto_ops.audit import audit
from gwproto_ops.metrics import CONTENT_TYPE, Metrics, Snapshot, written
from gwproto_ops.records.locating import locate
from gwproto_ops.records.recorder import Recorder, Sink
from gwproto_ops.responses import Response, error, response
from gwproto_ops.tracing import Tracer

if TYPE_CHECKING:
    from gwproto_ops.reloading import Reloads
    from gwproto_ops.workers.messages import Gathered

logger = logging.getLogger("gwproto")

#: A page, or what makes it by waiting for a disk: to be called in a thread.
Page = Response | Callable[[], Response]

_NO_STORE = Settings(analytics=AnalyticsSettings(database=""))


class Telemetry:
    """One per running gateway, whichever server runs it. A thread does what there is to do with finished requests.

    Without ``settings`` there is no store: records go to the log, metrics are counted.
    """

    def __init__(
        self,
        settings: Settings = _NO_STORE,
        *,
        environ: Mapping[str, str] | None = None,
        tracer: Tracer | None = None,
        reloads: "Callable[[], Reloads] | None" = None,
        gather: "Callable[[bytes], Gathered | None] | None" = None,
    ) -> None:
        """``environ`` says where the state directory is; ``reloads``, how reading the configuration again went.
        ``gather``: this is one of several workers, and that gives the figures of the others for its own; it may block.

        Raises ``ConfigurationError`` for a database that can never be used.
        """
        self._analytics = settings.analytics
        self._state_dir = settings.server.state_dir
        self._environ = environ
        locate(self._analytics.database, self._state_dir, environ)
        self._tracer = tracer
        self._reloads = reloads
        self._gather = gather
        self._metrics = Metrics()
        self._recorder: Recorder | None = None
        self._log: access.Writer | None = None  # which the recorder hands its lines to
        self._needed = bool(self._analytics.metrics or self._analytics.database or tracer)
        self._gateway: Gateway
        self._clock: Callable[[], float]
        self._connections: Callable[[], int]

    def attach(self, gateway: Gateway, clock: Callable[[], float], connections: Callable[[], int]) -> None:
        """The gateway runs: its event loop's clock, and how many clients are connected."""
        self._gateway, self._clock, self._connections = gateway, clock, connections
        if self._analytics.database:
            self._start()  # what is wrong with the store shows before the first request

    def record(self, outcome: Outcome) -> None:
        """A request has ended. Called on the event loop's thread; never waits, never raises."""
        recorder = self._recorder
        if recorder is None and self._needed:
            recorder = self._start()
        if self._log is None or self._log is not access.writer:
            access.log_outcome(outcome)
        if recorder is not None:
            recorder.put(outcome)

    def answer(self, name: str, query: str) -> Page:
        """What ``Delegate(name, query)`` asks for."""
        if name == "console":
            return console.answer(query)
        page = self._page(name, query)
        return partial(_safely, name, page)

    @property
    def draining(self) -> bool:
        """Whether the gateway has been asked to stop. From any thread."""
        return self._gateway.statistics(0.0).draining_for is not None

    @property
    def open(self) -> bool:
        """Is there something to close?"""
        return self._recorder is not None

    def close(self) -> None:
        """Write what waits. Blocks; made for a thread, at the end."""
        if self._recorder is not None:
            self._recorder.close()
            if self._tracer is not None:
                self._tracer.close()
            self._recorder = self._log = None

    def _start(self) -> Recorder:
        """The thread is started when there is something for it, in the process that has it: servers may fork."""
        if self._recorder is None:
            sinks: list[Sink] = [audit]
            if self._analytics.metrics:
                sinks.append(self._metrics.count)
            if self._tracer is not None:
                sinks.append(self._tracer.export)
            self._log = access.writer
            self._recorder = Recorder(
                self._analytics.database,
                retention=self._analytics.retention_days,
                sinks=sinks,
                log=self._log,
                state_dir=self._state_dir,
                environ=self._environ,
            )
        return self._recorder

    def _page(self, name: str, query: str) -> Callable[[], Response]:
        """What makes it. Called itself on the event loop's thread, whose the gateway is."""
        if name == "openapi":
            return partial(openapi.answer, query)  # the first of them takes a while
        if name == "metrics":
            return self._exposition()
        recorder = self._recorder or self._start()
        if name == "analytics":
            return partial(recorder.analytics, query)
        if name == "requests":
            return partial(recorder.requests, query)
        assert name == "stats"
        gateway, now = self._gateway, self._clock()
        return partial(recorder.stats, query, gateway.shared.router.statuses(now), now, gateway.shared.epoch)

    def _exposition(self) -> Callable[[], Response]:
        if not self._analytics.metrics:
            return partial(error, 503, "not_available", "Metrics are off: analytics.metrics is false.")
        snapshot = self._snapshot()
        return partial(self._of_one if self._gather is None else self._of_all, snapshot)

    def report(self) -> "Callable[[], bytes]":
        """What makes the figures of this process alone, for another one; as for pages."""
        from gwproto_ops.merging import encoded

        return partial(encoded, self._snapshot())

    def _snapshot(self) -> Snapshot:
        return self._metrics.snapshot(
            self._gateway,
            self._clock(),
            connections=self._connections(),
            recorder=self._recorder if self._analytics.database else None,
            log_dropped=access.dropped(),
            gauges={} if self._reloads is None else gauges_of(self._reloads()),
        )

    def _of_one(self, snapshot: Snapshot) -> Response:
        return response(200, written(snapshot), CONTENT_TYPE)

    def _of_all(self, snapshot: Snapshot) -> Response:
        from gwproto_ops.merging import encoded, page_of_all

        assert self._gather is not None
        own = encoded(snapshot)
        gathered = self._gather(own)
        if gathered is None:  # own figures alone would look like counters that began anew
            return error(503, "not_available", "The supervisor of the workers does not answer.")
        return response(200, page_of_all(own, gathered), CONTENT_TYPE)


def gauges_of(reloads: "Reloads") -> Mapping[str, tuple[str, float]]:
    """Metrics by their names without the prefix: help and value."""
    return {
        "configuration_reloads": ("Times that the configuration was read again and used.", reloads.reloads),
        "configuration_reload_failures": (
            "Times that the configuration was read again and not used, because something was wrong with it.",
            reloads.failures,
        ),
        "configuration_stale": ("1 while files are not what is in force.", bool(reloads.last_error)),
        "configuration_loaded_timestamp_seconds": (
            "When the configuration in force was read.",
            reloads.loaded_at,
        ),
    }


def _safely(name: str, page: Callable[[], Response]) -> Response:
    try:
        return page()
    except Exception:
        logger.exception("the page %s failed inside the gateway", name)
        return error(500, "internal_error", "Internal error of the gateway.", type="server_error")

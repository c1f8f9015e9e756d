"""What happens to an upstream request in a simulated world."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from gwproto.failures import LossReason
from gwproto.testing.providers import SimulatedProvider
from gwproto.testing.steps import Step
from gwproto.values import Origin, UpstreamRequest

Cut = Callable[[bytes], Iterable[bytes]]


class Connection(Struct, frozen=True, gc=False):
    """How one upstream request fares: a dial that takes ``dial`` seconds and fails or not, then a timeline."""

    steps: Sequence[Step] = ()
    dial: float = 0.0
    lost: LossReason | None = None  # the dial's failure
    reused: bool = False  # on a kept-alive connection


class Network(Protocol):
    """Decides how requests to providers fare."""

    def connect(self, request: UpstreamRequest, now: float) -> Connection:
        """A request goes out. ``now`` is wall time."""
        ...

    def closed(self, origin: Origin, reusable: bool) -> None:
        """A connection that was given out is no longer in use."""
        ...


class Weather(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Faults of the network itself. Rates are shares of connections, times are seconds."""

    dial_time: float = 0.0
    refused: float = 0.0
    unresolved: float = 0.0
    stale: float = 0.0  # of the kept-alive connections


class SimulatedNetwork:
    """Providers at their origins, behind a network that fails now and then."""

    def __init__(
        self,
        providers: Mapping[Origin, SimulatedProvider],
        *,
        rng: random.Random,
        weather: Weather | None = None,
    ) -> None:
        self.providers = providers
        self.weather = weather or Weather()
        self._rng = rng
        self._idle: dict[Origin, int] = {}

    def connect(self, request: UpstreamRequest, now: float) -> Connection:
        weather = self.weather
        chance = self._rng.random
        provider = self.providers.get(request.origin)
        if provider is None or (weather.unresolved and chance() < weather.unresolved):
            return Connection(dial=weather.dial_time, lost=LossReason.DNS)
        idle = 0 if request.fresh else self._idle.get(request.origin, 0)
        if idle:
            self._idle[request.origin] = idle - 1
            if weather.stale and chance() < weather.stale:
                return Connection(lost=LossReason.STALE, reused=True)
        elif weather.refused and chance() < weather.refused:
            return Connection(dial=weather.dial_time, lost=LossReason.REFUSED)
        steps = provider.respond(request.method, request.target, request.headers, request.body, now)
        return Connection(steps, dial=0.0 if idle else weather.dial_time, reused=bool(idle))

    def closed(self, origin: Origin, reusable: bool) -> None:
        if reusable:
            self._idle[origin] = self._idle.get(origin, 0) + 1


class ScriptedNetwork:
    """Connections written down beforehand, in the order of the requests, whichever provider they go to.

    The last one serves whatever comes after it. A provider's connection is kept alive when its answer was complete,
    and used again unless a fresh one is asked for.
    """

    def __init__(self, script: Sequence[Connection]) -> None:
        self._script = list(script)
        self._idle: dict[Origin, int] = {}
        self.log: list[tuple[UpstreamRequest, Connection]] = []

    def connect(self, request: UpstreamRequest, now: float) -> Connection:
        script = self._script
        connection = script.pop(0) if len(script) > 1 else script[0]
        self.log.append((request, connection))
        idle = 0 if request.fresh else self._idle.get(request.origin, 0)
        if not idle:
            return connection
        self._idle[request.origin] = idle - 1
        return msgspec.structs.replace(connection, dial=0.0, reused=True)

    def closed(self, origin: Origin, reusable: bool) -> None:
        if reusable:
            self._idle[origin] = self._idle.get(origin, 0) + 1


def whole(data: bytes) -> Iterable[bytes]:
    """Deliver what was written as it was written."""
    return (data,)

"""Noting what comes into a gateway and its exchanges, with what was done about it."""

import random
from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from gwproto.commands import Command
from gwproto.events import Event
from gwproto.exchange.base import Exchange
from gwproto.gateway import Gateway
from gwproto.gateway_values import Configuration, State
from gwproto.values import Outcome, RequestHead


class Refused(Struct, frozen=True, gc=False):
    """The runtime had the gateway refuse what it could not read."""

    status: int
    code: str
    message: str
    head: RequestHead | None


class Reconfigured(Struct, frozen=True, gc=False):
    configuration: Configuration
    renewed: tuple[str, ...]


class Restored(Struct, frozen=True, gc=False):
    state: State
    renewed: tuple[str, ...]


class Call(Struct, frozen=True, gc=False):
    """A call that brings nothing but the time: ``start``, ``tick``, ``abandon``, ``drain``."""

    name: str


What = RequestHead | Refused | Reconfigured | Restored | Call | Event


class Note(Struct, frozen=True, gc=False):
    """One input and what was done about it. All of it is immutable, to be looked at later and in any thread."""

    t: float
    exchange: int  # counted from 1; 0: the gateway itself
    what: What
    commands: tuple[Command, ...] = ()
    request_id: str = ""  # of an exchange that begins
    outcome: Outcome | None = None  # of one that is finished
    raised: str = ""  # the name of the error that came instead of commands


Sink = Callable[[Note], None]

_START, _TICK, _ABANDON, _DRAIN = map(Call, ("start", "tick", "abandon", "drain"))


class Recorder(Gateway):
    """A gateway that tells ``sink`` of all that may change it or its exchanges, in order, when it has happened."""

    def __init__(self, configuration: Configuration, *, rng: random.Random, epoch: float, sink: Sink) -> None:
        super().__init__(configuration, rng=rng, epoch=epoch)
        self._sink = sink
        self._exchanges = 0
        self._beginning = False

    def begin(self, head: RequestHead, now: float) -> Exchange:
        self._beginning = True  # refuse() is then its own affair
        try:
            exchange = super().begin(head, now)
        finally:
            self._beginning = False
        return self._recorded(exchange, head, now)

    def refuse(
        self, status: int, code: str, message: str, now: float, head: RequestHead | None = None
    ) -> Exchange:
        exchange = super().refuse(status, code, message, now, head)
        if self._beginning:
            return exchange
        return self._recorded(exchange, Refused(status, code, message, head), now)

    def reconfigure(self, configuration: Configuration, now: float, *, renewed: Collection[str] = ()) -> None:
        super().reconfigure(configuration, now, renewed=renewed)
        self._sink(Note(now, 0, Reconfigured(configuration, tuple(sorted(renewed)))))

    def restore(self, state: State, now: float, *, renewed: Collection[str] = ()) -> None:
        super().restore(state, now, renewed=renewed)
        self._sink(Note(now, 0, Restored(state, tuple(sorted(renewed)))))

    def drain(self, now: float) -> None:
        super().drain(now)
        self._sink(Note(now, 0, _DRAIN))

    def _recorded(self, exchange: Exchange, what: RequestHead | Refused, now: float) -> Exchange:
        self._exchanges += 1
        self._sink(Note(now, self._exchanges, what, request_id=exchange.request_id))
        return RecordedExchange(exchange, self._exchanges, self._sink)


class RecordedExchange(Exchange):
    """An exchange whose inputs are noted. It says of itself what the one behind it said after its last input."""

    __slots__ = ("_exchange", "_number", "_sink")

    wakeable = True  # if it is woken at all

    def __init__(self, exchange: Exchange, number: int, sink: Sink) -> None:
        super().__init__(exchange.head, exchange.request_id, exchange.began_at)
        self._exchange = exchange
        self._number = number
        self._sink = sink
        exchange.wake = self._woken
        self._follow()

    def _follow(self) -> None:
        self.finished = self._exchange.finished
        self.receiving = self._exchange.receiving
        self.outcome = self._exchange.outcome

    def _woken(self) -> None:
        self.wake()

    @property
    def deadline(self) -> float:
        return self._exchange.deadline

    def start(self, now: float) -> Sequence[Command]:
        return self._note(_START, now, self._exchange.start)

    def receive(self, event: Event, now: float) -> Sequence[Command]:
        return self._note(event, now, lambda now: self._exchange.receive(event, now))

    def tick(self, now: float) -> Sequence[Command]:
        return self._note(_TICK, now, self._exchange.tick)

    def abandon(self, now: float) -> Sequence[Command]:
        if self._exchange.finished:
            return []
        return self._note(_ABANDON, now, self._exchange.abandon)

    def _note(
        self, what: Call | Event, now: float, call: Callable[[float], Sequence[Command]]
    ) -> Sequence[Command]:
        try:
            commands = call(now)
        except Exception as error:
            self._sink(Note(now, self._number, what, raised=type(error).__name__))
            raise
        finally:
            self._follow()
        self._sink(Note(now, self._number, what, tuple(commands), outcome=self.outcome))
        return commands

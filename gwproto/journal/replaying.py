"""A journal fed to fresh machines: do they still do what they did?"""

import random
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from gwproto import events
from gwproto.commands import Command
from gwproto.events import Event
from gwproto.exchange.base import Exchange
from gwproto.exchange.sharing import SharingExchange
from gwproto.failures import ConfigurationError, LocalProtocolError
from gwproto.gateway import Gateway
from gwproto.gateway_values import Configuration, State
from gwproto.journal import entries
from gwproto.journal.configuring import compiled, digest_of, restored, stand_in
from gwproto.journal.digests import Digests, did
from gwproto.journal.entries import LineError, unseal
from gwproto.values import Outcome, RequestHead


class Divergence(Struct, frozen=True, gc=False):
    """An input that now leads to something else."""

    line: int
    exchange: int
    event: str  # its kind
    expected: str  # kinds of commands, in words
    came: str


class Report(Struct, frozen=True, gc=False):
    """What a replay came to. ``divergences`` are lines, ``diverged`` exchanges; ``first`` is the first of them."""

    entries: int
    exchanges: int
    divergences: int
    diverged: int
    first: Divergence | None


class Done(Struct, frozen=True, gc=False):
    """One line as it was replayed; ``entry`` None: it was no input."""

    entry: entries.Entry | None = None
    commands: Sequence[Command] = ()
    outcome: Outcome | None = None  # of an exchange that it finished
    divergence: Divergence | None = None


class Replay:
    """Takes a journal's lines one by one. After a divergence it goes on, but what follows may follow from it.

    ``exchange`` and ``configuration`` let an observer see what a line was about.
    """

    def __init__(self) -> None:
        self.gateway: Gateway
        self.configuration: Configuration
        self.opening: entries.Opening | None = None
        self.closed = False
        self.exchanges: dict[int, Exchange] = {}
        self._digests: Digests
        self._check = entries.FIRST_CHECK
        self._number = 0
        self._entries = 0
        self._begun = 0
        self._divergences = 0
        self._diverged: set[tuple[int, int]] = set()
        self._first: Divergence | None = None
        self._openings = 0

    @property
    def report(self) -> Report:
        """How it went so far."""
        return Report(self._entries, self._begun, self._divergences, len(self._diverged), self._first)

    def feed(self, line: bytes) -> Done:
        """Replay one line, its end included. Raises :class:`LineError` for one that is damaged."""
        self._number += 1
        read, self._check = unseal(line, self._check)
        if self.closed:
            raise LineError("the journal has ended before this line")
        if isinstance(read, entries.Opening):
            self._open(read)
            return Done()
        if self.opening is None:
            raise LineError("the journal does not begin with its first line")
        if isinstance(read, entries.Closing):
            self.closed = True
            if read.end != "closed":
                raise LineError(f"the journal has a hole from here on: {read.end}")
            return Done()
        return self._entry(read)

    def end(self) -> None:
        """There are no more lines. Raises :class:`LineError` if there should be."""
        if not self.closed:
            self._number += 1
            raise LineError("the last line is missing: whoever wrote the journal did not end in good order")

    @property
    def line(self) -> int:
        """The number of the line fed last, from 1."""
        return self._number

    def _open(self, opening: entries.Opening) -> None:
        if opening.journal != entries.VERSION:
            raise LineError(f"journals of version {opening.journal} cannot be read, only {entries.VERSION}")
        self.configuration = _configuration(opening.configuration, opening.digest)
        self.gateway = Gateway(self.configuration, rng=random.Random(opening.seed), epoch=opening.epoch)
        self.opening = opening
        self.exchanges = {}
        self._digests = Digests(bodies=opening.bodies)
        self._openings += 1

    def _entry(self, entry: entries.Entry) -> Done:
        self._entries += 1
        number, event = entry.exchange, entry.event
        commands: Sequence[Command] = ()
        outcome: Outcome | None = None
        raised = begun = ""
        try:
            if isinstance(event, entries.OfTheGateway):
                begun = self._of_the_gateway(entry, event)
            else:
                exchange = self.exchanges.get(number)
                if exchange is None:
                    raise LocalProtocolError("an input after the end")
                commands = _input(exchange, event, entry.t)
                outcome = exchange.outcome
        except LineError:
            raise
        except Exception as error:  # whatever a changed machine does with what it is not made for
            raised = type(error).__name__
        if outcome is not None:
            del self.exchanges[number]
        digest = self._digests.of(number, commands, outcome, begun)
        if raised == entry.raised and (raised or digest == entry.commands):
            return Done(entry, commands, outcome)
        expected, came = _told(entry.raised, entry.did), _told(raised, did(commands))
        if came == expected:
            came += ", but not the same"
        divergence = Divergence(self._number, number, kind_of(event), expected, came)
        self._divergences += 1
        self._diverged.add((self._openings, number))
        self._first = self._first or divergence
        return Done(entry, commands, outcome, divergence)

    def _of_the_gateway(self, entry: entries.Entry, event: entries.OfTheGateway) -> str:
        """Returns the new exchange's id, if one is begun."""
        now = entry.t
        if isinstance(event, entries.Drain):
            self.gateway.drain(now)
            return ""
        if isinstance(event, entries.Reconfigure):
            self.configuration = _configuration(event.configuration, event.digest)
            self.gateway.reconfigure(self.configuration, now, renewed=event.renewed)
            return ""
        if isinstance(event, entries.Restore):
            self.gateway.restore(msgspec.json.decode(event.state, type=State), now, renewed=event.renewed)
            return ""
        if isinstance(event, entries.Begin):
            exchange = self.gateway.begin(head_of(event), now)
        else:
            head = None if event.head is None else event.head.value
            exchange = self.gateway.refuse(event.status, event.code, event.message, now, head)
        self.exchanges[entry.exchange] = exchange
        self._begun += 1
        return exchange.request_id


def head_of(event: entries.Begin) -> RequestHead:
    """A request's head, with a key that :func:`compiled` accepts if one was accepted."""
    head = event.head.value
    if event.key is None:
        return head
    key = stand_in(event.key, event.number)
    found = next((name for name in (b"authorization", b"x-api-key") if name in dict(head.headers)), b"")
    value = b"Bearer " + key if found == b"authorization" else key
    fields = tuple([(name, value if name == found else sent) for name, sent in head.headers])
    return msgspec.structs.replace(head, headers=fields)


def kind_of(event: entries.Happened) -> str:
    """In words."""
    return str(event.__struct_config__.tag).replace("_", " ")


def event_of(event: entries.OfAnExchange) -> Event | None:
    """The event that a line tells of; None: it is a call. Raises :class:`ValueError` for damaged bytes."""
    if isinstance(event, entries.ClientData):
        return events.ClientData(event.value)
    if isinstance(event, entries.UpstreamData):
        return events.UpstreamData(event.attempt, event.value)
    if isinstance(event, entries.UpstreamHead):
        return events.UpstreamHead(event.attempt, event.status, entries.headers(event.headers))
    if isinstance(event, entries.UpstreamOpened):
        return events.UpstreamOpened(event.attempt, event.reused)
    if isinstance(event, entries.UpstreamLost):
        return events.UpstreamLost(event.attempt, event.why)
    if isinstance(event, entries.UpstreamEnd):
        return events.UpstreamEnd(event.attempt)
    return _PLAIN.get(type(event))


_PLAIN: dict[type, Event] = {
    entries.ClientEnd: events.ClientEnd(),
    entries.ClientGone: events.ClientGone(),
    entries.Draining: events.Draining(),
}


def _input(exchange: Exchange, event: entries.OfAnExchange, now: float) -> Sequence[Command]:
    if isinstance(event, entries.ClientEnd) and isinstance(exchange, SharingExchange):
        exchange.apart = event.apart
    happened = event_of(event)
    if happened is not None:
        return exchange.receive(happened, now)
    if isinstance(event, entries.Start):
        return exchange.start(now)
    return exchange.tick(now) if isinstance(event, entries.Tick) else exchange.abandon(now)


def _told(raised: str, commands: str) -> str:
    return f"{raised} was raised" if raised else commands or "nothing"


def _configuration(raw: Raw, digest: str) -> Configuration:
    if digest_of(raw) != digest:
        raise LineError("the configuration does not match its digest")
    try:
        return compiled(restored(raw))
    except msgspec.ValidationError as error:
        raise LineError(f"the configuration cannot be read: {error}") from None
    except ConfigurationError as error:
        raise LineError(f"the configuration is none: {error}") from None

"""The callback driver: whoever has news of an exchange performs it. The contract it keeps is ``docs/driving.md``."""

import logging
import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from gwproto import (
    Abort,
    ClientGone,
    CloseUpstream,
    Command,
    Draining,
    Event,
    Exchange,
    OpenUpstream,
    SendData,
    UpstreamRequest,
)
from gwproto_io.sends import Send
from gwproto_raw.loops import Alarm

logger = logging.getLogger("gwproto")

_START = -math.inf  # the deadline of what has not been started


class Client(Protocol):
    """The client's side of one exchange. Nothing here waits, or raises for what a network does."""

    @property
    def writable(self) -> bool:
        """Has everything been taken that was sent? While it has not, the exchange stands still."""
        ...

    def take(self) -> Event | None:
        """The next ``ClientData``, ``ClientEnd`` or ``ClientGone``, if there is one."""
        ...

    def send(self, commands: Sequence[Send]) -> None:
        """Write these in one go. A client that is gone is not an error here."""
        ...

    def abort(self) -> None:
        """Break the response off so that the client notices. Idempotent."""
        ...

    def exchanged(self, exchange: Exchange) -> None:
        """The exchange has ended."""
        ...


class Upstreams(Protocol):
    """The upstream attempts of one exchange. Nothing here waits, or raises for what a network does.

    ``inbox``: what came of any of them and has not been taken yet.
    """

    @property
    def inbox(self) -> deque[Event]: ...

    def open(self, attempt: int, request: UpstreamRequest) -> None:
        """Start an attempt; a dial or a handshake goes on elsewhere."""
        ...

    def close(self, attempt: int) -> None:
        """Close an attempt's connection, however far it is. Unknown attempts are ignored."""
        ...

    def close_all(self) -> None:
        """Close whatever is still open."""
        ...


class Driver:
    """Performs ``exchange`` to its end. ``alarm`` is to call :meth:`run`."""

    def __init__(self, exchange: Exchange, client: Client, upstreams: Upstreams, alarm: Alarm) -> None:
        self._exchange, self._client, self._upstreams = exchange, client, upstreams
        self._alarm, self._clock = alarm, alarm.clock
        self._pending: deque[ClientGone | Draining] = deque()
        self._deadline = _START  # as it was after the last input
        self._busy = False
        if exchange.wakeable:
            exchange.wake = self._wake

    def post(self, event: ClientGone | Draining) -> None:
        """What may happen to an exchange at any moment, also while nothing can be written."""
        self._pending.append(event)
        self.run()

    def run(self) -> None:
        """Give the exchange all there is for it: something has come, or the deadline, or room to write.

        Performing may call back and so come here again: whoever is at it will look for more.
        """
        exchange, client, pending, inbox = self._exchange, self._client, self._pending, self._upstreams.inbox
        if self._busy or self._exchange.finished:
            return
        self._busy = True
        try:
            if self._deadline == _START:
                commands = exchange.start(self._clock())
                if commands:
                    self._perform(commands)
                self._deadline = exchange.deadline
            while not exchange.finished:
                now = self._clock()
                if pending:
                    commands = exchange.receive(pending.popleft(), now)
                elif not client.writable:
                    break
                elif now >= self._deadline and now >= exchange.deadline:  # inputs may have put it off
                    commands = exchange.tick(now)
                else:
                    event = client.take() if exchange.receiving else inbox.popleft() if inbox else None
                    if event is None:
                        break
                    commands = exchange.receive(event, now)
                if not commands:
                    pass
                elif len(commands) == 1 and type(command := commands[0]) is SendData:
                    client.send((command,))  # most of what a stream is
                else:
                    self._perform(commands)
                if not (inbox or pending or exchange.receiving):
                    break  # a deadline that has passed meanwhile is the alarm's
        except Exception:
            logger.exception("exchange failed inside the gateway")
            self.abandon()
            return
        self._busy = False
        if exchange.finished:
            self._end()
            return
        self._deadline = exchange.deadline
        if client.writable:
            self._alarm.set(self._deadline)

    def abandon(self) -> None:
        """End now, however far it is."""
        self._busy = True
        try:
            self._perform(self._exchange.abandon(self._clock()))
        except Exception:
            logger.exception("exchange failed inside the gateway once more")
            self._client.abort()
        self._end()

    def _perform(self, commands: Sequence[Command]) -> None:
        sends: list[Send] = []  # what is together is written together
        for command in commands:
            # By the exact type: isinstance() takes many times as long to say no to a Struct.
            if type(command) is CloseUpstream:
                self._upstreams.close(command.attempt)
            elif type(command) is OpenUpstream or type(command) is Abort:
                if sends:
                    self._client.send(sends)
                    sends = []
                if type(command) is OpenUpstream:
                    self._upstreams.open(command.attempt, command.request)
                else:
                    self._client.abort()
            else:
                sends.append(command)
        if sends:
            self._client.send(sends)

    def _wake(self) -> None:
        self._deadline = self._exchange.deadline
        if not self._busy and self._client.writable:  # else it is looked at anyway
            self._alarm.set(self._clock())

    def _end(self) -> None:
        self._upstreams.close_all()
        self._client.exchanged(self._exchange)

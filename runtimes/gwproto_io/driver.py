"""The awaiting driver: one task performs one exchange. The contract it keeps is ``docs/driving.md``."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from anyio import CancelScope

from gwproto import (
    Abort,
    ClientGone,
    CloseUpstream,
    Command,
    Delegate,
    Draining,
    Event,
    Exchange,
    OpenUpstream,
    SendData,
    SendEnd,
    SendHead,
    UpstreamRequest,
)

logger = logging.getLogger("gwproto")

Send = SendHead | SendData | SendEnd | Delegate
SENDS = (SendHead, SendData, SendEnd, Delegate)


class Client(Protocol):
    """The client's side of one exchange, as a server provides it. Nothing here raises for what a network does."""

    @property
    def ready(self) -> bool:
        """Does ``next_event`` have one without waiting?"""
        ...

    async def next_event(self) -> Event:
        """The next ``ClientData``, ``ClientEnd`` or ``ClientGone``. Cancel-safe."""
        ...

    async def send(self, commands: Sequence[Send]) -> None:
        """Write these in one go; the wait is the back-pressure. A client that is gone is not an error here."""
        ...

    def abort(self) -> None:
        """Break the response off so that the client notices. Synchronous, idempotent."""
        ...


class Upstreams(Protocol):
    """The upstream attempts of one exchange. Nothing here raises for what a network does."""

    async def open(self, attempt: int, request: UpstreamRequest) -> None:
        """Start an attempt; a dial or a handshake goes on elsewhere."""
        ...

    async def close(self, attempt: int) -> None:
        """Close an attempt's connection, however far it is. Unknown attempts are ignored."""
        ...

    @property
    def ready(self) -> bool:
        """Does ``next_event`` have one without waiting?"""
        ...

    async def next_event(self) -> Event:
        """The next event of any attempt; waits for ever when there is none. Cancel-safe."""
        ...

    async def aclose(self) -> None:
        """Close whatever is still open. Idempotent, and not to be interrupted: it shields itself."""
        ...


class Interrupts:
    """What may happen to an exchange at any moment, and the way to wake the driver for it.

    A connection's reader posts :class:`ClientGone`, a server that stops posts :class:`Draining`.
    """

    __slots__ = ("pending", "scope")

    def __init__(self) -> None:
        self.pending: deque[ClientGone | Draining] = deque()
        self.scope: CancelScope | None = None

    def post(self, event: ClientGone | Draining) -> None:
        self.pending.append(event)
        self.wake()

    def wake(self) -> None:
        """The driver is to look again, at the deadline too."""
        if self.scope is not None:
            self.scope.cancel()


async def drive(
    exchange: Exchange,
    client: Client,
    upstreams: Upstreams,
    interrupts: Interrupts,
    clock: Callable[[], float],
) -> None:
    """Perform ``exchange`` to its end. ``clock`` is the running loop's own, in seconds."""
    if exchange.wakeable:
        exchange.wake = interrupts.wake
    try:
        commands = exchange.start(clock())
        while True:
            await _perform(commands, client, upstreams)
            if exchange.finished:
                break
            now = clock()
            if interrupts.pending:
                commands = exchange.receive(interrupts.pending.popleft(), now)
                continue
            if now >= exchange.deadline:
                commands = exchange.tick(now)
                continue
            source = client if exchange.receiving else upstreams
            event: Event | None = None
            if source.ready:
                event = await source.next_event()
            else:  # a scope costs as much as the machine, so there is one only where there is something to wait for
                with CancelScope(deadline=exchange.deadline) as interrupts.scope:
                    event = await source.next_event()
                interrupts.scope = None
            commands = () if event is None else exchange.receive(event, clock())
    except Exception:
        logger.exception("exchange failed inside the gateway")
        await _perform(exchange.abandon(clock()), client, upstreams)
    finally:
        try:
            if not exchange.finished:  # cancelled: no more waiting for the client
                client.abort()
                exchange.abandon(clock())
        finally:  # a machine that failed may fail once more
            await upstreams.aclose()


async def _perform(commands: Sequence[Command], client: Client, upstreams: Upstreams) -> None:
    sends: list[Send] = []
    for command in commands:
        if isinstance(command, SENDS):
            sends.append(command)
        elif isinstance(command, OpenUpstream):
            if sends:
                await client.send(sends)
                sends = []
            await upstreams.open(command.attempt, command.request)
        elif isinstance(command, CloseUpstream):
            await upstreams.close(command.attempt)
        else:
            assert isinstance(command, Abort)
            if sends:
                await client.send(sends)
                sends = []
            client.abort()
    if sends:
        await client.send(sends)

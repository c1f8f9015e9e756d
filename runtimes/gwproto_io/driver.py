"""The awaiting driver: one task performs one exchange. The contract it keeps is ``docs/driving.md``."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Protocol

from anyio import CancelScope

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

logger = logging.getLogger("gwproto")


class Client(Protocol):
    """The client's side of one exchange, as a server provides it. Nothing here raises for what a network does."""

    def take(self) -> Event | None:
        """What ``next_event`` would return at once; None: it may have to wait."""
        ...

    async def next_event(self) -> Event:
        """The next ``ClientData``, ``ClientEnd`` or ``ClientGone``. Cancel-safe."""
        ...

    def send(self, commands: Sequence[Send]) -> Awaitable[None] | None:
        """Write these in one go; the wait is the back-pressure. None: they are written, and there is nothing to wait
        for. A client that is gone is not an error here."""
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

    def take(self) -> Event | None:
        """What ``next_event`` would return at once; None: it may have to wait."""
        ...

    async def next_event(self) -> Event:
        """The next event of any attempt; waits for ever when there is none. Cancel-safe."""
        ...

    async def aclose(self) -> None:
        """Close whatever is still open. Idempotent, and not to be interrupted: it shields itself."""
        ...


class Scope(Protocol):
    """A cancel scope, anyio's or trio's own."""

    deadline: float

    @property
    def cancelled_caught(self) -> bool: ...

    def cancel(self) -> None: ...

    def __enter__(self) -> "Scope": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class NewScope(Protocol):
    def __call__(self, *, deadline: float) -> Scope: ...


class Interrupts:
    """What may happen to an exchange at any moment, and the way to wake the driver for it.

    A connection's reader posts :class:`ClientGone`, a server that stops posts :class:`Draining`. ``new_scope`` makes
    what the driver waits in.
    """

    __slots__ = ("new_scope", "pending", "scope")

    def __init__(self, new_scope: NewScope = CancelScope) -> None:
        self.pending: deque[ClientGone | Draining] = deque()
        self.new_scope = new_scope
        self.scope: Scope | None = None

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
            if commands:
                await _perform(commands, client, upstreams)
            if exchange.finished:
                break
            now = clock()
            source = client if exchange.receiving else upstreams
            if interrupts.pending:
                commands = exchange.receive(interrupts.pending.popleft(), now)
            elif now >= (deadline := exchange.deadline):
                commands = exchange.tick(now)
            elif (event := source.take()) is not None:
                commands = exchange.receive(event, now)
            else:  # a scope costs as much as the machine, and is only left for what may have to wait outside of it
                commands, waiting = (), None
                interrupts.scope = scope = interrupts.new_scope(deadline=deadline)
                with scope:
                    while not (commands or waiting or interrupts.pending or exchange.deadline < deadline):
                        event = source.take() or await source.next_event()
                        commands = exchange.receive(event, clock())
                        if exchange.finished or source is client:  # who is listened to next may be another
                            break
                        if len(commands) == 1 and type(command := commands[0]) is SendData:
                            waiting = client.send((command,))
                            commands = ()
                if waiting is not None:
                    await waiting
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
        # By the exact type: isinstance() takes many times as long to say no to a Struct.
        if type(command) is CloseUpstream:
            await upstreams.close(command.attempt)
        elif type(command) is OpenUpstream or type(command) is Abort:
            if sends and (waiting := client.send(sends)) is not None:
                await waiting
            sends = []
            if type(command) is OpenUpstream:
                await upstreams.open(command.attempt, command.request)
            else:
                client.abort()
        else:
            sends.append(command)
    if sends and (waiting := client.send(sends)) is not None:
        await waiting

"""What every exchange is to its driver, and the parts all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from gwproto.commands import CloseUpstream, Command, OpenUpstream
from gwproto.compiling import mypyc_attr
from gwproto.events import Event
from gwproto.values import Headers, Outcome, RequestHead


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange(ABC):
    """One client request, from its head to its outcome.

    ``receiving`` says that the client's body is wanted. ``deadline`` is the instant by which :meth:`tick` must have
    been called (``math.inf``: none). After ``finished`` nothing may be fed any more, and ``outcome`` is there.

    The deadline of a ``wakeable`` exchange may also change between its own inputs, because of what another one does.
    Its driver sets ``wake``, which is called then.
    """

    __slots__ = ("began_at", "extra", "finished", "head", "outcome", "receiving", "request_id", "wake")

    wakeable: ClassVar[bool] = False
    wake: Callable[[], None]

    def __init__(self, head: RequestHead, request_id: str, now: float) -> None:
        self.head = head
        self.request_id = request_id
        self.began_at = now
        self.finished = False
        self.receiving = False
        self.outcome: Outcome | None = None
        self.extra: Headers = ()  # what any response says beside its own; set before the start

    @property
    @abstractmethod
    def deadline(self) -> float:
        """The instant by which ``tick`` must have been called."""

    @abstractmethod
    def start(self, now: float) -> Sequence[Command]:
        """Begin. Called once, before any event."""

    @abstractmethod
    def receive(self, event: Event, now: float) -> Sequence[Command]:
        """Take in what happened and say what to do."""

    @abstractmethod
    def tick(self, now: float) -> Sequence[Command]:
        """The clock has passed ``deadline``."""

    @abstractmethod
    def abandon(self, now: float) -> Sequence[Command]:
        """Give up, however far this is; idempotent. What is returned closes and, where possible, answers."""


_RANK: dict[type, int] = {CloseUpstream: 0, OpenUpstream: 2}


def in_order(commands: list[Command]) -> list[Command]:
    """Closes, then what the client sees, then opens: for a batch of two occasions."""
    commands.sort(key=lambda command: _RANK.get(type(command), 1))
    return commands

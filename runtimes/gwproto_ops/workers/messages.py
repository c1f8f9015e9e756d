"""What the supervisor and its workers tell each other: MessagePack on a socket pair, each with its length before it."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct


class Order(Struct, tag=True):
    """The first message to a worker: what to serve, and where. Secrets travel here, in no argument and no variable."""

    number: int  # from 1
    host: str
    port: int  # that the supervisor has bound already
    config: str | None
    env_file: str | None
    flags: dict[str, Any]
    access_log: bool
    made_key: str  # the client key where none is configured; "": that is an error
    simulated: list[str]  # base URLs of the simulated providers; none: they are not used
    database: str  # in place of a default that is not to be used; "": it is


class Ready(Struct, tag=True):
    """A worker accepts connections."""

    urls: list[str]


class Failed(Struct, tag=True):
    """A worker cannot start."""

    problem: str


class Reloaded(Struct, tag=True):
    """A worker has read the configuration again, whatever came of it."""


class Stop(Struct, tag=True):
    """A worker is to drain, if it does not do so already."""


class Ask(Struct, tag=True):
    """A worker wants the figures of all. ``report``: its own, encoded."""

    turn: int
    report: bytes


class Tell(Struct, tag=True):
    """A worker is to report."""


class Told(Struct, tag=True):
    """A worker's figures, encoded."""

    report: bytes


class Gathered(Struct, tag=True):
    """The answer to ``Ask``. ``past``: what dead and silent workers had counted when they were last heard, encoded."""

    turn: int
    reports: list[bytes]  # of the others
    past: bytes  # b"": none
    workers: int  # that serve
    silent: int  # of these, how many did not report in time
    restarts: int


Message = Order | Ready | Failed | Reloaded | Stop | Ask | Tell | Told | Gathered

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
_LENGTH = 4


def framed(message: Message) -> bytes:
    """As it goes over the socket."""
    body = _encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


class Unframer:
    """Takes bytes as they come, and gives messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(buffer[:_LENGTH], "big")
            if len(buffer) < end:
                return
            message = _decode(buffer[_LENGTH:end])
            del buffer[:end]
            yield message

"""TCP sockets for protocols as asyncio's are (PEP 3156), without a task."""

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from gwproto_raw.loops import READ_SIZE, Receiver
from gwproto_trio.poller import READABLE, WRITABLE

if TYPE_CHECKING:
    from gwproto_trio.loops import Loop

logger = logging.getLogger("gwproto")


class SocketTransport:
    """Calls ``receiver`` with what comes, and takes what it writes (see ``gwproto_raw.loops.Transport``)."""

    __slots__ = (
        "_closing",
        "_ended",
        "_eof",
        "_fd",
        "_loop",
        "_lost",
        "_paused",
        "_peer",
        "_receiver",
        "_sock",
        "_unsent",
    )

    def __init__(self, sock: socket.socket, receiver: Receiver, loop: "Loop", peer: str = "") -> None:
        """``sock``, which does not block, becomes its own. ``peer``: the other's address."""
        self._sock = sock
        self._fd = sock.fileno()
        self._receiver = receiver
        self._loop = loop
        self._peer = peer
        self._unsent = bytearray()  # while there is something, the receiver's writing is paused
        self._paused = False  # the receiver does not want to be told more
        self._ended = False  # the other will send no more
        self._eof = False  # the receiver will write no more
        self._closing = False  # it is told no more, but that this is the end
        self._lost = False  # it is about to be told that

    def start(self) -> None:
        """Raises :class:`OSError` when the system cannot watch one more; the receiver has not heard of it then."""
        self._watch()
        self._receiver.connection_made(self)

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._watch()
            self._receiver.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def pause_reading(self) -> None:
        self._paused = True
        self._watch()

    def resume_reading(self) -> None:
        self._paused = False
        self._watch()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        if not self._unsent:
            self._shut()

    def close(self) -> None:
        self._closing = True
        if self._unsent:
            self._watch()
        else:
            self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``peername``, whose port is not known, and ``socket``."""
        if name == "socket":
            return self._sock
        return (self._peer, 0) if name == "peername" and self._peer else default

    @property
    def _listens(self) -> bool:
        return not (self._paused or self._ended or self._closing)

    def _watch(self) -> None:
        if not self._lost:
            wanted = READABLE if self._listens else 0
            self._loop.poller.watch(self._fd, wanted | WRITABLE if self._unsent else wanted, self._ready)

    def _ready(self, events: int) -> None:
        # A connection that is broken is neither, alone; reading or writing says how.
        try:
            if events != WRITABLE and self._listens:
                self._read()
            if events != READABLE and self._unsent:
                self._send()
        except Exception as error:
            logger.exception("a connection failed inside the gateway")
            self._lose(error)

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:  # select(2), BUGS: readiness is a hint
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._receiver.data_received(data)
            return
        self._ended = True
        if self._receiver.eof_received():
            self._watch()
        else:
            self.close()

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        del self._unsent[:sent]
        if self._unsent:
            return
        self._watch()
        self._receiver.resume_writing()
        if self._unsent:
            return  # it did
        if self._closing:
            self._lose(None)
        elif self._eof:
            self._shut()

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other is gone, as reading will say

    def _lose(self, error: Exception | None) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            self._unsent.clear()
            self._loop.poller.watch(self._fd, 0, self._ready)
            self._loop.call_soon(partial(self._end, error))

    def _end(self, error: Exception | None) -> None:
        self._sock.close()
        self._receiver.connection_lost(error)

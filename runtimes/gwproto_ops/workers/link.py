"""A worker's end of the socket that it shares with its supervisor."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

from gwproto_ops.workers.messages import Ask, Gathered, Message, Order, Stop, Tell, Unframer, framed

#: Seconds to wait for the figures of all; the supervisor gives those who have them a second.
PATIENCE = 3.0
#: Seconds in which a signal that this process has had itself is seen to. Service managers send theirs to all processes
#: at once, and a second one would break off what is running.
HEARSAY = 0.1


class Link:
    """May be used from any thread, once the order is there."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unframer = Unframer()
        self._sending = threading.Lock()
        self._asking = threading.Lock()
        self._news = threading.Condition()
        self._turn = 0
        self._gathered: Gathered | None = None

    def order(self) -> Order:
        """The first message. Raises ``EOFError`` when the supervisor is gone."""
        while data := self._socket.recv(65536):
            for message in self._unframer.feed(data):
                assert isinstance(message, Order)
                return message
        raise EOFError

    def send(self, message: Message) -> None:
        """Never raises: a supervisor that is gone is noticed by who listens."""
        with self._sending:
            try:
                self._socket.sendall(framed(message))
            except OSError:
                pass

    def listen(self, on_tell: Callable[[], None], draining: Callable[[], bool]) -> None:
        """Begin to hear the supervisor, in a thread. ``on_tell`` has a report made and sent, and returns at once.

        When the supervisor says stop, or is gone, this process gets a SIGTERM, unless it is ``draining``.
        """
        threading.Thread(target=self._run, args=(on_tell, draining), name="supervisor", daemon=True).start()

    def gather(self, report: bytes) -> Gathered | None:
        """The figures of all the others, for this worker's own. Blocks. None: the supervisor does not answer."""
        with self._asking, self._news:
            self._turn += 1
            self.send(Ask(self._turn, report))

            def answered() -> bool:
                return self._gathered is not None and self._gathered.turn == self._turn

            return self._gathered if self._news.wait_for(answered, PATIENCE) else None

    def _run(self, on_tell: Callable[[], None], draining: Callable[[], bool]) -> None:
        while data := self._received():
            for message in self._unframer.feed(data):
                if isinstance(message, Tell):
                    on_tell()
                elif isinstance(message, Stop):
                    _stop(draining)
                elif isinstance(message, Gathered):
                    with self._news:
                        self._gathered = message
                        self._news.notify_all()
        _stop(draining)

    def _received(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except OSError:  # it went with something of ours unread
            return b""


def _stop(draining: Callable[[], bool]) -> None:
    time.sleep(HEARSAY)
    if not draining():
        os.kill(os.getpid(), signal.SIGTERM)

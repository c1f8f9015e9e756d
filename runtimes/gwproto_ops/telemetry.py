"""What a running gateway tells of itself: records, metrics, log lines, and the pages that show them."""

import logging
from collections.abc import Callable
from functools import partial

from gwproto import Gateway, Headers, Outcome
from gwproto.wire.openai.errors import encode_error
from gwproto_ops import access, console, openapi

logger = logging.getLogger("gwproto")

Response = tuple[int, Headers, bytes]
#: A page, or what makes it by waiting for a disk: to be called in a thread.
Page = Response | Callable[[], Response]


class Telemetry:
    """One per running gateway, whichever server runs it."""

    def __init__(self, *, log: Callable[[Outcome], None] = access.log_outcome) -> None:
        self._log = log
        self._gateway: Gateway
        self._clock: Callable[[], float]
        self._connections: Callable[[], int]

    def attach(self, gateway: Gateway, clock: Callable[[], float], connections: Callable[[], int]) -> None:
        """The gateway runs: its event loop's clock, and how many clients are connected."""
        self._gateway, self._clock, self._connections = gateway, clock, connections

    def record(self, outcome: Outcome) -> None:
        """A request has ended. Called on the event loop's thread; never waits, never raises."""
        self._log(outcome)

    def answer(self, name: str, query: str) -> Page:
        """What ``Delegate(name, query)`` asks for."""
        if name == "console":
            return console.answer(query)
        if name == "openapi":
            return partial(openapi.answer, query)  # the first of them takes a while
        return error(503, "not_available", f"{name} is not available in this process.")

    @property
    def open(self) -> bool:
        """Is there something to close?"""
        return False

    def close(self) -> None:
        """Write what waits. Blocks; made for a thread, at the end."""


def error(status: int, code: str, message: str, *, type: str = "service_unavailable") -> Response:
    """An error page of the runtime's, in the words of all others."""
    body = encode_error(message, type, code, None)
    return status, ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))), body

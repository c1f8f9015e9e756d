"""What happened: the closed vocabulary of an exchange's inputs.

An event that concerns a provider carries the attempt's number. Late events of a closed attempt are ignored.
"""

from typing import final

from msgspec import Struct

from gwproto.failures import LossReason
from gwproto.values import Headers


@final
class ClientData(Struct, frozen=True, gc=False):
    """Bytes of the client's request body."""

    data: bytes


@final
class ClientEnd(Struct, frozen=True, gc=False):
    """The client's request body is complete."""


@final
class ClientGone(Struct, frozen=True, gc=False):
    """The client closed its connection, or broke the framing of its body: nobody is left to answer."""


@final
class Draining(Struct, frozen=True, gc=False):
    """The process was asked to stop: finish within the configured ``drain_timeout``."""


@final
class UpstreamOpened(Struct, frozen=True, gc=False):
    """A connection for this attempt is ready and its request is on the way."""

    attempt: int
    reused: bool


@final
class UpstreamHead(Struct, frozen=True, gc=False):
    """The final (not 1xx) response head."""

    attempt: int
    status: int
    headers: Headers


@final
class UpstreamData(Struct, frozen=True, gc=False):
    """Bytes of the response body: whatever one read delivered, content coding undone."""

    attempt: int
    data: bytes


@final
class UpstreamEnd(Struct, frozen=True, gc=False):
    """The response is complete by its framing (RFC 9112, 6.3)."""

    attempt: int


@final
class UpstreamLost(Struct, frozen=True, gc=False):
    """The connection could not be made, or broke before the response was complete."""

    attempt: int
    why: LossReason


Event = (
    ClientData
    | ClientEnd
    | ClientGone
    | Draining
    | UpstreamOpened
    | UpstreamHead
    | UpstreamData
    | UpstreamEnd
    | UpstreamLost
)

"""What a provider does on one connection, as a timeline of values."""

from msgspec import Struct

from gwproto.values import Headers


class Head(Struct, frozen=True, gc=False):
    """Send the response head. Without ``content-length`` the body is chunked."""

    status: int
    headers: Headers


class Data(Struct, frozen=True, gc=False):
    """Send bytes of the body."""

    data: bytes


class End(Struct, frozen=True, gc=False):
    """Complete the response by its framing."""


class Close(Struct, frozen=True, gc=False):
    """Close the connection in good order, whatever the framing promised."""


class Reset(Struct, frozen=True, gc=False):
    """Break the connection off, so that the peer sees a reset."""


class Stall(Struct, frozen=True, gc=False):
    """Send nothing more and keep the connection open until the peer leaves."""


Action = Head | Data | End | Close | Reset | Stall


class Step(Struct, frozen=True, gc=False):
    """``action``, ``after`` seconds after the step before it (the first: after the request was complete)."""

    after: float
    action: Action

"""What to do: the closed vocabulary of an exchange's outputs, performed in the order given.

Inside one batch the order has meaning: closes of losers, then what the client sees, then opens.
"""

from typing import final

from msgspec import Struct

from gwproto.values import Headers, UpstreamRequest


@final
class OpenUpstream(Struct, frozen=True, gc=False):
    """Get a connection to ``request.origin`` and send the request on it. Returns at once; the work is elsewhere."""

    attempt: int
    request: UpstreamRequest


@final
class CloseUpstream(Struct, frozen=True, gc=False):
    """Stop this attempt and close its connection; no more of its events are wanted."""

    attempt: int


@final
class SendHead(Struct, frozen=True, gc=False):
    """Send the response head. Without ``content-length`` the body is framed by the runtime (chunked)."""

    status: int
    headers: Headers


@final
class SendData(Struct, frozen=True, gc=False):
    """Send bytes of the response body."""

    data: bytes


@final
class SendEnd(Struct, frozen=True, gc=False):
    """The response is complete."""


@final
class Abort(Struct, frozen=True, gc=False):
    """Break the response off so that the client notices: close without completing the framing."""


@final
class Delegate(Struct, frozen=True, gc=False):
    """The runtime answers: ``name`` says what (a page, a store's figures), ``query`` is validated already.

    Sent only after authentication, in place of head, data and end. ``headers`` go on the response beside its own.
    """

    name: str
    query: str
    headers: Headers = ()


Command = OpenUpstream | CloseUpstream | SendHead | SendData | SendEnd | Abort | Delegate

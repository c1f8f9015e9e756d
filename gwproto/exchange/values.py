"""What the parts of an exchange tell each other."""

from msgspec import Struct

from gwproto.commands import SendData, SendEnd, SendHead
from gwproto.failures import Failure
from gwproto.values import UpstreamRequest
from gwproto.wire.dialect import Dialect


class Verdict(Struct, frozen=True, gc=False):
    """The error that ends a request. ``type`` replaces the failure's own."""

    failure: Failure
    status: int
    type: str = ""


class Written(Struct, frozen=True, gc=False):
    """A request as one target gets it."""

    request: UpstreamRequest
    dialect: Dialect
    dropped: tuple[str, ...]  # parameters left out on the way
    effort: str  # applied
    max_tokens: int | None  # what it allows


Sending = SendHead | SendData | SendEnd


class Piece(Struct, frozen=True, gc=False):
    """Something that the leader sent. ``content``: of the answer, not a sign of life before it."""

    command: Sending
    content: bool

    @property
    def size(self) -> int:
        return len(self.command.data) if isinstance(self.command, SendData) else 0


class Shape(Struct, frozen=True, gc=False):
    """A proven frame around its text: what comes in before it, after it and between two of them, and what goes out.

    A frame may have a second string that is always another, padding that hides how long the text is: ``middle`` then
    stands between the two.
    """

    prefix: bytes
    middle: bytes
    suffix: bytes
    between: bytes
    double: int  # bytes that two such frames have at least
    out_prefix: bytes
    out_middle: bytes
    out_suffix: bytes
    out_between: bytes
    relay: bool  # in and out are the same

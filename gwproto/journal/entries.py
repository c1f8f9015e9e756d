"""The lines of a journal, as they are read and written.

The first line says with what the gateway began (:class:`Opening`), the last how the journal ended (:class:`Closing`);
between them is one :class:`Entry` for each input. A gateway that is begun anew in the same process opens again.
Every line ends in a checksum of itself and of the checksum before.
"""

import base64
import re
import zlib

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import LossReason
from gwproto.values import Headers, RequestHead

VERSION = 1

Pairs = tuple[tuple[str, str], ...]  # header fields, bytes as Latin-1


class Opening(Struct, frozen=True, gc=False):
    """With this a gateway began. ``digest`` is the configuration's."""

    journal: int
    gwproto: str  # the version
    at: float  # wall time
    epoch: float
    seed: int
    bodies: bool  # False: they are redacted
    digest: str
    configuration: Raw


class Closing(Struct, frozen=True, gc=False):
    """``end`` is ``"closed"``, or why lines are missing from here on."""

    end: str
    lines: int


class Head(Struct, frozen=True, gc=False):
    """A client's request head."""

    method: str
    target: str
    headers: Pairs
    http_version: str = "1.1"
    client: str = ""

    @classmethod
    def of(cls, head: RequestHead) -> "Head":
        return cls(head.method, head.target, pairs(head.headers), head.http_version, head.client)

    @property
    def value(self) -> RequestHead:
        return RequestHead(self.method, self.target, headers(self.headers), self.http_version, self.client)


class Happened(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type"):
    """What a line is about: an input of the gateway or of an exchange."""


class Begin(Happened, frozen=True, gc=False, tag="begin"):
    """``key``: the label of the client's key; None: it had none, or none that is known. ``number``: its place among
    the configuration's keys, of which several may have one label."""

    head: Head
    key: str | None = None
    number: int = 0


class Refuse(Happened, frozen=True, gc=False, tag="refuse"):
    status: int
    code: str
    message: str
    head: Head | None = None


class Drain(Happened, frozen=True, gc=False, tag="drain"):
    pass


class Reconfigure(Happened, frozen=True, gc=False, tag="reconfigure"):
    """``renewed``: credentials whose secret is another one now."""

    digest: str
    configuration: Raw
    renewed: tuple[str, ...] = ()


class Restore(Happened, frozen=True, gc=False, tag="restore"):
    """What another process knew was taken over."""

    state: Raw
    renewed: tuple[str, ...] = ()


class Start(Happened, frozen=True, gc=False, tag="start"):
    pass


class Tick(Happened, frozen=True, gc=False, tag="tick"):
    pass


class Abandon(Happened, frozen=True, gc=False, tag="abandon"):
    pass


class Bytes(Happened, frozen=True, gc=False):
    """``data`` where it is UTF-8, else ``base64``."""

    data: str | None = None
    base64: str | None = None

    @property
    def value(self) -> bytes:
        """The bytes. Raises :class:`ValueError`."""
        if self.data is not None:
            return self.data.encode()
        return base64.b64decode(self.base64 or "", validate=True)


class ClientData(Bytes, frozen=True, gc=False, tag="client_data"):
    pass


class ClientEnd(Happened, frozen=True, gc=False, tag="client_end"):
    """``apart``: the same for requests that were equal before they were redacted, where equal requests share."""

    apart: str = ""


class ClientGone(Happened, frozen=True, gc=False, tag="client_gone"):
    pass


class Draining(Happened, frozen=True, gc=False, tag="draining"):
    pass


class UpstreamOpened(Happened, frozen=True, gc=False, tag="upstream_opened"):
    attempt: int
    reused: bool


class UpstreamHead(Happened, frozen=True, gc=False, tag="upstream_head"):
    attempt: int
    status: int
    headers: Pairs


class UpstreamData(Bytes, frozen=True, gc=False, tag="upstream_data", kw_only=True):
    attempt: int


class UpstreamEnd(Happened, frozen=True, gc=False, tag="upstream_end"):
    attempt: int


class UpstreamLost(Happened, frozen=True, gc=False, tag="upstream_lost"):
    attempt: int
    why: LossReason


OfTheGateway = Begin | Refuse | Drain | Reconfigure | Restore
OfAnExchange = (
    Start
    | Tick
    | Abandon
    | ClientData
    | ClientEnd
    | ClientGone
    | Draining
    | UpstreamOpened
    | UpstreamHead
    | UpstreamData
    | UpstreamEnd
    | UpstreamLost
)


class Entry(Struct, frozen=True, gc=False, omit_defaults=True):
    """One input. ``exchange`` counts them from 1; 0: the gateway itself."""

    t: float  # monotonic seconds
    exchange: int
    event: OfTheGateway | OfAnExchange
    commands: str  # the digest of what was done about it
    did: str = ""  # the kinds of commands, in words
    raised: str = ""  # the name of the error that came instead


Line = Opening | Entry | Closing


def pairs(fields: Headers) -> Pairs:
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])


def headers(fields: Pairs) -> Headers:
    """Raises :class:`ValueError` for what no journal holds."""
    return tuple([(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields])


def text_or_base64(data: bytes) -> tuple[str | None, str | None]:
    """The two fields of :class:`Bytes`."""
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(data).decode()


_encode = msgspec.json.Encoder().encode
_opening = msgspec.json.Decoder(Opening)
_entry = msgspec.json.Decoder(Entry)
_closing = msgspec.json.Decoder(Closing)
_SEALED = re.compile(rb'(\{.*),"check":"([0-9a-f]{8})"\}\Z', re.DOTALL).match
FIRST_CHECK = b"00000000"


class LineError(Exception):
    """A line is damaged; says how."""


def seal(line: Line, before: bytes) -> tuple[bytes, bytes]:
    """The line's bytes, and its checksum, to which the next one is added. ``before``: that of the line before."""
    body = _encode(line)[:-1]
    check = _sum(body, before)
    return b'%b,"check":"%b"}\n' % (body, check), check


def unseal(line: bytes, before: bytes) -> tuple[Line, bytes]:
    """A line's content and checksum. Raises :class:`LineError`."""
    if not line.endswith(b"\n"):
        raise LineError("the line is cut off")
    sealed = _SEALED(line[:-1])
    if sealed is None:
        raise LineError("this is no line of a journal")
    body, check = sealed[1], sealed[2]
    if _sum(body, before) != check:
        raise LineError("the line was changed, or one before it is missing")
    try:
        return _decoded(body + b"}"), check
    except msgspec.DecodeError as error:
        raise LineError(f"the line cannot be read: {error}") from None


def _decoded(text: bytes) -> Line:
    if text.startswith(b'{"journal":'):
        return _opening.decode(text)
    if text.startswith(b'{"end":'):
        return _closing.decode(text)
    return _entry.decode(text)


def _sum(body: bytes, before: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body, zlib.crc32(before))

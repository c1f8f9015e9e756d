"""What commands come to, without what people said in them."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from gwproto.commands import Command, Delegate, OpenUpstream, SendData, SendHead
from gwproto.journal.bodies import Redact, said
from gwproto.journal.characters import ASCII, folded
from gwproto.journal.secrets import Mask
from gwproto.values import Headers, Outcome, UpstreamRequest

_encode = msgspec.msgpack.Encoder().encode
_WORD = re.compile("[A-Z][a-z]+")
_SENT = (b"accept", b"content-type")
_DROPPED = b"x-gateway-dropped-params"
_VALUE = re.compile(r"(?<=[=])[^&]*")
_KEPT_VALUE = re.compile(
    r"(?:^|&)(?:before|by|days|ending|label|limit|model|project_id|provider|request_id|status)=\Z"
)


class Digests:
    """Digests of what one gateway does. ``bodies``: texts count in full."""

    __slots__ = ("_bodies", "_said", "_secrets")

    def __init__(self, *, bodies: bool, secrets: Iterable[bytes] = ()) -> None:
        self._bodies = bodies
        self._secrets = tuple(secrets)
        self._said: dict[int, Redact] = {}  # exchanges' answers, as far as they are sent

    def learn(self, secrets: Iterable[bytes]) -> None:
        """Leave these out from now on."""
        self._secrets = tuple(secrets)

    def of(self, exchange: int, commands: Sequence[Command], outcome: Outcome | None, more: str = "") -> str:
        """The digest of what an input of ``exchange`` led to; of its ``outcome``, when it is finished by it."""
        told: list[object] = [self._told(exchange, command) for command in commands]
        if outcome is not None:
            self._said.pop(exchange, None)
            dropped = tuple([folded(name.encode()).decode() for name in outcome.dropped_params])
            # A replay knows that a key was rejected, and no more of it.
            rejected = "rejected" if outcome.rejected else ""
            outcome = msgspec.structs.replace(outcome, dropped_params=dropped, rejected=rejected)
        return hashlib.blake2b(_encode([told, outcome, more]), digest_size=12).hexdigest()

    def _told(self, exchange: int, command: Command) -> tuple[object, ...]:
        kind = type(command).__name__
        if isinstance(command, SendData):
            redact = self._said.get(exchange)
            if redact is None:
                redact = self._said[exchange] = self._redact()
            return kind, redact(command.data)
        if isinstance(command, OpenUpstream):
            return kind, command.attempt, self._asked(command.request)
        if isinstance(command, Delegate):
            return kind, command.name, command.query, command.headers
        if isinstance(command, SendHead):
            fields = [
                (name, folded(value) if name == _DROPPED else value)  # a client may call fields what it likes
                for name, value in command.headers
                if name != b"content-length"  # which the body says itself
            ]
            return kind, command.status, fields
        return kind, command

    def _asked(self, request: UpstreamRequest) -> UpstreamRequest:
        """As in the journal's configuration, what the configuration adds to requests is replaced."""
        path, mark, query = request.target.partition("?")
        return msgspec.structs.replace(
            request,
            target=path + mark + _plain(query),
            headers=tuple(
                [
                    (name, value if name in _SENT else value.translate(ASCII))
                    for name, value in request.headers
                ]
            ),
            body=self._redact()(request.body),
        )

    def _redact(self) -> Callable[[bytes], bytes]:
        mask = Mask(self._secrets)
        return mask if self._bodies else said(mask)


def did(commands: Sequence[Command]) -> str:
    """The kinds of commands in words: ``open upstream, send head, send data``."""
    kinds = [" ".join(_WORD.findall(type(command).__name__)).lower() for command in commands]
    return ", ".join(kinds)


def redacted_target(target: str) -> str:
    """A request's target with the values in its query replaced that do not say what is asked for."""
    path, mark, query = target.partition("?")
    return path + mark + redacted_query(query)


def redacted_query(query: str) -> str:
    return _VALUE.sub(
        lambda found: found[0] if _KEPT_VALUE.search(query, 0, found.start()) else _plain(found[0]), query
    )


def _plain(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").translate(ASCII).decode("utf-8", "surrogateescape")


def redacted_headers(headers: Headers, keep: re.Pattern[bytes], mask: Callable[[bytes], bytes]) -> Headers:
    """Header fields whose values are replaced but for those whose names are to ``keep``."""
    return tuple(
        [(name, mask(value) if keep.match(name) else value.translate(ASCII)) for name, value in headers]
    )

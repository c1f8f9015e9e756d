"""From notes to a journal's lines: redacted, digested, sealed."""

import hashlib
import re
from collections.abc import Iterable

import msgspec
from msgspec import Raw, structs

from gwproto import events
from gwproto.events import Event
from gwproto.failures import Failure
from gwproto.gateway_values import Configuration
from gwproto.journal import entries
from gwproto.journal.bodies import Answer, Redact, request_body
from gwproto.journal.configuring import digest_of, recorded
from gwproto.journal.digests import Digests, did, redacted_headers, redacted_target
from gwproto.journal.recording import Call, Note, Reconfigured, Refused, Restored, What
from gwproto.journal.secrets import Mask
from gwproto.policy.auth import Authenticator
from gwproto.values import RequestHead
from gwproto.wire.openai.request import parse_request

_SECRET = (b"authorization", b"cookie", b"proxy-authorization", b"x-api-key")
_VISIBLE = bytes([0x78 if byte > 0x20 and byte != 0x7F else byte for byte in range(256)])
_OF_CLIENTS = re.compile(
    rb"(?:x-gateway-|accept|access-control-|content-|x-forwarded-|x-stainless-retry-count\Z)"
    rb"|(?:host|connection|transfer-encoding|expect|origin|forwarded|x-real-ip|te|upgrade)\Z"
    rb"|trace(?:parent|state)\Z"
)
_OF_PROVIDERS = re.compile(
    rb"x-|content-|retry-|ratelimit|anthropic-|openai-|(?:date|server|transfer-encoding)\Z"
)

_CALLS: dict[str, entries.OfTheGateway | entries.OfAnExchange] = {
    "start": entries.Start(),
    "tick": entries.Tick(),
    "abandon": entries.Abandon(),
    "drain": entries.Drain(),
}
_END, _GONE, _DRAINING = entries.ClientEnd(), entries.ClientGone(), entries.Draining()


class _Exchange:
    """What was read of one exchange's bodies."""

    __slots__ = ("answers", "body", "request")

    def __init__(self, request: Redact) -> None:
        self.request = request
        self.body = bytearray()  # the request's, where equal requests share an answer
        self.answers: dict[int, Redact] = {}


class Scribe:
    """Writes one journal. ``secrets``: of providers, who may quote them; ``bodies``: texts are kept.

    ``salt``: bytes that nobody knows, for digests of what is not to be known.
    """

    def __init__(self, *, bodies: bool = False, secrets: Iterable[bytes] = (), salt: bytes = b"") -> None:
        self._salt = salt
        self._bodies = bodies
        self._secrets = tuple(secrets)
        self._check = entries.FIRST_CHECK
        self._lines = 0
        self._digests: Digests
        self._authenticator: Authenticator
        self._numbers: dict[bytes, int]
        self._shared = False  # equal requests may share an answer, and texts are redacted
        self._exchanges: dict[int, _Exchange] = {}

    def opening(
        self, configuration: Configuration, *, seed: int, epoch: float, at: float, version: str
    ) -> bytes:
        """A gateway begins; any before it is forgotten."""
        self._digests = Digests(bodies=self._bodies, secrets=self._secrets)
        self._configure(configuration)
        self._exchanges.clear()
        raw = recorded(configuration)
        return self._seal(
            entries.Opening(entries.VERSION, version, at, epoch, seed, self._bodies, digest_of(raw), raw)
        )

    def learn(self, secrets: Iterable[bytes]) -> bytes:
        """More secrets of providers; there is no line to write of them."""
        self._secrets = tuple(dict.fromkeys((*self._secrets, *secrets)))
        self._digests.learn(self._secrets)
        return b""

    def line(self, note: Note) -> bytes:
        """What there is to say of one input."""
        number = note.exchange
        event = self._event(number, note.what)
        digest = self._digests.of(number, note.commands, note.outcome, note.request_id)
        if note.outcome is not None:
            self._exchanges.pop(number, None)
        return self._seal(entries.Entry(note.t, number, event, digest, did(note.commands), note.raised))

    def closing(self, end: str = "closed") -> bytes:
        """The last line; ``end`` says why, if it is not in good order."""
        return self._seal(entries.Closing(end, self._lines))

    def _configure(self, configuration: Configuration) -> None:
        self._authenticator = Authenticator(configuration.keys)
        self._numbers = {key.sha256: number for number, key in enumerate(configuration.keys)}
        self._shared = configuration.settings.single_flight.enabled and not self._bodies

    def _seal(self, line: entries.Line) -> bytes:
        self._lines += 1
        sealed, self._check = entries.seal(line, self._check)
        return sealed

    def _event(self, number: int, what: What) -> entries.OfTheGateway | entries.OfAnExchange:
        if isinstance(what, Call):
            return _CALLS[what.name]
        if isinstance(what, RequestHead):
            key = self._authenticator.find(what.headers)
            self._exchanges[number] = self._new_exchange()
            if key is None:
                return entries.Begin(_head(what))
            return entries.Begin(_head(what), key.label, self._numbers[key.sha256])
        if isinstance(what, Refused):
            head = None if what.head is None else _head(what.head)
            return entries.Refuse(what.status, what.code, what.message, head)
        if isinstance(what, Reconfigured):
            self._configure(what.configuration)
            raw = recorded(what.configuration)
            return entries.Reconfigure(digest_of(raw), raw, what.renewed)
        if isinstance(what, Restored):
            return entries.Restore(Raw(msgspec.json.encode(what.state)), what.renewed)
        return self._of_exchange(number, what)

    def _of_exchange(self, number: int, event: Event) -> entries.OfAnExchange:
        if isinstance(event, events.ClientData):
            exchange = self._of(number)
            if self._shared:
                exchange.body += event.data
            return entries.ClientData(*entries.text_or_base64(exchange.request(event.data)))
        if isinstance(event, events.UpstreamData):
            data, base64 = entries.text_or_base64(self._answer(number, event.attempt, 200)(event.data))
            return entries.UpstreamData(attempt=event.attempt, data=data, base64=base64)
        if isinstance(event, events.UpstreamHead):
            self._answer(number, event.attempt, event.status)
            fields = redacted_headers(event.headers, _OF_PROVIDERS, Mask(self._secrets))
            return entries.UpstreamHead(event.attempt, event.status, entries.pairs(fields))
        if isinstance(event, events.UpstreamOpened):
            return entries.UpstreamOpened(event.attempt, event.reused)
        if isinstance(event, events.UpstreamEnd):
            return entries.UpstreamEnd(event.attempt)
        if isinstance(event, events.UpstreamLost):
            return entries.UpstreamLost(event.attempt, event.why)
        if isinstance(event, events.ClientEnd):
            return entries.ClientEnd(self._apart(self._of(number))) if self._shared else _END
        return _GONE if isinstance(event, events.ClientGone) else _DRAINING

    def _apart(self, exchange: _Exchange) -> str:
        """What equal requests have in common, and no others: as :func:`gwproto.exchange.flight.key_of` sees it."""
        request = parse_request(bytes(exchange.body))
        exchange.body.clear()
        if isinstance(request, Failure) or request.temperature != 0:
            return ""
        fields = sorted((name, bytes(value)) for name, value in request.fields.items())
        return hashlib.blake2b(msgspec.msgpack.encode(fields), key=self._salt, digest_size=8).hexdigest()

    def _new_exchange(self) -> _Exchange:
        mask = Mask(self._secrets, looks=not self._bodies)
        return _Exchange(mask if self._bodies else request_body(mask))

    def _of(self, number: int) -> _Exchange:
        """An exchange's state; a fresh one for what is fed to it after its end, by mistake."""
        return self._exchanges.get(number) or self._new_exchange()

    def _answer(self, number: int, attempt: int, status: int) -> Redact:
        """The body of an attempt. Errors are kept, but for secrets: they decide."""
        exchange = self._of(number)
        redact = exchange.answers.get(attempt)
        if redact is None:
            mask = Mask(self._secrets, looks=status >= 400 or not self._bodies)
            redact = mask if status >= 400 or self._bodies else Answer(mask)
            exchange.answers[attempt] = redact
        return redact


def _head(head: RequestHead) -> entries.Head:
    fields = tuple(
        [
            (name, value.translate(_VISIBLE) if name in _SECRET else value)
            for name, value in redacted_headers(head.headers, _OF_CLIENTS, bytes)
        ]
    )
    return entries.Head.of(structs.replace(head, target=redacted_target(head.target), headers=fields))

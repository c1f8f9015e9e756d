"""Who may use the gateway: client keys, known only by their SHA-256."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence

from gwproto.failures import ConfigurationError
from gwproto.policy.guard import twice
from gwproto.policy.values import Accepted, ClientKey, Denied, Entry, Grant
from gwproto.values import Headers

# Clients match these words.
_INCORRECT = "Incorrect API key provided."
_EXPIRED = f"{_INCORRECT} It has expired."
_HASH = re.compile(r"[0-9A-Fa-f]{64}\Z")

_MISSING = Denied(401, _INCORRECT, "invalid_api_key", "missing")
_UNKNOWN = Denied(401, _INCORRECT, "invalid_api_key", "unknown")
_AMBIGUOUS = Denied(400, "More than one API key was sent.", "invalid_request", "ambiguous")


class Authenticator:
    """Checks requests against a fixed set of keys. Without keys nobody is let in.

    ``resolve``: the ids of the targets that a model's name stands for.
    """

    __slots__ = ("_entries",)

    def __init__(
        self, keys: Sequence[ClientKey], resolve: Callable[[str], Iterable[str]] = lambda name: ()
    ) -> None:
        self._entries = tuple([Entry(key, Accepted(key.label, _grant(key, resolve))) for key in keys])

    def check(self, headers: Headers, wall: float) -> Accepted | Denied:
        """Judge a request that came at the wall time ``wall`` by the key it presents."""
        found = self._find(headers)
        if not isinstance(found, Entry):
            return found
        expires = found.key.expires
        if expires is not None and wall >= expires:
            return Denied(401, _EXPIRED, "invalid_api_key", "expired", found.key.label)
        return found.accepted

    def find(self, headers: Headers) -> ClientKey | None:
        """The key that a request presents, whether it may still be used or not; None: none that is known."""
        found = self._find(headers)
        return found.key if isinstance(found, Entry) else None

    def _find(self, headers: Headers) -> Entry | Denied:
        """By ``Authorization: Bearer`` or, without one, ``x-api-key``.

        Takes the same time whichever key fits or none: every digest is compared, each in constant time. A header
        sent twice is refused, since the next party may read the other one.
        """
        fields = dict(headers)
        if len(fields) < len(headers) and twice(headers, (b"authorization", b"x-api-key")):
            return _AMBIGUOUS
        secret = fields.get(b"authorization", b"")
        if secret[:6].lower() == b"bearer" and secret[6:7] in (b" ", b"\t"):
            secret = secret[7:]
        elif b"x-api-key" in fields:
            secret = fields[b"x-api-key"]
        else:
            return _MISSING
        digest = hashlib.sha256(secret.strip(b" \t")).digest()
        found: Entry | None = None
        for entry in self._entries:
            if hmac.compare_digest(digest, entry.key.sha256):
                found = entry
        return _UNKNOWN if found is None else found


def _grant(key: ClientKey, resolve: Callable[[str], Iterable[str]]) -> Grant | None:
    if key.models is None and key.projects is None:
        return None
    targets = None
    if key.models is not None:
        targets = frozenset([target for name in key.models for target in resolve(name)])
    return Grant(targets, key.projects)


def parse_hashes(text: str) -> tuple[ClientKey, ...]:
    """Read ``GATEWAY_API_KEY_HASHES``: entries ``[label:]sha256hex``, separated by commas or newlines.

    Raises :class:`ConfigurationError` naming the entries by number: an entry may be a key pasted by mistake.
    """
    keys: list[ClientKey] = []
    problems: list[tuple[str, str]] = []
    for entry in filter(None, map(str.strip, re.split(r"[,\n]", text))):
        label, _, digest = entry.rpartition(":")
        number = len(keys) + len(problems) + 1
        if _HASH.match(digest.strip()):
            keys.append(ClientKey(label.strip(), bytes.fromhex(digest.strip())))
        else:
            problems.append(("GATEWAY_API_KEY_HASHES", f"entry {number} does not end in a SHA-256 in hex"))
    if problems:
        raise ConfigurationError(tuple(problems))
    return tuple(keys)

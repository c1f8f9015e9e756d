"""Who may use the gateway: client keys, known only by their SHA-256."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from msgspec import Struct

from gwproto.config import OwnRates
from gwproto.failures import ConfigurationError
from gwproto.values import Headers

# Clients match these words.
_INCORRECT = "Incorrect API key provided."
_BEARER = re.compile(rb"bearer[ \t]+(.*)\Z", re.IGNORECASE | re.DOTALL)
_HASH = re.compile(r"[0-9A-Fa-f]{64}\Z")


class ClientKey(Struct, frozen=True, gc=False):
    """A key that clients may present; ``sha256`` is the digest of its bytes.

    ``limits``: what differs from the common limits. Keys of one label have one allowance between them, and the limits
    of the first of them that has its own.
    """

    label: str
    sha256: bytes
    limits: OwnRates | None = None


class Accepted(Struct, frozen=True, gc=False):
    """The key with this label was presented."""

    label: str


class Denied(Struct, frozen=True, gc=False):
    """Answer with this error."""

    status: int
    message: str
    code: str
    reason: str  # for records: missing unknown ambiguous


_MISSING = Denied(401, _INCORRECT, "invalid_api_key", "missing")
_UNKNOWN = Denied(401, _INCORRECT, "invalid_api_key", "unknown")
_AMBIGUOUS = Denied(400, "More than one API key was sent.", "invalid_request", "ambiguous")


class Authenticator:
    """Checks requests against a fixed set of keys. Without keys nobody is let in."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[ClientKey]) -> None:
        self._keys = tuple(keys)

    def check(self, headers: Headers) -> Accepted | Denied:
        """Judge by ``Authorization: Bearer`` or, without one, ``x-api-key``.

        Takes the same time whichever key fits or none: every digest is compared, each in constant time. A header
        sent twice is refused, since the next party may read the other one.
        """
        authorizations = [value for name, value in headers if name == b"authorization"]
        api_keys = [value for name, value in headers if name == b"x-api-key"]
        if len(authorizations) > 1 or len(api_keys) > 1:
            return _AMBIGUOUS
        bearer = _BEARER.match(authorizations[0]) if authorizations else None
        if bearer is not None:
            secret = bearer[1]
        elif api_keys:
            secret = api_keys[0]
        else:
            return _MISSING
        digest = hashlib.sha256(secret.strip(b" \t")).digest()
        found: ClientKey | None = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256):
                found = key
        return _UNKNOWN if found is None else Accepted(found.label)


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

"""The secrets that requests to providers carry, and what goes out with them."""

from collections.abc import Collection, Mapping

from gwproto import Headers, Origin, UpstreamRequest
from gwproto_io.http1 import encode_head, joined

# What a provider quotes of our key is masked, byte for byte, unless it might just as well be a word: local servers are
# often given "ollama" or "test" for a key.
MIN_SECRET = 16
MAX_HEADS = 4096  # of requests that are kept, about a kilobyte each

Credentials = Mapping[str, tuple[bytes, bytes]]


class Keyring:
    """The secrets of one configuration: the header field of each credential by its name.

    ``destinations``: which of them may go where; None: any of them anywhere.
    """

    __slots__ = ("_credentials", "_destinations", "_heads", "_secrets")

    def __init__(
        self, credentials: Credentials, destinations: Collection[tuple[str, Origin]] | None = None
    ) -> None:
        self._credentials = credentials
        self._destinations = destinations
        secrets = {name: value.rpartition(b" ")[2] for name, (_, value) in credentials.items()}
        self._secrets = {name: secret for name, secret in secrets.items() if len(secret) >= MIN_SECRET}
        # What requests for one target begin with, which is always the same.
        self._heads: dict[tuple[str, Origin, str, str, Headers], bytes] = {}

    def encode(self, request: UpstreamRequest) -> tuple[bytes, bytes] | None:
        """``request`` with its credential, and what must not come back with the answer (empty: nothing). None: there is
        not what it needs."""
        name = request.credential
        key = (name, request.origin, request.method, request.target, request.headers)
        head = self._heads.get(key)
        if head is None:
            if name and not self._serves(name, request.origin):
                return None
            head = encode_head(request, self._credentials[name] if name else None)
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[key] = head
        return joined(head, request), self._secrets.get(name, b"")

    def _serves(self, name: str, origin: Origin) -> bool:
        destinations = self._destinations
        return name in self._credentials and (destinations is None or (name, origin) in destinations)


class Keyrings:
    """Those that were in force while an exchange ran, the newest first."""

    __slots__ = ("_known",)

    def __init__(self, keyring: Keyring) -> None:
        self._known: tuple[Keyring, ...] = (keyring,)

    def encode(self, request: UpstreamRequest, newest: Keyring) -> tuple[bytes, bytes] | None:
        """What the newest one makes of ``request`` that has its credential for where it goes.

        A request that was planned before a reload may have to go where only the secrets of then may; None: those
        have come and gone since it began.
        """
        if newest is not self._known[0]:
            self._known = (newest, *self._known)
        for keyring in self._known:
            encoded = keyring.encode(request)
            if encoded is not None:
                return encoded
        return None

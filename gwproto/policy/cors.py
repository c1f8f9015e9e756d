"""Cross-origin access: which pages in browsers may call the gateway and read what it answers (Fetch standard, 3.2)."""

import re
from collections.abc import Collection, Iterable, Iterator

from gwproto.values import Headers, RequestHead

ANY = "*"

#: An origin as browsers write it: lower case, no path, and no port where the scheme has that one anyway.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_NEEDLESS_PORT = re.compile(r"http://.*:80|https://.*:443")

_METHODS = (b"access-control-allow-methods", b"GET, HEAD, POST")
_MAX_AGE = (b"access-control-max-age", b"7200")  # seconds; the longest that every browser honours
_VARY = (b"vary", b"origin")
#: What a preflight that names no header is told.
_KNOWN_HEADERS = (
    b"authorization, content-type, x-api-key, x-gateway-affinity, x-gateway-force-model, "
    b"x-gateway-force-provider, x-gateway-project-id, x-gateway-require-params"
)
_EXPOSED = (
    b"access-control-expose-headers",
    b"retry-after, server-timing, x-gateway-attempts, x-gateway-dropped-params, x-gateway-model, "
    b"x-gateway-provider, x-gateway-reasoning-effort, x-gateway-request-id, x-gateway-shared, "
    b"x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, "
    b"x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens, "
    b"x-request-id, x-should-retry",
)
#: The names of all that :meth:`CrossOrigin.headers` says of a response.
HEADERS = frozenset((b"access-control-allow-origin", b"access-control-expose-headers", b"vary"))


def origin_problems(origins: Iterable[str], path: str) -> Iterator[tuple[str, str]]:
    """What is wrong with configured origins."""
    for index, origin in enumerate(origins):
        if origin == ANY:
            continue
        if _ORIGIN.fullmatch(origin) is None:
            example = "https://app.example:8443"
            yield f"{path}[{index}]", f"expected * or an origin such as {example}: lower case, without a path"
        elif _NEEDLESS_PORT.fullmatch(origin) is not None:
            yield f"{path}[{index}]", "the scheme's own port must be left out, as browsers do"


def cross_origin(origins: Collection[str]) -> "CrossOrigin | None":
    """None: no page of another origin has access, and nothing is said about it."""
    return CrossOrigin(origins) if origins else None


class CrossOrigin:
    """Access for pages of ``origins``; ``*`` is every page, also one without an origin (``null``).

    Credentials of the browser's own (cookies) are never allowed: a page has to know a key.
    """

    __slots__ = ("_any", "_origins")

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = ANY.encode() in self._origins

    def headers(self, head: RequestHead) -> Headers:
        """What every response to ``head`` says, whether its page may read it or not."""
        if self._any:
            return ((b"access-control-allow-origin", b"*"), _EXPOSED)
        origin = _only(head, b"origin")
        if origin not in self._origins:
            return (_VARY,)
        return ((b"access-control-allow-origin", origin), _EXPOSED, _VARY)

    def preflight(self, head: RequestHead) -> Headers | None:
        """What a browser's question before a request is told beside that; None: ``head`` is no such question, or one
        of a page that may not ask."""
        if head.method != "OPTIONS" or not _only(head, b"access-control-request-method"):
            return None
        origin = _only(head, b"origin")
        if not origin or not (self._any or origin in self._origins):
            return None
        # What a page may send is decided by its key, so it may send what it likes: SDKs add headers of their own.
        wanted = _only(head, b"access-control-request-headers") or _KNOWN_HEADERS
        return (_METHODS, (b"access-control-allow-headers", wanted), _MAX_AGE)


def _only(head: RequestHead, wanted: bytes) -> bytes:
    """The value of a header that is there once, else nothing."""
    values = [value for name, value in head.headers if name == wanted]
    return values[0] if len(values) == 1 else b""

"""What an ASGI scope says, as the core's request head. Pure."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from gwproto import RequestHead

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# RFC 3986, 3.3: what a path segment may hold unescaped, and the slash between segments.
PATH_SAFE = "/:@!$&'()*+,;=~"


def request_head(scope: Scope) -> RequestHead:
    """The head of an ``http`` scope, its target relative to where the application is mounted."""
    target = path_below_mount(scope)
    query = scope.get("query_string")
    if query:
        target = f"{target}?{query.decode('latin-1')}"
    client = scope.get("client")
    return RequestHead(
        method=scope["method"],
        target=target,
        headers=tuple([(name, value) for name, value in scope["headers"]]),
        http_version=scope.get("http_version", "1.1"),
        client=client[0] if client else "",
    )


def path_below_mount(scope: Scope) -> str:
    """The raw path without the prefix the application is mounted under.

    The ASGI specification leaves the prefix in ``path`` and names it in ``root_path`` (Starlette, FastAPI, Quart and
    Hypercorn's dispatcher do); Litestar takes it off and appends a slash that the client did not send. ``raw_path``
    is optional, and trusted only where it agrees with ``path``.
    """
    path: str = scope["path"]
    raw_path: bytes | None = scope.get("raw_path")
    raw = raw_path.decode("latin-1").partition("?")[0] if raw_path else ""
    root: str = scope.get("root_path", "").rstrip("/")
    if not root and (raw == path or (raw and unquote(raw) == path)):
        return raw

    below = path
    if root and (path == root or path.startswith(root + "/")):
        below = path[len(root) :] or "/"
    elif path.endswith("/") and raw and not raw.endswith("/"):
        below = path[:-1] or "/"
    # However the prefix was escaped, it has as many segments as it has here.
    segments = raw.split("/")
    for start in (0, root.count("/")):
        rest = "/".join(["", *segments[start + 1 :]]) or "/"
        if unquote(rest) == below:
            return rest
    return quote(below, safe=PATH_SAFE)

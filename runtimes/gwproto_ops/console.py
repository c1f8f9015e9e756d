"""The web console at ``/``: files that are the same for every gateway, answered from memory.

What they show they fetch from the gateway's own endpoints (docs/console.md).
"""

from functools import cache
from pathlib import Path

import msgspec

from gwproto import Headers
from gwproto.queries import PageQuery
from gwproto.wire.openai.errors import encode_error

# Nothing is inline and nothing comes from elsewhere. uPlot moves what it draws by the CSSOM, which this allows.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}


def answer(query: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body for ``Delegate("console", query)``."""
    name = msgspec.json.decode(query, type=PageQuery).file
    found = _files().get(name)
    if found is not None:
        return 200, *found
    body = encode_error("There is no such page.", "invalid_request_error", "unknown_url", None)
    return 404, ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))), body


@cache
def _files() -> dict[str, tuple[Headers, bytes]]:
    """Headers and body by name. Read once: no name that a client sends is ever made part of a path."""
    folder = Path(__file__).parent / "console"
    return {file.name: _page(file) for file in folder.iterdir() if file.suffix in _TYPES}


def _page(file: Path) -> tuple[Headers, bytes]:
    body = file.read_bytes()
    headers = (
        (b"content-type", _TYPES[file.suffix]),
        (b"content-length", b"%d" % len(body)),
        (b"content-security-policy", POLICY),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    )
    return headers, body

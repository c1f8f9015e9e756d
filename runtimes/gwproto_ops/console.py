"""The web console at ``/``: files that are the same for every gateway, answered from memory.

What they show they fetch from the gateway's own endpoints (docs/console.md).
"""

from functools import cache
from pathlib import Path

import msgspec

from gwproto.queries import PageQuery
from gwproto_ops.responses import Response, error, response

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


def answer(query: str) -> Response:
    """Status, headers and body for ``Delegate("console", query)``."""
    name = msgspec.json.decode(query, type=PageQuery).file
    found = _files().get(name)
    if found is not None:
        return found
    return error(404, "unknown_url", "There is no such page.", type="invalid_request_error")


@cache
def _files() -> dict[str, Response]:
    """By name. Read once: no name that a client sends is ever made part of a path."""
    folder = Path(__file__).parent / "console"
    return {file.name: _page(file) for file in folder.iterdir() if file.suffix in _TYPES}


def _page(file: Path) -> Response:
    headers = (
        (b"content-security-policy", POLICY),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    )
    return response(200, file.read_bytes(), _TYPES[file.suffix], headers)

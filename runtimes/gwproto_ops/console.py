"""The page at ``/``. Static: what it says holds for every gateway."""

import base64
import hashlib
from functools import cache
from pathlib import Path

import msgspec

from gwproto import Headers
from gwproto.queries import PageQuery
from gwproto.wire.openai.errors import encode_error


def answer(query: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body for ``Delegate("console", query)``."""
    if msgspec.json.decode(query, type=PageQuery).file == "index.html":
        return 200, *_page()
    body = encode_error("There is no such page.", "invalid_request_error", "unknown_url", None)
    return 404, ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))), body


@cache
def _page() -> tuple[Headers, bytes]:
    body = (Path(__file__).parent / "console" / "index.html").read_bytes()
    style = body.partition(b"<style>")[2].partition(b"</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style).digest())
    policy = (
        b"default-src 'none'; style-src 'sha256-" + digest + b"'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    )
    return headers, body

"""The page at ``/openapi.json``: every endpoint, described by the types that validate and answer (OpenAPI 3.1)."""

from functools import cache

import msgspec

from gwproto import Headers


def answer(query: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body for ``Delegate("openapi", query)``. The same for every gateway of a version."""
    return 200, *_page()


@cache
def _page() -> tuple[Headers, bytes]:
    from gwproto_ops.openapi.document import (
        document,
    )  # only where somebody asks: the start need not wait for it

    body = msgspec.json.encode(document())
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-cache"),
    )
    return headers, body

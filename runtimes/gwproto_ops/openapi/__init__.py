"""The page at ``/openapi.json``: every endpoint, described by the types that validate and answer (OpenAPI 3.1)."""

from functools import cache

import msgspec

from gwproto_ops.responses import Response, response


def answer(query: str) -> Response:
    """The response to ``Delegate("openapi", query)``. The same for every gateway of a version."""
    return _page()


@cache
def _page() -> Response:
    # Only where somebody asks: the start need not wait for it.
    from gwproto_ops.openapi.document import document

    return response(200, msgspec.json.encode(document()), headers=((b"cache-control", b"no-cache"),))

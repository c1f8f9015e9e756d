"""The model list."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

_encode = msgspec.json.Encoder().encode


class ModelRow(Struct, frozen=True, gc=False):
    """One model. ``extra`` follows OpenAI's own keys."""

    id: str
    created: int = 0
    owned_by: str = ""
    extra: dict[str, object] = {}


def _fields(row: ModelRow) -> dict[str, object]:
    return {
        "id": row.id,
        "object": "model",
        "created": row.created,
        "owned_by": row.owned_by,
        **row.extra,
    }


def encode_model(row: ModelRow) -> bytes:
    """``GET /v1/models/{id}``."""
    return _encode(_fields(row))


def encode_model_list(rows: Iterable[ModelRow]) -> bytes:
    """``GET /v1/models``."""
    return _encode({"object": "list", "data": [_fields(row) for row in rows]})

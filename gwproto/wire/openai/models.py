"""The model list."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class Model(Struct, frozen=True, gc=False, kw_only=True):
    """One model as clients see it: OpenAI's own keys, then ours. ``auto`` has none of ours."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = ""
    provider: str | UnsetType = UNSET
    upstream_model: str | UnsetType = UNSET
    tier: str | UnsetType = UNSET
    capabilities: list[str] | UnsetType | None = UNSET  # None: all are assumed
    context_window: int | UnsetType | None = UNSET  # None: unknown
    max_output: int | UnsetType | None = UNSET
    health: str | UnsetType = UNSET


class ModelList(Struct, frozen=True, gc=False, kw_only=True):
    """``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[Model]

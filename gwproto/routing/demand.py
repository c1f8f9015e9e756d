"""What a request asks of a target: all the router ever learns about it."""

from msgspec import Struct


class Demand(Struct, frozen=True, gc=False, kw_only=True):
    """One request's requirements.

    ``needs`` are capability names as the catalog has them (``tools``, ``json_schema``, ``vision`` …). ``parameters``
    are the request's field names; they restrict only with ``require_params``. ``effort`` is ``auto`` or a level of
    ``reasoning_effort``. ``affinity`` groups requests that profit from one target's prompt cache.
    ``allowed``: the ids of the targets that may serve it; None: all.
    """

    model: str = "auto"
    provider: str = ""
    forced_model: str = ""
    needs: frozenset[str] = frozenset()
    prompt_tokens: int = 0  # estimated
    output_tokens: int = 0  # asked for
    effort: str = "auto"
    affinity: str = ""
    parameters: frozenset[str] = frozenset()
    require_params: bool = False
    allowed: frozenset[str] | None = None

"""Where somebody stands with their limits, and how clients are told."""

import math

from gwproto.policy.values import Standing
from gwproto.values import Headers

_REQUESTS = (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
_TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def duration(seconds: float) -> str:
    """As OpenAI writes durations (``6m0s``), in whole seconds, rounded up."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def rate_headers(requests: Standing | None, tokens: Standing | None) -> Headers:
    """``x-ratelimit-*`` as OpenAI spells them (https://platform.openai.com/docs/guides/rate-limits)."""
    headers: list[tuple[bytes, bytes]] = []
    for (limit, remaining, reset), standing in ((_REQUESTS, requests), (_TOKENS, tokens)):
        if standing is not None:
            headers += (
                (limit, b"%d" % standing.limit),
                (remaining, b"%d" % standing.remaining),
                (reset, duration(standing.reset).encode()),
            )
    return tuple(headers)


def tighter(one: Standing | None, other: Standing | None) -> Standing | None:
    """The limit that is nearer to its end; of two that are at it, the one that lasts longer."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda standing: (standing.remaining, -standing.reset))

"""Token counts in the spellings of the OpenAI family, folded into one meaning.

OpenAI's ``completion_tokens`` includes reasoning. xAI's does not; DeepSeek on Azure puts ``reasoning_tokens``
beside it.
"""

import msgspec
from msgspec import Raw

from gwproto.values import Usage
from gwproto.wire.openai.usage_schema import SentUsage

_decoder = msgspec.json.Decoder(SentUsage)


def decode_usage(raw: Raw) -> tuple[Usage | None, Raw | None]:
    """The counts, and ``raw`` itself when it already says them as OpenAI would; ``(None, None)`` for no counts."""
    try:
        sent = _decoder.decode(raw)
    except msgspec.ValidationError:
        return None, None
    prompt = sent.prompt_tokens or 0
    completion = sent.completion_tokens or 0
    total = sent.total_tokens or 0
    cached = sent.prompt_tokens_details.cached_tokens if sent.prompt_tokens_details else None
    reasoning = sent.completion_tokens_details.reasoning_tokens if sent.completion_tokens_details else None
    if not (prompt or completion or total):
        return None, None
    as_sent = sent.prompt_tokens is not None and sent.completion_tokens is not None and total > 0
    if reasoning is None and sent.reasoning_tokens is not None:
        reasoning = sent.reasoning_tokens
        as_sent = False
    if cached is None and sent.prompt_cache_hit_tokens is not None:
        cached = sent.prompt_cache_hit_tokens
        as_sent = False
    if reasoning and prompt + completion + reasoning == total:
        completion += reasoning
        as_sent = False
    written = sent.prompt_tokens_details.cache_write_tokens if sent.prompt_tokens_details else None
    usage = Usage(prompt, completion, total or prompt + completion, cached, reasoning, written)
    return usage, raw if as_sent else None


def encode_usage(usage: Usage) -> dict[str, object]:
    """OpenAI's usage object; counts that are not known are left out."""
    fields: dict[str, object] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    prompt = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    if known := {name: count for name, count in prompt.items() if count is not None}:
        fields["prompt_tokens_details"] = known
    if usage.reasoning_tokens is not None:
        fields["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return fields

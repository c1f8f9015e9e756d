"""What requests and answers have in common with OpenAI's under other names, both ways: signatures, usage, logprobs."""

import msgspec
from msgspec import Raw, Struct

from gwproto.values import Usage
from gwproto.wire.native import count_of
from gwproto.wire.neutral import RawFields
from gwproto.wire.openai.parts import NULL, encoder, fields_of, text_of

_EXTRA = "extra_content"


def signed(signature: str) -> RawFields:
    """A thought signature where Google's OpenAI-compatible endpoint puts it (Gemini: thought signatures)."""
    return {_EXTRA: Raw(encoder.encode({"google": {"thought_signature": signature}}))}


def signature_of(extra: RawFields) -> str:
    """The thought signature among the keys of a call or a message; "" when there is none."""
    google = fields_of(fields_of(extra.get(_EXTRA)).get("google"))
    return text_of(google.get("thought_signature")) or ""


class _UsageMetadata(Struct, rename="camel", gc=False, omit_defaults=True):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int = 0
    cached_content_token_count: int | None = None
    total_token_count: int = 0


_usage = msgspec.json.Decoder(_UsageMetadata)


def decode_usage(raw: Raw) -> Usage | None:
    """The counts; None for no counts. Thoughts are not among the candidates' tokens, unless the total says so."""
    try:
        sent = _usage.decode(raw)
    except msgspec.ValidationError:
        fields = fields_of(raw)
        counts = {name: count for name in fields if (count := count_of(fields, name)) is not None}
        sent = msgspec.convert(counts, _UsageMetadata)
    prompt = sent.prompt_token_count + sent.tool_use_prompt_token_count
    completion, thoughts = sent.candidates_token_count, sent.thoughts_token_count
    if thoughts and prompt + completion != sent.total_token_count:
        completion += thoughts
    total = sent.total_token_count or prompt + completion
    if not total:
        return None
    return Usage(prompt, completion, total, sent.cached_content_token_count, thoughts)


def encode_usage(usage: Usage) -> object:
    """``usageMetadata``."""
    return _UsageMetadata(
        usage.prompt_tokens,
        usage.completion_tokens - (usage.reasoning_tokens or 0),
        usage.reasoning_tokens,
        0,
        usage.cached_tokens,
        usage.total_tokens,
    )


# Log probabilities: {content: [token with its alternatives]} there, a list of tokens and a list of alternatives here.
class _Token(Struct, gc=False):
    token: str
    logprob: float
    top_logprobs: tuple["_Token", ...] = ()


class _Logprobs(Struct, gc=False):
    content: tuple[_Token, ...] | None = None


class _Candidate(Struct, rename="camel", gc=False):
    token: str = ""
    log_probability: float = 0.0


class _Alternatives(Struct, gc=False):
    candidates: tuple[_Candidate, ...] = ()


class _LogprobsResult(Struct, rename="camel", gc=False, omit_defaults=True):
    chosen_candidates: tuple[_Candidate, ...] = ()
    top_candidates: tuple[_Alternatives, ...] = ()


_logprobs = msgspec.json.Decoder(_Logprobs)
_logprobs_result = msgspec.json.Decoder(_LogprobsResult)


def decode_logprobs(raw: Raw) -> RawFields:
    """OpenAI's ``logprobs`` for a ``logprobsResult``, as a key of a choice; no key for what is none."""
    if raw == NULL:
        return {}
    try:
        result = _logprobs_result.decode(raw)
    except msgspec.ValidationError:
        return {}
    content = []
    for position, chosen in enumerate(result.chosen_candidates):
        others = result.top_candidates[position : position + 1]
        top = [_openai_token(one) for alternatives in others for one in alternatives.candidates]
        content.append({**_openai_token(chosen), "top_logprobs": top})
    return {"logprobs": Raw(encoder.encode({"content": content, "refusal": None}))}


def _openai_token(candidate: _Candidate) -> dict[str, object]:
    token = candidate.token
    return {"token": token, "logprob": candidate.log_probability, "bytes": list(token.encode())}


def encode_logprobs(choice_extra: RawFields) -> object | None:
    """``logprobsResult`` for a choice's ``logprobs``; None when there is nothing to say."""
    raw = choice_extra.get("logprobs", NULL)
    if raw == NULL:
        return None
    try:
        content = _logprobs.decode(raw).content
    except msgspec.ValidationError:
        return None
    if not content:
        return None
    return _LogprobsResult(
        tuple([_Candidate(one.token, one.logprob) for one in content]),
        tuple(
            [
                _Alternatives(tuple([_Candidate(top.token, top.logprob) for top in one.top_logprobs]))
                for one in content
            ]
        ),
    )

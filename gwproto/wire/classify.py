"""From what a provider said about a failure to its class: rules as data, in order, the first that fits.

Never the status alone: a 429 may mean no money, a 413 a rate limit, a 400 a bad key. And never the whole text: only
code, type, known detail fields and the message's beginning are read, since messages echo prompts.
"""

import re

from msgspec import Struct

from gwproto.failures import FailureClass

_F = FailureClass


class Signs(Struct, frozen=True, gc=False):
    """What is known about a failure. ``hints`` are words from structured details (quota ids, reasons, inner codes)."""

    status: int | None = None  # None: in a stream or a 200, without a status of its own
    type: str = ""
    code: str = ""
    param: str | None = None
    message: str = ""
    hints: str = ""
    delay: float | None = None  # seconds, as asked for in the body
    reset: str = ""  # an instant or a duration, as asked for in the body


class Rule(Struct, frozen=True, gc=False):
    """``kind`` when the pattern occurs (in lower case) and the status is among ``statuses`` (empty: any)."""

    kind: FailureClass
    pattern: re.Pattern[str]
    statuses: frozenset[int] = frozenset()


def rule(kind: FailureClass, *markers: str, statuses: tuple[int, ...] = ()) -> Rule:
    """A rule whose markers are regular expressions; any of them suffices."""
    return Rule(kind, re.compile("|".join(markers)), frozenset(statuses))


# Codes and types that mean one thing wherever they appear.
CODES: dict[str, FailureClass] = {
    **dict.fromkeys(("context_length_exceeded",), _F.CONTEXT),
    **dict.fromkeys(
        (
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
        ),
        _F.CREDITS,
    ),
    **dict.fromkeys(("invalid_api_key", "authentication_error"), _F.AUTH),
    **dict.fromkeys(
        ("model_not_found", "model_decommissioned", "unknown_model", "unavailable_model"), _F.MODEL_GONE
    ),
    **dict.fromkeys(("content_filter", "content_policy_violation", "invalid_prompt"), _F.FILTERED),
    **dict.fromkeys(("tool_use_failed", "json_validate_failed"), _F.TOOL_GENERATION),
    **dict.fromkeys(
        ("server_is_overloaded", "overloaded_error", "slow_down", "queue_exceeded", "capacity_exceeded"),
        _F.OVERLOADED,
    ),
    **dict.fromkeys(("service_tier_capacity_exceeded",), _F.OVERLOADED),
    **dict.fromkeys(
        (
            "unknown_parameter",
            "unsupported_parameter",
            "unsupported_value",
            "missing_required_parameter",
            "invalid_type",
            "invalid_value",
        ),
        _F.INVALID,
    ),
    "tokens_limit_reached": _F.TOO_BIG,
}

# What error types say where no status does.
TYPE_STATUS: dict[str, int] = {
    "invalid_request_error": 400,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limited": 429,
    "too_many_requests_error": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
}

# Safety first, then context, credits, quota, key, model.
RULES: tuple[Rule, ...] = (
    rule(
        _F.FILTERED,
        r"content_filter|responsibleaipolicyviolation|content management policy|content_policy",
        r"\bsafety\b(?! ?identifier)|\bflagged|content exists risk|prohibited_content",
        statuses=(400, 403, 422),
    ),
    rule(
        _F.CONTEXT,
        r"maximum context length|context window|prompt is too long|input is too long",
        r"input token count.*exceeds|exceeds the available context size|current length is.*while limit is",
        r"prompt exceeds max length|longer than the model's context length|reduce the length of",
        r"too many tokens|max size:.*tokens|maximum number of tokens|maximum prompt length",
        statuses=(400, 422, 500),
    ),
    # Google writes "check your plan and billing details" on every quota, so its quota ids go first.
    rule(_F.RATE_DAY, "perday", statuses=(429,)),
    rule(_F.RATE_MINUTE, "perminute", statuses=(429,)),
    rule(
        _F.CREDITS,
        r"insufficient_quota|insufficient balance|insufficient credits|credit balance|billing",
        r"payment required|spend[_ ]limit|usage limits|out of pollen|can only afford",
        statuses=(400, 402, 403, 429),
    ),
    rule(
        _F.RATE_DAY,
        r"per day|daily|\(rpd\)|\(tpd\)|86400s|per-day|neurons|per month|calls / month",
        statuses=(429,),
    ),
    rule(_F.CONCURRENCY, "concurren", statuses=(429,)),
    rule(
        _F.AUTH,
        r"invalid api key|api key not valid|api_key_invalid|incorrect api key|unauthorized",
        r"bad credentials|invalid token|authentication",
        statuses=(400, 401, 403),
    ),
    rule(
        _F.MODEL_GONE,
        r"model.*does not exist|decommissioned|deprecated.*model|model.*deprecated|end of life",
        r"no endpoints found|no such model|unknown model|not found for account",
        statuses=(400, 403, 404, 410),
    ),
    rule(_F.OVERLOADED, "degraded function", statuses=(400,)),
    rule(
        _F.OVERLOADED,
        r"overloaded|capacity|high traffic|high demand|temporarily|server busy|no healthy upstream",
        statuses=(429, 500, 502, 503),
    ),
)

STATUSES: dict[int, FailureClass] = {
    401: _F.AUTH,
    402: _F.CREDITS,
    403: _F.FORBIDDEN,
    404: _F.MODEL_GONE,
    408: _F.TIMEOUT,
    410: _F.MODEL_GONE,
    413: _F.TOO_BIG,
    424: _F.SERVER,
    429: _F.RATE_MINUTE,
    498: _F.OVERLOADED,
    503: _F.OVERLOADED,
    504: _F.TIMEOUT,
    524: _F.TIMEOUT,
    529: _F.OVERLOADED,
}

_MESSAGE_READ = 300
_WORD_READ = 100


def classify(signs: Signs, rules: tuple[Rule, ...] = ()) -> FailureClass:
    """The class of a failure; ``rules`` are a provider's own and go before the general ones."""
    status = signs.status
    if status is None:
        status = TYPE_STATUS.get(signs.type.lower())
    parts = (signs.code[:_WORD_READ], signs.type[:_WORD_READ], signs.hints[:_MESSAGE_READ])
    text = " ".join((*parts, signs.message[:_MESSAGE_READ])).lower()
    for one in rules:
        if _fits(one, status, text):
            return one.kind
    for word in (signs.code.lower(), signs.type.lower()):
        if word in CODES:
            return CODES[word]
    for one in RULES:
        if _fits(one, status, text):
            return one.kind
    if status is None:
        return FailureClass.SERVER
    if status in STATUSES:
        return STATUSES[status]
    return FailureClass.INVALID if 400 <= status < 500 else FailureClass.SERVER


def _fits(one: Rule, status: int | None, text: str) -> bool:
    if one.statuses and status is not None and status not in one.statuses:
        return False
    return one.pattern.search(text) is not None

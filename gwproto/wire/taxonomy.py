"""What providers mean by their errors: one table.

A provider's own rows go first, then words that mean one thing wherever they stand as a code or type, then what is
written, then the status alone. :mod:`gwproto.wire.classify` reads it. Rows are in order: the first that fits counts.
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from gwproto.failures import FailureClass, Scope

_F = FailureClass

Calendar = Literal["minute", "utc_day", "pacific_day", "utc_month"]
"""The end of this minute, day or month by the clock. The Pacific day is taken to begin at UTC-8 all year: in summer an
hour late, which costs less than a wasted request."""


class Row(Struct, frozen=True, gc=False, kw_only=True):
    """One way to fail. It fits when the status does and any of ``codes``, ``pattern`` and ``limits``, if it has any."""

    kind: FailureClass
    provider: str = ""  # "": any
    statuses: frozenset[int] = frozenset()  # empty: any, and none
    codes: frozenset[str] = frozenset()  # code or type, in lower case
    # Regular expressions, compiled when first looked for: most are not, in most processes.
    pattern: str = ""  # occurs in code, type, hints or the message's beginning, in lower case
    limits: str = ""  # occurs in what the headers say of limits: "spent requests day", "none …"
    scope: Scope | None = None  # None: the class's own
    delay: float | Calendar | None = None  # seconds, where the provider asks for none


def row(
    kind: FailureClass,
    *markers: str,
    at: tuple[int, ...] = (),
    codes: str = "",
    limits: str = "",
    scope: Scope | None = None,
    delay: float | Calendar | None = None,
) -> Row:
    """``markers`` are regular expressions, any of them suffices; ``codes`` are separated by spaces."""
    return Row(
        kind=kind,
        statuses=frozenset(at),
        codes=frozenset(codes.split()),
        pattern="|".join(markers),
        limits=limits,
        scope=scope,
        delay=delay,
    )


def _of(provider: str, *rows: Row) -> tuple[Row, ...]:
    return tuple([replace(one, provider=provider) for one in rows])


# Error types' statuses, for failures inside a stream or a 200.
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
    # Bedrock
    "validationexception": 400,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelerrorexception": 424,
    "modelstreamerrorexception": 424,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}

_SPEND_LIMITS = (
    "organization_spend_limit_exceeded project_spend_limit_exceeded organization_usage_limit_exceeded"
)

PROVIDERS: tuple[Row, ...] = (
    # OpenAI: error codes guide. Spending limits are those of a month.
    *_of("openai", row(_F.CREDITS, codes=_SPEND_LIMITS, delay="utc_month")),
    # Cerebras: a minute's bucket is refilled in half of it; a queue in seconds, whatever x-should-retry says.
    *_of(
        "cerebras",
        row(_F.RATE_DAY, at=(429,), limits=r"spent \S+ day", delay="utc_day"),
        row(_F.RATE_MINUTE, at=(429,), limits=r"spent \S+ hour", delay=3600.0),
        row(_F.RATE_MINUTE, codes="request_quota_exceeded token_quota_exceeded", delay=30.0),
        row(_F.OVERLOADED, codes="queue_exceeded", delay=3.0),
    ),
    # SambaNova: 504 is its queue.
    *_of("sambanova", row(_F.OVERLOADED, at=(504,))),
    # NVIDIA: one limit of 40 a minute for a key, without a word of it in headers; 404 is a model not on the plan.
    *_of(
        "nvidia",
        row(_F.CREDITS, r"\bcredits\b", at=(400, 403, 429)),
        row(_F.RATE_MINUTE, at=(429,), scope=Scope.KEY, delay=60.0),
        row(_F.FORBIDDEN, "not found for account", at=(404,)),
        row(_F.AUTH, "authorization failed", at=(403,)),
    ),
    # OpenRouter: free models share one limit for a key; of what is left a smaller request may be paid.
    *_of(
        "openrouter",
        row(_F.RATE_DAY, "free-models-per-day", "daily", at=(429,), scope=Scope.KEY, delay="utc_day"),
        row(_F.RATE_MINUTE, "free-models-per-min", at=(429,), scope=Scope.KEY, delay="minute"),
        row(
            _F.CREDITS, "can only afford", "tokens limit exceeded", at=(402,), scope=Scope.TARGET, delay=60.0
        ),
        row(_F.INVALID, "no endpoints found that support", at=(404,)),
        row(_F.OVERLOADED, r"provider_(?:overloaded|unavailable)"),
        row(_F.OVERLOADED, at=(502, 524)),
    ),
    # GitHub Models: x-ratelimit-type says whose limit it is.
    *_of(
        "github_models",
        row(_F.CONCURRENCY, "userconcurrentrequests", at=(429,), delay=2.0),
        row(_F.RATE_DAY, "bymodelbyday", at=(429,), delay="utc_day"),
        row(_F.RATE_MINUTE, "bymodelbyminute", at=(429,), delay=60.0),
        row(_F.RATE_MINUTE, "userbyminute", at=(429,), scope=Scope.KEY, delay=60.0),
    ),
    # Mistral: windows are the clock's minutes; a limit of none is a model that is not on the plan.
    *_of(
        "mistral",
        row(_F.FORBIDDEN, at=(429,), limits="none requests minute", scope=Scope.TARGET),
        row(_F.OVERLOADED, codes="3505"),
        row(_F.RATE_MINUTE, "rate limit exceeded", at=(429,), codes="1300 rate_limited", delay="minute"),
        row(_F.CONTEXT, codes="3051"),
        row(_F.MODEL_GONE, codes="1500 invalid_model"),
    ),
    # Cohere: trial keys have one limit for all models, in windows that roll.
    *_of(
        "cohere",
        row(_F.RATE_DAY, "calls / month", at=(429,), scope=Scope.KEY, delay="utc_month"),
        row(_F.RATE_MINUTE, "trial key", "calls / minute", at=(429,), scope=Scope.KEY, delay=60.0),
        row(_F.AUTH, at=(498,)),
    ),
    # xAI: 403 is money or moderation before it is permission.
    *_of(
        "xai",
        row(_F.CREDITS, r"\bcredits\b", "spending limit", at=(403, 429)),
        row(_F.FILTERED, "usage guidelines", r"content.*\b(?:blocked|violates)", at=(403,)),
    ),
    # Z.ai: error codes; the status says little.
    *_of(
        "zai",
        row(_F.AUTH, codes="1000 1001 1002 1003 1004 1005"),
        row(_F.CREDITS, codes="1113"),
        row(_F.MODEL_GONE, codes="1211"),
        row(_F.FORBIDDEN, codes="1220 1222"),
        row(_F.INVALID, codes="1210 1212 1213 1214 1215"),
        row(_F.CONTEXT, codes="1261"),
        row(_F.FILTERED, codes="1301"),
        row(_F.CONCURRENCY, codes="1302 1303", delay=5.0),
        row(_F.OVERLOADED, codes="1305 1312", delay=5.0),
        row(_F.RATE_DAY, codes="1304", delay="utc_day"),
        # Quotas of some hours, a week or a month: which, only the message says.
        row(
            _F.RATE_DAY,
            codes="1308 1309 1310 1311 1313 1314 1315 1316 1317 1318 1319 1320 1321",
            delay=3600.0,
        ),
        row(_F.SERVER, codes="1234"),
    ),
    # Gemini: quota ids name the window; a quota of none is a model without a free tier.
    *_of(
        "gemini",
        row(_F.FORBIDDEN, r"\blimit: 0\b", at=(429,)),
        row(_F.RATE_DAY, "perday", at=(429,), delay="pacific_day"),
        row(_F.FORBIDDEN, "location is not supported", at=(400,)),
        row(_F.AUTH, at=(403,)),
    ),
    # Anthropic: errors; spending limits are those of a month. 413 is the size in bytes, 409 may be tried again.
    *_of(
        "anthropic",
        row(_F.CREDITS, "enforced_spend_limit_reached", "api usage limits", delay="utc_month"),
        row(_F.SERVER, at=(409,)),
        row(_F.INVALID, at=(413,)),
    ),
    # Cloudflare: Workers AI, errors. Neurons are an account's.
    *_of(
        "workers_ai",
        row(_F.RATE_DAY, "neurons", at=(429,), codes="3036 4006", scope=Scope.KEY, delay="utc_day"),
        row(_F.CONTEXT, "context window", at=(400, 413, 500), codes="5021 3006"),
        row(_F.OVERLOADED, codes="3040"),
        row(_F.TIMEOUT, codes="3007 3008"),
        row(_F.MODEL_GONE, codes="5007 3042"),
        row(_F.AUTH, codes="10000 9109 7000 7003"),
        row(_F.FORBIDDEN, codes="5016 5018 3023 3041"),
        row(_F.INVALID, codes="3003 3039 5004 5005 5006 5019"),
    ),
    # Hugging Face: what is included in a plan is a month's.
    *_of("huggingface", row(_F.CREDITS, at=(402,), delay="utc_month")),
    # Pollinations: a queue for every address.
    *_of("pollinations", row(_F.AUTH, at=(403,)), row(_F.CONCURRENCY, at=(429,))),
)

WORDS: tuple[Row, ...] = (
    row(_F.CONTEXT, codes="context_length_exceeded"),
    row(_F.CREDITS, codes=f"insufficient_quota credit_balance_exhausted {_SPEND_LIMITS}"),
    row(_F.AUTH, codes="invalid_api_key authentication_error unrecognizedclientexception"),
    row(_F.MODEL_GONE, codes="model_not_found model_decommissioned unknown_model unavailable_model"),
    row(_F.FORBIDDEN, codes="accessdeniedexception"),
    row(_F.FILTERED, codes="content_filter content_policy_violation invalid_prompt"),
    row(_F.TOOL_GENERATION, codes="tool_use_failed json_validate_failed"),
    row(
        _F.OVERLOADED,
        codes="server_is_overloaded overloaded_error slow_down queue_exceeded capacity_exceeded",
    ),
    row(_F.OVERLOADED, codes="service_tier_capacity_exceeded modelnotreadyexception"),
    row(_F.RATE_MINUTE, codes="throttlingexception"),
    row(_F.RATE_DAY, codes="servicequotaexceededexception"),
    row(
        _F.INVALID,
        codes="unknown_parameter unsupported_parameter unsupported_value invalid_value invalid_type",
    ),
    row(_F.INVALID, codes="missing_required_parameter"),
    row(_F.TOO_BIG, codes="tokens_limit_reached"),
)

# Safety first, then context, quotas and credits, key, model.
WRITTEN: tuple[Row, ...] = (
    row(
        _F.FILTERED,
        "content_filter|responsibleaipolicyviolation|content management policy|content_policy",
        r"\bsafety\b(?! ?identifier)|\bflagged|content exists risk|prohibited_content",
        at=(400, 403, 422),
    ),
    row(
        _F.CONTEXT,
        "context_length_exceeded|maximum context length|context window|prompt is too long|input is too long",
        "input token count.*exceeds|exceeds the available context size|current length is.*while limit is",
        "prompt exceeds max length|longer than the model's context length|reduce the length of",
        "too many tokens|max size:.*tokens|maximum number of tokens|maximum prompt length",
        r"max_new_tokens\b.*must be <=",
        at=(400, 422, 500),
    ),
    # Google writes "check your plan and billing details" on every quota and Groq invites to its billing page, so the
    # window, where it is named in so many letters, goes before money.
    row(_F.RATE_DAY, r"perday|\(rpd\)|\(tpd\)", at=(429,), delay="utc_day"),
    row(_F.RATE_MINUTE, r"perminute|\(rpm\)|\(tpm\)", at=(429,)),
    row(
        _F.CREDITS,
        r"insufficient_quota|insufficient balance|insufficient credits|credit balance|(?<![/#.])\bbilling\b",
        "payment required|spend[_ ]limit|usage limits|credit_balance_exhausted|out of pollen|can only afford",
        at=(400, 402, 403, 429),
    ),
    row(_F.RATE_DAY, "per month|calls / month", at=(429,), delay="utc_month"),
    row(
        _F.RATE_DAY,
        "per day|daily|86400s|per-day|neurons",
        at=(429,),
        limits=r"spent \S+ (?:day|month)",
        delay="utc_day",
    ),
    row(_F.CONCURRENCY, "concurren", at=(429,)),
    row(
        _F.AUTH,
        "invalid api key|api key not valid|api_key_invalid|incorrect api key|unauthorized",
        "bad credentials|invalid token|authentication",
        at=(400, 401, 403),
    ),
    row(
        _F.MODEL_GONE,
        "model_not_found|model.*does not exist|decommissioned|deprecated.*model|model.*deprecated|end of life",
        "no endpoints found|no such model|unknown model|not found for account|on-demand throughput isn.t supported",
        at=(400, 403, 404, 410),
    ),
    row(_F.OVERLOADED, "degraded function", at=(400,)),
    row(
        _F.OVERLOADED,
        "overloaded|capacity|high traffic|high demand|queue_exceeded|temporarily|server busy|no healthy upstream",
        at=(429, 500, 502, 503),
    ),
)

STATUSES: tuple[Row, ...] = (
    row(_F.AUTH, at=(401,)),
    row(_F.CREDITS, at=(402,)),
    row(_F.FORBIDDEN, at=(403,)),
    row(_F.MODEL_GONE, at=(404, 410)),
    row(_F.TIMEOUT, at=(408, 504, 524)),
    row(_F.TOO_BIG, at=(413,)),
    row(_F.SERVER, at=(424, 499)),
    row(_F.RATE_MINUTE, at=(429,)),
    row(_F.OVERLOADED, at=(498, 503, 529)),
)

ROWS: tuple[Row, ...] = (*PROVIDERS, *WORDS, *WRITTEN, *STATUSES)

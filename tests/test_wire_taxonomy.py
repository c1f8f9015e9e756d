"""The table of errors: what each provider means, and that no row is idle."""

import json
from typing import Any, NamedTuple

import pytest
from msgspec import Raw

from gwproto.failures import FailureClass, Scope
from gwproto.wire import classify
from gwproto.wire.classify import Signs, Table
from gwproto.wire.neutral import Reading
from gwproto.wire.openai import errors
from gwproto.wire.openai.errors import decode_error, in_band_failure
from gwproto.wire.openai.parts import fields_of
from gwproto.wire.taxonomy import ROWS, WORDS
from gwproto_ops.deployment import known_providers

KNOWN = known_providers()
WALL = 1_790_000_000.0  # 2026-09-21T14:13:20Z
MINUTE = 40.0  # what is left of it then
UTC_DAY = 35200.0
PACIFIC_DAY = 64000.0
MONTH = 86400.0  # more than a day away: asked again tomorrow


class Case(NamedTuple):
    """An error as it comes, and what it means. ``scope`` ``""``: the class's own. Status 0: inside a 200."""

    provider: str
    status: int
    body: Any
    kind: str
    scope: str = ""
    delay: float | None = None
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)


def says(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def coded(code: Any, message: str = "m") -> dict[str, Any]:
    return says(message, code=code)


def cloudflare(code: int, message: str = "AiError: m") -> dict[str, Any]:
    return {"success": False, "result": None, "errors": [{"code": code, "message": message}], "messages": []}


def google(message: str, status: str, *details: Any) -> Any:
    return [says(message, status=status, details=list(details))]


def quota(id_: str, value: str = "20") -> dict[str, Any]:
    return {"violations": [{"quotaId": id_, "quotaValue": value}]}


RETRY = {"retryDelay": "20.5s"}
CALLS = "You are using a Trial key, which is limited to"

CASES: tuple[Case, ...] = (
    # OpenAI
    Case("openai", 429, coded("rate_limit_exceeded", "Please try again in 1.2s"), "RATE_MINUTE", "", 1.2),
    Case("openai", 429, coded("insufficient_quota"), "CREDITS"),
    Case("openai", 429, coded("credit_balance_exhausted"), "CREDITS"),
    Case("openai", 429, coded("organization_spend_limit_exceeded"), "CREDITS", "", MONTH),
    Case("openai", 429, coded("project_spend_limit_exceeded"), "CREDITS", "", MONTH),
    Case("openai", 429, coded("organization_usage_limit_exceeded"), "CREDITS", "", MONTH),
    Case("", 429, coded("project_spend_limit_exceeded"), "CREDITS"),
    Case("openai", 429, coded("slow_down"), "OVERLOADED"),
    Case("openai", 503, coded("server_is_overloaded"), "OVERLOADED"),
    Case("openai", 400, coded("context_length_exceeded"), "CONTEXT"),
    Case("openai", 400, coded("content_policy_violation"), "FILTERED"),
    Case("openai", 400, coded("invalid_prompt"), "FILTERED"),
    Case("openai", 401, coded("invalid_api_key"), "AUTH"),
    Case("openai", 403, coded("unsupported_country_region_territory"), "FORBIDDEN"),
    Case("openai", 404, coded("model_not_found"), "MODEL_GONE"),
    Case("openai", 400, coded("unsupported_parameter"), "INVALID"),
    Case("openai", 0, coded("unknown_parameter"), "INVALID"),
    Case("openai", 0, coded("missing_required_parameter"), "INVALID"),
    # Groq
    Case(
        "groq",
        429,
        says(
            "Rate limit reached on tokens per minute (TPM): … visit https://console.groq.com/settings/billing"
        ),
        "RATE_MINUTE",
    ),
    Case("groq", 429, says("… on requests per minute (RPM) … add billing details"), "RATE_MINUTE"),
    Case("groq", 429, says("… on tokens per day (TPD) … see billing"), "RATE_DAY", "", UTC_DAY),
    Case("groq", 429, says("… on requests per day (RPD). Try again in 9m38.016s."), "RATE_DAY", "", 578.016),
    Case("groq", 429, says("m"), "RATE_DAY", "", UTC_DAY, {"x-ratelimit-remaining-requests": "0"}),
    Case("groq", 429, says("m"), "RATE_MINUTE", "", None, {"x-ratelimit-remaining-tokens": "0"}),
    Case("groq", 413, coded("rate_limit_exceeded", "Request too large … (TPM): Limit 8000"), "TOO_BIG"),
    Case("groq", 400, coded("tool_use_failed"), "TOOL_GENERATION"),
    Case("groq", 400, coded("json_validate_failed"), "TOOL_GENERATION"),
    Case("groq", 400, coded("model_decommissioned"), "MODEL_GONE"),
    Case("groq", 498, coded("capacity_exceeded"), "OVERLOADED"),
    Case("groq", 498, says("m"), "OVERLOADED"),
    Case("groq", 503, says("m"), "OVERLOADED"),
    Case("groq", 400, says("Please reduce the length of the messages"), "CONTEXT"),
    # Cerebras
    Case("cerebras", 429, coded("request_quota_exceeded"), "RATE_MINUTE", "", 57.0, {"retry-after": "57"}),
    Case("cerebras", 429, coded("token_quota_exceeded"), "RATE_MINUTE", "", 30.0),
    Case(
        "cerebras",
        429,
        coded("token_quota_exceeded"),
        "RATE_DAY",
        "",
        33011.382867,
        {"x-ratelimit-remaining-tokens-day": "0", "x-ratelimit-reset-tokens-day": "33011.382867"},
    ),
    Case(
        "cerebras",
        429,
        coded("request_quota_exceeded"),
        "RATE_MINUTE",
        "",
        3600.0,
        {"x-ratelimit-remaining-requests-hour": "0"},
    ),
    Case("cerebras", 429, coded("queue_exceeded"), "OVERLOADED", "", 3.0, {"x-should-retry": "false"}),
    Case("", 429, coded("queue_exceeded"), "OVERLOADED"),
    Case("cerebras", 400, says("Current length is 9000 while limit is 8192"), "CONTEXT"),
    Case("cerebras", 404, coded("model_not_found"), "MODEL_GONE"),
    Case("cerebras", 402, says("m"), "CREDITS"),
    Case(
        "cerebras",
        0,
        {**coded("token_quota_exceeded", "Too many tokens"), "status_code": 429},
        "RATE_MINUTE",
        "",
        30.0,
    ),
    # SambaNova
    Case("sambanova", 429, says("m"), "RATE_MINUTE"),
    Case("sambanova", 429, says("m"), "RATE_DAY", "", UTC_DAY, {"x-ratelimit-remaining-requests-day": "0"}),
    Case("sambanova", 402, says("credit used"), "CREDITS"),
    Case("sambanova", 408, says("m"), "TIMEOUT"),
    Case("sambanova", 410, says("m"), "MODEL_GONE"),
    Case("sambanova", 503, says("maintenance"), "OVERLOADED"),
    Case("sambanova", 504, says("m"), "OVERLOADED"),
    # NVIDIA
    Case("nvidia", 429, {"status": 429, "title": "Too Many Requests"}, "RATE_MINUTE", "KEY", 60.0),
    Case("nvidia", 400, {"detail": "DEGRADED function cannot be invoked"}, "OVERLOADED"),
    Case("nvidia", 404, {"detail": "Function 'u': Not found for account 'a'"}, "FORBIDDEN"),
    Case("", 404, {"detail": "Not found for account"}, "MODEL_GONE"),
    Case("nvidia", 410, {"detail": "m"}, "MODEL_GONE"),
    Case("nvidia", 400, {"detail": "The model has reached its end of life"}, "MODEL_GONE"),
    Case("nvidia", 402, {"detail": "m"}, "CREDITS"),
    Case("nvidia", 403, {"detail": "Cloud credits expired"}, "CREDITS"),
    Case("nvidia", 401, {"detail": "Authorization failed"}, "AUTH"),
    Case("nvidia", 403, {"detail": "Authorization failed"}, "AUTH"),
    Case("nvidia", 400, {"detail": "This model only supports single tool-calls at once!"}, "INVALID"),
    # OpenRouter
    Case("openrouter", 429, says("Rate limit exceeded: free-models-per-min."), "RATE_MINUTE", "KEY", MINUTE),
    Case("openrouter", 429, says("Rate limit exceeded: free-models-per-day"), "RATE_DAY", "KEY", UTC_DAY),
    Case(
        "openrouter",
        0,
        says(
            "Rate limit exceeded: free-models-per-day-high-balance",
            code=429,
            metadata={"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1790000600000"}},
        ),
        "RATE_DAY",
        "KEY",
        600.0,
    ),
    Case("openrouter", 429, says("m", metadata={"limit_source": "free_daily"}), "RATE_DAY", "KEY", UTC_DAY),
    Case("openrouter", 429, says("x:free is temporarily rate-limited upstream"), "OVERLOADED"),
    Case("openrouter", 429, says("m", metadata={"raw": "temporarily out"}), "OVERLOADED"),
    Case("openrouter", 402, says("Insufficient credits"), "CREDITS"),
    Case("openrouter", 402, says("Prompt tokens limit exceeded: 9 > 5"), "CREDITS", "TARGET", 60.0),
    Case("openrouter", 402, says("… but can only afford 7."), "CREDITS", "TARGET", 60.0),
    Case("openrouter", 403, says("m", metadata={"reasons": ["violence"]}), "FILTERED"),
    Case("openrouter", 403, says("m", metadata={"flagged_input": "…"}), "FILTERED"),
    Case("openrouter", 403, says("m", metadata={"reasons": []}), "FORBIDDEN"),
    Case("openrouter", 404, says("No endpoints found for a/b."), "MODEL_GONE"),
    Case("openrouter", 404, says("No endpoints found matching your data policy"), "MODEL_GONE"),
    Case("openrouter", 404, says("No endpoints found that support tool use"), "INVALID"),
    Case("openrouter", 400, says("No endpoints found"), "MODEL_GONE"),
    Case("openrouter", 502, says("m"), "OVERLOADED"),
    Case("openrouter", 503, says("m"), "OVERLOADED"),
    Case("openrouter", 524, says("m"), "OVERLOADED"),
    Case("openrouter", 529, says("m"), "OVERLOADED"),
    Case("openrouter", 500, says("m", metadata={"error_type": "provider_unavailable"}), "OVERLOADED"),
    Case("openrouter", 0, says("m", code=402), "CREDITS"),
    # GitHub Models
    Case(
        "github_models",
        429,
        coded("RateLimitReached", "Rate limit of 50 per 86400s exceeded. Please wait 41230 seconds"),
        "RATE_DAY",
        "",
        41230.0,
        {"x-ratelimit-type": "UserByModelByDay"},
    ),
    Case("github_models", 429, says("m"), "RATE_DAY", "", UTC_DAY, {"x-ratelimit-type": "UserByModelByDay"}),
    Case("", 429, says("Rate limit of 50 per 86400s exceeded"), "RATE_DAY", "", UTC_DAY),
    Case("github_models", 429, says("… exceeded for UserByModelByMinute."), "RATE_MINUTE", "", 60.0),
    Case("github_models", 429, says("m"), "RATE_MINUTE", "KEY", 60.0, {"x-ratelimit-type": "UserByMinute"}),
    Case(
        "github_models",
        429,
        says("m"),
        "CONCURRENCY",
        "",
        2.0,
        {"x-ratelimit-type": "UserConcurrentRequests"},
    ),
    Case("github_models", 413, says("Max size: 8000 tokens."), "TOO_BIG"),
    Case("github_models", 0, coded("tokens_limit_reached"), "TOO_BIG"),
    Case("github_models", 400, coded("unknown_model"), "MODEL_GONE"),
    Case("github_models", 400, coded("unavailable_model"), "MODEL_GONE"),
    Case("github_models", 401, says("Bad credentials"), "AUTH"),
    Case("github_models", 403, coded("no_access"), "FORBIDDEN"),
    Case("github_models", 400, coded("content_filter"), "FILTERED"),
    # Mistral
    Case("mistral", 429, {"type": "rate_limited", "code": "1300", "message": "m"}, "RATE_MINUTE", "", MINUTE),
    Case("mistral", 429, {"message": "Requests rate limit exceeded"}, "RATE_MINUTE", "", MINUTE),
    Case("mistral", 429, coded("1300"), "FORBIDDEN", "TARGET", None, {"x-ratelimit-limit-req-minute": "0"}),
    Case("mistral", 429, coded("3505"), "OVERLOADED"),
    Case("mistral", 503, coded("3505"), "OVERLOADED"),
    Case("", 429, says("m", type="service_tier_capacity_exceeded"), "OVERLOADED"),
    Case("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "store"]}]}, "INVALID"),
    Case("mistral", 400, coded("3001", "extra_forbidden"), "INVALID"),
    Case("mistral", 400, says("Prompt contains 9 tokens … with 5 maximum context length"), "CONTEXT"),
    Case("mistral", 400, coded("3051"), "CONTEXT"),
    Case("mistral", 401, says("Unauthorized"), "AUTH"),
    Case("mistral", 402, says("m"), "CREDITS"),
    Case("mistral", 400, says("m", type="invalid_model", code="1500"), "MODEL_GONE"),
    # Cohere
    Case(
        "cohere", 429, {"id": "x", "message": f"{CALLS} 20 API calls / minute."}, "RATE_MINUTE", "KEY", 60.0
    ),
    Case("cohere", 429, {"id": "x", "message": f"{CALLS} 1000 API calls / month."}, "RATE_DAY", "KEY", MONTH),
    Case("cohere_compat", 429, says("20 API calls / minute"), "RATE_MINUTE", "KEY", 60.0),
    Case("", 429, says("limited to 1000 API calls / month"), "RATE_DAY", "", MONTH),
    Case("cohere", 401, {"message": "invalid api token"}, "AUTH"),
    Case("cohere", 498, {"message": "m"}, "AUTH"),
    Case("cohere", 402, {"message": "m"}, "CREDITS"),
    Case("cohere", 404, {"message": "model 'x' not found"}, "MODEL_GONE"),
    Case("cohere", 400, {"message": "too many tokens: 9 > 5"}, "CONTEXT"),
    Case("cohere", 499, {"message": "m"}, "SERVER"),
    # Together
    Case(
        "together",
        429,
        says("m"),
        "RATE_MINUTE",
        "",
        3.0,
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "3"},
    ),
    Case("together", 402, says("credit limit"), "CREDITS"),
    Case("together", 400, says("`inputs` tokens + `max_new_tokens` must be <= 8193"), "CONTEXT"),
    Case("together", 422, says("tokens + max_new_tokens must be <= 5"), "CONTEXT"),
    Case("together", 503, says("m"), "OVERLOADED"),
    # DeepSeek
    Case("deepseek", 402, says("Insufficient Balance"), "CREDITS"),
    Case("deepseek", 401, says("m"), "AUTH"),
    Case("deepseek", 422, says("m"), "INVALID"),
    Case("deepseek", 400, says("This model's maximum context length is 9 tokens"), "CONTEXT"),
    Case("deepseek", 429, says("m"), "RATE_MINUTE"),
    Case("deepseek", 500, says("m"), "SERVER"),
    Case("deepseek", 503, says("m"), "OVERLOADED"),
    Case("deepseek", 400, says("Content Exists Risk"), "FILTERED"),
    # xAI
    Case("xai", 429, says("m"), "RATE_MINUTE"),
    Case("xai", 400, {"code": "invalid argument", "error": "Incorrect API key provided"}, "AUTH"),
    Case("xai", 401, {"error": "m"}, "AUTH"),
    Case("xai", 403, {"error": "Your team doesn't have any credits yet"}, "CREDITS"),
    Case("xai", 429, {"error": "… or reached its monthly spending limit"}, "CREDITS"),
    Case("xai", 403, {"error": "Content violates usage guidelines."}, "FILTERED"),
    Case("xai", 403, {"error": "m"}, "FORBIDDEN"),
    Case("xai", 404, {"error": "m"}, "MODEL_GONE"),
    Case("xai", 400, {"error": "This model's maximum prompt length is 9"}, "CONTEXT"),
    # Z.ai
    *(Case("zai", 401, coded(str(code)), "AUTH") for code in range(1000, 1006)),
    *(Case("zai", 500, coded(code), "AUTH") for code in range(1000, 1006)),
    Case("zai", 429, coded("1113"), "CREDITS"),
    Case("zai", 400, coded("1211"), "MODEL_GONE"),
    *(Case("zai", 400, coded(code), "FORBIDDEN") for code in (1220, 1222)),
    *(Case("zai", 500, coded(code), "INVALID") for code in (1210, 1212, 1213, 1214, 1215)),
    Case("zai", 400, coded("1261"), "CONTEXT"),
    Case("zai", 400, coded("1301"), "FILTERED"),
    *(Case("zai", 429, coded(code), "CONCURRENCY", "", 5.0) for code in (1302, 1303)),
    *(Case("zai", 429, coded(code), "OVERLOADED", "", 5.0) for code in (1305, 1312)),
    Case("zai", 429, coded("1304"), "RATE_DAY", "", UTC_DAY),
    *(Case("zai", 429, coded(code), "RATE_DAY", "", 3600.0) for code in range(1308, 1322) if code != 1312),
    Case("zai", 400, coded("1234"), "SERVER"),
    Case("zai", 0, coded("500"), "SERVER"),
    # Gemini
    Case(
        "gemini",
        429,
        google(
            "quota, check your plan and billing",
            "RESOURCE_EXHAUSTED",
            quota("RequestsPerDay-FreeTier"),
            RETRY,
        ),
        "RATE_DAY",
        "",
        PACIFIC_DAY,
    ),
    Case(
        "gemini_compat",
        429,
        google("billing", "RESOURCE_EXHAUSTED", quota("TokensPerModelPerDay")),
        "RATE_DAY",
        "",
        PACIFIC_DAY,
    ),
    Case("gemini", 429, google("billing", "x", quota("PerModelPerMinute"), RETRY), "RATE_MINUTE", "", 20.5),
    Case(
        "gemini", 429, google("… free_tier_requests, limit: 0, model: m", "x", quota("PerDay")), "FORBIDDEN"
    ),
    Case("gemini", 429, google("billing", "x", quota("PerDay", "0"), RETRY), "FORBIDDEN", "", 20.5),
    Case("gemini", 429, google("billing", "x", {"violations": [{"quotaId": "PerDay"}]}), "FORBIDDEN"),
    Case("gemini", 400, google("API key not valid.", "x", {"reason": "API_KEY_INVALID"}), "AUTH"),
    Case("gemini", 403, google("m", "PERMISSION_DENIED"), "AUTH"),
    Case("gemini", 400, google("User location is not supported", "FAILED_PRECONDITION"), "FORBIDDEN"),
    Case("gemini", 400, google("exceeds the maximum number of tokens allowed (9)", "x"), "CONTEXT"),
    Case("gemini", 404, google("m", "NOT_FOUND"), "MODEL_GONE"),
    Case("gemini", 503, google("The model is overloaded.", "UNAVAILABLE"), "OVERLOADED"),
    Case("gemini", 500, google("m", "INTERNAL"), "SERVER"),
    Case("gemini", 504, google("m", "DEADLINE_EXCEEDED"), "TIMEOUT"),
    # Anthropic
    Case(
        "anthropic",
        429,
        says("m", type="rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
        "CREDITS",
        "",
        MONTH,
    ),
    Case("anthropic", 400, says("You have reached your specified API usage limits."), "CREDITS", "", MONTH),
    Case(
        "anthropic",
        400,
        says("You have reached your specified workspace API usage limits. Back on 2026-09-22 at 00:00 UTC."),
        "CREDITS",
        "",
        UTC_DAY,
    ),
    Case("anthropic", 429, says("m", type="rate_limit_error"), "RATE_MINUTE"),
    Case(
        "anthropic",
        429,
        says("m", type="rate_limit_error"),
        "RATE_MINUTE",
        "",
        10.0,
        {
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2026-09-21T14:13:30Z",
        },
    ),
    Case("anthropic", 529, says("m", type="overloaded_error"), "OVERLOADED"),
    Case("anthropic", 0, says("m", type="overloaded_error"), "OVERLOADED"),
    Case("anthropic", 402, says("m", type="billing_error"), "CREDITS"),
    Case("anthropic", 400, says("Your credit balance is too low"), "CREDITS"),
    Case("anthropic", 400, says("prompt is too long: 9 tokens > 5 maximum"), "CONTEXT"),
    Case("anthropic", 401, says("m", type="authentication_error"), "AUTH"),
    Case("anthropic", 0, says("m", type="authentication_error"), "AUTH"),
    Case("anthropic", 403, says("m", type="permission_error"), "FORBIDDEN"),
    Case("anthropic", 404, says("m", type="not_found_error"), "MODEL_GONE"),
    Case("anthropic", 409, says("m", type="conflict_error"), "SERVER"),
    Case("anthropic", 413, says("m", type="request_too_large"), "INVALID"),
    Case("anthropic", 500, says("m", type="api_error"), "SERVER"),
    Case("anthropic", 504, says("m", type="timeout_error"), "TIMEOUT"),
    Case("anthropic", 0, says("m", type="timeout_error"), "TIMEOUT"),
    # Azure
    Case("azure", 429, coded("429", "Please retry after 26 seconds."), "RATE_MINUTE", "", 26.0),
    Case("azure", 429, says("The model is experiencing high demand"), "OVERLOADED"),
    Case("azure", 400, says("m", innererror={"code": "ResponsibleAIPolicyViolation"}), "FILTERED"),
    Case("azure", 404, coded("DeploymentNotFound"), "MODEL_GONE"),
    # Workers AI
    *(Case("workers_ai", 429, cloudflare(code), "RATE_DAY", "KEY", UTC_DAY) for code in (3036, 4006)),
    Case("workers_ai", 0, cloudflare(4006), "RATE_DAY", "KEY", UTC_DAY),
    Case(
        "workers_ai",
        429,
        cloudflare(1, "daily free allocation of 10,000 neurons"),
        "RATE_DAY",
        "KEY",
        UTC_DAY,
    ),
    Case("", 429, says("your 10,000 neurons"), "RATE_DAY", "", UTC_DAY),
    Case("workers_ai", 429, cloudflare(1), "RATE_MINUTE"),
    Case("workers_ai", 429, cloudflare(3040), "OVERLOADED"),
    *(Case("workers_ai", 0, cloudflare(code), "TIMEOUT") for code in (3007, 3008)),
    *(Case("workers_ai", 400, cloudflare(code), "MODEL_GONE") for code in (5007, 3042)),
    *(Case("workers_ai", 403, cloudflare(code), "AUTH") for code in (10000, 9109, 7003, 7000)),
    *(Case("workers_ai", 0, cloudflare(code), "FORBIDDEN") for code in (5016, 5018, 3023, 3041)),
    *(Case("workers_ai", 0, cloudflare(code), "INVALID") for code in (3003, 3039, 5004, 5005, 5006, 5019)),
    *(Case("workers_ai", 413, cloudflare(code), "CONTEXT") for code in (3006, 5021)),
    Case("workers_ai_compat", 413, cloudflare(1, "… exceeded this model context window limit"), "CONTEXT"),
    # Bedrock
    Case("", 400, {"message": "m", "__type": "ThrottlingException"}, "RATE_MINUTE"),
    Case(
        "", 429, {"message": "m"}, "OVERLOADED", "", None, {"x-amzn-errortype": "ModelNotReadyException:http"}
    ),
    Case(
        "", 400, {"message": "m"}, "RATE_DAY", "", None, {"x-amzn-errortype": "ServiceQuotaExceededException"}
    ),
    Case("", 0, {"message": "m", "__type": "AccessDeniedException"}, "FORBIDDEN"),
    Case("", 403, {"message": "m", "__type": "UnrecognizedClientException"}, "AUTH"),
    Case("", 400, {"message": "Input is too long for requested model."}, "CONTEXT"),
    Case("", 400, {"message": "on-demand throughput isn't supported"}, "MODEL_GONE"),
    Case("", 424, {"message": "m", "__type": "ModelErrorException"}, "SERVER"),
    # Hugging Face
    Case(
        "huggingface", 402, None, "CREDITS", "", MONTH, {"x-error-message": "You have exceeded your credits"}
    ),
    # Ollama
    Case("ollama", 404, {"error": "model 'm' not found"}, "MODEL_GONE"),
    Case("ollama", 503, {"error": "server busy, please try again."}, "OVERLOADED"),
    Case("ollama", 400, {"error": "m does not support tools"}, "INVALID"),
    Case("ollama", 403, {"error": "this model requires a subscription"}, "FORBIDDEN"),
    Case("ollama", 410, {"error": "m"}, "MODEL_GONE"),
    # Pollinations
    Case("pollinations", 402, says("out of pollen"), "CREDITS"),
    Case("pollinations", 401, says("m"), "AUTH"),
    Case("pollinations", 403, says("m"), "AUTH"),
    Case("pollinations", 429, says("Queue full for IP"), "CONCURRENCY"),
    Case("pollinations", 502, None, "SERVER"),
    # vLLM, SGLang, TGI, llama.cpp
    Case("vllm", 400, says("maximum context length is 9 tokens"), "CONTEXT"),
    Case("vllm", 400, says("longer than the model's context length"), "CONTEXT"),
    Case("", 400, says("the request exceeds the available context size"), "CONTEXT"),
    # The status alone
    Case("", 499, None, "SERVER"),
    Case("", 424, None, "SERVER"),
    Case("", 408, None, "TIMEOUT"),
    Case("", 429, says("too many concurrent requests"), "CONCURRENCY"),
)


def meaning(case: Case) -> tuple[str, str, float | None]:
    entry = KNOWN.get(case.provider)
    windows = entry.quirks.limit_windows if entry is not None else None
    reading = Reading(provider=case.provider, limit_windows=windows or {}, wall=WALL)
    body = b"" if case.body is None else json.dumps(case.body).encode()
    if case.status:
        headers = tuple((name.encode(), value.encode()) for name, value in case.headers.items())
        failure = decode_error(case.status, headers, body, reading)
    else:
        found = in_band_failure(fields_of(Raw(body)), reading)
        assert found is not None
        failure = found
    return failure.kind.name, failure.scope.name if failure.scope else "", failure.retry_after


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{number}-{one.provider or 'any'}-{one.kind}" for number, one in enumerate(CASES)]
)
def test_cases(case: Case) -> None:
    assert meaning(case) == (case.kind, case.scope, case.delay)


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda number: f"{ROWS[number].kind.name}-{number}")
def test_no_row_is_idle(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one row some case means something else."""
    fewer = Table([*ROWS[:number], *ROWS[number + 1 :]])
    monkeypatch.setattr(errors, "classify", fewer.find)
    assert any(meaning(case) != (case.kind, case.scope, case.delay) for case in CASES + MARKED)


CODES = [
    Case("", 0, coded(code), row.kind.name, "", None if isinstance(row.delay, str) else row.delay)
    for row in WORDS
    for code in sorted(row.codes)
]


@pytest.mark.parametrize("case", CODES, ids=[one.body["error"]["code"] for one in CODES])
def test_words_of_their_own(case: Case) -> None:
    """As a code and as a type, in a 200 and beside a status that says something else."""
    assert meaning(case) == (case.kind, "", case.delay)
    word = case.body["error"]["code"].upper()
    assert meaning(case._replace(body=says("m", type=word)))[0] == case.kind
    assert meaning(case._replace(status=418))[0] == case.kind


# What a message says, whoever sends it.
MARKERS: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "filtered": (
        400,
        "FILTERED",
        (
            "content_filter",
            "ResponsibleAIPolicyViolation",
            "content management policy",
            "content_policy",
            "safety system",
            "was flagged",
            "Content Exists Risk",
            "PROHIBITED_CONTENT",
        ),
    ),
    "context": (
        400,
        "CONTEXT",
        (
            "maximum context length",
            "context_length_exceeded",
            "context window",
            "prompt is too long",
            "Input is too long",
            "The input token count (9) exceeds",
            "exceeds the available context size",
            "current length is 9 while limit is 5",
            "Prompt exceeds max length",
            "longer than the model's context length",
            "reduce the length of",
            "too many tokens",
            "Max size: 8000 tokens",
            "maximum number of tokens",
            "maximum prompt length",
        ),
    ),
    "credits": (
        403,
        "CREDITS",
        (
            "insufficient_quota",
            "Insufficient Balance",
            "insufficient credits",
            "credit balance",
            "check your billing details",
            "payment required",
            "spend limit",
            "usage limits",
            "credit_balance_exhausted",
            "out of pollen",
            "can only afford",
        ),
    ),
    "day": (
        429,
        "RATE_DAY",
        (
            "10 per day",
            "daily",
            "(RPD)",
            "(TPD)",
            "86400s",
            "PerDay",
            "free-models-per-day",
            "neurons",
            "per month",
            "calls / month",
        ),
    ),
    "minute": (429, "RATE_MINUTE", ("(RPM), billing", "(TPM), billing", "PerMinute, billing")),
    "concurrency": (429, "CONCURRENCY", ("High concurrency", "concurrent requests")),
    "overloaded": (
        500,
        "OVERLOADED",
        (
            "overloaded",
            "capacity",
            "high traffic",
            "high demand",
            "queue_exceeded",
            "temporarily",
            "server busy",
            "no healthy upstream",
        ),
    ),
    "degraded": (400, "OVERLOADED", ("DEGRADED function",)),
    "model": (
        400,
        "MODEL_GONE",
        (
            "model_not_found",
            "The model `x` does not exist",
            "decommissioned",
            "deprecated model",
            "model x is deprecated",
            "end of life",
            "No endpoints found",
            "No such model",
            "Unknown model",
            "not found for account",
        ),
    ),
    "key": (
        400,
        "AUTH",
        (
            "Invalid API key",
            "API key not valid",
            "API_KEY_INVALID",
            "Incorrect API key",
            "Unauthorized",
            "Bad credentials",
            "invalid token",
            "Authentication",
        ),
    ),
}
MARKED = tuple(
    Case("", status, says(marker), kind) for status, kind, markers in MARKERS.values() for marker in markers
)


@pytest.mark.parametrize("case", MARKED, ids=[one.body["error"]["message"] for one in MARKED])
def test_markers(case: Case) -> None:
    assert meaning(case)[0] == case.kind
    assert meaning(case._replace(status=0))[0] == case.kind
    # Only a message's beginning counts: what follows may be the prompt.
    buried = says("x" * 300 + case.body["error"]["message"])
    assert meaning(case._replace(body=buried)) == meaning(case._replace(body=says("m")))


def test_a_link_to_a_billing_page_says_nothing_of_money() -> None:
    for link in ("https://x.example/billing", "https://x.example/#billing", "billing.example"):
        assert meaning(Case("", 429, says(f"See {link}"), ""))[0] == (
            "CREDITS" if link[0] == "b" else "RATE_MINUTE"
        )


def test_others_rows_do_not_count() -> None:
    signs = Signs(status=429, code="1113")
    assert classify.classify(signs, "zai").kind is FailureClass.CREDITS
    assert classify.classify(signs, "openai").kind is FailureClass.RATE_MINUTE
    assert classify.classify(Signs(status=429), "nvidia").scope is Scope.KEY


def test_every_known_row_has_something_to_go_by() -> None:
    for row in ROWS:
        assert row.statuses or row.codes or row.pattern or row.limits
        assert row.codes == {code.lower() for code in row.codes}
        assert row.scope is not Scope.REQUEST  # no health to touch


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("rate_limit_error", "RATE_MINUTE"),
        ("rate_limited", "RATE_MINUTE"),
        ("too_many_requests_error", "RATE_MINUTE"),
        ("invalid_request_error", "INVALID"),
        ("permission_error", "FORBIDDEN"),
        ("not_found_error", "MODEL_GONE"),
        ("api_error", "SERVER"),
        ("server_error", "SERVER"),
        ("timeout_error", "TIMEOUT"),
        ("other", "SERVER"),
        ("", "SERVER"),
    ],
)
def test_without_a_status_the_type_stands_in(type_: str, kind: str) -> None:
    assert classify.classify(Signs(type=type_), "").kind.name == kind

"""The endpoints: what each takes, and with what it answers."""

from typing import Any

from msgspec import Struct

from gwproto.answers import Health, Probe, RoutingStatus
from gwproto.operations import Explanation, Reset, ResetDone
from gwproto.queries import AnalyticsQuery, NoQuery, Query, RequestsQuery, StatsQuery
from gwproto.wire.openai.models import Model, ModelList
from gwproto_ops.openapi.shapes import ChatCompletion, ChatCompletionRequest
from gwproto_ops.records.answers import Analytics, Requests, Stats

#: Of anything the gateway is asked: a malformed head or query, a target or a head that is too long.
_ALWAYS = (400, 414, 429, 431)
_BODY = (408, 413, 415)

LIMITS = tuple(
    f"x-ratelimit-{what}-{unit}"
    for unit in ("requests", "tokens")
    for what in ("limit", "remaining", "reset")
)
JSON, EVENTS, TEXT = "application/json", "text/event-stream", "text/plain"
_FILES = ("text/html", "text/css", "text/javascript", "image/svg+xml", "application/json")


class Endpoint(Struct, frozen=True, kw_only=True):
    """``answers``: by content type, a type, or None for what is no JSON. ``errors``: their statuses."""

    method: str
    path: str
    id: str
    summary: str
    tag: str
    key: bool = False
    public_stats: bool = False  # open to all where the configuration says so
    query: type[Query] = NoQuery
    body: type | None = None
    body_required: bool = True
    answers: dict[str, Any]
    unready: type | None = None  # what a 503 says, where that is no error
    headers: tuple[str, ...] = ()  # that a response may have beside those of every endpoint
    errors: tuple[int, ...] = _ALWAYS


ENDPOINTS = (
    Endpoint(
        method="post",
        path="/v1/chat/completions",
        id="createChatCompletion",
        summary="A completion, or a stream of its chunks",
        tag="Chat",
        key=True,
        body=ChatCompletionRequest,
        answers={JSON: ChatCompletion, EVENTS: None},
        headers=(
            "x-gateway-provider",
            "x-gateway-model",
            "x-gateway-attempts",
            "x-gateway-reasoning-effort",
            "x-gateway-dropped-params",
            "x-gateway-shared",
            "server-timing",
            *LIMITS,
        ),
        errors=tuple(sorted((*_ALWAYS, *_BODY, 401, 403, 404, 500, 502, 503, 504))),
    ),
    Endpoint(
        method="get",
        path="/v1/models",
        id="listModels",
        summary="What may be asked for, auto first",
        tag="Models",
        answers={JSON: ModelList},
    ),
    Endpoint(
        method="get",
        path="/v1/models/{id}",
        id="getModel",
        summary="One model, by any of its names",
        tag="Models",
        answers={JSON: Model},
        errors=(400, 404, 414, 429, 431),
    ),
    Endpoint(
        method="get",
        path="/v1/routing/status",
        id="getRoutingStatus",
        summary="Every target in fallback order, and a summary per provider",
        tag="Routing",
        answers={JSON: RoutingStatus},
    ),
    Endpoint(
        method="post",
        path="/v1/routing/explain",
        id="explainRouting",
        summary="Where a chat request would go now, and why nowhere else; nothing is sent",
        tag="Routing",
        key=True,
        body=ChatCompletionRequest,
        answers={JSON: Explanation},
        errors=tuple(sorted((*_ALWAYS, *_BODY, 401, 403, 404, 500))),
    ),
    Endpoint(
        method="post",
        path="/v1/routing/reset",
        id="resetRouting",
        summary="End the cooldowns of a provider, a model, a credential, or all of them",
        tag="Routing",
        key=True,
        body=Reset,
        body_required=False,
        answers={JSON: ResetDone},
        errors=tuple(sorted((*_ALWAYS, *_BODY, 401, 500))),
    ),
    Endpoint(
        method="get",
        path="/v1/analytics",
        id="getAnalytics",
        summary="Requests, tokens, cost and times of the last days",
        tag="Figures",
        key=True,
        public_stats=True,
        query=AnalyticsQuery,
        answers={JSON: Analytics},
        errors=(400, 401, 414, 429, 431, 500, 503),
    ),
    Endpoint(
        method="get",
        path="/v1/stats/providers",
        id="getProviderStats",
        summary="How providers do and did",
        tag="Figures",
        key=True,
        public_stats=True,
        query=StatsQuery,
        answers={JSON: Stats},
        errors=(400, 401, 414, 429, 431, 500, 503),
    ),
    Endpoint(
        method="get",
        path="/v1/requests",
        id="listRequests",
        summary="The latest requests, with what was decided and tried for each",
        tag="Figures",
        key=True,
        query=RequestsQuery,
        answers={JSON: Requests},
        errors=(400, 401, 414, 429, 431, 500, 503),
    ),
    Endpoint(
        method="get",
        path="/metrics",
        id="getMetrics",
        summary="Prometheus's text format",
        tag="Figures",
        key=True,
        public_stats=True,
        answers={TEXT: None},
        errors=(400, 401, 414, 429, 431, 500, 503),
    ),
    Endpoint(
        method="get",
        path="/health",
        id="getHealth",
        summary="Figures per target; ok while anything can be served",
        tag="Health",
        answers={JSON: Health},
    ),
    *(
        Endpoint(
            method="get",
            path=path,
            id=id,
            summary=summary,
            tag="Health",
            answers={JSON: Probe},
            unready=unready,
            errors=(400, 414, 431),  # whoever restarts what does not answer is never over a limit
        )
        for path, id, summary, unready in (
            ("/livez", "getLiveness", "The process runs", None),
            ("/health/liveliness", "getLivenessAlias", "The same as /livez", None),
            ("/readyz", "getReadiness", "503 once the process was asked to stop", Probe),
            ("/health/readiness", "getReadinessAlias", "The same as /readyz", Probe),
        )
    ),
    Endpoint(
        method="get",
        path="/openapi.json",
        id="getOpenApi",
        summary="This document",
        tag="Pages",
        answers={JSON: dict},
    ),
    Endpoint(
        method="get",
        path="/",
        id="getConsole",
        summary="The console",
        tag="Pages",
        answers={"text/html": None},
    ),
    Endpoint(
        method="get",
        path="/console/{file}",
        id="getConsoleFile",
        summary="A file of the console",
        tag="Pages",
        answers=dict.fromkeys(_FILES),
        errors=(400, 404, 414, 429, 431),
    ),
)

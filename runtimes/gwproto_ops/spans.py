"""Spans of finished requests, in OpenTelemetry's words. Loaded only where traces are exported.

Names are those of the OpenTelemetry semantic conventions 1.41.0, the last release with the GenAI ones in it. Their
status is "development", and they have a repository of their own since. What they have no name for is ``gwproto.…``.
"""

from collections.abc import Iterator, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from gwproto import AttemptRecord, Ending, Outcome
from gwproto.policy.tracing import span_id
from gwproto.values import Trace

_SCOPE = InstrumentationScope("gwproto", schema_url="https://opentelemetry.io/schemas/1.41.0")
_CHAT = "/v1/chat/completions"
_BAD = (Ending.FAILED, Ending.TRUNCATED, Ending.ABANDONED)  # others are nobody's fault, or the client's
_ERROR = Status(StatusCode.ERROR)
_UNSET = Status(StatusCode.UNSET)
#: A model that was asked for may be any text: so much of it is shown.
_MODEL_LENGTH = 128

#: ``gen_ai.provider.name`` where the conventions know one by another name than we do.
_WELL_KNOWN = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "gemini_compat": "gcp.gemini",
    "cohere_compat": "cohere",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}

_Value = str | int | float
_Attributes = dict[str, _Value]


class Spans:
    """Makes spans of outcomes, if ``sampler`` wants them."""

    __slots__ = ("_resource", "_sampler")

    def __init__(self, resource: Resource, sampler: Sampler) -> None:
        self._resource = resource
        self._sampler = sampler

    def of(self, outcome: Outcome) -> Iterator[ReadableSpan]:
        """The span of a chat completion, then those of its attempts; nothing for other requests and unsampled ones.

        Rejected keys leave none: whoever can reach the gateway could fill the traces.
        """
        if outcome.endpoint != _CHAT or outcome.rejected:
            return
        trace = outcome.trace
        trace_id = int(outcome.request_id if trace is None else trace.trace_id, 16)
        parent = None if trace is None else _parent(trace, trace_id)
        name = f"chat {outcome.model}" if outcome.model else "chat"  # what was asked for could be anything
        sampled = self._sampler.should_sample(
            None if parent is None else set_span_in_context(NonRecordingSpan(parent)),
            trace_id,
            name,
            SpanKind.SERVER,
        )
        if sampled.decision is not Decision.RECORD_AND_SAMPLE:
            return
        state = sampled.trace_state
        context = _context(trace_id, span_id(outcome.request_id), state)
        began = outcome.at
        yield ReadableSpan(
            name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes={**sampled.attributes, **_of_request(outcome)},
            kind=SpanKind.SERVER,
            status=_ERROR if outcome.ending in _BAD else _UNSET,
            start_time=_nanoseconds(began),
            end_time=_nanoseconds(began + outcome.duration),
            instrumentation_scope=_SCOPE,
        )
        for attempt in outcome.attempts:
            since = began + (attempt.started_at - outcome.began_at)
            yield ReadableSpan(
                f"chat {attempt.model}",
                context=_context(trace_id, span_id(outcome.request_id, attempt.number), state),
                parent=context,
                resource=self._resource,
                attributes=_of_attempt(attempt),
                kind=SpanKind.CLIENT,
                status=_UNSET if attempt.failure is None else _ERROR,
                start_time=_nanoseconds(since),
                end_time=_nanoseconds(since + attempt.duration),
                instrumentation_scope=_SCOPE,
            )


def _of_request(outcome: Outcome) -> Mapping[str, _Value]:
    attributes: _Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.stream": outcome.stream,
        "http.request.method": outcome.method,
        "http.route": outcome.endpoint,
        "http.response.status_code": outcome.status,
        "gwproto.request_id": outcome.request_id,
        "gwproto.ending": outcome.ending.value,
        "gwproto.attempts": len(outcome.attempts),
    }
    if outcome.provider:
        attributes |= _provider(outcome.provider)
    if outcome.model_asked:
        attributes["gen_ai.request.model"] = outcome.model_asked[:_MODEL_LENGTH]
    if outcome.model:
        attributes["gen_ai.response.model"] = outcome.model
    if outcome.first_content_after is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = outcome.first_content_after
    if outcome.ending in _BAD:
        attributes["error.type"] = outcome.error or outcome.ending.value
    elif outcome.error:
        attributes["gwproto.error"] = outcome.error
    usage = outcome.usage
    if usage is not None:
        counts = {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        }
        attributes |= {name: count for name, count in counts.items() if count is not None}
    if outcome.cost is not None:
        attributes["gwproto.cost"] = outcome.cost
    if outcome.project_id:
        attributes["gwproto.project_id"] = outcome.project_id
    if outcome.shared:
        attributes["gwproto.shared"] = True
    return attributes


def _of_attempt(attempt: AttemptRecord) -> Mapping[str, _Value]:
    attributes: _Attributes = {
        "gen_ai.operation.name": "chat",
        **_provider(attempt.provider),
        "gen_ai.request.model": attempt.model,
        "gwproto.attempt": attempt.number,
    }
    if attempt.status is not None:
        attributes["http.response.status_code"] = attempt.status
    if attempt.first_content_after is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = attempt.first_content_after
    if attempt.failure is not None:
        attributes["error.type"] = attempt.failure
    if attempt.code:
        attributes["gwproto.error"] = attempt.code
    for name in ("hedge", "lost", "probe", "panic", "reused"):
        if getattr(attempt, name):
            attributes[f"gwproto.{name}"] = True
    return attributes


def _provider(name: str) -> _Attributes:
    return {"gen_ai.provider.name": _WELL_KNOWN.get(name, name), "gwproto.provider": name}


def _parent(trace: Trace, trace_id: int) -> SpanContext:
    state = TraceState.from_header([trace.state])  # checked already, by the same grammar
    return SpanContext(trace_id, int(trace.parent_id, 16), True, TraceFlags(trace.flags), state)


def _context(trace_id: int, id: str, state: TraceState | None) -> SpanContext:
    return SpanContext(trace_id, int(id, 16), False, TraceFlags(TraceFlags.SAMPLED), state)


def _nanoseconds(wall: float) -> int:
    return int(wall * 1e9)

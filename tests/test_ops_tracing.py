"""Traces of finished requests: which spans there are, under which ids, and that a collector gets them."""

import gzip
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
from msgspec import structs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_OFF, DEFAULT_ON, Sampler
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from gwproto import (
    AttemptRecord,
    ClientGone,
    Command,
    ConfigurationError,
    Ending,
    OpenUpstream,
    Outcome,
    Usage,
)
from gwproto.config import ModelSettings, RetrySettings
from gwproto.policy.tracing import span_id
from gwproto.values import Trace
from gwproto_ops import tracing
from gwproto_ops.spans import Spans
from gwproto_ops.tracing import SILENCE, Seldom, Tracer, from_environment
from support.conversation import (
    KEY,
    START,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    head,
    opened,
    provider,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "rojo=1"}
CANARY = "canary-prompt"
ID = "1234567890abcdef" * 2
SERVED = Outcome(
    request_id=ID,
    at=1_800_000_000.0,
    began_at=100.0,
    ending=Ending.COMPLETED,
    status=200,
    method="POST",
    endpoint="/v1/chat/completions",
    duration=1.5,
    key="me",
    project_id="p",
    model_asked="auto",
    provider="bedrock",
    model="m",
    stream=True,
    attempts=(
        AttemptRecord(
            "a", "n", "a", 100.0, 0.5, status=500, failure="server", code="boom", number=1, reused=True
        ),
        AttemptRecord(
            "bedrock", "m", "b", 100.5, 1.0, first_content_after=0.25, status=200, number=3, hedge=True
        ),
    ),
    first_content_after=0.75,
    usage=Usage(100, 20, 120, 30, 5, 7),
    cost=0.25,
)


def spans(*outcomes: Outcome, sampler: Sampler = DEFAULT_ON) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracer = Tracer(SimpleSpanProcessor(exporter), Spans(Resource({"service.name": "test"}), sampler))
    tracer.export(outcomes)
    found = list(exporter.get_finished_spans())
    tracer.close()
    return found


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    context = span.get_span_context()
    assert context is not None
    parent = "" if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", parent


def told(commands: Sequence[Command]) -> str:
    """The span that a provider was told to be its parent."""
    return dict(opened(commands).request.headers)[b"traceparent"].decode().split("-")[2]


# What a trace is made of


def test_the_tree_of_a_request_that_failed_over() -> None:
    root, failed, served = spans(SERVED)
    assert ids(root) == (ID, ID[:16], "")
    assert ids(failed) == (ID, span_id(ID, 1), ID[:16])
    assert ids(served) == (ID, span_id(ID, 3), ID[:16])
    assert [span.name for span in (root, failed, served)] == ["chat m", "chat n", "chat m"]
    assert [span.kind for span in (root, failed, served)] == [
        SpanKind.SERVER,
        SpanKind.CLIENT,
        SpanKind.CLIENT,
    ]
    codes = [span.status.status_code for span in (root, failed, served)]
    assert codes == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET]
    assert [span.status.description for span in (root, failed, served)] == [None] * 3


def test_times_are_wall_times() -> None:
    second = 1_000_000_000
    at = 1_800_000_000 * second
    assert [(span.start_time, span.end_time) for span in spans(SERVED)] == [
        (at, at + 3 * second // 2),
        (at, at + second // 2),
        (at + second // 2, at + 3 * second // 2),
    ]


def test_attributes() -> None:
    root, failed, served = map(attributes, spans(SERVED))
    assert root == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": "auto",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "m",
        "gen_ai.response.time_to_first_chunk": 0.75,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 7,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gwproto.request_id": ID,
        "gwproto.ending": "completed",
        "gwproto.attempts": 2,
        "gwproto.provider": "bedrock",
        "gwproto.cost": 0.25,
        "gwproto.project_id": "p",
    }
    assert failed == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "a",
        "gen_ai.request.model": "n",
        "http.response.status_code": 500,
        "error.type": "server",
        "gwproto.provider": "a",
        "gwproto.attempt": 1,
        "gwproto.error": "boom",
        "gwproto.reused": True,
    }
    assert served == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": "m",
        "gen_ai.response.time_to_first_chunk": 0.25,
        "http.response.status_code": 200,
        "gwproto.provider": "bedrock",
        "gwproto.attempt": 3,
        "gwproto.hedge": True,
    }


def test_names_are_the_conventions() -> None:
    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    used = {name for span in spans(SERVED) for name in attributes(span) if name.startswith("gen_ai.")}
    assert used <= known
    assert "aws.bedrock" in {one.value for one in gen_ai_attributes.GenAiProviderNameValues}


@pytest.mark.parametrize(
    ("ending", "error", "code", "kind"),
    [
        (Ending.FAILED, "upstream_error", StatusCode.ERROR, "upstream_error"),
        (Ending.TRUNCATED, "stream_truncated", StatusCode.ERROR, "stream_truncated"),
        (Ending.ABANDONED, "", StatusCode.ERROR, "abandoned"),
        (Ending.REFUSED, "invalid_value", StatusCode.UNSET, None),
        (Ending.CLIENT_CLOSED, "", StatusCode.UNSET, None),
    ],
)
def test_how_requests_end(ending: Ending, error: str, code: StatusCode, kind: str | None) -> None:
    root, *_ = spans(structs.replace(SERVED, ending=ending, error=error))
    assert root.status.status_code is code
    assert attributes(root).get("error.type") == kind
    assert attributes(root)["gwproto.ending"] == ending.value
    assert attributes(root).get("gwproto.error") == (error if kind is None and error else None)


def test_a_request_that_nobody_was_asked_for() -> None:
    refused = Outcome(
        ID, 1.0, Ending.REFUSED, 404, "POST", "/v1/chat/completions", 0.1, model_asked="m" * 1000
    )
    (root,) = spans(refused)
    assert root.name == "chat"  # names are few, whatever clients ask for
    assert attributes(root)["gen_ai.request.model"] == "m" * 128
    assert "gen_ai.provider.name" not in attributes(root)


def test_a_shared_answer_says_so() -> None:
    (root,) = spans(structs.replace(SERVED, shared=True, attempts=()))
    assert attributes(root)["gwproto.shared"] is True


def test_nothing_else_is_traced() -> None:
    pages = Outcome(ID, 1.0, Ending.COMPLETED, 200, "GET", "/v1/models", 0.1)
    strangers = structs.replace(SERVED, rejected="unknown")
    assert spans(pages, strangers) == []


# The client's trace


def traced(flags: int) -> Outcome:
    return structs.replace(SERVED, trace=Trace(TRACE, PARENT, flags, "rojo=1,congo=2"))


def test_the_clients_span_is_the_parent() -> None:
    root, *attempts = spans(traced(1))
    assert ids(root) == (TRACE, ID[:16], PARENT)
    assert root.parent is not None
    assert root.parent.is_remote
    assert {ids(one)[0] for one in attempts} == {TRACE}
    assert {ids(one)[2] for one in attempts} == {ID[:16]}
    context = root.get_span_context()
    assert context is not None
    assert context.trace_state.to_header() == "rojo=1,congo=2"


def test_the_clients_sampling_is_honoured() -> None:
    assert spans(traced(0)) == []
    assert len(spans(traced(1), sampler=DEFAULT_OFF)) == 3
    assert spans(SERVED, sampler=DEFAULT_OFF) == []
    assert len(spans(traced(0), sampler=ALWAYS_ON)) == 3  # an operator who says always means it


def test_providers_were_told_the_ids_of_these_spans() -> None:
    made = gateway(provider("a"), provider("b"), retry=RetrySettings(max_attempts=2))
    exchange, commands = begin(made, body(), headers=SENT)
    sent = [told(commands)]
    sent.append(told(feed(exchange, START + 0.5, *answer(1, b"{}", status=500))))
    feed(exchange, START + 1.0, *answer(2, completion()))
    assert exchange.outcome is not None
    root, *attempts = spans(exchange.outcome)
    assert ids(root)[0] == TRACE
    assert [ids(one)[1] for one in attempts] == sent
    assert attempts[1].start_time is not None
    assert root.start_time is not None
    assert (attempts[1].start_time - root.start_time) / 1e9 == pytest.approx(0.5, abs=1e-6)


def test_no_prompt_no_answer_and_no_secret() -> None:
    made = gateway(provider("a", models=(ModelSettings(id="a-model"),)), retry=RetrySettings(max_attempts=1))
    outcomes = []
    for last in (
        answer(1, completion(CANARY, model=CANARY)),
        answer(1, b'{"error":{"message":"%s"}}' % CANARY.encode(), status=500),
        [ClientGone()],
    ):
        exchange, commands = begin(
            made, body(messages=[{"role": "user", "content": CANARY}], user=CANARY), headers=SENT
        )
        assert any(isinstance(one, OpenUpstream) for one in commands)
        feed(exchange, START, *last)
        assert exchange.outcome is not None
        outcomes.append(exchange.outcome)
    bad = made.begin(head(key=CANARY, headers=SENT), START)
    bad.start(START)
    assert bad.outcome is not None
    text = "".join(span.to_json() for span in spans(*outcomes, bad.outcome))
    assert text.count('"chat a-model"') == 6
    assert CANARY not in text
    assert KEY not in text


# Configuration

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {"OTEL_SERVICE_NAME": "x"},
        {ENDPOINT: "http://localhost:4318", "OTEL_SDK_DISABLED": "True"},
        {ENDPOINT: "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_no_traces_are_asked_for(environ: dict[str, str]) -> None:
    assert from_environment(environ) is None


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({ENDPOINT: "localhost:4318"}, ENDPOINT),
        ({ENDPOINT: "http://[::1"}, ENDPOINT),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "/v1/traces"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=x,canary secret"}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ({"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "canary;"}, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    ],
)
def test_wrong_variables_are_errors_that_name_them(changes: dict[str, str], where: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        from_environment({ENDPOINT: "http://localhost:4318", **changes})
    ((path, problem),) = raised.value.problems
    assert path == where
    assert "canary" not in problem


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(ConfigurationError, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: .*'gwproto\[otel\]'$"):
        from_environment({ENDPOINT: "http://localhost:4318"})


def test_a_size_that_cannot_be_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(ConfigurationError, match="OTEL_BSP"):
        from_environment({ENDPOINT: "http://localhost:4318"})


def test_opentelemetry_is_loaded_only_where_traces_are_asked_for() -> None:
    probe = (
        "import sys, gwproto_ops.telemetry\n"
        "from gwproto_ops.tracing import from_environment\n"
        "assert from_environment({}) is None\n"
        "print('opentelemetry' in sys.modules)"
    )
    run = subprocess.run((sys.executable, "-c", probe), capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# Collectors


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.taken: list[tuple[str, str | None, ExportTraceServiceRequest]] = []


class _Post(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            data = gzip.decompress(data)
        request = ExportTraceServiceRequest.FromString(data)
        cast(Collector, self.server).taken.append((self.path, self.headers["x-token"], request))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Not on standard error."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(tracing, "PATIENCE", 60.0)  # however busy the machine is
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def values(fields: Any) -> dict[str, object]:
    """Protobuf's key-value pairs."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in fields}


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["", "my-gateway"])
def test_a_collector_gets_the_tree(collector: Collector, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{collector.server_address[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a%20b")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    tracer = from_environment(os.environ)
    assert tracer is not None
    tracer.export([traced(1), traced(0)])
    tracer.close()
    ((path, token, request),) = collector.taken
    assert (path, token) == ("/v1/traces", "a b")
    (resource,) = request.resource_spans
    assert values(resource.resource.attributes)["service.name"] == (name or "gwproto")
    (scope,) = resource.scope_spans
    assert (scope.scope.name, scope.schema_url) == ("gwproto", "https://opentelemetry.io/schemas/1.41.0")
    found = sorted(scope.spans, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))
    root, failed, served = found
    assert {span.trace_id.hex() for span in found} == {TRACE}
    assert (root.span_id.hex(), root.parent_span_id.hex()) == (ID[:16], PARENT)
    assert [(one.span_id.hex(), one.parent_span_id.hex()) for one in (failed, served)] == [
        (span_id(ID, 1), ID[:16]),
        (span_id(ID, 3), ID[:16]),
    ]
    assert root.trace_state == "rojo=1,congo=2"
    assert values(root.attributes)["gen_ai.usage.input_tokens"] == 100
    assert values(failed.attributes)["error.type"] == "server"
    assert values(served.attributes)["gen_ai.request.model"] == "m"
    assert (failed.status.code, served.status.code) == (2, 0)


@pytest.mark.sockets
def test_a_sampler_is_the_operators_choice(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{collector.server_address[1]}/otlp"
    )
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    tracer = from_environment(os.environ)
    assert tracer is not None
    low, high = "1" * 32, "1" * 16 + "f" * 16  # the ratio is of the trace id's lower half
    tracer.export([structs.replace(SERVED, request_id=one, attempts=()) for one in (low, high)])
    tracer.close()
    ((path, _, request),) = collector.taken
    assert path == "/otlp"
    assert [span.trace_id.hex() for span in request.resource_spans[0].scope_spans[0].spans] == [low]


class Stuck(SpanExporter):
    """Takes the first batch and does not come back until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.free = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.free.wait(30.0)
        return SpanExportResult.SUCCESS


def test_a_collector_that_hangs_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "PATIENCE", 0.01)
    stuck = Stuck()
    processor = BatchSpanProcessor(stuck, max_queue_size=64, max_export_batch_size=8)
    tracer = Tracer(processor, Spans(Resource({}), DEFAULT_ON))
    tracer.export([SERVED] * 500)
    assert stuck.entered.wait(30.0)
    tracer.export([SERVED] * 500)
    tracer.close()  # gives up, too
    assert not stuck.free.is_set()
    assert len(caplog.records) < 10
    stuck.free.set()
    for thread in threading.enumerate():
        if thread.name in ("last traces", "OtelBatchSpanRecordProcessor"):
            thread.join(30.0)


@pytest.mark.sockets
def test_a_collector_that_is_down_is_mentioned_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as gone:
        port = gone.server_address[1]
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")  # too short for a second try
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")  # as many exports as spans
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    for one in [one for one in logger.filters if isinstance(one, Seldom)]:
        logger.removeFilter(one)
    tracer = from_environment(os.environ)
    assert tracer is not None
    tracer.export([SERVED] * 5)
    tracer.close()
    assert [record.levelname for record in caplog.records if record.name == logger.name] == ["ERROR"]


def test_complaints_are_seldom_but_go_on() -> None:
    seldom = Seldom()

    def passes(at: float) -> bool:
        record = logging.makeLogRecord({"created": at})
        return bool(seldom.filter(record))

    times = (100.0, 100.1, 100.0 + SILENCE - 0.1, 100.0 + SILENCE, 100.1 + SILENCE)
    assert [passes(at) for at in times] == [True, False, False, True, False]

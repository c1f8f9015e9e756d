"""Traces for OpenTelemetry, made of outcomes: no request waits for them, and what is not sampled costs next to nothing.

All is configured by OpenTelemetry's own variables
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/); OTLP over HTTP is spoken.
"""

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gwproto import ConfigurationError, Outcome

if TYPE_CHECKING:  # the SDK takes 100 ms to load: only who exports traces needs it
    from opentelemetry.sdk.trace import SpanProcessor

    from gwproto_ops.spans import Spans

#: Seconds that the end of the process waits for what is not exported yet.
PATIENCE = 5.0
#: Seconds between two complaints about a collector that cannot be reached.
SILENCE = 60.0

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
# As the exporter reads them; what it cannot read it would log, secrets and all.
_HEADER = re.compile(r"[ \t]*[!#-'*+\-.0-9A-Z^-z|~]+[ \t]*=[ !#-+\--:<-\[\]-~\t]*\Z")


class Tracer:
    """Hands the spans of outcomes to ``processor``, which exports them from a thread of its own."""

    def __init__(self, processor: "SpanProcessor", spans: "Spans") -> None:
        self._processor = processor
        self._spans = spans

    def export(self, outcomes: Sequence[Outcome]) -> None:
        """Never waits for the collector: beyond the processor's queue, spans are lost."""
        for outcome in outcomes:
            for span in self._spans.of(outcome):
                self._processor.on_end(span)

    def close(self) -> None:
        """Export what waits, for a few seconds at most."""
        # The SDK would wait for half a minute.
        ending = threading.Thread(target=self._processor.shutdown, name="last traces", daemon=True)
        ending.start()
        ending.join(PATIENCE)


def from_environment(environ: Mapping[str, str]) -> Tracer | None:
    """The tracer that ``environ`` asks for by naming an endpoint; None: it does not.

    ``environ`` is the process's own: the SDK reads the rest of its variables from there. Raises
    :class:`ConfigurationError`.
    """
    endpoint = _first(environ, _ENDPOINTS)
    if not endpoint or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter == "none":
        return None
    problems = _problems(environ, endpoint)
    if exporter not in ("", "otlp"):
        problems.append(("OTEL_TRACES_EXPORTER", "only otlp and none are known here"))
    if problems:
        raise ConfigurationError(tuple(problems))
    try:
        return _tracer()
    except ImportError:
        missing = "asks for traces, which need a package: pip install 'gwproto[otel]'"
        raise ConfigurationError(((endpoint, missing),)) from None


def _problems(environ: Mapping[str, str], endpoint: str) -> list[tuple[str, str]]:
    """What is wrong with the variables. No value is quoted: addresses and headers may hold secrets."""
    problems = []
    if not _is_address(environ[endpoint]):
        problems.append((endpoint, "is not an http or https address"))
    protocol = _first(environ, _PROTOCOLS)
    if protocol and environ[protocol].strip() != "http/protobuf":
        problems.append((protocol, "only http/protobuf is spoken here"))
    headers = _first(environ, _HEADERS)
    if headers and not all(_HEADER.match(one) for one in environ[headers].split(",") if one.strip()):
        problems.append((headers, "is not a list of name=value, separated by commas"))
    return problems


def _is_address(text: str) -> bool:
    try:
        url = urlsplit(text)
    except ValueError:  # a bracket too few
        return False
    return url.scheme in ("http", "https") and bool(url.netloc)


def _tracer() -> Tracer:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from gwproto_ops.spans import Spans

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # the SDK's own default
        resource = resource.merge(Resource({SERVICE_NAME: "gwproto"}))
    complaints = logging.getLogger(trace_exporter.__name__)
    if not any(isinstance(one, Seldom) for one in complaints.filters):
        complaints.addFilter(Seldom())
    try:
        processor = BatchSpanProcessor(trace_exporter.OTLPSpanExporter())
    except ValueError as error:
        raise ConfigurationError((("OTEL_BSP_*", str(error)),)) from None
    # Only for its sampler, which it makes as OTEL_TRACES_SAMPLER says.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    return Tracer(processor, Spans(resource, provider.sampler))


class Seldom(logging.Filter):
    """Lets a line through once in ``SILENCE`` seconds: a collector that is down is not worth one every second."""

    def __init__(self) -> None:
        super().__init__()
        self._again_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created < self._again_at:
            return False
        self._again_at = record.created + SILENCE
        return True


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first of these variables that says something."""
    return next((name for name in names if environ.get(name, "").strip()), "")

"""The access log: one line per request, on the logger ``gwproto.access``.

A line holds what the record of a request holds, and that is never a prompt, an answer or a secret.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from msgspec import Struct
from msgspec.json import Encoder

from gwproto import Outcome

logger = logging.getLogger("gwproto.access")


class Attempt(Struct, frozen=True, gc=False, omit_defaults=True):
    """One upstream try. Times in milliseconds."""

    provider: str
    model: str
    ms: float
    status: int | None = None
    failure: str | None = None
    code: str = ""


class Line(Struct, frozen=True, gc=False, omit_defaults=True):
    """A request as the log shows it. Times in milliseconds."""

    at: str  # RFC 3339, UTC
    request_id: str
    ending: str
    status: int
    method: str
    endpoint: str
    ms: float
    first_content_ms: float | None = None
    key: str = ""
    project_id: str = ""
    model_asked: str = ""
    provider: str = ""
    model: str = ""
    stream: bool = False
    attempts: tuple[Attempt, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    partial_usage: bool = False
    error: str = ""


_encode = Encoder().encode


def log_outcome(outcome: Outcome) -> None:
    """Log a finished request. Costs next to nothing unless the logger is enabled for INFO."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", _encode(_line(outcome)).decode(), extra={"outcome": outcome})


def enable(stream: TextIO | None = None) -> None:
    """Send the access log to ``stream`` (standard error by default): JSON, or short lines on a terminal."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    if handler.stream.isatty():
        handler.setFormatter(Short())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class Short(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        outcome: Outcome = record.outcome  # type: ignore[attr-defined]  # log_outcome's extra
        at = datetime.fromtimestamp(outcome.at).strftime("%H:%M:%S")
        parts = [
            f"{at} {outcome.status} {outcome.method} {outcome.endpoint or '-'} {outcome.duration * 1e3:.0f}ms"
        ]
        if outcome.provider:
            parts.append(f"{outcome.provider}/{outcome.model}")
        if len(outcome.attempts) > 1:
            tried = ", ".join(f"{a.provider}: {a.failure}" for a in outcome.attempts if a.failure)
            parts.append(f"({len(outcome.attempts)} attempts; {tried})")
        if outcome.error:
            parts.append(outcome.error)
        parts.append(outcome.ending.value)
        # Endpoint and model may hold what a client sent: no control character reaches the terminal.
        return "".join(c if c.isprintable() else "?" for c in " ".join(parts))


def _line(outcome: Outcome) -> Line:
    usage = outcome.usage
    return Line(
        at=datetime.fromtimestamp(outcome.at, UTC).isoformat(timespec="milliseconds"),
        request_id=outcome.request_id,
        ending=outcome.ending.value,
        status=outcome.status,
        method=outcome.method,
        endpoint=outcome.endpoint,
        ms=_milliseconds(outcome.duration),
        first_content_ms=None
        if outcome.first_content_after is None
        else _milliseconds(outcome.first_content_after),
        key=outcome.key,
        project_id=outcome.project_id,
        model_asked=outcome.model_asked,
        provider=outcome.provider,
        model=outcome.model,
        stream=outcome.stream,
        attempts=tuple(
            [
                Attempt(a.provider, a.model, _milliseconds(a.duration), a.status, a.failure, a.code)
                for a in outcome.attempts
            ]
        ),
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        partial_usage=outcome.partial_usage,
        error=outcome.error,
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)

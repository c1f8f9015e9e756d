"""The ``translate`` command: a pipe through the codecs, without a network."""

import sys
from collections.abc import Iterator
from difflib import get_close_matches
from typing import BinaryIO

import msgspec

from gwproto.config import Quirks, overlaid
from gwproto.failures import ConfigurationError, Failure
from gwproto.wire.dialects import DIALECTS, Dialect
from gwproto.wire.neutral import Envelope, Reading, Rendering
from gwproto.wire.translate import StreamTranslator, error_body, translate_request, translate_response
from gwproto_ops import deployment

_READ = 65536


def translate(source: str, target: str, what: str | None, provider: str, model: str) -> None:
    """Raises ``ConfigurationError`` for unknown names, and after an error was written for what came in."""
    problems = [*_unknown("--from", source), *_unknown("--to", target)]
    known = deployment.known_providers()
    if provider and provider not in known:
        near = get_close_matches(provider, known, n=1, cutoff=0.0)[0]
        problems.append(("--provider", f"unknown provider {provider}; the nearest known one is {near}"))
    if problems:
        raise ConfigurationError(tuple(problems))
    quirks, max_output = Quirks(), 0
    if provider:
        quirks = known[provider].quirks
        for one in known[provider].models:
            if model in (one.id, one.upstream):
                quirks, max_output, model = overlaid(quirks, one.quirks), one.max_output, one.upstream
                if one.capabilities is not None and "reasoning" not in one.capabilities:
                    quirks = overlaid(quirks, Quirks(effort=()))
    reading = Reading(provider=provider, think_inline=quirks.think_inline or "no")
    envelope = Envelope(id="translated", created=0, model=model or "unknown")
    pair = DIALECTS[source], DIALECTS[target]
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    first = b""
    if what is None:
        first = stdin.read()
        what = _looks_like(first, pair[0])
    if what == "stream":
        failure = _stream(StreamTranslator(*pair, envelope, reading), _reads(first, stdin), stdout)
    elif what == "response":
        answer = translate_response(first or stdin.read(), *pair, envelope, reading)
        failure = answer if isinstance(answer, Failure) else None
        stdout.write((error_body(answer, pair[1]) if isinstance(answer, Failure) else answer) + b"\n")
    else:
        rendering = Rendering(model=model, quirks=quirks, max_output=max_output)
        request = translate_request(first or stdin.read(), *pair, rendering)
        failure = request if isinstance(request, Failure) else None
        if isinstance(request, Failure):
            stdout.write(error_body(request, pair[1]) + b"\n")
        else:
            print(f"POST …{request.path}", file=sys.stderr)
            if request.dropped:
                print(f"dropped: {', '.join(request.dropped)}", file=sys.stderr)
            stdout.write(request.body + b"\n")
    stdout.flush()
    if failure is not None:
        where = failure.param or what
        raise ConfigurationError(((where, f"{failure.kind.value}: {failure.message}"),))


def _unknown(flag: str, name: str) -> list[tuple[str, str]]:
    if name in DIALECTS:
        return []
    return [(flag, f"{name} is none of the formats known: {', '.join(DIALECTS)}")]


def _looks_like(text: bytes, source: Dialect) -> str:
    """Request, response or stream."""
    start = text.lstrip(b" \t\r\n\xef\xbb\xbf")
    if not start.startswith((b"{", b"[")):
        return "stream"
    try:
        keys = set(msgspec.json.decode(start, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, RecursionError):
        keys = {name for name in ("messages", "contents") if b'"%b"' % name.encode() in start}
    # Cloudflare's answers have messages, too.
    if "contents" in keys or ("messages" in keys and "success" not in keys):
        return "request"
    lines = [line for line in start.splitlines() if line.strip()]
    several = source.framing == "ndjson" and len(lines) > 1 and all(line.startswith(b"{") for line in lines)
    return "stream" if several else "response"


def _reads(first: bytes, stdin: BinaryIO) -> Iterator[bytes]:
    if first:
        yield first
    while data := getattr(stdin, "read1", stdin.read)(_READ):  # what is there, without waiting for more
        yield data


def _stream(translator: StreamTranslator, reads: Iterator[bytes], stdout: BinaryIO) -> Failure | None:
    for data in reads:
        if out := translator.receive(data):
            stdout.write(out)
            stdout.flush()
    stdout.write(translator.end())
    return translator.failure

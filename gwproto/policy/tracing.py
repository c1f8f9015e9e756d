"""A client's trace goes on at the providers: W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context-1/).

What a client sends may be anything. A ``traceparent`` that is not right is as if it had not been sent, and then
``tracestate`` is nothing, either (4.3).
"""

import re

from gwproto.values import Headers, Trace

#: Characters of ``tracestate`` that are passed on; longer ones are left out (3.3.1.5 asks for so many at least).
MAX_STATE = 512
#: Members that a ``tracestate`` may have (3.3.1.1).
MAX_MEMBERS = 32

_FIELDS = rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
_PARENT = re.compile(_FIELDS + rb"(-.*)?\Z", re.DOTALL)
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
# A later version's other flags mean what we do not know. ``random`` is level 2's, and true of the id that is kept.
_SAMPLED, _RANDOM = 0x01, 0x02
_MEMBER = re.compile(
    rb"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]\Z"
)


def trace_of(headers: Headers) -> Trace | None:
    """The trace that a request is part of; None without exactly one valid ``traceparent``."""
    parents = [value for name, value in headers if name == b"traceparent"]
    found = _PARENT.match(parents[0]) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == b"ff" or trace_id == _NO_TRACE or parent_id == _NO_SPAN or (version == b"00" and more):
        return None  # later versions may have more to say after the four fields (4.3), ours may not
    return Trace(
        trace_id.decode(), parent_id.decode(), int(flags, 16) & (_SAMPLED | _RANDOM), _state_of(headers)
    )


def span_id(request_id: str, number: int = 0) -> str:
    """The id of a span: of the request itself, or of the attempt with this ``number``.

    They follow from the request's id, which is random, so that the spans that are made of its record later have the
    ids that its providers were told. ``request_id`` has 32 hexadecimal digits.
    """
    return f"{int(request_id[:16], 16) ^ number or 0xFFFF_FFFF_FFFF_FFFF:016x}"  # all zeros would be no id


def trace_headers(trace: Trace, parent_id: str) -> Headers:
    """The headers that go on with ``trace`` from the span ``parent_id``, in version 00 whatever came (4.3)."""
    parent = (b"traceparent", f"00-{trace.trace_id}-{parent_id}-{trace.flags:02x}".encode())
    return (parent, (b"tracestate", trace.state.encode())) if trace.state else (parent,)


def _state_of(headers: Headers) -> str:
    """What tracing systems noted, as it came; ``""`` if it is too long or any of it is malformed (3.3)."""
    state = b",".join([value for name, value in headers if name == b"tracestate"])
    if not state or len(state) > MAX_STATE:
        return ""
    members = [member for one in state.split(b",") if (member := one.strip(b" \t"))]
    found = [_MEMBER.match(member) for member in members]
    keys = {one[1] for one in found if one is not None}
    return state.decode() if 0 < len(found) == len(keys) <= MAX_MEMBERS else ""

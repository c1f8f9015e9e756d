"""The client's side of a chat completion: its body collected, checked, and turned into a demand."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from msgspec import structs

from gwproto.config import Quirks, overlaid
from gwproto.exchange.values import Written
from gwproto.failures import Failure, FailureClass
from gwproto.policy.tracing import trace_of
from gwproto.policy.values import Grant
from gwproto.routing.catalog import Target
from gwproto.routing.demand import Demand
from gwproto.values import Headers, RequestHead, UpstreamRequest
from gwproto.wire.dialects import DIALECTS, Dialect
from gwproto.wire.effort import efforts_of, nearest
from gwproto.wire.neutral import ChatRequest, Envelope, Reading, Rendering
from gwproto.wire.openai.request import parse_request

_PROJECT = re.compile(rb"[A-Za-z0-9._:-]{1,64}\Z")
_HEEDED = frozenset(
    (
        b"traceparent",
        b"x-gateway-affinity",
        b"x-gateway-force-model",
        b"x-gateway-force-provider",
        b"x-gateway-project-id",
        b"x-gateway-require-params",
    )
)
_TRUTH = {b"true": True, b"1": True, b"yes": True, b"false": False, b"0": False, b"no": False}
_SENT = (b"content-type", b"application/json")
_HEADERS: dict[bool, Headers] = {  # of a request for a stream, or for one object
    False: (_SENT, (b"accept", b"application/json")),
    True: (_SENT, (b"accept", b"text/event-stream")),
}


class Intake:
    """Collects the request body up to ``limit`` bytes. ``grant``: what the client's key is bound to."""

    __slots__ = ("_grant", "_head", "_limit", "_pieces", "_size")

    def __init__(self, head: RequestHead, limit: int, grant: Grant | None = None) -> None:
        self._grant = grant
        self._head = head
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> Failure | None:
        """Take in a piece of the body; a failure when it is one too many."""
        self._size += len(data)
        if self._size > self._limit:
            self._pieces.clear()
            return too_large(self._limit)
        self._pieces.append(data)
        return None

    def whole(self) -> bytes:
        """The body, which is complete."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    def finish(self) -> tuple[ChatRequest, Demand] | Failure:
        """The body is complete: understand it. What a header and the body both say, the header decides."""
        request = parse_request(self.whole())
        if not isinstance(request, ChatRequest):
            return request
        provider = model = affinity = ""
        headers = self._head.headers
        for name, value in () if _HEEDED.isdisjoint(dict(headers)) else headers:
            if name == b"traceparent":
                request = structs.replace(request, trace=trace_of(headers))
            elif name == b"x-gateway-project-id":
                if _PROJECT.match(value) is None:
                    return _bad_header(
                        "x-gateway-project-id", "1 to 64 of the characters A-Z a-z 0-9 . _ : -"
                    )
                request = structs.replace(request, project_id=value.decode())
            elif name == b"x-gateway-require-params":
                required = _TRUTH.get(value.lower())
                if required is None:
                    return _bad_header("x-gateway-require-params", "true and false")
                request = structs.replace(request, require_params=required)
            elif name == b"x-gateway-force-provider":
                provider = value.decode("latin-1")
            elif name == b"x-gateway-force-model":
                model = value.decode("latin-1")
            elif name == b"x-gateway-affinity":
                affinity = value.decode("latin-1")
        grant = self._grant
        if grant is not None and grant.projects is not None:
            if request.project_id is None:
                request = structs.replace(request, project_id=grant.projects[0])
            elif request.project_id not in grant.projects:
                return not_for(request.project_id)
        return request, Demand(
            model=request.model,
            provider=provider,
            forced_model=model,
            needs=request.needs,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.max_tokens or 0,
            effort=request.effort,
            affinity=affinity or request.cache_key or "",
            parameters=frozenset(request.fields) if request.require_params else frozenset(),
            require_params=request.require_params,
            allowed=None if grant is None else grant.targets,
        )


def announced(headers: Headers, limit: int) -> Failure | None:
    """What is wrong with a body by its announcement, so that not a byte of it need be read."""
    for name, value in headers:
        if name == b"content-length" and int(value) > limit:  # digits: the guard saw to it
            return too_large(limit)
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            message = "Compressed request bodies are not taken."
            return Failure(FailureClass.INVALID, message, status=415, code="unsupported_encoding")
    return None


def too_slow() -> Failure:
    return Failure(
        FailureClass.INVALID, "The request body took too long.", status=408, code="request_timeout"
    )


def too_large(limit: int) -> Failure:
    return Failure(
        FailureClass.INVALID,
        f"The request body is larger than {limit} bytes.",
        status=413,
        type="invalid_request_error",
        code="request_too_large",
    )


def not_for(project: str) -> Failure:
    """A key bound to other projects was used for this one."""
    return Failure(
        FailureClass.INVALID,
        f"This API key may not be used for project {project!r}.",
        status=403,
        type="invalid_request_error",
        code="mismatched_project",
        param="project_id",
    )


def _bad_header(name: str, allowed: str) -> Failure:
    return Failure(
        FailureClass.INVALID,
        f"Invalid value for {name}: {allowed} are allowed.",
        status=400,
        type="invalid_request_error",
        code="invalid_value",
        param=name,
    )


def write(request: ChatRequest, target: Target, refused: frozenset[str] = frozenset()) -> Written:
    """``request`` written for ``target``. ``refused``: fields to leave out beside those the catalog tells of."""
    provider, model = target.provider, target.model
    dialect = DIALECTS[provider.format]
    quirks = overlaid(model.quirks, Quirks(drop=refused)) if refused else model.quirks
    effort, fields = _effort(request, target, quirks, dialect)
    rendering = Rendering(
        model=model.upstream,
        quirks=quirks,
        effort=fields,
        body=provider.body,
        max_output=model.max_output,
    )
    encoded = dialect.encode_request(request, rendering)
    path = provider.path + encoded.path
    if "{model}" in path:
        path = path.replace("{model}", quote(model.upstream))
    if provider.query:
        path += ("&" if "?" in path else "?") + provider.query
    headers = _HEADERS[request.stream]
    if provider.headers:
        headers = (*headers, *provider.headers)
    upstream = UpstreamRequest(
        origin=provider.origin,
        method="POST",
        target=path,
        headers=headers,
        body=encoded.body,
        credential=target.credential,
    )
    return Written(upstream, dialect, encoded.dropped, effort, request.max_tokens or encoded.max_tokens)


def reading_of(target: Target, max_tokens: int | None, request_id: str, wall: float) -> Reading:
    """What there is to know of a request when its answer's head comes, at the wall time ``wall``."""
    quirks = target.model.quirks
    return Reading(
        provider=target.provider.like,
        think_inline=quirks.think_inline or "no",
        max_tokens=max_tokens,
        limit_windows=quirks.limit_windows or {},
        seed=request_id,
        wall=wall,
    )


def _effort(
    request: ChatRequest, target: Target, quirks: Quirks, dialect: Dialect
) -> tuple[str, Mapping[str, object]]:
    """The effort in force at ``target`` (a level, ``auto`` for its default, ``none`` without such a control), and the
    fields that ask for it."""
    capabilities = target.model.capabilities
    if capabilities is not None and "reasoning" not in capabilities:
        return "none", {}
    if quirks.drop is not None and "reasoning_effort" in quirks.drop:
        return "none", {}
    if request.effort == "auto":
        return "auto", {}
    efforts = efforts_of(quirks, dialect.efforts)
    level = nearest(efforts, request.effort)
    return ("auto", {}) if level is None else (level, efforts[level])


def envelope_of(request_id: str, target: Target, wall: float) -> Envelope:
    """What the client sees where the provider names no id, time or model."""
    return Envelope(id=f"chatcmpl-{request_id}", created=int(wall), model=target.model.upstream)

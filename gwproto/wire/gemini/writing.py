"""Answers for clients of this format (Gemini API: GenerateContentResponse)."""

import msgspec
from msgspec import Struct

from gwproto.values import Usage
from gwproto.wire.conversation import arguments_object, data_url
from gwproto.wire.dialect import ChunkEncoder
from gwproto.wire.gemini.details import encode_logprobs, encode_usage, signature_of
from gwproto.wire.neutral import Chunk, Completion, Delta, Envelope, RawFields, ToolFragment
from gwproto.wire.openai.parts import NULL, encoder, one_line

_FINISHES = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}  # all others: STOP, calls included
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_DETAIL = "type.googleapis.com/google.rpc."

Fields = dict[str, object]


class _Url(Struct, frozen=True, gc=False):
    url: str = ""


class _Image(Struct, gc=False):
    image_url: _Url = _Url()


_images = msgspec.json.Decoder(list[_Image])


class _Call:
    """A call whose arguments still come in."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.arguments = ""
        self.extra: RawFields = {}

    def add(self, fragment: ToolFragment) -> None:
        self.id = self.id or fragment.id
        self.name = self.name or fragment.name
        self.arguments += fragment.arguments
        self.extra = self.extra | fragment.extra

    def whole(self) -> ToolFragment:
        return ToolFragment(None, self.id, self.name, self.arguments, self.extra)


def stream_encoder(envelope: Envelope) -> ChunkEncoder:
    """One stream's encoder: calls wait until they are whole, and finishes for the usage that goes with them."""
    return _StreamEncoder(envelope)


class _StreamEncoder:
    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._calls: dict[int, dict[int | None, _Call]] = {}  # by choice, then by index
        self._last: list[Fields] = []

    def __call__(self, chunk: Chunk) -> bytes:
        """The events, none or several. The format has no end marker: the last event has usage and finishes."""
        candidates = [fields for delta in chunk.deltas if (fields := self._candidate(delta)) is not None]
        out = self._event(candidates, None) if candidates else b""
        if chunk.usage is not None or (chunk.done and self._last):
            out += self._event(self._last, chunk.usage)
            self._last = []
        return out

    def _candidate(self, delta: Delta) -> Fields | None:
        calls = self._calls.setdefault(delta.choice, {})
        for fragment in delta.tools:
            calls.setdefault(fragment.index, _Call()).add(fragment)
        parts = _parts(delta.content, delta.reasoning, delta.refusal, delta.extra)
        if delta.finish is not None:
            parts += [_call_part(call.whole()) for call in calls.values()]
            self._last.append(_candidate(delta.choice, parts, delta.finish, delta.choice_extra))
        elif parts or delta.choice_extra:
            return _candidate(delta.choice, parts, None, delta.choice_extra)
        return None

    def _event(self, candidates: list[Fields], usage: Usage | None) -> bytes:
        fields = _response(candidates, usage, self._envelope)
        return b"data: " + one_line(encoder.encode(fields)) + b"\r\n\r\n"


def encode_completion(completion: Completion, envelope: Envelope) -> bytes:
    """The whole body."""
    candidates = []
    for choice in completion.choices:
        parts = _parts(choice.content, choice.reasoning, choice.refusal, choice.extra)
        parts += [_call_part(call) for call in choice.tools]
        candidates.append(_candidate(choice.index, parts, choice.finish, choice.choice_extra))
    return encoder.encode(_response(candidates, completion.usage, envelope))


def _response(candidates: list[Fields], usage: Usage | None, envelope: Envelope) -> Fields:
    fields: Fields = {"candidates": candidates} if candidates else {}
    if usage is not None:
        fields["usageMetadata"] = encode_usage(usage)
    return fields | {"modelVersion": envelope.model, "responseId": envelope.id}


def _candidate(index: int, parts: list[Fields], finish: str | None, choice_extra: RawFields) -> Fields:
    # Clients take the first part for granted.
    fields: Fields = {"content": {"parts": parts or [{"text": ""}], "role": "model"}}
    if finish is not None:
        fields["finishReason"] = _FINISHES.get(finish, "STOP")
    fields["index"] = index
    logprobs = encode_logprobs(choice_extra)
    if logprobs is not None:
        fields["logprobsResult"] = logprobs
    return fields


def _parts(content: str | None, reasoning: str | None, refusal: str | None, extra: RawFields) -> list[Fields]:
    parts: list[Fields] = []
    if reasoning:
        parts.append({"text": reasoning, "thought": True})
    # There is no word for a refusal, and it is meant to be read.
    parts += [{"text": text} for text in (content, refusal) if text]
    parts += _image_parts(extra)
    if signature := signature_of(extra):
        parts.append({"text": "", "thoughtSignature": signature})
    return parts


def _image_parts(extra: RawFields) -> list[Fields]:
    try:
        images = _images.decode(extra.get("images", NULL))
    except msgspec.ValidationError:
        return []
    blobs = [data_url(image.image_url.url) for image in images]
    return [{"inlineData": {"mimeType": kind, "data": data}} for kind, data in blobs if data]


def _call_part(call: ToolFragment) -> Fields:
    function: Fields = {"name": call.name, "args": arguments_object(call.arguments)}
    if call.id:
        function["id"] = call.id
    part: Fields = {"functionCall": function}
    if signature := signature_of(call.extra):
        part["thoughtSignature"] = signature
    return part


def encode_error(status: int, message: str, type: str, code: str | None, param: str | None) -> bytes:
    """Google's error body (google.rpc.Status); code and parameter stand in its details."""
    error: Fields = {"code": status, "message": message, "status": _STATUSES.get(status, "INTERNAL")}
    details: list[Fields] = []
    if code is not None:
        details.append({"@type": f"{_DETAIL}ErrorInfo", "reason": code.upper(), "domain": "gwproto"})
    if param is not None:
        violation = {"field": param, "description": message}
        details.append({"@type": f"{_DETAIL}BadRequest", "fieldViolations": [violation]})
    if details:
        error["details"] = details
    return encoder.encode({"error": error})

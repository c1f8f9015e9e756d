"""Anthropic's Messages API as it speaks it itself."""

import datetime
import re

import msgspec

from gwproto.testing.answers import Answer, Ask, tokens
from gwproto.testing.formats.anthropic_requests import decode, signature
from gwproto.testing.formats.format import BadRequest, Format, Stamp, Stream, bearer, header, pieces
from gwproto.values import Headers

_encode = msgspec.json.Encoder().encode

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def check(headers: Headers) -> None:
    """Raises :class:`BadRequest`: every request says which version of the API it means."""
    if not header(headers, b"anthropic-version"):
        raise BadRequest("anthropic-version: header is required")


def key(headers: Headers, target: str) -> str:
    """``x-api-key``, or a bearer token as OAuth has it."""
    return header(headers, b"x-api-key") or bearer(headers)


def _usage(ask: Ask, answer: Answer) -> dict[str, object]:
    usage: dict[str, object] = {
        "input_tokens": len(tokens(ask.prompt)),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": answer.count,
    }
    if answer.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": len(answer.reasoning)}
    return usage


def _message(stamp: Stamp, content: list[dict[str, object]], usage: dict[str, object]) -> dict[str, object]:
    return {
        "id": stamp.id,
        "type": "message",
        "role": "assistant",
        "model": stamp.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _call_id(stamp: Stamp, index: int) -> str:
    return f"toolu_{stamp.id[-22:]}{index}"


def whole(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp) -> bytes:
    """A ``message`` object."""
    (answer,) = choices
    content: list[dict[str, object]] = []
    if answer.reasoning:
        thinking = "".join(answer.reasoning)
        content.append({"type": "thinking", "thinking": thinking, "signature": signature(thinking)})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for number, call in enumerate(answer.calls):
        input_ = msgspec.json.decode(call.arguments)
        content.append(
            {"type": "tool_use", "id": _call_id(stamp, number), "name": call.name, "input": input_}
        )
    message = _message(stamp, content, _usage(ask, answer))
    return _encode(message | {"stop_reason": _STOP_REASONS[answer.finish]})


def stream(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp, words: int) -> Stream:
    """``words`` tokens to a chunk; what opens or closes a block goes with its first or last chunk."""
    (answer,) = choices
    content: list[bytes] = []
    blocks = 0

    def block(start: dict[str, object], kind: str, name: str, texts: list[str], end: str = "") -> None:
        nonlocal blocks
        events = [_delta(blocks, kind, name, text) for text in texts]
        opening = _event("content_block_start", index=blocks, content_block=start)
        closing = _event("content_block_stop", index=blocks)
        if end:
            closing = _delta(blocks, "signature_delta", "signature", end) + closing
        events[0] = opening + events[0]
        events[-1] += closing
        content.extend(events)
        blocks += 1

    if answer.reasoning:
        start: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
        sealed = signature("".join(answer.reasoning))
        block(start, "thinking_delta", "thinking", _texts(answer.reasoning, words), sealed)
    if answer.tokens:
        block({"type": "text", "text": ""}, "text_delta", "text", _texts(answer.tokens, words))
    for number, call in enumerate(answer.calls):
        start = {"type": "tool_use", "id": _call_id(stamp, number), "name": call.name, "input": {}}
        parts = ["", *_texts(tokens(call.arguments), words)] if call.arguments != "{}" else [""]
        block(start, "input_json_delta", "partial_json", parts)
    usage = _usage(ask, answer)
    begun = _message(stamp, [], usage | {"output_tokens": 1})
    ending = {"stop_reason": _STOP_REASONS[answer.finish], "stop_sequence": None}
    return Stream(
        (_event("message_start", message=begun), _event("ping")),
        tuple(content),
        (_event("message_delta", delta=ending, usage=usage),),
        done=_event("message_stop"),
    )


def _texts(said: tuple[str, ...], words: int) -> list[str]:
    return ["".join(piece) for piece in pieces(said, words)]


def _delta(index: int, kind: str, name: str, text: str) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": kind, name: text})


def _event(kind: str, **fields: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode({"type": kind, **fields}))


_ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "Invalid request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your account has a billing problem. Please check your payment details."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    405: ("invalid_request_error", "Method Not Allowed"),
    409: ("conflict_error", "The resource was changed meanwhile."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: ("invalid_request_error", "Unprocessable request"),
    429: ("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    503: ("overloaded_error", "Overloaded"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_SERVER_ERROR = ("api_error", "Internal server error")


def error(
    status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """An error body; Anthropic's have no parameter and no code."""
    kind, words = _ERRORS.get(status, _SERVER_ERROR)
    fields = {"type": kind, "message": message or words}
    return _encode({"type": "error", "error": fields, "request_id": "req_simulated"})


def error_event(status: int) -> bytes:
    """An error inside a stream."""
    return b"event: error\ndata: %s\n\n" % error(status)


def models(names: tuple[str, ...], created: int, owner: str) -> bytes:
    """The list of models, all on its first page."""
    since = datetime.datetime.fromtimestamp(created, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    listed = [
        {"type": "model", "id": name, "display_name": name, "created_at": since, "lifecycle": "active"}
        for name in names
    ]
    ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
    return _encode({"data": listed, "has_more": False, **ends})


def limits(limit: int, remaining: int, reset: float) -> Headers:
    """Rate limits in headers. The real ones tell the reset's time of day, which is not known here."""
    return (
        (b"anthropic-ratelimit-requests-limit", b"%d" % limit),
        (b"anthropic-ratelimit-requests-remaining", b"%d" % remaining),
    )


FORMAT = Format(
    name="anthropic",
    base="/v1",
    id_prefix="msg_",
    key=key,
    check=check,
    chat=re.compile("/messages$"),
    listing=re.compile("/models$"),
    decode=decode,
    whole=whole,
    stream=stream,
    error=error,
    error_event=error_event,
    models=models,
    limits=limits,
)

"""Amazon Bedrock's Converse as its service speaks it, with an API key instead of a signature."""

import re
import struct
import zlib

import msgspec

from gwproto.testing.answers import Answer, Ask, tokens
from gwproto.testing.formats.bedrock_requests import PATH, decode, signature
from gwproto.testing.formats.format import Format, Stamp, Stream, bearer, pieces

_encode = msgspec.json.Encoder().encode

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_METRICS = {"latencyMs": 1234}


def _usage(ask: Ask, answer: Answer) -> dict[str, object]:
    asked = len(tokens(ask.prompt))
    return {"inputTokens": asked, "outputTokens": answer.count, "totalTokens": asked + answer.count}


def _call_id(stamp: Stamp, index: int) -> str:
    return f"tooluse_{stamp.id[-22:]}{index}"


def whole(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp) -> bytes:
    """The answer, which names neither itself nor its model."""
    (answer,) = choices
    content: list[dict[str, object]] = []
    if answer.reasoning:
        thinking = "".join(answer.reasoning)
        reasoned = {"text": thinking, "signature": signature(thinking)}
        content.append({"reasoningContent": {"reasoningText": reasoned}})
    if answer.text:
        content.append({"text": answer.text})
    for number, call in enumerate(answer.calls):
        input_ = msgspec.json.decode(call.arguments)
        tool = {"toolUseId": _call_id(stamp, number), "name": call.name, "input": input_}
        content.append({"toolUse": tool})
    fields = {
        "metrics": _METRICS,
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": _STOP_REASONS[answer.finish],
        "usage": _usage(ask, answer),
    }
    return _encode(fields)


def stream(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp, words: int) -> Stream:
    """``words`` tokens to a chunk; what opens or closes a block goes with its first or last chunk."""
    (answer,) = choices
    content: list[bytes] = []
    blocks = 0

    def block(deltas: list[dict[str, object]], start: bytes = b"") -> None:
        nonlocal blocks
        events = [_event("contentBlockDelta", contentBlockIndex=blocks, delta=delta) for delta in deltas]
        events[0] = start + events[0]
        events[-1] += _event("contentBlockStop", contentBlockIndex=blocks)
        content.extend(events)
        blocks += 1

    if answer.reasoning:
        thoughts: list[dict[str, object]] = [{"text": text} for text in _texts(answer.reasoning, words)]
        thoughts.append({"signature": signature("".join(answer.reasoning))})
        block([{"reasoningContent": thought} for thought in thoughts])
    if answer.tokens:
        block([{"text": text} for text in _texts(answer.tokens, words)])
    for number, call in enumerate(answer.calls):
        tool = {"toolUseId": _call_id(stamp, number), "name": call.name}
        start = _event("contentBlockStart", contentBlockIndex=blocks, start={"toolUse": tool})
        block([{"toolUse": {"input": text}} for text in ["", *_texts(tokens(call.arguments), words)]], start)
    return Stream(
        (_event("messageStart", role="assistant"),),
        tuple(content),
        (_event("messageStop", stopReason=_STOP_REASONS[answer.finish]),),
        (_event("metadata", metrics=_METRICS, usage=_usage(ask, answer)),),
    )


def _texts(said: tuple[str, ...], words: int) -> list[str]:
    return ["".join(piece) for piece in pieces(said, words)]


def _event(kind: str, **fields: object) -> bytes:
    """A frame with an event; padding hides how long the text in it is."""
    padding = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[: 7 * len(fields)]
    return _frame("event", kind, _encode({**fields, "p": padding}))


def _frame(kind: str, name: str, payload: bytes) -> bytes:
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    block = b"".join(
        struct.pack(">B", len(header)) + header.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for header, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


_ERRORS: dict[int, tuple[str, str]] = {
    400: ("ValidationException", "The request is malformed."),
    401: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    402: ("AccessDeniedException", "Your AWS account has a payment problem."),
    403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
    404: (
        "ResourceNotFoundException",
        "Could not resolve the foundation model from the provided model identifier.",
    ),
    405: ("ValidationException", "Method Not Allowed"),
    408: ("ModelTimeoutException", "The model took too long to answer."),
    413: ("ValidationException", "The request body is too large."),
    422: ("ValidationException", "The request cannot be processed."),
    424: ("ModelErrorException", "The model could not process the request."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
    504: ("ModelTimeoutException", "The model took too long to answer."),
    529: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
}
_SERVER_ERROR = (
    "InternalServerException",
    "The system encountered an unexpected error during processing. Try your request again.",
)


def error(
    status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """An error body. The real ones name the exception in a header."""
    kind, words = _ERRORS.get(status, _SERVER_ERROR)
    if code == "model_not_found":
        message = None  # in the service's own words
    return _encode({"message": message or words, "__type": kind})


def error_event(status: int) -> bytes:
    """An exception inside a stream."""
    kind, words = _ERRORS.get(status, _SERVER_ERROR)
    return _frame("exception", kind[0].lower() + kind[1:], _encode({"message": words}))


def models(names: tuple[str, ...], created: int, owner: str) -> bytes:
    """The list of models, which the real service has at another host."""
    summaries = [{"modelId": name, "modelName": name, "providerName": owner} for name in names]
    return _encode({"modelSummaries": summaries})


FORMAT = Format(
    name="bedrock",
    base="",
    id_prefix="",
    stream_type=b"application/vnd.amazon.eventstream",
    key=bearer,
    chat=PATH,
    listing=re.compile("^/foundation-models$"),
    decode=decode,
    whole=whole,
    stream=stream,
    error=error,
    error_event=error_event,
    models=models,
)

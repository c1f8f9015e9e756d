"""Answers in the service's own shape, for clients that speak it (Cloudflare: Workers AI, text generation).

It has no words for reasoning, a finish reason or a second choice, and makes one event of every tool call.
"""

import msgspec

from gwproto.sse.encoder import DONE
from gwproto.wire.conversation import arguments_object
from gwproto.wire.dialect import ChunkEncoder
from gwproto.wire.neutral import Chunk, Completion, Envelope, ToolFragment
from gwproto.wire.openai.parts import one_line
from gwproto.wire.openai.usage import encode_usage

_encode = msgspec.json.Encoder().encode

# The service's own numbers, where one fits.
_CODES = {
    400: 5006,
    401: 10000,
    403: 5018,
    404: 5007,
    405: 5005,
    408: 3007,
    413: 3006,
    429: 3040,
    503: 3040,
    504: 3007,
}


def stream_encoder(envelope: Envelope) -> ChunkEncoder:
    """One stream's encoder: a tool call is held until it is whole."""
    return _StreamEncoder()


class _StreamEncoder:
    def __init__(self) -> None:
        self._calls: dict[int, ToolFragment] = {}  # as begun
        self._arguments: dict[int, list[str]] = {}

    def __call__(self, chunk: Chunk) -> bytes:
        """The events for one normalised chunk, framed; none while it only adds to a call."""
        out: list[bytes] = []
        for delta in chunk.deltas:
            if delta.choice:
                continue
            for fragment in delta.tools:
                self._add(fragment)
            if text := delta.content or delta.refusal:
                out.append(_event({"response": text}))
            if delta.finish is not None and self._calls:
                calls = [_call(call, "".join(self._arguments[index])) for index, call in self._calls.items()]
                out.append(_event({"response": "", "tool_calls": calls}))
        if chunk.usage is not None:
            out.append(_event({"response": "", "usage": encode_usage(chunk.usage)}))
        if chunk.done:
            out.append(DONE)
        return b"".join(out)

    def _add(self, fragment: ToolFragment) -> None:
        index = fragment.index or 0
        self._calls.setdefault(index, fragment)
        self._arguments.setdefault(index, []).append(fragment.arguments)


def _event(fields: dict[str, object]) -> bytes:
    return b"data: " + one_line(_encode(fields)) + b"\n\n"


def _call(call: ToolFragment, arguments: str) -> dict[str, object]:
    return {"id": call.id, "name": call.name, "arguments": arguments_object(arguments)}


def encode_completion(completion: Completion, envelope: Envelope) -> bytes:
    """The whole answer in Cloudflare's envelope. ``response`` is text even where JSON was asked for."""
    result: dict[str, object] = {"response": None}
    for choice in completion.choices[:1]:
        result["response"] = choice.content or choice.refusal
        if choice.tools:
            result["tool_calls"] = [_call(call, call.arguments) for call in choice.tools]
    if completion.usage is not None:
        result["usage"] = encode_usage(completion.usage)
    return _encode({"result": result, "success": True, "errors": [], "messages": []})


def encode_error(status: int, message: str, type: str, code: str | None, param: str | None) -> bytes:
    """Cloudflare's envelope of a failure, whose codes are numbers."""
    error = {"code": _CODES.get(status, status), "message": message}
    return _encode({"result": None, "success": False, "errors": [error], "messages": []})

"""Answers and errors as a client of Ollama's API expects them."""

import datetime

import msgspec

from gwproto.values import Usage
from gwproto.wire.conversation import arguments_object
from gwproto.wire.dialect import ChunkEncoder
from gwproto.wire.neutral import Chunk, Completion, Delta, Envelope, RawFields, ToolFragment
from gwproto.wire.openai.parts import fields_of, one_line

_encode = msgspec.json.Encoder().encode

# OpenAI's words that are none here: calls are seen, not announced.
_REASONS = {"tool_calls": "stop", "function_call": "stop"}


def stream_encoder(envelope: Envelope) -> ChunkEncoder:
    """One stream's encoder: calls are written whole, and the end with all that is known then."""
    return _StreamEncoder(envelope)


class _StreamEncoder:
    def __init__(self, envelope: Envelope) -> None:
        self._head = _head(envelope)
        self._calls: dict[int, ToolFragment] = {}
        self._finish = "stop"
        self._usage: Usage | None = None

    def __call__(self, chunk: Chunk) -> bytes:
        """The lines that a chunk completes. Only the first choice can be said."""
        lines = [line for delta in chunk.deltas if delta.choice == 0 for line in self._delta(delta)]
        self._usage = chunk.usage or self._usage
        if chunk.done:
            lines.append(self._line({"content": ""}, done=True, **_end(self._finish, self._usage)))
        return b"".join(lines)

    def _delta(self, delta: Delta) -> list[bytes]:
        for fragment in delta.tools:
            self._calls[fragment.index or 0] = _joined(self._calls.get(fragment.index or 0), fragment)
        lines = []
        text, logprobs = (delta.content or "") + (delta.refusal or ""), _logprobs(delta.choice_extra)
        if text or delta.reasoning or logprobs:
            lines.append(self._line(_message(text, delta.reasoning, ()), done=False, **logprobs))
        if delta.finish is not None:
            self._finish = delta.finish
            if self._calls:
                lines.append(self._line(_message("", None, tuple(self._calls.values())), done=False))
        return lines

    def _line(self, message: dict[str, object], **fields: object) -> bytes:
        line = {**self._head, "message": {"role": "assistant", **message}, **fields}
        return one_line(_encode(line)) + b"\n"


def _joined(known: ToolFragment | None, fragment: ToolFragment) -> ToolFragment:
    if known is None:
        return fragment
    return ToolFragment(known.index, known.id, known.name, known.arguments + fragment.arguments)


def _head(envelope: Envelope) -> dict[str, object]:
    created = datetime.datetime.fromtimestamp(envelope.created, datetime.UTC)
    return {"model": envelope.model, "created_at": created.isoformat().replace("+00:00", "Z")}


def _message(text: str, reasoning: str | None, calls: tuple[ToolFragment, ...]) -> dict[str, object]:
    message: dict[str, object] = {"content": text}
    if reasoning:
        message["thinking"] = reasoning
    if calls:
        message["tool_calls"] = [_call(number, call) for number, call in enumerate(calls)]
    return message


def _call(number: int, call: ToolFragment) -> dict[str, object]:
    arguments = arguments_object(call.arguments)
    return {"id": call.id, "function": {"index": number, "name": call.name, "arguments": arguments}}


def _logprobs(choice_extra: RawFields) -> dict[str, object]:
    """Tokens are spelled alike in both formats."""
    tokens = fields_of(choice_extra.get("logprobs")).get("content")
    return {} if tokens is None else {"logprobs": tokens}


def _end(finish: str, usage: Usage | None) -> dict[str, object]:
    counts = usage or Usage()
    return {
        "done_reason": _REASONS.get(finish, finish),
        "prompt_eval_count": counts.prompt_tokens,
        "eval_count": counts.completion_tokens,
    }


def encode_completion(completion: Completion, envelope: Envelope) -> bytes:
    """The whole body: a stream's last line, with all of the first choice's message."""
    choice = completion.choices[0]
    text = (choice.content or "") + (choice.refusal or "")
    message = {"role": "assistant", **_message(text, choice.reasoning, choice.tools)}
    end = {"done": True, **_end(choice.finish, completion.usage), **_logprobs(choice.choice_extra)}
    return _encode({**_head(envelope), "message": message, **end})


def encode_error(status: int, message: str, type: str, code: str | None, param: str | None) -> bytes:
    """The error body, which says nothing but the message."""
    return _encode({"error": message})

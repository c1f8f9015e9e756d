"""Answers of the Messages API, written: streams, whole ones and errors (Anthropic: messages API, streaming, errors)."""

from collections.abc import Iterable

import msgspec

from gwproto.values import Usage
from gwproto.wire.anthropic.thinking import thinking_blocks
from gwproto.wire.conversation import arguments_object
from gwproto.wire.dialect import ChunkEncoder
from gwproto.wire.neutral import Chunk, Completion, Delta, Envelope, ToolFragment
from gwproto.wire.openai.parts import one_line

_encode = msgspec.json.Encoder().encode

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class _Stream:
    """One stream's encoder: a message of blocks, each closed before the next begins.

    OpenAI's usage comes after the finish and Anthropic's with it, so the finish waits for the end.
    """

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._begun = False
        self._blocks = 0
        self._open = ""  # the kind of the last block, "" once it is closed
        self._tools: dict[int | None, int] = {}  # the block of each call
        self._finish = "end_turn"
        self._usage: Usage | None = None

    def __call__(self, chunk: Chunk) -> bytes:
        """The events for one normalised chunk."""
        events: list[dict[str, object]] = []
        if not self._begun:
            self._begun = True
            events.append({"type": "message_start", "message": _message(self._envelope, [], None, None)})
        for delta in chunk.deltas:
            if delta.choice == 0:  # the format has no others
                self._delta(delta, events)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.done:
            self._close(events)
            ending = {"stop_reason": self._finish, "stop_sequence": None}
            events.append({"type": "message_delta", "delta": ending, "usage": _usage(self._usage)})
            events.append({"type": "message_stop"})
        return b"".join(map(_framed, events))

    def _delta(self, delta: Delta, events: list[dict[str, object]]) -> None:
        blocks = thinking_blocks(delta.extra)
        if delta.reasoning and not any(block["type"] == "thinking" for block in blocks):
            self._piece("thinking", "thinking", delta.reasoning, events)
        for block in blocks:
            self._thought(block, events)
        for text in (delta.content, delta.refusal):
            if text:
                self._piece("text", "text", text, events)
        for fragment in delta.tools:
            self._tool(fragment, events)
        if delta.finish is not None:
            self._finish = _STOP_REASONS.get(delta.finish, "end_turn")

    def _piece(self, kind: str, name: str, text: str, events: list[dict[str, object]]) -> None:
        """Text, for the open block if it is of its kind."""
        if self._open != kind:
            signature = {"signature": ""} if kind == "thinking" else {}
            self._begin({"type": kind, name: "", **signature}, events)
        events.append(_delta(self._blocks - 1, {"type": f"{kind}_delta", name: text}))

    def _thought(self, block: dict[str, object], events: list[dict[str, object]]) -> None:
        """A thinking block for replay: it seals the one that was streamed, or comes in one piece."""
        if block["type"] == "redacted_thinking":
            self._begin(block, events)
        else:
            if self._open != "thinking":
                self._begin({"type": "thinking", "thinking": "", "signature": ""}, events)
                events.append(
                    _delta(self._blocks - 1, {"type": "thinking_delta", "thinking": block["thinking"]})
                )
            events.append(
                _delta(self._blocks - 1, {"type": "signature_delta", "signature": block["signature"]})
            )
        self._close(events)

    def _tool(self, fragment: ToolFragment, events: list[dict[str, object]]) -> None:
        if fragment.id is not None:
            block: dict[str, object] = {
                "type": "tool_use",
                "id": fragment.id,
                "name": fragment.name,
                "input": {},
            }
            self._begin(block, events)
            self._tools[fragment.index] = self._blocks - 1
        if fragment.arguments:
            block_index = self._tools[fragment.index]
            events.append(
                _delta(block_index, {"type": "input_json_delta", "partial_json": fragment.arguments})
            )

    def _begin(self, block: dict[str, object], events: list[dict[str, object]]) -> None:
        self._close(events)
        events.append({"type": "content_block_start", "index": self._blocks, "content_block": block})
        self._open = str(block["type"])
        self._blocks += 1

    def _close(self, events: list[dict[str, object]]) -> None:
        if self._open:
            events.append({"type": "content_block_stop", "index": self._blocks - 1})
            self._open = ""


def stream_encoder(envelope: Envelope) -> ChunkEncoder:
    """One for each stream: blocks must be opened and closed."""
    return _Stream(envelope)


def _framed(event: dict[str, object]) -> bytes:
    """Anthropic's SDKs pass over events without a name."""
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), one_line(_encode(event)))


def _delta(index: int, delta: dict[str, object]) -> dict[str, object]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _message(
    envelope: Envelope, content: list[dict[str, object]], finish: str | None, usage: Usage | None
) -> dict[str, object]:
    return {
        "id": envelope.id,
        "type": "message",
        "role": "assistant",
        "model": envelope.model,
        "content": content,
        "stop_reason": finish,
        "stop_sequence": None,
        "usage": _usage(usage),
    }


def _usage(usage: Usage | None) -> dict[str, object]:
    usage = usage or Usage()
    fresh = usage.prompt_tokens - (usage.cached_tokens or 0) - (usage.cache_write_tokens or 0)
    fields: dict[str, object] = {"input_tokens": max(0, fresh)}
    if usage.cache_write_tokens is not None:
        fields["cache_creation_input_tokens"] = usage.cache_write_tokens
    if usage.cached_tokens is not None:
        fields["cache_read_input_tokens"] = usage.cached_tokens
    fields["output_tokens"] = usage.completion_tokens
    if usage.reasoning_tokens is not None:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return fields


def encode_completion(completion: Completion, envelope: Envelope) -> bytes:
    """The whole message; the format has one choice."""
    choice = completion.choices[0]
    content = thinking_blocks(choice.extra)
    if choice.reasoning and not any(block["type"] == "thinking" for block in content):
        content.insert(0, {"type": "thinking", "thinking": choice.reasoning, "signature": ""})
    content += [{"type": "text", "text": text} for text in (choice.content, choice.refusal) if text]
    content += _calls(choice.tools)
    finish = _STOP_REASONS.get(choice.finish, "end_turn")
    return _encode(_message(envelope, content, finish, completion.usage))


def _calls(tools: Iterable[ToolFragment]) -> list[dict[str, object]]:
    return [
        {"type": "tool_use", "id": one.id, "name": one.name, "input": arguments_object(one.arguments)}
        for one in tools
    ]


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def encode_error(status: int, message: str, type: str, code: str | None, param: str | None) -> bytes:
    """The error body. Anthropic's types follow from the status; it has no words for ``code`` and ``param``."""
    usual = "api_error" if status >= 500 else "invalid_request_error"
    error = {"type": _ERROR_TYPES.get(status, usual), "message": message}
    return _encode({"type": "error", "error": error})

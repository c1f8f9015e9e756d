"""Answers of Converse, written: streams, whole ones and errors (Amazon Bedrock Runtime: ConverseStream, Converse).

An answer in this format says neither its id, its time nor its model.
"""

import msgspec

from gwproto.sse.eventstream import encode_message
from gwproto.values import Usage
from gwproto.wire.bedrock.reasoning import Block, reasoning_blocks
from gwproto.wire.conversation import arguments_object
from gwproto.wire.dialect import ChunkEncoder
from gwproto.wire.neutral import Chunk, Completion, Delta, Envelope, ToolFragment

_encode = msgspec.json.Encoder().encode

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "content_filtered",
}
_METRICS = {"latencyMs": 0}  # the format wants some


class _Stream:
    """One stream's encoder: a message of blocks, each closed before the next begins."""

    def __init__(self, envelope: Envelope) -> None:
        self._begun = False
        self._blocks = 0
        self._open = ""  # the kind of the last block, "" once it is closed
        self._tools: dict[int | None, int] = {}  # the block of each call
        self._finish = "end_turn"
        self._usage: Usage | None = None

    def __call__(self, chunk: Chunk) -> bytes:
        """The frames for one normalised chunk."""
        events: list[bytes] = []
        if not self._begun:
            self._begun = True
            events.append(_event("messageStart", role="assistant"))
        for delta in chunk.deltas:
            if delta.choice == 0:  # the format has no others
                self._delta(delta, events)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.done:
            self._close(events)
            events.append(_event("messageStop", stopReason=self._finish))
            events.append(_event("metadata", usage=_usage(self._usage), metrics=_METRICS))
        return b"".join(events)

    def _delta(self, delta: Delta, events: list[bytes]) -> None:
        blocks = reasoning_blocks(delta.extra)
        if delta.reasoning and not any("reasoningText" in block for block in blocks):
            self._piece("reasoning", {"reasoningContent": {"text": delta.reasoning}}, events)
        for block in blocks:
            self._reasoning(block, events)
        for text in (delta.content, delta.refusal):
            if text:
                self._piece("text", {"text": text}, events)
        for fragment in delta.tools:
            self._tool(fragment, events)
        if delta.finish is not None:
            self._finish = _STOP_REASONS.get(delta.finish, "end_turn")

    def _piece(self, kind: str, delta: Block, events: list[bytes]) -> None:
        """Text, for the open block if it is of its kind. Such blocks begin without a word."""
        if self._open != kind:
            self._begin(kind, events)
        self._write(self._blocks - 1, delta, events)

    def _reasoning(self, block: Block, events: list[bytes]) -> None:
        """A block to be sent back: it seals the one that was streamed, or comes in one piece."""
        text = block.get("reasoningText")
        if isinstance(text, dict):
            if self._open != "reasoning":
                self._piece("reasoning", {"reasoningContent": {"text": text["text"]}}, events)
            self._piece("reasoning", {"reasoningContent": {"signature": text["signature"]}}, events)
        else:
            self._begin("reasoning", events)
            self._write(self._blocks - 1, {"reasoningContent": block}, events)
        self._close(events)

    def _tool(self, fragment: ToolFragment, events: list[bytes]) -> None:
        if fragment.id is not None:
            self._begin("tool", events)
            self._tools[fragment.index] = self._blocks - 1
            start = {"toolUse": {"toolUseId": fragment.id, "name": fragment.name}}
            events.append(_event("contentBlockStart", start=start, contentBlockIndex=self._blocks - 1))
        if fragment.arguments:
            delta: Block = {"toolUse": {"input": fragment.arguments}}
            self._write(self._tools[fragment.index], delta, events)

    def _write(self, index: int, delta: Block, events: list[bytes]) -> None:
        events.append(_event("contentBlockDelta", contentBlockIndex=index, delta=delta))

    def _begin(self, kind: str, events: list[bytes]) -> None:
        self._close(events)
        self._open = kind
        self._blocks += 1

    def _close(self, events: list[bytes]) -> None:
        if self._open:
            events.append(_event("contentBlockStop", contentBlockIndex=self._blocks - 1))
            self._open = ""


def stream_encoder(envelope: Envelope) -> ChunkEncoder:
    """One for each stream: blocks are numbered, and closed."""
    return _Stream(envelope)


def _event(kind: str, **fields: object) -> bytes:
    return encode_message("event", kind, _encode(fields))


def _usage(usage: Usage | None) -> Block:
    usage = usage or Usage()
    read, written = usage.cached_tokens, usage.cache_write_tokens
    fields: Block = {
        "inputTokens": max(0, usage.prompt_tokens - (read or 0) - (written or 0)),
        "outputTokens": usage.completion_tokens,
        "totalTokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if read is not None:
        fields["cacheReadInputTokens"] = read
    if written is not None:
        fields["cacheWriteInputTokens"] = written
    return fields


def encode_completion(completion: Completion, envelope: Envelope) -> bytes:
    """The whole answer; the format has one choice."""
    choice = completion.choices[0]
    reasoning = reasoning_blocks(choice.extra)
    if choice.reasoning and not any("reasoningText" in block for block in reasoning):
        reasoning.insert(0, {"reasoningText": {"text": choice.reasoning}})
    content: list[Block] = [{"reasoningContent": block} for block in reasoning]
    content += [{"text": text} for text in (choice.content, choice.refusal) if text]
    for call in choice.tools:
        tool = {"toolUseId": call.id, "name": call.name, "input": arguments_object(call.arguments)}
        content.append({"toolUse": tool})
    fields = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _STOP_REASONS.get(choice.finish, "end_turn"),
        "usage": _usage(completion.usage),
        "metrics": _METRICS,
    }
    return _encode(fields)


_EXCEPTIONS = {
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}


def encode_error(status: int, message: str, type: str, code: str | None, param: str | None) -> bytes:
    """The error body. Bedrock's exceptions follow from the status; it has no words for ``code`` and ``param``."""
    usual = "InternalServerException" if status >= 500 else "ValidationException"
    return _encode({"message": message, "__type": _EXCEPTIONS.get(status, usual)})

"""Answers and errors as a client of Cohere's API expects them."""

import msgspec
from msgspec import Struct

from gwproto.values import Usage
from gwproto.wire.dialect import ChunkEncoder
from gwproto.wire.neutral import Chunk, Completion, Delta, Envelope, RawFields, ToolFragment
from gwproto.wire.openai.parts import one_line

_encode = msgspec.json.Encoder().encode


class _Token(Struct, gc=False):
    token: str
    logprob: float


class _Logprobs(Struct, gc=False):
    """OpenAI's."""

    content: list[_Token]


_logprobs_of = msgspec.json.Decoder(_Logprobs).decode

_REASONS = {
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "function_call": "TOOL_CALL",
    "content_filter": "ERROR_TOXIC",
}

_DONE = b"data: [DONE]\n\n"
_EMPTY_MESSAGE = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}


def stream_encoder(envelope: Envelope) -> ChunkEncoder:
    """One stream's encoder: it keeps count of the contents and calls that it opens and closes."""
    return _StreamEncoder(envelope)


class _StreamEncoder:
    def __init__(self, envelope: Envelope) -> None:
        self._id = envelope.id
        self._started = False
        self._contents = 0  # begun so far
        self._open = ""  # what is: text, thinking, or a call
        self._call = 0  # the one last begun
        self._finish = "stop"
        self._usage: Usage | None = None

    def __call__(self, chunk: Chunk) -> bytes:
        """The events that say a chunk. Only the first choice can be said."""
        events = [] if self._started else [self._start()]
        events += [event for delta in chunk.deltas if delta.choice == 0 for event in self._delta(delta)]
        self._usage = chunk.usage or self._usage
        if chunk.done:
            end = {"finish_reason": _REASONS.get(self._finish, "COMPLETE"), **_usage(self._usage)}
            events += [*self._close(), _event("message-end", id=self._id, delta=end), _DONE]
        return b"".join(events)

    def _start(self) -> bytes:
        self._started = True
        return _event("message-start", id=self._id, delta={"message": _EMPTY_MESSAGE})

    def _delta(self, delta: Delta) -> list[bytes]:
        events: list[bytes] = []
        if delta.reasoning:
            events += self._content("thinking", delta.reasoning, {})
        text, logprobs = (delta.content or "") + (delta.refusal or ""), _logprobs(delta.choice_extra)
        if text or logprobs:
            events += self._content("text", text, {"logprobs": _logprob_item(logprobs)} if logprobs else {})
        for fragment in delta.tools:
            events += self._tool(fragment)
        self._finish = delta.finish or self._finish
        return events

    def _content(self, kind: str, text: str, more: dict[str, object]) -> list[bytes]:
        events: list[bytes] = []
        if self._open != kind:
            events += self._close()
            content = {"type": kind, kind: ""}
            events.append(
                _event("content-start", index=self._contents, delta={"message": {"content": content}})
            )
            self._open = kind
            self._contents += 1
        delta = {"message": {"content": {kind: text}}}
        events.append(_event("content-delta", index=self._contents - 1, delta=delta, **more))
        return events

    def _tool(self, fragment: ToolFragment) -> list[bytes]:
        index = fragment.index or 0
        events: list[bytes] = []
        if fragment.id is not None:
            events += self._close()
            self._open, self._call = "call", index
            call = {
                "id": fragment.id,
                "type": "function",
                "function": {"name": fragment.name, "arguments": ""},
            }
            events.append(_event("tool-call-start", index=index, delta={"message": {"tool_calls": call}}))
        if fragment.arguments:
            piece = {"function": {"arguments": fragment.arguments}}
            events.append(_event("tool-call-delta", index=index, delta={"message": {"tool_calls": piece}}))
        return events

    def _close(self) -> list[bytes]:
        """The end of what is open."""
        kind, self._open = self._open, ""
        if not kind:
            return []
        if kind == "call":
            return [_event("tool-call-end", index=self._call)]
        return [_event("content-end", index=self._contents - 1)]


def _event(type_: str, **fields: object) -> bytes:
    data = one_line(_encode({"type": type_, **fields}))
    return b"event: " + type_.encode() + b"\ndata: " + data + b"\n\n"


def _usage(usage: Usage | None) -> dict[str, object]:
    if usage is None:
        return {}
    counts = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    cached = {} if usage.cached_tokens is None else {"cached_tokens": usage.cached_tokens}
    return {"usage": {"billed_units": counts, "tokens": counts, **cached}}


def _logprobs(choice_extra: RawFields) -> list[_Token]:
    try:
        return _logprobs_of(choice_extra["logprobs"]).content
    except (KeyError, msgspec.ValidationError):
        return []


def _logprob_item(tokens: list[_Token]) -> dict[str, object]:
    """The ids of the tokens are not known."""
    text = "".join([token.token for token in tokens])
    return {"text": text, "token_ids": [], "logprobs": [token.logprob for token in tokens]}


def encode_completion(completion: Completion, envelope: Envelope) -> bytes:
    """The whole body, which says the first choice."""
    choice = completion.choices[0]
    content: list[dict[str, object]] = []
    if choice.reasoning:
        content.append({"type": "thinking", "thinking": choice.reasoning})
    if text := (choice.content or "") + (choice.refusal or ""):
        content.append({"type": "text", "text": text})
    message: dict[str, object] = {"role": "assistant", "content": content}
    if choice.tools:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tools
        ]
    logprobs = _logprobs(choice.choice_extra)
    body = {
        "id": envelope.id,
        "finish_reason": _REASONS.get(choice.finish, "COMPLETE"),
        "message": message,
        **_usage(completion.usage),
        **({"logprobs": [_logprob_item([token]) for token in logprobs]} if logprobs else {}),
    }
    return _encode(body)


def encode_error(status: int, message: str, type: str, code: str | None, param: str | None) -> bytes:
    """The error body, which says nothing but the message."""
    return _encode({"message": message})

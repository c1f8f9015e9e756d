"""Answers in OpenAI's format, written once: a request costs no more than a choice among them."""

from collections.abc import Sequence

import msgspec

from gwproto.testing.steps import Data, End, Head, Reset, Stall, Step
from gwproto.values import Headers

_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_WORDS = ("the", "gateway", "picks", "another", "provider", "while", "this", "one", "rests", "a", "little")
_CREATED = 1_767_600_000
_USAGE = {"prompt_tokens": 24, "completion_tokens": 32, "total_tokens": 56}

#: What a provider may say of its limits beside an answer.
Limits = tuple[tuple[bytes, bytes], ...]


class Answers:
    """What a provider called ``name`` sends: streams of about ``chunks`` chunks, ``pace`` seconds apart."""

    def __init__(self, name: str, *, chunks: int, words: int, pace: float) -> None:
        self.lengths = range(max(1, chunks - chunks // 2), chunks + chunks // 2 + 1)
        self.pace = pace
        self._name = name
        self._words = words
        self._head = Head(200, (_EVENTS,))
        self._streams = {count: self._stream(count) for count in self.lengths}
        body = self._whole(chunks)
        self._body = (Step(0.0, Data(body)), Step(0.0, End()))
        self._length = (b"content-length", b"%d" % len(body))
        self._plain_head = Head(200, (_JSON, self._length))

    def stream(self, chunks: int, latency: float, limits: Limits) -> Sequence[Step]:
        """A whole stream; ``chunks`` is one of ``lengths``."""
        head = Head(200, (_EVENTS, *limits)) if limits else self._head
        return (Step(latency, head), *self._streams[chunks])

    def broken(self, chunks: int, latency: float, *, silent: bool) -> Sequence[Step]:
        """A stream that ends after its first half: by a reset, or by silence."""
        steps = self._streams[chunks]
        action = Stall() if silent else Reset()
        return (Step(latency, self._head), *steps[: (len(steps) + 1) // 2], Step(self.pace, action))

    def plain(self, latency: float, limits: Limits) -> Sequence[Step]:
        """One object."""
        head = Head(200, (_JSON, self._length, *limits)) if limits else self._plain_head
        return (Step(latency, head), *self._body)

    def broken_plain(self, latency: float, *, silent: bool) -> Sequence[Step]:
        """A head, and then a reset or silence."""
        return (Step(latency, self._plain_head), Step(0.0, Stall() if silent else Reset()))

    def _text(self, start: int) -> str:
        return "".join(f" {_WORDS[(start + word) % len(_WORDS)]}" for word in range(self._words))

    def _stream(self, count: int) -> tuple[Step, ...]:
        steps = []
        for number in range(count):
            data = self._chunk({"content": self._text(number * self._words)})
            if number == 0:
                data = self._chunk({"role": "assistant", "content": "", "refusal": None}) + data
            if number == count - 1:
                usage = {**self._envelope("chat.completion.chunk"), "choices": [], "usage": _USAGE}
                data += self._chunk({}, "stop") + _event(usage) + b"data: [DONE]\n\n"
            steps.append(Step(self.pace if number else 0.0, Data(data)))
        return (*steps, Step(0.0, End()))

    def _chunk(self, delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**self._envelope("chat.completion.chunk"), "choices": [choice]})

    def _whole(self, chunks: int) -> bytes:
        text = "".join(self._text(number * self._words) for number in range(chunks))
        message: dict[str, object] = {
            "role": "assistant",
            "content": text[1:],
            "refusal": None,
            "annotations": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return msgspec.json.encode(
            {**self._envelope("chat.completion"), "choices": [choice], "usage": _USAGE}
        )

    def _envelope(self, object_name: str) -> dict[str, object]:
        return {
            "id": f"chatcmpl-{self._name}",
            "object": object_name,
            "created": _CREATED,
            "model": "chat",
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }


def _event(value: object) -> bytes:
    return b"data: %s\n\n" % msgspec.json.encode(value)


def error(status: int, kind: str, code: str, message: str, headers: Headers = ()) -> tuple[Head, Data]:
    """Head and body of an error as OpenAI writes it."""
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
    length = (b"content-length", b"%d" % len(body))
    return Head(status, (_JSON, length, *headers)), Data(body)

"""A provider's stream through the wire package alone, as a response body uses it, and its events in short."""

import json
from collections.abc import Iterable
from typing import Any

from gwproto.failures import FailureClass, WireError
from gwproto.sse import DONE
from gwproto.wire import openai
from gwproto.wire.dialect import Dialect
from gwproto.wire.neutral import UNREAD, Chunk, Envelope, Reading
from gwproto.wire.normalise import Normaliser
from gwproto.wire.openai.stream import encode_chunk
from gwproto.wire.translate import decoder_of, frames_of

ENVELOPE = Envelope("c1", 1, "m")


def translate(
    reads: Iterable[bytes],
    *,
    include_usage: bool = True,
    legacy: bool = False,
    dialect: Dialect = openai.DIALECT,
    reading: Reading = UNREAD,
) -> list[bytes]:
    """The client's events. A failure ends them with its class and message, a broken-off stream with ``TRUNCATED``."""
    decoder = frames_of(dialect)
    decode = decoder_of(dialect, reading)
    normaliser = Normaliser(include_usage=include_usage, legacy_functions=legacy)
    out: list[bytes] = []

    def take(data: bytes, raw: bytes) -> None:
        chunk = decode(data)
        for one in normaliser.receive(chunk):
            out.append(raw if one is chunk and chunk.verbatim and raw else encode_chunk(one, ENVELOPE))

    try:
        for read in reads:
            for frame in decoder.receive(read):
                if not normaliser.done and normaliser.failure is None:
                    take(frame.data, frame.raw)
        last = decoder.end()
        if last is not None and not normaliser.done and normaliser.failure is None:
            take(last.data, last.raw)
    except WireError as error:
        return [*out, f"{FailureClass.SERVER.name} {error}".encode()]
    if normaliser.failure is not None:
        return [*out, f"{normaliser.failure.kind.name} {normaliser.failure.message}".encode()]
    if not (normaliser.done or normaliser.finished):
        return [*out, b"TRUNCATED"]
    if not normaliser.content:
        return [*out, b"EMPTY"]
    return [*out, *(encode_chunk(chunk, ENVELOPE) for chunk in normaliser.end(complete=True)), DONE]


def events(lines: Iterable[bytes]) -> list[list[Any]]:
    """The events in short: R role, C text, T reasoning, D other delta, K tool call begun, A its arguments, F finish,
    U usage, X failure. Neighbours that only continue each other are joined.
    """
    out: list[list[Any]] = []

    def add(event: list[Any]) -> None:
        if out and event[0] in "CTA" and out[-1][:-1] == event[:-1]:
            out[-1][-1] += event[-1]
        else:
            out.append(event)

    for line in lines:
        if line == DONE:
            add(["DONE", 0])
            continue
        if not line.startswith(b"data: "):
            add(["X", line.decode()])
            continue
        document = json.loads(line[6:])
        for choice in document["choices"]:
            index, delta = choice["index"], choice["delta"]
            if "role" in delta:
                add(["R", index])
            if delta.get("reasoning_content"):
                add(["T", index, delta["reasoning_content"]])
            if delta.get("content"):
                add(["C", index, delta["content"]])
            for name in ("refusal", "function_call"):
                if delta.get(name):
                    add(["D", index, {name: delta[name]}])
            for tool in delta.get("tool_calls") or ():
                if "id" in tool:
                    add(["K", index, tool["index"], tool["id"], tool["function"]["name"]])
                if tool["function"]["arguments"]:
                    add(["A", index, tool["index"], tool["function"]["arguments"]])
            if choice["finish_reason"] is not None:
                add(["F", index, choice["finish_reason"]])
        if document.get("usage"):
            add(["U", 0, document["usage"]])
    return out


def check_chunks(chunks: list[Chunk], *, complete: bool) -> None:
    """What a client may rely on (roles, order, tool calls, one finish, usage last)."""
    opened: list[int] = []
    finished: set[int] = set()
    tools: dict[int, int] = {}
    for position, chunk in enumerate(chunks):
        if chunk.usage is not None:
            assert position == len(chunks) - 1
            assert chunk.deltas == ()
        for delta in chunk.deltas:
            index = delta.choice
            if delta.role:
                assert index == len(opened)
                opened.append(index)
            assert index in opened
            assert index not in finished
            for tool in delta.tools:
                assert tool.index is not None
                if tool.id is not None:
                    assert tool.id
                    assert tool.name is not None
                    assert tool.index == tools.get(index, 0)
                    tools[index] = tool.index + 1
                else:
                    assert tool.name is None
                    assert tool.index < tools.get(index, 0)
            if delta.finish is not None:
                assert delta.finish in ("stop", "length", "tool_calls", "content_filter", "function_call")
                finished.add(index)
    if complete:
        assert finished == set(opened)

"""``python -m benchmarks.codecs``: what the wire formats cost, in µs of CPU per request, answer and chunk, without I/O.

Requests and answers are those of the simulated providers. A chunk is an event with one piece of text; fifty come in one
read, on a stream that has begun. *Relay* forwards its bytes, *Splice* moves its text into the client's shape,
*Transcode* decodes, normalises and encodes it. A dash: no two events of the format are alike but for their text.

Every figure stands beside its ratio to ``json.loads`` of one of OpenAI's chunks in the same run, which takes the
machine's speed out.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from benchmarks.micro import microseconds
from gwproto.exchange.gears import StreamBody
from gwproto.failures import Failure
from gwproto.testing import Data, SimulatedProvider
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import UNREAD, ChatRequest, Chunk, EncodedRequest, Envelope, Reading, Rendering
from gwproto.wire.openai.request import parse_request
from gwproto.wire.translate import StreamTranslator, translate_response

CHUNKS = 50
ENVELOPE = Envelope("chatcmpl-1", 1, "model")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SAID = " ".join(["The quick brown fox jumps over the lazy dog."] * 20)
MESSAGES = [
    {"role": "system", "content": SAID},
    {"role": "user", "content": "How is the weather in Rome?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "user", "content": SAID},
]


def request(**fields: object) -> ChatRequest:
    """A conversation of 2 kB."""
    made = parse_request(json.dumps({"messages": MESSAGES[:1] + MESSAGES[-1:], **fields}).encode())
    assert isinstance(made, ChatRequest)
    return made


class Codec:
    """One format, with what a provider of it sends."""

    def __init__(self, name: str) -> None:
        self.dialect = DIALECTS[name]
        self.rendering = Rendering(model="model")
        self.plain = request(stream=True, max_tokens=1000)
        self.tools = request(messages=MESSAGES, tools=[TOOL], tool_choice="auto", temperature=0.5)
        streamed = self._answer(self.plain)
        head, self.fifty = self._cut(streamed)
        whole = self._answer(request())
        self.answer = b"".join(whole)
        assert not isinstance(self.whole_answer(), Failure)
        self.head = head
        self.translator = StreamTranslator(self.dialect, DIALECTS["openai"], ENVELOPE)
        self.translator.receive(head)

    def _answer(self, asked: ChatRequest) -> list[bytes]:
        """The pieces of a simulated provider's answer, one event in each."""
        provider = SimulatedProvider("p", models=["model"], rng=random.Random(1), format=self.dialect.name)
        provider.adjust(b'{"words": 200}')
        encoded = self.dialect.encode_request(asked, self.rendering)
        headers = ((b"anthropic-version", b"2023-06-01"),)
        steps = provider.respond("POST", provider.format.base + encoded.path, headers, encoded.body, 1.7e9)
        return [step.action.data for step in steps if isinstance(step.action, Data)]

    def _cut(self, pieces: list[bytes]) -> tuple[bytes, bytes]:
        """What comes before the text has begun, and fifty events of text."""
        start = len(pieces) // 4
        return b"".join(pieces[:start]), b"".join(pieces[start : start + CHUNKS])

    def encode_plain(self) -> EncodedRequest:
        return self.dialect.encode_request(self.plain, self.rendering)

    def encode_tools(self) -> EncodedRequest:
        return self.dialect.encode_request(self.tools, self.rendering)

    def whole_answer(self) -> object:
        return translate_response(self.answer, self.dialect, DIALECTS["openai"], ENVELOPE, UNREAD)

    def transcoded(self) -> bytes:
        out = self.translator.receive(self.fifty)
        assert out
        return out

    def geared(self, gear: str) -> Callable[[], bytes] | None:
        """Passing on fifty chunks in a gear; None when the format's text never gets there."""
        decoded = 0

        def stream_decoder(reading: Reading) -> ChunkDecoder:
            decode = self.dialect.stream_decoder(reading)

            def counted(data: bytes) -> Chunk:
                nonlocal decoded
                decoded += 1
                return decode(data)

            return counted

        dialect = replace(self.dialect, stream_decoder=stream_decoder)
        # Asking for usage makes OpenAI's providers write `usage: null`, which only who asked for it may see.
        body = StreamBody(dialect, ENVELOPE, include_usage=gear == "relay", legacy_functions=False)
        body.receive(self.head)
        body.receive(self.fifty)
        decoded = 0
        relayed = body.receive(self.fifty) == self.fifty
        if decoded > CHUNKS / 10 or relayed != (gear == "relay"):
            return None
        return lambda: body.receive(self.fifty)

    def figures(self, cost: Callable[[Callable[[], object]], float]) -> dict[str, float | None]:
        """µs by what is measured."""
        relay, splice = self.geared("relay"), self.geared("splice")
        return {
            "request": cost(self.encode_plain),
            "request, tools": cost(self.encode_tools),
            "whole answer": cost(self.whole_answer),
            "relay": relay and cost(relay) / CHUNKS,
            "splice": splice and cost(splice) / CHUNKS,
            "transcode": cost(self.transcoded) / CHUNKS,
        }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.codecs", description="CPU of the wire formats"
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="per measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)

    def cost(call: Callable[[], object]) -> float:
        return microseconds(call, options.seconds, options.repeats)

    chunk = Codec("openai").fifty.partition(b"\n\n")[0].removeprefix(b"data: ")
    unit = cost(lambda: json.loads(chunk))
    print(f"json.loads of one of OpenAI's chunks, {len(chunk)} bytes: {unit:.2f} µs")
    report: dict[str, dict[str, float | None]] = {"json.loads": {"chunk": unit}}
    for name in DIALECTS:
        figures = report[name] = Codec(name).figures(cost)
        if len(report) == 2:
            print(f"{'':12}" + "".join(f"{what:>18}" for what in figures))
        cells = ["-" if one is None else f"{one:.2f} µs {one / unit:6.1f}" for one in figures.values()]
        print(f"{name:12}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

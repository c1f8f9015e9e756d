"""``python -m benchmarks.micro``: µs of CPU per call of the core's pieces and of the HTTP/1.1 glue, without I/O.

The last column compares with ``json.loads`` of the same request in the same run, which takes the machine's speed out.
"""

import argparse
import functools
import hashlib
import json
import random
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks import answers, load, provider
from gwproto import (
    ClientData,
    ClientEnd,
    Configuration,
    Gateway,
    Origin,
    RequestHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamOpened,
    UpstreamRequest,
)
from gwproto.commands import Command, SendData
from gwproto.config import ModelSettings, ProviderSettings, Settings
from gwproto.exchange.gears import StreamBody
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import compile_catalog
from gwproto.routing.demand import Demand
from gwproto.routing.router import Plan, Router, Ticket
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import ChatRequest, Rendering
from gwproto.wire.openai.request import encode_request, parse_request
from gwproto.wire.openai.stream import Envelope
from gwproto_io.codec import DEFAULT, Codec, H11Codec
from gwproto_io.http1 import ResponseParser
from gwproto_io.http1_server import RequestParser, ResponseWriter
from gwproto_io.keyring import Keyring

PROVIDERS, MODELS = 12, 10
EVENTS = 50
SEGMENT, ALL = 1448, 1 << 16  # bytes in a read: of one TCP segment on Ethernet, of all events
CODECS: dict[str, Codec] = {codec.name: codec for codec in (H11Codec(), DEFAULT)}
KEY = "bench-client-key"
JSON_HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"1000"))
STREAM_HEADERS = ((b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked"))


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def request_body(events: int) -> bytes:
    return body_of(load.request(load.Job(0, 0, "mock-model-3", 1, events, 0.0)))


def events_of(count: int, usage: bool = True) -> bytes:
    return answers.unchunked(body_of(provider.burst(count, usage)), 0) or b""


def configuration() -> Configuration:
    """12 providers with the same 10 models each, so that every provider is a candidate."""
    providers = [
        ProviderSettings(
            name=f"provider-{number}",
            base_url=f"http://10.0.0.{number}/v1",
            models=tuple(
                ModelSettings(id=f"p{number}-model-{model}", upstream=f"mock-model-{model}")
                for model in range(MODELS)
            ),
        )
        for number in range(1, PROVIDERS + 1)
    ]
    settings = Settings(providers=tuple(providers))
    credentials = {entry.name: (f"{entry.name}/1",) for entry in providers}
    keys = (ClientKey("bench", hashlib.sha256(KEY.encode()).digest()),)
    return Configuration(settings, compile_catalog(settings, credentials), keys)


class Pieces:
    """What is measured, each on inputs made once."""

    def __init__(self) -> None:
        self.configuration = configuration()
        self.now = 1e6
        self.plain = request_body(0)
        self.streaming = request_body(EVENTS)
        self.events = events_of(EVENTS)
        self.answer = body_of(provider.PLAIN)
        parsed = parse_request(self.streaming)
        assert isinstance(parsed, ChatRequest)
        self.request = parsed
        self.rendering = Rendering(model="mock-model-3")
        self.router = Router(self.configuration.catalog, self.configuration.settings, rng=random.Random(1))
        self.gateway = Gateway(self.configuration, rng=random.Random(1), epoch=1.7e9)
        self.http_request = load.request(load.Job(0, 0, "mock-model-3", 1, 0, 0.0, key=KEY))
        self.http_stream = provider.burst(EVENTS, True)
        head, _, body = self.http_stream.partition(b"\r\n\r\n")
        self.http_chunk = body[: body.index(b"\r\n", body.index(b"\r\n") + 2) + 2]
        self.http_reader = ResponseParser(1, "POST", reused=True)
        self.http_reader.receive(head + b"\r\n\r\n")
        self.upstream_request = UpstreamRequest(
            origin=Origin("http", "10.0.0.1", 80),
            method="POST",
            target="/v1/chat/completions",
            headers=((b"content-type", b"application/json"), (b"accept", b"application/json")),
            body=self.plain,
            credential="bench",
        )
        self.keyring = Keyring({"bench": (b"authorization", b"Bearer bench-provider-key")})
        self.http_requests = RequestParser()
        self.answer_headers = (
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self.answer)).encode()),
            *((b"x-gateway-%d" % number, b"some value") for number in range(7)),
        )
        self.head = RequestHead(
            "POST",
            "/v1/chat/completions",
            (
                (b"host", b"127.0.0.1"),
                (b"user-agent", b"benchmark"),
                (b"authorization", b"Bearer " + KEY.encode()),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(self.plain)).encode()),
            ),
        )

    def json_loads(self) -> object:
        return json.loads(self.streaming)

    def msgspec_decode(self) -> object:
        return msgspec.json.decode(self.streaming)

    def parse_request(self) -> object:
        return parse_request(self.streaming)

    def encode_request(self) -> object:
        return encode_request(self.request, self.rendering)

    def relay(self) -> object:
        body = StreamBody(
            DIALECTS["openai"], Envelope("id", 1, "model"), include_usage=False, legacy_functions=False
        )
        sent = body.receive(self.events)
        assert body.complete
        return sent

    def pick(self, model: str = "auto") -> object:
        self.now += 0.001
        plan = self.router.plan(Demand(model=model))
        assert isinstance(plan, Plan)
        ticket = self.router.pick(plan, self.now, tried=frozenset(), last=None, deadline=self.now + 60)
        assert isinstance(ticket, Ticket)
        self.router.content(ticket, self.now)
        self.router.success(ticket, self.now)
        return ticket

    def pick_model(self) -> object:
        return self.pick("mock-model-3")

    def chat(self, request: bytes, headers: tuple[tuple[bytes, bytes], ...], answer: bytes) -> object:
        return self.chat_of((request,), headers, answer)

    def chat_of(
        self, reads: Sequence[bytes], headers: tuple[tuple[bytes, bytes], ...], answer: bytes
    ) -> object:
        """The request's body comes in several reads."""
        now = self.now = self.now + 0.001
        exchange = self.gateway.begin(self.head, now)
        exchange.start(now)
        for read in reads:
            exchange.receive(ClientData(read), now)
        exchange.receive(ClientEnd(), now)
        exchange.receive(UpstreamOpened(1, True), now)
        exchange.receive(UpstreamHead(1, 200, headers), now)
        exchange.receive(UpstreamData(1, answer), now)
        exchange.receive(UpstreamEnd(1), now)
        outcome = exchange.outcome
        assert outcome is not None
        assert outcome.ending.value == "completed", outcome
        return outcome

    def plain_chat(self) -> object:
        return self.chat(self.plain, JSON_HEADERS, self.answer)

    def stream_chat(self) -> object:
        return self.chat(self.streaming, STREAM_HEADERS, self.events)

    def passing(self, size: int = 0, *, usage: bool = False) -> Callable[[], object]:
        """An exchange that passes on 50 events of text per call, as a driver has it do that.

        Each event comes in a read of its own, or all in reads of ``size`` bytes. In Relay; with ``usage`` in Splice:
        the provider counts it, which this client has not asked for.
        """
        now = self.now
        exchange = self.gateway.begin(self.head, now)
        exchange.start(now)
        exchange.receive(ClientData(self.streaming), now)
        exchange.receive(ClientEnd(), now)
        exchange.receive(UpstreamOpened(1, True), now)
        exchange.receive(UpstreamHead(1, 200, STREAM_HEADERS), now)
        events = [event + b"\n\n" for event in events_of(EVENTS + 2, usage).split(b"\n\n")]
        exchange.receive(UpstreamData(1, b"".join(events[:2])), now)
        reads = events[1 : EVENTS + 1]
        whole = b"".join(reads)
        if size:
            reads = [whole[at : at + size] for at in range(0, len(whole), size)]

        def run() -> list[Command]:
            sent: list[Command] = []
            for read in reads:
                sent += exchange.receive(UpstreamData(1, read), now)
                assert exchange.deadline > now
            return sent

        out = b"".join([command.data for command in run() if isinstance(command, SendData)])
        assert out.count(b"data: ") == EVENTS
        assert (out == whole) != usage
        return run

    def http_request_in(self, codec: Codec) -> object:
        parser = RequestParser("", codec)
        parser.receive(self.http_request)
        assert parser.next_head() is not None
        return parser.next_data()

    def http_request_again(self) -> object:
        parser = self.http_requests
        parser.receive(self.http_request)
        assert parser.next_head() is not None
        return parser.next_data()

    def http_request_out(self) -> object:
        return self.keyring.encode(self.upstream_request)

    def http_answer_in(self, codec: Codec) -> object:
        parser = ResponseParser(1, "POST", reused=True, codec=codec)
        events = parser.receive(provider.PLAIN)
        assert parser.reusable
        return events

    def http_stream_in(self, codec: Codec) -> object:
        parser = ResponseParser(1, "POST", reused=True, codec=codec)
        events = parser.receive(self.http_stream)
        assert parser.reusable
        return events

    def http_chunk_in(self) -> object:
        return self.http_reader.receive(self.http_chunk)

    def http_answer_out(self) -> object:
        writer = ResponseWriter("POST", "1.1")
        return writer.head(200, self.answer_headers, close=False) + writer.data(self.answer) + writer.end()

    def table(self) -> list[tuple[str, Callable[[], object]]]:
        return [
            ("json.loads of the request", self.json_loads),
            ("msgspec.json.decode of the request", self.msgspec_decode),
            ("parse_request", self.parse_request),
            ("encode_request", self.encode_request),
            ("stream of 50 events, one read", self.relay),
            ("relay of 50 events, one read", self.passing(ALL)),
            ("relay of 50 events, reads of 1448 bytes", self.passing(SEGMENT)),
            ("relay of 50 events, 50 reads", self.passing()),
            ("splice of 50 events, one read", self.passing(ALL, usage=True)),
            ("splice of 50 events, reads of 1448 bytes", self.passing(SEGMENT, usage=True)),
            ("splice of 50 events, 50 reads", self.passing(usage=True)),
            ("plan, pick and report, auto", self.pick),
            ("plan, pick and report, one model", self.pick_model),
            *self._of_each_codec("request in", self.http_request_in),
            ("HTTP/1.1: request in, its head as before", self.http_request_again),
            ("HTTP/1.1: request out", self.http_request_out),
            *self._of_each_codec("JSON answer in", self.http_answer_in),
            *self._of_each_codec("stream of 50 events in", self.http_stream_in),
            ("HTTP/1.1: one event of a stream in", self.http_chunk_in),
            ("HTTP/1.1: JSON answer out", self.http_answer_out),
            ("whole exchange, JSON answer", self.plain_chat),
            ("whole exchange, stream of 50, one read", self.stream_chat),
        ]

    def _of_each_codec(
        self, name: str, call: Callable[[Codec], object]
    ) -> list[tuple[str, Callable[[], object]]]:
        return [
            (f"HTTP/1.1: {name}, {codec.name}", functools.partial(call, codec)) for codec in CODECS.values()
        ]


def microseconds(call: Callable[[], object], seconds: float, repeats: int) -> float:
    """Median CPU per call over ``repeats`` measurements of about ``seconds`` each."""
    timer = timeit.Timer(call, timer=time.process_time)
    number = 1
    while (taken := timer.timeit(number)) < seconds / 4:
        number *= 2
    number = max(1, round(number * seconds / taken))
    return statistics.median(timer.repeat(repeats, number)) / number * 1e6


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro", description="CPU of the gateway's pieces"
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="per measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    figures: dict[str, float] = {}
    for name, call in Pieces().table():
        figures[name] = microseconds(call, options.seconds, options.repeats)
        unit = figures["json.loads of the request"]
        print(f"{name:40} {figures[name]:9.2f} µs {figures[name] / unit:7.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

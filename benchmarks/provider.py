"""A provider that costs next to nothing: it looks at a request's length and model, and answers with ready bytes.

The model's name says what comes: ``mock-plain`` a JSON answer, ``mock-burst-N`` a stream of N events in one write,
``mock-paced-N`` the same with 10 ms between them, ``mock-every-M-N`` with M ms, and then each event says when it was
sent, by the monotonic clock that the machine's processes share. Each event is an HTTP chunk of its own, as servers send
them.
"""

import asyncio
import functools
import re
import sys
import time

PACE = 0.010  # seconds between the events of a paced stream
UNSENT = b"0000000000.000000"  # where the instant stands at which an event is sent, in seconds
WORDS = "The quick brown fox jumps over the lazy dog while the band plays on and on"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model"\s*:\s*"mock-(plain|burst|paced|every-(\d+))(?:-(\d+))?"')
_HEAD = b"HTTP/1.1 200 OK\r\n"
_EMPTY = (
    _HEAD + b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
)  # what routers ask of their workers
_NOT_UNDERSTOOD = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
# x-accel-buffering makes nginx pass on what it has read at once, as its proxy_buffering off does.
_STREAM_HEAD = (
    _HEAD + b"content-type: text/event-stream\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _json_answer() -> bytes:
    body = (
        b'{"id":"chatcmpl-BenchBenchBenchBenchBenchBench","object":"chat.completion","created":1750000000,'
        b'"model":"mock-plain","choices":[{"index":0,"message":{"role":"assistant","content":"'
        + ". ".join([WORDS] * 6).encode()
        + b'","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":480,"completion_tokens":96,"total_tokens":576,'
        b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":'
        b'{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},'
        b'"service_tier":"default","system_fingerprint":"fp_0123456789"}'
    )
    return _HEAD + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


PLAIN = _json_answer()


@functools.cache
def stream(count: int, usage: bool, stamped: bool = False) -> tuple[bytes, ...]:
    """The writes of a stream of ``count`` events; the last also holds the usage event, if asked for, and the end.

    ``stamped``: with a place for an instant in each but the first and the last.
    Events are of the size and shape OpenAI sends, with ``"usage":null`` in each when usage was asked for.
    """
    tail = b',"usage":null}\n\n' if usage else b"}\n\n"

    def event(choices: bytes, tail: bytes = tail) -> bytes:
        data = (
            b'data: {"id":"chatcmpl-BenchBenchBenchBenchBenchBench","object":"chat.completion.chunk",'
            b'"created":1750000000,"model":"mock-stream","service_tier":"default",'
            b'"system_fingerprint":"fp_0123456789","choices":[' + choices + b"]" + tail
        )
        return b"%x\r\n%b\r\n" % (len(data), data)

    choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}'
    writes = [event(choice % (b'{"role":"assistant","content":"Once","refusal":null}', b"null"))]
    stamp = b" at " + UNSENT if stamped else b""
    writes += [event(choice % (b'{"content":" word%d%b"}' % (n, stamp), b"null")) for n in range(2, count)]
    last = event(choice % (b"{}", b'"stop"'))
    if usage:
        last += event(b"", b',"usage":{"prompt_tokens":480,"completion_tokens":50,"total_tokens":530}}\n\n')
    return (*writes, last + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


@functools.cache
def burst(count: int, usage: bool) -> bytes:
    return _STREAM_HEAD + b"".join(stream(count, usage))


class Provider(asyncio.Protocol):
    """One connection. Requests come one at a time, with their length in the head."""

    def __init__(self) -> None:
        self.received = b""
        self.pieces: list[bytes] = []  # of a long body, after what was received first
        self.missing = 0  # bytes of it
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self.missing > 0:
            self.pieces.append(data)
            self.missing -= len(data)
            if self.missing > 0:
                return
            data = self.received + b"".join(self.pieces)
            self.pieces = []
        elif self.received:
            data = self.received + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            self.received = data
            return
        length = _LENGTH.search(data, 0, head_end)
        if length is not None and len(data) < (end := head_end + 4 + int(length[1])):
            self.received = data
            self.missing = end - len(data)
            return
        self.received = b""
        if data.startswith(b"GET "):
            self.transport.write(_EMPTY)
            return
        model = _MODEL.search(data, head_end)
        if model is None:
            self.transport.write(_NOT_UNDERSTOOD)
            self.transport.close()
        elif model[1] == b"plain":
            self.transport.write(PLAIN)
        else:
            usage = b'"include_usage":true' in data
            if model[1] == b"burst":
                self.transport.write(burst(int(model[3]), usage))
            else:
                self.transport.write(_STREAM_HEAD)
                stamped = model[2] is not None
                pace = int(model[2]) / 1000 if stamped else PACE
                writes = stream(int(model[3]), usage, stamped)
                self.pace(writes, 0, pace, asyncio.get_running_loop().time())

    def pace(self, writes: tuple[bytes, ...], number: int, pace: float, due: float) -> None:
        data = writes[number]
        if UNSENT in data:
            data = data.replace(UNSENT, b"%017.6f" % time.monotonic(), 1)
        self.transport.write(data)
        if number + 1 < len(writes):
            due += pace
            loop = asyncio.get_running_loop()
            self.timer = loop.call_at(due, self.pace, writes, number + 1, pace, due)


async def main() -> None:
    """Serve on the port named on the command line, or one of the system's choice, until standard input ends.

    The port is printed in one line.
    """
    loop = asyncio.get_running_loop()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = await loop.create_server(Provider, "127.0.0.1", port, backlog=4096)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(main())

"""Which codec is used."""

import subprocess
import sys

import pytest
import trio
import trio.testing
from anyio.abc import ByteStream

from gwproto import Headers, Origin, UpstreamEnd, UpstreamRequest
from gwproto_io.codec import DEFAULT, Codec, H11Codec
from gwproto_io.codec.heads import HeadError
from gwproto_io.upstream import Pool, Upstreams
from gwproto_ops.deployment import Deployment
from gwproto_trio import Server
from support.codecs import CODECS, needs_httptools
from support.conversation import configuration
from support.memory import connected

REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\n%b\r\n"


@needs_httptools
def test_httptools_is_used_where_it_is_installed() -> None:
    assert DEFAULT.name == "plain+httptools"
    assert Pool({}).codec is DEFAULT


@pytest.mark.parametrize("broken", ["None", "type(sys)('httptools')"])
def test_h11_is_used_where_it_is_not(broken: str) -> None:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; sys.modules['httptools'] = {broken};"
        "from gwproto_io.codec import DEFAULT; print(DEFAULT.name)"
    )
    done = subprocess.run((sys.executable, "-I", "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout == "plain+h11\n"


class Counting(H11Codec):
    """Counts what it is asked."""

    __slots__ = ("requests", "responses")

    def __init__(self) -> None:
        self.requests = self.responses = 0

    def request_fields(self, head: bytes) -> Headers:
        self.requests += 1
        return super().request_fields(head)

    def response_fields(self, head: bytes) -> Headers:
        self.responses += 1
        return super().response_fields(head)


def test_the_server_reads_its_clients_by_the_codec_it_is_given() -> None:
    async def main() -> None:
        codec = Counting()
        server = Server(Deployment(configuration(), {"a": (b"authorization", b"Bearer x")}), codec=codec)
        assert server.pool.codec is codec
        ours, theirs = trio.testing.memory_stream_pair()
        await ours.send_all(REQUEST % b"")
        await ours.send_eof()
        await server.serve_stream(theirs)
        assert codec.requests == 1

    trio.run(main)


def test_a_pool_reads_its_providers_by_the_codec_it_is_given() -> None:
    async def main() -> None:
        codec = Counting()
        ours, theirs = connected()

        async def dial(origin: Origin) -> ByteStream:
            return ours

        async with trio.open_nursery() as nursery:
            upstreams = Upstreams(Pool({}, dial=dial, codec=codec), nursery.start_soon)
            await upstreams.open(1, UpstreamRequest(Origin("http", "h", 80), "POST", "/", (), b""))
            await theirs.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            while not isinstance(await upstreams.next_event(), UpstreamEnd):
                pass
            assert codec.responses == 1

    trio.run(main)


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_says_why_it_refuses(codec: Codec) -> None:
    for fields, status in ((b"Content-Length: x\r\n", 400), (b"Transfer-Encoding: x\r\n", 501)):
        with pytest.raises(HeadError) as refused:
            codec.request_fields(REQUEST % fields)
        assert refused.value.status == status
        with pytest.raises(HeadError) as refused:
            codec.response_fields(b"HTTP/1.1 200 OK\r\n%b\r\n" % fields)
        assert refused.value.status == status

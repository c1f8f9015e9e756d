"""Which codec is used."""

import subprocess
import sys

import pytest
import trio

from gwproto_io.codec import DEFAULT, Codec
from gwproto_io.codec.heads import HeadError
from gwproto_io.upstream import Pool
from gwproto_ops.deployment import Deployment
from gwproto_trio import Server
from support.codecs import CODECS, H11, needs_httptools
from support.conversation import configuration

REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\n%b\r\n"


@needs_httptools
def test_httptools_is_used_where_it_is_installed() -> None:
    assert DEFAULT.name == "httptools"
    assert Pool({}).codec is DEFAULT


@pytest.mark.parametrize("broken", ["None", "type(sys)('httptools')"])
def test_h11_is_used_where_it_is_not(broken: str) -> None:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; sys.modules['httptools'] = {broken};"
        "from gwproto_io.codec import DEFAULT; print(DEFAULT.name)"
    )
    done = subprocess.run((sys.executable, "-I", "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout == "h11\n"


def test_an_argument_decides_for_clients_and_providers() -> None:
    async def main() -> None:
        server = Server(Deployment(configuration(), {"a": (b"authorization", b"Bearer x")}), codec=H11)
        assert server.codec is server.pool.codec is H11

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

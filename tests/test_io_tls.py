"""Dials over TLS: verified, never downgraded."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

from gwproto import LossReason, Origin, UpstreamEnd, UpstreamLost, UpstreamOpened, UpstreamRequest
from gwproto_io import dialling
from gwproto_io.upstream import Pool, Upstreams

pytestmark = pytest.mark.sockets

# Self-signed, for the name "localhost", valid for a hundred years; it protects nothing.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBnDCCAUOgAwIBAgIUPGjT1D9d1Jcjjw6ZhV5dcdpmRZYwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcHJvdmlkZXIudGVzdDAgFw0yNjExMjMwNjUwMjBaGA8yMTI2
MTAzMDA2NTAyMFowGDEWMBQGA1UEAwwNcHJvdmlkZXIudGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABKrNigkwpZsAFMYQfZfCDCtMZIMuuDX1h8GcMK8PaneS
iM9e/aY3h1n32EsW1GsAlNJ5tbYsWbLmzoHkdflPqD+jaTBnMB0GA1UdDgQWBBTD
1qPgkjfYdMOOwzmTC4H7NiZNtzAfBgNVHSMEGDAWgBTD1qPgkjfYdMOOwzmTC4H7
NiZNtzAPBgNVHRMBAf8EBTADAQH/MBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAKBggq
hkjOPQQDAgNHADBEAiAzr/jckrbrES/GINuhBZMNPSbqoUA950jr1ooGlmtgpgIg
eUfhfv/onMwkQjvKcBpSC28YVEsSdhyocGTkQj+naj8=
-----END CERTIFICATE-----
"""
PRIVATE_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgkeznzlF1x110b0Ra
i7BPsYrvyTO9mWFKZtc5fsFDhKahRANCAASqzYoJMKWbABTGEH2XwgwrTGSDLrg1
9YfBnDCvD2p3kojPXv2mN4dZ99hLFtRrAJTSebW2LFmy5s6B5HX5T6g/
-----END PRIVATE KEY-----
"""

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@pytest.fixture
def server_context(tmp_path: Path) -> ssl.SSLContext:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_text(CERTIFICATE)
    key.write_text(PRIVATE_KEY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    context = ssl.create_default_context(cadata=CERTIFICATE)
    monkeypatch.setattr(dialling, "tls_context", lambda: context)
    yield
    monkeypatch.undo()


async def attempts(context: ssl.SSLContext, host: str, count: int) -> list[object]:
    """``UpstreamOpened``, then how it ended, for each of ``count`` attempts one after the other."""
    seen: list[object] = []

    async def answer(stream: ByteStream) -> None:
        async with stream:
            try:
                while b"\r\n\r\n" in await stream.receive():
                    await stream.send(ANSWER)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = plain.extra(SocketAttribute.local_port)
    listener = TLSListener(plain, context, standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        pool = Pool({})
        upstreams = Upstreams(pool, tasks.start_soon)
        request = UpstreamRequest(Origin("https", host, port), "POST", "/", (), b"")
        with anyio.fail_after(20.0):
            for attempt in range(count):
                await upstreams.open(attempt, request)
                while True:
                    event = await upstreams.next_event()
                    if isinstance(event, UpstreamOpened | UpstreamEnd | UpstreamLost):
                        seen.append(event)
                    if isinstance(event, UpstreamEnd | UpstreamLost):
                        break
        await pool.aclose()
        assert pool.leases.leased == 0
        tasks.cancel_scope.cancel()
    return seen


BACKENDS = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.usefixtures("trusted")
def test_a_connection_is_used_twice(server_context: ssl.SSLContext, backend: str) -> None:
    seen = anyio.run(attempts, server_context, "localhost", 2, backend=backend)
    assert seen == [UpstreamOpened(0, False), UpstreamEnd(0), UpstreamOpened(1, True), UpstreamEnd(1)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.usefixtures("trusted")
def test_another_name(server_context: ssl.SSLContext, backend: str) -> None:
    seen = anyio.run(attempts, server_context, "127.0.0.1", 1, backend=backend)
    assert seen == [UpstreamLost(0, LossReason.TLS)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_unknown_issuer(server_context: ssl.SSLContext, backend: str) -> None:
    seen = anyio.run(attempts, server_context, "localhost", 1, backend=backend)
    assert seen == [UpstreamLost(0, LossReason.TLS)]

"""Transports on trio: what a protocol is told, and what becomes of what it writes."""

import errno
import logging
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from gwproto_trio import poller
from gwproto_trio.connecting import start, start_socket
from gwproto_trio.loops import Loop
from gwproto_trio.sockets import SocketTransport
from gwproto_trio.streams import StreamTransport

pytestmark = pytest.mark.sockets

PATIENCE = 20.0  # seconds after which a test that hangs is a failure
MUCH = b"0123456789abcdef" * 1_000_000


class Told:
    """A protocol that remembers what it is told."""

    def __init__(self, *, stays: bool = False) -> None:
        self.transport: Any = None
        self.received = b""
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.stays = stays
        self.on_data: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        self.on_data()

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.calls.append("lost")

    def pause_writing(self) -> None:
        assert self.transport.get_write_buffer_size() > 0
        self.calls.append("full")

    def resume_writing(self) -> None:
        assert self.transport.get_write_buffer_size() == 0
        self.calls.append("room")
        self.on_room()

    async def told(self, call: str) -> None:
        await until(lambda: call in self.calls)


async def until(there: Callable[[], bool]) -> None:
    while not there():
        await trio.lowlevel.checkpoint()


async def turns() -> None:
    for _ in range(50):
        await trio.lowlevel.checkpoint()


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    return ours, theirs


@pytest.fixture(params=["socket", "stream", "elsewhere"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """``elsewhere``: a system without epoll."""
    if request.param == "elsewhere":
        monkeypatch.setattr(poller, "AVAILABLE", False)
    return str(request.param)


Test = Callable[[Told, trio.SocketStream], Awaitable[None]]


def connected(kind: str, test: Test, told: Told | None = None) -> None:
    """Run ``test`` with a protocol, and the other end of its connection."""

    async def main() -> None:
        receiver = Told() if told is None else told
        ours, theirs = pair()
        if kind == "stream":
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            StreamTransport(stream, receiver, "192.0.2.1").start()
        else:
            start_socket(ours, receiver, Loop(), "192.0.2.1")
            assert isinstance(receiver.transport, StreamTransport if kind == "elsewhere" else SocketTransport)
        with trio.fail_after(PATIENCE):
            async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as other:
                await test(receiver, other)
                receiver.transport.abort()
                await receiver.told("lost")
        assert receiver.calls.count("lost") == 1
        assert ours.fileno() == -1

    trio.run(main)


async def heard(told: Told, theirs: socket.socket) -> None:
    """What ``theirs`` sends is, and its end."""
    with theirs, trio.fail_after(PATIENCE):
        theirs.sendall(b"x")
        await until(lambda: told.received == b"x")
        told.transport.abort()
        await told.told("lost")


async def until_end(stream: trio.SocketStream) -> bytes:
    return b"".join([data async for data in stream])


def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def test_both_ways(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        assert told.transport.get_extra_info("peername") == ("192.0.2.1", 0)
        assert told.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert told.transport.get_extra_info("cipher", "none") == "none"
        assert told.transport.can_write_eof()
        await other.send_all(b"hello")
        await until(lambda: told.received == b"hello")
        told.transport.write(b"now")
        assert await other.receive_some() == b"now"

    connected(kind, run)


def test_what_is_more_than_the_system_takes(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        def write_more() -> None:
            if told.calls.count("room") == 1:
                told.transport.write(MUCH)

        told.on_room = write_more
        told.transport.write(MUCH)
        told.transport.write(b"more")
        assert told.calls == ["full"]
        received = 0
        while received < 2 * len(MUCH) + 4:
            received += len(await other.receive_some())
        await until(lambda: len(told.calls) == 4)
        assert told.calls == ["full", "room", "full", "room"]

    connected(kind, run)


def test_closing_sends_what_is_there(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        told.transport.write(MUCH)
        told.transport.close()
        told.transport.write(b"too late")
        assert await until_end(other) == MUCH
        await told.told("lost")
        assert told.error is None

    connected(kind, run)


def test_nothing_is_told_after_closing(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        told.transport.write(MUCH)
        told.transport.close()
        await other.send_all(b"x")
        await turns()
        assert told.calls == ["full"]
        assert told.received == b""

    connected(kind, run)


def test_aborting_does_not(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        told.transport.write(MUCH)
        told.transport.abort()
        assert told.transport.get_write_buffer_size() == 0
        assert len(await until_end(other)) < len(MUCH)

    connected(kind, run)


@pytest.mark.parametrize("much", [b"", MUCH])
def test_an_end_of_writing_is_not_one_of_reading(kind: str, much: bytes) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        if much:
            told.transport.write(much)
        told.transport.write_eof()
        assert await until_end(other) == much
        await other.send_all(b"still there")
        await until(lambda: told.received == b"still there")
        await other.send_eof()
        await told.told("lost")
        assert told.calls[-2:] == ["eof", "lost"]

    connected(kind, run)


def test_one_who_sends_no_more_can_still_be_answered(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        await other.send_eof()
        await told.told("eof")
        told.transport.write(b"answer")
        told.transport.close()
        assert await until_end(other) == b"answer"

    connected(kind, run, Told(stays=True))


def test_one_who_resets(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        reset(other)
        await told.told("lost")
        assert told.calls == ["lost"]
        assert told.error is not None

    connected(kind, run)


def test_one_who_resets_while_it_is_sent_to(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        told.transport.pause_reading()
        told.transport.write(MUCH)
        reset(other)
        await told.told("lost")
        assert told.calls == ["full", "lost"]
        assert told.error is not None
        told.transport.write(b"nobody")
        told.transport.close()

    connected(kind, run)


def test_writing_to_one_who_has_reset(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        told.transport.pause_reading()
        reset(other)
        while not told.transport._closing:  # what is written meets the reset
            told.transport.write(b"x")
            await trio.lowlevel.checkpoint()
        told.transport.write_eof()
        await told.told("lost")
        assert told.error is not None

    connected(kind, run)


def test_one_who_is_gone_when_writing_ends() -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        told.transport.pause_reading()
        reset(other)
        sock = told.transport.get_extra_info("socket")
        await until(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET)
        told.transport.write_eof()
        assert "lost" not in told.calls  # reading says it

    connected("socket", run)


def test_nothing_is_told_while_it_is_paused(kind: str) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        told.on_data = told.transport.pause_reading
        for number in (1, 2, 3):
            await other.send_all(b"x")
            await until(lambda number=number: len(told.received) == number)  # type: ignore[misc]  # the default is an int
            await other.send_all(b"x")
            await turns()
            assert len(told.received) == number
            told.on_data = lambda: None
            told.transport.resume_reading()
            told.transport.resume_reading()
            await until(lambda number=number: len(told.received) == number + 1)  # type: ignore[misc]  # the same
            told.received = told.received[:number]
            told.on_data = told.transport.pause_reading
        told.transport.pause_reading()
        await other.send_eof()
        told.transport.close()
        await told.told("lost")
        assert told.calls == ["lost"]

    connected(kind, run)


def test_a_protocol_that_fails_hinders_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        def fail() -> None:
            raise RuntimeError("of ours")

        told.on_data = fail
        ours, theirs = pair()
        second = Told()
        start_socket(ours, second, told.transport._loop)
        await other.send_all(b"x")
        await told.told("lost")
        assert str(told.error) == "of ours"
        with theirs:
            theirs.sendall(b"hello")
            await until(lambda: second.received == b"hello")
            assert second.transport.get_extra_info("peername") is None
            second.transport.abort()
            await second.told("lost")

    with caplog.at_level(logging.ERROR):
        connected("socket", run)
    assert "a connection failed inside the gateway" in caplog.text


def test_a_stream_whose_protocol_fails_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        def fail() -> None:
            raise RuntimeError("of ours")

        told.on_data = fail
        await other.send_all(b"x")
        await told.told("lost")

    connected("stream", run)
    assert "a task failed inside the gateway" in caplog.text


def test_one_ends_another_that_is_ready_too() -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        ours, theirs = pair()
        second = Told()
        start_socket(ours, second, told.transport._loop)
        told.on_data = second.transport.abort
        second.on_data = told.transport.abort
        with theirs:
            theirs.sendall(b"x")
            await other.send_all(b"x")
            await until(lambda: "lost" in second.calls or "lost" in told.calls)
            assert len(told.received + second.received) == 1
            second.transport.abort()
            await second.told("lost")

    connected("socket", run)


def test_there_is_no_task_when_there_is_no_connection() -> None:
    async def main() -> None:
        loop = Loop()
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(2):
            ours, theirs = pair()
            told = Told()
            start_socket(ours, told, loop)
            with theirs, trio.fail_after(PATIENCE):
                theirs.sendall(b"x")
                await until(lambda told=told: told.received == b"x")  # type: ignore[misc]  # the default is one
                assert trio.lowlevel.current_statistics().tasks_living == before + 1
                told.transport.abort()
                await told.told("lost")
                await until(lambda: trio.lowlevel.current_statistics().tasks_living == before)

    trio.run(main)


def test_the_next_connection_comes_when_the_last_one_goes() -> None:
    async def run(told: Told, other: trio.SocketStream) -> None:
        ours, theirs = pair()
        second = Told()

        def instead() -> None:
            told.transport.abort()
            start_socket(ours, second, told.transport._loop)

        told.on_data = instead
        await other.send_all(b"x")
        await told.told("lost")
        with theirs:
            theirs.sendall(b"hello")
            await until(lambda: second.received == b"hello")
            second.transport.abort()
            await second.told("lost")

    connected("socket", run)


def test_a_readiness_that_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """select(2), BUGS: readiness is a hint."""

    class Hinted(socket.socket):
        vain = 2

        def recv(self, *arguments: Any) -> bytes:
            Hinted.vain -= 1
            if Hinted.vain >= 0:
                raise BlockingIOError
            return super().recv(*arguments)

    async def main() -> None:
        ours, theirs = pair()
        told = Told()
        start_socket(Hinted(fileno=ours.detach()), told, Loop())
        await heard(told, theirs)

    trio.run(main)
    assert Hinted.vain < 0


def test_a_socket_that_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        ours, theirs = pair()
        told = Told()
        monkeypatch.setattr(select, "epoll", exhausted)
        with theirs, pytest.raises(OSError, match="Too many open files"):
            start_socket(ours, told, Loop())
        assert ours.fileno() == -1
        assert told.transport is None

    trio.run(main)


def test_a_stream_of_trios_is_taken_over() -> None:
    async def main() -> None:
        ours, theirs = pair()
        told = Told()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        start(stream, told, Loop())
        assert isinstance(told.transport, SocketTransport)
        await stream.aclose()  # as trio.serve_listeners does
        await heard(told, theirs)

    trio.run(main)

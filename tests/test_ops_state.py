"""The file that keeps what a gateway knows over a restart: it helps when it can, and never hurts."""

import asyncio
import logging
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from msgspec.structs import replace

import gwproto_asgi.app
import gwproto_trio.server
from gwproto import Gateway, State
from gwproto_asgi import GatewayApp
from gwproto_ops.deployment import Deployment
from gwproto_ops.state import STALE, StateFile
from gwproto_quart import create_app
from gwproto_trio import Server
from support.conversation import (
    EPOCH,
    START,
    answer,
    begin,
    body,
    configuration,
    feed,
    opened,
    provider,
)

SECRET = b"Bearer sk-canary-of-the-state-file"
WALL = START + EPOCH


def gateway() -> Gateway:
    return Gateway(configuration(provider("a"), provider("b")), rng=random.Random(1), epoch=EPOCH)


def cooling(made: Gateway) -> set[str]:
    return {one.provider for one in made.shared.router.statuses(START) if one.status == "cooldown"}


def out_of_credit(made: Gateway) -> Gateway:
    exchange, commands = begin(made, body(model="a-model"))
    feed(exchange, START, *answer(opened(commands).attempt, b"{}", status=401))
    assert cooling(made) == {"a"}
    return made


def file(path: Path, secret: bytes = SECRET) -> StateFile:
    return StateFile(path / "state.json", {"a": (b"authorization", secret), "b": (b"x", b"y")})


def restored(path: Path, *, wall: float = WALL, secret: bytes = SECRET) -> set[str]:
    made = gateway()
    file(path, secret).restore(made, START, wall)
    return cooling(made)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file(tmp_path).save(out_of_credit(gateway()).snapshot(START))
    return tmp_path


def test_what_was_known_is_known_again(saved: Path) -> None:
    assert restored(saved) == {"a"}
    assert (saved / "state.json").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in saved.iterdir()] == ["state.json"]


def test_a_changed_secret_heals_its_key(saved: Path) -> None:
    assert restored(saved, secret=b"Bearer sk-another") == set()


def test_secrets_are_not_in_the_file(saved: Path) -> None:
    assert b"canary" not in (saved / "state.json").read_bytes()


def test_a_first_start_has_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert restored(tmp_path) == set()
    assert not caplog.records


@pytest.mark.parametrize("age", [STALE, 2 * STALE, -STALE])
def test_a_stale_file_is_passed_over(saved: Path, age: float) -> None:
    assert restored(saved, wall=WALL + age) == set()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: b"\xff" * 100,
        lambda text: b"[" * 100_000,
        lambda text: b"{}",
        lambda text: text.replace(b'"at":', b'"when":'),
        lambda text: text.replace(b'"left":', b'"left":"x","l":'),
    ],
)
def test_a_corrupt_file_is_passed_over_and_named(
    saved: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = saved / "state.json"
    path.write_bytes(damage(path.read_bytes()))
    assert restored(saved) == set()
    assert str(path) in caplog.text


def test_another_versions_file_is_passed_over(saved: Path) -> None:
    path = saved / "state.json"
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    assert restored(saved) == set()


def test_what_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost = file(tmp_path / "missing")
    state = gateway().snapshot(START)
    lost.save(state)
    lost.save(state)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (tmp_path / "missing").mkdir()
    lost.save(state)
    (tmp_path / "missing" / "state.json").unlink()
    (tmp_path / "missing").rmdir()
    lost.save(state)
    assert len(caplog.records) == 2


# The runtimes


def deployment() -> Deployment:
    credentials = {"a": (b"authorization", SECRET), "b": (b"x", b"y")}
    return Deployment(configuration(provider("a"), provider("b")), credentials)


async def until_there(path: Path) -> None:
    with anyio.fail_after(20):
        while not (path / "state.json").exists():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Savings follow each other at once."""
    monkeypatch.setattr(gwproto_asgi.app, "INTERVAL", 0.0)
    monkeypatch.setattr(gwproto_trio.server, "INTERVAL", 0.0)


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_application_keeps_its_state_while_it_lives_and_at_its_end(backend: str, tmp_path: Path) -> None:
    async def main() -> None:
        app = GatewayApp(deployment(), state=file(tmp_path))
        starting, stopping = anyio.Event(), anyio.Event()
        messages: list[str] = []

        async def receive() -> dict[str, Any]:
            if not starting.is_set():
                starting.set()
                return {"type": "lifespan.startup"}
            await stopping.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Any) -> None:
            messages.append(message["type"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, {"type": "lifespan"}, receive, send)
            await until_there(tmp_path)
            stopping.set()
        assert messages == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        (tmp_path / "state.json").unlink()
        await app.aclose()
        assert (tmp_path / "state.json").exists()

    anyio.run(main, backend=backend)


@pytest.mark.usefixtures("busy")
def test_quart_keeps_its_state(tmp_path: Path) -> None:
    async def main() -> None:
        app = create_app(deployment(), state=file(tmp_path))
        await app.startup()
        await until_there(tmp_path)
        await app.shutdown()
        (tmp_path / "state.json").unlink()

    asyncio.run(main())


@pytest.mark.sockets
@pytest.mark.usefixtures("busy")
def test_trio_keeps_its_state(tmp_path: Path) -> None:
    async def main() -> None:
        server = Server(deployment(), state=file(tmp_path))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [socket.create_server(("127.0.0.1", 0))])
            await until_there(tmp_path)
            server.drain()
        (tmp_path / "state.json").unlink()

    trio.run(main)


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        app = GatewayApp(deployment())
        await app.keep_state()
        await app.aclose()

    asyncio.run(main())


def test_servers_go_on_from_the_file(saved: Path) -> None:
    async def on_trio() -> set[str]:
        wall = trio.current_time() + Server(deployment()).gateway.shared.epoch
        file(saved).save(known_at(wall))
        return cooling_now(Server(deployment(), state=file(saved)).gateway)

    assert trio.run(on_trio) == {"a"}


def known_at(wall: float) -> State:
    return replace(out_of_credit(gateway()).snapshot(START), at=wall)


def cooling_now(made: Gateway) -> set[str]:
    now = trio.current_time()
    return {one.provider for one in made.shared.router.statuses(now) if one.status == "cooldown"}

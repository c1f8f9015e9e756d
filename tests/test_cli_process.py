"""What the commands ask of the system before they begin."""

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import banner, environment

from gwproto_cli import process

SOFT = 256


def limited() -> None:
    """As a shell with a low soft limit starts its commands."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))


@pytest.mark.sockets
@pytest.mark.parametrize("argv", [("serve", "--workers", "1"), ("providers-sim",)])
def test_as_many_streams_as_the_system_allows(argv: tuple[str, ...]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with subprocess.Popen(
        [sys.executable, "-m", "gwproto_cli", *argv, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
        preexec_fn=limited,
    ) as running:
        try:
            if argv[0] == "serve":
                banner(running)
            else:
                assert running.stdout is not None
                assert running.stdout.readline()
            limits = Path(f"/proc/{running.pid}/limits").read_text()
        finally:
            running.kill()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == [str(min(hard, process.DESCRIPTORS)), str(hard)]


class Limits:
    """The system's, as far as a process can tell."""

    def __init__(self, soft: int, hard: int, allowed: int | None = None) -> None:
        self.now = (soft, hard)
        self.allowed = allowed
        self.set: list[tuple[int, int]] = []

    def get(self, _: int) -> tuple[int, int]:
        return self.now

    def put(self, _: int, limits: tuple[int, int]) -> None:
        self.set.append(limits)
        if self.allowed is not None and limits[0] > self.allowed:
            raise ValueError("current limit exceeds maximum limit")


INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        (Limits(1024, 4096), [(4096, 4096)]),
        (Limits(1024, 1 << 20), [(process.DESCRIPTORS, 1 << 20)]),
        (Limits(1024, INFINITE), [(process.DESCRIPTORS, INFINITE)]),
        (Limits(1024, INFINITE, allowed=10240), [(process.DESCRIPTORS, INFINITE)]),
        (Limits(4096, 4096), []),
        (Limits(1 << 20, 1 << 20), []),
        (Limits(INFINITE, INFINITE), []),
    ],
)
def test_the_limit_is_only_ever_raised(
    monkeypatch: pytest.MonkeyPatch, limits: Limits, asked: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.put)
    process.raise_descriptors()
    assert limits.set == asked


def test_a_library_without_such_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    process.keep_memory()

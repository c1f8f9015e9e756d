"""A real PostgreSQL server, Debian's, for the tests that ask for it: without a network, and without a disk's safety."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    other = shutil.which("pg_ctl")
    return Path(other).parent if other else None


class Server:
    """Listens on a socket in a folder of its own."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._names = itertools.count(1)
        # It refuses to run as root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"
        )

    def start(self) -> None:
        quick = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=20"
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder} {quick}"
        self._run("pg_ctl", "start", "--wait", f"--options={options}", f"--log={self._folder}/log")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self) -> str:
        """Of nothing that anybody else uses: a schema of its own."""
        base = f"postgresql://postgres@/postgres?host={self._folder}"
        name = f"test_{next(self._names)}"
        with psycopg.connect(base, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{base}&options=-csearch_path%3D{name}"

    def _run(self, program: str, *arguments: str) -> None:
        command = (str(self._binaries / program), f"--pgdata={self._folder}/data", *arguments)
        # What it says goes to a file: the server keeps a pipe open.
        with open(self._folder.parent / f"{self._folder.name}.said", "a+") as said:
            done = subprocess.run(command, cwd="/", stdout=said, stderr=said, check=False, **self._user)
            said.seek(0)
            assert done.returncode == 0, said.read()[-2000:]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    # A socket's path may have 107 bytes, so pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="gwproto-pg-"))
    inner = folder / "pg"
    inner.mkdir()
    folder.chmod(0o755)
    try:
        server = Server(binaries, inner)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)

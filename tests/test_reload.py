"""Reading the configuration again: what counts as a change, what stays, what is said of it."""

import hashlib
import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gwproto import ClientData, ClientEnd, Command, ConfigurationError, Exchange, Gateway
from gwproto.config import AnalyticsSettings, ServerSettings, Settings
from gwproto_ops import reloading
from gwproto_ops.deployment import Deployment, files_of
from gwproto_ops.reloading import Reloader, Source, at_next_start
from gwproto_ops.start import reconfigure_gateway
from gwproto_ops.state import StateFile
from support.conversation import EPOCH, START, answer, body, feed, head

ENTRY = '[[keys]]\nlabel = "{}"\nsha256 = "{}"\n'
PROVIDER = '[[providers]]\nname = "own"\nbase_url = "http://own.example/v1"\nmodels = [{ id = "m" }]\n'


def entry(label: str) -> str:
    return ENTRY.format(label, hashlib.sha256(label.encode()).hexdigest())


class Files:
    """A configuration in three files, what is in force of it, and what was logged."""

    def __init__(self, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.config = directory / "gateway.toml"
        self.keys = directory / "keys.toml"
        self.secret = directory / "secret"
        self.caplog = caplog
        self.keys.write_text(entry("one"))
        self.secret.write_text("provider-canary-1")
        self.write()
        self.environ = {"MINE": "variable-canary"}
        self.source = Source(str(self.config), environ=lambda: self.environ)
        self.applied = [self.source.read()]
        self.reloader = Reloader(self.source, self.applied[0])
        self.reloader.attach(self.applied.append, lambda function: function())

    def write(self, more: str = "", provider: str = PROVIDER) -> None:
        auth = f'[auth]\nkeys_file = "{self.keys}"\n'
        self.config.write_text(f'{auth}{more}\n{provider}\napi_key_file = "{self.secret}"\n')

    def look(self, times: int = 2) -> int:
        """How many were put in force by it."""
        before = len(self.applied)
        for _ in range(times):
            self.reloader.look()
        return len(self.applied) - before

    @property
    def labels(self) -> list[str]:
        return [key.label for key in self.applied[-1].configuration.keys]

    @property
    def warnings(self) -> list[str]:
        found = [record for record in self.caplog.records if record.levelno == logging.WARNING]
        assert {record.name for record in found} <= {"gwproto"}
        return [record.getMessage() for record in found]


@pytest.fixture
def files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Files]:
    caplog.set_level(logging.INFO, "gwproto")
    yield Files(tmp_path, caplog)
    assert "canary" not in caplog.text


def test_nothing_is_read_while_nothing_changes(files: Files) -> None:
    assert files.look(5) == 0
    assert files.reloader.status == reloading.Reloads(0, 0, "", files.reloader.status.loaded_at)


def test_a_file_that_changed_is_read_when_it_has_been_left_alone(files: Files) -> None:
    files.keys.write_text(entry("one") + entry("two"))
    assert files.look(1) == 0
    files.keys.write_text(entry("one") + entry("two") + entry("three"))
    assert files.look(1) == 0  # somebody still writes
    assert files.look(1) == 1
    assert files.labels == ["one", "two", "three"]
    assert files.look(3) == 0
    assert files.caplog.messages == ["the configuration was read again and is in force"]
    assert files.reloader.status.reloads == 1


def test_each_of_the_files_counts(files: Files) -> None:
    files.secret.write_text("provider-canary-2")
    assert files.look() == 1
    assert files.applied[-1].credentials["own"][1] == b"Bearer provider-canary-2"
    files.write("[retry]\nmax_attempts = 2")
    assert files.look() == 1
    assert files.applied[-1].configuration.settings.retry.max_attempts == 2


def test_a_file_put_in_anothers_place_counts_though_it_looks_the_same(files: Files) -> None:
    """As editors write, and Kubernetes swaps what a link leads to."""
    before = files.keys.stat()
    beside = files.keys.with_name("beside")
    beside.write_text(entry("two"))
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert beside.stat().st_size == before.st_size
    os.replace(beside, files.keys)
    assert files.look() == 1
    assert files.labels == ["two"]


def test_a_file_that_is_named_anew_is_looked_at_and_one_that_is_not_no_more(files: Files) -> None:
    old, files.keys = files.keys, files.keys.with_name("others.toml")
    files.write()
    assert files.look() == 0
    assert files.warnings == [
        f"the configuration was read again and is not used, the one before stays:\n"
        f"{files.keys}: No such file or directory"
    ]
    files.keys.write_text(entry("other"))
    assert files.look() == 1
    assert files.labels == ["other"]
    old.write_text("broken")
    assert files.look() == 0


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ("", "{}: holds no [[keys]]"),
        ("# nothing\n", "{}: holds no [[keys]]"),
        ("keys = [", "{}: not TOML: Invalid value (at end of document)"),
        ("\xff", "{}: not UTF-8"),
        ("[[keys]]\nlabl = 1\n", "{}: keys[0].labl: unknown key; the nearest known one is label"),
        ('[[keys]]\nsha256 = "a-canary"\n', "{}: keys[0].sha256: entry 1 does not end in a SHA-256 in hex"),
        ("[[keys]]\n", "{}: keys[0]: needs one of env and sha256"),
        ('[[keys]]\nenv = "NO_SUCH"\n', "{}: keys[0].env: NO_SUCH is not set"),
        (entry("one") * 2, "{}: keys[1]: is the same key as one"),
        (
            entry("one") + "models = ['own/n']\n",
            "{}: keys[0].models[0]: is no model or alias; the nearest known one is own/m",
        ),
        (entry("one") + "expires = 2027-01-01\n", "{}: keys[0].expires: expected datetime, got date"),
        (
            entry("one") + "expires = 2027-01-01T00:00:00\n",
            "{}: keys[0].expires: expected datetime with a timezone component",
        ),
        (
            entry("one") + "projects = ['" + "x" * 1000 + "']\n",
            "{}: keys[0].projects: expected 1 to 64 of the characters A-Z a-z 0-9 . _ : -",
        ),
        (entry("one") + "models = []\n", "{}: keys[0].models: expected array of length >= 1"),
    ],
)
def test_a_broken_keys_file_leaves_all_as_it_is_and_is_told_once(
    files: Files, broken: str, problem: str
) -> None:
    files.keys.write_bytes(broken.encode("latin-1"))
    assert files.look(5) == 0
    problem = problem.format(files.keys)
    assert files.warnings == [
        f"the configuration was read again and is not used, the one before stays:\n{problem}"
    ]
    status = files.reloader.status
    assert (status.reloads, status.failures, status.last_error) == (0, 1, problem)
    files.keys.write_text(entry("two"))
    assert files.look() == 1
    status = files.reloader.status
    assert (status.reloads, status.failures, status.last_error) == (1, 1, "")


@pytest.mark.parametrize("make", [Path.unlink, lambda path: (path.unlink(), path.mkdir())])
def test_a_keys_file_that_is_gone(files: Files, make: Callable[[Path], object]) -> None:
    make(files.keys)
    assert files.look(5) == 0
    assert len(files.warnings) == 1
    assert str(files.keys) in files.reloader.status.last_error


def test_a_broken_configuration_names_every_problem(files: Files) -> None:
    files.write("[server]\nprot = 1\n[retry]\nmax_attempts = 0")
    assert files.look() == 0
    assert files.reloader.status.last_error.splitlines() == [
        "server.prot: unknown key; the nearest known one is port",
        "retry.max_attempts: expected int >= 1",
    ]


def test_whatever_else_goes_wrong_ends_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a canary")

    with monkeypatch.context() as patch:
        patch.setattr("gwproto_ops.deployment.deploy", fail)
        files.reloader.reload()
    files.reloader.attach(fail, lambda function: function())
    files.reloader.reload()
    assert [warning.splitlines()[1] for warning in files.warnings] == [
        "the configuration could not be read: ZeroDivisionError",
        "the configuration could not be put in force: ZeroDivisionError",
    ]


def test_what_takes_effect_later_is_named(files: Files) -> None:
    files.write(
        '[server]\nport = 1\nstate_dir = "x"\ndrain_timeout = 1\n[analytics]\ndatabase = "sqlite:///y"'
    )
    assert files.look() == 1
    assert files.warnings == [
        f"{name}: takes effect at the next start"
        for name in ("server.port", "server.state_dir", "analytics.database")
    ]
    assert files.applied[-1].configuration.settings.server.drain_timeout == 1


def test_what_cannot_change_while_a_process_runs() -> None:
    running = Settings()
    other = Settings(
        server=ServerSettings(
            host="::1", port=1, runtime="trio", workers=2, state_dir="d", state_file="f", public_stats=True
        ),
        analytics=AnalyticsSettings(database="x"),
    )
    assert list(at_next_start(running, running)) == []
    assert len(list(at_next_start(running, other))) == 7


def test_who_waits_hears_of_every_reading(files: Files) -> None:
    heard: list[str] = []
    files.reloader.settled = lambda: heard.append(files.reloader.status.last_error)
    files.reloader.reload()
    files.keys.write_text("keys = [")
    files.reloader.reload()
    files.keys.write_text(entry("one"))

    def fails(made: Deployment) -> None:
        raise ValueError

    files.reloader.attach(fails, lambda function: function())
    files.reloader.reload()
    good, broken, not_applied = heard
    assert good == ""
    assert "not TOML" in broken
    assert "put in force: ValueError" in not_applied


def test_asked_without_any_file() -> None:
    environ = {"GATEWAY_API_KEY": "a", "GROQ_API_KEY": "b"}
    source = Source(environ=lambda: environ)
    applied = [source.read()]
    reloader = Reloader(source, applied[0])
    reloader.attach(applied.append, lambda function: function())
    assert source.changes() == {}
    environ["GATEWAY_API_KEY"] = "c"
    reloader.reload()
    assert applied[1].configuration.keys != applied[0].configuration.keys


def test_a_file_of_variables_is_one_of_them(tmp_path: Path) -> None:
    from gwproto_cli.environment import environment

    file = tmp_path / "env"
    file.write_text("GROQ_API_KEY=a\nGATEWAY_API_KEY=b\n")
    source = Source(environ=lambda: environment(str(file)), files=(str(file),))
    before = source.read()
    file.write_text("GROQ_API_KEY=a\nGATEWAY_API_KEY=c\n")
    assert list(source.changes()) == [str(file)]
    assert source.read().configuration.keys != before.configuration.keys
    assert source.changes() == {}


def test_a_made_key_stays_and_goes_when_there_is_another(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(PROVIDER)
    environ: dict[str, str] = {}
    source = Source(str(config), environ=lambda: environ, make_key=True)
    first = source.read()
    assert first.made_key.startswith("gw-")
    again = source.read()
    assert (again.made_key, again.configuration.keys) == (first.made_key, first.configuration.keys)
    environ["GATEWAY_API_KEY"] = "k"
    assert source.read().made_key == ""
    del environ["GATEWAY_API_KEY"]
    assert source.read().made_key == first.made_key


def test_a_name_that_no_file_has() -> None:
    assert reloading.stamp("a\0b") is None
    with pytest.raises(ConfigurationError) as caught:
        Source("a\0b").read()
    assert caught.value.problems == (("a\0b", "is no file's name"),)


def test_the_files_of_a_configuration(files: Files) -> None:
    settings = files.applied[0].configuration.settings
    assert files_of(settings) == (str(files.keys), str(files.secret))
    assert files_of(Settings()) == ()


def test_a_thread_looks_and_hears(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    news = threading.Condition()
    seen: list[Deployment] = []

    def apply(made: Deployment) -> None:
        with news:
            seen.append(made)
            news.notify_all()

    def wait(count: int) -> None:
        with news:
            assert news.wait_for(lambda: len(seen) == count, 20.0)

    monkeypatch.setattr(Reloader, "INTERVAL", 0.01)
    reloader = Reloader(files.source, files.applied[0])
    reloader.attach(apply, lambda function: function())
    reloader.start()
    reloader.ask()
    wait(1)
    files.keys.write_text(entry("two"))
    wait(2)
    reloader.close()
    assert [key.label for key in seen[1].configuration.keys] == ["two"]


def test_a_loop_that_has_ended_ends_the_thread(files: Files) -> None:
    def ended(function: object) -> None:
        raise RuntimeError("closed")

    reloader = Reloader(files.source, files.applied[0])
    reloader.attach(files.applied.append, ended)
    reloader.start()
    reloader.ask()
    assert reloader._thread is not None
    reloader._thread.join(20.0)
    assert not reloader._thread.is_alive()
    reloader.close()


def asked(gateway: Gateway, now: float = START) -> tuple[Exchange, list[Command]]:
    exchange = gateway.begin(head(key="one"), now)
    exchange.start(now)
    exchange.receive(ClientData(body()), now)
    return exchange, list(exchange.receive(ClientEnd(), now))


UNAUTHORIZED = answer(1, b'{"error": {"code": "invalid_api_key"}}', status=401)


class TestCredentials:
    """A secret that is another one is healed; one that stays keeps what is known of it."""

    def gateway(self, files: Files) -> Gateway:
        return Gateway(files.applied[0].configuration, rng=random.Random(1), epoch=EPOCH)

    def rotate(self, files: Files, gateway: Gateway, secret: str) -> StateFile:
        files.secret.write_text(secret)
        before, after = files.applied[0], files.source.read()
        state = StateFile(files.secret.with_name("state"), before.credentials)
        reconfigure_gateway(gateway, before, after, START + 1.0, state=state, journal=None)
        return state

    def status(self, gateway: Gateway) -> str:
        (status,) = gateway.shared.router.statuses(START + 2.0)
        return status.status

    def test_the_same_secret(self, files: Files) -> None:
        gateway = self.gateway(files)
        feed(asked(gateway)[0], START, *UNAUTHORIZED)
        self.rotate(files, gateway, "provider-canary-1")
        assert self.status(gateway) == "cooldown"

    def test_another_secret(self, files: Files) -> None:
        gateway = self.gateway(files)
        feed(asked(gateway)[0], START, *UNAUTHORIZED)
        self.rotate(files, gateway, "provider-canary-2")
        assert self.status(gateway) == "available"

    def test_the_old_secrets_refusal_is_not_the_new_ones(self, files: Files) -> None:
        gateway = self.gateway(files)
        under_way = asked(gateway)[0]
        self.rotate(files, gateway, "provider-canary-2")
        feed(under_way, START + 2.0, *UNAUTHORIZED)
        assert self.status(gateway) == "available"
        feed(asked(gateway, START + 2.0)[0], START + 2.0, *UNAUTHORIZED)
        assert self.status(gateway) == "cooldown"

    def test_the_state_file_knows_the_secret_in_use(self, files: Files) -> None:
        gateway = self.gateway(files)
        state = self.rotate(files, gateway, "provider-canary-2")
        feed(asked(gateway, START + 2.0)[0], START + 2.0, *UNAUTHORIZED)
        state.save(gateway.snapshot(START + 2.0))
        for secret, status in (("provider-canary-2", "cooldown"), ("provider-canary-3", "available")):
            files.secret.write_text(secret)
            made = files.source.read()
            again = Gateway(made.configuration, rng=random.Random(1), epoch=EPOCH)
            kept = StateFile(files.secret.with_name("state"), made.credentials)
            assert kept.restore(again, START + 2.0, START + 2.0 + EPOCH)
            assert self.status(again) == status

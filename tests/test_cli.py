"""The command line, as its users see it: what it prints, and its exit status."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gwproto.policy.auth import parse_hashes
from gwproto_cli import main
from gwproto_cli.serving import is_loopback
from gwproto_ops import deployment

ROOT = Path(__file__).parent.parent

FILE = """
[server]
workers = 2

[auth]
keys = [{ label = "me", env = "MY_KEY" }]

[analytics]
database = "postgresql://user:database-canary@db/x"

[[providers]]
name = "own"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "OWN_KEY"
proxy = "http://user:proxy-canary@proxy"
headers = { x-api = "header-canary" }
timeouts = { connect = 1.0 }
models = [{ id = "m" }]

[aliases]
"other" = ["m"]
"""
SECRETS = {"MY_KEY": "client-canary", "OWN_KEY": "provider-canary"}

# What a developer's own shell may hold must not reach these tests.
CREDENTIALS = {
    variable
    for entry in deployment.known_providers().values()
    for variable in (
        *(*entry.key_env, *entry.named_key_env, entry.host_env, f"{entry.name.upper()}_BASE_URL"),
        *entry.missing({}),
    )
}


def ours(variable: str) -> bool:
    return variable in CREDENTIALS or variable.startswith(("GWPROTO_", "GATEWAY_API_KEY"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in filter(ours, list(os.environ)):
        monkeypatch.delenv(variable)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "gateway.toml"
    path.write_text(FILE)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(argv)
    return status, *capsys.readouterr()


class TestCheck:
    def test_shows_every_value_with_its_origin(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GWPROTO_SERVER__PORT", "9000")
        status, out, err = run(capsys, "check", "--config", config)
        assert (status, err) == (0, "")
        lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
        assert lines["server.port"] == "9000 GWPROTO_SERVER__PORT"
        assert lines["server.workers"] == "2 file"
        assert lines["server.runtime"] == "quart default"
        assert lines["auth.keys"] == "me=*** file"
        assert lines["timeouts.body"] == "60.0 default"
        assert lines["providers.own.base_url"] == "http://127.0.0.1:9/v1 file"
        assert lines["providers.own.headers"] == '{"x-api":"***"} file'
        assert lines["providers.own.timeouts"] == '{"connect":1.0} file'
        assert lines["providers.own.models"] == "m file"
        assert (
            lines["providers.own.proxy"] == "http://***@proxy file does nothing yet: connections are direct"
        )
        assert lines["aliases.other"] == "m file"

    def test_shows_the_limits_in_force(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = """
            [server]
            trusted_proxies = ["10.0.0.0/8"]
            [auth]
            keys = [{ label = "me", env = "MY_KEY", tokens_per_day = 7 }]
            [limits]
            burst = 5
            project = { tokens_per_minute = 9 }
            [[providers]]
            name = "own"
            base_url = "http://127.0.0.1:9"
            models = [{ id = "m" }]
        """
        Path(config).write_text(file)
        monkeypatch.setenv("GWPROTO_LIMITS__REQUESTS_PER_DAY", "100")
        _, out, _ = run(capsys, "check", "--config", config)
        lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if line}
        assert lines["server.trusted_proxies"] == "10.0.0.0/8 file"
        assert lines["limits.burst"] == "5 file"
        assert lines["limits.requests_per_day"] == "100 GWPROTO_LIMITS__REQUESTS_PER_DAY"
        assert lines["limits.project.tokens_per_minute"] == "9 file"
        assert lines["auth.keys.me.tokens_per_day"] == "7 file"
        assert "auth.keys.me.burst" not in lines

    def test_shows_the_quirks_in_force(self, capsys: pytest.CaptureFixture[str], config: str) -> None:
        file = """
            [[providers]]
            name = "mine"
            base_url = "http://127.0.0.1:9"
            quirks = { drop = ["user", "seed"] }
            models = [{ id = "m", quirks = { effort = ["low"] } }]
        """
        Path(config).write_text(file)
        _, out, _ = run(capsys, "check", "--config", config)
        lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
        assert lines["providers.mine.quirks.drop"] == "seed, user file"
        assert lines["providers.mine.models.m.quirks.effort"] == '["low"] file'

    @pytest.mark.parametrize("flags", [(), ("--json",)])
    def test_no_secret_is_shown(
        self, capsys: pytest.CaptureFixture[str], config: str, flags: tuple[str, ...]
    ) -> None:
        status, out, err = run(capsys, "check", "--config", config, *flags)
        assert status == 0
        assert "canary" not in out + err

    def test_a_password_is_hidden_whatever_it_holds(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GWPROTO_ANALYTICS__DATABASE", "postgresql://me:a@canary/ and@canary@db/x")
        _, out, _ = run(capsys, "check", "--config", config)
        assert "canary" not in out
        assert "postgresql://***@db/x" in out
        monkeypatch.setenv("GWPROTO_ANALYTICS__DATABASE", "postgresql://me@db/x?password=canary")
        _, out, _ = run(capsys, "check", "--config", config)
        assert "canary" not in out

    def test_json(self, capsys: pytest.CaptureFixture[str], config: str) -> None:
        _, out, _ = run(capsys, "check", "--json", "--config", config)
        rows = {row["setting"]: row for row in json.loads(out)}
        assert rows["server.workers"] == {
            "setting": "server.workers",
            "value": 2,
            "origin": "file",
            "note": "",
        }

    def test_without_anything(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "check")
        assert status == 0
        assert "serve would run simulated ones" in out

    def test_client_keys_are_checked_without_providers_too(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GATEWAY_API_KEY_HASHES", "canary")
        problem = "GATEWAY_API_KEY_HASHES: entry 1 does not end in a SHA-256 in hex\n"
        assert run(capsys, "check") == (1, "", problem)
        monkeypatch.delenv("GATEWAY_API_KEY_HASHES")
        monkeypatch.setenv("GWPROTO_SERVER__HOST", "0.0.0.0")
        status, _, err = run(capsys, "check")
        assert (status, err[:16]) == (1, "GATEWAY_API_KEY:")

    def test_a_file_without_providers_could_not_be_served(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path(config).write_text("[server]\n")
        monkeypatch.setenv("GWPROTO_CONFIG", config)
        status, out, err = run(capsys, "check")
        assert (status, out) == (1, "")
        assert err.startswith("providers: none configured")

    @pytest.mark.parametrize("command", ["check", "models"])
    def test_an_empty_variable_names_no_file(
        self, capsys: pytest.CaptureFixture[str], command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GWPROTO_CONFIG", "")
        assert run(capsys, command)[0] == 0

    def test_client_keys_from_variables(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GATEWAY_API_KEY", "canary")
        monkeypatch.setenv("GATEWAY_API_KEY_HASHES", "other:" + "0" * 64)
        _, out, _ = run(capsys, "check", "--json", "--config", config)
        (row,) = (row for row in json.loads(out) if row["setting"] == "auth.keys")
        assert row["value"] == ["me=***", "default=***", "other=***"]
        assert row["origin"] == "file, GATEWAY_API_KEY, GATEWAY_API_KEY_HASHES"

    def test_the_file_may_be_named_by_a_variable(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GWPROTO_CONFIG", config)
        assert "providers.own.base_url" in run(capsys, "check")[1]

    def test_origins_of_what_is_found(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GROQ_API_KEY", "k")
        monkeypatch.setenv("GATEWAY_API_KEY", "k")
        _, out, _ = run(capsys, "check")
        lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
        assert lines["providers.groq.base_url"] == ["https://api.groq.com/openai/v1", "default"]
        assert lines["providers.groq.api_keys_env"] == ["GROQ_API_KEY", "GROQ_API_KEY"]

    @pytest.mark.parametrize("command", ["check", "serve"])
    @pytest.mark.parametrize(
        ("text", "lines"),
        [
            (
                "[server]\nprot = 1\nport = 'x'",
                [
                    "server.prot: unknown key; the nearest known one is port",
                    "server.port: expected int, got str",
                ],
            ),
            (FILE.replace("OWN_KEY", "NO_SUCH"), ["providers.own.api_key_env: NO_SUCH is not set"]),
            (
                FILE.replace("[server]", "[server]\nhost = '0.0.0.0'").replace("keys =", "#"),
                ["GATEWAY_API_KEY: no client key is configured; `gwproto keys new` makes one"],
            ),
        ],
    )
    def test_problems(
        self, capsys: pytest.CaptureFixture[str], config: str, command: str, text: str, lines: list[str]
    ) -> None:
        Path(config).write_text(text)
        status, out, err = run(capsys, command, "--config", config)
        assert (status, out, err.splitlines()) == (1, "", lines)

    @pytest.mark.parametrize("command", ["check", "serve", "models"])
    def test_a_file_that_is_not_there(self, capsys: pytest.CaptureFixture[str], command: str) -> None:
        status, out, err = run(capsys, command, "--config", "/no/such/file")
        assert (status, out, err) == (1, "", "/no/such/file: No such file or directory\n")


class TestEnvFile:
    def test_is_read_below_the_environment(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "env"
        file.write_text(
            "# comment\n\nexport GWPROTO_SERVER__PORT='1'\n"
            'GWPROTO_SERVER__HOST = "::1"\nGWPROTO_SERVER__WORKERS=3\nGWPROTO_LIMITS__BURST=\'\n'
        )
        monkeypatch.setenv("GWPROTO_SERVER__WORKERS", "4")
        monkeypatch.setenv("GWPROTO_LIMITS__BURST", "5")
        _, out, _ = run(capsys, "check", "--env-file", str(file))
        lines = {line.split()[0]: line.split()[1] for line in out.splitlines() if line}
        assert [lines[f"server.{key}"] for key in ("port", "host", "workers")] == ["1", "::1", "4"]

    def test_problems(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = tmp_path / "env"
        file.write_text("A=1\nnonsense\n1B=2\n")
        assert run(capsys, "check", "--env-file", str(file))[0::2] == (
            1,
            f"{file}:2: expected NAME=value\n{file}:3: expected NAME=value\n",
        )
        file.write_bytes(b"A=\xff")
        assert run(capsys, "check", "--env-file", str(file))[2] == f"{file}: not UTF-8\n"
        assert run(capsys, "check", "--env-file", "/no")[2] == "/no: No such file or directory\n"


class TestModels:
    def needs(self, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, str]:
        status, out, _ = run(capsys, "models", "--json", *flags)
        assert status == 0
        return {row["provider"]: row["needs"] for row in json.loads(out)}

    def test_what_is_at_hand_and_what_is_not(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GROQ_API_KEY", "k")
        needs = self.needs(capsys)
        assert needs["groq"] == ""
        assert needs["nvidia"] == "NVIDIA_API_KEY or NVIDIA_NIM_API_KEY"
        assert needs["ollama"] == "OLLAMA_HOST"
        assert needs["pollinations"] == "GWPROTO_PROVIDERS=pollinations"
        assert needs["workers_ai"] == "CLOUDFLARE_ACCOUNT_ID, CLOUDFLARE_API_TOKEN"
        assert needs["cohere_compat"] == "COHERE_API_KEY or CO_API_KEY, GWPROTO_PROVIDERS=cohere_compat"
        monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "acc")
        assert self.needs(capsys)["workers_ai"] == "CLOUDFLARE_API_TOKEN"
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "k")
        assert self.needs(capsys)["workers_ai"] == ""

    def test_what_is_known_of_a_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        rows = {row["id"]: row for row in json.loads(run(capsys, "models", "--json")[1])}
        known = rows["groq-gpt-oss-120b"]
        assert known["upstream"] == "openai/gpt-oss-120b"
        assert (known["format"], known["context_window"], known["requests_per_day"]) == (
            "openai",
            131072,
            1000,
        )
        assert known["input_price"] < known["output_price"]
        assert known["source"]
        assert known["as_of"]
        assert rows["workers_ai-gpt-oss-120b"]["format"] == "workers_ai"

    def test_beside_a_file(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GROQ_API_KEY", "k")
        monkeypatch.delenv("OWN_KEY")
        needs = self.needs(capsys, "--config", config)
        assert needs["own"] == "OWN_KEY is not set"
        assert needs["groq"] == "a [[providers]] entry or routing.discover = true"
        monkeypatch.setenv("GWPROTO_PROVIDERS", "own")
        assert self.needs(capsys, "--config", config)["groq"] == "groq in GWPROTO_PROVIDERS"

    def test_as_a_table(self, capsys: pytest.CaptureFixture[str], config: str) -> None:
        _, out, _ = run(capsys, "models", "--config", config)
        header, own, *others = out.splitlines()
        assert header.split() == [
            "model",
            "provider",
            "tier",
            "context",
            "capabilities",
            "$/M",
            "in,",
            "out",
            "status",
        ]
        assert own.split() == ["m", "own", "medium", "-", "all", "assumed", "-", "available"]
        assert any(line.endswith("needs OPENAI_API_KEY") for line in others)

    def test_as_a_table_on_a_terminal(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        Path(config).write_text(FILE.replace('id = "m"', 'id = "[red]m"').replace('["m"]', '["[red]m"]'))
        _, out, _ = run(capsys, "models", "--config", config)
        assert "[red]m" in out

    def test_on_a_terminal_without_rich(
        self, capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = run(capsys, "models", "--config", config)[1]
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setitem(sys.modules, "rich.console", None)
        assert run(capsys, "models", "--config", config)[1] == plain


class TestKeys:
    def test_a_new_key_and_its_entry(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "keys", "new", "--label", "ci")
        key, entry, *_ = out.splitlines()
        assert status == 0
        assert entry == f"ci:{deployment.client_key('ci', key).sha256.hex()}"
        (parsed,) = parse_hashes(entry)
        assert parsed == deployment.client_key("ci", key)

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        made = json.loads(run(capsys, "keys", "new", "--json")[1])
        assert made["entry"] == f"client:{deployment.client_key('', made['key']).sha256.hex()}"

    @pytest.mark.parametrize("label", ["", "a:b", "a,b", "a b", "x" * 65])
    def test_labels_that_an_entry_could_not_hold(
        self, capsys: pytest.CaptureFixture[str], label: str
    ) -> None:
        status, out, err = run(capsys, "keys", "new", "--label", label)
        assert (status, out) == (1, "")
        assert err.startswith("--label: ")


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nonsense",),
        ("keys",),
        ("serve", "--port", "x"),
        ("serve", "--runtime", "x"),
        ("check", "--prot"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: gwproto" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--help",), "providers-sim"),
        (("serve", "--help"), "--env-file"),
        (("providers-sim", "--help"), "--latency"),
    ],
)
def test_help(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    assert words in capsys.readouterr().out


def test_help_loads_nothing_of_the_gateway() -> None:
    probe = "import sys, gwproto_cli\ntry: gwproto_cli.main(['--help'])\nexcept SystemExit: pass\n"
    result = subprocess.run(
        (sys.executable, "-c", probe + "sys.stderr.write(' '.join(sys.modules))"),
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    loaded = set(result.stderr.split())
    assert "gwproto_cli.command" in loaded
    assert loaded & {"gwproto", "msgspec", "asyncio", "trio", "rich", "importlib.metadata"} == set()


def test_a_reader_that_has_had_enough() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = (sys.executable, "-m", "gwproto_cli", "models")
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment())
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def environment(**more: str) -> dict[str, str]:
    """This process's variables without credentials, and with the sources where Python finds them."""
    kept = {name: value for name, value in os.environ.items() if not ours(name)}
    defaults = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtimes'}", "GWPROTO_SERVER__STATE_FILE": ""}
    return {**kept, **defaults, **more}


@contextmanager
def running(*argv: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        (sys.executable, "-m", "gwproto_cli", *argv),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        process.wait()


def banner(process: subprocess.Popen[str]) -> dict[str, str]:
    """The lines printed once it listens, by their first word."""
    assert process.stdout is not None
    lines: dict[str, str] = {}
    while "try:" not in lines:
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        first, _, rest = line.strip().partition(" ")
        lines[first] = rest
    return lines


def chat(url: str, key: str, model: str = "auto") -> tuple[dict[str, str], dict[str, object]]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request) as response:
        return dict(response.headers), json.load(response)


@pytest.mark.sockets
@pytest.mark.parametrize("runtime", ["quart", "trio", "asyncio"])
class TestServe:
    def test_without_credentials_it_answers_from_simulated_providers(self, runtime: str) -> None:
        with running("serve", "--port", "0", "--runtime", runtime) as process:
            lines = banner(process)
            key = lines["key:"].split()[0]
            url = re.findall(r"http://127\.0\.0\.1:\d+", lines["gwproto"])[0]
            assert lines["gwproto"] == f"listens on {url} ({runtime})"
            assert (
                lines["providers:"]
                == "demo-openai (1 model), demo-gemini (1 model), demo-anthropic (1 model)"
            )
            assert lines["try:"].startswith(
                f'curl {url}/v1/chat/completions -H "authorization: Bearer {key}" '
            )
            headers, answer = chat(url, key)
            assert answer["object"] == "chat.completion"
            assert headers["x-gateway-provider"].startswith("demo-")
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            log = process.stderr.read()
            assert process.wait() == 0
        (line,) = log.splitlines()
        assert json.loads(line)["status"] == 200
        assert key not in log

    def test_a_configured_key_is_not_shown(self, runtime: str) -> None:
        argv = ("serve", "--port", "0", "--runtime", runtime, "--no-access-log")
        with running(*argv, GATEWAY_API_KEY="first-canary,second-canary") as process:
            lines = banner(process)
            assert lines["key:"] == "$GATEWAY_API_KEY"
            assert '"authorization: Bearer ${GATEWAY_API_KEY%%,*}"' in lines["try:"]
            assert "canary" not in str(lines)
            chat(lines["gwproto"].split()[2], "second-canary")
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert process.stderr.read() == ""
            assert process.wait() == 0

    def test_no_simulated_provider_is_open_to_the_world(
        self, runtime: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, err = run(capsys, "serve", "--runtime", runtime, "--host", "0.0.0.0", "--port", "0")
        problem = "GATEWAY_API_KEY: no client key is configured; `gwproto keys new` makes one\n"
        assert (status, out, err) == (1, "", problem)

    def test_a_port_in_use(self, runtime: str) -> None:
        with running("serve", "--port", "0", "--runtime", runtime) as first:
            port = banner(first)["gwproto"].split()[2].rpartition(":")[2]
            with running("serve", "--port", port, "--runtime", runtime) as second:
                _, err = second.communicate()
                assert (second.returncode, err) == (1, f"127.0.0.1:{port}: Address already in use\n")


@pytest.mark.sockets
def test_simulated_providers_alone() -> None:
    with running("providers-sim", "--port", "0", "--status", "503") as process:
        assert process.stdout is not None
        urls = {}
        for _ in range(3):
            name, url, _, model = process.stdout.readline().split()
            urls[name] = (url, model)
        assert sorted(urls) == ["demo-anthropic:", "demo-gemini:", "demo-openai:"]
        url, model = urls["demo-openai:"]
        with urllib.request.urlopen(f"{url}/models") as response:
            assert json.load(response)["data"][0]["id"] == model
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/chat/completions", body)
        with caught.value as error:
            assert error.code == 503
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


@pytest.mark.sockets
def test_simulated_providers_by_format() -> None:
    with running(
        "providers-sim", "--port", "0", "--format", "cohere", "--format", "ollama", "--format", "cohere"
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(3)]
        assert [name for name, *_ in lines] == ["demo-cohere:", "demo-ollama:", "demo-cohere-2:"]
        with urllib.request.urlopen(f"{lines[1][1]}/api/tags") as answer:
            assert [model["name"] for model in json.load(answer)["models"]] == ["ollama-demo"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.sockets
def test_a_known_provider_may_be_a_simulated_one() -> None:
    """A credential and an address are all that it needs."""
    model = "openai/gpt-oss-20b"
    with running("providers-sim", "--port", "0", "--format", "openai", "--model", model) as simulated:
        assert simulated.stdout is not None
        _, url, _, served = simulated.stdout.readline().split()
        assert served == model
        variables = {"GROQ_API_KEY": "k", "GROQ_BASE_URL": url, "GATEWAY_API_KEY": "gw"}
        with running("serve", "--port", "0", **variables) as process:
            address = re.findall(r"http://127\.0\.0\.1:\d+", banner(process)["gwproto"])[0]
            headers, _ = chat(address, "gw", model)
            assert (headers["x-gateway-provider"], headers["x-gateway-model"]) == ("groq", model)


def test_an_unknown_format_to_simulate(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "providers-sim", "--format", "smoke")
    assert status == 1
    assert err.startswith("--format: smoke is none of the formats known: openai, gemini")


def test_a_second_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise BaseExceptionGroup("a nursery's", [KeyboardInterrupt()])

    def broken(*_: object) -> None:
        raise BaseExceptionGroup("a nursery's", [KeyboardInterrupt(), ValueError()])

    monkeypatch.setattr("gwproto_cli.command._serve", interrupted)
    assert main(("serve",)) == 130
    monkeypatch.setattr("gwproto_cli.command._serve", broken)
    with pytest.raises(BaseExceptionGroup):
        main(("serve",))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("serve",), "server.runtime: quart needs anyio: pip install 'gwproto[quart]'"),
        (("serve", "--runtime", "trio"), "server.runtime: trio needs trio: pip install 'gwproto[trio]'"),
        (
            ("serve", "--runtime", "asyncio"),
            "server.runtime: asyncio needs h11: pip install 'gwproto[asyncio]'",
        ),
        (("providers-sim",), "providers-sim: needs anyio: pip install 'gwproto[io]'"),
        (("providers-sim", "--help"), ""),
        (("check",), ""),
        (("models",), ""),
        (("keys", "new"), ""),
    ],
)
def test_a_bare_install_says_what_is_missing(argv: tuple[str, ...], line: str) -> None:
    probe = (
        "import sys\n"
        "for name in ('anyio', 'h11', 'hypercorn', 'quart', 'rich', 'sniffio', 'trio'): sys.modules[name] = None\n"
        "import gwproto_cli\n"
        f"sys.exit(gwproto_cli.main({argv!r}))"
    )
    result = subprocess.run((sys.executable, "-c", probe), capture_output=True, text=True, env=environment())
    assert (result.returncode, result.stderr.strip()) == (1 if line else 0, line)


def test_bad_knobs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "providers-sim", "--status", "teapot")
    assert (status, out) == (1, "")
    assert err.startswith("knobs: ")

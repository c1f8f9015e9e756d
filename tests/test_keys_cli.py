"""``gwproto keys new`` and what ``gwproto check`` shows of keys; an application that is told of another deployment."""

import asyncio
import json
import tomllib
from pathlib import Path

import pytest
from asgi_harness import CHAT, PLAIN, call

from gwproto.loading import load
from gwproto.policy.values import ClientKey
from gwproto_asgi import GatewayApp
from gwproto_cli import main
from gwproto_ops import deployment
from gwproto_ops.deployment import client_key, read_keys

PROVIDER = '[[providers]]\nname = "own"\nbase_url = "http://127.0.0.1:9/v1"\n'
MODELS = 'models = [{ id = "m", input_price = 1, output_price = 2 }, { id = "n" }]\n'


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(argv)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_an_entry_can_be_pasted_into_a_file_of_keys(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bound = ("--label", "ci", "--models", "m, own/n", "--projects", "p,q", "--expires", "2099-01-02")
    status, out, err = run(capsys, "keys", "new", *bound)
    key, entry, _, *table = out.splitlines()
    assert (status, err) == (0, "")
    assert entry == f"ci:{client_key('ci', key).sha256.hex()}"
    file = tmp_path / "keys.toml"
    file.write_text("\n".join(table) + "\n")
    (made,) = read_keys(str(file))
    assert (made.label, made.models, made.projects) == ("ci", ("m", "own/n"), ("p", "q"))
    assert made.expires is not None
    assert made.expires.isoformat() == "2099-01-02T00:00:00+00:00"
    text = f'{PROVIDER}{MODELS}[auth]\nkeys_file = "{file}"'
    loaded = load(text.encode(), {}, {}, known={})
    (only,) = deployment.deploy(loaded, environ={}).configuration.keys
    digest = client_key("ci", key).sha256
    assert only == ClientKey("ci", digest, None, ("m", "own/n"), ("p", "q"), made.expires.timestamp())


def test_as_json_it_is_there_too(capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads(run(capsys, "keys", "new", "--json", "--expires", "2099-01-02T03:04:05+02:00")[1])
    (entry,) = tomllib.loads(made["toml"])["keys"]
    assert made["entry"] == f"{entry['label']}:{entry['sha256']}"
    assert entry["expires"].isoformat() == "2099-01-02T03:04:05+02:00"
    assert set(entry) == {"label", "sha256", "expires"}


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("--expires", "soon"), "--expires: invalid RFC3339 encoded datetime"),
        (("--expires", "2099-01-02T03:04:05"), "--expires: expected datetime with a timezone component"),
        (("--expires", "2001-01-01"), "--expires: is over"),
        (("--models", " , "), "--models: expected array of length >= 1"),
        (("--models", "a\nb"), "--models: has a control character"),
        (("--projects", "a b"), "--projects: expected 1 to 64 of the characters A-Z a-z 0-9 . _ : -"),
    ],
)
def test_what_no_entry_may_say(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, str], problem: str
) -> None:
    assert run(capsys, "keys", "new", *argv) == (1, "", f"{problem}\n")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    keys = tmp_path / "keys.toml"
    digests = [client_key("", secret).sha256.hex() for secret in ("a", "b")]
    keys.write_text(
        f'[[keys]]\nlabel = "ci"\nsha256 = "{digests[0]}"\ncost_per_day = 2.5\nmodels = ["m"]\nprojects = ["p"]\n'
        f'[[keys]]\nlabel = "old"\nsha256 = "{digests[1]}"\nexpires = 2001-01-01T01:00:00+01:00\n'
    )
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[auth]\nkeys_file = "{keys}"\n[limits]\nproject = {{ cost_per_day = 1 }}\n{PROVIDER}{MODELS}'
    )
    return file


def test_what_keys_are_bound_to_is_shown(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    rows = {
        row["setting"]: row for row in json.loads(run(capsys, "check", "--json", "--config", str(config))[1])
    }
    assert rows["auth.keys"]["value"] == ["ci=***", "old=***"]
    assert rows["auth.keys"]["origin"] == rows["auth.keys_file"]["value"]
    assert rows["auth.keys.ci.models"]["value"] == ["m"]
    assert rows["auth.keys.ci.projects"]["value"] == ["p"]
    assert rows["auth.keys.old.expires"]["value"] == "2001-01-01T00:00:00+00:00"
    assert rows["auth.keys.old.expires"]["note"] == "is over"
    unpriced = "without a known price, and counted as 0: n"
    assert rows["auth.keys.ci.cost_per_day"]["note"] == unpriced
    assert rows["limits.project.cost_per_day"]["note"] == unpriced
    assert rows["limits.cost_per_day"]["note"] == ""  # off


def test_a_person_is_told_too(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    out = run(capsys, "check", "--config", str(config))[1]
    assert "counted as 0: n" in out
    assert "does nothing yet: without" not in out


def test_many_models_without_a_price_are_not_all_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def note(count: int, price: str = "") -> str:
        models = ", ".join([f'{{ id = "m{number}"{price} }}' for number in range(count)])
        file = tmp_path / "gateway.toml"
        file.write_text(f"[limits]\ncost_per_day = 1\n{PROVIDER}models = [{models}]\n")
        rows = json.loads(run(capsys, "check", "--json", "--config", str(file))[1])
        (row,) = [row for row in rows if row["setting"] == "limits.cost_per_day"]
        found: str = row["note"]
        return found

    assert note(7).endswith("m0, m1, m2, m3, m4 and 2 more")
    assert note(7, ", input_price = 0, output_price = 0") == ""


def test_an_application_serves_what_it_is_told() -> None:
    def made(key: str) -> deployment.Deployment:
        loaded = load((PROVIDER + MODELS).encode(), {}, {}, known={})
        return deployment.deploy(loaded, environ={"GATEWAY_API_KEY": key})

    async def main() -> None:
        app = GatewayApp(made("zero"))
        app.reconfigure(made("one"))  # before its first request

        async def status(key: str) -> int:
            headers = ((b"authorization", f"Bearer {key}".encode()),)
            body = PLAIN.replace(b"auto", b"no-such")
            return (await call(app, "POST", CHAT, headers=headers, body=[body])).status

        assert [await status(key) for key in ("zero", "one", "two")] == [401, 404, 401]
        app.reconfigure(made("two"))
        assert [await status(key) for key in ("zero", "one", "two")] == [401, 401, 404]
        assert app.deployment.configuration.keys[0].label == "default"
        await app.aclose()

    asyncio.run(main())

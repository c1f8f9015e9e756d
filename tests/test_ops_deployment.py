"""Deployments: which secrets are found, under which names, and what is refused."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from gwproto import ConfigurationError
from gwproto.config import OwnRates
from gwproto.loading import load
from gwproto.policy.values import ClientKey
from gwproto.wire.dialects import DIALECTS
from gwproto_ops import deployment, state
from gwproto_ops.deployment import Deployment

PROVIDER = """
[[providers]]
name = "own"
base_url = "http://127.0.0.1:9/v1"
models = [{ id = "m" }]
"""


def deployed(text: str = PROVIDER, *, make_key: bool = False, **environ: str) -> Deployment:
    loaded = load(text.encode(), environ, {}, known=deployment.known_providers())
    return deployment.deploy(loaded, environ=environ, make_key=make_key)


def problems(text: str = PROVIDER, *, make_key: bool = True, **environ: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        deployed(text, make_key=make_key, **environ)
    return list(caught.value.problems)


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class TestClientKeys:
    def test_from_every_source(self) -> None:
        text = f"""
            [auth]
            keys = [
                {{ label = "me", env = "MINE" }},
                {{ env = "OTHER" }},
                {{ label = "ci", sha256 = "{digest("c").hex()}" }},
                {{ sha256 = "{digest("d").hex()}" }},
            ]
            {PROVIDER}
        """
        keys = deployed(
            text,
            MINE="m",
            OTHER="o",
            GATEWAY_API_KEY="a, b,",
            GATEWAY_API_KEY_HASHES=f"x:{digest('x').hex()}\n{digest('y').hex()}",
        ).configuration.keys
        assert keys == (
            ClientKey("me", digest("m")),
            ClientKey("OTHER", digest("o")),
            ClientKey("ci", digest("c")),
            ClientKey("key-4", digest("d")),
            ClientKey("default", digest("a")),
            ClientKey("default-2", digest("b")),
            ClientKey("x", digest("x")),
            ClientKey("", digest("y")),
        )

    def test_with_limits_of_their_own(self) -> None:
        text = f"""
            [auth]
            keys = [
                {{ label = "me", env = "MINE", burst = 5 }},
                {{ label = "ci", sha256 = "{digest("c").hex()}", tokens_per_day = 1000 }},
                {{ label = "none", env = "OTHER" }},
            ]
            {PROVIDER}
        """
        keys = deployed(text, MINE="m", OTHER="o").configuration.keys
        assert [key.limits for key in keys] == [OwnRates(burst=5), OwnRates(tokens_per_day=1000), None]

    def test_without_any_nothing_is_served(self) -> None:
        assert problems(make_key=False) == [
            ("GATEWAY_API_KEY", "no client key is configured; `gwproto keys new` makes one")
        ]

    def test_one_is_made_when_asked_for(self) -> None:
        made = deployed(make_key=True)
        assert made.made_key.startswith("gw-")
        assert len(made.made_key) >= 40
        assert made.configuration.keys == (ClientKey("made", digest(made.made_key)),)
        assert deployed(make_key=True).made_key != made.made_key

    def test_none_is_made_beside_others(self) -> None:
        assert deployed(make_key=True, GATEWAY_API_KEY="k").made_key == ""

    @pytest.mark.parametrize("value", ["", "  ", ",", " , "])
    def test_an_empty_key_is_refused_not_replaced(self, value: str) -> None:
        assert problems(GATEWAY_API_KEY=value) == [("GATEWAY_API_KEY", "is empty")]

    def test_a_key_of_any_bytes_is_hashed_as_it_is(self) -> None:
        key = b"\xff".decode(errors="surrogateescape")  # as os.environ has it
        assert deployed(GATEWAY_API_KEY=key).configuration.keys[0].sha256 == hashlib.sha256(b"\xff").digest()

    def test_bad_entries(self) -> None:
        text = f"""
            [auth]
            keys = [
                {{ label = "none" }},
                {{ env = "A", sha256 = "{digest("a").hex()}" }},
                {{ env = "UNSET" }},
                {{ env = "EMPTY" }},
                {{ sha256 = "xyz" }},
            ]
            {PROVIDER}
        """
        assert problems(text, EMPTY="", GATEWAY_API_KEY_HASHES="label:secret") == [
            ("auth.keys[0]", "needs one of env and sha256"),
            ("auth.keys[1]", "needs one of env and sha256"),
            ("auth.keys[2].env", "UNSET is not set"),
            ("auth.keys[3].env", "EMPTY is empty"),
            ("auth.keys[4].sha256", "entry 1 does not end in a SHA-256 in hex"),
            ("GATEWAY_API_KEY_HASHES", "entry 1 does not end in a SHA-256 in hex"),
        ]


class TestCredentials:
    def credentials(self, text: str, **environ: str) -> Mapping[str, tuple[bytes, bytes]]:
        return deployed(text, make_key=True, **environ).credentials

    def targets(self, text: str, **environ: str) -> list[tuple[str, str]]:
        catalog = deployed(text, make_key=True, **environ).configuration.catalog
        return [(target.id, target.credential) for target in catalog.targets]

    def test_a_provider_may_have_none(self) -> None:
        assert self.credentials(PROVIDER) == {}
        assert self.targets(PROVIDER) == [("own/m", "")]

    def test_from_every_source_each_once(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text("  file\n")
        text = PROVIDER + f"api_key_env = 'ONE'\napi_key_file = '{file}'\napi_keys_env = 'MANY'\n"
        assert self.credentials(text, ONE="one", MANY="many1, one,many2,") == {
            "own": (b"authorization", b"Bearer one"),
            "own#2": (b"authorization", b"Bearer file"),
            "own#3": (b"authorization", b"Bearer many1"),
            "own#4": (b"authorization", b"Bearer many2"),
        }
        assert self.targets(text, ONE="one", MANY="many") == [
            ("own/m", "own"),
            ("own/m#2", "own#2"),
            ("own/m#3", "own#3"),
        ]

    def test_providers_that_share_a_secret_share_its_name(self) -> None:
        text = PROVIDER + "api_key_env = 'ONE'\n" + PROVIDER.replace("own", "twin") + "api_key_env = 'ONE'\n"
        assert self.credentials(text, ONE="one") == {"own": (b"authorization", b"Bearer one")}
        assert self.targets(text, ONE="one") == [("own/m", "own"), ("twin/m", "own")]

    def test_a_key_is_not_sent_beside_a_configured_one(self) -> None:
        text = PROVIDER + 'headers = { Authorization = "Basic canary" }\n'
        assert deployed(text, GATEWAY_API_KEY="k").credentials == {}
        ((path, problem),) = problems(text + 'api_key_env = "K"\n', K="k")
        assert path == "providers.own.headers.authorization"
        assert "twice" in problem
        assert "canary" not in problem

    def test_a_single_key_may_hold_commas(self) -> None:
        text = PROVIDER + "api_key_env = 'ONE'\n"
        assert self.credentials(text, ONE="a,b") == {"own": (b"authorization", b"Bearer a,b")}

    def test_known_providers_need_nothing_but_their_variable(self) -> None:
        loaded = deployment.read(environ={"GROQ_API_KEY": "g1,g2"})
        made = deployment.deploy(loaded, environ={"GROQ_API_KEY": "g1,g2"}, make_key=True)
        assert made.credentials == {
            "groq": (b"authorization", b"Bearer g1"),
            "groq#2": (b"authorization", b"Bearer g2"),
        }

    def test_what_is_missing(self, tmp_path: Path) -> None:
        empty, binary, gone = (tmp_path / name for name in ("empty", "binary", "gone"))
        empty.write_text(" \n")
        binary.write_bytes(b"\xff")
        text = "".join(
            PROVIDER.replace("own", name) + f"{line}\n"
            for name, line in (
                ("a", "api_key_env = 'UNSET'"),
                ("b", "api_keys_env = 'EMPTY'"),
                ("c", f"api_key_file = '{empty}'"),
                ("d", f"api_key_file = '{binary}'"),
                ("e", f"api_key_file = '{gone}'"),
                ("f", "api_key_env = 'BROKEN'"),
                ("g", "format = 'smoke'"),
            )
        )
        assert problems(text, EMPTY=",", BROKEN="a\r\nx-evil: b") == [
            ("providers.a.api_key_env", "UNSET is not set"),
            ("providers.b.api_keys_env", "EMPTY is empty"),
            ("providers.c.api_key_file", f"{empty} is empty"),
            ("providers.d.api_key_file", f"{binary} is not text"),
            (str(gone), "No such file or directory"),
            ("providers.f", "its key holds spaces, control characters or letters that are not ASCII"),
            ("providers.g.format", f"is none of the formats known: {', '.join(DIALECTS)}"),
        ]

    def test_the_catalogs_problems_come_with_the_others(self) -> None:
        text = "[[providers]]\nname = 'own'\nbase_url = 'ftp://x'\napi_key_env = 'UNSET'\nmodels = [{ id = 'm' }]"
        (first, _), (second, _) = problems(text)
        assert (first, second) == ("providers.own.api_key_env", "providers[0].base_url")

    def test_no_provider_at_all(self) -> None:
        assert problems("")[0] == (
            "providers",
            "none configured, and no provider's credentials in the environment",
        )


def test_no_repr_shows_a_secret() -> None:
    made = deployed(
        PROVIDER + "api_key_env = 'ONE'\n", GATEWAY_API_KEY="client-canary", ONE="provider-canary"
    )
    assert "canary" not in repr(made) + repr(made.configuration)
    assert repr(made) == "<Deployment 127.0.0.1:8080 providers: own>"


def test_from_the_environment_alone(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(PROVIDER)
    made = deployment.from_environment({"GWPROTO_CONFIG": str(file), "GATEWAY_API_KEY": "k"})
    assert made.configuration.catalog.provider_names == ("own",)
    with pytest.raises(ConfigurationError):
        deployment.from_environment({"GWPROTO_CONFIG": str(file)})


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory") as caught:
        deployment.read(str(tmp_path), environ={})
    assert caught.value.problems[0][0] == str(tmp_path)


KNOWN = deployment.known_providers()
ADDRESSES = {
    "AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.test/",
    "CLOUDFLARE_ACCOUNT_ID": "acc",
    "AWS_REGION": "r",
}


@pytest.mark.parametrize("name", [name for name, entry in KNOWN.items() if entry.models])
def test_every_known_provider_can_be_deployed(name: str) -> None:
    entry = KNOWN[name]
    environ = dict.fromkeys(entry.key_env, "key") | {"GATEWAY_API_KEY": "k", "GWPROTO_PROVIDERS": name}
    environ |= ADDRESSES
    catalog = deployment.deploy(deployment.read(environ=environ), environ=environ).configuration.catalog
    assert catalog.provider_names == (name,)
    assert all(target.model.id.startswith(f"{name}-") for target in catalog.targets)


class TestStateDirectory:
    def test_is_made_for_its_owner_alone(self, tmp_path: Path) -> None:
        path = state.directory("", {"XDG_STATE_HOME": str(tmp_path / "deep")})
        assert path == tmp_path / "deep" / "gwproto"
        assert path.stat().st_mode & 0o777 == 0o700
        assert state.directory("", {"XDG_STATE_HOME": str(tmp_path / "deep")}) == path

    def test_the_configured_one_wins(self, tmp_path: Path) -> None:
        assert state.directory(str(tmp_path / "own"), {"XDG_STATE_HOME": "/nowhere"}) == tmp_path / "own"

    def test_a_relative_variable_is_ignored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_STATE_HOME", "relative")
        assert state.directory("") == tmp_path / ".local" / "state" / "gwproto"


def test_a_key_travels_as_its_provider_wants_it() -> None:
    environ = {
        "GATEWAY_API_KEY": "k",
        "OPENAI_API_KEY": "same",
        "ANTHROPIC_API_KEY": "same",
        "GEMINI_API_KEY": "other",
    }
    made = deployment.deploy(deployment.read(environ=environ), environ=environ)
    assert made.credentials == {
        "openai": (b"authorization", b"Bearer same"),
        "anthropic": (b"x-api-key", b"same"),
        "gemini": (b"x-goog-api-key", b"other"),
    }
    anthropic = next(one for one in made.configuration.catalog.providers if one.name == "anthropic")
    assert anthropic.headers == ((b"anthropic-version", b"2023-06-01"),)


def test_a_keys_own_header_is_not_configured_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[[providers]]\nname = "anthropic"\nheaders = { X-Api-Key = "b" }')
    environ = {"GATEWAY_API_KEY": "k", "ANTHROPIC_API_KEY": "a"}
    with pytest.raises(ConfigurationError) as caught:
        deployment.deploy(deployment.read(str(file), environ=environ), environ=environ)
    assert caught.value.problems == (
        ("providers.anthropic.headers.x-api-key", "would be sent twice: the provider's key travels in it"),
    )

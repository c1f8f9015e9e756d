"""Files, variables and flags become settings, or a list of everything that is wrong."""

from collections.abc import Mapping

import pytest

from gwproto.config import (
    KeySettings,
    KnownProvider,
    LimitSettings,
    ModelSettings,
    ProviderSettings,
    Rates,
    Settings,
)
from gwproto.failures import ConfigurationError
from gwproto.loading import Loaded, decode_known, load

KNOWN = {
    entry.name: entry
    for entry in (
        KnownProvider(
            name="groq",
            base_url="https://groq.test/v1",
            key_env=("GROQ_API_KEY", "GROQ_KEY"),
            models=(ModelSettings(id="groq-llama", upstream="llama"),),
        ),
        KnownProvider(
            name="github_models",
            base_url="https://github.test",
            key_env=("GITHUB_MODELS_TOKEN",),
            named_key_env=("GITHUB_TOKEN",),
        ),
        KnownProvider(
            name="pollinations", base_url="https://flowers.test", key_env=("POLLEN",), keyless=True
        ),
        KnownProvider(
            name="ollama",
            base_url="http://127.0.0.1:11434/v1",
            host_env="OLLAMA_HOST",
            host_path="/v1",
            keyless=True,
            format="other",
        ),
    )
}


def loaded(
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    return load(None if text is None else text.encode(), environ or {}, flags or {}, known=KNOWN)


def problems(
    text: str | bytes | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> tuple[tuple[str, str], ...]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigurationError) as caught:
        load(data, environ or {}, flags or {}, known=KNOWN, source="gateway.toml")
    return caught.value.problems


def found(environ: Mapping[str, str], text: str | None = None) -> list[tuple[str, str, str]]:
    return [(p.name, p.base_url, p.api_keys_env) for p in loaded(text, environ).settings.providers]


class TestPrecedence:
    FILE = "[server]\nport = 1\nhost = 'file'\nworkers = 2\n"

    def test_nothing_is_the_defaults(self) -> None:
        result = loaded()
        assert result.settings == Settings()
        assert set(result.origins.values()) == {"default"}
        assert result.origins["auth.keys"] == "default"

    def test_flag_over_variable_over_file_over_default(self) -> None:
        environ = {"GWPROTO_SERVER__PORT": "2", "GWPROTO_SERVER__HOST": "variable"}
        result = loaded(self.FILE, environ, {"server.port": 3})
        server = result.settings.server
        assert (server.port, server.host, server.workers, server.runtime) == (3, "variable", 2, "quart")
        assert [result.origins[f"server.{key}"] for key in ("port", "host", "workers", "runtime")] == [
            "flag",
            "GWPROTO_SERVER__HOST",
            "file",
            "default",
        ]

    @pytest.mark.parametrize(
        ("variable", "text", "path", "value"),
        [
            ("GWPROTO_LIMITS__BURST", " 7 ", "limits.burst", 7),
            ("GWPROTO_LIMITS__TOKENS_PER_MINUTE", "9000", "limits.tokens_per_minute", 9000),
            (
                "GWPROTO_SERVER__TRUSTED_PROXIES",
                "10.0.0.1, fd00::/8",
                "server.trusted_proxies",
                ("10.0.0.1", "fd00::/8"),
            ),
            ("GWPROTO_TIMEOUTS__HEAD", "1.5", "timeouts.head", 1.5),
            ("GWPROTO_TIMEOUTS__HEAD", "2", "timeouts.head", 2.0),
            ("GWPROTO_HEDGE__ENABLED", "true", "hedge.enabled", True),
            ("GWPROTO_HEDGE__ENABLED", "0", "hedge.enabled", False),
            (
                "GWPROTO_SERVER__CORS_ORIGINS",
                "http://a, https://b,,",
                "server.cors_origins",
                ("http://a", "https://b"),
            ),
            ("GWPROTO_SERVER__CORS_ORIGINS", "", "server.cors_origins", ()),
            ("GWPROTO_SERVER__RUNTIME", "trio", "server.runtime", "trio"),
            ("GWPROTO_ANALYTICS__DATABASE", "", "analytics.database", ""),
        ],
    )
    def test_variables_have_the_schemas_types(
        self, variable: str, text: str, path: str, value: object
    ) -> None:
        result = loaded(None, {variable: text})
        section, key = path.split(".")
        assert getattr(getattr(result.settings, section), key) == value
        assert result.origins[path] == variable

    def test_a_byte_order_mark_is_let_pass(self) -> None:
        assert load(b"\xef\xbb\xbf[server]\nport = 1", {}, {}, known={}).settings.server.port == 1

    def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting(self) -> None:
        environ = {"GWPROTO_PORT": "tcp://10.0.0.1:80", "GWPROTO_SERVICE_HOST": "10.0.0.1", "GWPROTO__X": ""}
        assert loaded(None, environ).settings == Settings()


class TestLimits:
    def test_of_keys_and_projects(self) -> None:
        text = """
            [limits]
            tokens_per_day = 100000
            project = { requests_per_day = 50 }
            [auth]
            keys = [{ label = "ci", env = "CI", requests_per_second = 2, tokens_per_day = 0 }, { env = "ME" }]
        """
        settings = loaded(text).settings
        assert settings.limits == LimitSettings(tokens_per_day=100000, project=Rates(requests_per_day=50))
        ci, me = settings.auth.keys
        assert ci == KeySettings(label="ci", env="CI", requests_per_second=2.0, tokens_per_day=0)
        assert (me.requests_per_second, me.tokens_per_day) == (None, None)

    def test_problems(self) -> None:
        text = """
            [limits]
            tokens_per_minute = -1
            project = { tokens_per_hour = 1 }
            [auth]
            keys = [{ burst = 0 }]
        """
        paths = [path for path, _ in problems(text)]
        assert paths == ["auth.keys[0].burst", "limits.tokens_per_minute", "limits.project.tokens_per_hour"]

    def test_trusted_proxies_are_addresses_and_networks(self) -> None:
        text = "[server]\ntrusted_proxies = ['10.0.0.0/8', '10.0.0.1/8', 'proxy.example', '::1']"
        expected = "expected an address or a network such as 10.0.0.0/8: "
        assert problems(text) == (
            ("server.trusted_proxies[1]", expected + "10.0.0.1/8 has host bits set"),
            (
                "server.trusted_proxies[2]",
                expected + "'proxy.example' does not appear to be an IPv4 or IPv6 network",
            ),
        )


class TestProblems:
    def test_all_of_them_at_once(self) -> None:
        text = """
            [server]
            prot = 1
            port = "9000"
            workers = 0
            runtime = "uvicorn"
            cors_origins = "x"
            [auth]
            keys = [{ labl = "x" }]
            [timeout]
            [timeouts]
            idle = -1
            total = inf
            connect = nan
            [aliases]
            a = "b"
            [[providers]]
            base_url = 3
            headers = { a = 1 }
            [[providers.models]]
            tier = "huge"
        """
        assert problems(text) == (
            ("timeout", "unknown key; the nearest known one is timeouts"),
            ("server.prot", "unknown key; the nearest known one is port"),
            ("server.port", "expected int, got str"),
            ("server.runtime", "expected one of quart, trio, asyncio"),
            ("server.workers", "expected int >= 1"),
            ("server.cors_origins", "expected array, got str"),
            ("auth.keys[0].labl", "unknown key; the nearest known one is label"),
            ("timeouts.connect", "expected float >= 0.0"),
            ("timeouts.idle", "expected float >= 0.0"),
            ("timeouts.total", "expected float <= 1000000000.0"),
            ("providers[0].name", "is required"),
            ("providers[0].base_url", "expected str, got int"),
            ("providers[0].headers", "expected str, got int"),
            ("providers[0].models[0].id", "is required"),
            ("providers[0].models[0].tier", "expected one of low, medium, high"),
            ("aliases", "expected array, got str"),
        )

    def test_of_quirks(self) -> None:
        text = """
            [[providers]]
            name = "mine"
            base_url = "http://h"
            models = [{ id = "m", quirks = { effort = { hihg = { a = 1 } }, opne = true, lacks = ["visoin"] } }]
            [providers.quirks]
            effort = ["extreme"]
            drop = "temperature"
            rename = ["x"]
            max_temperature = "1"
            replay = "some"
            tool_ids = 3
        """
        levels = "expected one of none, minimal, low, medium, high, xhigh, max, default"
        needs = "n, logprobs, audio, files, image_url, custom_tools, json, json_schema, tools, vision"
        assert sorted(problems(text)) == [
            ("providers[0].models[0].quirks.effort", levels),
            ("providers[0].models[0].quirks.lacks", f"expected one of {needs}"),
            ("providers[0].models[0].quirks.opne", "unknown key; the nearest known one is open"),
            ("providers[0].quirks.drop", "expected array, got str"),
            ("providers[0].quirks.effort", levels),
            ("providers[0].quirks.max_temperature", "expected float, got str"),
            ("providers[0].quirks.rename", "expected object, got array"),
            ("providers[0].quirks.replay", "expected one of nothing, tools, all"),
            ("providers[0].quirks.tool_ids", "expected str, got int"),
        ]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b"\xff", (("gateway.toml", "not UTF-8"),)),
            ("server = 1", (("server", "expected a table, got an integer"),)),
            ("server = 1979-05-27", (("server", "expected a table, got a date or time"),)),
            ("providers = 1.5", (("providers", "expected an array of tables, got a float"),)),
            ("providers = [true]", (("providers[0]", "expected a table, got a boolean"),)),
            ("[server]\nport = 65536", (("server.port", "expected int <= 65535"),)),
            ("[[providers]]\nname = ''", (("providers[0].name", "expected str of length >= 1"),)),
        ],
    )
    def test_of_a_file(self, text: str | bytes, expected: tuple[tuple[str, str], ...]) -> None:
        assert problems(text) == expected

    def test_bad_toml_names_the_file_and_the_line(self) -> None:
        ((path, problem),) = problems("[server\n")
        assert path == "gateway.toml"
        assert problem.startswith("not TOML: ")
        assert "line 1" in problem

    def test_of_variables_and_flags(self) -> None:
        environ = {
            "GWPROTO_SERVER__PROT": "1",
            "GWPROTO_SERVER__PORT": "secret",
            "GWPROTO_AUTH__KEYS": "k",
            "GWPROTO_SERVER__RUNTIME": "x",
        }
        assert problems(None, environ, {"retry.max_attempts": 0}) == (
            ("GWPROTO_AUTH__KEYS", "holds tables, which only a file can"),
            ("GWPROTO_SERVER__PORT", "expected int, got str"),
            ("GWPROTO_SERVER__PROT", "unknown variable; the nearest known one is GWPROTO_SERVER__PORT"),
            ("GWPROTO_SERVER__RUNTIME", "expected one of quart, trio, asyncio"),
            ("retry.max_attempts", "expected int >= 1"),
        )

    def test_a_variable_does_not_hide_a_section_of_the_wrong_type(self) -> None:
        assert problems("server = 1", {"GWPROTO_SERVER__PORT": "1"}) == (
            ("server", "expected a table, got an integer"),
        )


class TestDiscovery:
    def test_a_key_in_the_environment_is_enough(self) -> None:
        environ = {"GROQ_API_KEY": "k1,k2"}
        assert found(environ) == [("groq", "https://groq.test/v1", "GROQ_API_KEY")]
        result = loaded(None, environ)
        assert result.settings.providers[0].models == KNOWN["groq"].models
        assert result.origins["providers.groq"] == "GROQ_API_KEY"
        assert [result.origins[f"providers.groq.{key}"] for key in ("base_url", "format", "models")] == [
            "default"
        ] * 3

    def test_the_first_variable_that_is_set_counts(self) -> None:
        assert found({"GROQ_API_KEY": " ", "GROQ_KEY": "k"})[0][2] == "GROQ_KEY"

    def test_an_empty_key_is_none(self) -> None:
        assert found({"GROQ_API_KEY": ""}) == []

    def test_a_token_of_general_use_only_when_named(self) -> None:
        environ = {"GITHUB_TOKEN": "t"}
        assert found(environ) == []
        assert found({**environ, "GWPROTO_PROVIDERS": "github_models"}) == [
            ("github_models", "https://github.test", "GITHUB_TOKEN")
        ]
        assert found(environ, "[[providers]]\nname = 'github_models'")[0][2] == "GITHUB_TOKEN"

    def test_a_keyless_provider_only_when_named(self) -> None:
        assert found({"POLLEN": "k"}) == []
        assert found({"GWPROTO_PROVIDERS": "pollinations"}) == [("pollinations", "https://flowers.test", "")]
        assert found({"GWPROTO_PROVIDERS": "pollinations", "POLLEN": "k"})[0][2] == "POLLEN"

    def test_naming_restricts_and_orders(self) -> None:
        environ = {"GROQ_API_KEY": "k", "OLLAMA_HOST": "box", "GWPROTO_PROVIDERS": "pollinations, groq,groq"}
        result = loaded(None, environ)
        assert [provider.name for provider in result.settings.providers] == ["pollinations", "groq"]
        assert result.origins["providers.groq"] == "GWPROTO_PROVIDERS"

    def test_naming_what_nobody_knows(self) -> None:
        assert problems(None, {"GWPROTO_PROVIDERS": "grok"}) == (
            ("GWPROTO_PROVIDERS", "unknown provider grok; the nearest known one is groq"),
        )

    def test_a_named_provider_without_its_key_asks_for_it_later(self) -> None:
        assert found({"GWPROTO_PROVIDERS": "groq"})[0][2] == "GROQ_API_KEY"

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("box", "http://box:11434/v1"),
            ("box:1", "http://box:1/v1"),
            (":1", "http://127.0.0.1:1/v1"),
            ("0.0.0.0", "http://127.0.0.1:11434/v1"),
            ("http://box/", "http://box:11434/v1"),
            ("https://box", "https://box:443/v1"),
            ("https://box:8/api/", "https://box:8/api/v1"),
            ("[::1]", "http://[::1]:11434/v1"),
            ("[::1]:5", "http://[::1]:5/v1"),
        ],
    )
    def test_ollamas_host(self, host: str, url: str) -> None:
        assert found({"OLLAMA_HOST": host}) == [("ollama", url, "")]
        assert loaded(None, {"OLLAMA_HOST": host}).origins["providers.ollama.base_url"] == "OLLAMA_HOST"

    def test_a_base_url_variable_beats_the_table(self) -> None:
        environ = {"GROQ_API_KEY": "k", "GROQ_BASE_URL": "http://proxy/v1"}
        assert found(environ) == [("groq", "http://proxy/v1", "GROQ_API_KEY")]
        assert loaded(None, environ).origins["providers.groq.base_url"] == "GROQ_BASE_URL"

    def test_beside_a_file_only_when_the_file_asks(self) -> None:
        own = "[[providers]]\nname = 'own'\nbase_url = 'http://own/v1'\n"
        environ = {"GROQ_API_KEY": "k"}
        assert [name for name, *_ in found(environ, own)] == ["own"]
        assert [name for name, *_ in found(environ, own + "[routing]\ndiscover = true")] == ["own", "groq"]
        assert [name for name, *_ in found({**environ, "GWPROTO_PROVIDERS": "groq,own"}, own)] == [
            "groq",
            "own",
        ]


class TestFileProviders:
    def test_a_known_name_inherits(self) -> None:
        result = loaded("[[providers]]\nname = 'groq'\nfallback = true", {"GROQ_KEY": "k"})
        assert result.settings.providers == (
            ProviderSettings(
                name="groq",
                like="groq",
                base_url="https://groq.test/v1",
                api_keys_env="GROQ_KEY",
                fallback=True,
                models=KNOWN["groq"].models,
            ),
        )
        assert result.origins["providers.groq"] == "file"
        assert result.origins["providers.groq.models"] == "default"  # inherited

    def test_what_is_written_wins(self) -> None:
        text = """
            [[providers]]
            name = "ollama"
            format = "openai"
            [[providers.models]]
            id = "mine"
            [[providers]]
            name = "groq"
            api_key_env = "OTHER"
        """
        ollama, groq = loaded(text).settings.providers
        assert (ollama.format, ollama.models) == ("openai", (ModelSettings(id="mine"),))
        assert (groq.format, groq.api_key_env, groq.api_keys_env) == ("openai", "OTHER", "")

    def test_the_format_is_inherited(self) -> None:
        assert loaded("[[providers]]\nname = 'ollama'").settings.providers[0].format == "other"

    def test_no_key_goes_to_an_address_it_was_not_meant_for(self) -> None:
        text = "[[providers]]\nname = 'groq'\nbase_url = 'http://elsewhere/v1'"
        environ = {"GROQ_API_KEY": "k", "GROQ_BASE_URL": "http://ignored"}
        assert found(environ, text) == [("groq", "http://elsewhere/v1", "")]

    def test_an_unknown_name_needs_an_address(self) -> None:
        assert problems("[[providers]]\nname = 'grok'") == (
            (
                "providers[0].base_url",
                "is required: grok is no known provider; the nearest known one is groq",
            ),
        )

    def test_a_name_twice(self) -> None:
        assert problems("[[providers]]\nname = 'groq'\n[[providers]]\nname = 'groq'") == (
            ("providers[1].name", "groq is there twice"),
        )

    def test_without_a_table_nothing_is_near(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load(b"[[providers]]\nname = 'x'", {}, {}, known={})
        assert caught.value.problems == (("providers[0].base_url", "is required: x is no known provider"),)


def test_the_table_prefixes_models_with_their_provider() -> None:
    known = decode_known(
        b"""
        [compatible]
        [[providers]]
        name = "p"
        base_url = "http://p"
        """,
        b"""[{"provider":"p","id":"a","upstream":"a"},
        {"provider":"p","id":"b","upstream":"org/b","tier":"high"}]""",
    )
    assert known["p"].models == (
        ModelSettings(id="p-a", upstream="a"),
        ModelSettings(id="p-b", upstream="org/b", tier="high"),
    )

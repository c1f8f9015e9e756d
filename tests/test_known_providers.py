"""The shipped tables of providers and models: true to their schema, to each other, and reachable."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import gwproto
from gwproto.config import (
    KnownProvider,
    Level,
    ModelSettings,
    ProviderSettings,
    Quirks,
    overlaid,
)
from gwproto.failures import ConfigurationError
from gwproto.loading import Loaded, decode_known, load
from gwproto.routing.catalog import CAPABILITIES, Catalog, compile_catalog
from gwproto.wire.dialects import DIALECTS, VOCABULARIES
from gwproto.wire.openai.schema import DOCUMENTED
from gwproto_ops.deployment import deploy, known_providers

KNOWN = known_providers()
ROWS: list[dict[str, Any]] = json.loads((Path(gwproto.__file__).parent / "data" / "models.json").read_text())

# Those of the project this one began as.
ORIGINAL = (
    "groq",
    "gemini",
    "openrouter",
    "cerebras",
    "sambanova",
    "nvidia",
    "github_models",
    "pollinations",
    "cohere",
    "mistral",
    "zai",
    "workers_ai",
)
NEEDS = CAPABILITIES - {"reasoning"} | {"image_url", "custom_tools", "files"}
# Fields without which an answer would be another: none may be dropped in silence.
MEANING = {
    "tools": "tools",
    "functions": "tools",
    "response_format": "json",
    "n": "n",
    "logprobs": "logprobs",
    "audio": "audio",
    "modalities": "audio",
}
VARIABLES = {
    "AZURE_OPENAI_ENDPOINT": "https://azure.example/",
    "CLOUDFLARE_ACCOUNT_ID": "account",
    "AWS_REGION": "eu-west-1",
}
ALL_NAMED = {**VARIABLES, "GWPROTO_PROVIDERS": ",".join(name for name in KNOWN if KNOWN[name].models)}


def loaded(environ: Mapping[str, str], text: str | None = None) -> Loaded:
    return load(None if text is None else text.encode(), environ, {}, known=KNOWN)


def problems(environ: Mapping[str, str], text: str | None = None) -> tuple[tuple[str, str], ...]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(environ, text)
    return caught.value.problems


def found(environ: Mapping[str, str], text: str | None = None) -> list[str]:
    return [provider.name for provider in loaded(environ, text).settings.providers]


def only(environ: Mapping[str, str], text: str | None = None) -> ProviderSettings:
    (provider,) = loaded(environ, text).settings.providers
    return provider


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return compile_catalog(loaded(ALL_NAMED).settings, {}, VOCABULARIES)


class TestModels:
    def test_how_many(self) -> None:
        count = Counter(row["provider"] for row in ROWS)
        assert all(count[name] for name in ORIGINAL)
        assert sum(count[name] for name in ORIGINAL) >= 87
        assert count.total() >= 150

    def test_ids_are_unique(self) -> None:
        ids = [model.id for entry in KNOWN.values() for model in entry.models]
        assert [id_ for id_, count in Counter(ids).items() if count > 1] == []
        upstreams = Counter((row["provider"], row["upstream"]) for row in ROWS)
        assert [pair for pair, count in upstreams.items() if count > 1] == []

    def test_ids_cannot_be_taken_for_anything_else(self) -> None:
        assert [row["id"] for row in ROWS if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", row["id"])] == []

    @pytest.mark.parametrize("row", ROWS, ids=[f"{row['provider']}-{row['id']}" for row in ROWS])
    def test_a_row(self, row: dict[str, Any]) -> None:
        assert row["source"]
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])(-\d\d)?", row["as_of"])
        assert set(row["capabilities"]) <= CAPABILITIES
        assert len(set(row["capabilities"])) == len(row["capabilities"])
        assert row["tier"] in ("low", "medium", "high")
        assert row["context_window"] > 0
        assert 0 <= row.get("max_output", 0) <= row["context_window"]
        prices = row.get("input_price"), row.get("output_price")
        assert (prices[0] is None) == (prices[1] is None)
        assert all(price is None or 0 <= price < 1000 for price in prices)
        if "json_schema" in row["capabilities"]:
            assert "json" in row["capabilities"]
        if "effort" in row.get("quirks", {}):
            assert "reasoning" in row["capabilities"]

    def test_none_is_left_out_of_the_catalog(self, catalog: Catalog) -> None:
        copies = sum(len(entry.models) for entry in KNOWN.values() if entry.models_of)
        assert len(catalog.targets) == len(ROWS) + copies
        assert len(catalog.model_names) == len(catalog.targets)


def allows(quirks: Quirks) -> None:
    """Every name in ``quirks`` means something."""
    fields = DOCUMENTED | {"top_k"}
    assert (quirks.drop or frozenset()) <= fields
    assert (quirks.lacks or frozenset()) <= NEEDS
    assert (quirks.rename or {}).keys() <= fields
    assert not (quirks.drop or frozenset()) & (quirks.keep or frozenset())
    assert not (quirks.drop or frozenset()) & {"messages", "model", "stream"}
    assert quirks.message_keys is None or {"role", "content", "tool_calls"} <= quirks.message_keys
    assert quirks.tool_keys is None or {"name", "description", "parameters"} <= quirks.tool_keys
    assert (quirks.tool_choices or {}).keys() <= {"auto", "none", "required", "named"}
    windows = quirks.limit_windows or {}
    assert windows.keys() <= {"requests", "tokens", "input-tokens", "output-tokens"}
    assert set(windows.values()) <= {"second", "minute", "hour", "day"}
    if isinstance(quirks.effort, dict):
        assert quirks.effort.keys() <= set(get_args(Level))
        assert all(quirks.effort.values())
    assert quirks.max_temperature is None or quirks.max_temperature > 0


class TestQuirks:
    @pytest.mark.parametrize("name", KNOWN)
    def test_their_names(self, name: str) -> None:
        entry = KNOWN[name]
        allows(entry.quirks)
        for model in entry.models:
            allows(model.quirks)

    @pytest.mark.parametrize("name", KNOWN)
    def test_what_changes_the_meaning_is_never_only_dropped(self, name: str, catalog: Catalog) -> None:
        entry = KNOWN[name]
        lacks = (entry.quirks.lacks or frozenset()) | DIALECTS[entry.format].lacks
        for field in MEANING.keys() & (entry.quirks.drop or frozenset()):
            assert MEANING[field] in lacks, field
        for target in catalog.targets:
            if target.provider.name == name:
                able = target.model.capabilities
                assert able is not None
                for field in MEANING.keys() & (target.model.quirks.drop or frozenset()):
                    need = MEANING[field]
                    assert need in lacks or need not in able, (target.id, field)

    def test_the_compatible_ones_have_what_all_of_them_have(self) -> None:
        for entry in KNOWN.values():
            if entry.compatible:
                quirks = entry.quirks
                kept = quirks.keep or frozenset()
                assert {"store", "metadata", "logit_bias", "verbosity"} - kept <= (quirks.drop or frozenset())
                assert {"audio", "custom_tools", "files"} <= (quirks.lacks or frozenset())
                assert entry.quirks.legacy_functions is False

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("groq", {"requests": "day", "tokens": "minute"}),
            ("openai", {"requests": "minute", "tokens": "minute"}),
            ("sambanova", {"requests": "minute"}),
            ("together", {"requests": "second", "tokens": "second"}),
            ("cerebras", None),
        ],
    )
    def test_what_limit_headers_are_per(self, name: str, expected: object) -> None:
        assert KNOWN[name].quirks.limit_windows == expected

    def test_reasoning_inside_the_text(self) -> None:
        inline = {model.id for entry in KNOWN.values() for model in entry.models if model.quirks.think_inline}
        assert {
            "workers_ai-qwq-32b",
            "workers_ai-deepseek-r1-distill-32b",
            "github_models-deepseek-r1",
        } <= inline
        assert all("r1" in id_ or "qwq" in id_ or "reasoning" in id_ for id_ in inline)


# name, address, its variables, those only when named, the header of its key
PLACES = [
    ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "", "authorization"),
    ("azure", "https://azure.example/openai/v1", "AZURE_OPENAI_API_KEY", "", "api-key"),
    ("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "", "x-api-key"),
    (
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY GOOGLE_API_KEY",
        "",
        "x-goog-api-key",
    ),
    (
        "gemini_compat",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "",
        "GEMINI_API_KEY GOOGLE_API_KEY",
        "authorization",
    ),
    ("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", "", "authorization"),
    ("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "", "authorization"),
    ("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", "", "authorization"),
    (
        "nvidia",
        "https://integrate.api.nvidia.com/v1",
        "NVIDIA_API_KEY NVIDIA_NIM_API_KEY",
        "",
        "authorization",
    ),
    ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "", "authorization"),
    (
        "github_models",
        "https://models.github.ai/inference",
        "GITHUB_MODELS_TOKEN",
        "GITHUB_TOKEN",
        "authorization",
    ),
    ("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "", "authorization"),
    ("cohere", "https://api.cohere.com/v2", "COHERE_API_KEY CO_API_KEY", "", "authorization"),
    (
        "cohere_compat",
        "https://api.cohere.ai/compatibility/v1",
        "",
        "COHERE_API_KEY CO_API_KEY",
        "authorization",
    ),
    ("zai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY", "", "authorization"),
    (
        "workers_ai",
        "https://api.cloudflare.com/client/v4/accounts/account/ai",
        "CLOUDFLARE_API_TOKEN",
        "",
        "authorization",
    ),
    (
        "workers_ai_compat",
        "https://api.cloudflare.com/client/v4/accounts/account/ai/v1",
        "",
        "CLOUDFLARE_API_TOKEN",
        "authorization",
    ),
    (
        "bedrock",
        "https://bedrock-runtime.eu-west-1.amazonaws.com",
        "AWS_BEARER_TOKEN_BEDROCK",
        "",
        "authorization",
    ),
    ("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY", "", "authorization"),
    ("xai", "https://api.x.ai/v1", "XAI_API_KEY", "", "authorization"),
    ("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY", "", "authorization"),
    ("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "", "authorization"),
    ("pollinations", "https://gen.pollinations.ai/v1", "", "POLLINATIONS_API_KEY", "authorization"),
    ("ollama", "http://127.0.0.1:11434", "", "OLLAMA_API_KEY", "authorization"),
    ("ollama_compat", "http://127.0.0.1:11434/v1", "", "OLLAMA_API_KEY", "authorization"),
    ("huggingface", "https://router.huggingface.co/v1", "", "HF_TOKEN", "authorization"),
    ("vllm", "http://127.0.0.1:8000/v1", "", "VLLM_API_KEY", "authorization"),
    ("lm_studio", "http://127.0.0.1:1234/v1", "", "", "authorization"),
]


class TestPlaces:
    def test_all_are_here(self) -> None:
        assert [place[0] for place in PLACES] == list(KNOWN)

    @pytest.mark.parametrize(("name", "url", "keys", "named", "header"), PLACES)
    def test_address_keys_and_header(self, name: str, url: str, keys: str, named: str, header: str) -> None:
        for variable in keys.split():
            provider = only({**VARIABLES, variable: "k"} | {"GWPROTO_PROVIDERS": name})
            assert (provider.base_url, provider.api_keys_env) == (url, variable)
            assert provider.auth_header == header
            assert name in found({**VARIABLES, variable: "k"})
        for variable in named.split():
            environ = {**VARIABLES, variable: "k"}
            assert name not in found(environ)
            provider = only({**environ, "GWPROTO_PROVIDERS": name})
            assert (provider.base_url, provider.api_keys_env) == (url, variable)
            assert provider.auth_header == header
        assert only({**VARIABLES, "GWPROTO_PROVIDERS": name}).base_url == url

    @pytest.mark.parametrize("name", KNOWN)
    def test_its_address_may_be_another(self, name: str) -> None:
        """Without the variables that its own would need, too."""
        variable = f"{name.upper()}_BASE_URL"
        environ = {"GWPROTO_PROVIDERS": name, variable: " https://proxy.example/v9 "}
        result = loaded(environ)
        (provider,) = result.settings.providers
        assert provider.base_url == "https://proxy.example/v9"
        assert result.origins[f"providers.{name}.base_url"] == variable
        assert KNOWN[name].missing(environ) == ()

    @pytest.mark.parametrize(
        ("name", "url", "expected"),
        [
            ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
            ("groq", "http://proxy/", "http://proxy/openai/v1"),
            ("deepseek", "http://proxy", "http://proxy"),
            ("azure", "http://proxy", "http://proxy"),
            ("workers_ai", "http://proxy", "http://proxy"),
        ],
    )
    def test_its_address_may_be_without_a_path(self, name: str, url: str, expected: str) -> None:
        """As the providers' own SDKs have it."""
        environ = {"GWPROTO_PROVIDERS": name, f"{name.upper()}_BASE_URL": url}
        assert only(environ).base_url == expected

    @pytest.mark.parametrize("name", [name for name, entry in KNOWN.items() if entry.models])
    def test_it_can_be_deployed(self, name: str) -> None:
        entry = KNOWN[name]
        keys = {entry.key_env[0]: "k1,k2"} if entry.key_env else {}
        environ = {**VARIABLES, **keys, "GWPROTO_PROVIDERS": name, "GATEWAY_API_KEY": "gw"}
        deployment = deploy(loaded(environ), environ=environ)
        catalog = deployment.configuration.catalog
        assert catalog.provider_names == (name,)
        assert len(catalog.targets) == 2 * len(entry.models)
        (first, second) = (deployment.credentials[name], deployment.credentials[f"{name}#2"])
        assert first[0] == second[0] == entry.auth_header.encode()
        assert (first[1] == b"Bearer k1") == (entry.auth_header == "authorization")

    def test_what_anthropic_wants_beside_the_key(self) -> None:
        provider = only({"ANTHROPIC_API_KEY": "k"})
        assert provider.headers == {"anthropic-version": "2023-06-01"}
        assert provider.format == "anthropic"

    def test_the_last_resort_comes_last(self) -> None:
        assert [name for name, entry in KNOWN.items() if entry.fallback] == ["workers_ai"]

    def test_a_second_way_has_the_first_ones_models(self) -> None:
        for name, entry in KNOWN.items():
            if entry.models_of:
                assert entry.named_only
                twins = KNOWN[entry.models_of].models
                assert [model.upstream for model in entry.models] == [twin.upstream for twin in twins]
                assert [model.id.removeprefix(f"{name}-") for model in entry.models] == [
                    twin.id.removeprefix(f"{entry.models_of}-") for twin in twins
                ]
                # Fields of the other format would be no use here.
                assert not any(isinstance(model.quirks.effort, dict) for model in entry.models)

    @pytest.mark.parametrize(
        ("id_", "levels"),
        [
            ("gemini_compat-2.5-pro", ("minimal", "low", "medium", "high")),
            ("gemini_compat-2.5-flash", ("none", "low", "medium", "high")),
            ("gemini_compat-4-hydrogen", ("low", "medium", "high")),
            ("gemini_compat-gemma-3-27b", None),
            ("cohere_compat-command-a-reasoning", ("none", "high")),
            ("workers_ai_compat-gpt-oss-120b", ()),
            ("ollama_compat-qwen3-8b", ("none", "high")),
        ],
    )
    def test_a_second_way_has_the_levels_of_effort_that_both_know(self, id_: str, levels: object) -> None:
        (model,) = (model for entry in KNOWN.values() for model in entry.models if model.id == id_)
        assert model.quirks.effort == levels


class TestVariablesInAddresses:
    def test_they_are_filled_in(self) -> None:
        environ = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": " https://mine.example// "}
        assert only(environ).base_url == "https://mine.example/openai/v1"

    @pytest.mark.parametrize(
        ("name", "key", "variable"),
        [
            ("azure", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"),
            ("workers_ai", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID"),
        ],
    )
    def test_without_one_a_provider_is_not_found(self, name: str, key: str, variable: str) -> None:
        environ = {key: "k"}
        assert found(environ) == []
        assert found({**environ, variable: " "}) == []
        assert found({**environ, variable: "https://x.example"}) == [name]
        assert problems({**environ, "GWPROTO_PROVIDERS": f"{name},{name}"}) == (
            ("GWPROTO_PROVIDERS", f"{name} needs {variable}"),
        )
        assert problems(environ, f"[[providers]]\nname = '{name}'") == (
            ("providers[0].base_url", f"needs {variable}"),
        )
        written = only(environ, f"[[providers]]\nname = '{name}'\nbase_url = 'https://x.example'")
        assert written.base_url == "https://x.example"
        named = {**environ, "GWPROTO_PROVIDERS": name}
        assert found(named, f"[[providers]]\nname = '{name}'\nbase_url = 'https://x.example'") == [name]

    def test_several_are_named_together(self) -> None:
        entry = KnownProvider(name="two", base_url="https://{A_HOST}/{B_PATH}", key_env=("KEY",))
        assert entry.missing({}) == ("A_HOST", "B_PATH")
        assert entry.missing({"A_HOST": "a"}) == ("B_PATH",)
        assert entry.address({"A_HOST": "a", "B_PATH": "b/"}) == ("https://a/b", "default")
        with pytest.raises(ConfigurationError) as caught:
            load(None, {"GWPROTO_PROVIDERS": "two"}, {}, known={"two": entry})
        assert caught.value.problems == (("GWPROTO_PROVIDERS", "two needs A_HOST and B_PATH"),)


class TestLike:
    TEXT = """
        [[providers]]
        name = "mine"
        like = "mistral"
    """

    def test_another_name_for_a_known_one(self) -> None:
        result = loaded({"MISTRAL_API_KEY": "k"}, self.TEXT)
        (provider,) = result.settings.providers
        entry = KNOWN["mistral"]
        assert (provider.name, provider.like) == ("mine", "mistral")
        assert (provider.base_url, provider.api_keys_env) == (entry.base_url, "MISTRAL_API_KEY")
        assert (provider.quirks, provider.models) == (entry.quirks, entry.models)
        assert result.origins["providers.mine.base_url"] == "default"

    def test_elsewhere_it_has_the_ways_but_no_key(self) -> None:
        text = self.TEXT + "base_url = 'https://codestral.mistral.ai/v1'\n"
        provider = only({"MISTRAL_API_KEY": "k"}, text)
        assert provider.api_keys_env == ""
        assert provider.quirks == KNOWN["mistral"].quirks
        target = compile_catalog(loaded({}, text).settings, {}).targets[0]
        assert target.provider.like == "mistral"

    def test_own_quirks_are_laid_over(self) -> None:
        text = self.TEXT + "quirks = { drop = ['seed'], keep = ['user'], stream_usage = true }\n"
        quirks = only({}, text).quirks
        known = KNOWN["mistral"].quirks
        assert known.drop is not None
        assert quirks.drop == (known.drop | {"seed"}) - {"user"}
        assert quirks.stream_usage is True
        assert quirks.tool_ids == "alphanumeric9"

    def test_in_another_format_quirks_and_headers_are_its_own(self) -> None:
        text = """
            [[providers]]
            name = "anthropic"
            format = "openai"
        """
        provider = only({"ANTHROPIC_API_KEY": "k"}, text)
        assert provider.format == "openai"
        assert provider.headers == {}
        assert provider.auth_header == "authorization"
        assert provider.quirks == Quirks()

    def test_what_is_written_wins(self) -> None:
        text = """
            [[providers]]
            name = "anthropic"
            format = "anthropic"
            auth_header = "authorization"
            headers = { anthropic-version = "2099-01-01", x-mine = "1" }
            fallback = true
        """
        provider = only({"ANTHROPIC_API_KEY": "k"}, text)
        assert provider.auth_header == "authorization"
        assert provider.headers == {"anthropic-version": "2099-01-01", "x-mine": "1"}
        assert provider.quirks == KNOWN["anthropic"].quirks
        assert provider.fallback

    def test_nobody_known(self) -> None:
        text = self.TEXT.replace('"mistral"', '"mistrel"') + "base_url = 'https://x.example'\n"
        assert problems({}, text) == (
            ("providers[0].like", "is no known provider; the nearest known one is mistral"),
        )


class TestNamedOnly:
    @pytest.mark.parametrize("name", [name for name, entry in KNOWN.items() if entry.named_only])
    def test_never_found_by_chance(self, name: str) -> None:
        entry = KNOWN[name]
        keys = dict.fromkeys(entry.key_env, "k")
        environ = {**VARIABLES, **keys, "OLLAMA_HOST": "box"}
        assert name not in found(environ)
        assert name not in found(environ, "[routing]\ndiscover = true")
        assert found({**environ, "GWPROTO_PROVIDERS": name}) == [name]
        assert found(environ, f"[[providers]]\nname = '{name}'") == [name]

    def test_beside_the_other_way(self) -> None:
        environ = {"GEMINI_API_KEY": "k", "GWPROTO_PROVIDERS": "gemini_compat,gemini"}
        compat, native = loaded(environ).settings.providers
        assert (compat.name, compat.format, native.format) == ("gemini_compat", "openai", "gemini")


class TestOverlaid:
    def test_nothing_said_is_the_same_object(self) -> None:
        under = Quirks(open=False)
        assert overlaid(under, Quirks()) is under

    def test_what_is_refused_adds_up(self) -> None:
        under = Quirks(drop=frozenset("ab"), lacks=frozenset(["n"]), schema_drop=frozenset("s"), open=False)
        over = Quirks(drop=frozenset("c"), lacks=frozenset(["audio"]), schema_drop=frozenset("t"))
        assert overlaid(under, over) == Quirks(
            drop=frozenset("abc"), lacks=frozenset(["n", "audio"]), schema_drop=frozenset("st"), open=False
        )

    def test_what_is_kept_is_not_dropped(self) -> None:
        under = Quirks(drop=frozenset("ab"), keep=frozenset("k"))
        assert overlaid(under, Quirks(keep=frozenset("a"))) == Quirks(
            drop=frozenset("b"), keep=frozenset("ak")
        )
        assert overlaid(Quirks(), Quirks(keep=frozenset("a"))) == Quirks(keep=frozenset("a"))
        assert overlaid(Quirks(keep=frozenset("a")), Quirks(drop=frozenset("a"))).drop == frozenset("a")

    def test_everything_else_is_replaced(self) -> None:
        under = Quirks(rename={"a": "b"}, message_keys=frozenset("m"), tool_choices={"auto": "auto"})
        over = Quirks(rename={}, message_keys=frozenset("n"), tool_choices={})
        assert overlaid(under, over) == over


class TestDecoding:
    PROVIDERS = b"""
        [compatible]
        drop = ["user", "store"]
        text_parts = false
        [[providers]]
        name = "p"
        base_url = "http://p"
        compatible = true
        quirks = { keep = ["user"], developer_role = true }
        [[providers]]
        name = "q"
        base_url = "http://q"
        models_of = "p"
        format = "other"
        quirks = { open = false }
    """
    ROW = b'{"provider":"p","id":"a","upstream":"org/a","quirks":{"effort":["low"],"drop":["stop"]}}'

    def test_the_tables(self) -> None:
        known = decode_known(self.PROVIDERS, b"[" + self.ROW + b"]")
        assert known["p"].quirks == Quirks(
            drop=frozenset(("store",)), keep=frozenset(("user",)), text_parts=False, developer_role=True
        )
        model = ModelSettings(
            id="p-a", upstream="org/a", quirks=Quirks(effort=("low",), drop=frozenset(("stop",)))
        )
        assert known["p"].models == (model,)
        assert known["q"].quirks == Quirks(open=False)
        (twin,) = known["q"].models
        assert (twin.id, twin.upstream, twin.quirks.drop) == ("q-a", "org/a", frozenset(("stop",)))

    def test_a_model_of_nobody(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            decode_known(self.PROVIDERS, b"[" + self.ROW.replace(b'"p"', b'"nobody"') + b"]")
        assert caught.value.problems == (("models", "nobody is no known provider"),)

    def test_wrong_providers(self) -> None:
        text = self.PROVIDERS.replace(b"text_parts = false", b"text_part = false").replace(
            b'format = "other"', b"formt = 1"
        )
        with pytest.raises(ConfigurationError) as caught:
            decode_known(text, b"[]")
        assert caught.value.problems == (
            ("compatible.text_part", "unknown key; the nearest known one is text_parts"),
            ("providers.formt", "unknown key; the nearest known one is format"),
        )

    @pytest.mark.parametrize(
        "change",
        [
            (b'"id":"a"', b'"id":""'),
            (b'"upstream":"org/a"', b'"x":1'),
            (b'"drop"', b'"dorp"'),
            (b'["low"]', b'["lowest"]'),
            (b'"id":"a"', b'"id":"a","input_price":-1'),
            (b'"id":"a"', b'"id":"a","tier":"huge"'),
        ],
    )
    def test_wrong_models(self, change: tuple[bytes, bytes]) -> None:
        with pytest.raises(msgspec.ValidationError):
            decode_known(self.PROVIDERS, b"[" + self.ROW.replace(*change) + b"]")


@pytest.mark.parametrize("format_", sorted(set(DIALECTS) - {"openai"}))
def test_another_address_takes_the_key_where_its_format_has_it(format_: str) -> None:
    text = f'[[providers]]\nname = "mine"\nformat = "{format_}"\nbase_url = "http://mine.example"\n'
    mine = only({}, text)
    assert (mine.auth_header, mine.headers) == (KNOWN[format_].auth_header, KNOWN[format_].headers)
    own = only({}, text + 'auth_header = "x-own"\nheaders = { anthropic-version = "x" }\n')
    assert own.auth_header == "x-own"
    assert own.headers["anthropic-version"] == "x"


def test_a_model_of_the_file_is_completed_from_the_shipped_row() -> None:
    row = next(row for row in KNOWN["groq"].models if row.context_window and row.quirks != Quirks())
    text = f"""
        [[providers]]
        name = "groq"
        models = [
            {{ id = "mine", upstream = "{row.upstream or row.id}", context_window = 7 }},
            {{ id = "{row.id}", quirks = {{ drop = ["seed"] }} }},
            {{ id = "unheard-of" }},
        ]
    """
    mine, same, unheard = only({"GROQ_API_KEY": "k"}, text).models
    assert mine == msgspec.structs.replace(row, id="mine", upstream=row.upstream or row.id, context_window=7)
    assert same.context_window == row.context_window
    assert same.quirks == overlaid(row.quirks, Quirks(drop=frozenset({"seed"})))
    assert unheard == ModelSettings(id="unheard-of")


def test_quirks_of_a_row_stay_with_its_format() -> None:
    row = next(row for row in KNOWN["groq"].models if row.quirks != Quirks())
    text = f"""
        [[providers]]
        name = "groq"
        format = "ollama"
        models = [{{ id = "{row.id}" }}]
    """
    (model,) = only({"GROQ_API_KEY": "k"}, text).models
    assert (model.quirks, model.context_window) == (Quirks(), row.context_window)

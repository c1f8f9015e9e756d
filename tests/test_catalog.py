"""The catalog: settings compiled into targets, and what clients may call them."""

import math

import pytest

from gwproto.config import (
    STANDARD,
    ModelSettings,
    ProviderSettings,
    ProviderTimeouts,
    Quirks,
    Settings,
    TimeoutSettings,
    Vocabulary,
    overlaid,
)
from gwproto.failures import ConfigurationError
from gwproto.routing.catalog import Catalog, Timeouts, compile_catalog
from gwproto.values import Origin


def provider(name: str, *models: str, **changes: object) -> ProviderSettings:
    values: dict[str, object] = {
        "name": name,
        "base_url": f"https://{name}.example/v1",
        "models": tuple(ModelSettings(id=model) for model in models),
    }
    return ProviderSettings(**{**values, **changes})  # type: ignore[arg-type]  # tests name the fields they change


def compiled(*providers: ProviderSettings, **changes: object) -> Catalog:
    settings = Settings(providers=providers, **changes)  # type: ignore[arg-type]  # see above
    return compile_catalog(settings, {})


def problems(*providers: ProviderSettings, **changes: object) -> tuple[tuple[str, str], ...]:
    with pytest.raises(ConfigurationError) as caught:
        compiled(*providers, **changes)
    return caught.value.problems


def ids(catalog: Catalog, name: str) -> list[str] | None:
    targets = catalog.resolve(name)
    return None if targets is None else [target.id for target in targets]


def test_targets_are_provider_by_model_by_key() -> None:
    settings = Settings(
        providers=(
            provider("groq", "a", "b"),
            provider("local", models=(ModelSettings(id="c", upstream="org/c"),)),
        )
    )
    catalog = compile_catalog(settings, {"groq": ["one", "two"]})
    assert [(target.id, target.credential) for target in catalog.targets] == [
        ("groq/a", "one"),
        ("groq/a#2", "two"),
        ("groq/b", "one"),
        ("groq/b#2", "two"),
        ("local/org/c", ""),
    ]
    assert catalog.targets[1].backend == (Origin("https", "groq.example", 443), "/v1", "two", "a")
    assert catalog.provider_names == ("groq", "local")
    assert catalog.model_names == ("a", "b", "c")


def test_one_backend_under_two_names_is_one_backend() -> None:
    catalog = compiled(provider("a", "m"), provider("b", "m", base_url="https://A.example:443/v1/"))
    first, second = catalog.targets
    assert first.backend == second.backend
    assert first != second


def test_names_are_resolved_in_order() -> None:
    catalog = compiled(
        provider("one", models=(ModelSettings(id="fast", upstream="llama"),)),
        provider(
            "two",
            models=(ModelSettings(id="llama", upstream="big"), ModelSettings(id="x", upstream="one/llama")),
        ),
        provider(
            "three", models=(ModelSettings(id="y", upstream="llama"), ModelSettings(id="z", upstream="fast"))
        ),
        aliases={"mine": ("fast", "two/big", "llama", "fast"), "fast": ("x",)},
    )
    assert ids(catalog, "auto") == ["one/llama", "two/big", "two/one/llama", "three/llama", "three/fast"]
    assert ids(catalog, "fast") == ["one/llama"]  # the id wins over an upstream name and an alias
    assert ids(catalog, "llama") == ["two/big"]
    assert ids(catalog, "one/llama") == ["one/llama"]  # the path wins over an upstream name
    assert ids(catalog, "big") == ["two/big"]
    assert ids(catalog, "mine") == ["one/llama", "two/big"]
    assert ids(catalog, "nobody") is None
    assert catalog.aliases == ("mine", "fast")


def test_an_upstream_name_stands_for_all_who_serve_it() -> None:
    catalog = compiled(
        provider("one", models=(ModelSettings(id="a", upstream="llama"),)),
        provider("two", models=(ModelSettings(id="b", upstream="llama"),)),
    )
    assert ids(catalog, "llama") == ["one/llama", "two/llama"]


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://api.example/v1", Origin("https", "api.example", 443), "/v1"),
        ("https://api.example/v1/", Origin("https", "api.example", 443), "/v1"),
        ("http://API.example", Origin("http", "api.example", 80), ""),
        ("http://127.0.0.1:9901/", Origin("http", "127.0.0.1", 9901), ""),
        ("http://[::1]:11434/v1", Origin("http", "::1", 11434), "/v1"),
    ],
)
def test_base_urls(url: str, origin: Origin, path: str) -> None:
    (only,) = compiled(provider("p", "m", base_url=url)).providers
    assert (only.origin, only.path) == (origin, path)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is empty"),
        ("https://api.example/v 1", "has a character that no URL has"),
        ("https://api.example\n/v1", "has a character that no URL has"),
        ("https://äpi.example/v1", "has a character that no URL has"),
        ("ftp://api.example", "must begin with http:// or https://"),
        ("api.example/v1", "must begin with http:// or https://"),
        ("https:///v1", "has no valid host and port"),
        ("https://api.example:0/v1", "has no valid host and port"),
        ("https://api.example:99999/v1", "has no valid host and port"),
        ("https://[::1/v1", "has no valid host and port"),
        ("https://me:secret@api.example/v1", "must not hold a user name or password"),
        ("https://api.example/v1?key=1", "must not have a query or fragment"),
        ("https://api.example/v1#x", "must not have a query or fragment"),
    ],
)
def test_bad_base_urls(url: str, problem: str) -> None:
    assert problems(provider("p", "m", base_url=url)) == (("providers[0].base_url", problem),)


def test_everything_wrong_is_said_at_once() -> None:
    found = problems(
        provider("a", "m", "m", ""),
        provider("a", models=(ModelSettings(id="auto"), ModelSettings(id="n", upstream="auto"))),
        provider("", headers={"bad name": "x", "good": "line\nbreak"}),
        aliases={"auto": ("m",), "none": (), "some": ("m", "gone")},
    )
    assert found == (
        ("providers[0].models[1].id", "'m' is used twice"),
        ("providers[0].models[2].id", "is empty"),
        ("providers[1].name", "'a' is used twice"),
        ("providers[1].models[0].id", "'auto' is reserved"),
        ("providers[1].models[1].upstream", "'auto' is used twice"),
        ("providers[2].name", "is empty"),
        ("providers[2].headers", "'bad name' is not a header name"),
        ("providers[2].headers.good", "has a character that no header value has"),
        ("providers[2].models", "is empty"),
        ("aliases.auto", "'auto' is reserved"),
        ("aliases.none", "is empty"),
        ("aliases.some", "there is no model 'gone'"),
    )


@pytest.mark.parametrize("name", ["a/b", "a#2", "a b", "a\n", "é"])
def test_provider_names_keep_targets_apart(name: str) -> None:
    found = problems(provider(name, "m", base_url="http://p.test/v1"))
    assert found == (("providers[0].name", "may hold A-Z a-z 0-9 . _ - only"),)


@pytest.mark.parametrize("name", ["a\nx-evil: b", "a\r", " a", "a ", "a\0b", "a\x7f"])
def test_models_are_named_as_a_header_field_can_say(name: str) -> None:
    problem = "begins or ends with a space, or has a control character"
    assert problems(provider("p", name)) == (("providers[0].models[0].id", problem),)
    named = provider("p", models=(ModelSettings(id="m", upstream=name),))
    assert problems(named) == (("providers[0].models[0].upstream", problem),)


@pytest.mark.parametrize("name", ["modèle", "org/model:free", "a b", "@cf/meta/llama"])
def test_models_have_all_kinds_of_names(name: str) -> None:
    assert compiled(provider("p", name)).model_names == (name,)


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "connection", "accept"])
def test_no_configured_header_doubles_one_of_the_gateways(name: str) -> None:
    found = problems(provider("p", "m", headers={name: "1"}))
    assert found == ((f"providers[0].headers.{name}", "is set by the gateway"),)


def test_a_misspelt_capability_is_named() -> None:
    ((path, problem),) = problems(
        provider("p", models=(ModelSettings(id="m", capabilities=("tools", "json-schema", "vison")),))
    )
    assert path == "providers[0].models[0].capabilities"
    assert problem.startswith("unknown: json-schema, vison; known are audio, json, json_schema, ")


def test_timeouts_are_the_providers_own_or_the_common_ones_and_zero_is_off() -> None:
    own = ProviderTimeouts(connect=1.0, idle=0.0)
    (only,) = compiled(provider("p", "m", timeouts=own), timeouts=TimeoutSettings(total=60.0)).providers
    assert only.timeouts == Timeouts(
        connect=1.0, head=math.inf, first_content=300.0, idle=math.inf, total=60.0, stream_total=3600.0
    )


def test_what_a_provider_adds_is_ready_for_the_wire() -> None:
    settings = Settings(
        providers=(provider("p", "m", headers={"X-Title": "gw"}, body={"store": False, "tags": ["a"]}),)
    )
    (only,) = compile_catalog(settings, {}, {"openai": Vocabulary(frozenset({"top_p"}))}).providers
    assert only.headers == ((b"x-title", b"gw"),)
    assert only.body == {"store": False, "tags": ["a"]}
    assert only.vocabulary.parameters == frozenset({"top_p"})


def test_capabilities_unstated_are_all_assumed() -> None:
    catalog = compiled(
        provider("p", models=(ModelSettings(id="a"), ModelSettings(id="b", capabilities=("tools",))))
    )
    assert [target.model.capabilities for target in catalog.targets] == [None, frozenset({"tools"})]


def test_a_header_that_could_not_carry_a_key() -> None:
    for name in ("x key", "", "Host"):
        with pytest.raises(ConfigurationError) as caught:
            compiled(provider("p", "m", auth_header=name))
        assert caught.value.problems == (
            ("providers[0].auth_header", "is no header name that could carry a key"),
        )


def test_a_models_quirks_lie_over_its_providers() -> None:
    own = Quirks(drop=frozenset({"stop"}), null_content=False)
    model = ModelSettings(id="m", quirks=Quirks(drop=frozenset({"seed"}), open=False))
    plain = ModelSettings(id="n")
    catalog = compiled(provider("p", models=(model, plain), quirks=own, like="known", query={"a": "b c"}))
    first, second = (target.model.quirks for target in catalog.targets)
    assert first == Quirks(drop=frozenset({"stop", "seed"}), null_content=False, open=False)
    assert second is own
    assert (catalog.providers[0].like, catalog.providers[0].query) == ("known", "a=b+c")
    assert compiled(provider("p", "m")).targets[0].model.quirks is STANDARD


def test_what_is_kept_is_not_dropped() -> None:
    under = Quirks(drop=frozenset({"a", "b"}), keep=frozenset({"x"}), lacks=frozenset({"n"}))
    over = Quirks(keep=frozenset({"a"}), drop=frozenset({"c"}), lacks=frozenset({"audio"}))
    assert overlaid(under, over) == Quirks(
        drop=frozenset({"b", "c"}), keep=frozenset({"a", "x"}), lacks=frozenset({"n", "audio"})
    )
    assert overlaid(under, Quirks()) is under
    assert overlaid(Quirks(), Quirks(keep=frozenset({"a"}))) == Quirks(keep=frozenset({"a"}))

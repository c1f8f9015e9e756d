"""The effort a client asks for, and the fields that say it to each provider's models."""

import json
from typing import Any

import pytest

from gwproto.config import Quirks, Settings
from gwproto.exchange.intake import write
from gwproto.loading import load
from gwproto.routing.catalog import Catalog, compile_catalog
from gwproto.wire.effort import OPENAI_EFFORTS, Efforts, efforts_of, merged, nearest
from gwproto.wire.neutral import ChatRequest
from gwproto.wire.openai.request import parse_request
from gwproto_ops.deployment import known_providers

LEVELS: Any = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def table(*levels: str) -> Efforts:
    return {level: {"effort": level} for level in levels}  # type: ignore[misc]  # levels, as it happens


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (LEVELS, LEVELS),
        (("low", "medium", "high"), ("low", "low", "low", "medium", "high", "high", "high")),
        (
            ("none", "low", "medium", "high", "xhigh"),
            ("none", "low", "low", "medium", "high", "xhigh", "xhigh"),
        ),
        (
            ("minimal", "low", "medium", "high"),
            ("minimal", "minimal", "low", "medium", "high", "high", "high"),
        ),
        (("none", "high"), ("none", *["high"] * 6)),
        (("low", "high"), ("low", "low", "low", "low", "high", "high", "high")),
        (("low", "high", "max"), ("low", "low", "low", "low", "high", "high", "max")),
        (("none",), ("none", *[None] * 6)),
        (("none", "default"), ("none", *["default"] * 6)),
        (
            ("none", "default", "low", "medium", "high"),
            ("none", "low", "low", "medium", "high", "high", "high"),
        ),
        (("default",), (None, *["default"] * 6)),
        (("max", "minimal"), ("minimal", "minimal", "minimal", "minimal", "max", "max", "max")),
        ((), (None,) * 7),
    ],
)
def test_the_nearest_level(known: tuple[str, ...], expected: tuple[str | None, ...]) -> None:
    assert tuple(nearest(table(*known), level) for level in LEVELS) == expected


class TestEffortsOf:
    NATIVE: Efforts = {"low": {"think": 1}, "high": {"think": 2}, "default": {}}  # noqa: RUF012  # nobody changes it

    def test_without_its_own_a_models_are_its_formats(self) -> None:
        assert efforts_of(Quirks(), self.NATIVE) is self.NATIVE

    def test_a_table_is_taken_as_it_is(self) -> None:
        own: dict[Any, dict[str, object]] = {"none": {"thinking": {"type": "disabled"}}}
        assert efforts_of(Quirks(effort=own), self.NATIVE) == own

    def test_levels_are_said_as_the_format_says_them(self) -> None:
        quirks = Quirks(effort=("none", "low", "default"))
        assert efforts_of(quirks, self.NATIVE) == {
            "none": {"reasoning_effort": "none"},
            "low": {"think": 1},
            "default": {},
        }

    def test_no_levels(self) -> None:
        assert efforts_of(Quirks(effort=()), self.NATIVE) == {}

    def test_openais_own(self) -> None:
        assert {level: OPENAI_EFFORTS[level] for level in LEVELS} == {
            level: {"reasoning_effort": level} for level in LEVELS
        }


def test_what_says_the_effort_is_laid_over_the_rest() -> None:
    body = {"a": {"b": 1, "c": {"d": 2}}, "e": [1], "f": 1}
    more = {"a": {"c": {"d": 3, "g": 4}}, "e": [2], "f": {"h": 5}, "i": None}
    assert merged(body, more) == {
        "a": {"b": 1, "c": {"d": 3, "g": 4}},
        "e": [2],
        "f": {"h": 5},
        "i": None,
    }
    assert body == {"a": {"b": 1, "c": {"d": 2}}, "e": [1], "f": 1}
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """Every provider of the tables, and all their models."""
    known = known_providers()
    names = [entry.name for entry in known.values() if entry.models]
    environ = {
        "GWPROTO_PROVIDERS": ",".join(names),
        "AZURE_OPENAI_ENDPOINT": "https://azure.example",
        "CLOUDFLARE_ACCOUNT_ID": "account",
        "AWS_REGION": "eu-west-1",
    }
    settings: Settings = load(None, environ, {}, known=known).settings
    return compile_catalog(settings, {})


def said(catalog: Catalog, model: str, effort: str) -> tuple[str, dict[str, Any]]:
    """The effort in force, and what of the body for ``model`` says it."""
    targets = catalog.resolve(model)
    assert targets is not None, model
    body = {"messages": [{"role": "user", "content": "Q"}], "reasoning_effort": effort, "max_tokens": 9}
    request = parse_request(json.dumps(body).encode())
    assert isinstance(request, ChatRequest)
    written = write(request, targets[0])
    assert written.dropped == ()
    fields = json.loads(written.request.body)
    for name in ("model", "messages", "max_tokens", "max_completion_tokens"):
        fields.pop(name, None)
    return written.effort, fields


def effort(level: str | None) -> dict[str, Any]:
    return {} if level is None else {"reasoning_effort": level}


def kwargs(**switch: bool) -> dict[str, Any]:
    return {"chat_template_kwargs": switch}


OFF, ON = {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}
NOTHING: tuple[dict[str, Any], ...] = ({},) * 7
THREE = tuple(map(effort, ("low", "low", "low", "medium", "high", "high", "high")))
TWO = tuple(map(effort, ("none", "high", "high", "high", "high", "high", "high")))
GROQ_QWEN = tuple(map(effort, ("none", *["default"] * 6)))

# What each of the seven levels becomes.
ROWS: list[tuple[str, tuple[dict[str, Any], ...]]] = [
    ("openai-o3", THREE),
    ("openai-gpt-5", tuple(map(effort, ("minimal", "minimal", "low", "medium", "high", "high", "high")))),
    ("openai-gpt-5.1", tuple(map(effort, ("none", "low", "low", "medium", "high", "high", "high")))),
    ("openai-gpt-5.4", tuple(map(effort, ("none", "low", "low", "medium", "high", "xhigh", "xhigh")))),
    ("openai-gpt-6-astra", tuple(map(effort, ("low", "low", "low", "medium", "high", "xhigh", "xhigh")))),
    ("openai-gpt-4.1", NOTHING),
    ("azure-gpt-5.4", tuple(map(effort, ("none", "low", "low", "medium", "high", "xhigh", "xhigh")))),
    ("groq-gpt-oss-120b", THREE),
    ("groq-qwen3-32b", GROQ_QWEN),
    ("groq-qwen3.6-27b", GROQ_QWEN),
    ("groq-qwen3.8-27b", tuple(map(effort, ("none", "low", "low", "medium", "high", "high", "high")))),
    ("groq-llama-3.3-70b", NOTHING),
    ("cerebras-gpt-oss-120b", THREE),
    ("cerebras-glm-4.7", (effort("none"), *NOTHING[1:])),
    ("cerebras-qwen-3.8-27b", tuple(map(effort, ("none", "low", "low", "medium", "high", "high", "high")))),
    ("sambanova-gpt-oss-120b", THREE),
    (
        "sambanova-deepseek-v3.1",
        (kwargs(enable_thinking=False), *(kwargs(enable_thinking=True),) * 6),
    ),
    ("nvidia-gpt-oss-20b", THREE),
    ("nvidia-nemotron-3-super", (kwargs(enable_thinking=False), *(kwargs(enable_thinking=True),) * 6)),
    ("nvidia-deepseek-v4-pro", (kwargs(thinking=False), *(kwargs(thinking=True),) * 6)),
    (
        "openrouter-nemotron-3-ultra",
        tuple(map(effort, ("none", "minimal", "low", "medium", "high", "xhigh", "xhigh"))),
    ),
    ("github_models-o3", THREE),
    (
        "github_models-gpt-5",
        tuple(map(effort, ("minimal", "minimal", "low", "medium", "high", "high", "high"))),
    ),
    ("mistral-small", TWO),
    ("mistral-medium", TWO),
    ("mistral-magistral-medium", ({"prompt_mode": "reasoning"},) * 7),
    ("mistral-large", NOTHING),
    ("deepseek-v4-pro", (OFF, *(ON | effort(level) for level in LEVELS[1:]))),
    ("xai-grok-4.3", tuple(map(effort, ("none", "low", "low", "medium", "high", "high", "high")))),
    ("xai-grok-4.7", tuple(map(effort, ("low", "low", "low", "medium", "high", "xhigh", "xhigh")))),
    ("xai-grok-4.20", NOTHING),
    ("zai-glm-4.7", (OFF, *(ON,) * 6)),
    ("zai-glm-5.3", tuple(map(effort, ("low", "low", "low", "low", "high", "high", "max")))),
    ("together-gpt-oss-120b", THREE),
    ("together-glm-5.2", ({"reasoning": {"enabled": False}}, *({"reasoning": {"enabled": True}},) * 6)),
    ("fireworks-kimi-k3", tuple(map(effort, ("low", "low", "low", "low", "high", "high", "max")))),
    ("cohere_compat-command-a-reasoning", TWO),
    ("workers_ai_compat-kimi-k2.6", NOTHING),
    ("workers_ai_compat-llama-3.3-70b", NOTHING),
    ("pollinations-openai", NOTHING),
]


@pytest.mark.parametrize(("model", "expected"), ROWS, ids=[model for model, _ in ROWS])
def test_shipped_models(catalog: Catalog, model: str, expected: tuple[dict[str, Any], ...]) -> None:
    assert tuple(said(catalog, model, level)[1] for level in LEVELS) == expected
    assert said(catalog, model, "auto")[1] == {}


@pytest.mark.parametrize("level", ["none", "low", "medium", "high"])
def test_gemini_by_its_other_endpoint(catalog: Catalog, level: str) -> None:
    assert said(catalog, "gemini_compat-2.5-flash", level)[1] == effort(level)
    assert said(catalog, "gemini_compat-2.5-flash", "max")[1] == effort("high")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("ollama-gpt-oss-20b", ("low", "low", "low", "medium", "high", "high", "high")),
        ("ollama-qwen3-8b", (False, *[True] * 6)),
        ("ollama-llama3.3", (None,) * 7),
    ],
)
def test_ollama_in_its_own_format(catalog: Catalog, model: str, expected: tuple[object, ...]) -> None:
    assert tuple(said(catalog, model, level)[1].get("think") for level in LEVELS) == expected


@pytest.mark.parametrize(
    ("model", "wanted", "applied"),
    [
        ("groq-gpt-oss-120b", "max", "high"),
        ("groq-qwen3-32b", "low", "default"),
        ("cerebras-glm-4.7", "high", "auto"),
        ("openai-gpt-4.1", "high", "none"),
        ("openai-o3", "auto", "auto"),
    ],
)
def test_the_effort_in_force(catalog: Catalog, model: str, wanted: str, applied: str) -> None:
    assert said(catalog, model, wanted)[0] == applied


def test_every_shipped_model_with_reasoning_says_how_to_ask_for_it(catalog: Catalog) -> None:
    """Otherwise it would be asked in OpenAI's seven words, which none but OpenAI's newest know."""
    for target in catalog.targets:
        model = target.model
        if model.capabilities is not None and "reasoning" in model.capabilities:
            assert model.quirks.effort is not None, target.id

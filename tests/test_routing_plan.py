"""Which targets could serve a request at all."""

import pytest

from gwproto.config import ModelSettings, Quirks, Vocabulary
from gwproto.failures import Failure, FailureClass
from gwproto.routing.catalog import compile_catalog
from gwproto.routing.demand import Demand
from gwproto.routing.plan import Planner
from gwproto.routing.ticket import Plan
from support.routing import Desk, provider


def desk() -> Desk:
    return Desk(
        provider(
            "big",
            ModelSettings(id="large", context_window=100_000, capabilities=("tools", "vision", "reasoning")),
            ModelSettings(id="small", tier="low", context_window=8_000, capabilities=("tools",)),
        ),
        provider("open", ModelSettings(id="any", tier="high")),
        provider("plain", ModelSettings(id="text", upstream="large", capabilities=())),
        aliases={"mix": ("text", "small")},
    )


def candidates(plan: Plan) -> list[str]:
    return [target.id for target in plan.candidates]


def test_auto_is_everybody() -> None:
    everybody = ["big/large", "big/small", "open/any", "plain/large"]
    assert candidates(desk().plan()) == everybody
    assert candidates(desk().plan(model="")) == everybody


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        ({"model": "large"}, ["big/large"]),
        ({"model": "plain/large"}, ["plain/large"]),
        ({"model": "mix"}, ["big/small", "plain/large"]),
        ({"provider": "big"}, ["big/large", "big/small"]),
        ({"forced_model": "small"}, ["big/small"]),
        ({"provider": "big", "forced_model": "large"}, ["big/large"]),
        ({"needs": frozenset({"tools"})}, ["big/large", "big/small", "open/any"]),
        ({"needs": frozenset({"tools", "vision"})}, ["big/large", "open/any"]),
        (
            {"prompt_tokens": 6_000, "output_tokens": 800},
            ["big/large", "big/small", "open/any", "plain/large"],
        ),
        ({"prompt_tokens": 6_000, "output_tokens": 801}, ["big/large", "open/any", "plain/large"]),
        ({"prompt_tokens": 90_000}, ["open/any", "plain/large"]),
    ],
)
def test_restrictions(demand: dict[str, object], expected: list[str]) -> None:
    assert candidates(desk().plan(**demand)) == expected


def test_whoever_is_removed_has_a_reason() -> None:
    plan = desk().plan(provider="big", needs=frozenset({"vision"}))
    assert {target.id: reason for target, reason in plan.removed} == {
        "big/small": "lacks vision",
        "open/any": "not among the models or providers asked for",
        "plain/large": "not among the models or providers asked for",
    }


@pytest.mark.parametrize(
    ("demand", "failure"),
    [
        (
            {"model": "nobody"},
            Failure(
                FailureClass.INVALID,
                "The model 'nobody' does not exist.",
                status=404,
                type="invalid_request_error",
                code="model_not_found",
                param="model",
            ),
        ),
        (
            {"provider": "nobody"},
            Failure(
                FailureClass.INVALID,
                "Unknown provider 'nobody'. Valid: big, open, plain.",
                status=400,
                type="invalid_request_error",
                code="invalid_value",
                param="x-gateway-force-provider",
            ),
        ),
        (
            {"forced_model": "nobody"},
            Failure(
                FailureClass.INVALID,
                "Unknown model 'nobody'. Valid: large, small, any, text.",
                status=400,
                type="invalid_request_error",
                code="invalid_value",
                param="x-gateway-force-model",
            ),
        ),
        (
            {"model": "any", "provider": "big"},
            Failure(
                FailureClass.INVALID,
                "The model, the forced model and the forced provider have no target in common.",
                status=400,
                type="invalid_request_error",
                code="model_not_found",
                param="x-gateway-force-provider",
            ),
        ),
        (
            {"model": "any", "forced_model": "small"},
            Failure(
                FailureClass.INVALID,
                "The model, the forced model and the forced provider have no target in common.",
                status=400,
                type="invalid_request_error",
                code="model_not_found",
                param="x-gateway-force-model",
            ),
        ),
        (
            {"model": "mix", "needs": frozenset({"vision", "audio"})},
            Failure(
                FailureClass.INVALID,
                "No configured model supports what the request needs; lacking: audio, vision.",
                status=400,
                type="invalid_request_error",
                code="unsupported_capability",
            ),
        ),
        (
            {"provider": "big", "needs": frozenset({"vision"}), "prompt_tokens": 200_000},
            Failure(
                FailureClass.INVALID,
                "No configured model supports what the request needs; "
                "lacking: a large enough context window; vision.",
                status=400,
                type="invalid_request_error",
                code="unsupported_capability",
            ),
        ),
        (
            {"provider": "big", "prompt_tokens": 200_000},
            Failure(
                FailureClass.CONTEXT,
                "The request is longer than the context window of every model that could serve it.",
                status=400,
                type="invalid_request_error",
                code="context_length_exceeded",
                param="messages",
            ),
        ),
    ],
)
def test_refusals(demand: dict[str, object], failure: Failure) -> None:
    assert desk().refusal(**demand) == failure


def test_an_empty_catalog_is_no_fault_of_the_request() -> None:
    assert candidates(Desk().plan()) == []


def test_required_parameters_restrict_to_providers_that_take_them() -> None:
    made = Desk(provider("closed", format="mistral"), provider("open"))
    made.catalog = compile_catalog(made.settings, {}, {"mistral": Vocabulary(frozenset({"seed"}), False)})
    made.router.reconfigure(made.catalog, made.settings, made.now)
    seed, more = frozenset({"seed"}), frozenset({"seed", "logit_bias"})
    assert candidates(made.plan(parameters=more)) == ["closed/closed-model", "open/open-model"]
    assert candidates(made.plan(parameters=seed, require_params=True)) == [
        "closed/closed-model",
        "open/open-model",
    ]
    plan = made.plan(parameters=more, require_params=True)
    assert candidates(plan) == ["open/open-model"]
    assert [reason for _, reason in plan.removed] == ["lacks logit_bias"]


@pytest.mark.parametrize(
    ("effort", "order"),
    [
        ("auto", ["medium", "medium-reasoning", "low", "high"]),
        ("nonsense", ["medium", "medium-reasoning", "low", "high"]),
        ("none", ["low", "medium-reasoning", "medium", "high"]),
        ("minimal", ["low", "medium-reasoning", "medium", "high"]),
        ("low", ["low", "medium-reasoning", "medium", "high"]),
        ("medium", ["medium-reasoning", "medium", "high", "low"]),
        ("high", ["high", "medium-reasoning", "medium", "low"]),
        ("xhigh", ["high", "medium-reasoning", "medium", "low"]),
        ("max", ["high", "medium-reasoning", "medium", "low"]),
    ],
)
def test_effort_orders_a_providers_models_by_tier_and_reasoning(effort: str, order: list[str]) -> None:
    made = Desk(
        provider(
            "p",
            ModelSettings(id="medium", capabilities=("tools",)),
            ModelSettings(id="medium-reasoning", capabilities=("reasoning",)),
            ModelSettings(id="low", tier="low"),
            ModelSettings(id="high", tier="high"),
        )
    )
    assert candidates(made.plan(effort=effort)) == [f"p/{name}" for name in order]


def test_demands_of_one_kind_share_their_shape_and_no_plan() -> None:
    made = desk()
    one = made.plan(prompt_tokens=10)
    two = made.plan(prompt_tokens=1000, parameters=frozenset({"top_p"}))
    assert one.shape is two.shape
    assert one is not two
    assert made.plan(prompt_tokens=7000).shape is not one.shape
    assert made.plan(effort="low").shape is not one.shape


def test_clients_cannot_make_the_router_remember_without_bound() -> None:
    made = desk()
    first = made.plan().shape
    for number in range(Planner.MAX_SHAPES):
        made.refusal(model=f"made up {number}")
    assert made.plan().shape is first
    for number in range(Planner.MAX_SHAPES):
        made.plan(parameters=frozenset({f"made up {number}"}), require_params=True)
    assert made.plan().shape is not first


def test_what_a_format_or_a_provider_has_no_words_for_is_asked_of_others() -> None:
    made = Desk(
        provider("wordless", format="odd"),
        provider("lacking", quirks=Quirks(lacks=frozenset({"image_url"}))),
        provider("open", ModelSettings(id="open-model", capabilities=("vision", "n"))),
        provider(
            "small",
            ModelSettings(id="small-model", quirks=Quirks(lacks=frozenset({"image_url", "n", "files"}))),
        ),
    )
    made.catalog = compile_catalog(made.settings, {}, {"odd": Vocabulary(lacks=frozenset({"n", "files"}))})
    made.router.reconfigure(made.catalog, made.settings, made.now)
    everybody = ["lacking/lacking-model", "open/open-model", "small/small-model", "wordless/wordless-model"]
    assert sorted(candidates(made.plan())) == everybody
    by_address = made.plan(needs=frozenset({"vision", "image_url"}))
    assert sorted(candidates(by_address)) == ["open/open-model", "wordless/wordless-model"]
    assert [reason for _, reason in by_address.removed] == ["lacks image_url"] * 2
    assert sorted(candidates(made.plan(needs=frozenset({"n"})))) == everybody[:2]
    assert sorted(candidates(made.plan(needs=frozenset({"files"})))) == everybody[:2]


def test_required_parameters_by_a_providers_quirks() -> None:
    made = Desk(
        provider("drops", quirks=Quirks(drop=frozenset({"user"}))),
        provider(
            "renames", quirks=Quirks(rename={"seed": "random_seed"}, open=False, keep=frozenset({"extra"}))
        ),
    )
    made.catalog = compile_catalog(made.settings, {}, {"openai": Vocabulary(frozenset({"user", "top_p"}))})
    made.router.reconfigure(made.catalog, made.settings, made.now)

    def takers(*parameters: str) -> list[str]:
        plan = made.router.plan(Demand(parameters=frozenset(parameters), require_params=True))
        return [one.partition("/")[0] for one in candidates(plan)] if isinstance(plan, Plan) else []

    assert takers("top_p", "seed") == ["drops", "renames"]
    assert takers("user") == ["renames"]
    assert takers("unheard_of") == ["drops"]
    assert takers("extra") == ["drops", "renames"]
    assert takers("user", "unheard_of") == []

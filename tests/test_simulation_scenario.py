"""Scenario files: what they may say, and what is said of those that cannot be used."""

from collections.abc import Iterable
from pathlib import Path

import pytest

import gwproto
from gwproto import ConfigurationError
from gwproto.routing.catalog import Target
from gwproto.testing.simulation import GATEWAY, ROUND_ROBIN, read_policy, read_scenario
from gwproto.testing.simulation.scenario import Policy, Trouble, configuration_of

LIBRARY = sorted((Path(gwproto.__file__).parent / "data" / "scenarios").glob("*.toml"))

SMALL = """
name = "small"
[load]
requests = 10
rate = 2.0
[[providers]]
name = "alpha"
[[providers]]
name = "beta"
keys = 2
models = { chat = "medium", large = "high" }
requests_per_minute = 60
requests_per_day = 100
"""


def problems(text: str) -> Iterable[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        read_scenario(text.encode(), "a.toml")
    return caught.value.problems


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_is_valid(path: Path) -> None:
    scenario = read_scenario(path.read_bytes(), path.name)
    assert scenario.name == path.stem
    assert scenario.description
    assert 4 <= len(scenario.providers) <= 12
    assert 5 <= scenario.load.rate <= 50
    last = max((trouble.until for one in scenario.providers for trouble in one.troubles), default=0.0)
    assert last < scenario.length  # time is left to see the recovery


def test_the_gateway_is_told_what_is_declared() -> None:
    scenario = read_scenario(SMALL.encode(), "a.toml")
    assert scenario.length == 5.0

    def limits(targets: Iterable[Target]) -> list[tuple[str, str, int, int]]:
        return [
            (
                target.id,
                target.credential,
                target.provider.requests_per_minute,
                target.model.requests_per_day,
            )
            for target in targets
        ]

    assert limits(configuration_of(scenario, GATEWAY).catalog.targets) == [
        ("alpha/chat", "alpha#1", 0, 0),
        ("beta/chat", "beta#1", 60, 100),
        ("beta/chat#2", "beta#2", 60, 100),
        ("beta/large", "beta#1", 60, 100),
        ("beta/large#2", "beta#2", 60, 100),
    ]
    secret = read_scenario((SMALL + "declared = false\n").encode(), "a.toml")
    assert {limit[2:] for limit in limits(configuration_of(secret, GATEWAY).catalog.targets)} == {(0, 0)}


def test_settings_are_laid_one_upon_the_other() -> None:
    text = (
        SMALL + "[settings.retry]\nmax_attempts = 3\nbudget_floor = 5\n[settings.routing]\nmax_wait = 1.0\n"
    )
    scenario = read_scenario(text.encode(), "a.toml")
    policy = read_policy(b"[retry]\nmax_attempts = 2\n[health]\ncooldown = 9.0\n", "quick", "quick.toml")
    settings = configuration_of(scenario, policy).settings
    assert (settings.retry.max_attempts, settings.retry.budget_floor) == (2, 5)
    assert (settings.health.cooldown, settings.routing.max_wait) == (9.0, 1.0)
    plain = configuration_of(scenario, ROUND_ROBIN).settings
    assert (plain.retry.max_attempts, plain.retry.budget_ratio) == (3, 1.0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [("name", "is required"), ("load", "is required"), ("providers", "is required")]),
        ("name = ", [("a.toml", "not TOML: Invalid value (at end of document)")]),
        (
            SMALL + "lateny = 1.0\n",
            [("providers[1].lateny", "unknown key; the nearest known one is latency")],
        ),
        (SMALL + "latency = 0\n", [("providers[1].latency", "expected float > 0.0")]),
        (
            SMALL + "troubles = [{ start = 9, until = 4, dead = true }]\n",
            [("providers[1].troubles[0].until", "is not after the start")],
        ),
        (
            SMALL + "troubles = [{ start = 1 }]\n",
            [("providers[1].troubles[0].until", "is required")],
        ),
        (SMALL.partition("[[")[0].replace("[load]", "providers = []\n[load]"), [("providers", "is empty")]),
        (SMALL.replace("beta", "alpha"), [("providers[1].name", "'alpha' is used twice")]),
        (SMALL.replace("rate = 2.0", "rate = 0"), [("load.rate", "expected float > 0.0")]),
        (
            SMALL.replace("rate = 2.0", "rate = 2.0\nmodels = { gpt = 1 }"),
            [("load.models.gpt", "is no provider's model")],
        ),
        (SMALL.replace("rate = 2.0", "rate = 2.0\nefforts = {}"), [("load.efforts", "is empty")]),
        (SMALL + "[settings]\nauth = {}\n", [("settings.auth", "is the scenario's to say")]),
        (
            SMALL + "[settings.retry]\nmax_atempts = 3\n",
            [("settings.retry.max_atempts", "unknown key; the nearest known one is max_attempts")],
        ),
        (
            SMALL.replace('"small"', '"small"\nstarts_at = 12:00:00'),
            [("starts_at", "expected datetime, got time")],
        ),
    ],
)
def test_what_cannot_be_used_is_named(text: str, found: list[tuple[str, str]]) -> None:
    assert list(problems(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"[retry]\nmax_attempts = 0\n", ("retry.max_attempts", "expected int >= 1")),
        (b"[[providers]]\nname = 'x'\n", ("providers", "is the scenario's to say")),
        (b"\xff", ("p.toml", "not UTF-8")),
    ],
)
def test_a_policy_that_cannot_be_used(text: bytes, found: tuple[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_policy(text, "p", "p.toml")
    assert caught.value.problems == (found,)


def test_a_policy_of_ones_own_is_checked_with_the_scenario() -> None:
    scenario = read_scenario(SMALL.encode(), "a.toml")
    with pytest.raises(ConfigurationError) as caught:
        configuration_of(scenario, Policy(name="wrong", settings={"aliases": {"x": ["none"]}}))
    assert caught.value.problems == (("aliases.x", "there is no model 'none'"),)


def test_when_troubles_are_in_force() -> None:
    once = Trouble(start=10, until=20, dead=True)
    assert [once.at(instant) for instant in (9.9, 10, 19.9, 20)] == [False, True, True, False]
    flapping = Trouble(start=10, until=50, errors=1.0, period=5)
    assert [flapping.at(instant) for instant in (10, 14.9, 15, 19.9, 20, 49.9)] == [
        *(True, True, False, False, True, False)
    ]
    assert not Trouble(start=0, until=1, slow=3.0).fails

"""Rate limits in headers: every spelling, and what becomes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwproto.values import Limit
from gwproto.wire.limits import in_words, read_limits, reset_delay

WALL = 1_790_000_000.0  # 2026-09-21T14:13:20Z
GROQ = {"requests": "day", "tokens": "minute"}


@pytest.mark.parametrize(
    ("headers", "windows", "expected"),
    [
        pytest.param(
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14399",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-limit-tokens": "6000",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "7.66s",
            },
            GROQ,
            (Limit("requests", "day", 14400, 14399, 179.56), Limit("tokens", "minute", 6000, 0, 7.66)),
            id="Groq",
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-limit-requests": "9"},
            {},
            (Limit("tokens", "", None, 5), Limit("requests", "", 9)),
            id="OpenAI, Azure, xAI: some of them, and unknown windows",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests-minute": "30",
                "x-ratelimit-limit-tokens-hour": "1000000",
                "x-ratelimit-remaining-tokens-hour": "7",
                "x-ratelimit-limit-requests-day": "14400",
                "x-ratelimit-remaining-requests-day": "0",
                "x-ratelimit-reset-requests-day": "33011.382867",
            },
            GROQ,
            (
                Limit("requests", "minute", 30),
                Limit("tokens", "hour", 1000000, 7),
                Limit("requests", "day", 14400, 0, 33011.382867),
            ),
            id="Cerebras",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests": "20",
                "x-ratelimit-reset-requests": "1790000060",
                "x-ratelimit-limit-requests-day": "200",
            },
            {"requests": "minute"},
            (Limit("requests", "minute", 20, None, 60.0), Limit("requests", "day", 200)),
            id="SambaNova",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests": "15",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-renewalperiod-requests": "60",
                "x-ratelimit-timeremaining": "12",
                "x-ratelimit-type": "UserByModelByMinute",
                "x-ratelimit-limit-tokens": "150000",
            },
            {},
            (Limit("requests", "minute", 15, 0, 12.0), Limit("tokens", "", 150000)),
            id="GitHub",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-req-minute": "0",
                "x-ratelimit-remaining-req-minute": "0",
                "x-ratelimit-limit-tokens-minute": "500000",
                "x-ratelimit-remaining-tokens-minute": "499000",
                "x-ratelimit-tokens-query-cost": "12",
            },
            {},
            (Limit("requests", "minute", 0, 0), Limit("tokens", "minute", 500000, 499000)),
            id="Mistral",
        ),
        pytest.param(
            {
                "x-endpoint-monthly-call-limit": "1000",
                "x-trial-endpoint-call-limit": "20",
                "x-trial-endpoint-call-remaining": "19",
            },
            {},
            (Limit("requests", "month", 1000), Limit("requests", "minute", 20, 19)),
            id="Cohere",
        ),
        pytest.param(
            {
                "x-ratelimit-limit": "10",
                "x-ratelimit-remaining": "9",
                "x-ratelimit-reset": "1",
                "x-tokenlimit-limit": "30000",
                "x-tokenlimit-remaining": "29000",
            },
            {"requests": "second", "tokens": "second"},
            (Limit("requests", "second", 10, 9, 1.0), Limit("tokens", "second", 30000, 29000)),
            id="Together",
        ),
        pytest.param(
            {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000060000"},
            {},
            (Limit("requests", "", 50, 0, 60.0),),
            id="OpenRouter, inside its errors",
        ),
        pytest.param(
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:21Z",
                "anthropic-ratelimit-input-tokens-limit": "40000",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-09-21T14:13:19Z",
            },
            {"requests": "minute"},
            (
                Limit("requests", "minute", 50, 49, 1.0),
                Limit("input-tokens", "", 40000),
                Limit("output-tokens", "", None, 0, 0.0),
            ),
            id="Anthropic, one of them past",
        ),
        pytest.param(
            {"x-ratelimit-limit-minute": "5", "ratelimit-remaining": "3"},
            {},
            (Limit("requests", "minute", 5), Limit("requests", "", None, 3)),
            id="a window without a dimension",
        ),
        pytest.param(
            {"x-ratelimit-limit-requests": "many", "x-ratelimit-reset-requests": "soon", "retry-after": "5"},
            {},
            (),
            id="no numbers",
        ),
    ],
)
def test_spellings(headers: dict[str, str], windows: dict[str, str], expected: tuple[Limit, ...]) -> None:
    assert read_limits(headers, windows, WALL) == expected


def test_an_instant_needs_a_clock() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000060"}
    assert read_limits(headers, {}, 0.0) == (Limit("requests", "", None, 0),)


def test_the_longest_reset_of_those_spent() -> None:
    spent = Limit("requests", "day", 10, 0, 600.0)
    limits = (spent, Limit("tokens", "minute", 10, 0, 7.0), Limit("tokens", "day", 10, 1, 9000.0))
    assert reset_delay(limits) == 600.0
    assert reset_delay(limits[2:]) is None
    assert reset_delay((Limit("requests", remaining=0),)) is None


def test_in_words() -> None:
    limits = (Limit("requests", "minute", 0, 0), Limit("tokens", "", 5, 0), Limit("tokens", "day", 5, 5))
    assert in_words(limits) == "none requests minute; spent requests minute; spent tokens ;"
    assert in_words(()) == ""


NAMES = st.lists(
    st.sampled_from(
        (
            "x",
            "ratelimit",
            "anthropic",
            "limit",
            "remaining",
            "reset",
            "requests",
            "tokens",
            "req",
            "minute",
            "day",
        )
    ),
    max_size=6,
).map("-".join)


@given(st.dictionaries(NAMES, st.text("0123456789.msh:-TZ", max_size=12)), st.floats(0, 4e9))
def test_any_headers_are_read(headers: dict[str, str], wall: float) -> None:
    for limit in read_limits(headers, GROQ, wall):
        assert limit.dimension
        assert limit.window in ("", "minute", "day")
        assert (limit.limit, limit.remaining, limit.reset) != (None, None, None)
        assert limit.reset is None or limit.reset >= 0

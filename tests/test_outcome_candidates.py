"""Every record says why its target was chosen, and why each of the others was not."""

from gwproto import ClientGone, Exchange, Gateway
from support.conversation import (
    START,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    opened,
    provider,
    provider_of,
)


def three() -> Gateway:
    return gateway(provider("a"), provider("b"), provider("c", model={"capabilities": ()}))


def reasons(exchange: Exchange) -> dict[str, str]:
    assert exchange.outcome is not None
    return {one.target.partition("/")[0]: one.reason for one in exchange.outcome.candidates}


def ask(made: Gateway, *statuses: int) -> Exchange:
    """A request whose attempts are answered with these statuses."""
    exchange, commands = begin(made, body())
    for status in statuses:
        payload = completion() if status == 200 else b"{}"
        commands = feed(exchange, START, *answer(opened(commands).attempt, payload, status=status))
    return exchange


def test_the_one_that_served_has_no_reason_and_all_others_have_one() -> None:
    made = three()
    exchange = ask(made, 200)
    found = reasons(exchange)
    assert exchange.outcome is not None
    assert found.pop(exchange.outcome.provider) == ""
    assert set(found.values()) == {"others take this turn"}
    assert all(one.score is not None for one in exchange.outcome.candidates)


def test_those_that_failed_for_it_say_so() -> None:
    exchange = ask(three(), 500, 200)
    assert exchange.outcome is not None
    found = reasons(exchange)
    first, second = (attempt.provider for attempt in exchange.outcome.attempts)
    assert (found[first], found[second]) == ("tried: server", "")


def test_after_failures_only_nobody_is_chosen() -> None:
    exchange = ask(gateway(provider("a"), provider("b")), 401, 401)
    assert reasons(exchange) == {"a": "tried: auth", "b": "tried: auth"}


def test_one_that_failed_and_served_after_all_was_chosen() -> None:
    exchange, commands = begin(gateway(provider("a")), body())
    feed(exchange, START, *answer(opened(commands).attempt, b"{}", status=500))
    commands = exchange.tick(exchange.deadline)
    feed(exchange, START, *answer(opened(commands).attempt, completion()))
    assert reasons(exchange) == {"a": ""}


def test_one_that_never_got_to_answer_was_chosen() -> None:
    exchange, commands = begin(three(), body())
    name = provider_of(opened(commands))
    exchange.receive(ClientGone(), START)
    assert reasons(exchange)[name] == ""


def test_nobody_was_left() -> None:
    made = gateway(provider("a"))
    ask(made, 401)
    exchange = ask(made)
    assert exchange.finished
    assert "cooling down" in reasons(exchange)["a"] or "others" in reasons(exchange)["a"]


def test_what_was_never_understood_had_no_candidates() -> None:
    exchange, _ = begin(three(), b"{")
    assert reasons(exchange) == {}

"""Whether a stateful test comes to the states that its invariants are about."""

from collections import Counter
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def reach(
    machine: type[RuleBasedStateMachine],
    rare: Sequence[str],
    reached: Counter[str],
    record_property: Callable[[str, object], None],
    *,
    examples: int,
    steps: int,
) -> None:
    """Run ``machine``, which counts in ``reached``, with the same examples every time: no ``rare`` state is missing."""
    reached.clear()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    found = [state for state in rare if reached[state]]
    record_property("rare states", (len(found), len(rare)))  # conftest adds them up
    assert found == list(rare), {state: reached[state] for state in rare}

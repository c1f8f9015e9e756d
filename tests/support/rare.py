"""Whether a stateful test comes to the states that its invariants are about."""

from collections import Counter
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

#: Runs of a search, and searches: each begins somewhere else, always at the same places.
RUNS = 20
SEARCHES = 10


def reach(
    machine: type[RuleBasedStateMachine],
    rare: Sequence[str],
    reached: Counter[str],
    record_property: Callable[[str, object], None],
    *,
    steps: int,
) -> None:
    """Run ``machine``, which counts in ``reached``, until no ``rare`` state is missing."""
    reached.clear()
    for number in range(SEARCHES):
        run_state_machine_as_test(
            seed(number)(type(machine.__name__, (machine,), {})),
            settings=settings(
                max_examples=RUNS,
                stateful_step_count=steps,
                derandomize=False,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        if all(reached[state] for state in rare):
            break
    found = [state for state in rare if reached[state]]
    record_property("rare states", (len(found), len(rare)))  # conftest adds them up
    assert found == list(rare), {state: reached[state] for state in rare}

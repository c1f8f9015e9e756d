"""Which target served the last of some requests that belong together, so that its prompt cache keeps its worth."""

#: How many groups of requests are remembered; those not heard of for longest are forgotten.
MAX_GROUPS = 4096


class Affinity:
    """Target ids by what clients call their conversations."""

    __slots__ = ("_targets",)

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}

    def get(self, group: str) -> str:
        """The id of the target that served the last one; ``""``: unknown."""
        return self._targets.get(group, "")

    def put(self, group: str, target: str) -> None:
        targets = self._targets
        targets.pop(group, None)  # the newest is the last
        if len(targets) >= MAX_GROUPS:
            del targets[next(iter(targets))]
        targets[group] = target

"""Request fields that providers have refused: learned from their errors, and left out from then on.

No table of parameters is ever complete. An error that names a field which the client sent, and which changes
nothing about the meaning of the answer, is not final: the same request goes to the same target once more, without it.
"""

import re
from collections.abc import Container

from gwproto.failures import Failure, FailureClass

#: Without these the answer would be another one; and a limit on its length must not vanish.
VITAL = frozenset(
    (
        *("model", "messages", "stream", "stop", "max_tokens", "max_completion_tokens"),
        *("tools", "tool_choice", "functions", "function_call", "response_format"),
        *("n", "logprobs", "top_logprobs", "modalities", "audio"),
    )
)
#: Targets that are remembered, and fields for each of them.
MAX_TARGETS, MAX_FIELDS = 1024, 32

_REFUSED = re.compile(
    r"un(?:known|recogni[sz]ed|supported|expected)|not (?:supported|permitted|allowed)|forbidden|cannot find field"
    r"|does(?: not|n't) support",
    re.IGNORECASE,
)
_NAME = re.compile(r"""['"`]([a-z][a-zA-Z0-9_]*)['"`]|supplied: ([a-z][a-z0-9_]*)""")
# Effort is asked for by fields with other names, which not every model has.
_EFFORT = re.compile(
    r"support (?:the |adaptive |extended )?(?:thinking|reasoning|effort)\b"
    r"|\b(?:thinking|reasoning|effort)(?: \w+)? (?:is|are) not (?:supported|permitted|allowed)",
    re.IGNORECASE,
)
_EFFORT_FIELDS = ("think", "reasoning", "output_config", "chat_template_kwargs")
_THOUGHTS = "reasoning_content"  # of a message: what was thought, not how hard

Target = tuple[str, str]  # provider, and its name for the model


class Refusals:
    """What every target has refused so far."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[Target, frozenset[str]] = {}

    def of(self, target: Target) -> frozenset[str]:
        """The fields to leave out."""
        return self._fields.get(target, frozenset())

    def learn(self, target: Target, sent: Container[str], failure: Failure) -> bool:
        """Was ``failure`` about a field in ``sent`` that can be left out? Then it will be."""
        known = self.of(target)
        field = _named(failure)
        if field is None or field not in sent or field in VITAL or field in known or len(known) >= MAX_FIELDS:
            return False
        if len(self._fields) >= MAX_TARGETS:
            del self._fields[next(iter(self._fields))]
        self._fields[target] = known | {field}
        return True


def _named(failure: Failure) -> str | None:
    """The field that an error complains of."""
    if failure.kind is not FailureClass.INVALID:
        return None
    said = f"{failure.code} {failure.type} {failure.message}"
    if _REFUSED.search(said) is None:
        return None
    quoted = _NAME.search(failure.message)
    name = failure.param.partition(".")[0] if failure.param else quoted and (quoted[1] or quoted[2])
    if name == _THOUGHTS:
        return name
    if (name or "").startswith(_EFFORT_FIELDS) or _EFFORT.search(failure.message):
        return "reasoning_effort"
    return name

"""OpenAI's older form of tool calls: one ``function_call`` to a message (OpenAI: chat completions, ``functions``)."""

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from gwproto.wire.neutral import Completion, CompletionChoice, RawFields, ToolFragment


class _FunctionCall(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


_function_call = msgspec.json.Decoder(_FunctionCall)
_encode = msgspec.json.Encoder().encode


def function_call(raw: Raw) -> ToolFragment:
    """The legacy ``function_call`` as a tool call's fragment."""
    try:
        call = _function_call.decode(raw)
    except msgspec.ValidationError:
        return ToolFragment()
    return ToolFragment(name=call.name, arguments=call.arguments or "")


def legacy_call(call: ToolFragment) -> RawFields:
    """A tool call, or a piece of one, as the legacy ``function_call``."""
    name = {} if call.name is None else {"name": call.name}
    return {"function_call": Raw(_encode({**name, "arguments": call.arguments}))}


def with_legacy_calls(completion: Completion) -> Completion:
    """A whole answer whose tool calls are the legacy form's one."""
    if not any(choice.tools for choice in completion.choices):
        return completion
    return replace(completion, choices=tuple(map(_legacy, completion.choices)), verbatim=False)


def _legacy(choice: CompletionChoice) -> CompletionChoice:
    if not choice.tools:
        return choice
    finish = "function_call" if choice.finish == "tool_calls" else choice.finish
    return replace(choice, tools=(), finish=finish, extra=choice.extra | legacy_call(choice.tools[0]))

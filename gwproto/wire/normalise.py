"""What a client may rely on in a stream, made true of any provider's.

Role once per choice and first; choices opened in order; tool calls numbered from 0 with id and name once; one finish
per choice, in OpenAI's words, after everything else; usage last, and only for those who asked. What already obeys
passes through as the same object, so that its bytes can be forwarded.

A finish is held until the end. Some providers send one too early, and text after it must not be lost;
since only usage and the end marker follow a true one, holding it delays nothing that anyone waits for.
"""

import hashlib

from msgspec import Raw
from msgspec.structs import replace

from gwproto.failures import Failure, FailureClass
from gwproto.values import Usage
from gwproto.wire.legacy import function_call, legacy_call
from gwproto.wire.neutral import Chunk, Delta, RawFields, ToolFragment

_MAX_CHOICES = 128  # OpenAI's limit on n
_CONTENT_EXTRAS = frozenset(("audio", "function_call", "images", "reasoning_details"))

_STOP = frozenset(
    (
        "stop",
        "eos",
        "end_turn",
        "complete",
        "stop_sequence",
        "pause_turn",
        "done",
        "finish_reason_unspecified",
    )
)
_FINISHES: dict[str, str] = {
    **dict.fromkeys(_STOP, "stop"),
    **dict.fromkeys(
        (
            "length",
            "max_tokens",
            "model_length",
            "continuation",
            "model_context_window_exceeded",
            "max_output_tokens",
        ),
        "length",
    ),
    **dict.fromkeys(("tool_calls", "tool_use", "tool_call"), "tool_calls"),
    "function_call": "function_call",
    **dict.fromkeys(
        (
            "content_filter",
            "content_filtered",
            "error_toxic",
            "safety",
            "recitation",
            "blocklist",
            "prohibited_content",
            "spii",
            "language",
            "image_safety",
            "image_prohibited_content",
            "image_recitation",
            "jailbreak",
            "model_armor",
            "guardrail_intervened",
            "refusal",
            "sensitive",
        ),
        "content_filter",
    ),
}
_FAILED_FINISHES: dict[str, FailureClass] = {
    **dict.fromkeys(
        (
            *("error", "network_error", "malformed_model_output", "malformed_response", "other"),
            *("image_other", "no_image"),
        ),
        FailureClass.SERVER,
    ),
    "timeout": FailureClass.TIMEOUT,
    **dict.fromkeys(("insufficient_system_resource", "load", "unload"), FailureClass.OVERLOADED),
    **dict.fromkeys(
        (
            "malformed_tool_use",
            "malformed_function_call",
            "unexpected_tool_call",
            "too_many_tool_calls",
            "missing_thought_signature",
        ),
        FailureClass.TOOL_GENERATION,
    ),
}


def failed_finish(finish: str) -> Failure | None:
    """The failure that a provider's finish reason admits to, if it does."""
    kind = _FAILED_FINISHES.get(finish.lower())
    if kind is None:
        return None
    return Failure(kind, f"The provider stopped with finish reason '{finish}'.", code="bad_upstream_response")


def map_finish(finish: str, *, calls: bool, function_call: bool = False) -> str:
    """OpenAI's word for a provider's finish reason; an unknown one is ``stop``.

    ``calls``: tool calls were made, so a ``stop`` is a lie. ``function_call``: the client speaks the legacy form.
    """
    mapped = _FINISHES.get(finish.lower(), "stop")
    if mapped in ("function_call", "tool_calls") or (mapped == "stop" and (calls or function_call)):
        return "function_call" if function_call else "tool_calls"
    return mapped


def call_id(*seed: object) -> str:
    """A tool call id for a provider that sends none: the same for the same stream, like everything here."""
    text = "\0".join(map(str, seed))
    return "call_" + hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


class _Call:
    __slots__ = ("arguments", "index", "name")

    def __init__(self, index: int, name: str | None) -> None:
        self.index = index
        self.name = name
        self.arguments = False  # any seen


class _Choice:
    __slots__ = ("by_id", "by_index", "calls", "finish", "finish_extra", "legacy_call")

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.by_id: dict[str, _Call] = {}
        self.by_index: dict[int, _Call] = {}
        self.finish: str | None = None
        self.finish_extra: RawFields = {}
        self.legacy_call = False


class Normaliser:
    """One stream's chunks in, a client's chunks out.

    After every call look at ``failure``: an error in the stream, or a finish that admits to one. Whether a stream that
    simply stopped is complete is the caller's verdict: it is when ``done`` (the format's end marker was seen) or
    ``finished`` (every choice has its finish), otherwise it was cut off.
    """

    def __init__(self, *, include_usage: bool, legacy_functions: bool = False, seed: str = "") -> None:
        """``include_usage``: the client asked for the usage chunk.

        ``legacy_functions``: the client speaks ``function_call`` and gets it for tool calls; others get a tool call for
        it. ``seed``: what ids are made from, where neither a call nor its answer has one.
        """
        self._seed = seed
        self._include_usage = include_usage
        self._legacy = legacy_functions
        self._choices: list[_Choice] = []
        self._last = Chunk()
        self._raw_usage: Raw | None = None
        self.content = False  # text, refusal, reasoning, a tool call, audio or a finish was seen
        self.done = False
        self.usage: Usage | None = None
        self.failure: Failure | None = None

    @property
    def finished(self) -> bool:
        """Has every choice that was opened its finish?"""
        return bool(self._choices) and all(choice.finish is not None for choice in self._choices)

    def receive(self, chunk: Chunk) -> list[Chunk]:
        """What the client gets of ``chunk``, at once: the very object if nothing had to change, or nothing at all."""
        failed = self.failure
        if self.done or failed is not None:
            return []
        if chunk.failure is not None:
            self.failure = chunk.failure
            return []
        deltas = chunk.deltas
        # That the gateway asked for usage must not show in any other chunk.
        verbatim = chunk.verbatim and (self._include_usage or not chunk.null_usage)
        if verbatim and len(deltas) == 1:
            # The hot path: one more piece of text for a choice that is open.
            delta = deltas[0]
            if (
                delta.content
                and not delta.role
                and delta.finish is None
                and not delta.tools
                and delta.choice < len(self._choices)
                and not delta.extra
            ):
                self.content = True
                return [chunk]
        self.done = chunk.done
        if chunk.usage is not None:
            # Cumulative where it comes more than once: the last counts.
            self.usage = chunk.usage
            self._raw_usage = chunk.raw_usage
        if not deltas:
            return []
        self._last = chunk
        out: list[Delta] = []
        for delta in deltas:
            self._delta(delta, chunk, out)
            if self.failure is not None:
                return []
        if not out:
            return []
        # Identity, not equality: only what was left alone may keep its bytes.
        if verbatim and len(out) == len(deltas) and all(map(_same, out, deltas)):
            return [chunk]
        return [Chunk(tuple(out), chunk.id, chunk.created, chunk.model, extra=chunk.extra)]

    def end(self, complete: bool) -> list[Chunk]:
        """What is left at the end: finishes, then usage if the client asked.

        ``complete``: choices without a finish get one.
        """
        last = self._last
        out: list[Chunk] = []
        for index, choice in enumerate(self._choices):
            finish = choice.finish
            if finish is None and not complete:
                continue
            silent = [call for call in choice.calls if not call.arguments]
            if silent:
                # A call without arguments: clients parse them as JSON.
                fragments = tuple(ToolFragment(call.index, arguments="{}") for call in silent)
                tools, extra = self._worded(choice, fragments, {})
                if tools or extra:
                    out.append(_bare(last, (Delta(index, tools=tools, extra=extra),)))
            mapped = map_finish(finish or "stop", calls=bool(choice.calls), function_call=choice.legacy_call)
            out.append(_bare(last, (Delta(index, finish=mapped, choice_extra=choice.finish_extra),)))
        if self._include_usage and self.usage is not None:
            out.append(replace(_bare(last, ()), usage=self.usage, raw_usage=self._raw_usage))
        return out

    def _delta(self, delta: Delta, chunk: Chunk, out: list[Delta]) -> None:
        index = delta.choice
        if not 0 <= index < _MAX_CHOICES:
            self.failure = Failure(
                FailureClass.SERVER, "The provider's stream is malformed.", code="bad_upstream_response"
            )
            return
        finish = delta.finish
        if finish is not None:
            self.failure = failed_finish(finish)
            if self.failure is not None:
                return
        is_new = index >= len(self._choices)
        while len(self._choices) < index:
            # Clients read choices[i] by position: the lower ones must exist first.
            out.append(Delta(len(self._choices), role=True))
            self._choices.append(_Choice())
        if is_new:
            self._choices.append(_Choice())
        choice = self._choices[index]
        tools, extra = delta.tools, delta.extra
        if "function_call" in extra:
            if self._legacy:
                choice.legacy_call = True
            else:
                extra = {name: value for name, value in extra.items() if name != "function_call"}
                tools = (*tools, function_call(delta.extra["function_call"]))
        if tools:
            tools, extra = self._worded(choice, self._tools(choice, index, tools, chunk), extra)
        choice_extra = delta.choice_extra
        if finish is not None:
            # The first word counts; a later one may only say what the first did not.
            choice.finish = finish if choice.finish in (None, "stop") else choice.finish
            choice.finish_extra = choice_extra
            choice_extra = {}
        bears = bool(delta.content or delta.reasoning or delta.refusal or tools)
        bears = bears or not _CONTENT_EXTRAS.isdisjoint(extra)
        if bears or finish is not None:
            self.content = True
        if not (bears or is_new or extra or choice_extra):
            return
        if finish is None and delta.role == is_new and tools == delta.tools and extra is delta.extra:
            out.append(delta)
            return
        out.append(
            Delta(
                index,
                is_new,
                delta.content or None,
                delta.reasoning or None,
                delta.refusal or None,
                tools,
                None,
                extra,
                choice_extra,
            )
        )

    def _worded(
        self, choice: _Choice, calls: tuple[ToolFragment, ...], extra: RawFields
    ) -> tuple[tuple[ToolFragment, ...], RawFields]:
        """Tool calls and what else a delta has; the legacy form knows but one call."""
        if not self._legacy:
            return calls, extra
        choice.legacy_call = True
        for call in calls:
            if call.index == 0:
                extra = extra | legacy_call(call)
        return (), extra

    def _tools(
        self, choice: _Choice, index: int, fragments: tuple[ToolFragment, ...], chunk: Chunk
    ) -> tuple[ToolFragment, ...]:
        out: list[ToolFragment] = []
        named: set[int] = set()
        for position, fragment in enumerate(fragments):
            call = _find_call(choice, fragment, position, len(fragments))
            if fragment.name and not fragment.id and call is not None and call.index in named:
                call = None  # whatever its index: nobody names one call twice in a chunk
            first = call is None
            if call is None:
                call = _Call(len(choice.calls), fragment.name)
                choice.calls.append(call)
            id_ = fragment.id
            if fragment.name:
                named.add(call.index)
            if id_:
                choice.by_id[id_] = call
            if fragment.index is not None:
                choice.by_index[fragment.index] = call
            if fragment.arguments or "custom" in fragment.extra:
                call.arguments = True
            if first:
                id_ = id_ or call_id(chunk.id or self._seed, chunk.created, index, call.index, fragment.name)
                out.append(
                    ToolFragment(call.index, id_, fragment.name or "", fragment.arguments, fragment.extra)
                )
            elif fragment.arguments or fragment.extra:
                out.append(ToolFragment(call.index, None, None, fragment.arguments, fragment.extra))
        return tuple(out)


def _find_call(choice: _Choice, fragment: ToolFragment, position: int, count: int) -> _Call | None:
    """The open call that a fragment continues; None when it begins a new one.

    Ids are more reliable than indices: several providers number every call 0, some not at all.
    """
    id_, index, name = fragment.id, fragment.index, fragment.name
    if id_ and id_ in choice.by_id:
        return choice.by_id[id_]
    if index is not None and index in choice.by_index:
        known = choice.by_index[index]
        if id_ and name:
            return None
        if name and name != known.name and known.arguments:
            return None
        return known
    if name or id_ or not choice.calls:
        return None
    if index is None and count > 1 and position < len(choice.calls):
        return choice.calls[position]
    return choice.calls[-1]


def _same(one: object, other: object) -> bool:
    return one is other


def _bare(chunk: Chunk, deltas: tuple[Delta, ...]) -> Chunk:
    return Chunk(deltas, chunk.id, chunk.created, chunk.model)

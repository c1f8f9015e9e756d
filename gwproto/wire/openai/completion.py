"""Whole answers: a provider's body in, a client's body out."""

import msgspec
from msgspec import UNSET, Raw

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.sse.decoder import repaired
from gwproto.wire.neutral import (
    UNREAD,
    Completion,
    CompletionChoice,
    Envelope,
    RawFields,
    Reading,
    ToolFragment,
)
from gwproto.wire.normalise import call_id, failed_finish, map_finish
from gwproto.wire.openai.completion_schema import PlainCompletion
from gwproto.wire.openai.errors import clean, in_band_failure
from gwproto.wire.openai.parts import (
    NULL,
    answer_fields,
    choice_index,
    created_of,
    encoder,
    fields_of,
    first_of,
    list_of,
    reasoning_of,
    split_content,
    text_of,
    tool_fragment,
)
from gwproto.wire.openai.usage import decode_usage
from gwproto.wire.strict import MAX_DEPTH, few, repair, too_deep

_OBJECT = "chat.completion"


_plain_decoder = msgspec.json.Decoder(PlainCompletion)


def _bad(message: str) -> Failure:
    return Failure(FailureClass.SERVER, message, code="bad_upstream_response")


def decode_completion(body: bytes, reading: Reading = UNREAD) -> Completion | Failure:
    """A 200's body, normalised, or why it is no answer: an error in it, nothing in it, or not JSON at all."""
    # msgspec notices invalid UTF-8 only in the strings it looks at.
    valid = body if body.isascii() else repaired(body)
    try:
        if valid is body:
            plain = _plain_decoder.decode(body)
            if few(body) or _shallow(plain) or not too_deep(body):
                return _decode_plain(plain)
    except (msgspec.DecodeError, RecursionError):
        pass
    if too_deep(body):
        return _bad("The provider's answer is cut short or nested too deeply.")
    try:
        return _decode_odd(valid, reading)
    except WireError as error:
        return _bad(f"The provider's answer cannot be read: {error}.")


def _shallow(plain: PlainCompletion) -> bool:
    """Is what was not looked into too short to be nested deeply?"""
    unseen = [plain.usage, plain.system_fingerprint, plain.service_tier]
    for choice in plain.choices:
        unseen += (choice.logprobs, choice.message.annotations, choice.message.audio)
    return max([len(memoryview(one)) for one in unseen]) < MAX_DEPTH


def _decode_plain(plain: PlainCompletion) -> Completion:
    usage = raw_usage = None
    verbatim = True
    if plain.usage != NULL:
        usage, raw_usage = decode_usage(plain.usage)
        verbatim = raw_usage is not None
    choices: list[CompletionChoice] = []
    for choice in plain.choices:
        message = choice.message
        finish: str = choice.finish_reason
        tools: tuple[ToolFragment, ...] = ()
        if message.tool_calls is not UNSET:
            tools = tuple(
                ToolFragment(number, call.id, call.function.name, call.function.arguments)
                for number, call in enumerate(message.tool_calls)
            )
            if finish == "stop":
                finish = "tool_calls"
                verbatim = False
        extra: RawFields = {}
        if message.annotations is not NULL and message.annotations != NULL:
            extra["annotations"] = message.annotations
        if message.audio is not NULL and message.audio != NULL:
            extra["audio"] = message.audio
        choices.append(
            CompletionChoice(
                choice.index,
                message.content,
                message.reasoning_content,
                message.refusal,
                tools,
                finish,
                extra,
                {} if choice.logprobs is NULL or choice.logprobs == NULL else {"logprobs": choice.logprobs},
            )
        )
    more: RawFields = {}
    if plain.system_fingerprint is not NULL and plain.system_fingerprint != NULL:
        more["system_fingerprint"] = plain.system_fingerprint
    if plain.service_tier is not NULL and plain.service_tier != NULL:
        more["service_tier"] = plain.service_tier
    return Completion(tuple(choices), plain.id, plain.created, plain.model, usage, raw_usage, more, verbatim)


def _decode_odd(body: bytes, reading: Reading) -> Completion | Failure:
    text = body.strip()
    if not text.startswith((b"{", b"[")):
        if not text:
            return Failure(
                FailureClass.EMPTY, "The provider's answer was empty.", code="bad_upstream_response"
            )
        return _bad(f"The provider's answer is not JSON: {clean(body[:2000].decode(errors='replace'))}"[:300])
    try:
        fields = fields_of(first_of(Raw(text)))
    except msgspec.DecodeError:
        fields = fields_of(first_of(Raw(repair(text))))
    failure = in_band_failure(fields, reading)
    if failure is not None:
        return failure
    id_ = text_of(fields.pop("id", None)) or ""
    created = created_of(fields.pop("created", None))
    model = text_of(fields.pop("model", None)) or ""
    for name in ("object", "error"):
        fields.pop(name, None)
    usage, raw_usage = decode_usage(fields.pop("usage", NULL))
    if usage is None and "x_groq" in fields:
        usage, _ = decode_usage(fields_of(fields["x_groq"]).get("usage", NULL))
    choices: list[CompletionChoice] = []
    for position, raw in enumerate(list_of(fields.pop("choices", None))):
        choice = _odd_choice(fields_of(raw), position, id_ or reading.seed, created)
        if isinstance(choice, Failure):
            return choice
        choices.append(choice)
    if not choices:
        return Failure(
            FailureClass.EMPTY, "The provider's answer has no choices.", code="bad_upstream_response"
        )
    return Completion(tuple(choices), id_, created, model, usage, raw_usage, fields)


def _odd_choice(choice: RawFields, position: int, id_: str, created: int) -> CompletionChoice | Failure:
    index = choice_index(choice.pop("index", None), position)
    finish = text_of(choice.pop("finish_reason", None))
    message = fields_of(choice.pop("message", None))
    message.pop("role", None)
    content, reasoning = split_content(message.pop("content", None))
    reasoning = reasoning_of(message) or reasoning
    refusal = text_of(message.pop("refusal", None)) or None
    tools: list[ToolFragment] = []
    for raw in list_of(message.pop("tool_calls", None)):
        tools.append(_whole(tool_fragment(raw), len(tools), id_, created, index))
    legacy = "function_call" in message
    if finish:
        failure = failed_finish(finish)
        if failure is not None:
            return failure
    elif not (content or reasoning or refusal or tools or message):
        return Failure(
            FailureClass.EMPTY,
            "The provider's answer has neither content nor a finish reason.",
            code="bad_upstream_response",
        )
    mapped = map_finish(finish or "stop", calls=bool(tools), function_call=legacy)
    return CompletionChoice(index, content, reasoning, refusal, tuple(tools), mapped, message, choice)


def _whole(call: ToolFragment, number: int, id_: str, created: int, index: int) -> ToolFragment:
    # Mistral's SDK writes a missing id as the word.
    sent = call.id if call.id and call.id != "null" else call_id(id_, created, index, number, call.name)
    return ToolFragment(number, sent, call.name or "", call.arguments or "{}", call.extra)


def encode_completion(completion: Completion, envelope: Envelope) -> bytes:
    """The whole body. Keys that are unknown to us go out as they came, after ours."""
    choices = [_encoded_choice(choice) for choice in completion.choices]
    return encoder.encode(answer_fields(_OBJECT, envelope, choices, completion))


def _encoded_choice(choice: CompletionChoice) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": choice.content, "refusal": choice.refusal}
    if choice.reasoning is not None:
        message["reasoning_content"] = choice.reasoning
    if choice.tools:
        message["tool_calls"] = [_encoded_call(call) for call in choice.tools]
    message.update(choice.extra)
    return {
        "index": choice.index,
        "message": message,
        "logprobs": None,
        "finish_reason": choice.finish,
        **choice.choice_extra,
    }


def _encoded_call(call: ToolFragment) -> dict[str, object]:
    if "custom" in call.extra:
        return {"id": call.id, **call.extra}
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
        **call.extra,
    }

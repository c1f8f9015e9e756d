"""Answers as Ollama gives them (Ollama: API, generate a chat completion, streaming).

Every line is an object with a piece of the message; the last one is ``done`` and has the counts. A whole answer is such
a last line with all of the message.
"""

import msgspec
from msgspec import Raw, Struct

from gwproto.failures import Failure, FailureClass, WireError
from gwproto.values import Usage
from gwproto.wire.dialect import ChunkDecoder
from gwproto.wire.native import count_of, failure_in, members
from gwproto.wire.neutral import Chunk, Completion, Delta, RawFields, Reading, ToolFragment
from gwproto.wire.normalise import call_id
from gwproto.wire.openai import completion as openai
from gwproto.wire.openai.parts import fields_of, list_of, text_of, tool_fragment, value_of
from gwproto.wire.whole import completed

_encode = msgspec.json.Encoder().encode


class _Text(Struct, gc=False, forbid_unknown_fields=True):
    role: str = ""
    content: str = ""
    thinking: str = ""


class _Line(Struct, gc=False, forbid_unknown_fields=True):
    """Nearly every line."""

    message: _Text
    model: str = ""
    created_at: str = ""
    done: bool = False
    remote_model: str = ""  # of a model that runs in Ollama's cloud
    remote_host: str = ""


class _Likely(Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(_Likely, gc=False):
    top_logprobs: list[_Likely] = []


_line = msgspec.json.Decoder(_Line).decode
_tokens = msgspec.json.Decoder(list[_Token]).decode


def stream_decoder(reading: Reading) -> ChunkDecoder:
    """One stream's decoder: it numbers the calls that have no id."""
    return _StreamDecoder(reading)


class _StreamDecoder:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._calls = 0

    def __call__(self, data: bytes) -> Chunk:
        """What one line says. Raises :class:`WireError` for anything but a JSON object."""
        try:
            line = _line(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._odd(data)
        if line.done:
            return self._odd(data)
        message = line.message
        delta = Delta(0, False, message.content or None, message.thinking or None)
        return Chunk((delta,), "", 0, line.model)

    def _odd(self, data: bytes) -> Chunk:
        """A line with calls, logprobs, an error or the end."""
        if not data.strip():
            return Chunk()
        fields = members(data)
        failure = failure_in(fields, self._reading)
        if failure is not None:
            return Chunk(failure=failure)
        message = fields_of(fields.get("message"))
        done = value_of(fields.get("done")) is True
        created = text_of(fields.get("created_at"))
        delta = Delta(
            content=text_of(message.get("content")) or None,
            reasoning=text_of(message.get("thinking")) or None,
            tools=tuple([self._call(one, created) for one in _called(message)]),
            finish=(text_of(fields.get("done_reason")) or None) if done else None,
            choice_extra=_logprobs(fields),
        )
        model = text_of(fields.get("model")) or ""
        return Chunk((delta,), model=model, usage=_usage(fields) if done else None, done=done)

    def _call(self, call: ToolFragment, created: str | None) -> ToolFragment:
        """A whole call. Only newer versions give it an id; the line's time tells one answer's calls from another's."""
        self._calls += 1
        id_ = call.id or call_id(created, self._calls, call.name)
        return ToolFragment(None, id_, call.name, call.arguments or "{}")


def _called(message: RawFields) -> list[ToolFragment]:
    calls = map(tool_fragment, list_of(message.get("tool_calls")))
    return [call for call in calls if call.name]


def _usage(fields: RawFields) -> Usage | None:
    """The counts; that of a prompt found in the cache may be missing."""
    prompt = count_of(fields, "prompt_eval_count") or 0
    completion = count_of(fields, "eval_count") or 0
    return Usage(prompt, completion, prompt + completion) if prompt or completion else None


def _logprobs(fields: RawFields) -> RawFields:
    """OpenAI's spelling has all keys always."""
    try:
        tokens = _tokens(fields["logprobs"])
    except (KeyError, msgspec.ValidationError):
        return {}
    return {"logprobs": Raw(_encode({"content": tokens, "refusal": None}))}


def decode_completion(body: bytes, reading: Reading) -> Completion | Failure:
    """A 200's body, normalised, or why it is no answer. The lines of a stream are one too."""
    try:
        chunks = _chunks(body, stream_decoder(reading))
    except WireError:
        return openai.decode_completion(body, reading)  # which says what is wrong with it
    answer = completed(chunks, reading.seed)
    if isinstance(answer, Completion) and not any(chunk.done for chunk in chunks):
        return Failure(FailureClass.TRUNCATED, "The provider's answer was cut off.")
    return answer


def _chunks(body: bytes, decode: ChunkDecoder) -> list[Chunk]:
    try:
        return [decode(body)]
    except WireError:
        return [decode(line) for line in body.split(b"\n")]

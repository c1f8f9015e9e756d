"""Simulated providers: real wire format, useful answers, faults on demand. No I/O, no clock.

:meth:`SimulatedProvider.respond` gives the whole timeline of an answer at once; a host plays it, over sockets or in a
simulator. The same seed and the same requests give the same bytes.
"""

import math
import random
from collections import deque
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gwproto.testing.answers import Ask, answers
from gwproto.testing.formats import FORMATS
from gwproto.testing.formats.format import JSON, BadRequest, Stamp
from gwproto.testing.steps import Action, Data, End, Head, Reset, Stall, Step
from gwproto.values import Headers

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Garbage = Literal["", "html", "empty", "not_json", "truncated_json", "invalid_utf8", "binary"]

_JSON = (b"content-type", JSON)
_HTML = b"<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"
_WINDOW = 60.0  # seconds a request counts against requests_per_minute


class Knobs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a simulated provider behaves. Without any of the faults every answer is good.

    "After n" counts content chunks of a stream; an answer that is not streamed has one.
    """

    latency: Seconds = 0.0  # to the first byte
    latency_spread: Annotated[float, Meta(ge=0, le=2)] = 0.0  # sigma of a log-normal factor on latency
    pace: Seconds = 0.0  # between content chunks
    words: Count = 0  # length of a text; 0: as long as the answer happens to be
    chunk_words: Annotated[int, Meta(ge=1)] = 1  # words to a chunk
    failure_rate: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of the answers that show the faults below; None: all. Given without a fault it means status 500."""
    status: Annotated[int, Meta(ge=0, le=599)] = 0  # an error answer of this status; 0: none
    retry_after: Seconds | None = None  # beside a failing status
    reset_after: Count | None = None  # 0: before the head
    stall_after: Count | None = None  # 0: before the head
    garbage: Garbage = ""  # a 200 that is no answer
    first_event_error: bool = False  # a stream whose first event is an error
    no_done: bool = False
    no_finish: bool = False
    requests_per_minute: Count = 0  # over it 429; 0: unlimited
    api_key: str = ""  # "": any key, or none, will do


class SimulatedProvider:
    """One provider. ``rng`` decides which answers fail, and nothing else does."""

    def __init__(
        self,
        name: str,
        *,
        models: Iterable[str],
        rng: random.Random,
        knobs: Knobs | None = None,
        format: str = "openai",
    ) -> None:
        """``format``: one of the names in ``FORMATS``."""
        self.name = name
        self.format = FORMATS[format]
        self.models = tuple(models)
        self.knobs = knobs or Knobs()
        self.served = 0  # requests answered, well or badly
        self._rng = rng
        self._recent: deque[float] = deque()

    def adjust(self, changes: bytes) -> None:
        """Change some of the knobs by a JSON object. Raises ``msgspec.ValidationError`` and changes nothing."""
        wanted = msgspec.json.decode(changes, type=dict[str, object])
        self.knobs = msgspec.convert({**msgspec.structs.asdict(self.knobs), **wanted}, Knobs)

    def respond(self, method: str, target: str, headers: Headers, body: bytes, now: float) -> list[Step]:
        """What happens on the connection after this request. ``now`` is wall time in seconds."""
        self.served += 1
        knobs = self.knobs
        path = target.partition("?")[0].rstrip("/")
        if knobs.api_key and self.format.key(headers, target) != knobs.api_key:
            return self._error(401)
        wanted = self.format.find(method, target)
        if wanted == "models":
            return self._reply(200, (_JSON,), self.format.models(self.models, int(now), self.name))
        if wanted == "wrong_method":
            return self._error(405, f"Not allowed to {method} on {path}.")
        if not wanted:
            return self._error(404, f"Invalid URL ({method} {path})")
        remaining = self._remaining(now)
        if remaining is not None and remaining < 0:
            wait = self._recent[0] + _WINDOW - now
            return self._error(
                429, headers=(*self._limits(0, wait), (b"retry-after", b"%d" % math.ceil(wait)))
            )
        faulty = knobs.failure_rate is None or self._rng.random() < knobs.failure_rate
        if faulty and (status := _status(knobs)):
            retry = knobs.retry_after
            hint = ((b"retry-after", b"%g" % retry),) if retry is not None else ()
            return self._error(status, headers=hint)
        if faulty and knobs.reset_after == 0:
            return [Step(self._latency(), Reset())]
        if faulty and knobs.stall_after == 0:
            return [Step(self._latency(), Stall())]
        if faulty and knobs.garbage:
            return self._garbage(knobs.garbage)
        try:
            self.format.check(headers)
            ask = self.format.decode(body, target)
        except BadRequest as problem:
            return self._error(problem.status, problem.message, problem.param, problem.code)
        if ask.model not in self.models:
            return self._error(
                404,
                f"The model `{ask.model}` does not exist or you do not have access to it.",
                None,
                "model_not_found",
            )
        return self._answer(ask, now, remaining, knobs if faulty else _without_faults(knobs))

    def _answer(self, ask: Ask, now: float, remaining: int | None, knobs: Knobs) -> list[Step]:
        choices = answers(ask, self.name, knobs.words)
        stamp = Stamp(f"{self.format.id_prefix}{self._rng.getrandbits(96):024x}", int(now), ask.model)
        limits = () if remaining is None else self._limits(remaining, 60.0)
        head = ((b"x-request-id", b"req_%s" % stamp.id[-24:].encode()), *limits)
        if not ask.stream:
            answer = self.format.whole(ask, choices, stamp)
            steps = self._reply(200, (_JSON, *head), answer)
            if knobs.reset_after is not None or knobs.stall_after is not None:
                broken = Reset() if knobs.reset_after is not None else Stall()
                half = Data(answer[: len(answer) // 2])
                return [steps[0], Step(0.0, half), Step(knobs.pace, broken)]
            return steps
        kind = (b"content-type", self.format.stream_type)
        steps = [Step(self._latency(), Head(200, (kind, (b"cache-control", b"no-cache"), *head)))]
        if knobs.first_event_error:
            failed = self.format.error_event(500)
            return [*steps, Step(0.0, Data(failed)), Step(0.0, End())]
        parts = self.format.stream(ask, choices, stamp, knobs.chunk_words)
        steps += [Step(0.0, Data(event)) for event in parts.preamble]
        for number, event in enumerate(parts.content):
            if number in (knobs.reset_after, knobs.stall_after):
                break
            steps.append(Step(knobs.pace if number else 0.0, Data(event)))
        if knobs.reset_after is not None:
            return [*steps, Step(knobs.pace, Reset())]
        if knobs.stall_after is not None:
            return [*steps, Step(knobs.pace, Stall())]
        if not knobs.no_finish:
            steps += [Step(0.0, Data(event)) for event in (*parts.finish, *parts.usage)]
        if parts.done and not knobs.no_done:
            steps.append(Step(0.0, Data(parts.done)))
        return [*steps, Step(0.0, End())]

    def _remaining(self, now: float) -> int | None:
        """Requests left in this minute, this one taken; negative: too many. None: there is no limit."""
        limit = self.knobs.requests_per_minute
        if not limit:
            return None
        while self._recent and self._recent[0] <= now - _WINDOW:
            self._recent.popleft()
        if len(self._recent) >= limit:
            return -1
        self._recent.append(now)
        return limit - len(self._recent)

    def _limits(self, remaining: int, reset: float) -> Headers:
        return self.format.limits(self.knobs.requests_per_minute, remaining, reset)

    def _latency(self) -> float:
        knobs = self.knobs
        if not knobs.latency_spread:
            return knobs.latency
        return knobs.latency * self._rng.lognormvariate(0.0, knobs.latency_spread)

    def _error(
        self,
        status: int,
        message: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Headers = (),
    ) -> list[Step]:
        body = self.format.error(status, message, param, code)
        return self._reply(self.format.statuses.get(status, status), (_JSON, *headers), body)

    def _reply(self, status: int, headers: Headers, body: bytes) -> list[Step]:
        length = (b"content-length", b"%d" % len(body))
        actions: tuple[Action, ...] = (Data(body), End()) if body else (End(),)
        head = Step(self._latency(), Head(status, (*headers, length)))
        return [head, *(Step(0.0, action) for action in actions)]

    def _garbage(self, kind: str) -> list[Step]:
        if kind == "html":
            return self._reply(200, ((b"content-type", b"text/html"),), _HTML)
        bodies = {
            "empty": b"",
            "not_json": b"upstream connect error or disconnect/reset before headers",
            "truncated_json": b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"mess',
            "invalid_utf8": b'{"id":"chatcmpl-1","choices":[{"message":{"content":"\xff\xfe',
            "binary": bytes(range(256)),
        }
        return self._reply(200, (_JSON,), bodies[kind])


def _status(knobs: Knobs) -> int:
    """The failing answer's status, 0 when failures are of another kind."""
    if knobs.status or knobs.failure_rate is None:
        return knobs.status
    return 500 if knobs == _without_faults(knobs) else 0


def _without_faults(knobs: Knobs) -> Knobs:
    return msgspec.structs.replace(
        knobs,
        status=0,
        reset_after=None,
        stall_after=None,
        garbage="",
        first_event_error=False,
        no_done=False,
        no_finish=False,
    )

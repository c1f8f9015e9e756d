"""The pieces scenarios are written with: clients' requests and providers' bytes."""

import math
from typing import Any

import msgspec

from gwproto import LossReason
from gwproto.testing import Close, Connection, Data, End, Head, Reset, Stall, Step, Visit
from gwproto.testing.steps import Action
from scenarios.model import KEY, Arrival, Scenario, head

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
USER = [{"role": "user", "content": "Say hello."}]
COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def ask(
    *,
    body: bytes | None = None,
    pieces: tuple[tuple[float, bytes], ...] | None = None,
    method: str = "POST",
    target: str = CHAT,
    key: str | None = KEY,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    complete: bool = True,
    leaves_after: float = math.inf,
    write_time: float = 0.0,
    length: int | None = -1,
    **fields: Any,
) -> Visit:
    """A client's request: ``fields`` on top of a minimal one, or ``body``, or ``pieces`` of one with pauses.

    ``length``: the content-length sent; None: chunked; -1: the true one.
    """
    if body is None:
        body = msgspec.json.encode({"model": "auto", "messages": USER, **fields})
    if pieces is None:
        pieces = ((0.0, body),) if body else ()
    framing: tuple[tuple[bytes, bytes], ...] = ((b"transfer-encoding", b"chunked"),)
    if length is not None:
        total = sum(len(data) for _, data in pieces) if length < 0 else length
        framing = ((b"content-length", b"%d" % total),) if total or method == "POST" else ()
    auth = () if key is None else ((b"authorization", f"Bearer {key}".encode()),)
    kind = ((b"content-type", b"application/json"),) if method == "POST" else ()
    return Visit(
        head=head(method, target, *auth, *kind, *framing, *headers),
        body=pieces,
        complete=complete,
        leaves_after=leaves_after,
        write_time=write_time,
    )


def get(target: str, **options: Any) -> Visit:
    return ask(method="GET", target=target, body=b"", **options)


def at_once(*visits: Visit) -> tuple[Arrival, ...]:
    return tuple(Arrival(0.0, visit) for visit in visits)


def one_after_another(*visits: Visit, gap: float = 1.0) -> tuple[Arrival, ...]:
    return tuple(Arrival(index * gap, visit) for index, visit in enumerate(visits))


# Providers' bytes


def frame(*choices: dict[str, Any], **more: Any) -> bytes:
    """One chunk as an event."""
    return b"data: %s\n\n" % msgspec.json.encode(
        {
            "id": "chatcmpl-up",
            "object": "chat.completion.chunk",
            "created": 1_790_000_000,
            "model": "up-model",
            "choices": list(choices),
            **more,
        }
    )


def delta(finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish}


ROLE = frame(delta(role="assistant", content=""))
STOP = frame(delta("stop"))
USAGE = frame(usage=COUNTS)


def text(content: str) -> bytes:
    return frame(delta(content=content))


HELLO = (ROLE, text("Hel"), text("lo."), STOP)


def answer(content: str | None = "Hello.", finish: str = "stop", **message: Any) -> bytes:
    """A whole ``chat.completion``."""
    return msgspec.json.encode(
        {
            "id": "chatcmpl-up",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": "up-model",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, **message},
                    "finish_reason": finish,
                }
            ],
            "usage": COUNTS,
        }
    )


def fault(message: str = "It broke.", type: str = "server_error", code: str | None = None) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": type, "param": None, "code": code}})


# Providers' behaviour

JSON = b"application/json"
SSE = b"text/event-stream"
_END = End()


def timeline(status: int, kind: bytes, *actions: Action | tuple[float, Action], **headers: str) -> Connection:
    """A head, then actions; a pair is an action after a pause."""
    fields = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    steps = [Step(0.0, Head(status, ((b"content-type", kind), *fields)))]
    steps += [Step(*item) if isinstance(item, tuple) else Step(0.0, item) for item in actions]
    return Connection(steps)


def stream(*pieces: bytes, ending: Action | None = _END, pace: float = 0.0) -> Connection:
    """A stream of ``pieces``, each a write, ``pace`` seconds apart, and how it ends (None: it stalls)."""
    actions = [(pace if index else 0.0, Data(piece)) for index, piece in enumerate(pieces)]
    return timeline(200, SSE, *actions, (pace, Stall() if ending is None else ending))


def reply(body: bytes, status: int = 200, kind: bytes = JSON, **headers: str) -> Connection:
    """A complete answer with its length."""
    data = (Data(body),) if body else ()
    return timeline(status, kind, *data, End(), content_length=str(len(body)), **headers)


def broken(*actions: Action) -> Connection:
    """What happens instead of a head."""
    return Connection([Step(0.0, action) for action in actions])


PLAIN = reply(answer())
STREAM = stream(*HELLO, DONE)
RESET = broken(Reset())
CLOSED = broken(Close())
SILENT = broken(Stall())
REFUSED = Connection(lost=LossReason.REFUSED)
NO_ADDRESS = Connection(lost=LossReason.DNS)
NO_TLS = Connection(lost=LossReason.TLS)


def row(
    name: str,
    *script: Connection,
    asked: Visit | None = None,
    arrivals: tuple[Arrival, ...] = (),
    whole: bool = False,
    providers: int = 2,
    settings: dict[str, Any] | None = None,
    drain_after: float = math.inf,
    unready_after: float = math.inf,
    slow: bool = False,
    format: str = "openai",
) -> Scenario:
    """A row of the table: one streamed request (``whole``: not streamed) unless it says otherwise."""
    return Scenario(
        name=name,
        script=script or (PLAIN,),
        arrivals=arrivals or at_once(asked or ask(stream=not whole)),
        settings=settings or {},
        providers=providers,
        drain_after=drain_after,
        unready_after=unready_after,
        slow=slow,
        format=format,
    )

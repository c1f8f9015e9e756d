"""The values that cross the core's boundary: frozen, comparable, hashable, and JSON by ``msgspec``.

Header names are lower-case bytes, in the order received. Instants are monotonic seconds, durations are seconds,
unless a field's comment says wall time.
"""

import enum

from msgspec import Struct, structs

Headers = tuple[tuple[bytes, bytes], ...]


class RequestHead(Struct, frozen=True, gc=False):
    """The head of a client's request. ``target`` is raw, as on the request line (RFC 9112, 3.2)."""

    method: str
    target: str
    headers: Headers
    http_version: str = "1.1"
    client: str = ""  # the peer's address, without port


class Origin(Struct, frozen=True, gc=False):
    """Where connections go and by what they are pooled (RFC 6454)."""

    scheme: str
    host: str
    port: int


class UpstreamRequest(Struct, frozen=True, gc=False):
    """A request for a provider.

    ``credential`` names a secret; the runtime adds its header while writing, so no value of the core ever holds one.
    ``fresh`` asks for a new connection, because a kept-alive one has just proved dead.
    """

    origin: Origin
    method: str
    target: str
    headers: Headers
    body: bytes
    credential: str = ""
    fresh: bool = False


class Usage(Struct, frozen=True, gc=False, omit_defaults=True):
    """Token counts, normalised: completion includes reasoning, prompt includes cached tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None


class Limit(Struct, frozen=True, gc=False):
    """One limit of a provider, as far as headers tell.

    ``window``: second, minute, hour, day, month; ``""``: unknown.
    """

    dimension: str  # requests tokens input-tokens …
    window: str = ""
    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None  # seconds until more may be used


class Ending(enum.Enum):
    """How a client's request ended: exactly one per request."""

    COMPLETED = "completed"  # a whole answer was sent
    REFUSED = "refused"  # the client's fault, by our own verdict or the provider's
    FAILED = "failed"  # every attempt failed; an error was sent
    TRUNCATED = "truncated"  # failed after content was sent: error event or abort
    CLIENT_CLOSED = "client_closed"  # the client went away
    ABANDONED = "abandoned"  # the runtime gave up (an error of ours, a cancelled task)


class AttemptRecord(Struct, frozen=True, gc=False):
    """One upstream try, for records and explanations."""

    provider: str
    model: str  # the provider's name for it
    key: str  # the credential's name
    started_at: float
    duration: float
    first_content_after: float | None = None  # seconds to the first content-bearing frame
    status: int | None = None  # the provider's
    failure: str | None = None  # a FailureClass value; None: it served the request, or had no verdict
    code: str = ""  # the error code, the provider's own if it sent one; its words might quote the prompt
    probe: bool = False
    panic: bool = False
    reused: bool | None = None  # on a kept-alive connection?
    hedge: bool = False  # started because another attempt was slow
    lost: bool = False  # the race against another attempt
    number: int = 0  # the attempt's, as in its events and commands


class Trace(Struct, frozen=True, gc=False):
    """What a client said of the trace that its request belongs to (W3C Trace Context)."""

    trace_id: str  # 32 hexadecimal digits
    parent_id: str  # 16: the client's span
    flags: int
    state: str = ""  # tracestate, as it came


class Terms(Struct, frozen=True, gc=False):
    """What makes a score, each in 0..1 and not weighted yet."""

    success: float
    headroom: float
    latency: float
    fit: float


class Candidate(Struct, frozen=True, gc=False):
    """Why a target was or was not chosen. ``reason`` is ``""`` for the chosen one.

    ``score`` and its ``terms`` are there for whoever could serve such a request at all.
    """

    target: str
    reason: str
    score: float | None = None
    terms: Terms | None = None


class Decision(Struct, frozen=True, gc=False):
    """How a target was chosen: what was known of all then, who was chosen at last, and who had failed before."""

    considered: tuple[Candidate, ...]
    chosen: str = ""  # a target's id; "": nobody
    failed: tuple[tuple[str, str], ...] = ()  # target and class of failure, in the order they were tried

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every target of the catalog: the chosen one without a reason, all others with one."""
        failed = dict(self.failed)
        return tuple(
            [
                structs.replace(
                    one, reason="" if one.target == self.chosen else f"tried: {failed[one.target]}"
                )
                if one.target == self.chosen or one.target in failed
                else one
                for one in self.considered
            ]
        )


class Outcome(Struct, frozen=True, gc=False):
    """What to count, log and bill about one finished request. Never holds prompt or answer text."""

    request_id: str
    at: float  # wall time of the head's arrival
    ending: Ending
    status: int  # the client's; 499 when it closed before a head was sent
    method: str
    endpoint: str
    duration: float
    key: str = ""  # the label of the client's key
    project_id: str = ""
    model_asked: str = ""
    provider: str = ""
    model: str = ""
    stream: bool = False
    attempts: tuple[AttemptRecord, ...] = ()
    first_content_after: float | None = None
    usage: Usage | None = None
    partial_usage: bool = False
    dropped_params: tuple[str, ...] = ()
    error: str = ""  # the error code sent, if any
    shared: bool = False  # it got another request's answer; attempts and usage are that one's
    decision: Decision | None = None  # None: no target was looked for
    began_at: float = 0.0  # the head's arrival on the clock of ``attempts``
    cost: float | None = None  # US dollars, of all usage reported; None: none was, or no price is known
    trace: Trace | None = None
    rejected: str = ""  # what was wrong with the client's key: missing unknown expired ambiguous
    client: str = ""  # the client's address, where its key was rejected

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every target there was, with the reason why it was not chosen."""
        return () if self.decision is None else self.decision.candidates

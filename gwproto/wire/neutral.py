"""The inner words: what every wire format is decoded to and encoded from.

Subtrees that only pass through stay ``msgspec.Raw``: unknown fields and the spelling of numbers survive.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw, Struct

from gwproto.config import STANDARD, Quirks
from gwproto.failures import Failure
from gwproto.values import Trace, Usage

Effort = Literal["auto", "none", "minimal", "low", "medium", "high", "xhigh", "max"]

RawFields = dict[str, Raw]


class ChatRequest(Struct, frozen=True, gc=False, kw_only=True):
    """A client's request, validated. ``fields`` is the whole body as sent, gateway fields removed, nulls removed."""

    fields: RawFields
    model: str = "auto"
    stream: bool = False
    include_usage: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    n: int = 1
    effort: Effort = "auto"
    project_id: str | None = None
    require_params: bool = False
    cache_key: str | None = None  # prompt_cache_key
    prompt_tokens: int = 0  # an estimate
    needs: frozenset[str] = frozenset()
    """Capabilities (tools json json_schema vision audio n logprobs), and what some formats and providers have no words
    for: image_url (an image by address, not by value), custom_tools, files."""
    legacy_functions: bool = False  # the client speaks functions/function_call
    extra_content: bool = False  # it sends back what providers added to earlier answers
    trace: Trace | None = None  # that the request is part of


class Rendering(Struct, frozen=True, gc=False, kw_only=True):
    """How a request is written for one target: the provider's peculiarities as data."""

    model: str  # the provider's name for it
    quirks: Quirks = STANDARD
    effort: Mapping[str, object] = {}  # the fields that say it; none: no such control, or left at its default
    body: Mapping[str, object] = {}  # fields added by configuration
    max_output: int = 0  # tokens; 0 = unknown


class Reading(Struct, frozen=True, gc=False, kw_only=True):
    """What there is to know of a request and its target when the answer is read."""

    provider: str = ""  # as the catalog knows it: whose habits its errors have
    think_inline: Literal["no", "tagged", "opened"] = "no"  # as in Quirks
    max_tokens: int | None = None  # what the request allowed
    limit_windows: Mapping[str, str] = {}  # what "requests" and "tokens" in rate limit headers are per
    seed: str = ""  # tells this answer's made-up ids from those of others
    wall: float = 0.0  # when the answer's head came, in seconds since the epoch; 0.0: unknown


#: Nothing is known.
UNREAD = Reading()


class EncodedRequest(Struct, frozen=True, gc=False):
    """A request body for a provider. ``path`` follows the base URL's path."""

    path: str
    body: bytes
    dropped: tuple[str, ...] = ()
    max_tokens: int | None = None  # its limit on the answer, where the client has set none


class ToolFragment(Struct, frozen=True, gc=False):
    """A piece of a tool call. The normaliser makes ``index`` dense and sends id, type and name once."""

    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    extra: RawFields = {}


class Delta(Struct, frozen=True, gc=False):
    """What one chunk adds to one choice."""

    choice: int = 0
    role: bool = False
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tools: tuple[ToolFragment, ...] = ()
    finish: str | None = None  # as the provider spells it; OpenAI's values after the normaliser
    extra: RawFields = {}  # unknown keys of the delta, audio, annotations, function_call …
    choice_extra: RawFields = {}  # unknown keys of the choice, logprobs …


class Chunk(Struct, frozen=True, gc=False):
    """One event of a provider's stream. ``done`` is the format's own end marker."""

    deltas: tuple[Delta, ...] = ()
    id: str = ""
    created: int = 0
    model: str = ""
    usage: Usage | None = None
    raw_usage: Raw | None = None  # as sent, for formats whose usage needs no translation
    failure: Failure | None = None
    done: bool = False
    extra: RawFields = {}
    verbatim: bool = False  # the bytes it was decoded from are already what a client may get
    null_usage: bool = (
        False  # … but they say ``"usage":null``, which only a client that asked for usage expects
    )
    remembered: bool = False  # its decoder has kept something of it, and must see every other like it


class Envelope(Struct, frozen=True, gc=False):
    """What every chunk of one answer repeats."""

    id: str
    created: int
    model: str


class CompletionChoice(Struct, frozen=True, gc=False):
    """One choice of a whole answer. ``tools`` are complete calls in order."""

    index: int = 0
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tools: tuple[ToolFragment, ...] = ()
    finish: str = "stop"
    extra: RawFields = {}  # unknown keys of the message, audio, annotations, function_call …
    choice_extra: RawFields = {}  # unknown keys of the choice, logprobs …


class Completion(Struct, frozen=True, gc=False):
    """A whole answer, normalised."""

    choices: tuple[CompletionChoice, ...] = ()
    id: str = ""
    created: int = 0
    model: str = ""
    usage: Usage | None = None
    raw_usage: Raw | None = None  # as sent, when its counts need no translation
    extra: RawFields = {}
    verbatim: bool = False  # the bytes it was decoded from are already what a client may get

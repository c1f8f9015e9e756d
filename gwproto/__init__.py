"""An OpenAI-compatible LLM gateway whose protocol core does no I/O.

Feed a :class:`Gateway` request heads, drive each :class:`Exchange` it begins (``docs/driving.md``).
"""

from gwproto.commands import (
    Abort,
    CloseUpstream,
    Command,
    Delegate,
    OpenUpstream,
    SendData,
    SendEnd,
    SendHead,
)
from gwproto.config import Settings
from gwproto.events import (
    ClientData,
    ClientEnd,
    ClientGone,
    Draining,
    Event,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
    UpstreamLost,
    UpstreamOpened,
)
from gwproto.exchange.base import Exchange
from gwproto.failures import (
    ConfigurationError,
    Failure,
    FailureClass,
    LocalProtocolError,
    LossReason,
    WireError,
)
from gwproto.gateway import Gateway
from gwproto.gateway_values import Configuration, State, Statistics
from gwproto.values import (
    AttemptRecord,
    Candidate,
    Decision,
    Ending,
    Headers,
    Origin,
    Outcome,
    RequestHead,
    UpstreamRequest,
    Usage,
)

__all__ = [
    "Abort",
    "AttemptRecord",
    "Candidate",
    "ClientData",
    "ClientEnd",
    "ClientGone",
    "CloseUpstream",
    "Command",
    "Configuration",
    "ConfigurationError",
    "Decision",
    "Delegate",
    "Draining",
    "Ending",
    "Event",
    "Exchange",
    "Failure",
    "FailureClass",
    "Gateway",
    "Headers",
    "LocalProtocolError",
    "LossReason",
    "OpenUpstream",
    "Origin",
    "Outcome",
    "RequestHead",
    "SendData",
    "SendEnd",
    "SendHead",
    "Settings",
    "State",
    "Statistics",
    "UpstreamData",
    "UpstreamEnd",
    "UpstreamHead",
    "UpstreamLost",
    "UpstreamOpened",
    "UpstreamRequest",
    "Usage",
    "WireError",
]

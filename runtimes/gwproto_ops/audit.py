"""Rejected client keys, one line of JSON each on the logger ``gwproto.audit``: who tried, never with what."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.json import Encoder

from gwproto import Outcome

#: Lines for one batch of outcomes. Addresses have limits of their own, but there may be many addresses.
LIMIT = 20

logger = logging.getLogger("gwproto.audit")
_encode = Encoder().encode


class Line(Struct, frozen=True, gc=False, tag_field="event", tag="key_rejected"):
    """A request whose key was not accepted. ``client`` is its address, as far as trusted proxies tell."""

    at: str  # RFC 3339, UTC
    request_id: str
    client: str
    endpoint: str
    reason: str  # missing unknown expired ambiguous


class More(Struct, frozen=True, gc=False, tag_field="event", tag="keys_rejected"):
    """How many lines were left out after those before this one."""

    at: str
    left_out: int


def audit(outcomes: Sequence[Outcome]) -> None:
    """Log the rejected keys among ``outcomes``: at most ``LIMIT`` of them, and how many more there were."""
    rejected = [one for one in outcomes if one.rejected]
    for one in rejected[:LIMIT]:
        _log(Line(_at(one), one.request_id, one.client, one.endpoint, one.rejected))
    if len(rejected) > LIMIT:
        _log(More(_at(rejected[-1]), len(rejected) - LIMIT))


def _log(line: Line | More) -> None:
    logger.warning("%s", _encode(line).decode())


def _at(outcome: Outcome) -> str:
    return datetime.fromtimestamp(outcome.at, UTC).isoformat(timespec="milliseconds")

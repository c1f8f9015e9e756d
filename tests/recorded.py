"""Recorded shapes of providers' traffic, with what a client must get: ``goldens/``, a file to a format.

An entry is ``of`` a stream, a body or a request. A stream's ``expected`` are the events that :func:`wirestream.events`
tells; ``["X", class, message]`` ends one that fails after content, ``["FAIL", class]`` is one that fails before.
"""

import json
from pathlib import Path
from typing import Any

from gwproto.sse.eventstream import encode_message
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import Reading

Golden = dict[str, Any]
FOLDER = Path(__file__).parent / "goldens"


def goldens(format: str) -> dict[str, Golden]:
    """A format's entries by name."""
    entries: list[Golden] = json.loads((FOLDER / f"{format}.json").read_text("utf-8"))
    return {one["name"]: one for one in entries}


STREAMS: dict[str, tuple[str, Golden]] = {
    f"{format}-{name}": (format, golden)
    for format in DIALECTS
    for name, golden in goldens(format).items()
    if golden["of"] == "stream"
}


def bytes_of(format: str, golden: Golden) -> bytes:
    """An entry's bytes: text as it is; for Bedrock's frames hexadecimal, or the events that they hold."""
    text: str = golden["input"]
    if format != "bedrock":
        return text.encode()
    if not text.startswith("{"):
        return bytes.fromhex(text)
    events = map(json.loads, text.splitlines())
    return b"".join(encode_message("event", one["e"], json.dumps(one["p"]).encode()) for one in events)


def reading_of(golden: Golden) -> Reading:
    """What is known when the entry is read."""
    return Reading(
        max_tokens=golden.get("max_tokens"),
        think_inline=golden.get("think_inline", "no"),
        wall=1_789_992_000.0,
    )

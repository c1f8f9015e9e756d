"""What simulated providers of every format answer, as bytes."""

import json
import random
from typing import Any

from gwproto.testing import Data, Knobs, SimulatedProvider
from gwproto.wire.dialects import DIALECTS
from gwproto.wire.neutral import ChatRequest, Rendering
from gwproto.wire.openai.request import parse_request

WALL = 1.7e9
VERSION = ((b"anthropic-version", b"2023-06-01"),)


def requested(text: str = "Hé", **fields: Any) -> ChatRequest:
    """A client's request."""
    body = {"messages": [{"role": "user", "content": text}], **fields}
    request = parse_request(json.dumps(body).encode())
    assert isinstance(request, ChatRequest)
    return request


def answered(
    name: str, request: ChatRequest, knobs: Knobs | None = None, model: str = "model"
) -> list[bytes]:
    """The pieces of the answer's body, an event or less in each."""
    provider = SimulatedProvider("p", models=[model], rng=random.Random(1), format=name, knobs=knobs)
    encoded = DIALECTS[name].encode_request(request, Rendering(model=model))
    steps = provider.respond("POST", provider.format.base + encoded.path, VERSION, encoded.body, WALL)
    return [step.action.data for step in steps if isinstance(step.action, Data)]

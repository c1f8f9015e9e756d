"""Flags for the knobs of simulated providers. Needs none of the extras, so that help never does."""

import argparse
from typing import get_args

import msgspec

from gwproto.testing import Knobs
from gwproto.testing.providers import Garbage

_HELP = {
    "latency": "seconds to the first byte",
    "latency_spread": "sigma of a log-normal factor on the latency, 0 to 2",
    "pace": "seconds between the chunks of a stream",
    "words": "length of a text; 0: as it happens",
    "chunk_words": "words to a chunk",
    "failure_rate": "share of answers with the faults below, 0 to 1; default all; without a fault: status 500",
    "status": "answer with this status",
    "retry_after": "seconds, beside a failing status",
    "reset_after": "break the connection after so many chunks; 0: before the head",
    "stall_after": "fall silent after so many chunks; 0: before the head",
    "garbage": "a 200 that is no answer: " + ", ".join(filter(None, get_args(Garbage))),
    "first_event_error": "begin streams with an error",
    "no_done": "leave out [DONE]",
    "no_finish": "leave out the finish reason",
    "requests_per_minute": "answer 429 beyond; 0: unlimited",
    "api_key": "the only key taken; default: any or none",
}


def add_knob_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for every knob, ``--reset-after 3``."""
    for field in msgspec.structs.fields(Knobs):
        flag = "--" + field.name.replace("_", "-")
        text = _HELP[field.name]
        if field.default is False:
            parser.add_argument(flag, dest=field.name, action="store_const", const="true", help=text)
        else:
            parser.add_argument(flag, dest=field.name, metavar="X", help=text)


def knobs_from(arguments: argparse.Namespace) -> Knobs:
    """The knobs that the flags set. Raises ``msgspec.ValidationError``."""
    given = {name: getattr(arguments, name, None) for name in Knobs.__struct_fields__}
    return msgspec.convert({k: v for k, v in given.items() if v is not None}, Knobs, strict=False)

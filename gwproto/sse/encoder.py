"""Frames out: ``data:`` events and comments, nothing else.

``event:``, ``id:``, ``retry:``, empty events and a BOM each break at least one official SDK, so there is no way to
write them here.
"""

_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")

DONE = b"data: [DONE]\n\n"

# A comment followed by a blank line is safe only because no ``id:`` is ever sent (openai-python dispatches a
# data-less event once it knows a last event id).
KEEP_ALIVE = b": keep-alive\n\n"


def encode(data: bytes) -> bytes:
    """One event of one line.

    Line ends in ``data`` become spaces: in JSON they can only be white space between tokens, and an event of several
    ``data:`` lines is what line-by-line parsers get wrong.
    """
    return b"data: " + data.translate(_LINE_ENDS) + b"\n\n"

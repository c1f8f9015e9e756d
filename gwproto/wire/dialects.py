"""Name → wire format."""

from gwproto.wire import openai
from gwproto.wire.dialect import Dialect

__all__ = ["DIALECTS", "Dialect"]

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (openai.DIALECT,)}

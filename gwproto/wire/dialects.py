"""Name → wire format."""

from gwproto.config import Vocabulary
from gwproto.wire import openai
from gwproto.wire.dialect import Dialect

__all__ = ["DIALECTS", "VOCABULARIES", "Dialect"]

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (openai.DIALECT,)}

#: What each can say, for the catalog.
VOCABULARIES = {
    name: Vocabulary(dialect.parameters, dialect.open, dialect.lacks) for name, dialect in DIALECTS.items()
}

"""Name → wire format."""

from gwproto.config import Vocabulary
from gwproto.wire import anthropic, bedrock, cohere, gemini, ollama, openai, workers_ai
from gwproto.wire.dialect import Dialect

__all__ = ["DIALECTS", "VOCABULARIES", "Dialect"]

DIALECTS: dict[str, Dialect] = {
    package.DIALECT.name: package.DIALECT
    for package in (openai, gemini, anthropic, workers_ai, cohere, ollama, bedrock)
}

#: What each can say, for the catalog.
VOCABULARIES = {
    name: Vocabulary(dialect.parameters, dialect.open, dialect.lacks) for name, dialect in DIALECTS.items()
}

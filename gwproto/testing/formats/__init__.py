"""The wire formats that simulated providers speak, by name."""

from gwproto.testing.formats import anthropic, bedrock, cohere, gemini, ollama, openai, workers_ai
from gwproto.testing.formats.format import Format

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (openai, gemini, anthropic, workers_ai, cohere, ollama, bedrock)
}

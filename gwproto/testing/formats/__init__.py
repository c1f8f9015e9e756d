"""The wire formats that simulated providers speak, by name."""

from gwproto.testing.formats import openai
from gwproto.testing.formats.format import Format

FORMATS: dict[str, Format] = {one.name: one for one in (openai.FORMAT,)}

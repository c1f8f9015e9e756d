"""OpenAI's chat completions format, towards clients and towards providers."""

"""Settings that are accepted and not acted upon in this release, and what happens instead."""

from collections.abc import Iterator

from gwproto.config import ProviderSettings
from gwproto.loading import Loaded

INERT_FOR_PROVIDERS = {
    "proxy": "connections are direct",
    "ca_file": "the system's authorities are used",
}


def inert(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """The settings somebody made in vain: path and what happens instead."""
    for provider in loaded.settings.providers:
        for key, note in INERT_FOR_PROVIDERS.items():
            if getattr(provider, key) != getattr(_NOTHING, key):
                yield f"providers.{provider.name}.{key}", note


_NOTHING = ProviderSettings(name="-")

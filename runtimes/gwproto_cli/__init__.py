"""The ``gwproto`` command."""

from gwproto_cli.command import main

__all__ = ["main"]

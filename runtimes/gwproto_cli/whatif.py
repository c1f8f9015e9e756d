"""``gwproto replay --policy``: how the requests of a journal would have fared under other settings."""

import tomllib

import msgspec

from gwproto.config import Settings
from gwproto.failures import ConfigurationError
from gwproto.journal.entries import LineError
from gwproto.testing.whatif import Comparison, WhatIf
from gwproto_cli.replaying import lines_of
from gwproto_cli.tables import print_table

#: The tables of a configuration file that are policy.
POLICY = ("health", "hedge", "limits", "retry", "routing", "timeouts")


def what_if(path: str, policy: str, *, as_json: bool) -> None:
    """Print the figures of both, side by side."""
    tables = _tables(policy)
    estimate = WhatIf()
    with lines_of(path) as lines:
        try:
            for line in lines:
                estimate.feed(line)
            settings = overlaid(estimate.settings, tables, policy)
        except LineError as error:
            raise ConfigurationError(((f"{path}:{estimate.line}", str(error)),)) from None
    comparison = estimate.compare(settings)
    if as_json:
        print(msgspec.json.encode(comparison).decode())
    else:
        _print(comparison)


def overlaid(settings: Settings, tables: dict[str, object], source: str) -> Settings:
    """``settings`` with what ``tables`` say. Raises ``ConfigurationError``."""
    whole = msgspec.to_builtins(settings)
    for name, table in tables.items():
        whole[name] = {**whole[name], **table} if isinstance(table, dict) else table
    try:
        return msgspec.convert(whole, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(((source, str(error)),)) from None


def _tables(policy: str) -> dict[str, object]:
    try:
        with open(policy, "rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(((policy, error.strerror or str(error)),)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(((policy, str(error)),)) from None
    others = [name for name in tables if name not in POLICY]
    if others:
        known = ", ".join(POLICY)
        raise ConfigurationError(
            tuple([(f"{policy}: {name}", f"is no policy; those are {known}") for name in others])
        )
    return tables


_ROWS = (
    ("requests", "requests"),
    ("completed", "completed"),
    ("failed", "failed"),
    ("left", "client left"),
    ("attempts", "attempts"),
    ("throttled", "attempts answered 429"),
    ("first_content_p50", "first content, median"),
    ("first_content_p95", "first content, 95 %"),
    ("duration_p50", "duration, median"),
    ("duration_p95", "duration, 95 %"),
)


def _print(comparison: Comparison) -> None:
    before, after = (msgspec.structs.asdict(one) for one in (comparison.recorded, comparison.estimated))
    print_table(
        ("", "recorded", "estimated"),
        [(label, _shown(before[name]), _shown(after[name])) for name, label in _ROWS],
    )
    if comparison.unknown:
        print(f"{comparison.unknown} attempts at targets that the journal knows nothing of: taken as refused")


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.0f} ms" if isinstance(value, float) else str(value)

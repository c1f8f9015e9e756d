"""From the effort a client asks for to the nearest that a model knows, and the fields that say it."""

from collections.abc import Mapping

from gwproto.config import Body, Level, Quirks

_ORDER: tuple[Level, ...] = ("minimal", "low", "medium", "high", "xhigh", "max")
Efforts = Mapping[Level, Mapping[str, object]]

#: OpenAI's own way.
OPENAI_EFFORTS: dict[Level, Body] = {
    level: {"reasoning_effort": level} for level in ("none", *_ORDER, "default")
}


def efforts_of(quirks: Quirks, format_efforts: Efforts) -> Efforts:
    """The levels a model takes and how each is said; ``format_efforts``: those of its format."""
    own = quirks.effort
    if own is None:
        return format_efforts
    if isinstance(own, dict):
        return own
    return {level: format_efforts.get(level, OPENAI_EFFORTS[level]) for level in own}


def nearest(efforts: Efforts, wanted: Level) -> Level | None:
    """The level to ask for, for one that is no "default"; None: say nothing, the model's default is as near as it gets.

    "none" is only ever chosen for "none". The others go to the nearest, of two equally near to the lower.
    """
    if wanted == "none" and "none" in efforts:
        return "none"
    known = [level for level in _ORDER if level in efforts]
    if not known:
        return "default" if "default" in efforts and wanted != "none" else None
    place = 0 if wanted == "none" else _ORDER.index(wanted)
    return min(known, key=lambda level: abs(_ORDER.index(level) - place))


def merged(fields: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """``fields`` with ``more`` laid over: objects inside objects too, anything else replaced."""
    out = dict(fields)
    for name, value in more.items():
        known = out.get(name)
        out[name] = (
            merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
        )
    return out

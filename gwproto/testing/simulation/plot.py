"""Results as a picture: success, time to first content and shares over time. SVG, written by hand."""

from collections.abc import Iterator, Sequence

from gwproto.testing.simulation.report import Phase, Result

WIDTH = 960
LEFT, RIGHT = 64, 16
PANEL = 96  # height
GAP = 46
HEAD = 94  # title, description and legend of policies
FOOT = 36

# Told apart by people who see no red or no green, on white and on black (Okabe and Ito, 2008, and greys beside).
_COLOURS = ("#2a8fd0", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")
_DASHES = ("", "6 3", "2 2", "8 3 2 3")
STYLE = """
text{font:12px system-ui,sans-serif;fill:#24292f}
.title{font-size:16px;font-weight:600}
.note{fill:#57606a}
.page{fill:#fff}
.frame{fill:none;stroke:#8c959f}
.grid{stroke:#8c959f;stroke-opacity:.3}
.trouble{fill:#d55e00;fill-opacity:.13}
.mark{fill:#d55e00}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}
.note{fill:#9da7b1}
.page{fill:#0d1117}
.trouble{fill-opacity:.28}
}
"""


def plot(results: Sequence[Result]) -> str:
    """An SVG document with the results one below the other."""
    heights = [_height(result) for result in results]
    total = sum(heights) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        f'role="img" aria-label="{safe("Simulation: " + ", ".join(r.scenario for r in results))}">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{total}"/>',
    ]
    top = 0
    for result, height in zip(results, heights, strict=True):
        parts += [f'<g transform="translate(0 {top})">', *_scenario(result), "</g>"]
        top += height
    return "\n".join([*parts, "</svg>\n"])


def _height(result: Result) -> int:
    legend = 18 * _legend_lines(result)
    return HEAD + legend + (2 + len(result.policies)) * (PANEL + GAP) + FOOT


def _scenario(result: Result) -> Iterator[str]:
    yield f'<text class="title" x="{LEFT}" y="24">{safe(result.scenario)}</text>'
    yield f'<text class="note" x="{LEFT}" y="43">{safe(short(result.description, 130))}</text>'
    x = LEFT
    for index, figures in enumerate(result.policies):
        yield (
            f'<line x1="{x}" y1="58" x2="{x + 26}" y2="58" stroke="{colour(index)}" stroke-width="2" '
            f'stroke-dasharray="{_DASHES[index % len(_DASHES)]}"/>'
        )
        yield f'<text x="{x + 32}" y="62">{safe(figures.policy)}</text>'
        x += 56 + 8 * len(figures.policy)
    if result.phases:
        yield f'<rect class="trouble" x="{x}" y="51" width="26" height="14"/>'
        yield f'<text x="{x + 32}" y="62">trouble</text>'

    top = HEAD
    success = [figures.course.success for figures in result.policies]
    worst = min((value for course in success for value in course if value is not None), default=0.0)
    low = 0.0 if worst < 0.5 else 0.5 if worst < 0.9 else 0.9
    yield from _panel(result, top, "answered", success, low, 1.0, percent=True)
    top += PANEL + GAP
    delays = [figures.course.ttft_p95 for figures in result.policies]
    highest = max((value for course in delays for value in course if value is not None), default=1.0)
    yield from _panel(
        result, top, "time to first content of streams, 95th percentile (s)", delays, 0.0, above(highest)
    )
    for index in range(len(result.policies)):
        top += PANEL + GAP
        yield from _shares(result, index, top)
    yield from _providers(result, top + PANEL + FOOT + 8)


def _panel(
    result: Result,
    top: int,
    title: str,
    lines: Sequence[Sequence[float | None]],
    low: float,
    high: float,
    *,
    percent: bool = False,
) -> Iterator[str]:
    """A line for each policy."""
    yield from _frame(result, top, title, low, high, percent=percent)
    for index, values in enumerate(lines):
        pieces: list[list[str]] = [[]]
        for bucket, value in enumerate(values):
            if value is None:
                pieces.append([])
                continue
            part = min(1.0, max(0.0, (value - low) / (high - low)))
            pieces[-1].append(f"{_x(bucket + 0.5, len(values)):.1f},{top + PANEL * (1.0 - part):.1f}")
        for piece in filter(None, pieces):
            yield (
                f'<polyline fill="none" stroke="{colour(index)}" stroke-width="2" stroke-linejoin="round" '
                f'stroke-dasharray="{_DASHES[index % len(_DASHES)]}" points="{" ".join(piece)}"/>'
            )


def _shares(result: Result, index: int, top: int) -> Iterator[str]:
    """Providers' shares under one policy, one upon the other."""
    figures = result.policies[index]
    yield from _frame(result, top, f"share per provider, {figures.policy}", 0.0, 1.0, percent=True)
    floor: list[float] = []
    for number, shares in enumerate(figures.course.shares.values()):
        floor = floor or [0.0] * len(shares)
        roof = [below + share for below, share in zip(floor, shares, strict=True)]
        edge = [f"{_x(b + 0.5, len(roof)):.1f},{top + PANEL * (1 - v):.1f}" for b, v in enumerate(roof)]
        base = [f"{_x(b + 0.5, len(floor)):.1f},{top + PANEL * (1 - v):.1f}" for b, v in enumerate(floor)]
        points = " ".join([*edge, *reversed(base)])
        yield f'<polygon fill="{colour(number)}" fill-opacity="{_opacity(number)}" points="{points}"/>'
        floor = roof


def _frame(result: Result, top: int, title: str, low: float, high: float, *, percent: bool) -> Iterator[str]:
    """Axes, shading and title of a panel."""
    width = WIDTH - LEFT - RIGHT
    yield f'<text x="{LEFT}" y="{top - 6}">{safe(title)}</text>'
    for start, until, what in _troubled(result.phases):
        left, right = _x(start, result.seconds), _x(until, result.seconds)
        for above, height, name in ((top, PANEL, "trouble"), (top + PANEL, 4, "mark")):
            yield (
                f'<rect class="{name}" x="{left:.1f}" y="{above}" width="{max(1.0, right - left):.1f}" '
                f'height="{height}"><title>{safe(what)}</title></rect>'
            )
    for part in (0.0, 0.5, 1.0):
        y = top + PANEL * (1.0 - part)
        value = low + part * (high - low)
        label = f"{100.0 * value:.0f} %" if percent else f"{value:g}"
        yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield f'<text class="note" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    yield f'<rect class="frame" x="{LEFT}" y="{top}" width="{width}" height="{PANEL}"/>'
    step, unit, name = _ticks(result.seconds)
    tick = 0
    while tick * step <= result.seconds:
        x = _x(tick * step, result.seconds)
        label = f"{tick * step / unit:g}" + (f" {name}" if tick == 0 else "")
        yield f'<text class="note" x="{x:.1f}" y="{top + PANEL + 17}" text-anchor="middle">{label}</text>'
        tick += 1


def _troubled(phases: Sequence[Phase]) -> Iterator[tuple[float, float, str]]:
    """When anything was wrong, and what: phases that meet are one."""
    start = until = -1.0
    told: list[str] = []
    for phase in sorted(phases, key=lambda phase: phase.start):
        if phase.start > until:
            if told:
                yield start, until, "; ".join(told)
            start, told = phase.start, []
        until = max(until, phase.until)
        told.append(f"{phase.provider}: {phase.what}")
    if told:
        yield start, until, "; ".join(told)


def _providers(result: Result, top: int) -> Iterator[str]:
    """Whose colour is whose."""
    for number, name in enumerate(result.policies[0].shares):
        x, y = LEFT + number % 6 * 146, top + number // 6 * 18
        yield (
            f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour(number)}" '
            f'fill-opacity="{_opacity(number)}"/>'
        )
        yield f'<text x="{x + 18}" y="{y}">{safe(short(name, 18))}</text>'


def _legend_lines(result: Result) -> int:
    return (len(result.policies[0].shares) + 5) // 6


def _x(position: float, length: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * position / length


def _ticks(seconds: float) -> tuple[float, float, str]:
    """The distance between two ticks, and the unit of their labels: seconds, and its name."""
    for step in (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0):
        if seconds / step <= 12.0:
            break
    else:
        step *= max(1, round(seconds / step / 10.0))
    if step < 60.0:
        return step, 1.0, "s"
    return (step, 60.0, "min") if step < 3600.0 else (step, 3600.0, "h")


def above(value: float) -> float:
    """A round number that is not below ``value``."""
    scale = 0.01
    while True:
        for factor in (1.0, 2.0, 5.0):
            if value <= scale * factor:
                return round(scale * factor, 2)
        scale *= 10.0


def colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _opacity(index: int) -> str:
    """Colours that come again are paler."""
    return "0.85" if index < len(_COLOURS) else "0.45"


def short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def safe(text: str) -> str:
    for plain, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, written)
    return text

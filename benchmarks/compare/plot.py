"""Figures as bars, one SVG for each kind of them, in the style of the simulator's plots."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.compare.run import MEMORY, READY, START, Figure, Report, digits
from gwproto.testing.simulation.plot import STYLE, above, safe, short

WIDTH = 1088
COLUMN = WIDTH // 2
LEFT, RIGHT = 208, 132  # room for names, and for values, in a column
ROW = 20
BAR = 11
HEAD = 68
PANEL_HEAD = 34
FOOT = 40  # labels of the axis

SPAN = 50.0  # largest to smallest, above which a scale is logarithmic
OURS = "gwproto"  # begins the names that stand out

COLOURS = """
.bar{fill:#8c959f}
.ours{fill:#2a8fd0}
.reference{fill:#d59f0f}
.name{font-weight:600}
.line{stroke:#d59f0f;stroke-dasharray:3 3}
.range{stroke:#24292f;stroke-opacity:.6}
.end{text-anchor:end}
@media (prefers-color-scheme:dark){
.range{stroke:#e6edf3}
}
"""

# Files and titles, by what the names of their figures begin with.
KINDS = (
    ("overview", "CPU time of a gateway: less is better", ("CPU per request, 64", "CPU per chunk, 50")),
    ("throughput", "Throughput of one core: more is better", ("throughput", "streams")),
    ("latency", "Latency: less is better", ("latency", "stream p99")),
    ("cpu", "CPU time: less is better", ("CPU",)),
    ("resources", "Memory and start: less is better", (MEMORY, READY, START)),
)


def write(report: Report, directory: Path) -> list[Path]:
    """An SVG for each kind that has figures, in ``directory``, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for file, title, begins in KINDS:
        chosen = [figure for figure in report.figures if figure.name.startswith(begins)]
        if chosen:
            path = directory / f"{file}.svg"
            path.write_text(bars(title, chosen, report.reference))
            written.append(path)
    return written


def bars(title: str, figures: Sequence[Figure], reference: str) -> str:
    """An SVG document: a panel for each name of a figure, two beside each other, in it a bar for each peer.

    The best comes first. On a logarithmic scale a bar's length means nothing, its end does.
    """
    panels: dict[str, list[Figure]] = {}
    for figure in figures:
        panels.setdefault(figure.name, []).append(figure)
    ordered = [
        sorted(panel, key=lambda figure: figure.median, reverse=name.startswith(("throughput", "streams")))
        for name, panel in panels.items()
    ]
    lines = [ordered[first : first + 2] for first in range(0, len(ordered), 2)]
    heights = [PANEL_HEAD + ROW * max(map(len, line)) + FOOT for line in lines]
    total = HEAD + sum(heights)
    note = "median of the rounds, and from the lowest to the highest" + (
        f"; to the right the ratio to {reference}, which is the dashed line" if reference else ""
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        f'role="img" aria-label="{safe(title)}">',
        f"<style>{STYLE}{COLOURS}</style>",
        f'<rect class="page" width="{WIDTH}" height="{total}"/>',
        f'<text class="title" x="16" y="26">{safe(title)}</text>',
        f'<text class="note" x="16" y="46">{safe(note)}</text>',
    ]
    top = HEAD
    for line, height in zip(lines, heights, strict=True):
        for number, panel in enumerate(line):
            parts += _panel(panel, reference, number * COLUMN, top)
        top += height
    return "\n".join([*parts, "</svg>\n"])


class Scale:
    """Where values are, from 0 to 1: linear from zero, or logarithmic when they are far apart."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self.high = 0.0, above(max(values))
        least = min(values)
        self.logarithmic = 0.0 < least < max(values) / SPAN
        if self.logarithmic:
            self.low = 10.0 ** math.floor(math.log10(least))
            self.high = 10.0 ** math.ceil(math.log10(max(values)))

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            return math.log10(value / self.low) / math.log10(self.high / self.low)
        return value / self.high

    def ticks(self) -> list[float]:
        if self.logarithmic:
            return [self.low * 10.0**power for power in range(round(math.log10(self.high / self.low)) + 1)]
        return [part * self.high for part in (0.0, 0.25, 0.5, 0.75, 1.0)]


def _panel(panel: Sequence[Figure], reference: str, left: int, top: int) -> Iterator[str]:
    scale = Scale([value for figure in panel for value in figure.values])
    start, width = left + LEFT, COLUMN - LEFT - RIGHT
    kind = ", logarithmic" if scale.logarithmic else ""
    yield (
        f'<text x="{start}" y="{top + 16}"><tspan class="name">{safe(panel[0].name)}</tspan> '
        f"[{safe(panel[0].unit)}{kind}]</text>"
    )
    top += PANEL_HEAD - 8
    bottom = top + ROW * len(panel)
    for value in scale.ticks():
        x = start + width * scale(value)
        yield f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text class="note" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>'
    for number, figure in enumerate(panel):
        y = top + ROW * number + (ROW - BAR) / 2
        middle = y + BAR / 2
        ends = [
            start + width * scale(value) for value in (min(figure.values), figure.median, max(figure.values))
        ]
        ours = figure.peer.startswith(OURS)
        look = "bar reference" if figure.peer == reference else "bar ours" if ours else "bar"
        yield (
            f'<text class="end{" name" if ours else ""}" x="{start - 8}" y="{middle + 4:.1f}">'
            f"{safe(short(figure.peer, 26))}</text>"
            f'<rect class="{look}" x="{start}" y="{y:.1f}" width="{ends[1] - start:.1f}" height="{BAR}"/>'
            f'<line class="range" x1="{ends[0]:.1f}" y1="{middle:.1f}" x2="{ends[2]:.1f}" y2="{middle:.1f}"/>'
            f'<text class="end" x="{start + width + 56}" y="{middle + 4:.1f}">{digits(figure.median)}</text>'
        )
        if figure.ratio is not None:
            yield (
                f'<text class="end note" x="{start + width + 118}" y="{middle + 4:.1f}">'
                f"{digits(figure.ratio)} &#215;</text>"
            )
        if figure.peer == reference:
            yield f'<line class="line" x1="{ends[1]:.1f}" y1="{top}" x2="{ends[1]:.1f}" y2="{bottom}"/>'

"""Figures as bars, one SVG for each kind of them, in the style of the simulator's plots."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.compare.run import MEMORY, READY, START, Figure, Report, digits
from gwproto.testing.simulation.plot import STYLE, above, colour, safe, short

WIDTH = 960
LEFT, RIGHT = 150, 170  # room for names, and for values
ROW = 24
BAR = 14
PANEL_HEAD = 34
FOOT = 34  # labels of the axis

# Files and titles, by what the names of their figures begin with.
KINDS = (
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
            path.write_text(bars(title, chosen, report.targets, report.reference))
            written.append(path)
    return written


def bars(title: str, figures: Sequence[Figure], order: Sequence[str], reference: str) -> str:
    """An SVG document: a panel for each name of a figure, in it a bar for each peer."""
    panels: dict[str, list[Figure]] = {}
    for figure in figures:
        panels.setdefault(figure.name, []).append(figure)
    total = 64 + sum(PANEL_HEAD + ROW * len(panel) + FOOT for panel in panels.values())
    note = "medians of the rounds, and from the lowest to the highest" + (
        f"; in parentheses the ratio to {reference}" if reference else ""
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        f'role="img" aria-label="{safe(title)}">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{total}"/>',
        f'<text class="title" x="16" y="26">{safe(title)}</text>',
        f'<text class="note" x="16" y="46">{safe(note)}</text>',
    ]
    top = 64
    for panel in panels.values():
        parts += _panel(panel, order, top)
        top += PANEL_HEAD + ROW * len(panel) + FOOT
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Sequence[Figure], order: Sequence[str], top: int) -> Iterator[str]:
    high = above(max(max(figure.values) for figure in panel))
    scale = (WIDTH - LEFT - RIGHT) / high
    yield f'<text x="{LEFT}" y="{top + 16}">{safe(panel[0].name)} [{safe(panel[0].unit)}]</text>'
    top += PANEL_HEAD - 8
    bottom = top + ROW * len(panel)
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = LEFT + part * high * scale
        yield f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text class="note" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{part * high:g}</text>'
    for number, figure in enumerate(panel):
        y = top + ROW * number + (ROW - BAR) / 2
        middle = y + BAR / 2
        low, most = (LEFT + value * scale for value in (min(figure.values), max(figure.values)))
        ratio = "" if figure.ratio is None else f" ({digits(figure.ratio)} &#215;)"
        yield (
            f'<text x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{safe(short(figure.peer, 20))}</text>'
            f'<rect x="{LEFT}" y="{y:.1f}" width="{figure.median * scale:.1f}" height="{BAR}" '
            f'fill="{colour(order.index(figure.peer))}" fill-opacity="0.85"/>'
            f'<line class="frame" x1="{low:.1f}" y1="{middle:.1f}" x2="{most:.1f}" y2="{middle:.1f}"/>'
            f'<text x="{max(most, LEFT + figure.median * scale) + 8:.1f}" y="{middle + 4:.1f}">'
            f"{digits(figure.median)}{ratio}</text>"
        )

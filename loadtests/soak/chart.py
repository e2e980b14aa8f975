"""The plot of a soak, as SVG: a panel for each kind of series, a line for each series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, PANEL, GAP, LEFT, LEGEND = 1_100, 150, 46, 70, 300
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b", "#7f7f7f", "#17becf")
"""Colours that most colour-blind people can distinguish (Okabe and Ito), and some more."""

Points = Sequence[tuple[float, float]]


def chart(series: Mapping[str, Points]) -> str:
    """All series, in panels by the first words of their names."""
    panels: defaultdict[str, dict[str, Points]] = defaultdict(dict)
    for name, points in series.items():
        kind, _, rest = name.partition(", ")
        panels[kind][rest or kind] = points
    height = len(panels) * (PANEL + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">'
    ]
    parts.append(f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>')
    for number, (kind, lines) in enumerate(panels.items()):
        parts += _panel(kind, lines, GAP + number * (PANEL + GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(kind: str, lines: Mapping[str, Points], top: int) -> list[str]:
    ends_s = max((points[-1][0] for points in lines.values() if points), default=1.0) or 1.0
    highest = max((value for points in lines.values() for _, value in points), default=1.0) or 1.0
    right = WIDTH - LEGEND

    def at(point: tuple[float, float]) -> str:
        x = LEFT + point[0] / ends_s * (right - LEFT)
        return f"{x:.1f},{top + PANEL * (1 - point[1] / highest):.1f}"

    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(kind)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = top + PANEL * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{highest * share:,.4g}</text>')
    parts.append(f'<text x="{right}" y="{top + PANEL + 14}" text-anchor="end">{ends_s / 60:.1f} min</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        dashes = ' stroke-dasharray="6 3"' if number >= len(COLOURS) else ""
        line = " ".join(map(at, points))
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5"{dashes} points="{line}"/>')
        y = top + 10 + number * 14
        parts.append(f'<text x="{right + 12}" y="{y}" fill="{colour}">{escape(name)}</text>')
    return parts

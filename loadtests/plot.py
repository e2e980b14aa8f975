"""What a whole run of the benchmark leaves in the repository: the plot, and the tables of figures in the README.

    python -m loadtests.plot [--check]

Reads `loadtests/results/bench.json`, writes `docs/images/bench.svg` and what stands between the marks in `README.md`
(`<!-- bench: NAME -->`, `<!-- bench end -->`), so that no figure is copied by hand. `make bench` does the same at its end.
`--check` writes nothing, and exits with 1 if a file is not what the report makes it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from loadtests.bench.plan import WHOLE_REPORT
from loadtests.soak.chart import COLOURS

REPOSITORY = Path(__file__).parents[1]
PLOT = REPOSITORY / "docs" / "images" / "bench.svg"
README = REPOSITORY / "README.md"

CONNECTIONS = 50
SYSTEMS = {
    "gate": "Gate",
    "redis lua": "Redis, a Lua script that decides the same",
    "redis plain": "Redis, plain reads",
}
SPREADS = {"uniform": "every User equally often", "zipf": "few Users get most messages (Zipf 1.1)"}

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BAR, PANEL_GAP = 960, 380, 70, 20, 84, 27, 30
PLOT_HEIGHT = HEIGHT - TOP - 74
STEP_PER_S = 100_000

FIGURES = {
    "may-send": "a check in the router's own process",
    "roundtrip": "a check over RESP",
    "mcheck": "one sender, 100 recipients in one call",
    "http-batch": "checks over HTTP",
    "ack": "a write",
    "restart": "a restart",
    "size": "facts on disk",
    "user-calls": "RongCloud's user API",
    "presence-churn": "Presence",
    "presence": "Presence",
    "gateway-death": "a dead Gateway",
    "websockets": "WebSockets",
    "websocket-kicks": "a kick",
    "websocket-storm": "a reconnect storm",
    "casbin": "peers in-process",
    "cedarpy": "peers in-process",
}
"""Subjects of the second table, in its order, with what each is about."""

Report = Mapping[str, Any]


def main() -> int:
    """Publish, or check that nothing is left to publish."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.plot", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is out of date")
    if not parser.parse_args().check:
        publish()
        return 0
    stale = [path.relative_to(REPOSITORY) for path, text in published().items() if path.read_text() != text]
    for path in stale:
        print(f"{path} is not what bench.json makes it: run .venv/bin/python -m loadtests.plot", file=sys.stderr)
    return 1 if stale else 0


def publish() -> None:
    """Write every file that shows figures of the report."""
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    for path, text in published().items():
        path.write_text(text)


def published() -> dict[Path, str]:
    """Every file that shows figures of the report, with the text that the report makes it have."""
    report: Report = json.loads(WHOLE_REPORT.read_text())
    parts = {"conditions": conditions(report), "checks": checks_table(report), "figures": figures_table(report)}
    return {PLOT: plot(report), README: filled_in(README.read_text(), parts)}


def filled_in(text: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its marks."""
    marked = re.compile(r"<!-- bench: (\w+) -->\n.*?<!-- bench end -->", re.DOTALL)
    # GitHub reads Markdown below a comment as part of it unless a blank line comes between.
    return marked.sub(lambda found: f"<!-- bench: {found[1]} -->\n\n{parts[found[1]]}\n\n<!-- bench end -->", text)


def conditions(report: Report) -> str:
    """When, where and on what it was measured."""
    machine = report["machine"]
    return (
        f"Measured on {report['at'][:10]}: {machine['cpu']}, {machine['cores']} cores that servers and load clients share,\n"
        f"Linux {machine['kernel'].partition('-')[0]}, Python {machine['python']}; "
        f"{report['users']:,} Users, {report['edges']:,} list entries;\n"
        f"medians of {report['rounds']} rounds of {report['seconds']} s."
    )


def checks_table(report: Report) -> str:
    """Checks a second over RESP, by pairs and pipeline."""
    lines = [
        "| pairs, pipeline | Gate | Redis, Lua script | Gate to Lua | Redis, plain reads |",
        "| --- | --- | --- | --- | --- |",
    ]
    for spread, cells in _cells(report).items():
        for cell in cells:
            gate, lua, plain = (cell[system]["checks_per_s"] for system in SYSTEMS)
            lines.append(f"| {spread}, {cell['pipeline']} | {gate:,} | {lua:,} | {gate / lua:.2f} x | {plain:,} |")
    return "\n".join(lines)


def figures_table(report: Report) -> str:
    """The other rows, as the benchmark words them."""
    lines = ["| about | what | measured |", "| --- | --- | --- |"]
    for subject, about in FIGURES.items():
        rows = [row for row in report["rows"] if row["row"] == subject]
        lines += [f"| {about} | {row['what']} | {row['measured']} |" for row in rows]
    return "\n".join(lines)


def plot(report: Report) -> str:
    """Checks a second as bars: a panel for each kind of pairs, a group for each pipeline, a bar for each system."""
    panels = _cells(report)
    highest = max(cell[system]["checks_per_s"] for cells in panels.values() for cell in cells for system in SYSTEMS)
    top_per_s = -(-highest // STEP_PER_S) * STEP_PER_S
    machine = report["machine"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        "<title>Checks a second: Gate, and Redis with the same facts</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(
            LEFT,
            24,
            f"Checks a second over RESP, {CONNECTIONS} connections, one Gate worker, one Redis",
            weight="bold",
            size=15,
        ),
        *_legend(),
        *_scale(top_per_s),
    ]
    step = (WIDTH - LEFT - RIGHT + PANEL_GAP) / max(1, len(panels))
    for number, (spread, cells) in enumerate(panels.items()):
        parts += _panel(LEFT + number * step, step - PANEL_GAP, SPREADS[spread], cells, top_per_s)
    source = (
        f"{report['at'][:10]}, {machine['cpu']}, {machine['cores']} cores, {report['edges']:,} list entries; make bench"
    )
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 10, source, anchor="end", size=11))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cells(report: Report) -> dict[str, list[dict[str, Any]]]:
    """By the kind of pairs, what was measured at each pipeline."""
    rows = [row for row in report["rows"] if row["row"] == "checks"]
    found = {spread: row for spread in SPREADS for row in rows if f", {spread} pairs" in row["what"]}
    return {
        spread: [cell for cell in row["detail"]["cells"] if cell["connections"] == CONNECTIONS]
        for spread, row in found.items()
    }


def _legend() -> list[str]:
    parts, x = [], float(LEFT)
    for name, colour in zip(SYSTEMS.values(), COLOURS, strict=False):
        parts.append(f'<rect x="{x:.0f}" y="40" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, 51, name))
        x += 48 + 6.6 * len(name)
    return parts


def _scale(top_per_s: int) -> list[str]:
    parts = []
    for value in range(0, top_per_s + 1, STEP_PER_S):
        y = TOP + PLOT_HEIGHT * (1 - value / top_per_s)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value // 1_000} k" if value else "0", anchor="end"))
    return parts


def _panel(left: float, width: float, title: str, cells: list[dict[str, Any]], top_per_s: int) -> list[str]:
    parts = [_text(left + width / 2, HEIGHT - 34, title, anchor="middle", weight="bold")]
    for number, cell in enumerate(cells):
        middle = left + width * (number + 0.5) / len(cells)
        parts.append(_text(middle, TOP + PLOT_HEIGHT + 18, f"pipeline {cell['pipeline']}", anchor="middle"))
        for place, (system, colour) in enumerate(zip(SYSTEMS, COLOURS, strict=False)):
            per_s = cell[system]["checks_per_s"]
            height = PLOT_HEIGHT * per_s / top_per_s
            x, y = middle + (place - len(SYSTEMS) / 2) * BAR, TOP + PLOT_HEIGHT - height
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{BAR - 3}" height="{height:.1f}" fill="{colour}"/>')
            parts.append(_text(x + (BAR - 3) / 2, y - 4, f"{per_s / 1_000:.0f}", anchor="middle", size=10))
    return parts


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 12) -> str:
    given = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
    return f"<text {given}>{escape(words)}</text>"


if __name__ == "__main__":
    sys.exit(main())

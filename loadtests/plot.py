"""The files of a whole run of the benchmark in the repository: the plot, and the tables of figures in the README.

    python -m loadtests.plot [--check]

Reads `loadtests/results/bench.json`, writes `docs/images/bench.svg` and what stands between the marks in `README.md`
(`<!-- bench: NAME -->`, `<!-- bench end -->`), so that no figure is copied by hand. `make bench` does the same at its end.
`docs/images/bench.png` is the plot as Chromium draws it; without Chromium it stays as it is.
`--check` writes nothing, and exits with 1 if a file is not what the report makes it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from loadtests.bench.plan import WHOLE_REPORT
from loadtests.bench.turns import ratio
from loadtests.soak.chart import COLOURS

REPOSITORY = Path(__file__).parents[1]
PLOT = REPOSITORY / "docs" / "images" / "bench.svg"
IMAGE = PLOT.with_suffix(".png")
README = REPOSITORY / "README.md"

CONNECTIONS = 50
SYSTEMS = {
    "gate": "Gate",
    "gate without core": "Gate, no compiled core",
    "redis lua": "Redis, Lua script",
    "redis plain": "Redis, plain reads",
    "sismember": "one SISMEMBER",
    "ping": "PING",
    "valkey lua": "Valkey, Lua script",
    "valkey sismember": "Valkey, one SISMEMBER",
}
DRAWN = ("gate", "gate without core", "redis lua", "redis plain", "sismember", "ping")
SPREADS = {"uniform": "every User equally often", "zipf": "few Users get most messages (Zipf 1.1)"}

WIDTH, LEFT, RIGHT, TOP, PANEL_GAP = 1_000, 70, 20, 84, 30
RATES_HEIGHT, CPU_TOP, CPU_HEIGHT, FOOT = 230, 400, 150, 66
SCALE_LINES = 6
"""At most, between nothing and the highest rate."""

FIGURES = {
    "may-send": "a check in the router's own process",
    "before": "Gate without its compiled core",
    "roundtrip": "a check over RESP",
    "tail": "a check over RESP, at a fixed rate",
    "pauses": "pauses of a worker",
    "postgres": "a check over RESP",
    "mcheck": "one sender, 100 recipients in one call",
    "http-check": "checks over HTTP",
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
    if not draw(PLOT, IMAGE):
        print(f"{IMAGE.name} stays as it was: no Chromium (scripts/install-test-tools installs it)", file=sys.stderr)


def draw(drawing: Path, image: Path) -> bool:
    """The SVG as a PNG, twice as large for sharp screens; False without Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return False
    from playwright.sync_api import (
        sync_playwright,  # takes long, and every process of the benchmark's clients imports this
    )

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(device_scale_factor=1.5)
        page.set_content(f'<body style="margin:0">{drawing.read_text()}</body>')
        page.locator("svg").screenshot(path=image)
        browser.close()
    return True


def published() -> dict[Path, str]:
    """Every file that shows figures of the report, with the text that the report makes it have."""
    report: Report = json.loads(WHOLE_REPORT.read_text())
    parts = {"conditions": conditions(report), "checks": checks_table(report), "figures": figures_table(report)}
    return {PLOT: plot(report), README: filled_in(README.read_text(), parts)}


def filled_in(text: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its marks; marks of other parts stay as they are."""
    marked = re.compile(r"<!-- bench: (\w+) -->\n.*?<!-- bench end -->", re.DOTALL)
    # GitHub reads Markdown below a comment as part of it unless a blank line comes between.

    def part(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- bench: {name} -->\n\n{parts[name]}\n\n<!-- bench end -->" if name in parts else found[0]

    return marked.sub(part, text)


def conditions(report: Report) -> str:
    """When, where and on what it was measured."""
    machine = report["machine"]
    text = (
        f"Measured on {report['at'][:10]}: {machine['cpu']}, {machine['cores']} cores that servers and load clients share,\n"
        f"Linux {machine['kernel'].partition('-')[0]}, Python {machine['python']}; "
        f"{report['users']:,} Users, {report['edges']:,} list entries;\n"
        f"medians of {report['rounds']} rounds of {report['seconds']} s."
    )
    clients, others = (_most(report, share) for share in ("client_cores", "others_cores"))
    if clients:
        text += (
            f" The load client took up to {clients:.2f} cores,\nand everything else on the machine up to {others:.2f}."
        )
    return text


def checks_table(report: Report) -> str:
    """Checks a second in thousands and the server's CPU time a check, by pairs and pipeline."""
    cells_by_spread = _cells(report)
    names = _measured(cells_by_spread)
    head = ["pairs, pipeline", *(SYSTEMS[name] for name in names), "Gate to Lua"]
    lines = [_line(head), _line(["---"] * len(head))]
    for spread, cells in cells_by_spread.items():
        for cell in cells:
            figures = [_figures(cell[name]) if name in cell else "" for name in names]
            times = ratio(_rounds(cell["gate"]), _rounds(cell["redis lua"]))
            lines.append(_line([f"{spread}, {cell['pipeline']}", *figures, str(times)]))
    return "\n".join(lines)


def _figures(system: Mapping[str, Any]) -> str:
    thousands = f"{system['checks_per_s'] / 1_000:,.0f}"
    return f"{thousands} / {system['cpu_us']:.2f}" if "cpu_us" in system else thousands


def _rounds(system: Mapping[str, Any]) -> list[float]:
    return [float(rate) for rate in str(system.get("rounds_per_s", system["checks_per_s"])).split()]


def _line(columns: list[str]) -> str:
    return f"| {' | '.join(columns)} |"


def _measured(cells_by_spread: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """The systems that the report has, in the order of the table."""
    return [name for name in SYSTEMS if any(name in cell for cells in cells_by_spread.values() for cell in cells)]


def _most(report: Report, share: str) -> float:
    cells = [cell for some in _cells(report).values() for cell in some]
    return max((cell[name].get(share, 0.0) for cell in cells for name in SYSTEMS if name in cell), default=0.0)


def figures_table(report: Report) -> str:
    """The other rows, as the benchmark words them."""
    lines = ["| about | what | measured |", "| --- | --- | --- |"]
    for subject, about in FIGURES.items():
        rows = [row for row in report["rows"] if row["row"] == subject]
        lines += [f"| {about} | {row['what']} | {row['measured']} |" for row in rows]
    return "\n".join(lines)


def plot(report: Report) -> str:
    """A panel for each kind of pairs: checks a second as bars, and below the server's CPU time a check, as lines."""
    panels = _cells(report)
    drawn = [name for name in _measured(panels) if name in DRAWN]
    of_all = [cell[name] for cells in panels.values() for cell in cells for name in drawn]
    highest = max(one["checks_per_s"] for one in of_all)
    step_per_s = _step(highest)
    top_per_s = -(-highest // step_per_s) * step_per_s
    used_us = [one["cpu_us"] for one in of_all if one.get("cpu_us")]
    height = (CPU_TOP + CPU_HEIGHT if used_us else TOP + RATES_HEIGHT) + FOOT
    machine = report["machine"]
    title = f"Checks a second over RESP, {CONNECTIONS} connections, one Gate worker, one Redis"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        "<title>Checks a second, and CPU time a check: Gate, and Redis with the same facts</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        text(LEFT, 24, title, weight="bold", size=15),
        *_legend(drawn),
        *(
            _grid(TOP + RATES_HEIGHT * (1 - value / top_per_s), _short(value))
            for value in range(0, top_per_s + 1, step_per_s)
        ),
    ]
    width = (WIDTH - LEFT - RIGHT + PANEL_GAP) / max(1, len(panels))
    for number, cells in enumerate(panels.values()):
        parts += _bars(LEFT + number * width, width - PANEL_GAP, cells, drawn, top_per_s)
    if used_us:
        parts.append(
            text(LEFT, CPU_TOP - 18, "CPU time of the server a check, us (logarithmic)", weight="bold", size=15)
        )
        decades = range(math.floor(math.log10(min(used_us))), math.ceil(math.log10(max(used_us))) + 1)
        parts += [_grid(_cpu_y(10.0**decade, decades), f"{10.0**decade:g}") for decade in decades]
        for number, cells in enumerate(panels.values()):
            parts += _lines(LEFT + number * width, width - PANEL_GAP, cells, drawn, decades)
    for number, spread in enumerate(panels):
        middle = LEFT + number * width + (width - PANEL_GAP) / 2
        parts.append(text(middle, height - 30, SPREADS[spread], anchor="middle", weight="bold"))
    source = (
        f"{report['at'][:10]}, {machine['cpu']}, {machine['cores']} cores, {report['edges']:,} list entries; make bench"
    )
    parts.append(text(WIDTH - RIGHT, height - 8, source, anchor="end", size=11))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cells(report: Report) -> dict[str, list[dict[str, Any]]]:
    """By the kind of pairs, what was measured at each pipeline."""
    rows = [row for row in report["rows"] if row["row"] == "checks" and "cells" in row["detail"]]
    found = {spread: row for spread in SPREADS for row in rows if f", {spread} pairs" in row["what"]}
    return {
        spread: [cell for cell in row["detail"]["cells"] if cell["connections"] == CONNECTIONS]
        for spread, row in found.items()
    }


def _step(highest: int) -> int:
    """Between two lines of the scale: 1, 2 or 5 times a power of ten."""
    power = int(10 ** math.floor(math.log10(highest / SCALE_LINES)))
    return next(times * power for times in (1, 2, 5, 10) if times * power * SCALE_LINES >= highest)


def _short(per_s: float) -> str:
    return "0" if not per_s else f"{per_s / 1e6:.1f} M" if per_s >= 1e6 else f"{per_s / 1e3:.0f} k"


def _legend(drawn: list[str]) -> list[str]:
    parts, x = [], float(LEFT)
    for name, colour in zip(drawn, COLOURS, strict=False):
        parts.append(f'<rect x="{x:.0f}" y="40" width="12" height="12" fill="{colour}"/>')
        parts.append(text(x + 18, 51, SYSTEMS[name]))
        x += 48 + 6.6 * len(SYSTEMS[name])
    return parts


def _grid(y: float, words: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
    return f"{line}\n{text(LEFT - 8, y + 4, words, anchor='end')}"


def _bars(left: float, width: float, cells: list[dict[str, Any]], drawn: list[str], top_per_s: int) -> list[str]:
    parts, group = [], width / len(cells)
    bar = min(27.0, (group - 8) / len(drawn))
    for number, cell in enumerate(cells):
        middle = left + group * (number + 0.5)
        parts.append(text(middle, TOP + RATES_HEIGHT + 18, f"pipeline {cell['pipeline']}", anchor="middle"))
        for place, (system, colour) in enumerate(zip(drawn, COLOURS, strict=False)):
            per_s = cell[system]["checks_per_s"]
            height = RATES_HEIGHT * per_s / top_per_s
            x, y = middle + (place - len(drawn) / 2) * bar, TOP + RATES_HEIGHT - height
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar - 2:.1f}" height="{height:.1f}" fill="{colour}"/>')
            parts.append(text(x + (bar - 2) / 2, y - 4, _short(per_s).replace(" ", ""), anchor="middle", size=7))
    return parts


def _cpu_y(used_us: float, decades: range) -> float:
    share = (math.log10(used_us) - decades[0]) / max(1, decades[-1] - decades[0])
    return CPU_TOP + CPU_HEIGHT * (1 - share)


def _lines(left: float, width: float, cells: list[dict[str, Any]], drawn: list[str], decades: range) -> list[str]:
    places = [left + width * (number + 0.5) / len(cells) for number in range(len(cells))]
    parts = [
        text(x, CPU_TOP + CPU_HEIGHT + 18, f"pipeline {cell['pipeline']}", anchor="middle")
        for x, cell in zip(places, cells, strict=True)
    ]
    for system, colour in zip(drawn, COLOURS, strict=False):
        used_us = [cell[system]["cpu_us"] for cell in cells]
        points = [f"{x:.1f},{_cpu_y(one, decades):.1f}" for x, one in zip(places, used_us, strict=True) if one]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in (point.split(",") for point in points)
        ]
    return parts


def text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 12) -> str:
    """Words of a drawing."""
    given = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
    return f"<text {given}>{escape(words)}</text>"


if __name__ == "__main__":
    sys.exit(main())

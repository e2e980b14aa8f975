"""The files of `python -m loadtests.scale` in the repository: the report, the plot, a table in `docs/operations.md`, and a
line in the README.

    python -m loadtests.scale.shown

draws and fills in again from the report alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from loadtests import plot
from loadtests.bench.table import RESULTS
from loadtests.soak.chart import COLOURS

REPORT = RESULTS / "scale.json"
PLOT = plot.PLOT.with_name("scale.svg")
IMAGE = PLOT.with_suffix(".png")
PAGE = plot.REPOSITORY / "docs" / "operations.md"
AS_ELSEWHERE = "as elsewhere"
WORKLOADS = {
    AS_ELSEWHERE: "400,000 pairs of random Users",
    "many": "1,500,000 pairs: more Users than a worker remembers",
    "zipf": "few Users get most messages (Zipf 1.1)",
}

WORTH_TELLING_CORES = 0.2

Report = Mapping[str, Any]
Figures = Mapping[str, Any]

WIDTH, HEIGHT, LEFT, TOP, PANEL_WIDTH, PANEL_GAP, PANEL_HEIGHT, BAR = 960, 360, 60, 84, 400, 60, 190, 32


def main() -> None:
    """Draw and fill in again."""
    publish()


def write(report: Report, path: Path) -> None:
    """The report, with the moment of it."""
    path.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **report}, indent=1) + "\n")


def publish() -> None:
    """Write every file that shows figures of the report."""
    for path, text in published().items():
        path.write_text(text)
    plot.draw(PLOT, IMAGE)


def published() -> dict[Path, str]:
    """Every file that shows figures of the report, with the text that the report makes it have."""
    report: Report = json.loads(REPORT.read_text())
    parts = {"scale": f"{conditions(report)}\n\n{table(report)}", "million": in_a_sentence(report)}
    pages = {page: plot.filled_in(page.read_text(), parts) for page in (PAGE, plot.README)}
    return {PLOT: chart(report), **pages}


def judged(report: Report, least_ratio: float, most_bytes: float, most_start_s: float) -> list[dict[str, Any]]:
    """The largest size against the bounds, and against the smallest size."""
    largest = report["sizes"][-1]
    against, an_entry = largest["checks"][AS_ELSEWHERE]["to_least"], bytes_an_entry(largest)
    start_s = median(largest["start_s"])
    what = f"{millions(largest)} entries"
    return [
        _line(
            f"checks/s, {what} against {millions(report['sizes'][0])}",
            against >= least_ratio,
            f"{against:.2f} x",
            f">= {least_ratio} x",
        ),
        _line(f"Replica, {what}", an_entry <= most_bytes, f"{an_entry:.1f} B an entry", f"<= {most_bytes} B"),
        _line(
            f"start to a first answered check, {what}",
            start_s <= most_start_s,
            f"{start_s:.2f} s",
            f"<= {most_start_s} s",
        ),
    ]


def _line(what: str, met: bool, measured: str, bound: str) -> dict[str, Any]:
    return {"what": what, "met": met, "measured": measured, "bound": bound}


def conditions(report: Report) -> str:
    """When, where and how it was measured."""
    machine = report["machine"]
    text = (
        f"Measured on {report['at'][:10]}: {machine['cpu']}, {machine['cores']} cores that servers and load client share,\n"
        f"Linux {machine['kernel'].partition('-')[0]}; "
        f"medians of {report['rounds']} rounds of {report['seconds']} s, sizes in turn."
    )
    others = max(cell["others_cores"] for one in report["sizes"] for cell in one["checks"].values())
    if others >= WORTH_TELLING_CORES:
        text += f"\nOther processes used up to {others:.1f} of the cores meanwhile, so times are too long, and rates too low."
    return text


def table(report: Report) -> str:
    """A column for each size."""
    sizes = report["sizes"]
    rows: list[tuple[str, list[str]]] = [
        ("Users", [f"{one['users']:,}" for one in sizes]),
        ("file, bytes an entry", [f"{one['file_bytes'] / 1e9:.2f} GB, {bytes_an_entry(one):.1f}" for one in sizes]),
        ("load, entries a second", [f"{one['load_s']:.0f} s, {one['entries'] / one['load_s']:,.0f}" for one in sizes]),
        ("… memory, disk at most", [_most(one) for one in sizes]),
        ("start to a first answered check", [f"{median(one['start_s']):.2f} s" for one in sizes]),
        ("`Replica.open` and a first check", [f"{one['open_ms']:.0f} ms" for one in sizes]),
        ("`may_send` hot / Users asked before / new", [_in_process(one) for one in sizes]),
        ("scrub of the file, at low priority", [f"{one['scrub_s']:.0f} s" for one in sizes]),
        ("memory of a worker, at the end", [f"{one['worker_memory_bytes'] / 1e6:.0f} MB" for one in sizes]),
    ]
    rows += [
        (f"checks/s, CPU: {words}", [_checks(one["checks"][name]) for one in sizes])
        for name, words in WORKLOADS.items()
    ]
    head = [
        "| list entries | " + " | ".join(f"{one['entries']:,}" for one in sizes) + " |",
        "| --- " * (len(sizes) + 1) + "|",
    ]
    return "\n".join(head + [f"| {what} | " + " | ".join(cells) + " |" for what, cells in rows])


def in_short(one: Figures) -> str:
    """The rows that are known before checks over RESP are measured."""
    return (
        f"{bytes_an_entry(one):.1f} B an entry, loaded in {one['load_s']:.0f} s ({_most(one)}), "
        f"first check after {median(one['start_s']):.2f} s, may_send {_in_process(one)}"
    )


def in_a_sentence(report: Report) -> str:
    """For the README."""
    least, largest = report["sizes"][0], report["sizes"][-1]
    return (
        f"{millions(largest)} list entries of {largest['users'] // 1_000_000} million Users: "
        f"{largest['file_bytes'] / 1e9:.1f} GB on disk and as much of the page cache,\n"
        f"{largest['checks'][AS_ELSEWHERE]['to_least']:.2f} x the checks a second of {millions(least)}, "
        f"a first check {median(largest['start_s']):.1f} s after the start\n([sizes](docs/operations.md#sizes))."
    )


def bytes_an_entry(one: Figures) -> float:
    """Of the file, Users included."""
    return float(one["file_bytes"] / one["entries"])


def millions(one: Figures) -> str:
    """The size in words."""
    return f"{one['asked_for'] / 1e6:g} million"


def _most(one: Figures) -> str:
    return f"{one['load_memory_bytes'] / 1e6:.0f} MB, {one['load_disk_bytes'] / 1e9:.2f} GB"


def _in_process(one: Figures) -> str:
    return f"{one['hot_ns']:,} / {one['seen_ns']:,} / {one['new_ns']:,} ns"


def _checks(one: Figures) -> str:
    return f"{one['checks_per_s']:,}, {one['cpu_us']:.2f} us, {one['to_least']:.2f} x"


def chart(report: Report) -> str:
    """Checks a second and the server's CPU time a check: a panel each, a group for each size, a bar for each workload."""
    machine, sizes = report["machine"], report["sizes"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        "<title>Checks over more and more list entries</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        plot.text(LEFT, 24, "Checks over more and more list entries: one worker, pipeline 64", weight="bold", size=15),
    ]
    x = float(LEFT)
    for words, colour in zip(WORKLOADS.values(), COLOURS, strict=False):
        parts.append(f'<rect x="{x:.0f}" y="40" width="12" height="12" fill="{colour}"/>')
        parts.append(plot.text(x + 18, 51, words))
        x += 44 + 6.2 * len(words)
    parts += _panel(LEFT, "thousand checks a second", sizes, "checks_per_s", 1e-3, "{:.0f}")
    parts += _panel(LEFT + PANEL_WIDTH + PANEL_GAP, "server CPU a check, us", sizes, "cpu_us", 1, "{:.2f}")
    source = f"{report['at'][:10]}, {machine['cpu']}, {machine['cores']} cores; python -m loadtests.scale"
    parts.append(plot.text(WIDTH - 20, HEIGHT - 10, source, anchor="end", size=11))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(left: float, title: str, sizes: list[Figures], field: str, unit: float, written: str) -> list[str]:
    highest = max(one["checks"][name][field] for one in sizes for name in WORKLOADS)
    bottom = TOP + PANEL_HEIGHT
    parts = [
        plot.text(left, TOP - 8, title, weight="bold"),
        f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{bottom}" y2="{bottom}" stroke="#999"/>',
    ]
    for number, one in enumerate(sizes):
        middle = left + PANEL_WIDTH * (number + 0.5) / len(sizes)
        parts.append(plot.text(middle, bottom + 18, f"{millions(one)} entries", anchor="middle"))
        of_file = f"{one['file_bytes'] / 1e9:.2f} GB, start {median(one['start_s']):.1f} s"
        parts.append(plot.text(middle, bottom + 34, of_file, anchor="middle", size=10))
        for place, (name, colour) in enumerate(zip(WORKLOADS, COLOURS, strict=False)):
            value = one["checks"][name][field]
            height = (PANEL_HEIGHT - 24) * value / highest
            x, y = middle + (place - len(WORKLOADS) / 2) * BAR, bottom - height
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{BAR - 3}" height="{height:.1f}" fill="{colour}"/>')
            shown = written.format(value * unit)
            parts.append(plot.text(x + (BAR - 3) / 2, y - 4, shown, anchor="middle", size=10))
    return parts


if __name__ == "__main__":
    main()

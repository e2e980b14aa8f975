"""Draws the pictures of the documentation: `docs/images/decision.svg`, `flow.svg`, `write.svg`.

    .venv/bin/python -m scripts.pictures            write them
    .venv/bin/python -m scripts.pictures --check    fail if one differs from what would be drawn

The decision is drawn from the table of rules in `gate.core.decide`, and the processes of a node from `gate.option_values`, so
that a picture can't show what the code no longer does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import get_args

from gate.console.labels import RULES as IN_WORDS
from gate.core.decide import RULES
from gate.option_values import Role

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 760
# Colours that are read on a white and on a dark page; the text of a box is on the box's own ground.
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1a1a1a }
  .small { font-size: 12px; fill: #444 }
  .code { font-family: ui-monospace, monospace; font-size: 13px }
  .box { fill: #fff; stroke: #5b6b7b; stroke-width: 1.5 }
  .hot { fill: #e3f4e8; stroke: #1a7f4b; stroke-width: 1.5 }
  .bad { fill: #fdeaea; stroke: #b3261e; stroke-width: 1.5 }
  .truth { fill: #fff4dc; stroke: #946200; stroke-width: 1.5 }
  .line { stroke: #5b6b7b; stroke-width: 1.5; fill: none; marker-end: url(#end) }
"""
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
    'aria-label="{label}">\n<style>{style}</style>\n<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" '
    'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#5b6b7b"/></marker></defs>\n'
    '<rect width="100%" height="100%" fill="#f6f7f9"/>'
)


class Drawing:
    """An SVG file in the making. Places are in pixels, from the upper left corner."""

    def __init__(self, height: int, label: str) -> None:
        self._parts = [_HEAD.format(width=WIDTH, height=height, label=escape(label), style=STYLE)]

    def box(self, x: int, y: int, width: int, height: int, lines: Iterable[str], kind: str = "box") -> None:
        """A box with lines of text in its middle; the first is larger than the others."""
        shown = list(lines)
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        top = y + height / 2 - (len(shown) - 1) * 8.5 + 5
        for number, line in enumerate(shown):
            self.text(x + width // 2, top + number * 17, line, "small" if number else "", "middle")

    def text(self, x: float, y: float, line: str, kind: str = "", anchor: str = "start") -> None:
        """One line of text at its base line."""
        self._parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(line)}</text>')

    def arrow(self, *places: tuple[int, int]) -> None:
        """A line through places, with a point at its end."""
        self._parts.append('<path class="line" d="M' + " L".join(f"{x} {y}" for x, y in places) + '"/>')

    def lifeline(self, x: int, top: int, bottom: int) -> None:
        """A dashed vertical line below who takes part."""
        self._parts.append(f'<path d="M{x} {top} L{x} {bottom}" stroke="#c3cad2" stroke-dasharray="4 4"/>')

    def done(self) -> str:
        """The file's text."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"


def decision() -> str:
    """The rules in their order: the first that denies gives the reason."""
    step, top = 58, 70
    height = top + step * len(RULES) + 60
    drawn = Drawing(height, f"The decision: {len(RULES)} rules in order, the first that denies gives the reason")
    drawn.box(20, 16, 520, 36, ["May A message B?"])
    for number, (word, _) in enumerate(RULES):
        y = top + number * step
        drawn.arrow((280, y - 18), (280, y))
        drawn.box(20, y, 520, 40, [f"{number + 1}. {IN_WORDS[word]}"])
        drawn.arrow((540, y + 20), (585, y + 20))
        drawn.text(560, y + 14, "no", "small", "middle")
        drawn.box(585, y + 2, 165, 36, [word], "bad")
    end = top + len(RULES) * step
    drawn.arrow((280, end - 18), (280, end))
    drawn.text(292, end - 5, "each holds", "small")
    drawn.box(20, end, 520, 40, ["allowed"], "hot")
    return drawn.done()


def flow() -> str:
    """Where facts go: written once, read from the copy of the node that is asked."""
    drawn = Drawing(470, "Writes go to Redis and come back to every node's Replica, from which checks are answered")
    drawn.box(20, 20, 220, 44, ["app servers, operators", "RongCloud's API, /v1, console"])
    drawn.box(270, 20, 220, 44, ["Gateways, apps, web pages", "leases, Sessions, Presence"])
    drawn.box(520, 20, 220, 44, ["message router", "GATE.CHECK, GATE.ROUTE"])
    drawn.box(20, 120, 470, 44, ["Redis: the truth", "one Lua script a write: state and its Change, together"], "truth")
    drawn.arrow((130, 64), (130, 120))
    drawn.arrow((380, 64), (380, 120))
    drawn.arrow((255, 164), (255, 222))
    drawn.text(265, 198, "a Changelog stream for each Partition", "small")
    drawn.box(20, 222, 470, 44, ["replicator", "a snapshot, then every Change, in one transaction a batch"])
    drawn.arrow((255, 266), (255, 316))
    drawn.box(20, 316, 470, 44, ["Replica: one memory-mapped file a node", "Redis may be away: checks go on"], "hot")
    drawn.box(540, 222, 200, 138, ["hot workers", "no network, no waiting:", "a verdict in microseconds"], "hot")
    drawn.arrow((490, 338), (540, 338))
    drawn.arrow((630, 64), (630, 222))
    roles = ", ".join(role for role in get_args(Role))
    drawn.text(20, 400, f"Processes of a node: {roles}, and the supervisor that restarts them.", "small")
    drawn.text(20, 422, "Every other node follows the same streams, with a Replica of its own.", "small")
    drawn.text(20, 444, "Routers may also read the Replica in their own process: Python, C, Go, Java, Node.", "small")
    return drawn.done()


_WRITE = (
    (0, 1, "POST /v1/bans"),
    (1, 2, "script: Ban, Change 42"),
    (2, 1, "done; live nodes"),
    (2, 3, "Change 42"),
    (2, 4, "Change 42"),
    (3, 1, "applied up to 42"),
    (4, 1, "applied up to 42"),
    (1, 0, "200, X-Gate-Applied: all"),
    (5, 3, "GATE.CHECK, at once"),
    (3, 5, "0: sender-banned"),
)
"""From whom, to whom, and what, by number of `_WHO`."""
_WHO = ("app server", "HTTP", "Redis", "Replica here", "other Replicas", "router")


def write() -> str:
    """An acknowledged write: the answer comes when every live node decides by it."""
    step, top = 44, 84
    height = top + step * len(_WRITE) + 20
    drawn = Drawing(height, "A write is answered when every live node has applied it")
    places = [70 + number * 124 for number in range(len(_WHO))]
    for x, name in zip(places, _WHO, strict=True):
        kind = "truth" if name == "Redis" else "hot" if name.startswith("Replica") else "box"
        drawn.box(x - 58, 16, 116, 34, [name], kind)
        drawn.lifeline(x, 50, height - 12)
    for number, (start, end, what) in enumerate(_WRITE):
        y = top + number * step
        drawn.arrow((places[start], y), (places[end], y))
        drawn.text((places[start] + places[end]) / 2, y - 6, what, "small", "middle")
    return drawn.done()


PICTURES = {"decision.svg": decision, "flow.svg": flow, "write.svg": write}


def main(arguments: list[str]) -> int:
    """The exit status: 1 if a picture differs and is only checked."""
    differ = [name for name, draw in PICTURES.items() if not _is_drawn(name, draw())]
    if arguments == ["--check"]:
        print("\n".join(f"{name} differs: run .venv/bin/python -m scripts.pictures" for name in differ), end="")
        return 1 if differ else 0
    for name in differ:
        (IMAGES / name).write_text(PICTURES[name]())
        print(f"drew docs/images/{name}")
    return 0


def _is_drawn(name: str, text: str) -> bool:
    return (IMAGES / name).exists() and (IMAGES / name).read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

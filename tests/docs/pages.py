"""The documentation's pages, and the names in them that the program must know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    str(page.relative_to(REPOSITORY))
    for page in [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *REPOSITORY.glob("docs/**/*.md"),
        *REPOSITORY.glob("deploy/**/*.md"),
    ]
)


def page_text(page: str) -> str:
    """One page."""
    return (REPOSITORY / page).read_text()


def all_text() -> str:
    """All pages, one after the other."""
    return "\n".join(map(page_text, PAGES))


def resp_commands(text: str) -> set[str]:
    """Every `GATE.NAME`."""
    return set(re.findall(r"\bGATE\.[A-Z]+\b", text))


def endpoints(text: str) -> set[str]:
    """Every path under the prefixes that HTTP serves; a trailing `.` ends a sentence."""
    of_v1 = r"v1/presence/[a-z]+|(?:client/)?v1/[a-z-]+(?:/\{[a-z]+\}(?:/[a-z-]+)?)*"
    of_none = r"healthz|readyz|metrics|openapi\.json|docs"
    paths = re.findall(rf"(?<![\w.{{}}/-])(/(?:user/[a-zA-Z/]+\.json|{of_v1}|{of_none}))(?!\w)", text)
    return set(paths)


def metrics(text: str) -> set[str]:
    """Every metric that is named in code type."""
    return set(re.findall(r"`(gate_[a-z_]+)`", text)) - NOT_METRICS - libgate_calls()


def libgate_calls() -> set[str]:
    """The calls of the C library."""
    return set(re.findall(r"\b(gate_[a-z_]+)\(", (REPOSITORY / "gate" / "native" / "gate.h").read_text()))


NOT_METRICS = {"gate_version", "gate_checks", "gate_denied"}
"""Fields of INFO on the RESP port."""


def cli_commands(text: str) -> set[tuple[str, ...]]:
    """Every `gate noun [verb]` in code type; capitals and options end it."""
    spelled = re.findall(r"(?:`|\$ \.venv/bin/)gate ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", text)
    return {tuple(one.split()) for one in spelled} - {("ready", "http"), ("serves", "checks")}  # lines of `gate serve`


def options_of_serve(text: str) -> set[str]:
    """Every `--option` that the table of options lists."""
    return set(re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE))


class Limit(NamedTuple):
    """A constant that a row of a table names."""

    name: str
    place: str | None
    """The file that holds it, where the row names one."""
    row: str


def limits(text: str) -> list[Limit]:
    """Every `NAME` of capitals in a table."""
    found: list[Limit] = []
    for line in text.splitlines():
        if line.startswith("| "):
            place = re.search(r"`(gate/[a-z0-9_/]+\.py)`", line)
            found += [Limit(name, place and place[1], line) for name in re.findall(r"`([A-Z]+_[A-Z_]+)`", line)]
    return found


def shows(row: str, name: str, value: object) -> bool:
    """Whether a row has the value of a constant, in a unit that the constant's name ends with; of a dict, each value."""
    if isinstance(value, dict):
        return all(shows(row, name, one) for one in value.values())
    assert isinstance(value, int | float), name
    if name.endswith("_MS"):
        forms = {f"{value:,} ms", f"{value / 1_000:g} s"}
    elif name.endswith("_US"):
        forms = {f"{value:,} µs", f"{value / 1_000:g} ms"}
    elif name.endswith("_S"):
        forms = {f"{value:g} s"}
    elif "_BYTES" in name:
        forms = {f"{value:,} bytes", f"{value / 1_024:g} KiB", f"{value / 1_048_576:g} MiB"}
    else:
        forms = {f"{value:,}"}
    # A number ends where neither a digit follows nor a separator with one.
    return any(re.search(rf"(?<![\d.,]){re.escape(form)}(?!\w|[.,]\d)", row) for form in forms)


def links(text: str) -> set[str]:
    """Every target of a link that is no address of another site."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {target for target in targets if "://" not in target}


def anchors(text: str) -> set[str]:
    """What the page's headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

"""The documentation's pages, and the names in them that the program must know."""

from __future__ import annotations

import re
from pathlib import Path

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
    of_v1 = r"v1/presence/[a-z]+|(?:client/)?v1/[a-z-]+(?:/\{[a-z]+\}(?:/[a-z-]+)?)?"
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


def constants(text: str) -> set[tuple[str, str | None]]:
    """Every `NAME` of capitals in a table of limits, with the file that is said to hold it."""
    found: set[tuple[str, str | None]] = set()
    for line in text.splitlines():
        if line.startswith("| "):
            place = re.search(r"`(gate/[a-z_/]+\.py)`", line)
            found |= {(name, place and place[1]) for name in re.findall(r"`([A-Z]+_[A-Z_]+)`", line)}
    return found


def links(text: str) -> set[str]:
    """Every target of a link that is no address of another site."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {target for target in targets if "://" not in target}


def anchors(text: str) -> set[str]:
    """What the page's headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

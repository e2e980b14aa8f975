"""`GATE.EXPLAIN from to SHORT`: for somebody at a terminal, the verdict in one line, then one line a rule.

Called by `checks`.
"""

from __future__ import annotations

from typing import Any

from gate.core.shown import shown_text
from gate.replica.explain import Explained


def in_lines(explained: Explained) -> list[str]:
    """The verdict first; of each rule whether it denies, and the facts it looked at. Ids are escaped, for a terminal."""
    ending = "" if explained["until"] is None else f", until {explained['until']} ms"
    exempt = ", exempt sender" if explained["exempt"] else ""
    verdict = (
        f"{explained['verdict']}: {explained['from']} {'may' if explained['allowed'] else 'may not'} "
        f"message {explained['to']}{ending}{exempt}, stale {explained['stale_ms']} ms"
    )
    return [shown_text(line) for line in (verdict, *map(_line, explained["rules"]))]


def _line(rule: Explained) -> str:
    verb = "denies" if rule["denies"] else "passes"
    until = "" if rule["until"] is None else f" until {rule['until']} ms"
    facts = ", ".join(f"{name} {_shown(value)}" for name, value in rule["facts"].items())
    return f"{rule['rule']} {verb}{until}: {facts}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)

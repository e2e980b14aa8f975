"""The results of a run, for people (a table) and for programs (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Outcome:
    """The figures that `python -m demo` prints."""

    messages: int = 0
    blacklist_entries: int = 0
    whitelist_entries: int = 0
    whitelists_on: int = 0
    bans: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    checks_per_s: int = 0
    steps_s: dict[str, float] = field(default_factory=dict)
    """How long each step took, in order."""


def as_json(outcome: Outcome) -> str:
    return json.dumps(asdict(outcome), indent=2)


def show(outcome: Outcome, console: Console) -> None:
    facts = Table(title="Facts", title_justify="left")
    facts.add_column("fact")
    facts.add_column("count", justify="right")
    facts.add_row("blacklist entries", f"{outcome.blacklist_entries:,}")
    facts.add_row("whitelists switched on", f"{outcome.whitelists_on:,}")
    facts.add_row("whitelist entries", f"{outcome.whitelist_entries:,}")
    facts.add_row("bans", f"{outcome.bans:,}")
    console.print(facts)

    steps = Table(title="Steps", title_justify="left")
    steps.add_column("step")
    steps.add_column("seconds", justify="right")
    for step, seconds in outcome.steps_s.items():
        steps.add_row(step, f"{seconds:.2f}")
    console.print(steps)

    verdicts = Table(title=f"Verdicts on {outcome.messages:,} real messages", title_justify="left")
    verdicts.add_column("verdict")
    verdicts.add_column("messages", justify="right")
    verdicts.add_column("share", justify="right")
    for word, count in sorted(outcome.verdicts.items(), key=lambda item: -item[1]):
        verdicts.add_row(word, f"{count:,}", f"{count / outcome.messages:.1%}")
    console.print(verdicts)
    console.print(f"{outcome.checks_per_s:,} checks/s through one redis-py connection, client included")

"""The results of a run, for people and for programs: a summary on the terminal, JSON, and a page of Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loadtests.chaos.run import Outcome

MAX_STORY = 60


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All figures of a run."""
    counts = outcome.ledger.counts
    options = outcome.options
    return {
        "seed": options.seed,
        "redis": options.redis,
        "durability": options.durability,
        "nodes": options.nodes,
        "seconds": round(outcome.took_s, 1),
        "faults": outcome.faults_carried_out,
        "faults_a_minute": round(outcome.faults_carried_out * 60 / max(outcome.took_s, 1), 1),
        "by_fault": dict(sorted(outcome.storm.carried_out.items())),
        "left_out": dict(outcome.storm.skipped),
        "verdicts": counts["verdicts fresh"] + counts["verdicts stale"],
        "writes": sum(value for name, value in counts.items() if name.startswith("writes ")),
        "losses_on_purpose": outcome.ledger.losses,
        "violations": outcome.ledger.broken_count,
        "incidents": len(outcome.ledger.violations),
        "slowest_healing_s": {name: round(took, 2) for name, took in sorted(outcome.healing.slowest_s.items())},
        "healings_measured": outcome.healing.measured,
        "counts": dict(sorted(counts.items())),
        "shown": [violation.as_json() for violation in outcome.ledger.violations],
        "schedule": outcome.schedule,
    }


def as_markdown(found: dict[str, Any]) -> str:
    """The same as a page."""
    lines = [
        "# Chaos",
        "",
        f"Seed {found['seed']}, {found['nodes']} nodes, Redis: {found['redis']}, durability {found['durability']}, "
        f"{found['seconds']:.0f} s. Repeat it with",
        f"`make chaos SEED={found['seed']} NODES={found['nodes']} MINUTES={max(1, round(found['seconds'] / 60))}"
        + ("`." if found["redis"] == "server" else f' ARGS="--redis {found["redis"]}"`.'),
        "",
        "| what | count |",
        "| --- | --- |",
        f"| faults | {found['faults']} ({found['faults_a_minute']} a minute) |",
        f"| verdicts checked | {found['verdicts']:,} |",
        f"| writes | {found['writes']:,} |",
        f"| times that Redis lost data on purpose | {found['losses_on_purpose']} |",
        f"| violations | {found['violations']} |",
        "",
        "| fault | times | slowest healing, s |",
        "| --- | --- | --- |",
    ]
    slowest = found["slowest_healing_s"]
    lines += [f"| {name} | {times} | {slowest.get(name, '')} |" for name, times in found["by_fault"].items()]
    lines += ["", "A healing is measured where no other fault concerned the node until it answered a write.", ""]
    lines += ["| counted | times |", "| --- | --- |"]
    lines += [f"| {name} | {times:,} |" for name, times in found["counts"].items()]
    if found["left_out"]:
        lines += ["", "Left out:", "", *(f"- {why} ({times} times)" for why, times in found["left_out"].items())]
    for number, violation in enumerate(found["shown"], 1):
        lines += ["", f"## Violation {number}: {violation['what']} at {violation['at_s']:.2f} s", "", "```text"]
        lines += [
            violation["text"],
            *violation["history"][-MAX_STORY:],
            "",
            "faults shortly before:",
            *violation["faults"],
            "```",
        ]
    return "\n".join(lines) + "\n"


def write(found: dict[str, Any], folder: Path, name: str) -> None:
    """`NAME.json` and `NAME.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    (folder / f"{name}.md").write_text(as_markdown(found))


def failure(found: dict[str, Any]) -> str:
    """The last lines of a failed run: the seed, the faults with their times, the history around each violation."""
    lines = [f"SEED={found['seed']}: {found['violations']} violations", *found["schedule"]]
    for violation in found["shown"]:
        lines += ["", f"{violation['what']} at {violation['at_s']:.2f} s: {violation['text']}"]
        lines += [f"    {line}" for line in violation["history"][-MAX_STORY:]]
        lines += ["  faults shortly before:", *(f"    {line}" for line in violation["faults"])]
    return "\n".join(lines)

"""Why a write is made, and by whom: two optional members of every body that writes, kept for the audit."""

from __future__ import annotations

from gate.core.reasons import MAX_ACTOR_CHARS, MAX_REASON_CHARS
from gate.errors import InvalidInput


def check_because(reason: str, actor: str, problems: list[InvalidInput]) -> None:
    """Add to `problems` what is too long."""
    for name, text, most in (("reason", reason, MAX_REASON_CHARS), ("actor", actor, MAX_ACTOR_CHARS)):
        if len(text) > most:
            problems.append(InvalidInput(name, f"must be at most {most} characters, {len(text)} were sent"))

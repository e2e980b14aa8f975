"""Why a write is made, and by whom: two optional members of every body that writes, kept for the audit."""

from __future__ import annotations

from gate.errors import InvalidInput

MAX_REASON_CHARS = 512
MAX_ACTOR_CHARS = 128


def check_because(reason: str, actor: str, problems: list[InvalidInput]) -> None:
    """Add to `problems` what is too long."""
    for name, text, most in (("reason", reason, MAX_REASON_CHARS), ("actor", actor, MAX_ACTOR_CHARS)):
        if len(text) > most:
            problems.append(InvalidInput(name, f"must be at most {most} characters, {len(text)} were sent"))

"""Rules for the reason and the actor of a write, for all sources: `/v1`, the console, the command line, imports.

They are in one place, so that an export of what one source accepted is accepted by every other source. Pure.
"""

from __future__ import annotations

from gate.errors import InvalidInput

# A few sentences for the next operator, stored with every Ban and audit entry.
MAX_REASON_CHARS = 512
# A name, or the id of one.
MAX_ACTOR_CHARS = 128
# The command line accepted this much up to version 0.2. An export of it must still import.
MAX_IMPORTED_ACTOR_CHARS = 256


def audit_text(text: str, parameter: str, most: int = MAX_REASON_CHARS) -> str:
    """The text, if the audit may hold it; `InvalidInput` if it is too long or not UTF-8."""
    if len(text) > most:
        raise InvalidInput(parameter, f"must be at most {most} characters, {len(text)} were given")
    # Most texts are ASCII, so an import of millions of lines seldom encodes one to check it.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(parameter, "is not UTF-8") from None
    return text

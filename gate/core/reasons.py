"""How long the reason and the actor of a write may be, wherever they come from: `/v1`, the console, the command line, imports.

One place, so that what one way accepts and an export prints is accepted by every other way. Pure.
"""

from __future__ import annotations

MAX_REASON_CHARS = 512
"""A few sentences for the next operator, kept with every Ban and audit entry."""
MAX_ACTOR_CHARS = 128
"""A name, or the id of one."""
MAX_IMPORTED_ACTOR_CHARS = 256
"""What the command line took up to version 0.2: an export of it must come back."""

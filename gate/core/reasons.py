"""Maximum lengths of the reason and the actor of a write, for all sources: `/v1`, the console, the command line, imports.

They are in one place, so that an export of what one source accepted is accepted by every other source. Pure.
"""

from __future__ import annotations

# A few sentences for the next operator, stored with every Ban and audit entry.
MAX_REASON_CHARS = 512
# A name, or the id of one.
MAX_ACTOR_CHARS = 128
# The command line accepted this much up to version 0.2. An export of it must still import.
MAX_IMPORTED_ACTOR_CHARS = 256

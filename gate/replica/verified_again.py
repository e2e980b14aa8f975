"""Verifies a User again once this Replica has moved, for a connect that Redis answered with `BARRED`.

A Change closed the User's Sessions, and this Replica had not applied it when the Token was verified. So the connect waits until
more of the User's Partition is applied, possibly that Change, and reads the facts again.

Called by the RESP port's GATE.CONNECT and by `gate.presence.app_lease`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gate.clock import monotonic_ms
from gate.core.presence import Verified
from gate.errors import Unavailable

LOOK_EVERY_S = 0.005
# Maximum wait of a connect for this Replica to apply the Change.
VERIFY_AGAIN_FOR_MS = 1_000


def verify_until_ms() -> int:
    """Return the end of a wait that begins now, on the monotonic clock."""
    return monotonic_ms() + VERIFY_AGAIN_FOR_MS


async def verified_again(look: Callable[[], Verified | None], until_ms: int) -> Verified:
    """Poll `look` until it returns something other than None, its result while no more Changes are applied.

    Raises what `look` raises, and `Unavailable` past that moment.
    """
    while monotonic_ms() < until_ms:
        if (found := look()) is not None:
            return found
        await asyncio.sleep(LOOK_EVERY_S)
    raise Unavailable("this Replica has not yet applied the Change that closed the User's Sessions; connect again")

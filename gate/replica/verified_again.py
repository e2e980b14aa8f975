"""Verifies a User again once this Replica has moved: what a connect does that Redis answers `BARRED`.

A Change closed the User's Sessions, and this Replica had not applied it when the Token was verified. So the connect waits until
more of the User's Partition is applied, which may be the Change, and asks the facts again.

Called by the RESP port's GATE.CONNECT and by `gate.presence.app_lease`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gate.clock import monotonic_ms
from gate.core.presence import Verified
from gate.errors import Unavailable

LOOK_EVERY_S = 0.005
VERIFY_AGAIN_FOR_MS = 1_000
"""How long a connect waits for this Replica to apply the Change."""


def verify_until_ms() -> int:
    """On the monotonic clock, where a connect begins to wait now."""
    return monotonic_ms() + VERIFY_AGAIN_FOR_MS


async def verified_again(look: Callable[[], Verified | None], until_ms: int) -> Verified:
    """What `look` returns as soon as it is not None, as where no more is applied than before.

    Raises what `look` raises, and `Unavailable` past that moment.
    """
    while monotonic_ms() < until_ms:
        if (found := look()) is not None:
            return found
        await asyncio.sleep(LOOK_EVERY_S)
    raise Unavailable(
        "this Replica has yet to apply the Change for which the User's Sessions were closed; connect again"
    )

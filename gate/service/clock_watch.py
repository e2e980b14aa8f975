"""Compares this node's clock with Redis's and with those of the other nodes, and warns where they differ.

Facts end by each node's own clock, so clocks that differ end them at different times; and where this node's is more than
`MOST_APART_MS` from Redis's, it sweeps nothing. The background role looks once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from gate.metrics import CLOCK_OFFSET_MS, CLOCK_OFFSET_SECONDS, CLOCK_SPREAD_MS, CLOCK_SPREAD_SECONDS
from gate.store.client import Client
from gate.store.clocks import MOST_APART_MS, WARN_APART_MS, ClockLook, Clocks, look_at_clocks

# Below `WARN_APART_MS`, so that a difference about there is not logged again and again.
AGREES_WITHIN_MS = 800
MAX_SHOWN = 3

_log = structlog.get_logger()


class ClockWatch:
    """Call `look` about once a second. `over_ms` is what may be deleted (`gate.store.clocks`)."""

    def __init__(self, client: Client, node: str, note: Callable[[str], None]) -> None:
        """`note` receives what is wrong, for people; "" where nothing is."""
        self._client = client
        self._node = node
        self._note = note
        self._clocks = Clocks()
        self._apart: dict[str, int] = {}

    @property
    def over_ms(self) -> int | None:
        """As of the newest look; None where it is not known."""
        return self._clocks.over_ms

    async def look(self) -> None:
        """Look once. Raises `StoreUnavailable`."""
        look = await look_at_clocks(self._client)
        self._clocks.note(look)
        CLOCK_OFFSET_SECONDS.set(look.own_offset_ms / 1_000)
        CLOCK_SPREAD_SECONDS.set(look.spread_ms / 1_000)
        CLOCK_OFFSET_MS.set(look.own_offset_ms)
        CLOCK_SPREAD_MS.set(look.spread_ms)
        apart = {
            node: offset_ms
            for node, offset_ms in offsets_of(look, self._node).items()
            # Two bounds, as a thermostat has: one that was reported must come closer than what is reported.
            if abs(offset_ms) >= (AGREES_WITHIN_MS if node in self._apart else WARN_APART_MS)
        }
        for node in apart.keys() - self._apart.keys():
            _log.warning("this node's clock differs from Redis's" if node == self._node
                         else "the clock of a node differs from Redis's", clock_of=node, ahead_ms=apart[node],
                         sweeps=abs(look.own_offset_ms) <= MOST_APART_MS)  # fmt: skip
        for node in self._apart.keys() - apart.keys():
            _log.info("the clocks agree again, or the node left", clock_of=node)
        self._apart = apart
        self._note("; ".join(f"clock of {node}: {shown_offset(apart[node])}" for node in sorted(apart)[:MAX_SHOWN]))


def offsets_of(look: ClockLook, own_node: str) -> Mapping[str, int]:
    """Of each node, its wall clock less Redis's; this one's as of this very look."""
    return {**look.offsets_ms, own_node: look.own_offset_ms}


def shown_offset(offset_ms: int) -> str:
    """A difference, as people read it."""
    return f"{abs(offset_ms) / 1_000:,.1f} s {'ahead of' if offset_ms > 0 else 'behind'} Redis's"

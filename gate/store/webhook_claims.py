"""Which node delivers an App's presence webhook, and the cursor of its delivery.

A claim is one node's, and renewed by it; only its owner moves the cursor. A node that has watched a claim for `CLAIM_MS` on its
own monotonic clock without seeing it renewed takes it over, and goes on from the cursor: no step of any wall clock hurries or
holds that up. Used by `gate.webhooks.presence`; methods raise `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from gate.clock import monotonic_ms
from gate.core.presence import Cursor, parse_cursor
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.client import Client
from gate.store.clocks import Watch
from gate.store.scripts import Call
from gate.store.slicing import Slices

APPS_A_PIPELINE = 500
"""So that no other caller of the connection waits for thousands of Apps."""
CLAIM_MS = 10_000
"""An owner begins nothing past it, counted from before its last renewal; another node takes over no sooner."""
_CLAIM, _GIVE_BACK, _FORGET = "1", "0", ""

_T = TypeVar("_T")


class Claim(NamedTuple):
    """What a claim gave: whether it is the caller's, and the cursor that is kept, None before there is one."""

    is_ours: bool
    cursor: Cursor | None


class Claiming(NamedTuple):
    """An App to claim, or to renew the claim of; with the cursor that is to be kept, if the caller has one."""

    app_key: str
    cursor: Cursor | None


class WebhookClaims:
    """The claims of one process, called `who`: the same name after a restart, so that it need not wait for its own."""

    def __init__(self, client: Client, who: str, clock: Callable[[], int] = monotonic_ms) -> None:
        self._client = client
        self._slices = Slices(client)
        self._who = who
        self._clock = clock
        self._watch = Watch[str]()
        self._others: dict[str, bytes] = {}
        """Of each App that another node had when it was last asked for: that claim."""

    async def claim(self, wanted: Sequence[Claiming]) -> list[Claim]:
        """Claim what is free or not renewed any more, renew and move on what is ours."""
        return await self._keep(_CLAIM, wanted)

    async def give_back(self, wanted: Sequence[Claiming]) -> None:
        """Let any node go on at once."""
        await self._keep(_GIVE_BACK, wanted)

    async def forget(self, app_keys: Sequence[str]) -> list[str]:
        """Keep nothing more of these Apps, as where they have no such webhook; answers which another process holds yet."""
        kept: list[str] = []
        for some in _pipelines(app_keys):
            found = await self._client.read(*(("EXISTS", keys.hook(app)) for app in some))
            kept += [app for app, is_there in zip(some, found, strict=True) if is_there]
        claims = await self._keep(_FORGET, [Claiming(app, None) for app in kept])
        for app in app_keys:
            if app not in kept:
                self._unwatch(app)
        return [app for app, claim in zip(kept, claims, strict=True) if not claim.is_ours]

    async def heads(self, app_keys: Sequence[str]) -> list[list[tuple[str, int]]]:
        """Where each App's feed ends, by slice: epoch and seq, ("0", 0) before there is one."""
        found: list[list[tuple[str, int]]] = []
        for some in _pipelines(app_keys):
            apps = await self._slices.look(some, lambda app, at: [("HMGET", keys.feed_meta(app, at), "epoch", "seq")])
            found += [[((epoch or b"0").decode(), int(seq or 0)) for ((epoch, seq),) in slices] for slices in apps]
        return found

    async def _keep(self, what: str, wanted: Sequence[Claiming]) -> list[Claim]:
        replies: list[tuple[int, bytes, bytes]] = []
        for some in _pipelines(wanted):
            replies += await self._client.write([self._call(what, one) for one in some])
        seen_at_ms = self._clock()  # after the answer: what it shows may have been written while it was under way
        claims: list[Claim] = []
        for one, (is_ours, cursor, present) in zip(wanted, replies, strict=True):
            if is_ours:
                self._unwatch(one.app_key)
            else:
                self._others[one.app_key] = present
                self._watch.unchanged_ms(one.app_key, present, seen_at_ms)
            claims.append(Claim(is_ours == 1, parse_cursor(cursor.decode()) if cursor else None))
        return claims

    def _call(self, what: str, one: Claiming) -> Call:
        other = self._others.get(one.app_key, b"")
        if other and self._watch.unchanged_ms(one.app_key, other, self._clock()) < CLAIM_MS:
            other = b""
        cursor = "" if one.cursor is None else str(one.cursor)
        return Call(scripts.PRESENCE_HOOK, [keys.base(one.app_key)], (self._who, what, cursor, other))

    def _unwatch(self, app_key: str) -> None:
        self._others.pop(app_key, None)
        self._watch.drop(app_key)


def _pipelines(all_of_them: Sequence[_T]) -> list[Sequence[_T]]:
    return [all_of_them[at : at + APPS_A_PIPELINE] for at in range(0, len(all_of_them), APPS_A_PIPELINE)]

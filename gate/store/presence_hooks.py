"""Who tells an App's presence webhook, and how far its receiver has heard the feed.

A claim is one node's for a while, and renewed by it; only its owner moves the cursor. One that is not renewed is free for any
node, which goes on from the cursor. Used by `gate.webhooks.presence`; methods raise `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from gate.core.presence import Cursor, cursor_told
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.client import Client
from gate.store.scripts import Call

APPS_A_PIPELINE = 500
"""So that no other caller of the connection waits for thousands of Apps."""
_GIVEN_BACK_MS = 0

_T = TypeVar("_T")


class Claim(NamedTuple):
    """What a claim gave: whether it is the caller's, and the cursor that is kept, None before there is one."""

    is_ours: bool
    cursor: Cursor | None


class Claiming(NamedTuple):
    """An App to claim, or to renew the claim of; with the cursor that is to be kept, if the caller has one."""

    app_key: str
    cursor: Cursor | None


class PresenceHooks:
    """The claims of one process, called `who`: the same name after a restart, so that it need not wait for its own."""

    def __init__(self, client: Client, who: str) -> None:
        self._client = client
        self._who = who

    async def claim(self, wanted: Sequence[Claiming], hold_ms: int) -> list[Claim]:
        """Claim what is free, renew and move on what is ours; `hold_ms` is up to a minute."""
        return [
            Claim(is_ours == 1, cursor_told(cursor.decode()) if cursor else None)
            for is_ours, cursor in await self._run(
                [self._call(one.app_key, hold_ms, "" if one.cursor is None else str(one.cursor)) for one in wanted]
            )
        ]

    async def give_back(self, wanted: Sequence[Claiming]) -> None:
        """Let any node go on at once."""
        await self.claim(wanted, _GIVEN_BACK_MS)

    async def forget(self, app_keys: Sequence[str]) -> list[str]:
        """Keep nothing more of these Apps, as where they have no such webhook; answers which another process holds yet."""
        kept: list[str] = []
        for some in _pipelines(app_keys):
            found = await self._client.read(*(("EXISTS", keys.hook(app)) for app in some))
            kept += [app for app, is_there in zip(some, found, strict=True) if is_there]
        replies = await self._run([self._call(app, "", "") for app in kept])
        return [app for app, (is_forgotten, _) in zip(kept, replies, strict=True) if not is_forgotten]

    async def heads(self, app_keys: Sequence[str]) -> list[tuple[str, int]]:
        """Where each App's feed ends: epoch and seq, ("0", 0) before there is one."""
        found: list[tuple[str, int]] = []
        for some in _pipelines(app_keys):
            replies = await self._client.read(*(("HMGET", keys.feed_meta(app), "epoch", "seq") for app in some))
            found += [((epoch or b"0").decode(), int(seq or 0)) for epoch, seq in replies]
        return found

    async def _run(self, calls: Sequence[Call]) -> list[tuple[int, bytes]]:
        replies: list[tuple[int, bytes]] = []
        for some in _pipelines(calls):
            replies += await self._client.write(some)
        return replies

    def _call(self, app_key: str, hold_ms: int | str, cursor: str) -> Call:
        return Call(scripts.PRESENCE_HOOK, [keys.base(app_key)], (self._who, hold_ms, cursor))


def _pipelines(all_of_them: Sequence[_T]) -> list[Sequence[_T]]:
    return [all_of_them[at : at + APPS_A_PIPELINE] for at in range(0, len(all_of_them), APPS_A_PIPELINE)]

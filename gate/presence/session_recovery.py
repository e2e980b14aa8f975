"""What Redis lost of a Gateway's Sessions is brought back, and what it brought back of closed ones is closed again.

After Redis came back, from an older file or from none, some of what was done through this process may not be there. What is
open by the registry and missing there is opened again: if its User may still be connected, and if it was not kicked, as far as
the feed tells. What was closed lately is closed again. All of it may be done twice without harm.

And the other way round: what others closed, by a kick or through another process, is not to be brought back later. So what is
open by the registry is looked over, some of it with each renewal, and what Redis does not have is forgotten.

Called by `session_service`, before a lease is answered; the looking over, behind that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from gate.core.presence import Verified, full_session_id
from gate.core.token import is_same_app
from gate.errors import FeedReset, FeedUnreadable
from gate.presence.registry import GatewayKey, OpenSession, Registry
from gate.store.feed import Feed, behind
from gate.store.presence import Opening, PresenceStore, opened
from gate.store.slicing import Asked

RECOVERED_AT_ONCE = 200
"""Each User is looked up on the Replica: some 2 ms, in which no check is answered."""
EVENTS_A_READ = 1_000

_log = structlog.get_logger()

T = TypeVar("T")
Reverify = Callable[[str, bytes, int], Verified | None]
"""(App key, User, when its Token was minted): whether it may still be connected, and by which Change; None if not."""


async def restore(
    store: PresenceStore, registry: Registry, held: GatewayKey, epoch: int, may_connect: Reverify
) -> None:
    """All of one Gateway. Raises `StoreUnavailable`: then it has to be done again."""
    missing = await _missing(store, held[0], registry.sessions(held, epoch))
    kicked = await _kicked(store, held) if missing else set()
    for some in _pieces(missing):
        await _open_again(store, registry, (held, epoch), [one for one in some if _id(one) not in kicked], may_connect)
    for one in missing:
        if _id(one) in kicked:
            registry.drop(held, one.user, one.stored_id)
    await _close_again(store, held, epoch, registry.closed_lately(held, epoch))


async def look_over(store: PresenceStore, registry: Registry, held: GatewayKey, epoch: int) -> None:
    """Forget some of what was closed by others. Raises `StoreUnavailable`: then the next look finds it."""
    server_id = store.client.server_id
    for some in _pieces(registry.some_sessions(held, epoch)):
        if gone := await _missing(store, held[0], some):
            # Not where it was lost, with the lease: it is for the next renewal to bring that back.
            if not await store.lease_holds(*held, epoch) or store.client.server_id != server_id:
                return
            for one in gone:
                registry.drop(held, one.user, one.stored_id)


def opening_of(by: Verified, gateway: bytes, epoch: int, kept: OpenSession, since_ms: int | None) -> Opening:
    """What the opening script is told of a Session; `since_ms` where it is brought back."""
    return Opening(
        by.app, gateway, epoch, by.user, kept.stored_id, kept.platform, kept.ip, kept.minted_at_ms,
        by.log_epoch, by.log_seq, since_ms,
    )  # fmt: skip


async def _open_again(
    store: PresenceStore,
    registry: Registry,
    under: tuple[GatewayKey, int],
    lost: Sequence[OpenSession],
    may_connect: Reverify,
) -> None:
    held, epoch = under
    tried, calls = list[OpenSession](), list[Asked]()
    for kept in lost:
        by = may_connect(held[0], kept.user, kept.minted_at_ms)
        if by is not None and is_same_app(by.app, kept.app):
            tried.append(kept)
            calls.append(store.opening(opening_of(by, held[1], epoch, kept, kept.since_ms)))
        else:
            registry.drop(held, kept.user, kept.stored_id)
    for kept, reply in zip(tried, await store.exchange(*calls), strict=True):
        if opened(reply) in ("barred", "full"):
            registry.drop(held, kept.user, kept.stored_id)


async def _close_again(store: PresenceStore, held: GatewayKey, epoch: int, gone: Sequence[tuple[bytes, str]]) -> None:
    for some in _pieces(gone):
        await store.exchange(*(store.closing(*held, epoch, user, stored_id, "closed") for user, stored_id in some))


async def _missing(store: PresenceStore, app_key: str, sessions: Sequence[OpenSession]) -> list[OpenSession]:
    missing = list[OpenSession]()
    for some in _pieces(sessions):
        users = list(dict.fromkeys(kept.user for kept in some))  # each once: the answer has all Sessions of each
        there = {one.id for found in await store.presences(app_key, users) for one in found.sessions}
        missing += [kept for kept in some if _id(kept) not in there]
    return missing


async def _kicked(store: PresenceStore, held: GatewayKey) -> set[str]:
    """Ids of this Gateway's Sessions that were kicked, as far back as the feed goes."""
    feed, kicked = Feed(store.client, held[0]), set[str]()
    after = await feed.oldest()
    while True:
        try:
            found = await feed.read(after, EVENTS_A_READ)
        except FeedUnreadable as unread:
            _log.error("kicks that are told of there are not known", app=held[0], problem=str(unread))
            after = behind(unread, after)
            continue
        except FeedReset:
            return kicked  # it is trimmed faster than it is read, or was lost meanwhile: no more can be known
        if not found:
            return kicked
        kicked |= {one.session for one in found if one.kind == "kick" and one.gateway == held[1]}
        after = found[-1].cursor
        await asyncio.sleep(0)


def _id(kept: OpenSession) -> str:
    return full_session_id(kept.stored_id, kept.user)


def _pieces(sessions: Sequence[T]) -> list[Sequence[T]]:
    return [sessions[at : at + RECOVERED_AT_ONCE] for at in range(0, len(sessions), RECOVERED_AT_ONCE)]

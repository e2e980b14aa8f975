"""Blacklists and Whitelists, and the switch that turns a User's Whitelist on.

Entries keep the order in which they were added. An entry that is added again keeps its place and takes the new end. An entry
that has ended counts as absent from that very millisecond; a sweep deletes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import repeat
from typing import NamedTuple

from gate.core.codec import pack_members
from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput, ListFull
from gate.store import keys, scripts
from gate.store.link import Command, Reply
from gate.store.writer import MAX_IDS_A_CALL, Attribution, Step, Writer, WriteReceipt

# Keeps one Change below 7 KB. `CHUNK` in lua/lib/members.lua has the same value.
MEMBERS_A_CHANGE = 100
MAX_LIST_PAGE = 1_000
# Entries that one script reads for a page, which takes some 5 ms: many may have ended and not be swept yet.
MAX_LOOKED_AT = 10_000

ADDED = {ListKind.BLACKLIST: "blocked", ListKind.WHITELIST: "admitted"}
TAKEN_OFF = {ListKind.BLACKLIST: "unblocked", ListKind.WHITELIST: "unadmitted"}


class Entry(NamedTuple):
    """One list entry; `until_ms` is `FOREVER_MS` for one without end."""

    member: bytes
    until_ms: int


class Group(NamedTuple):
    """Entries to add to one owner's list, all with one end."""

    owner: bytes
    members: Sequence[bytes]
    until_ms: int = FOREVER_MS


class Lists:
    """Adds, removes and reads entries. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def add(
        self,
        app_key: str,
        kind: ListKind,
        owner: bytes,
        members: Sequence[bytes],
        until_ms: int,
        now_ms: int,
        ceiling: int | None,
        why: str = "",
        by: str = "",
    ) -> WriteReceipt:
        """Add entries to one list. Raises `ListFull`, with none added, if it would hold more than `ceiling`."""
        return await self.add_many(app_key, kind, [Group(owner, members, until_ms)], now_ms, ceiling, why, by)

    async def add_many(
        self,
        app_key: str,
        kind: ListKind,
        groups: Sequence[Group],
        now_ms: int,
        ceiling: int | None,
        why: str = "",
        by: str = "",
    ) -> WriteReceipt:
        """Add entries to the lists of many owners. All or nothing per owner: after `ListFull` others may be written."""
        if sum(len(group.members) for group in groups) > MAX_IDS_A_CALL:
            raise InvalidInput("members", f"at most {MAX_IDS_A_CALL} in one call")
        grouped: dict[int, list[Group]] = {}
        for group in groups:
            grouped.setdefault(self._writer.partition_of(app_key, group.owner), []).append(group)
        steps = [
            self.adding(app_key, kind, partition, some, ceiling)._replace(attribution=Attribution(by, why))
            for partition, some in grouped.items()
        ]
        written, replies = await self._writer.write(app_key, steps, now_ms)
        for reply in replies:
            for _, size, adding in refusals(reply):
                raise ListFull(ceiling or 0, size, adding)
        return written

    def adding(
        self, app_key: str, kind: ListKind, partition: int, groups: Sequence[Group], ceiling: int | None
    ) -> Step:
        """Return the step that adds to lists of one Partition; also used by imports."""
        lists: list[bytes] = []
        args: list[bytes | str | int] = [ADDED[kind], ceiling or 0, FOREVER_MS]
        for owner, members, until_ms in groups:
            if not 0 < until_ms <= FOREVER_MS:
                raise InvalidInput("until", f"must be 1 to {FOREVER_MS} ms, {until_ms} was sent")
            lists += (keys.entries(partition, kind, app_key, owner), keys.ends(partition, kind, app_key, owner))
            # Without duplicates, which would be counted twice against the ceiling.
            chunks = pack_chunks(list(dict.fromkeys(members)))
            args += (owner, until_ms, len(chunks), *chunks)
        return Step(partition, scripts.LIST_ADD, lists, args)

    async def remove(
        self,
        app_key: str,
        kind: ListKind,
        owner: bytes,
        members: Sequence[bytes],
        now_ms: int,
        why: str = "",
        by: str = "",
    ) -> WriteReceipt:
        """Remove entries from one list. Entries that are not on it are accepted."""
        if len(members) > MAX_IDS_A_CALL:
            raise InvalidInput("members", f"at most {MAX_IDS_A_CALL} in one call, {len(members)} were sent")
        partition = self._writer.partition_of(app_key, owner)
        step = Step(
            partition,
            scripts.LIST_REMOVE,
            [keys.entries(partition, kind, app_key, owner), keys.ends(partition, kind, app_key, owner)],
            [TAKEN_OFF[kind], owner, pack_members(dict.fromkeys(members))],
            Attribution(by, why),
        )
        return (await self._writer.write(app_key, [step], now_ms))[0]

    async def page(
        self, app_key: str, kind: ListKind, owner: bytes, now_ms: int, before: int | None, count: int
    ) -> tuple[list[Entry], int | None]:
        """Return entries in force, newest first, older than the place `before`; and the next `before`, None at the end."""
        if not 1 <= count <= MAX_LIST_PAGE:
            raise InvalidInput("count", f"must be 1 to {MAX_LIST_PAGE}, {count} was sent")
        partition = self._writer.partition_of(app_key, owner)
        own = [keys.entries(partition, kind, app_key, owner), keys.ends(partition, kind, app_key, owner)]
        entries: list[Entry] = []
        # A script may stop early among ended entries, so one page may need several.
        place, is_over = "" if before is None else before, False
        while not is_over:
            call = scripts.Call(scripts.LIST_PAGE, own, [now_ms, place, count - len(entries), MAX_LOOKED_AT])
            place, is_whole, found, untils = await self._writer.client.query(call)
            expiries = [int(until) if until else FOREVER_MS for until in untils] or repeat(FOREVER_MS, len(found))
            # Without a call of Python for each entry, which the constructor of a `NamedTuple` is.
            entries += map(partial(tuple.__new__, Entry), zip(found, expiries, strict=True))
            is_over = bool(is_whole)
        return entries, int(place) if place else None

    async def contains(
        self, app_key: str, kind: ListKind, owner: bytes, members: Sequence[bytes], now_ms: int
    ) -> list[bool]:
        """Return whether each member has an entry in force."""
        if not members:
            return []
        partition = self._writer.partition_of(app_key, owner)
        # One pipeline, so both are read at nearly the same moment.
        orders, ends = await self._writer.client.read(
            ("ZMSCORE", keys.entries(partition, kind, app_key, owner), *members),
            ("ZMSCORE", keys.ends(partition, kind, app_key, owner), *members),
        )
        return [
            # An ended entry that is not swept yet counts as absent.
            order is not None and (end is None or int(end) > now_ms)
            for order, end in zip(orders, ends, strict=True)
        ]

    async def switch(
        self, app_key: str, users: Sequence[bytes], on: bool, now_ms: int, why: str = "", by: str = ""
    ) -> WriteReceipt:
        """Switch Users' Whitelists on or off."""
        steps = [
            self.switching(app_key, partition, group, on)._replace(attribution=Attribution(by, why))
            for partition, group in self._writer.by_partition(app_key, users).items()
        ]
        return (await self._writer.write(app_key, steps, now_ms))[0]

    def switching(self, app_key: str, partition: int, users: Sequence[bytes], on: bool) -> Step:
        """Return the step that switches Whitelists of one Partition; also used by imports."""
        return Step(
            partition,
            scripts.USER_SET,
            [keys.user(partition, app_key, user) for user in users],
            ["whitelist-switched", int(on), keys.WHITELIST_ON, "1" if on else "", *users],
        )

    async def switches(self, app_key: str, users: Sequence[bytes]) -> list[bool]:
        """Return whether each User's Whitelist is on."""
        asked: list[Command] = [
            ("HEXISTS", keys.user(self._writer.partition_of(app_key, user), app_key, user), keys.WHITELIST_ON)
            for user in users
        ]
        replies: list[Reply] = await self._writer.client.read(*asked) if asked else []
        return [bool(reply) for reply in replies]


def refusals(reply: Reply) -> list[tuple[int, int, int]]:
    """Return each full list of a step that added, as (number of its first group in the step, size, adding)."""
    return list(zip(reply[2::3], reply[3::3], reply[4::3], strict=True))


def pack_chunks(members: Sequence[bytes]) -> list[bytes]:
    """Pack members for Changes, at most `MEMBERS_A_CHANGE` each."""
    return [
        pack_members(members[first : first + MEMBERS_A_CHANGE]) for first in range(0, len(members), MEMBERS_A_CHANGE)
    ]

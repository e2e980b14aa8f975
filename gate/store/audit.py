"""The audit: who did what to which User, when, until when and why. Appended by the same scripts, so it is always consistent.

`gate.presence.kick_command` carries out a kick: one entry records the order, and its outcome replaces that entry.

There is one stream per Partition and App. An entry's id is its moment on the server's clock. Entries of all Partitions are read
in one order, the latest first, from a cursor that stays valid while new ones arrive. Kept for the App's `audit_days`.

The deployment's audit is another stream: changes of Apps and operators, and facts that Redis lost. It outlives every App, and
holds the latest 100,000 entries or slightly more (`lua/lib/deployment_audit.lua`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import msgspec

from gate.core.codec import unpack_members
from gate.core.model import FOREVER_MS
from gate.core.revision import APPS_PARTITION
from gate.errors import InvalidInput
from gate.store import keys, scripts
from gate.store.audit_order import merged, page_of_matching
from gate.store.link import Command
from gate.store.scripts import Call
from gate.store.writer import Attribution, Origin, Writer, packed_origin, unpacked_origin

MAX_AUDIT_PAGE = 1_000
LOOKED_AT_A_STEP = 1_000
# Old entries that one script deletes, in a millisecond: after `audit_days` was lowered there may be millions.
TRIMMED_A_SCRIPT = 500
# Entries of a Partition, or of the deployment, that one command of a filtered page or an export reads.
READ_AHEAD = 100
# Entries of one Partition that a query about one User reads before it returns a short page with a cursor.
MAX_LOOKED_AT = 50_000

# Kinds of entries in addition to those of Changes. Their value is JSON. For a kick: `session`, `platform` if limited to it,
# and `closed`, the number of Sessions. For a loss: `lost`, the number of facts. For webhooks: `letters`, the number of dead
# letters; or `webhook`, which of the App's two, and `outcome`. The last two are acts of an operator that change no verdict, so
# they have no Change that could be audited.
WebhookAct = Literal["webhooks-replayed", "webhooks-dropped", "webhook-tested"]
ProfileAct = Literal["profile-changed", "token-minted"]
Noted = Literal[
    "kick-ordered", "kicked", "facts-lost", "webhooks-replayed", "webhooks-dropped", "webhook-tested",
    "profile-changed", "token-minted",
]  # fmt: skip
NOTED: frozenset[str] = frozenset(get_args(Noted))

# Kinds of entries in the deployment's audit.
DeploymentKind = Literal[
    "app-created", "app-changed", "app-removed", "operator-added", "operator-changed", "operator-removed", "operator-signed-in",
    "operator-refused", "console-sessions-ended", "facts-lost",
]  # fmt: skip

_CURSOR = re.compile(r"([1-9]\d{0,15})-(\d{1,16})-(\d{1,4})")


class AuditEntry(NamedTuple):
    """One action. `until_ms` is 0 where it has no meaning; `user` is empty for an action on the App."""

    at_ms: int
    number: int
    partition: int
    kind: str
    user: bytes
    members: tuple[bytes, ...]
    until_ms: int
    value: bytes
    by: str
    why: str
    origin: Origin


class DeploymentEntry(NamedTuple):
    """One entry of the deployment's audit. `about` is an App key or an operator's name; `value` is JSON: the changes."""

    at_ms: int
    kind: str
    about: str
    value: bytes
    by: str
    why: str
    origin: Origin
    number: int = 0


class _Place(NamedTuple):
    """An entry's position among those of all Partitions. Of equal moments, the higher position is read first."""

    at_ms: int
    number: int
    partition: int

    def below(self, partition: int) -> str:
        """Return the upper bound for a Partition's entries after this position, in Redis's syntax."""
        return f"{'' if partition < self.partition else '('}{self.at_ms}-{self.number}"


class Audit:
    """Reads and trims the audit, and records kicks. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def page(
        self,
        app_key: str,
        count: int,
        *,
        user: bytes | None = None,
        from_ms: int = 0,
        to_ms: int = FOREVER_MS,
        cursor: str | None = None,
        most_looked_at: int = MAX_LOOKED_AT,
    ) -> tuple[list[AuditEntry], str | None]:
        """Return the entries from one moment to before another, latest first, and the next page's cursor, None at the end.

        For one User, a page may be short, even empty, and still have a next one: it looks at `most_looked_at` entries of its
        Partition at the most. Raises `InvalidInput`.
        """
        if not 1 <= count <= MAX_AUDIT_PAGE:
            raise InvalidInput("count", f"must be 1 to {MAX_AUDIT_PAGE}, {count} was sent")
        place = None if cursor is None else _place(cursor)
        if to_ms < 1:
            return [], None  # no entry is older, and Redis refuses a range that ends before its first id
        # An exclusive bound: entries of `to_ms` itself are not included.
        last = f"({to_ms}-0"
        if user is None:
            return await self._of_all(app_key, count, place, from_ms, last)
        return await self._of_user(app_key, user, count, place, from_ms, last, most_looked_at)

    async def matching(
        self,
        app_key: str,
        count: int,
        matches: Callable[[AuditEntry], bool],
        *,
        user: bytes | None = None,
        from_ms: int = 0,
        to_ms: int = FOREVER_MS,
        cursor: str | None = None,
    ) -> tuple[list[AuditEntry], str | None]:
        """As `page`, of the entries that match. A page may be short, even empty, and still have a next one."""
        batches = self.batches(app_key, user=user, from_ms=from_ms, to_ms=to_ms, cursor=cursor)
        return await page_of_matching(batches, count, matches, _cursor)

    async def batches(
        self,
        app_key: str,
        *,
        user: bytes | None = None,
        from_ms: int = 0,
        to_ms: int = FOREVER_MS,
        cursor: str | None = None,
    ) -> AsyncIterator[list[AuditEntry]]:
        """Yield all entries, or those of the User's Partition, the latest first, in batches. Raises `InvalidInput`."""
        place = None if cursor is None else _place(cursor)
        every = range(self._writer.partitions) if user is None else [self._writer.partition_of(app_key, user)]
        # By Partition: where to read on. One that has been read to its end is no longer in it.
        below = {p: place.below(p) if place else f"({to_ms}-0" for p in every if to_ms >= 1}
        read: dict[int, list[AuditEntry]] = {p: [] for p in below}
        while below:
            empty = [p for p in below if not read[p]]
            asked: list[Command] = [
                ("XREVRANGE", keys.audit(p, app_key), below[p], from_ms, "COUNT", READ_AHEAD) for p in empty
            ]
            for p, rows in zip(empty, await self._writer.client.read(*asked), strict=True):
                # The latest is the last, so that it is popped first.
                read[p] = [_entry(p, row) for row in reversed(rows)]
                if len(rows) < READ_AHEAD:
                    del below[p]
                else:
                    below[p] = f"({read[p][0].at_ms}-{read[p][0].number}"
            yield merged(read, below)

    async def trim(self, app_key: str, over_ms: int, kept_ms: int) -> int:
        """Delete what was older than `kept_ms` at `over_ms`, a moment passed by every clock. Returns the number of entries."""
        dropped, partitions = 0, set(range(self._writer.partitions))
        while partitions:
            calls = [
                Call(scripts.AUDIT_TRIM, [keys.audit(partition, app_key)], [over_ms, kept_ms, TRIMMED_A_SCRIPT])
                for partition in sorted(partitions)
            ]
            counts = await self._writer.client.write(calls)
            dropped += sum(counts)
            # A Partition that deleted a full batch (the script may keep one entry) probably has more.
            partitions = {
                at for at, count in zip(sorted(partitions), counts, strict=True) if count >= TRIMMED_A_SCRIPT - 1
            }
        return dropped

    async def order_kick(self, app_key: str, user: bytes, attribution: Attribution, session: str, platform: str) -> str:
        """Record that Sessions are about to be closed, all or those named. Returns the id of the entry."""
        return await self._note(app_key, "kick-ordered", user, attribution, _which(session, platform))

    async def settle_kick(
        self,
        app_key: str,
        user: bytes,
        attribution: Attribution,
        session: str,
        platform: str,
        ordered: str,
        closed: int,
    ) -> None:
        """Replace the order by the number of Sessions closed."""
        await self._note(app_key, "kicked", user, attribution, {**_which(session, platform), "closed": closed}, ordered)

    async def note_webhooks(
        self,
        app_key: str,
        kind: WebhookAct,
        attribution: Attribution,
        value: Mapping[str, object],
        instead_of: str = "",
    ) -> str:
        """Record what was done to the App's dead letters, or a test call. Returns the id of the entry.

        An act is recorded before it is carried out; then an entry with its outcome takes the place of that one.
        """
        return await self._note(app_key, kind, b"", attribution, value, instead_of)

    async def note_act(self, app_key: str, kind: ProfileAct, user: bytes, by: Attribution) -> None:
        """Record an act of an operator on a User that has no Change."""
        await self._note(app_key, kind, user, by, {})

    async def note_loss(self, app_key: str, node: str, lost: int, why: str, *, in_app: bool = True) -> None:
        """Record that Redis lost facts that a node's Replica has: in the deployment's audit, and in the App's."""
        value = {"lost": lost}
        args: list[str | bytes] = ["facts-lost", app_key, node, why, msgspec.json.encode(value), packed_origin()]
        await self._writer.client.write([Call(scripts.DEPLOYMENT_NOTE, [keys.deployment_audit()], args)])
        if in_app:
            await self._note(app_key, "facts-lost", b"", Attribution(node, why), value)

    async def note_sign_in(self, name: str, *, accepted: bool, value: Mapping[str, object]) -> None:
        """Record in the deployment's audit that an operator signed in, or that somebody was refused under its name."""
        kind: DeploymentKind = "operator-signed-in" if accepted else "operator-refused"
        args: list[str | bytes] = [kind, name, "", "", msgspec.json.encode(value), packed_origin()]
        await self._writer.client.write([Call(scripts.DEPLOYMENT_NOTE, [keys.deployment_audit()], args)])

    async def deployment_page(
        self, count: int, *, from_ms: int = 0, to_ms: int = FOREVER_MS, cursor: str | None = None
    ) -> tuple[list[DeploymentEntry], str | None]:
        """As `page`, of the deployment's audit. Raises `InvalidInput`."""
        if not 1 <= count <= MAX_AUDIT_PAGE:
            raise InvalidInput("count", f"must be 1 to {MAX_AUDIT_PAGE}, {count} was sent")
        place = None if cursor is None else _place(cursor)
        if to_ms < 1:
            return [], None  # Redis refuses a range that ends before its first id
        last = place.below(APPS_PARTITION) if place else f"({to_ms}-0"
        (rows,) = await self._writer.client.read(
            ("XREVRANGE", keys.deployment_audit(), last, from_ms, "COUNT", count + 1)
        )
        entries = [_deployment_entry(row) for row in rows[:count]]
        return entries, _deployment_cursor(entries[-1]) if len(rows) > count else None

    async def deployment_matching(
        self,
        count: int,
        matches: Callable[[DeploymentEntry], bool],
        *,
        from_ms: int = 0,
        to_ms: int = FOREVER_MS,
        cursor: str | None = None,
    ) -> tuple[list[DeploymentEntry], str | None]:
        """As `matching`, of the deployment's audit."""
        batches = self.deployment_batches(from_ms=from_ms, to_ms=to_ms, cursor=cursor)
        return await page_of_matching(batches, count, matches, _deployment_cursor)

    async def deployment_batches(
        self, *, from_ms: int = 0, to_ms: int = FOREVER_MS, cursor: str | None = None
    ) -> AsyncIterator[list[DeploymentEntry]]:
        """As `batches`, of the deployment's audit."""
        following = cursor
        while True:
            entries, following = await self.deployment_page(READ_AHEAD, from_ms=from_ms, to_ms=to_ms, cursor=following)
            yield entries
            if following is None:
                return

    async def _note(
        self,
        app_key: str,
        kind: Noted,
        user: bytes,
        attribution: Attribution,
        value: Mapping[str, object],
        instead_of: str = "",
    ) -> str:
        call = Call(
            scripts.AUDIT_NOTE,
            [keys.audit(self._writer.partition_of(app_key, user), app_key)],
            [instead_of, kind, *attribution, "o", packed_origin(), "u", user, "v", msgspec.json.encode(value)],
        )
        entry: bytes = (await self._writer.client.write([call]))[0]
        return entry.decode()

    async def _of_all(
        self, app_key: str, count: int, place: _Place | None, from_ms: int, last: str
    ) -> tuple[list[AuditEntry], str | None]:
        partitions = range(self._writer.partitions)
        # One more than a page from each Partition: any of them may provide the whole page.
        asked: list[Command] = [
            ("XREVRANGE", keys.audit(partition, app_key), place.below(partition) if place else last, from_ms,
             "COUNT", count + 1)
            for partition in partitions
        ]  # fmt: skip
        replies = await self._writer.client.read(*asked)
        entries = [_entry(partition, row) for partition, rows in zip(partitions, replies, strict=True) for row in rows]
        # Moment, number, Partition: the same order as `_Place`.
        entries.sort(key=lambda entry: entry[:3], reverse=True)
        page = entries[:count]
        return page, _cursor(page[-1]) if len(entries) > count else None

    async def _of_user(
        self, app_key: str, user: bytes, count: int, place: _Place | None, from_ms: int, last: str, most: int
    ) -> tuple[list[AuditEntry], str | None]:
        partition = self._writer.partition_of(app_key, user)
        below = place.below(partition) if place else last
        found: list[AuditEntry] = []
        # There is no index by User, so the stream is filtered.
        for _ in range(max(1, most // LOOKED_AT_A_STEP)):
            asked = ("XREVRANGE", keys.audit(partition, app_key), below, from_ms, "COUNT", LOOKED_AT_A_STEP)
            (rows,) = await self._writer.client.read(asked)
            entry = None
            for row in rows:
                entry = _entry(partition, row)
                if entry.user == user:
                    found.append(entry)
                    if len(found) == count:
                        return found, _cursor(entry)
            if entry is None or len(rows) < LOOKED_AT_A_STEP:
                return found, None
            below = f"({entry.at_ms}-{entry.number}"
        # A short page: the next one continues at the last entry that was read.
        return found, f"{below[1:]}-{partition}"


def _which(session: str, platform: str) -> dict[str, object]:
    return {name: value for name, value in (("session", session), ("platform", platform)) if value}


def _cursor(entry: AuditEntry) -> str:
    return f"{entry.at_ms}-{entry.number}-{entry.partition}"


def _deployment_cursor(entry: DeploymentEntry) -> str:
    return f"{entry.at_ms}-{entry.number}-{APPS_PARTITION}"


def _place(cursor: str) -> _Place:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidInput("cursor", "must be the `next` of an earlier answer")
    return _Place(int(match[1]), int(match[2]), int(match[3]))


def _entry(partition: int, row: Sequence[object]) -> AuditEntry:
    entry_id, flat = row
    assert isinstance(entry_id, bytes) and isinstance(flat, list)
    at_ms, _, number = entry_id.partition(b"-")
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    return AuditEntry(
        int(at_ms),
        int(number),
        partition,
        fields[b"k"].decode(),
        fields.get(b"u", b""),
        tuple(unpack_members(fields.get(b"m", b""))),
        int(fields.get(b"e", b"0")),
        fields.get(b"v", b""),
        fields[b"by"].decode(),
        fields[b"why"].decode(),
        unpacked_origin(fields.get(b"o")),
    )


def _deployment_entry(row: Sequence[object]) -> DeploymentEntry:
    entry_id, flat = row
    assert isinstance(entry_id, bytes) and isinstance(flat, list)
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    kind, about, by, why = (fields[name].decode() for name in (b"k", b"a", b"by", b"why"))
    at_ms, _, number = entry_id.partition(b"-")
    origin = unpacked_origin(fields.get(b"o"))
    return DeploymentEntry(int(at_ms), kind, about, fields[b"v"], by, why, origin, int(number))
